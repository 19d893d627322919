"""Cross-validation: which strength and alpha a method has, chosen on the examples alone."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from zeroshot_cli.evaluation.answers import Doubles, Ints
from zeroshot_cli.tune.calibration import fit_temperature
from zeroshot_cli.tune.corrections import Correction, lead_of_rivals
from zeroshot_cli.tune.examples import Examples, folds
from zeroshot_cli.tune.gda import gaussians, paper_shrinkage

RIDGES = (0.25, 1.0, 4.0, 16.0)  # times the paper's
ALPHAS = (0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0)
DEFAULT_RIDGE = 1.0
DEFAULT_ALPHA = 0.01  # where every class has one example

_CLOSE = 0.05  # of the logarithm of a temperature, while settings are compared


@dataclass(frozen=True, slots=True, eq=False)
class Found:
    """The best settings of a method, and the logits (m, c) that held-out examples `rows` (m,) have with them."""

    strength: float
    alpha: float
    rows: Ints
    logits: Doubles
    log_loss: float


def gda_corrections(examples: Examples, ridges: Sequence[float] = RIDGES) -> list[Correction]:
    """Return the discriminants of the examples' Gaussians, for multiples of the paper's shrinkage."""
    found = gaussians(examples.embeddings, examples.targets)
    corrections = []
    for ridge in ridges:
        weights, biases = found.discriminants(shrinkage_of(len(examples), examples.embeddings.shape[1], ridge))
        unbiased = found.unbiased
        corrections.append(Correction(found.classes, unbiased * weights, unbiased * biases, len(examples.texts)))
    return corrections


def shrinkage_of(examples: int, width: int, ridge: float) -> float:
    """Return a shrinkage whose ridge is a multiple of the paper's."""
    paper = paper_shrinkage(examples, width)
    return ridge * paper / (1 - paper + ridge * paper)


def fuse(correction: Correction, alpha: float, examples: Examples) -> tuple[Doubles, Doubles]:
    """Return the weights (c, e) and biases (c,) of logits: zero-shot plus alpha times the correction."""
    scaled = Correction(correction.classes, alpha * correction.weights, alpha * correction.biases, correction.total)
    lead = 0.0
    if len(scaled.classes) < scaled.total:
        known = examples.logits[:, scaled.classes]
        lead = lead_of_rivals(known, scaled.of(examples.embeddings), examples, scaled.classes)
    weights, biases = scaled.extended(lead)
    return examples.scale * examples.texts + weights, biases


def search_gda(examples: Examples, seed: int) -> Found | None:
    """Choose shrinkage and alpha by the log loss of held-out examples, or None where there are no folds."""
    parts = [(rows, judged, gda_corrections(examples.at(rows))) for rows, judged in folds(examples, seed)]
    if not parts:
        return None
    rows = np.concatenate([judged for _, judged, _ in parts])
    targets = examples.targets[rows]
    best: Found | None = None
    for place, ridge in enumerate(RIDGES):
        for alpha in ALPHAS:
            blocks = []
            for learned, judged, corrections in parts:
                weights, biases = fuse(corrections[place], alpha, examples.at(learned))
                blocks.append(examples.embeddings[judged] @ weights.T + biases)
            logits = np.concatenate(blocks)
            _, loss = fit_temperature(logits, targets, tolerance=_CLOSE)
            if best is None or loss < best.log_loss:
                best = Found(ridge, alpha, rows, logits, loss)
    return best
