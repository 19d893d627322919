"""Tune a zero-shot classifier on labelled embeddings, or calibrate it."""

import numpy as np
import numpy.typing as npt

from zeroshot_cli.evaluation.answers import Floats, Ints
from zeroshot_cli.evaluation.compare import compare_right
from zeroshot_cli.tune.calibration import calibrate_logits
from zeroshot_cli.tune.examples import FEW, FOLDS, FOLDS_OF_FEW, Examples
from zeroshot_cli.tune.results import (
    Calibrated,
    Candidate,
    ClassChange,
    CrossValidation,
    Method,
    Share,
    Tuned,
    TuneSettings,
)
from zeroshot_cli.tune.search import (
    DEFAULT_ALPHA,
    DEFAULT_RIDGE,
    Found,
    fuse,
    gda_corrections,
    search_gda,
    shrinkage_of,
)


def tune(
    embeddings: Floats,
    targets: npt.ArrayLike,
    texts: Floats,
    scale: float,
    settings: TuneSettings = TuneSettings(),  # noqa: B008  (it is frozen)
) -> Tuned:
    """Tune on embeddings (n, e) of class indices (n,), with text embeddings (c, e) and the model's logit scale.

    All embeddings are L2-normalised. Raises DataError for no example, fewer than two classes, or numbers that are not
    finite.
    """
    examples = Examples.of(embeddings, targets, texts, scale)
    found = search_gda(examples, settings.seed)
    ridge, alpha = (DEFAULT_RIDGE, DEFAULT_ALPHA) if found is None else (found.strength, found.alpha)
    (correction,) = gda_corrections(examples, (ridge,))
    weights, biases = fuse(correction, alpha, examples)
    validated = None if found is None else cross_validation(examples, found)
    candidate = Candidate(
        Method.GDA,
        alpha,
        shrinkage_of(len(examples), examples.embeddings.shape[1], ridge),
        None if validated is None else validated.tuned,
        None if found is None else found.log_loss,
    )
    calibration = None
    if found is not None:
        rows = found.rows
        calibration = calibrate_logits(
            found.logits,
            examples.logits[rows],
            examples.targets[rows],
            seed=settings.seed,
            precision=settings.target_precision,
        )
    return Tuned(
        weights=(weights / scale).astype(np.float32),
        bias=(biases / scale).astype(np.float32),
        temperature=(1.0 if calibration is None else calibration.temperature) / scale,
        chosen=candidate,
        candidates=(candidate,),
        counts=examples.counts,
        cross_validation=validated,
        calibration=calibration,
    )


def calibrate(
    embeddings: Floats,
    targets: npt.ArrayLike,
    texts: Floats,
    scale: float,
    settings: TuneSettings = TuneSettings(),  # noqa: B008
) -> Calibrated:
    """Find a temperature, and thresholds if asked for, of a zero-shot classifier; takes and raises what `tune` does."""
    examples = Examples.of(embeddings, targets, texts, scale)
    calibration = calibrate_logits(
        examples.logits,
        examples.logits,
        examples.targets,
        seed=settings.seed,
        precision=settings.target_precision,
    )
    accuracy = Share(int((examples.logits.argmax(axis=1) == examples.targets).sum()), len(examples))
    return Calibrated(calibration.temperature / scale, accuracy, examples.counts, calibration)


def cross_validation(examples: Examples, found: Found) -> CrossValidation:
    """Return the figures of held-out examples, zero-shot and tuned."""
    rows = found.rows
    targets, before = examples.targets[rows], examples.logits[rows]
    right_before, right = before.argmax(axis=1) == targets, found.logits.argmax(axis=1) == targets
    counts: list[Ints] = [
        np.bincount(targets[chosen], minlength=len(examples.texts)).astype(np.int64)
        for chosen in (slice(None), right_before, right)
    ]
    return CrossValidation(
        folds=min(FOLDS_OF_FEW if len(rows) < FEW else FOLDS, len(rows)),
        rows=rows,
        scores=(found.logits / examples.scale).astype(np.float32),
        zero_shot_scores=(before / examples.scale).astype(np.float32),
        zero_shot=Share(int(right_before.sum()), len(rows)),
        tuned=Share(int(right.sum()), len(rows)),
        comparison=compare_right(right, right_before),
        per_class=tuple(
            ClassChange(index, int(n), int(zero_shot), int(tuned))
            for index, (n, zero_shot, tuned) in enumerate(zip(*counts, strict=True))
            if n
        ),
    )
