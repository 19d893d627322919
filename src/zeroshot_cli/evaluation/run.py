"""Evaluate a model on labelled images, through the same pipeline as classify."""

import platform
from collections.abc import Callable, Iterable, Iterator
from importlib.metadata import version
from itertools import chain, islice

import numpy as np

from zeroshot_cli.classify.classifier import Classifier, embeddings_of
from zeroshot_cli.classify.scoring import best, cosines
from zeroshot_cli.datasets.labelled import LabelledImages
from zeroshot_cli.embed.batches import auto_batch_size
from zeroshot_cli.embed.image_cache import ImageCache
from zeroshot_cli.embed.images import EmbeddedImage, Outcome, encode_images
from zeroshot_cli.errors import DataError
from zeroshot_cli.evaluation.answers import KEPT, Answers, Doubles, Floats, Ints
from zeroshot_cli.evaluation.figures import figures
from zeroshot_cli.evaluation.metrics import true_class_ranks
from zeroshot_cli.images.decode import EXACTLY, Decoding
from zeroshot_cli.images.decoder_pool import auto_workers
from zeroshot_cli.models.loaded import LoadedModel
from zeroshot_cli.records import EvalResult, PublishedFigure, SkippedImage
from zeroshot_cli.words.prompts import Prompts

VERSIONS_OF = ("zeroshot-cli", "torch", "open_clip_torch", "numpy", "pillow", "scipy", "scikit-learn")

_AT_ONCE = 512  # images that are scored at once

# Of the images that were read: rank, best classes, their cosines and probabilities, the true class's cosine and log
# likelihood.
_Columns = tuple[Ints, Ints, Floats, Doubles, Floats, Doubles]


def evaluate(
    model: LoadedModel,
    dataset: LabelledImages,
    prompts: Prompts | str | None = None,
    *,
    batch_size: int | None = None,
    workers: int | None = None,
    cache: ImageCache | None = None,
    decoding: Decoding = EXACTLY,
    seed: int = 0,
) -> EvalResult:
    """Return the figures of a model on labelled images: `answer` and `result_of` in one."""
    judge = Classifier(model, dataset.labels, prompts)
    size = batch_size or auto_batch_size(len(dataset), model)
    answers = answer(model, dataset, judge, batch_size=size, workers=workers, cache=cache, decoding=decoding)
    return result_of(answers, model, dataset, prompts=judge.prompts.name, batch_size=size, decoding=decoding, seed=seed)


def answer(
    model: LoadedModel,
    dataset: LabelledImages,
    classifier: Classifier,
    *,
    batch_size: int | None = None,
    workers: int | None = None,
    cache: ImageCache | None = None,
    decoding: Decoding = EXACTLY,
    track: Callable[[Iterator[Outcome]], Iterable[Outcome]] = iter,
) -> Answers:
    """Return what a model answers for every image, with a classifier of this model and of the data set's labels.

    `workers` processes decode, by default one a core. `track` may watch the images pass, one by one, to show progress.
    DataError where no image can be read.
    """
    if classifier.model is not model or classifier.labels != dataset.labels:
        raise ValueError("the classifier has another model or other labels than the data set")
    encoded = encode_images(
        model,
        dataset.items,
        batch_size=batch_size or auto_batch_size(len(dataset), model),
        workers=workers or auto_workers(model.device.type),
        cache=cache,
        decoding=decoding,
    )
    outcomes = iter(track(chain.from_iterable(encoded)))
    targets = np.array(dataset.targets, dtype=np.int64)  # m
    items: list[str | SkippedImage] = []
    parts: list[_Columns] = []
    while part := list(islice(outcomes, _AT_ONCE)):
        own = targets[len(items) : len(items) + len(part)]
        items += [item.path if isinstance(item, EmbeddedImage) else item for item in part]
        images = [item for item in part if isinstance(item, EmbeddedImage)]
        if images:
            truth = own[[isinstance(item, EmbeddedImage) for item in part]]
            parts.append(_scored(embeddings_of(model, images), truth, classifier))
    if not parts:
        raise nothing_read(dataset, items)
    ranks, best_classes, scores, probabilities, true_scores, log_likelihoods = map(
        np.concatenate, zip(*parts, strict=True)
    )
    return Answers(
        labels=dataset.labels.names,
        items=tuple(items),
        item_targets=targets,
        targets=targets[[isinstance(item, str) for item in items]],
        ranks=ranks,
        best=best_classes,
        scores=scores,
        probabilities=probabilities,
        true_scores=true_scores,
        log_likelihoods=log_likelihoods,
    )


def result_of(
    answers: Answers,
    model: LoadedModel,
    dataset: LabelledImages,
    *,
    prompts: str | None,
    batch_size: int,
    decoding: Decoding = EXACTLY,
    task: str = "classification",
    main_metric: str = "top1",
    published: tuple[str, float, str] | None = None,
    seed: int = 0,
    command: str = "",
) -> EvalResult:
    """Return the figures of answers, with all that they depend on.

    `published` is a figure of others to hold ours against: its metric, value and source. `seed` is the bootstrap's.
    """
    found = figures(answers, seed=seed)
    return EvalResult(
        dataset=dataset.name,
        n=len(answers.targets),
        model=model.name,
        pretrained=model.pretrained,
        prompts=prompts,
        metrics=found.metrics,
        intervals=found.intervals,
        main_metric=main_metric,
        published=published and compared(published, found.metrics, found.intervals),
        per_class=found.per_class,
        confused=found.confused,
        skipped=answers.skipped,
        task=task,
        versions=versions(),
        fingerprint=model.fingerprint,
        device=str(model.device),
        precision=model.precision,
        batch_size=batch_size,
        decoding=decoding.mode,
        seed=seed,
        command=command,
    )


def compared(
    published: tuple[str, float, str], metrics: dict[str, float], intervals: dict[str, tuple[float, float]]
) -> PublishedFigure:
    """Return a published figure, metric, value and source, beside ours."""
    metric, value, source = published
    low, high = intervals[metric]
    return PublishedFigure(metric, value, source, metrics[metric] - value, low <= value <= high)


def versions() -> dict[str, str]:
    """Return the versions of all that figures may depend on."""
    return {"python": platform.python_version(), **{name: version(name) for name in VERSIONS_OF}}


def graded(scores: Floats, logs: Doubles, targets: Ints) -> _Columns:
    """Return what Answers keep of scores nc and log probabilities nc: ranks, the best classes, and the true ones'."""
    first = best(scores, min(KEPT, scores.shape[1]))  # nk
    true = targets[:, None]
    return (
        true_class_ranks(scores, targets),
        first.astype(np.int64),
        np.take_along_axis(scores, first, axis=1),
        np.exp(np.take_along_axis(logs, first, axis=1)),
        np.take_along_axis(scores, true, axis=1)[:, 0],
        np.take_along_axis(logs, true, axis=1)[:, 0],
    )


def _scored(images: Floats, targets: Ints, classifier: Classifier) -> _Columns:
    from scipy.special import log_softmax

    scores = cosines(images, classifier.embeddings)  # nc
    return graded(scores, log_softmax(classifier.model.logit_scale * scores.astype(np.float64), axis=1), targets)


def nothing_read(dataset: LabelledImages, items: list[str | SkippedImage]) -> DataError:
    first = next((item for item in items if isinstance(item, SkippedImage)), None)
    why = f"; the first, {first.path}: {first.reason}" if first else ""
    return DataError(f"{dataset.name}: none of its {len(dataset)} images can be read{why}")
