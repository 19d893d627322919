"""The embeddings of many images as matrices, for commands that look at all of them and not at one after the other.

The cache has them by file; with 100,000 files the look-ups alone take seconds. So the embeddings of each folder are in
the cache once more, in one piece, with a hash of the names, sizes and times of its files: while that is the same, they
are read as they are. A folder that has changed is looked up file by file, and kept again.
"""

import hashlib
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from itertools import chain, groupby, islice

import numpy as np

from zeroshot_cli.embed.image_cache import SETTLED, Embedding, ImageCache
from zeroshot_cli.embed.images import EmbeddedImage, Outcome, encode_images, part_of
from zeroshot_cli.images.decode import EXACTLY, Decoding
from zeroshot_cli.models.loaded import LoadedModel
from zeroshot_cli.records import SkippedImage

BLOCK = 4096  # images in one matrix at most: six megabytes of 384 numbers each
_LEAST = 32  # images that are worth a block of their own in the cache


@dataclass(frozen=True, slots=True)
class Embedded:
    """A block of images: their places among all items, and their embeddings (images, embedding), float32.

    `skipped` are those that could not be read, with their places; `notes` say what of others could not be.
    """

    places: Sequence[int]
    embeddings: Embedding
    skipped: tuple[tuple[int, SkippedImage], ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def count(self) -> int:
        """How many items this is."""
        return len(self.places) + len(self.skipped)


@dataclass(frozen=True, slots=True)
class _Run:
    """Images of one folder that follow one another, the name of their block in the cache, and the state of the files.

    Without a state they are not kept as a block: they are few, or a file has changed just now, or is none.
    """

    places: Sequence[int]
    paths: Sequence[str]
    name: bytes
    state: bytes | None = None


def embedded_images(
    model: LoadedModel,
    items: Sequence[str | SkippedImage],
    *,
    batch_size: int,
    workers: int,
    cache: ImageCache | None = None,
    decoding: Decoding = EXACTLY,
) -> Iterator[Embedded]:
    """Yield the embeddings of all images in blocks of at most 4,096, first those that the cache has in one piece.

    The others are encoded as `encode_images` does, and then are in `cache`. ValueError where batch_size or workers is
    under 1.
    """
    known = None if cache is None else part_of(cache, model, decoding, batch_size)
    skipped = tuple((place, item) for place, item in enumerate(items) if isinstance(item, SkippedImage))
    unknown: list[_Run] = []
    for run in _runs(items):
        stated = run if known is None else replace(run, state=_state_of(run.paths))
        found = None if known is None or stated.state is None else known.block(stated.name, stated.state)
        if found is not None and len(found) == len(run.paths):
            yield Embedded(run.places, found)
        else:
            unknown.append(stated)
    if skipped:
        yield Embedded((), np.empty((0, model.embed_dim), np.float32), skipped)
    paths = [path for run in unknown for path in run.paths]
    encoded = encode_images(model, paths, batch_size=batch_size, workers=workers, cache=cache, decoding=decoding)
    with closing(encoded):  # the decoders end with this generator
        rest = chain.from_iterable(encoded)
        for run in unknown:
            block = _collected(run, rest, model.embed_dim)
            if known is not None and run.state is not None and not block.skipped and not block.notes:
                known.put_block(run.name, run.state, block.embeddings)
            yield block


def _runs(items: Sequence[str | SkippedImage]) -> Iterator[_Run]:
    """Yield the images, cut where the folder changes and after 4,096; a block's name is that of its folder."""
    images = ((place, item) for place, item in enumerate(items) if isinstance(item, str))
    for folder, several in groupby(images, key=lambda image: image[1].rpartition(os.sep)[0]):
        absolute = os.fsencode(os.path.join(os.getcwd(), folder))  # noqa: PTH109, PTH118
        number = 0
        while part := list(islice(several, BLOCK)):
            yield _Run([place for place, _ in part], [path for _, path in part], b"%d\0%b" % (number, absolute))
            number += 1


def _state_of(paths: Sequence[str]) -> bytes | None:
    """Return a hash of the names, sizes and times of files; None where they are few, or not all are settled files."""
    if len(paths) < _LEAST:
        return None
    numbers: list[int] = []
    try:
        for path in paths:
            status = os.stat(path)  # noqa: PTH116
            numbers += status.st_size, status.st_mtime_ns, status.st_ctime_ns
    except (OSError, ValueError):
        return None
    states = np.array(numbers, dtype="<i8")
    if time.time_ns() - states.reshape(-1, 3)[:, 1:].max() < SETTLED:
        return None
    names = "\0".join(path.rpartition(os.sep)[2] for path in paths)
    return hashlib.sha256(states.tobytes() + os.fsencode(names)).digest()


def _collected(run: _Run, outcomes: Iterator[Outcome], width: int) -> Embedded:
    """Return the images of a run as one block, from the outcomes of `encode_images`."""
    found: list[tuple[int, EmbeddedImage]] = []
    skipped: list[tuple[int, SkippedImage]] = []
    for place, item in zip(run.places, outcomes, strict=False):
        if isinstance(item, SkippedImage):
            skipped.append((place, item))
        else:
            found.append((place, item))
    rows = [item.embedding for _, item in found]
    embeddings = np.stack(rows) if rows else np.empty((0, width), np.float32)
    notes = tuple(f"{item.path}: {item.note}" for _, item in found if item.note)
    return Embedded([place for place, _ in found], embeddings, tuple(skipped), notes)
