"""Tokenizers that cut a long text in silence, made to say so."""

import warnings
from collections.abc import Callable

from torch import Tensor

from zeroshot_cli.clip.tokenizer import TruncatedTextWarning


class WarningTokenizer:
    """A tokenizer of open_clip with a warning that names each text whose end was lost.

    `tokenize(texts, n)` gives n tokens a text, bn, cut or padded. A text was cut where room for one token more changes
    what was there, or is filled with something else than padding.
    """

    def __init__(self, tokenize: Callable[[list[str], int], Tensor], *, context_length: int) -> None:
        self.context_length = context_length
        self._tokenize = tokenize
        self._padding = int(tokenize([""], context_length)[0, -1])

    def __call__(self, texts: list[str]) -> Tensor:
        tokens = self._tokenize(texts, self.context_length)
        longer = self._tokenize(texts, self.context_length + 1)
        cut = (longer[:, :-1] != tokens).any(dim=1) | (longer[:, -1] != self._padding)
        for index in cut.nonzero().flatten().tolist():
            warnings.warn(
                f"this text was cut to {self.context_length} tokens: {texts[index]!r}",
                TruncatedTextWarning,
                stacklevel=3,
            )
        return tokens
