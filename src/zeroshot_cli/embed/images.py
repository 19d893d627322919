"""The image pipeline: look up, decode ahead, batch, encode; order kept, memory flat.

b batch, h, w height and width, e embedding
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from itertools import islice

import torch
from torch import Tensor

from zeroshot_cli.clip.resnet import ModifiedResNet
from zeroshot_cli.embed.image_cache import Embedding, FileState, ImageCache, NewImage, RunCache
from zeroshot_cli.errors import UnreadableImage
from zeroshot_cli.images.decode import EXACTLY, Decoding
from zeroshot_cli.images.decoder_pool import Decoded, Decoders
from zeroshot_cli.images.decoder_process import Job
from zeroshot_cli.models.loaded import LoadedModel
from zeroshot_cli.records import SkippedImage

WINDOW = 512  # images that are looked up at once, and at most handed on at once
BATCHES_AHEAD = 2  # decoded before the model gets them; more would only cost memory
MAX_WAITING = 4096  # images that wait for a batch to fill; then it is encoded as it is
_BATCHES_ON_GPU = 2  # submitted before the first is waited for
_AUTO_BATCH = {"cpu": 32, "cuda": 128, "mps": 32}
_AUTO_BATCH_RESNET = 16  # on the CPU: their activations are large, and leave the cache


@dataclass(frozen=True, slots=True)
class EmbeddedImage:
    """The embedding (e,) of one image: float32, normalised."""

    path: str
    embedding: Embedding


Outcome = EmbeddedImage | SkippedImage


@dataclass(slots=True)
class _Unknown:
    """An image that has to be read; `embedding` is what the cache says of its content, once that is read."""

    path: str
    state: FileState | None
    cache: RunCache | None
    decoded: Future[Decoded] | None = None
    embedding: Embedding | None = None

    def is_known(self, content: bytes) -> bool:
        assert self.cache is not None
        self.embedding = self.cache.by_content(content)
        return self.embedding is not None


@dataclass(frozen=True, slots=True)
class _Read:
    """An image that was read: hw3 bytes, or its embedding where the cache had it."""

    path: str
    state: FileState | None
    content: bytes
    pixels: bytes | None
    embedding: Embedding | None = None


def encode_images(
    model: LoadedModel,
    items: Iterable[str | SkippedImage],
    *,
    batch_size: int,
    workers: int,
    cache: ImageCache | None = None,
    decoding: Decoding = EXACTLY,
) -> Generator[list[Outcome]]:
    """Yield the embedding of every image, or why there is none: lists that together have the order of `items`.

    `workers` processes decode at most two batches ahead. On the CPU they pause while the model works, so that both
    have all cores in turn and never more. Every batch has the same rows, so an image's embedding does not depend on
    its neighbours; what `cache` knows is not computed. ValueError where batch_size or workers is under 1.
    """
    if batch_size < 1 or workers < 1:
        raise ValueError(f"batch_size and workers are at least 1, not {batch_size} and {workers}")
    rows = padded_rows(batch_size)
    known = None if cache is None else cache.for_run(model, decoding=decoding.mode, batch_size=rows)
    job = Job(model.preprocess.config, hashed=known is not None, decoding=decoding)
    return _encode(_Batches(model, batch_size, rows), Decoders(job, workers=workers), items, known)


def padded_rows(batch_size: int) -> int:
    """Return the rows of a batch: 1, 4, or a multiple of 8, which matrix products treat all alike.

    With other numbers of rows MKL rounds the last ones otherwise than the first, so an image's embedding would depend
    on its place.
    """
    return batch_size if batch_size == 1 else 4 if batch_size <= 4 else -(-batch_size // 8) * 8


def auto_batch_size(images: int | None, model: LoadedModel) -> int:
    """Return the batch size that `--batch-size auto` stands for: 32 on a CPU, 16 for ResNets there, 128 on CUDA.

    Batches are padded to one shape, so three images at 32 would cost ten times their worth: a known number of images
    gives the next power of two, where that is less. None is a number that is not known.
    """
    most = _AUTO_BATCH.get(model.device.type, 32)
    if model.device.type == "cpu" and isinstance(getattr(model.model, "visual", None), ModifiedResNet):
        most = _AUTO_BATCH_RESNET
    return most if images is None else min(most, 1 << max(images - 1, 0).bit_length())


def auto_workers(device: str = "cpu") -> int:
    """Return how many processes decode: one a core that this process may use; beside a GPU one less, which feeds it."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return cores if device == "cpu" else max(1, cores - 1)


def _encode(
    batches: _Batches, decoders: Decoders, items: Iterable[str | SkippedImage], cache: RunCache | None
) -> Generator[list[Outcome]]:
    """Decode and encode; the processes end with the generator."""
    on_cpu = batches.model.device.type == "cpu"
    ahead = BATCHES_AHEAD * batches.size
    with decoders:
        decoded = (_in_turns if on_cpu else _meanwhile)(_look_up(items, cache), decoders, ahead)
        pending: deque[tuple[list[_Read | Outcome], Callable[[], Tensor] | None]] = deque()
        for part in _parts(decoded, batches.size):
            pending.append((part, batches.start(part)))
            if on_cpu or len(pending) > _BATCHES_ON_GPU:
                yield _finish(*pending.popleft(), cache)
        while pending:
            yield _finish(*pending.popleft(), cache)


def _look_up(items: Iterable[str | SkippedImage], cache: RunCache | None) -> Iterator[_Unknown | Outcome]:
    """Yield the embeddings of files that are as they were in an earlier run, and the other items."""
    waiting = iter(items)
    while window := list(islice(waiting, WINDOW)):
        states = [None if cache is None or isinstance(item, SkippedImage) else FileState.of(item) for item in window]
        found = [None] * len(window) if cache is None else cache.by_state(states)
        for item, state, embedding in zip(window, states, found, strict=True):
            if isinstance(item, SkippedImage):
                yield item
            elif embedding is not None:
                yield EmbeddedImage(item, embedding)
            else:
                yield _Unknown(item, state, cache)


def _in_turns(items: Iterable[_Unknown | Outcome], decoders: Decoders, ahead: int) -> Iterator[_Read | Outcome]:
    """Yield every item in order, decoded; nothing is being decoded while the caller has one.

    `ahead` images are decoded, then handed out: the decoders and the model have all cores in turn.
    """
    waiting: list[_Unknown | Outcome] = []
    begun = 0
    for item in items:
        waiting.append(item)
        begun += _begin(item, decoders)
        if begun == ahead or len(waiting) >= max(WINDOW, ahead):
            yield from [_read(one) for one in waiting]
            waiting, begun = [], 0
    yield from [_read(one) for one in waiting]


def _meanwhile(items: Iterable[_Unknown | Outcome], decoders: Decoders, ahead: int) -> Iterator[_Read | Outcome]:
    """Yield every item in order, decoded, while the next `ahead` are being decoded."""
    waiting: deque[_Unknown | Outcome] = deque()
    for item in items:
        waiting.append(item)
        _begin(item, decoders)
        if len(waiting) > ahead:
            yield _read(waiting.popleft())
    while waiting:
        yield _read(waiting.popleft())


def _begin(item: _Unknown | Outcome, decoders: Decoders) -> bool:
    """Let an image be decoded where it must be; say whether it must."""
    if not isinstance(item, _Unknown):
        return False
    item.decoded = decoders.submit(item.path, item.is_known)
    return True


def _read(item: _Unknown | Outcome) -> _Read | Outcome:
    if not isinstance(item, _Unknown):
        return item
    assert item.decoded is not None
    try:
        decoded = item.decoded.result()
    except UnreadableImage as error:
        return SkippedImage(item.path, str(error))
    return _Read(item.path, item.state, decoded.content, decoded.pixels, item.embedding)


def _parts(items: Iterable[_Read | Outcome], batch_size: int) -> Iterator[list[_Read | Outcome]]:
    """Cut the items so that a part has `batch_size` pictures for the model, or fewer where many others came between."""
    part: list[_Read | Outcome] = []
    pictures = 0
    for item in items:
        part.append(item)
        pictures += isinstance(item, _Read) and item.pixels is not None
        if pictures == batch_size or len(part) >= (MAX_WAITING if pictures else WINDOW):
            yield part
            part, pictures = [], 0
    if part:
        yield part


class _Batches:
    """The model, and the one shape of batch that it gets."""

    def __init__(self, model: LoadedModel, size: int, rows: int) -> None:
        self.model, self.size, self.rows = model, size, rows
        self._pinned = model.device.type == "cuda" and torch.cuda.is_available()

    def start(self, part: list[_Read | Outcome]) -> Callable[[], Tensor] | None:
        """Give the pictures of a part to the model; return what waits for their embeddings be, None for no picture."""
        pictures = [item.pixels for item in part if isinstance(item, _Read) and item.pixels is not None]
        if not pictures:
            return None
        shape = (self.rows, *self.model.preprocess.config.height_width, 3)
        batch = torch.zeros(shape, dtype=torch.uint8, pin_memory=self._pinned)
        for row, pixels in zip(batch, pictures, strict=False):
            row.copy_(torch.frombuffer(bytearray(pixels), dtype=torch.uint8).view(row.shape))
        embeddings = self.model.encode_pixels(batch)
        return _copied(embeddings) if self._pinned else embeddings.cpu


def _copied(embeddings: Tensor) -> Callable[[], Tensor]:
    """Start to copy embeddings be from the GPU; return what waits for this copy, and for nothing behind it."""
    host = torch.empty(embeddings.shape, pin_memory=True)
    host.copy_(embeddings, non_blocking=True)
    done = torch.cuda.Event()  # type: ignore[no-untyped-call]
    done.record()

    def wait() -> Tensor:
        done.synchronize()
        return host

    return wait


def _finish(
    part: list[_Read | Outcome], embeddings: Callable[[], Tensor] | None, cache: RunCache | None
) -> list[Outcome]:
    """Put the embeddings where the pictures were, and keep them."""
    rows = iter(() if embeddings is None else embeddings().numpy())
    outcomes: list[Outcome] = []
    new: list[NewImage] = []
    for item in part:
        if not isinstance(item, _Read):
            outcomes.append(item)
            continue
        embedding = next(rows).copy() if item.embedding is None else item.embedding
        outcomes.append(EmbeddedImage(item.path, embedding))
        if item.content:
            new.append(NewImage(item.state, item.content, embedding))
    if cache is not None:
        cache.put(new)
    return outcomes
