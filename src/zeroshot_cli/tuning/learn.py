"""Teach a classifier from example images, or calibrate it on them."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from zeroshot_cli.classify.classifier import Classifier
from zeroshot_cli.classify.rejection import Rules
from zeroshot_cli.classify.scoring import Floats
from zeroshot_cli.classify.tuning import CALIBRATED, Tuning, key_of
from zeroshot_cli.datasets.examples import ExampleImages
from zeroshot_cli.display import counted
from zeroshot_cli.embed.image_cache import contents_of
from zeroshot_cli.errors import DataError
from zeroshot_cli.evaluation.answers import Doubles
from zeroshot_cli.evaluation.classification import Pipeline
from zeroshot_cli.models.loaded import LoadedModel
from zeroshot_cli.records import SkippedImage
from zeroshot_cli.tuning.core import calibrate, tune
from zeroshot_cli.tuning.results import Calibrated, Calibration, Share, Tuned, TuneSettings

_NAMED = 3  # examples that are named
_OF_TARGET = ("target_precision", "answered", "precision", "never_answered")


@dataclass(frozen=True, slots=True, eq=False)
class EmbeddedExamples:
    """Examples that were read, each once, with their embeddings (images, embedding) and what their content is known by.

    `skipped` could not be read; `repeated` is the number of copies that are left out.
    """

    images: ExampleImages
    embeddings: Floats
    keys: tuple[bytes | None, ...]
    skipped: tuple[SkippedImage, ...] = ()
    repeated: int = 0

    def at(self, rows: Sequence[int]) -> "EmbeddedExamples":
        """Return the examples of these rows."""
        keys = tuple(self.keys[row] for row in rows)
        return replace(self, images=self.images.at(rows), embeddings=self.embeddings[[*rows]], keys=keys)

    @property
    def known(self) -> frozenset[bytes]:
        """What the content of the examples is known by, for a classifier file."""
        return frozenset(key for key in self.keys if key is not None)


def embed_examples(model: LoadedModel, images: ExampleImages, pipeline: Pipeline | None = None) -> EmbeddedExamples:
    """Read and embed examples.

    Raises DataError where none can be read, and where copies of an image have two labels; CheckpointError for
    embeddings that are not finite.
    """
    pipeline = pipeline or Pipeline()
    read, embeddings = pipeline.embed_all(model, images.items)
    skipped = tuple(item for item in read if isinstance(item, SkippedImage))
    if len(skipped) == len(read):
        first = skipped[0]
        raise DataError(f"none of the {len(read)} examples can be read; the first, {first.path}: {first.reason}")
    images = images.at([row for row, item in enumerate(read) if isinstance(item, str)])
    contents = contents_of(images.items, pipeline.cache)
    keys = tuple(None if content is None else key_of(content) for content in contents)
    found = EmbeddedExamples(images, embeddings, keys, skipped)
    rows = images.unique(keys)
    return found if len(rows) == len(keys) else replace(found.at(rows), repeated=len(keys) - len(rows))


def tune_classifier(
    classifier: Classifier,
    examples: EmbeddedExamples,
    settings: TuneSettings = TuneSettings(),  # noqa: B008
) -> Tuned:
    """Tune a classifier in place, from its text embeddings; raises DataError where the examples do not suffice.

    It is tuned even where that is not `better`. Its rules are gone after that: they were for cosines.
    """
    texts, scale = classifier.embeddings.numpy(), classifier.model.logit_scale
    tuned = tune(examples.embeddings, examples.images.targets, texts, scale, settings)
    if settings.target_precision is not None and tuned.thresholds is None:
        raise DataError("--target-precision needs two labels with two examples each; add some, or omit it")
    _check_target(tuned.calibration, len(examples.keys))
    weights, bias = _centred(tuned, texts)
    classifier.rules = Rules()
    classifier.tuning = Tuning(
        method=tuned.chosen.method.value,
        temperature=tuned.temperature,
        weights=weights,
        bias=bias,
        thresholds=_tensor(tuned.thresholds),
        examples=examples.known,
        figures=figures_of(tuned) | {"seed": settings.seed},
    )
    return tuned


def _centred(tuned: Tuned, texts: Floats) -> tuple[torch.Tensor, torch.Tensor]:
    """Return weights and bias without what they add to all labels alike: no probability changes.

    The mean of an image's scores over the labels is then that of its cosines, so `--min-score` has the same scale.
    """
    weights, bias = tuned.weights.astype(np.float64), tuned.bias.astype(np.float64)
    weights -= (weights - texts).mean(axis=0)
    bias -= bias.mean()
    return torch.from_numpy(weights.astype(np.float32)), torch.from_numpy(bias.astype(np.float32))


def calibrate_classifier(
    classifier: Classifier,
    examples: EmbeddedExamples,
    settings: TuneSettings = TuneSettings(),  # noqa: B008
) -> Calibrated:
    """Calibrate a classifier in place, zero-shot or tuned; rules for its earlier probabilities are gone after that.

    Raises DataError where some of the examples have taught it, as it is too sure of these, and where they are too few
    for the precision.
    """
    tuning, embeddings = classifier.tuning, examples.embeddings
    weights, scale = classifier.embeddings.numpy(), classifier.model.logit_scale
    if tuning is not None:
        pairs = zip(examples.images.items, examples.keys, strict=True)
        known = [str(item) for item, key in pairs if key in tuning.examples]
        if tuning.method != CALIBRATED and known:
            named = ", ".join(known[:_NAMED]) + ", …" * (len(known) > _NAMED)
            raise DataError(
                f"{len(known)} of the {len(examples.keys)} examples ({named}) have taught or calibrated this "
                "classifier, which is too sure of them; calibrate it on others, or the file that it was calibrated "
                "from on these"
            )
        scale = 1 / tuning.temperature
    if tuning is not None and tuning.weights is not None and tuning.bias is not None:
        embeddings = np.hstack([embeddings, np.ones((len(embeddings), 1), embeddings.dtype)])
        weights = np.hstack([tuning.weights.numpy(), tuning.bias.numpy()[:, None]])  # the bias is the weight of the 1
    found = calibrate(embeddings, examples.images.targets, weights, scale, settings)
    _check_target(found.calibration, len(examples.keys))
    classifier.rules = replace(classifier.rules, min_probability=None)
    before = tuning or Tuning(CALIBRATED, found.temperature)
    classifier.tuning = replace(
        before,
        temperature=found.temperature,
        thresholds=_tensor(found.calibration.thresholds),
        examples=before.examples | examples.known,
        figures={
            **{name: value for name, value in before.figures.items() if name not in _OF_TARGET},
            **calibration_figures(found.calibration),
            "seed": settings.seed,
        },
    )
    return found


def _check_target(calibration: Calibration | None, examples: int) -> None:
    """Raise DataError where thresholds would make every image unknown."""
    if calibration is None or calibration.thresholds is None or np.isfinite(calibration.thresholds).any():
        return
    raise DataError(
        f"--target-precision {calibration.target_precision} is not reached at any probability by the answers to "
        f"{counted(examples, 'example')}; ask for less, or add examples"
    )


def figures_of(tuned: Tuned) -> dict[str, Any]:
    """Return the figures of a tuned classifier, as its file and JSON have them."""
    found: dict[str, Any] = {
        "examples": int(tuned.counts.sum()),
        "labels_with_examples": int((tuned.counts > 0).sum()),
        "alpha": tuned.chosen.alpha,
        "strength": tuned.chosen.strength,
    }
    if (validated := tuned.cross_validation) is not None:
        gain = validated.comparison
        found |= {
            "folds": validated.folds,
            "zero_shot": share_figures(validated.zero_shot),
            "tuned": share_figures(validated.tuned),
            "gain": {"value": gain.difference, "interval": list(gain.interval), "p": gain.p},
        }
    return found if tuned.calibration is None else found | calibration_figures(tuned.calibration)


def calibration_figures(calibration: Calibration) -> dict[str, Any]:
    """Return the figures of a calibration, as a classifier's file and JSON have them."""
    found: dict[str, Any] = {"ece_before": calibration.ece_before, "ece_after": calibration.ece_after}
    if calibration.answered and calibration.precision and calibration.thresholds is not None:
        found |= {
            "target_precision": calibration.target_precision,
            "answered": share_figures(calibration.answered),
            "precision": share_figures(calibration.precision),
            "never_answered": int(np.isinf(calibration.thresholds).sum()),
        }
    return found


def share_figures(share: Share) -> dict[str, Any]:
    """Return a share as JSON has it."""
    return {"value": share.value, "hits": share.hits, "n": share.n, "interval": list(share.interval)}


def _tensor(values: Doubles | None) -> torch.Tensor | None:
    return None if values is None else torch.from_numpy(values)
