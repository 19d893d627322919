"""`tune` for programs: what `zeroshot tune` does, with images and labels however a program has them."""

import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from zeroshot_cli.classify.classifier import Classifier
from zeroshot_cli.datasets.examples import ExampleImages, examples_of, read_examples
from zeroshot_cli.datasets.labelled import GivenLabels, LabelledImages, labelled_images
from zeroshot_cli.embed.image_cache import ImageCache
from zeroshot_cli.errors import DataError, UsageError
from zeroshot_cli.evaluation.classification import Pipeline
from zeroshot_cli.models.loaded import LoadedModel
from zeroshot_cli.records import SkippedImage, TuneMethod
from zeroshot_cli.tuning.learn import embed_examples, tune_classifier
from zeroshot_cli.tuning.results import TuneSettings
from zeroshot_cli.words.labels import Labels
from zeroshot_cli.words.prompts import Prompts


class ExampleWarning(UserWarning):
    """Something about examples that the user should know, such as an image that cannot be read."""


def tune(
    model: LoadedModel,
    examples: LabelledImages | str | os.PathLike[str] | GivenLabels,
    labels: Labels | Sequence[str] | Mapping[str, Any] | None = None,
    prompts: Prompts | str | os.PathLike[str] | Sequence[str] | None = None,
    *,
    method: str = TuneMethod.AUTO,
    target_precision: float | None = None,
    force: bool = False,
    cache: ImageCache | None = None,
    seed: int = 0,
) -> Classifier:
    """Return a classifier that labelled examples have made better, as `zeroshot tune` writes it.

    `examples` are a folder of class folders, a table, results of `classify` that were corrected by hand, a mapping of
    labels to their images, or pairs of an image and its label, such as `zip(images, labels)`; images are what
    `Classifier.predict` takes. Without `labels` they are those of the examples; labels without examples stay zero-shot.
    `method` is "gda", "logistic", or "auto": what cross-validation finds better. With `target_precision` there is a
    probability for each label below which an image is unknown, so that this share of the other answers is right.
    `tuning.figures` of the classifier say what cross-validation measured.

    An image that is there twice counts once: files and bytes are compared by their content, others by their pixels.
    Warns with ExampleWarning of examples that cannot be read, and of doubtful labels. Raises DataError where the
    classifier is not better than zero-shot, unless by `force`, and where no example can be read; UsageError, DataError,
    TypeError or ValueError for what is no example.
    """
    if target_precision is not None and not 0 < target_precision < 1:
        raise UsageError(f"target_precision {target_precision} is not a share; give one such as 0.95")
    if method not in list(TuneMethod):
        raise UsageError(f"method {method!r} is unknown; give one of {', '.join(TuneMethod)}")
    images = _read(examples, labels)
    classifier = Classifier(model, images.labels, prompts)
    pipeline = Pipeline(cache=cache).sized(images.items, model)
    settings = TuneSettings(method=TuneMethod(method), seed=seed, target_precision=target_precision)
    embedded = embed_examples(model, images, pipeline)
    for text in (*images.doubts, *_unreadable(embedded.skipped, len(images))):
        warnings.warn(text, ExampleWarning, stacklevel=2)
    tuned = tune_classifier(classifier, embedded, settings)
    validated = tuned.cross_validation
    if tuned.better is False and not force:
        assert validated is not None
        raise DataError(
            f"the classifier is not better than zero-shot ({validated.tuned.value:.1%} against "
            f"{validated.zero_shot.value:.1%}, cross-validated); add examples or check their labels, or give force=True"
        )
    return classifier


def _unreadable(skipped: Sequence[SkippedImage], examples: int) -> Iterator[str]:
    if skipped:
        first = skipped[0]
        yield f"{len(skipped)} of {examples} examples cannot be read; the first, {first.path}: {first.reason}"


def _read(
    examples: LabelledImages | str | os.PathLike[str] | GivenLabels,
    labels: Labels | Sequence[str] | Mapping[str, Any] | None,
) -> ExampleImages:
    if not isinstance(examples, LabelledImages | str | os.PathLike):
        return examples_of(labelled_images(examples, labels))
    labels = None if labels is None else Labels.of_user(labels)
    if isinstance(examples, str | os.PathLike):
        return read_examples([os.fspath(examples)], labels)
    if labels is not None and labels != examples.labels:
        raise UsageError(
            f"{examples.name} has other labels than are to be learned; read it with these: read_dataset(path, labels)"
        )
    return examples_of(examples)
