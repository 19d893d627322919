"""All embeddings of a data set at once, for what needs them together: retrieval and probes."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain, islice

import numpy as np

from zeroshot_cli.classify.classifier import embeddings_of
from zeroshot_cli.classify.scoring import Floats
from zeroshot_cli.embed.batches import auto_batch_size
from zeroshot_cli.embed.image_cache import ImageCache
from zeroshot_cli.embed.images import EmbeddedImage, Outcome, encode_images
from zeroshot_cli.images.decode import EXACTLY, Decoding
from zeroshot_cli.images.decoder_pool import auto_workers
from zeroshot_cli.models.loaded import LoadedModel
from zeroshot_cli.records import SkippedImage

_AT_ONCE = 512  # images whose embeddings are put together at once


def embed_all(
    model: LoadedModel,
    items: Sequence[str | SkippedImage],
    *,
    batch_size: int | None = None,
    workers: int | None = None,
    cache: ImageCache | None = None,
    decoding: Decoding = EXACTLY,
    track: Callable[[Iterator[Outcome]], Iterable[Outcome]] = iter,
) -> tuple[list[str | SkippedImage], Floats]:
    """Return what became of every item, and the embeddings ne of the n that were read; `track` may watch them pass."""
    encoded = encode_images(
        model,
        items,
        batch_size=batch_size or auto_batch_size(len(items), model),
        workers=workers or auto_workers(model.device.type),
        cache=cache,
        decoding=decoding,
    )
    outcomes = iter(track(chain.from_iterable(encoded)))
    read: list[str | SkippedImage] = []
    parts: list[Floats] = []
    while part := list(islice(outcomes, _AT_ONCE)):
        read += [item.path if isinstance(item, EmbeddedImage) else item for item in part]
        images = [item for item in part if isinstance(item, EmbeddedImage)]
        if images:
            parts.append(embeddings_of(model, images))
    return read, np.concatenate(parts) if parts else np.empty((0, 0), np.float32)
