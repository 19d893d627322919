"""Evaluate a model on labelled images, through the same pipeline as classify."""

import platform
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain, islice

import numpy as np

from zeroshot_cli.classify.classifier import Classifier, embeddings_of
from zeroshot_cli.classify.groups import levels_above
from zeroshot_cli.datasets.labelled import LabelledImages
from zeroshot_cli.embed.batches import auto_batch_size
from zeroshot_cli.embed.image_cache import ImageCache
from zeroshot_cli.embed.images import EmbeddedImage, Outcome, encode_images
from zeroshot_cli.errors import DataError
from zeroshot_cli.evaluation.answers import Answers, Floats, Graded, Ints, graded
from zeroshot_cli.evaluation.metrics import figures
from zeroshot_cli.images.decode import EXACTLY, Decoding
from zeroshot_cli.images.decoder_pool import auto_workers
from zeroshot_cli.images.given import ImageItem
from zeroshot_cli.models.loaded import LoadedModel
from zeroshot_cli.records import SEPARATOR, EvalResult, PublishedFigure, SkippedImage, versions

_PACKAGES = ("open_clip_torch", "numpy", "pillow", "scipy", "scikit-learn")

_AT_ONCE = 512  # images whose embeddings are put together at once

Item = str | SkippedImage


@dataclass(frozen=True, kw_only=True)
class Pipeline:
    """How images are read and encoded.

    Without `batch_size` it depends on the number of images and the model, without `workers` one process per core
    decodes. `track` may watch the outcomes pass, one by one, to show progress.
    """

    batch_size: int | None = None
    workers: int | None = None
    cache: ImageCache | None = None
    decoding: Decoding = EXACTLY
    track: Callable[[Iterator[Outcome]], Iterable[Outcome]] = iter

    def sized(self, items: Sequence[ImageItem], model: LoadedModel) -> "Pipeline":
        """Return the pipeline with a batch size that suits these images."""
        if self.batch_size is not None:
            return self
        count = sum(not isinstance(item, SkippedImage) for item in items)
        return replace(self, batch_size=auto_batch_size(count, model))

    def embed(self, model: LoadedModel, items: Sequence[ImageItem]) -> Iterator[tuple[list[Item], Floats | None]]:
        """Yield a part of the items at a time, unreadable ones as SkippedImage, and the embeddings of the others.

        The embeddings are (images, embedding), and None for a part without a readable image. Raises CheckpointError for
        embeddings that are not finite.
        """
        encoded = encode_images(
            model,
            items,
            batch_size=auto_batch_size(len(items), model) if self.batch_size is None else self.batch_size,
            workers=auto_workers(model.device.type) if self.workers is None else self.workers,
            cache=self.cache,
            decoding=self.decoding,
        )
        outcomes = iter(self.track(chain.from_iterable(encoded)))
        while part := list(islice(outcomes, _AT_ONCE)):
            images = [item for item in part if isinstance(item, EmbeddedImage)]
            read: list[Item] = [item.path if isinstance(item, EmbeddedImage) else item for item in part]
            yield read, embeddings_of(model, images) if images else None

    def embed_all(self, model: LoadedModel, items: Sequence[ImageItem]) -> tuple[list[Item], Floats]:
        """Return all items, unreadable ones as SkippedImage, and the embeddings (images, embedding) of the others."""
        parts = list(self.embed(model, items))
        embeddings = [part for _, part in parts if part is not None]
        read = [item for part, _ in parts for item in part]
        return read, np.concatenate(embeddings) if embeddings else np.empty((0, 0), np.float32)


def answer(
    model: LoadedModel, dataset: LabelledImages, classifier: Classifier, pipeline: Pipeline | None = None
) -> Answers:
    """Return what a model answers for every image, with a classifier of this model and of the data set's labels.

    Raises DataError where no image can be read.
    """
    if classifier.model is not model or classifier.labels != dataset.labels:
        raise ValueError("the classifier has another model or other labels than the data set")
    targets = np.array(dataset.targets, dtype=np.int64)
    items: list[Item] = []
    parts: list[Graded] = []
    for part, embeddings in (pipeline or Pipeline()).embed(model, dataset.items):
        own = targets[len(items) : len(items) + len(part)]
        items += part
        if embeddings is not None:
            parts.append(_scored(embeddings, own[[isinstance(item, str) for item in part]], classifier))
    if not parts:
        raise nothing_read(dataset, items)
    found = Answers.of(dataset.labels.names, items, targets, parts, [*levels_above(classifier.levels)])
    return replace(found, groups=tuple(map(SEPARATOR.join, dataset.labels.groups))) if found.levels else found


def _scored(images: Floats, targets: Ints, classifier: Classifier) -> Graded:
    from scipy.special import log_softmax

    scores, logits = classifier.scores(images)
    levels = [*levels_above(classifier.levels).values()]
    return graded(scores, log_softmax(logits, axis=1), targets, levels)


def nothing_read(dataset: LabelledImages, items: Sequence[Item]) -> DataError:
    """Return the error for a data set without a readable image; `items` are what became of its images."""
    first = next((item for item in items if isinstance(item, SkippedImage)), None)
    why = f"; the first, {first.path}: {first.reason}" if first else ""
    return DataError(f"{dataset.name}: none of its {len(dataset)} images can be read{why}")


def blank_result(model: LoadedModel, pipeline: Pipeline, *, seed: int = 0, command: str = "") -> EvalResult:
    """Return a result without metrics: all that they depend on besides the data set and the prompts."""
    return EvalResult(
        dataset="",
        n=0,
        model=model.name,
        pretrained=model.pretrained,
        prompts=None,
        metrics={},
        versions={"python": platform.python_version(), **versions(*_PACKAGES)},
        fingerprint=model.fingerprint,
        device=str(model.device),
        precision=model.computing,
        batch_size=pipeline.batch_size or 0,
        decoding=pipeline.decoding.mode,
        seed=seed,
        command=command,
    )


def result_of(answers: Answers, dataset: LabelledImages, blank: EvalResult) -> EvalResult:
    """Return a blank result with the metrics of answers."""
    found = figures(answers, seed=blank.seed)
    return replace(
        blank,
        dataset=dataset.name,
        n=len(answers.targets),
        metrics=found.metrics,
        intervals=found.intervals,
        per_class=found.per_class,
        confused=found.confused,
        skipped=answers.skipped,
    )


def compared(published: tuple[str, float, str], result: EvalResult) -> PublishedFigure:
    """Return a published figure, given as metric, value and source, compared with ours."""
    metric, value, source = published
    low, high = result.intervals[metric]
    return PublishedFigure(metric, value, source, result.metrics[metric] - value, low <= value <= high)
