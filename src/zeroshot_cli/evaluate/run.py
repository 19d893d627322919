"""Evaluate a model on labelled images, through the same pipeline as classify."""

import platform
from collections.abc import Callable, Iterable, Iterator
from importlib.metadata import version
from itertools import islice
from typing import Any

import numpy as np
import torch

from zeroshot_cli.classify import Classifier, embeddings_of
from zeroshot_cli.encode.image_cache import ImageCache
from zeroshot_cli.encode.images import EXACTLY, Decoding, EmbeddedImage, auto_batch_size, auto_workers, encode_images
from zeroshot_cli.errors import DataError
from zeroshot_cli.evaluate.datasets import LabelledImages
from zeroshot_cli.evaluate.metrics import (
    class_counts,
    mean_per_class_recall,
    per_class_recall,
    top_k_accuracy,
    true_class_ranks,
)
from zeroshot_cli.prompts import Prompts
from zeroshot_cli.records import EvalResult, SkippedImage
from zeroshot_cli.scoring import cosines
from zeroshot_cli.weights.loaded import LoadedModel

VERSIONS_OF = ("zeroshot-cli", "torch", "open_clip_torch", "numpy", "pillow")

# The rank of an image's true class, or why it has none; and the true class.
Outcome = tuple[int | SkippedImage, int]


def evaluate(
    model: LoadedModel,
    dataset: LabelledImages,
    prompts: Prompts | str | None = None,
    *,
    classifier: Classifier | None = None,
    batch_size: int | None = None,
    workers: int | None = None,
    cache: ImageCache | None = None,
    decoding: Decoding = EXACTLY,
    track: Callable[[Iterator[Outcome]], Iterable[Outcome]] = iter,
) -> EvalResult:
    """Return top-1, top-5 and mean per-class recall of a model on labelled images.

    Unreadable images are listed in `skipped` and take no part in `n` or any figure. With fewer than five classes
    top-5 is top-k over all of them. `workers` processes decode, by default one a core. `track` may watch the images
    pass, one by one, to show progress. A `classifier` of this model, with the data set's labels, takes the place of
    `prompts`. DataError where no image can be read.
    """
    judge = classifier or Classifier(model, dataset.labels, prompts)
    if judge.model is not model or judge.labels != dataset.labels:
        raise ValueError("the classifier has another model or other labels than the data set")
    ranks: list[int] = []
    targets: list[int] = []
    skipped: list[SkippedImage] = []
    size = batch_size or auto_batch_size(None, model)
    outcomes = _outcomes(
        model,
        dataset,
        judge.embeddings,
        batch_size=size,
        workers=workers or auto_workers(model.device.type),
        cache=cache,
        decoding=decoding,
    )
    for outcome, target in track(outcomes):
        if isinstance(outcome, SkippedImage):
            skipped.append(outcome)
        else:
            ranks.append(outcome)
            targets.append(target)
    if not ranks:
        raise DataError(f"{dataset.name}: none of its {len(dataset)} images can be read; {_first(skipped)}")
    return EvalResult(
        dataset=dataset.name,
        n=len(ranks),
        model=model.name,
        pretrained=model.pretrained,
        prompts=judge.prompts.name,
        metrics=_metrics(ranks, targets, len(dataset.labels)),
        per_class=_per_class(ranks, targets, dataset.labels.names),
        skipped=tuple(skipped),
        versions=_versions(),
        fingerprint=model.fingerprint,
        device=str(model.device),
        precision=model.precision,
        batch_size=size,
    )


def _outcomes(
    model: LoadedModel,
    dataset: LabelledImages,
    classes: torch.Tensor,
    *,
    batch_size: int,
    workers: int,
    cache: ImageCache | None,
    decoding: Decoding,
) -> Iterator[Outcome]:
    targets = iter(dataset.targets)
    blocks = encode_images(model, dataset.items, batch_size=batch_size, workers=workers, cache=cache, decoding=decoding)
    for block in blocks:
        own = list(islice(targets, len(block)))
        images = [item for item in block if isinstance(item, EmbeddedImage)]
        truth = [target for item, target in zip(block, own, strict=True) if isinstance(item, EmbeddedImage)]
        scores = cosines(embeddings_of(model, images), classes) if images else np.empty((0, len(classes)))  # nc
        ranks = iter(true_class_ranks(scores, truth).tolist())
        for item, target in zip(block, own, strict=True):
            yield item if isinstance(item, SkippedImage) else next(ranks), target


def _metrics(ranks: list[int], targets: list[int], classes: int) -> dict[str, float]:
    return {
        "top1": top_k_accuracy(ranks, 1),
        "top5": top_k_accuracy(ranks, min(5, classes)),
        "mean_per_class_recall": mean_per_class_recall(ranks, targets, classes),
    }


def _per_class(ranks: list[int], targets: list[int], names: tuple[str, ...]) -> tuple[dict[str, Any], ...]:
    """Return label, n and recall of every class; recall is None, JSON's null, for a class without images."""
    recalls = per_class_recall(ranks, targets, len(names))
    counts = class_counts(targets, len(names))
    return tuple(
        {"label": name, "n": int(n), "recall": None if np.isnan(recall) else float(recall)}
        for name, n, recall in zip(names, counts, recalls, strict=True)
    )


def _versions() -> dict[str, str]:
    return {"python": platform.python_version(), **{name: version(name) for name in VERSIONS_OF}}


def _first(skipped: list[SkippedImage]) -> str:
    return f"the first, {skipped[0].path}: {skipped[0].reason}"
