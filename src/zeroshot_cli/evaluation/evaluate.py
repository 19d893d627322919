"""Evaluate a classifier on labelled images: what `zeroshot eval` and a Python program share, and `evaluate`."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from zeroshot_cli.classify.classifier import Classifier
from zeroshot_cli.classify.tuning import Tuning, key_of
from zeroshot_cli.datasets.captioned import CaptionedImages
from zeroshot_cli.datasets.known import open_known
from zeroshot_cli.datasets.labelled import GivenLabels, LabelledImages, labelled_images, read_dataset, relabelled
from zeroshot_cli.datasets.registry import KnownSet, find_known, published_for
from zeroshot_cli.embed.image_cache import ImageCache, contents_of
from zeroshot_cli.errors import DataError, UsageError
from zeroshot_cli.evaluation.answers import Answers, image_answers
from zeroshot_cli.evaluation.classification import Pipeline, answer, blank_result, compared, result_of
from zeroshot_cli.evaluation.metrics import figures_of_answered
from zeroshot_cli.images.decode import EXACTLY, Decoding
from zeroshot_cli.models.loaded import LoadedModel
from zeroshot_cli.records import EvalResult, assumed_of
from zeroshot_cli.words.labels import Labels
from zeroshot_cli.words.prompts import Prompts


def evaluate(
    model: LoadedModel | Classifier,
    dataset: LabelledImages | str | os.PathLike[str] | GivenLabels,
    prompts: Prompts | str | os.PathLike[str] | Sequence[str] | None = None,
    *,
    labels: Labels | Sequence[str] | Mapping[str, Any] | None = None,
    batch_size: int | None = None,
    workers: int | None = None,
    cache: ImageCache | None = None,
    decoding: Decoding = EXACTLY,
    seed: int = 0,
) -> EvalResult:
    """Return what a model, or a classifier, answers on labelled images, and its metrics with their 95 % intervals.

    `dataset` is a folder of class folders, a table, the name of a known data set, what `read_dataset` returned, a
    mapping of labels to their images, or pairs of an image and its label, such as `zip(images, labels)`; images are
    what `Classifier.predict` takes. `labels` are the classes to choose from, by default the data set's, and `prompts`
    the templates, by default the data set's own or a small ensemble; a classifier has both.

    Without `batch_size` one is used that suits the model and the number of images, and without `workers` one process
    per core decodes. `cache` keeps embeddings; `seed` is the bootstrap's. The precision is the model's; for the figures
    of `zeroshot eval`, load it in fp32. A known data set is downloaded if it is not there. Raises DataError where no
    image can be read, or a label is none of `labels`.
    """
    saved = model if isinstance(model, Classifier) else None
    if saved is not None and (labels is not None or prompts is not None):
        raise UsageError("a classifier has its own labels and prompts; omit labels and prompts")
    images, known = _opened(dataset, labels if saved is None else saved.labels)
    loaded = model.model if isinstance(model, Classifier) else model
    classifier = saved or Classifier(loaded, images.labels, images.prompts if prompts is None else prompts)
    decoding = replace(decoding, as_stored=decoding.as_stored or images.as_stored)
    pipeline = Pipeline(batch_size=batch_size, workers=workers, cache=cache, decoding=decoding)
    pipeline = pipeline.sized(images.items, loaded)
    own_labels = saved is None and labels is None
    result, answers = evaluated(classifier, images, pipeline, blank_result(loaded, pipeline, seed=seed))
    if known is not None:
        result = with_published(result, known, own_labels=own_labels)
    assumed = assumed_of(images.labels.notes, images.notes, images.warnings, loaded.notes, result.assumed)
    return replace(result, assumed=assumed, answers=tuple(image_answers(answers)))


def evaluated(
    classifier: Classifier, images: LabelledImages, pipeline: Pipeline, blank: EvalResult
) -> tuple[EvalResult, Answers]:
    """Return a blank result with the metrics of a classifier, and its answers.

    `assumed` of the result warns where images of the data set are examples that taught the classifier.
    """
    answers = answer(classifier.model, images, classifier, pipeline)
    result = result_of(answers, images, replace(blank, prompts=classifier.prompts.name))
    tuning = classifier.tuning
    if tuning is None:
        return result, answers
    if tuning.thresholds is not None:
        metrics, intervals = figures_of_answered(answers, tuning.thresholds.numpy())
        result = replace(result, metrics=result.metrics | metrics, intervals=result.intervals | intervals)
    return replace(result, tuned=tuning.method, assumed=_seen(images, answers, tuning, pipeline.cache)), answers


def with_published(result: EvalResult, known: KnownSet, *, own_labels: bool) -> EvalResult:
    """Return the result on a known data set with what others measured, if its `own_labels` were used."""
    result = replace(result, main_metric=known.metric)
    published = None
    if own_labels and result.prompts is not None:
        published = published_for(known, result.model, result.pretrained, result.prompts)
    return result if published is None else replace(result, published=compared(published, result))


def _seen(images: LabelledImages, answers: Answers, tuning: Tuning, cache: ImageCache | None) -> tuple[str, ...]:
    """Return a warning where images of the data set taught the classifier."""
    if not tuning.examples:
        return ()
    read = [image for image, item in zip(images.items, answers.items, strict=True) if isinstance(item, str)]
    contents = contents_of(read, cache)
    seen = sum(content is not None and key_of(content) in tuning.examples for content in contents)
    if not seen:
        return ()
    return (
        f"warning: {images.name}: {seen} of its {len(read)} images are examples that the classifier was "
        "tuned on, so the figures are too good; evaluate on others",
    )


def _opened(
    dataset: LabelledImages | str | os.PathLike[str] | GivenLabels,
    labels: Labels | Sequence[str] | Mapping[str, Any] | None,
) -> tuple[LabelledImages, KnownSet | None]:
    """Return the data set with these labels, and its row of the registry if it has a name."""
    if not isinstance(dataset, LabelledImages | str | os.PathLike):
        return labelled_images(dataset, labels), None
    labels = None if labels is None else Labels.of_user(labels)
    if isinstance(dataset, LabelledImages):
        if labels is not None and labels != dataset.labels:
            raise UsageError(
                f"{dataset.name} has other labels than are to be chosen from; read it with these: "
                "read_dataset(path, labels)"
            )
        return dataset, None if dataset.known is None else find_known(dataset.known)
    known = None if os.path.lexists(dataset) else find_known(os.fspath(dataset))
    if known is None:
        return read_dataset(os.fspath(dataset), labels), None
    images = open_known(known, data_dir=None, offline=False, say=lambda text: None)
    if isinstance(images, CaptionedImages):
        raise DataError(f"{known.name} has captions instead of labels; evaluate it with zeroshot eval {known.name}")
    return images if labels is None else relabelled(images, labels), known
