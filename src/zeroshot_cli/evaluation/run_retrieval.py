"""Evaluate a model on images with captions: how often each finds the other, through classify's pipeline and caches.

n images, m texts, e embedding
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import torch

from zeroshot_cli.datasets.captioned import CaptionedImages
from zeroshot_cli.embed.image_cache import ImageCache
from zeroshot_cli.embed.images import Outcome
from zeroshot_cli.embed.prompt_ensemble import OnProgress, class_embeddings
from zeroshot_cli.embed.texts import TextCache
from zeroshot_cli.errors import CheckpointError, DataError
from zeroshot_cli.evaluation.embedded import embed_all
from zeroshot_cli.evaluation.metrics import wilson
from zeroshot_cli.evaluation.retrieval import RECALL_AT, retrieval
from zeroshot_cli.images.decode import EXACTLY, Decoding
from zeroshot_cli.models.loaded import LoadedModel
from zeroshot_cli.records import SkippedImage
from zeroshot_cli.words.labels import Label
from zeroshot_cli.words.prompts import Prompts

MAIN_METRIC = "image_to_text_recall@1"


@dataclass(frozen=True, slots=True)
class RetrievalFigures:
    """Recall@1, 5 and 10 in both directions with their 95 % intervals, by name; images and texts to choose from.

    `image_to_text_recall@k` is the share of images that have one of their texts among the k nearest, and
    `text_to_image_recall@k` that of texts; CLIP_benchmark calls them text_retrieval_recall@k and
    image_retrieval_recall@k. `skipped` are images that could not be read, and take no part, nor do their texts.
    """

    metrics: dict[str, float]
    intervals: dict[str, tuple[float, float]]
    images: int
    texts: int
    skipped: tuple[SkippedImage, ...] = ()


def evaluate_retrieval(
    model: LoadedModel,
    captioned: CaptionedImages,
    *,
    template: Prompts | None = None,
    batch_size: int | None = None,
    workers: int | None = None,
    cache: ImageCache | None = None,
    text_cache: TextCache | None = None,
    decoding: Decoding = EXACTLY,
    track: Callable[[Iterator[Outcome]], Iterable[Outcome]] = iter,
    on_progress: OnProgress | None = None,
) -> RetrievalFigures:
    """Return how often a model finds the right texts of images, and the right images of texts.

    Texts are encoded as they are, or put into the templates of `template` and averaged. `track` may watch the images
    pass, `on_progress` gets the number of texts done and of all. Of equal cosines the lower index is nearer.
    DataError where no image can be read.
    """
    items, images = embed_all(
        model, captioned.items, batch_size=batch_size, workers=workers, cache=cache, decoding=decoding, track=track
    )
    read = _without(captioned, items)
    prompts = template.fill(map(Label, read.texts)) if template else tuple((text,) for text in read.texts)
    texts = class_embeddings(model, prompts, cache=text_cache, on_progress=on_progress)
    if not texts.isfinite().all():
        raise CheckpointError(
            f"{model.name}: the embeddings of its texts are not finite numbers; try --precision fp32 in place of "
            f"{model.precision}, or other weights"
        )
    skipped = tuple(item for item in items if isinstance(item, SkippedImage))
    metrics, intervals = _figures(torch.from_numpy(images), texts, read.pairs)
    return RetrievalFigures(metrics, intervals, len(images), len(read.texts), skipped)


def _without(captioned: CaptionedImages, items: list[str | SkippedImage]) -> CaptionedImages:
    """The data set without images that could not be read, and texts that no other image has."""
    image_of = {
        place: number for number, place in enumerate(i for i, item in enumerate(items) if isinstance(item, str))
    }
    if not any(image in image_of for image, _ in captioned.pairs):
        first = next((item for item in items if isinstance(item, SkippedImage)), None)
        why = f"; the first, {first.path}: {first.reason}" if first else ""
        raise DataError(f"{captioned.name}: none of its {len(captioned)} images with a caption can be read{why}")
    had = {text for _, text in captioned.pairs}
    have = {text for image, text in captioned.pairs if image in image_of}
    kept = [place for place in range(len(captioned.texts)) if place in have or place not in had]
    text_of = {place: number for number, place in enumerate(kept)}
    return CaptionedImages(
        captioned.name,
        tuple(item for item in items if isinstance(item, str)),
        tuple(captioned.texts[place] for place in kept),
        tuple((image_of[image], text_of[text]) for image, text in captioned.pairs if image in image_of),
    )


def _figures(
    images: torch.Tensor, texts: torch.Tensor, pairs: tuple[tuple[int, int], ...]
) -> tuple[dict[str, float], dict[str, tuple[float, float]]]:
    found = retrieval(images, texts, pairs)
    asked = {"image_to_text": len({image for image, _ in pairs}), "text_to_image": len({text for _, text in pairs})}
    recalls = {"image_to_text": found.image_to_text, "text_to_image": found.text_to_image}
    metrics = {f"{way}_recall@{k}": recalls[way][k] for way in recalls for k in RECALL_AT}
    intervals = {
        f"{way}_recall@{k}": wilson(round(recalls[way][k] * asked[way]), asked[way])
        for way in recalls
        for k in RECALL_AT
    }
    return metrics, intervals
