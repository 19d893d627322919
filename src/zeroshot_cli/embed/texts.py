"""Embed texts, and keep their embeddings on disk.

A causal text tower sees only what stands before a token, so the beginning that many texts share is computed once, and
nothing is padded (see `trees`). All other towers get batches of texts as they are.
"""

import hashlib
import sqlite3
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import takewhile

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from zeroshot_cli.clip.model import CLIP
from zeroshot_cli.clip.text import TextTransformer, ancestors, end_of_text
from zeroshot_cli.clip.tokenizer import Tokenizer, TruncatedTextWarning
from zeroshot_cli.embed.cache_store import TEXTS, Store, read_embeddings, write_embeddings
from zeroshot_cli.models.loaded import LoadedModel

WINDOW = 16_384  # texts in memory at once; they share beginnings, and the cache keeps what is done, window by window
_PLAIN_BATCH = 256
_VERSION = b"3"  # of the cache's keys: raised when the same text would get another embedding
TREE = {"cpu": 256, "cuda": 1024}  # tokens: each is compared with each, which costs little while they are few

OnEncoded = Callable[[int], None]
Tokens = tuple[int, ...]


def embed_texts(model: LoadedModel, texts: Sequence[str], *, on_encoded: OnEncoded = lambda count: None) -> Tensor:
    """Return the embeddings of different texts: (texts, embedding), normalised, float32, on the CPU.

    `on_encoded` gets how many more are done.
    """
    tower = getattr(getattr(model, "model", None), "text", None)
    if isinstance(tower, TextTransformer) and isinstance(model.tokenizer, Tokenizer):
        return _embed_sharing(model, tower, model.tokenizer.sequences(texts), on_encoded)
    return _embed_plainly(model, texts, on_encoded)


def warn_of_long(model: LoadedModel, known: list[str]) -> None:
    """Tokenise what may be too long, so that a text from the cache is warned of as one that is encoded."""
    limit = getattr(getattr(model, "tokenizer", None), "context_length", None)
    if limit is None:
        return
    doubtful = [text for text in known if len(text.encode("utf-8", "surrogatepass")) > limit - 2]
    if doubtful:
        model.tokenizer(doubtful)


@contextmanager
def one_warning() -> Iterator[None]:
    """Turn all warnings of texts that are cut into one, with their number and the first as an example."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", TruncatedTextWarning)
        yield
    cut = {str(each.message): each for each in caught if issubclass(each.category, TruncatedTextWarning)}
    for each in caught:
        if not issubclass(each.category, TruncatedTextWarning):
            warnings.warn_explicit(each.message, each.category, each.filename, each.lineno)
    if cut:
        first = next(iter(cut))
        message = first if len(cut) == 1 else f"{len(cut):,} texts are too long for the model; the first: {first}"
        warnings.warn(message, TruncatedTextWarning, stacklevel=3)


@torch.inference_mode()
def _embed_sharing(
    model: LoadedModel, tower: TextTransformer, sequences: list[list[int]], on_encoded: OnEncoded
) -> Tensor:
    owners: dict[Tokens, list[int]] = {}  # texts may differ and be the same to the model
    for owner, ids in enumerate(sequences):
        owners.setdefault(tuple(ids[: ids.index(tower.eot_id) + 1]), []).append(owner)
    different = list(owners)
    embeddings = torch.empty(len(sequences), tower.text_projection.shape[1])
    for tree in trees(different, most=TREE.get(model.device.type, TREE["cuda"])):
        tokens, positions, parents = torch.tensor([tree.tokens, tree.positions, tree.parents], device=model.device)
        ends = torch.tensor([tree.ends], device=model.device)
        visible = ancestors(parents).to(model.device)
        encoded = _normalised(tower(tokens[None], positions=positions, visible=visible, ends=ends))
        places = [(owner, row) for row, index in enumerate(tree.sequences) for owner in owners[different[index]]]
        to, of = torch.tensor(places).T
        embeddings[to] = encoded[of]
        on_encoded(len(places))
    return embeddings


def _embed_plainly(model: LoadedModel, texts: Sequence[str], on_encoded: OnEncoded) -> Tensor:
    parts = []
    for start in range(0, len(texts), _PLAIN_BATCH):
        parts.append(_encode_plainly(model, list(texts[start : start + _PLAIN_BATCH])))
        on_encoded(len(parts[-1]))
    return torch.cat(parts)


@torch.inference_mode()
def _encode_plainly(model: LoadedModel, texts: list[str]) -> Tensor:
    if not isinstance(getattr(model, "model", None), CLIP):
        return model.encode_texts(texts)
    clip, _, tokenizer = model.bundled()
    tokens = tokenizer(texts)
    longest = 1 + int(end_of_text(tokens, clip.text.eot_id).max())
    return _normalised(clip.encode_text(tokens[:, :longest].to(model.device)))  # nothing after the end counts


def _normalised(embeddings: Tensor) -> Tensor:
    return F.normalize(embeddings.float(), dim=-1).cpu()


# sequences as trees


@dataclass(slots=True)
class Tree:
    """Tokens, each after the one at `parents` (-1: none); `sequences`, as indices, end at `ends`."""

    tokens: list[int] = field(default_factory=list)
    positions: list[int] = field(default_factory=list)
    parents: list[int] = field(default_factory=list)
    sequences: list[int] = field(default_factory=list)
    ends: list[int] = field(default_factory=list)


def trees(sequences: Sequence[Tokens], *, most: int) -> Iterator[Tree]:
    """Yield trees that together hold each of `sequences` once, in sorted order; a shared beginning is there once.

    Eighty templates for a thousand names give 80,000 sequences that have only eighty beginnings. No tree has more than
    `most` tokens, unless a single sequence has.
    """
    tree, path, before = Tree(), list[int](), Tokens()
    for index in sorted(range(len(sequences)), key=lambda index: sequences[index]):
        ids = sequences[index]
        shared = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(ids, before, strict=False)))
        if tree.sequences and len(tree.tokens) + len(ids) - shared > most:
            yield tree
            tree, path, shared = Tree(), [], 0
        for position in range(shared, len(ids)):
            tree.parents.append(path[position - 1] if position else -1)
            path[position:] = [len(tree.tokens)]
            tree.tokens.append(ids[position])
            tree.positions.append(position)
        tree.sequences.append(index)
        tree.ends.append(path[len(ids) - 1])
        before = ids
    if tree.sequences:
        yield tree


# on disk


class TextCache(Store):
    """Text embeddings of any model, by its fingerprint, precision, kind of device and the text."""

    database = TEXTS

    def get(self, model: LoadedModel, texts: Sequence[str]) -> tuple[list[int], Tensor]:
        """Return the places of the texts that are known, and their embeddings (known, embedding), float32."""
        keys = _keys(model, texts)
        nothing: dict[bytes, bytes] = {}
        found = self.read(lambda database: read_embeddings(database, "texts", keys, model.embed_dim), nothing)
        known = [place for place, key in enumerate(keys) if key in found]
        if not known:
            return [], torch.empty(0, 0)
        content = bytearray().join(found[keys[place]] for place in known)
        rows = np.frombuffer(content, dtype="<f4").astype(np.float32, copy=False)
        return known, torch.from_numpy(rows).view(len(known), -1)

    def put(self, model: LoadedModel, texts: Sequence[str], embeddings: Tensor) -> None:
        """Keep the embeddings (texts, embedding), float32, of texts."""
        contents = (row.tobytes() for row in embeddings.numpy().astype("<f4"))
        rows = list(zip(_keys(model, texts), contents, strict=True))

        def write(database: sqlite3.Connection) -> None:
            with database:  # one transaction: all of them or none
                write_embeddings(database, "texts", rows)

        self.use(write, None)

    def complete(
        self,
        model: LoadedModel,
        texts: Sequence[str],
        encode: Callable[[list[int]], Tensor],
        *,
        on_known: Callable[[list[int]], None],
        together: bool = False,
    ) -> Tensor:
        """Return the embeddings of texts: those that are known, and the others from `encode`, which are then kept.

        `encode` and `on_known` get places in `texts`. `together`: where one is unknown all are encoded.
        """
        known, embeddings = self.get(model, texts)
        if together and len(known) < len(texts):
            known = []
        on_known(known)
        missing = sorted(set(range(len(texts))) - set(known))
        if not missing:
            return embeddings
        fresh = encode(missing)
        self.put(model, [texts[place] for place in missing], fresh)
        completed = torch.empty(len(texts), fresh.shape[1])
        completed[missing] = fresh
        if known:
            completed[known] = embeddings
        return completed


def _keys(model: LoadedModel, texts: Sequence[str]) -> list[bytes]:
    setting = hashlib.sha256(_VERSION)
    for part in (model.fingerprint, model.text_precision, model.device.type):
        setting.update(part.encode() + b"\0")
    return [_key(setting, text) for text in texts]


def _key(setting: "hashlib._Hash", text: str) -> bytes:
    digest = setting.copy()
    digest.update(text.encode("utf-8", "surrogatepass"))
    return digest.digest()
