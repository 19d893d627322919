"""CLIP's byte-level byte-pair encoding (the vocabulary of openai/CLIP simple_tokenizer.py)."""

import html
import itertools
import warnings
from collections.abc import Iterable, Sequence
from functools import lru_cache

import regex
import torch
from torch import Tensor

START_OF_TEXT = "<start_of_text>"
END_OF_TEXT = "<end_of_text>"
END_OF_WORD = "</w>"

_WORDS = regex.compile(
    rf"{START_OF_TEXT}|{END_OF_TEXT}|'s|'t|'re|'ve|'m|'ll|'d|[\p{{L}}]+|[\p{{N}}]|[^\s\p{{L}}\p{{N}}]+",
    regex.IGNORECASE,
)


class TruncatedTextWarning(UserWarning):
    """A text had more tokens than the model reads and was truncated."""


class Tokenizer:
    """Texts to token IDs.

    `merges` are pairs of symbols, most frequent first; with fewer of them the vocabulary is smaller and words split
    into more pieces, down to bytes, so no text is unknown. The two special tokens always come last.
    """

    def __init__(self, merges: Iterable[tuple[str, str]], *, context_length: int = 77) -> None:
        self.context_length = context_length
        self._ranks = {pair: rank for rank, pair in enumerate(merges)}
        self._byte_symbols = _byte_symbols()
        # The vocabulary lists bytes in the order of their symbols' first appearance, printable ones first.
        symbols = sorted(self._byte_symbols.values(), key=lambda symbol: (ord(symbol) > 255, ord(symbol)))
        vocabulary = [*symbols, *(symbol + END_OF_WORD for symbol in symbols)]
        vocabulary += ["".join(pair) for pair in self._ranks]
        vocabulary += [START_OF_TEXT, END_OF_TEXT]
        self._ids = {symbol: index for index, symbol in enumerate(vocabulary)}
        self._cache = {token: [self._ids[token]] for token in (START_OF_TEXT, END_OF_TEXT)}

    @property
    def vocab_size(self) -> int:
        """The number of token IDs."""
        return len(self._ranks) + 2 * 256 + 2

    @property
    def merges(self) -> list[tuple[str, str]]:
        """The pairs of symbols that are joined, most frequent first."""
        return list(self._ranks)

    @property
    def vocabulary(self) -> list[str]:
        """The symbol of each token ID."""
        return list(self._ids)

    @property
    def sot_id(self) -> int:
        """The ID of the start-of-text token."""
        return self.vocab_size - 2

    @property
    def eot_id(self) -> int:
        """The ID of the end-of-text token."""
        return self.vocab_size - 1

    def encode(self, text: str) -> list[int]:
        """Return the IDs of `text`, without those that mark its start and end."""
        ids: list[int] = []
        for word in _WORDS.findall(clean(text)):
            ids.extend(self._cache.get(word) or self._encode_word(word))
        return ids

    def sequences(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the IDs of each text with start and end, at most `context_length` of them.

        Issues a TruncatedTextWarning that names the text where its end is lost.
        """
        return [self._sequence(text) for text in texts]

    def __call__(self, texts: Sequence[str]) -> Tensor:
        """Return IDs padded with zeros, (texts, context length), int64; warns as `sequences` does."""
        tokens = torch.zeros(len(texts), self.context_length, dtype=torch.long)
        for row, ids in zip(tokens, self.sequences(texts), strict=True):
            row[: len(ids)] = torch.tensor(ids)
        return tokens

    def _sequence(self, text: str) -> list[int]:
        ids = [self.sot_id, *self.encode(text), self.eot_id]
        if len(ids) > self.context_length:
            warnings.warn(
                f"this text has {len(ids)} tokens and was cut to {self.context_length}: {text!r}",
                TruncatedTextWarning,
                stacklevel=3,
            )
            ids = [*ids[: self.context_length - 1], self.eot_id]
        return ids

    def _encode_word(self, word: str) -> list[int]:
        symbols = [self._byte_symbols[byte] for byte in word.encode("utf-8")]
        symbols[-1] += END_OF_WORD
        ids = [self._ids[symbol] for symbol in self._merge(symbols)]
        self._cache[word] = ids
        return ids

    def _merge(self, symbols: list[str]) -> list[str]:
        """Join the pair of lowest rank, wherever it occurs, until no pair has a rank."""
        unknown = len(self._ranks)
        while len(symbols) > 1:
            pairs = list(itertools.pairwise(symbols))
            best = min(pairs, key=lambda pair: self._ranks.get(pair, unknown))
            if best not in self._ranks:
                break
            symbols = _join(symbols, best)
        return symbols


def clean(text: str) -> str:
    """Repair mojibake, resolve HTML entities twice, fold white space and case, as CLIP's authors did."""
    plain = text.isascii() and text.isprintable() and "&" not in text  # most prompts; ftfy would change nothing
    if not plain:
        import ftfy  # takes 30 ms to import, and most runs have only plain prompts

        text = html.unescape(html.unescape(ftfy.fix_text(text)))
    return " ".join(text.split()).lower()


def _join(symbols: list[str], pair: tuple[str, str]) -> list[str]:
    joined: list[str] = []
    position = 0
    while position < len(symbols):
        if tuple(symbols[position : position + 2]) == pair:
            joined.append(symbols[position] + symbols[position + 1])
            position += 2
        else:
            joined.append(symbols[position])
            position += 1
    return joined


@lru_cache
def _byte_symbols() -> dict[int, str]:
    """Return a printable character for each byte: itself where it is printable, else one from U+0100 on."""
    printable = {
        *range(ord("!"), ord("~") + 1),
        *range(ord("¡"), ord("¬") + 1),
        *range(ord("®"), ord("ÿ") + 1),
    }
    others = (byte for byte in range(256) if byte not in printable)
    return {byte: chr(byte) for byte in printable} | {byte: chr(256 + n) for n, byte in enumerate(others)}
