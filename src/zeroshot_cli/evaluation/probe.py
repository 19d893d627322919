"""The linear probe of the CLIP paper: logistic regression on frozen features (arXiv 2103.00020, section 3.2, A.3)."""

import copy
import hashlib
import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import nn

from zeroshot_cli.classify.scoring import Floats
from zeroshot_cli.clip.config import CLIPConfig
from zeroshot_cli.clip.model import CLIP
from zeroshot_cli.clip.vit import VisionTransformer
from zeroshot_cli.datasets.labelled import LabelledImages
from zeroshot_cli.errors import DataError
from zeroshot_cli.evaluation.answers import Answers, Doubles, Ints, graded
from zeroshot_cli.evaluation.blas import one_thread
from zeroshot_cli.evaluation.classification import Item, Pipeline, nothing_read
from zeroshot_cli.models.engines.choose import TORCH
from zeroshot_cli.models.engines.tower import attach
from zeroshot_cli.models.loaded import LoadedModel

ITERATIONS = 1000
VALIDATION = 0.2  # of each class's training images, to choose C
WITHOUT_CHOICE = 0.316  # C where no class has images to spare, as in CLIP's own example

# log10 of C: the search continues around the best of these, in ever smaller steps, down to eight per decade.
_FIRST = (-6.0, -4.0, -2.0, 0.0, 2.0, 4.0, 6.0)
_FINEST = 0.125


class ProbeWarning(UserWarning):
    """Something that makes a probe's metrics doubtful."""


@dataclass(frozen=True, slots=True, eq=False)
class _Features:
    """Items of a data set, and of those that were read the features (images, features) and classes (images,)."""

    items: Sequence[Item]
    values: Floats
    targets: Ints


def fit_probe(
    train: LabelledImages,
    test: LabelledImages,
    model: LoadedModel,
    pipeline: Pipeline | None = None,
    *,
    seed: int = 0,
) -> Answers:
    """Train a probe and return what it answers for the test images; its scores are those of the decision function.

    The features are `frozen_features`, normalised. Training is scikit-learn's L-BFGS; C, between 1e-6 and 1e6, is
    chosen on a fifth of the training images, then all of them are trained on. The training images pass the pipeline
    first. Raises DataError where images or classes are missing; warns with ProbeWarning where a thousand iterations
    were too few, or test images were trained on.
    """
    if train.labels != test.labels:
        raise ValueError("the training images have other labels than those of the test")
    if seen := len({str(item) for item in train.items} & {str(item) for item in test.items}):
        message = f"{seen} of the {len(test)} images of {test.name} are also training images of the probe; use others"
        warnings.warn(message, ProbeWarning, stacklevel=2)
    items, values = (pipeline or Pipeline()).embed_all(frozen_features(model), (*train.items, *test.items))
    targets = np.array((*train.targets, *test.targets), dtype=np.int64)
    learned, asked = _parted(items, values, targets, len(train))
    _check(train, learned, test, asked)
    classes = np.unique(learned.targets)
    probe = _trained(learned, _best_c(learned, seed), seed, warn=True)
    scores, logs = _answers(probe, asked.values, classes, len(test.labels))
    part = graded(scores, logs, asked.targets)
    return Answers.of(test.labels.names, asked.items, np.array(test.targets, dtype=np.int64), [part])


def frozen_features(model: LoadedModel) -> LoadedModel:
    """Return the model without the projection into the common space, as in the paper.

    This works for our Vision Transformers; any other model is returned unchanged.
    """
    clip, config = model.model, model.config
    if not (isinstance(clip, CLIP) and isinstance(config, CLIPConfig) and isinstance(clip.visual, VisionTransformer)):
        return model
    width = clip.visual.proj.shape[0]
    visual, bare = _shallow(clip.visual), _shallow(clip)
    visual.proj = nn.Parameter(torch.eye(width).to(clip.visual.proj), requires_grad=False)
    bare.visual = visual
    fingerprint = hashlib.sha256(f"{model.fingerprint} before the projection".encode()).hexdigest()
    if model.engine != TORCH:
        attach(bare, model.engine, model.precision, fingerprint)
    return replace(model, model=bare, config=replace(config, embed_dim=width), known_fingerprint=fingerprint)


def _shallow(module: nn.Module) -> Any:
    """Return a copy that shares the parameters, some of which may then be replaced without changing the module."""
    other = copy.copy(module)
    other._parameters, other._modules = dict(module._parameters), dict(module._modules)
    return other


def _parted(items: Sequence[Item], values: Floats, targets: Ints, count: int) -> tuple[_Features, _Features]:
    """Return the features of the first `count` items, and of the others."""
    read = np.array([isinstance(item, str) for item in items], dtype=bool)
    cut = int(read[:count].sum())
    return (
        _Features(items[:count], values[:cut], targets[:count][read[:count]]),
        _Features(items[count:], values[cut:], targets[count:][read[count:]]),
    )


def _check(train: LabelledImages, learned: _Features, test: LabelledImages, asked: _Features) -> None:
    for dataset, features in ((train, learned), (test, asked)):
        if not len(features.targets):
            raise nothing_read(dataset, features.items)
    known = np.unique(learned.targets)
    if len(known) < 2:
        only = train.labels.names[known[0]]
        raise DataError(f"{train.name}: {only!r} is the only class to learn; add images of a second one")
    for target in np.setdiff1d(asked.targets, known):
        raise DataError(
            f"{train.name}: has no image of {train.labels.names[target]!r}, which {test.name} has; add some, or "
            "remove that class"
        )


def _best_c(features: _Features, seed: int) -> float:
    """Return the C with the highest accuracy on validation images; of equal ones, that with the lowest log loss."""
    held = _held_back(features.targets, np.random.default_rng(seed))
    if not held.any():
        return WITHOUT_CHOICE
    kept = _Features([], features.values[~held], features.targets[~held])
    classes, true = np.unique(kept.targets), features.targets[held]
    found: dict[float, tuple[float, float]] = {}

    def worth(exponent: float) -> tuple[float, float]:
        if exponent not in found:
            probe = _trained(kept, math.pow(10, exponent), seed)
            scores, logs = _answers(probe, features.values[held], classes, int(classes.max()) + 1)
            accuracy = float((scores.argmax(axis=1) == true).mean())
            found[exponent] = accuracy, float(logs[np.arange(len(true)), true].mean())
        return found[exponent]

    best, step = max(_FIRST, key=worth), 2.0
    while step > _FINEST:
        step /= 2
        best = max((each for each in (best - step, best, best + step) if abs(each) <= _FIRST[-1]), key=worth)
    return math.pow(10, best)


def _held_back(targets: Ints, rng: np.random.Generator) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Return which images are for validation: the same fraction of every class, and never all of its images."""
    held = np.zeros(len(targets), dtype=bool)
    for target in np.unique(targets):
        own = np.flatnonzero(targets == target)
        held[rng.permutation(own)[: round(VALIDATION * len(own))]] = True
    return held


def _trained(features: _Features, c: float, seed: int, *, warn: bool = False) -> Any:
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    probe = LogisticRegression(C=c, max_iter=ITERATIONS, random_state=seed)
    with warnings.catch_warnings(), one_thread():
        warnings.simplefilter("ignore", ConvergenceWarning)
        probe.fit(features.values.astype(np.float64), features.targets)
    if warn and int(probe.n_iter_.max()) >= ITERATIONS:
        warnings.warn(
            f"the probe's training did not converge in {ITERATIONS} iterations; its metrics may be too low",
            ProbeWarning,
            stacklevel=3,
        )
    return probe


def _answers(probe: Any, values: Floats, classes: Ints, count: int) -> tuple[Floats, Doubles]:
    """Return scores and log probabilities (images, classes); a class that was not learned is impossible."""
    from scipy.special import log_softmax

    decided: Doubles = probe.decision_function(values.astype(np.float64))
    # Not scikit-learn's own log probabilities: with a high C the probabilities under them round to zero.
    logits = decided
    if decided.ndim == 1:  # of two classes, and the logit is of the second
        decided, logits = (np.stack([first, decided], axis=1) for first in (-decided, np.zeros_like(decided)))
    scores = np.full((len(values), count), np.finfo(np.float32).min, dtype=np.float32)
    logs = np.full((len(values), count), -np.inf)
    scores[:, classes] = decided
    logs[:, classes] = log_softmax(logits, axis=1)
    return scores, logs
