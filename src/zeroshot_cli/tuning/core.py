"""Tune a zero-shot classifier on labelled embeddings, or calibrate it."""

import numpy as np
import numpy.typing as npt

from zeroshot_cli.errors import DataError
from zeroshot_cli.evaluation.answers import Doubles, Floats, Ints
from zeroshot_cli.evaluation.blas import one_thread
from zeroshot_cli.evaluation.compare import compare_right
from zeroshot_cli.records import TuneMethod
from zeroshot_cli.tuning.calibration import calibrate_logits
from zeroshot_cli.tuning.examples import Examples
from zeroshot_cli.tuning.logistic import penalty_of
from zeroshot_cli.tuning.results import (
    Calibrated,
    Calibration,
    Candidate,
    ClassChange,
    CrossValidation,
    Share,
    Tuned,
    TuneSettings,
)
from zeroshot_cli.tuning.search import KINDS, Found, cut, fit, search, shrinkage_of


@one_thread()
def tune(
    embeddings: Floats,
    targets: npt.ArrayLike,
    texts: Floats,
    scale: float,
    settings: TuneSettings = TuneSettings(),  # noqa: B008  (it is frozen)
) -> Tuned:
    """Tune on embeddings (n, e) of class indices (n,), with text embeddings (c, e) and the model's logit scale.

    All embeddings are L2-normalised. Raises DataError for no example, fewer than two classes, examples of one class
    alone, or numbers that are not finite.
    """
    examples = Examples.of(embeddings, targets, texts, scale)
    if len(np.unique(examples.targets)) < 2:
        raise DataError("all examples have the same label, which teaches nothing; add examples of other labels")
    parts = cut(examples, settings.seed)
    methods = (TuneMethod.LOGISTIC, TuneMethod.GDA) if settings.method is TuneMethod.AUTO else (settings.method,)
    found = [search(examples, parts, method) for method in methods] if parts else []
    best = min(found, key=lambda each: each.log_loss, default=None)
    if best is None:
        method, (strength, alpha) = methods[0], KINDS[methods[0]].default(examples)
        candidates: tuple[Candidate, ...] = (_candidate(examples, method, strength, alpha),)
    else:
        method, strength, alpha = best.method, best.strength, best.alpha
        candidates = tuple(_candidate(examples, each.method, each.strength, each.alpha, each) for each in found)
    weights, biases = fit(examples, method, strength, alpha)
    calibration = None if best is None else _calibrated(examples, best.rows, best.logits, settings)
    return Tuned(
        weights=(weights / scale).astype(np.float32),
        bias=(biases / scale).astype(np.float32),
        temperature=(1.0 if calibration is None else calibration.temperature) / scale,
        chosen=next(each for each in candidates if each.method is method),
        candidates=candidates,
        counts=examples.counts,
        cross_validation=None if best is None else _cross_validation(examples, best, len(parts)),
        calibration=calibration,
    )


@one_thread()
def calibrate(
    embeddings: Floats,
    targets: npt.ArrayLike,
    texts: Floats,
    scale: float,
    settings: TuneSettings = TuneSettings(),  # noqa: B008
) -> Calibrated:
    """Find a temperature, and thresholds if asked for, of a zero-shot classifier; takes and raises what `tune` does."""
    examples = Examples.of(embeddings, targets, texts, scale)
    calibration = _calibrated(examples, np.arange(len(examples)), examples.logits, settings)
    accuracy = _right(examples.logits, examples.targets)
    return Calibrated(calibration.temperature / scale, accuracy, examples.counts, calibration)


def _cross_validation(examples: Examples, found: Found, number: int) -> CrossValidation:
    """Return the figures of held-out examples, zero-shot and tuned."""
    rows = found.rows
    targets, before = examples.targets[rows], examples.logits[rows]
    right_before, right = before.argmax(axis=1) == targets, found.logits.argmax(axis=1) == targets
    counts: list[Ints] = [
        np.bincount(targets[chosen], minlength=len(examples.texts)).astype(np.int64)
        for chosen in (slice(None), right_before, right)
    ]
    return CrossValidation(
        folds=number,
        zero_shot=Share(int(right_before.sum()), len(rows)),
        tuned=Share(int(right.sum()), len(rows)),
        comparison=compare_right(right, right_before),
        per_class=tuple(
            ClassChange(index, int(n), int(zero_shot), int(tuned))
            for index, (n, zero_shot, tuned) in enumerate(zip(*counts, strict=True))
            if n
        ),
    )


def _candidate(
    examples: Examples, method: TuneMethod, strength: float, alpha: float, found: Found | None = None
) -> Candidate:
    n, width, classes = *examples.embeddings.shape, len(examples.texts)
    return Candidate(
        method,
        alpha,
        shrinkage_of(n, width, strength) if method is TuneMethod.GDA else strength * penalty_of(n, classes),
        None if found is None else _right(found.logits, examples.targets[found.rows]),
        None if found is None else found.log_loss,
    )


def _right(logits: Doubles, targets: Ints) -> Share:
    return Share(int((logits.argmax(axis=1) == targets).sum()), len(targets))


def _calibrated(examples: Examples, rows: Ints, logits: Doubles, settings: TuneSettings) -> Calibration:
    before, targets = examples.logits[rows], examples.targets[rows]
    return calibrate_logits(logits, before, targets, seed=settings.seed, precision=settings.target_precision)
