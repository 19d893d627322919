"""The image pipeline: decode ahead, batch, encode; order kept, memory flat."""

import os
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import torch

from zeroshot_cli.errors import UnreadableImage
from zeroshot_cli.images import decode
from zeroshot_cli.preprocess import Preprocess
from zeroshot_cli.records import SkippedImage
from zeroshot_cli.weights.loaded import LoadedModel

MAX_AUTO_BATCH = 32
BATCHES_AHEAD = 2  # one being encoded, one being decoded; more would only cost memory
MAX_WAITING_BATCHES = 8  # a batch that unreadable images keep from filling is encoded as it is by then


@dataclass(frozen=True, slots=True)
class EmbeddedImage:
    """The embedding (e,) of one image: float32, normalised, on the CPU."""

    path: str
    embedding: torch.Tensor


@dataclass(frozen=True, slots=True)
class _Pixels:
    path: str
    pixels: torch.Tensor  # 3hw


def encode_images(
    model: LoadedModel, items: Iterable[str | SkippedImage], *, batch_size: int, workers: int
) -> Iterator[EmbeddedImage | SkippedImage]:
    """Yield the embedding of every image, or why there is none, in the order of `items`.

    `workers` threads decode at most two batches ahead. Every batch has `batch_size` rows, so an image's embedding does
    not depend on its neighbours. ValueError where batch_size or workers is under 1.
    """
    if batch_size < 1 or workers < 1:
        raise ValueError(f"batch_size and workers are at least 1, not {batch_size} and {workers}")
    return _encode_in_batches(
        model, _decode_ahead(model.preprocess, items, BATCHES_AHEAD * batch_size, workers), batch_size
    )


def auto_batch_size(images: int | None) -> int:
    """Return the batch size that `--batch-size auto` stands for: 32, or less for a few images.

    Batches are padded to one shape, so three images at 32 would cost ten times their worth: a known number of images
    gives the next power of two, at most 32. None, a number that is not known, gives 32.
    """
    if images is None:
        return MAX_AUTO_BATCH
    return min(MAX_AUTO_BATCH, 1 << max(images - 1, 0).bit_length())


def auto_workers() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _decode_ahead(
    preprocess: Preprocess, items: Iterable[str | SkippedImage], ahead: int, workers: int
) -> Iterator[_Pixels | SkippedImage]:
    """Yield the pixels of every item in order, while threads decode the next ones, `ahead` of them at most."""
    pool = ThreadPoolExecutor(workers, thread_name_prefix="decode")
    waiting: deque[SkippedImage | Future[_Pixels | SkippedImage]] = deque()
    try:
        for item in items:
            waiting.append(item if isinstance(item, SkippedImage) else pool.submit(_load, preprocess, item))
            if len(waiting) > ahead:
                yield _result(waiting.popleft())
        while waiting:
            yield _result(waiting.popleft())
    finally:
        # Not waiting: Ctrl-C and a closed pipe end at once, and what has not begun is dropped.
        pool.shutdown(wait=False, cancel_futures=True)


def _load(preprocess: Preprocess, path: str) -> _Pixels | SkippedImage:
    try:
        return _Pixels(path, preprocess(decode(path)))
    except UnreadableImage as error:
        return SkippedImage(path, str(error))


def _result(item: SkippedImage | Future[_Pixels | SkippedImage]) -> _Pixels | SkippedImage:
    return item if isinstance(item, SkippedImage) else item.result()


def _encode_in_batches(
    model: LoadedModel, decoded: Iterator[_Pixels | SkippedImage], batch_size: int
) -> Iterator[EmbeddedImage | SkippedImage]:
    """Yield in order, a batch at a time; unreadable images wait for their place between the others."""
    waiting: list[_Pixels | SkippedImage] = []
    ready = 0
    for item in decoded:
        if isinstance(item, SkippedImage) and not waiting:
            yield item
            continue
        waiting.append(item)
        ready += isinstance(item, _Pixels)
        if ready == batch_size or len(waiting) >= MAX_WAITING_BATCHES * batch_size:
            yield from _encode(model, waiting, batch_size)
            waiting, ready = [], 0
    yield from _encode(model, waiting, batch_size)


def _encode(
    model: LoadedModel, waiting: list[_Pixels | SkippedImage], batch_size: int
) -> Iterator[EmbeddedImage | SkippedImage]:
    pixels = [item.pixels for item in waiting if isinstance(item, _Pixels)]
    if not pixels:
        return
    rows = iter(model.encode_images(_padded(pixels, batch_size)))  # be
    for item in waiting:
        yield item if isinstance(item, SkippedImage) else EmbeddedImage(item.path, next(rows))


def _padded(pixels: list[torch.Tensor], batch_size: int) -> torch.Tensor:
    """Return one batch b3hw; rows without an image are zeros."""
    batch = pixels[0].new_zeros((batch_size, *pixels[0].shape))
    torch.stack(pixels, out=batch[: len(pixels)])
    return batch
