"""Embed images: look up, decode ahead, batch, encode; the order is kept and memory stays flat."""

import math
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from functools import partial

from torch import Tensor

from zeroshot_cli.embed.batches import PaddedBatches, padded_rows
from zeroshot_cli.embed.image_cache import Embedding, FileState, ImageCache, NewImage, RunCache
from zeroshot_cli.errors import UnreadableImage
from zeroshot_cli.images.arrived import arrived
from zeroshot_cli.images.decode import EXACTLY, Decoding
from zeroshot_cli.images.decoder_pool import Decoded, Decoders
from zeroshot_cli.images.decoder_process import Job
from zeroshot_cli.images.given import GivenImage, ImageItem, resized_pixels
from zeroshot_cli.images.preprocess import PreprocessConfig, fitted
from zeroshot_cli.models.loaded import LoadedModel
from zeroshot_cli.records import SkippedImage

WINDOW = 512  # images that are looked up at once, and at most handed on at once
BATCHES_AHEAD = 2  # decoded before the model gets them; more would only cost memory
_AHEAD_PER_WORKER = 8  # at least: on the CPU, all cores wait for the last one of a turn
_MOST_AHEAD = 512
MAX_WAITING = 4096  # images that wait for a batch to fill; then it is encoded as it is
_BATCHES_ON_GPU = 2  # submitted before the first is waited for


@dataclass(frozen=True, slots=True)
class EmbeddedImage:
    """The embedding of one image: float32, normalised; `note` says what of the image could not be read."""

    path: str
    embedding: Embedding
    note: str = ""


Outcome = EmbeddedImage | SkippedImage


@dataclass(slots=True)
class _Unknown:
    """An image that has to be read; `embedding` is what the cache says of its content, once that is read."""

    path: str
    source: str | bytes
    state: FileState | None
    cache: RunCache | None
    decoded: Future[Decoded] | None = None
    embedding: Embedding | None = None

    def is_known(self, content: bytes) -> bool:
        assert self.cache is not None
        self.embedding = self.cache.by_content(content)
        return self.embedding is not None

    def begin(self, decoders: Decoders) -> None:
        self.decoded = decoders.submit(self.source, self.is_known)
        self.source = b""  # many may wait for their batch, and one that came from afar is nowhere else


@dataclass(frozen=True, slots=True)
class _Read:
    """An image that was read: its pixels, or its embedding where the cache had it."""

    path: str
    state: FileState | None
    content: bytes
    pixels: bytes | None
    note: str
    embedding: Embedding | None = None


def encode_images(
    model: LoadedModel,
    items: Iterable[ImageItem],
    *,
    batch_size: int,
    workers: int,
    cache: ImageCache | None = None,
    decoding: Decoding = EXACTLY,
) -> Generator[list[Outcome]]:
    """Yield the embedding of every image, or why there is none: lists that together have the order of `items`.

    `workers` processes decode two batches ahead, or as many as give each eight images. On the CPU they pause while the
    model works, so that both have all cores in turn and never more. Every batch has the same rows, so an image's
    embedding does not depend on its neighbours; what `cache` knows is not computed, nor kept of pixels. The pixels of
    an item are done with when the next is asked for. ValueError where batch_size or workers is under 1.
    """
    encoder = ImageEncoder(model, batch_size=batch_size, workers=workers, cache=cache, decoding=decoding)
    return _encode_once(encoder, items)


def _encode_once(encoder: "ImageEncoder", items: Iterable[ImageItem]) -> Generator[list[Outcome]]:
    with encoder:  # the processes end with the generator
        yield from encoder.encode(items)


class ImageEncoder:
    """Encodes images as `encode_images` does, in as many calls as there are: its decoding processes stay between them.

    ValueError where batch_size or workers is under 1.
    """

    def __init__(
        self,
        model: LoadedModel,
        *,
        batch_size: int,
        workers: int,
        cache: ImageCache | None = None,
        decoding: Decoding = EXACTLY,
    ) -> None:
        if batch_size < 1 or workers < 1:
            raise ValueError(f"batch_size and workers are at least 1, not {batch_size} and {workers}")
        config = fitted(model.preprocess.config, decoding.fit)
        self._batches = PaddedBatches(model, batch_size)
        batches = max(BATCHES_AHEAD, math.ceil(min(_MOST_AHEAD, _AHEAD_PER_WORKER * workers) / batch_size))
        self._ahead = batches * batch_size
        self._known = None if cache is None else part_of(cache, model, decoding, batch_size)
        self._decoders = Decoders(Job(config, hashed=self._known is not None, decoding=decoding), workers=workers)
        self._allow_private = decoding.allow_private
        self._pixels = partial(_pixels, config=config, decoding=decoding)

    def encode(self, items: Iterable[ImageItem]) -> Generator[list[Outcome]]:
        """Yield the embedding of every image, or why there is none; the last batch is padded, not kept."""
        found = _look_up(arrived(items, allow_private=self._allow_private), self._known, self._pixels)
        return _encode(self._batches, self._decoders, found, ahead=self._ahead, cache=self._known)

    def __enter__(self) -> "ImageEncoder":
        return self

    def __exit__(self, *_: object) -> None:
        self._decoders.close()


def cached_embeddings(
    model: LoadedModel, paths: Sequence[str], *, batch_size: int, cache: ImageCache, decoding: Decoding = EXACTLY
) -> list[Embedding | None]:
    """Return the embeddings of files that the cache knows to be unchanged, None for the others; no file is read."""
    known, found = part_of(cache, model, decoding, batch_size), list[Embedding | None]()
    for start in range(0, len(paths), WINDOW):
        found += known.by_state([FileState.of(path) for path in paths[start : start + WINDOW]])
    return found


def part_of(cache: ImageCache, model: LoadedModel, decoding: Decoding, batch_size: int) -> RunCache:
    """Return the part of the cache that `encode_images` uses with these settings."""
    if fitted(model.preprocess.config, decoding.fit) == model.preprocess.config:
        decoding = replace(decoding, fit=None)  # what others have cached is the same
    return cache.for_run(model, decoding=decoding.mode, batch_size=padded_rows(batch_size))


def _encode(
    batches: PaddedBatches,
    decoders: Decoders,
    items: Iterable["_Unknown | _Read | Outcome"],
    *,
    ahead: int,
    cache: RunCache | None,
) -> Generator[list[Outcome]]:
    """Decode and encode."""
    on_cpu = batches.model.device.type == "cpu"
    decoded = (_in_turns if on_cpu else _meanwhile)(items, decoders, ahead)
    pending: deque[tuple[list[_Read | Outcome], Callable[[], Tensor] | None]] = deque()
    for part in _parts(decoded, batches.size):
        images = [item.pixels for item in part if isinstance(item, _Read) and item.pixels is not None]
        pending.append((part, batches.start(images)))
        if on_cpu or len(pending) > _BATCHES_ON_GPU:
            yield _finish(*pending.popleft(), cache)
    while pending:
        yield _finish(*pending.popleft(), cache)


def _look_up(
    items: Iterable[ImageItem], cache: RunCache | None, pixels: Callable[[GivenImage], _Read | SkippedImage]
) -> Iterator[_Unknown | _Read | Outcome]:
    """Yield the embeddings of files that are unchanged since an earlier run, and the other items.

    Pixels in memory are resized before the next item is asked for: there may be many, and their owner may change them.
    """
    window: list[str | SkippedImage] = []
    for item in items:
        if not isinstance(item, GivenImage):
            window.append(item)
        if window and (isinstance(item, GivenImage) or len(window) == WINDOW):
            yield from _known(window, cache)
            window = []
        if isinstance(item, GivenImage):
            content = item.content
            yield _Unknown(item.path, content, None, cache) if isinstance(content, bytes) else pixels(item)
    yield from _known(window, cache)


def _known(window: list[str | SkippedImage], cache: RunCache | None) -> Iterator[_Unknown | Outcome]:
    states = [None if cache is None or isinstance(item, SkippedImage) else FileState.of(item) for item in window]
    found = [None] * len(window) if cache is None else cache.by_state(states)
    for item, state, embedding in zip(window, states, found, strict=True):
        if isinstance(item, SkippedImage):
            yield item
        elif embedding is not None:
            yield EmbeddedImage(item, embedding)
        else:
            yield _Unknown(item, item, state, cache)


def _pixels(item: GivenImage, *, config: PreprocessConfig, decoding: Decoding) -> _Read | SkippedImage:
    assert not isinstance(item.content, bytes)
    pixels = resized_pixels(item.content, config, decoding)
    return SkippedImage(item.path, pixels) if isinstance(pixels, str) else _Read(item.path, None, b"", pixels, "")


def _in_turns(items: Iterable[_Unknown | _Read | Outcome], decoders: Decoders, ahead: int) -> Iterator[_Read | Outcome]:
    """Yield every item in order, decoded; nothing is being decoded while the caller has one.

    `ahead` images are decoded, then handed out: the decoders and the model have all cores in turn.
    """
    waiting: list[_Unknown | _Read | Outcome] = []
    begun = 0
    for item in items:
        waiting.append(item)
        if isinstance(item, _Unknown):
            item.begin(decoders)
        begun += isinstance(item, _Unknown | _Read)
        if begun == ahead or len(waiting) >= max(WINDOW, ahead):
            yield from [_read(one) for one in waiting]
            waiting, begun = [], 0
    yield from [_read(one) for one in waiting]


def _meanwhile(
    items: Iterable[_Unknown | _Read | Outcome], decoders: Decoders, ahead: int
) -> Iterator[_Read | Outcome]:
    """Yield every item in order, decoded, while the next `ahead` are being decoded."""
    waiting: deque[_Unknown | _Read | Outcome] = deque()
    for item in items:
        waiting.append(item)
        if isinstance(item, _Unknown):
            item.begin(decoders)
        if len(waiting) > ahead:
            yield _read(waiting.popleft())
    while waiting:
        yield _read(waiting.popleft())


def _read(item: _Unknown | _Read | Outcome) -> _Read | Outcome:
    """Wait for an image to be decoded; one that cannot be read becomes a SkippedImage."""
    if not isinstance(item, _Unknown):
        return item
    assert item.decoded is not None
    try:
        decoded = item.decoded.result()
    except UnreadableImage as error:
        return SkippedImage(item.path, str(error))
    return _Read(item.path, item.state, decoded.content, decoded.pixels, decoded.note, item.embedding)


def _parts(items: Iterable[_Read | Outcome], batch_size: int) -> Iterator[list[_Read | Outcome]]:
    """Cut the items so that a part has `batch_size` images for the model, or fewer where many others come between."""
    part: list[_Read | Outcome] = []
    images = 0
    for item in items:
        part.append(item)
        images += isinstance(item, _Read) and item.pixels is not None
        if images == batch_size or len(part) >= (MAX_WAITING if images else WINDOW):
            yield part
            part, images = [], 0
    if part:
        yield part


def _finish(
    part: list[_Read | Outcome], embeddings: Callable[[], Tensor] | None, cache: RunCache | None
) -> list[Outcome]:
    """Put the embeddings where the images were, and cache them."""
    rows = iter(() if embeddings is None else embeddings().numpy())
    outcomes: list[Outcome] = []
    new: list[NewImage] = []
    for item in part:
        if not isinstance(item, _Read):
            outcomes.append(item)
            continue
        embedding = next(rows).copy() if item.embedding is None else item.embedding
        outcomes.append(EmbeddedImage(item.path, embedding, item.note))
        if item.content:
            new.append(NewImage(item.state, item.content, embedding))
    if cache is not None:
        cache.put(new)
    return outcomes
