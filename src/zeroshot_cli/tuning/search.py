"""Cross-validation: which strength and alpha a method has, chosen on the examples alone."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from zeroshot_cli.evaluation.answers import Doubles, Ints
from zeroshot_cli.records import TuneMethod
from zeroshot_cli.tuning.calibration import fit_temperature
from zeroshot_cli.tuning.corrections import Correction
from zeroshot_cli.tuning.examples import Examples, folds
from zeroshot_cli.tuning.gda import Gaussians, gaussians, paper_shrinkage
from zeroshot_cli.tuning.logistic import logistic_corrections

_CLOSE = 0.1  # of the logarithm of a temperature, while settings are compared
_GROUPS = 10  # of classes that are kept back in turn


@dataclass(frozen=True, slots=True, eq=False)
class Fold:
    """The examples that are learned from, their Gaussians, and those that are judged, with their rows among all."""

    learned: Examples
    gaussians: Gaussians
    judged: Examples
    rows: Ints


def cut(examples: Examples, seed: int) -> list[Fold]:
    """Cut the examples into folds; what the methods share is computed here, once."""
    parts = [(examples.at(learned), examples.at(judged), judged) for learned, judged in folds(examples, seed)]
    return [
        Fold(learned, gaussians(learned.embeddings, learned.targets), judged, rows) for learned, judged, rows in parts
    ]


@dataclass(frozen=True, slots=True)
class Kind:
    """What a method may have: `default` gives the strength and alpha where nothing can be compared.

    `correct` takes examples, their Gaussians and strengths. These are multiples: of the paper's ridge for GDA, of
    `penalty_of` for the logistic regression.
    """

    correct: Callable[[Examples, Gaussians, Sequence[float]], list[Correction]]
    strengths: tuple[float, ...]
    alphas: tuple[float, ...]
    default: Callable[[Examples], tuple[float, float]]


@dataclass(frozen=True, slots=True, eq=False)
class Found:
    """The best settings of a method, and the logits (m, c) that held-out examples `rows` (m,) have with them."""

    method: TuneMethod
    strength: float
    alpha: float
    rows: Ints
    logits: Doubles
    log_loss: float


def search(examples: Examples, parts: Sequence[Fold], method: TuneMethod) -> Found:
    """Return the settings with the least log loss of held-out examples, each at its best temperature."""
    kind = KINDS[method]
    rows = np.concatenate([part.rows for part in parts])
    targets = examples.targets[rows]
    corrections = [kind.correct(part.learned, part.gaussians, kind.strengths) for part in parts]
    leads = leads_of_unseen(examples, method, kind.strengths, kind.alphas)
    best: Found | None = None
    for place, strength in enumerate(kind.strengths):
        added = [each[place].of(part.judged.embeddings) for each, part in zip(corrections, parts, strict=True)]
        for alpha, lead in zip(kind.alphas, leads[place].tolist(), strict=True):
            blocks = [
                each[place].add_to(part.judged.logits, alpha * theirs, lead)
                for each, theirs, part in zip(corrections, added, parts, strict=True)
            ]
            logits = np.concatenate(blocks)
            _, loss = fit_temperature(logits, targets, tolerance=_CLOSE)
            if best is None or loss < best.log_loss:
                best = Found(method, strength, alpha, rows, logits, loss)
    assert best is not None
    return best


def fit(examples: Examples, method: TuneMethod, strength: float, alpha: float) -> tuple[Doubles, Doubles]:
    """Return the weights (c, e) and biases (c,) of logits: zero-shot plus alpha times what the method learns."""
    estimated = gaussians(examples.embeddings, examples.targets)
    (found,) = KINDS[method].correct(examples, estimated, (strength,))
    scaled = replace(found, weights=alpha * found.weights, biases=alpha * found.biases)
    weights, biases = scaled.extended(float(leads_of_unseen(examples, method, (strength,), (alpha,))[0, 0]))
    return examples.scale * examples.texts + weights, biases


def leads_of_unseen(
    examples: Examples, method: TuneMethod, strengths: Sequence[float], alphas: Sequence[float]
) -> Doubles:
    """Return how far classes without examples are raised over the mean of the others, (strengths, alphas).

    Else the images of such a class would go to whichever other class happens to be raised most. Some classes at a time
    are kept back, and the lead is that with which as many of their examples are right as were zero-shot.
    """
    leads = np.zeros((len(strengths), len(alphas)))
    known = np.unique(examples.targets)
    if len(known) == len(examples.texts) or len(known) < 3:  # of one other class the mean is its own
        return leads
    shortfalls: list[Doubles] = []  # (strengths, alphas, images): by how much each would be beaten
    right = 0
    for group in range(min(_GROUPS, len(known))):
        away = np.isin(examples.targets, known[group::_GROUPS])
        learned, judged = examples.at(np.flatnonzero(~away)), examples.at(np.flatnonzero(away))
        corrections = KINDS[method].correct(learned, gaussians(learned.embeddings, learned.targets), strengths)
        others = judged.logits[:, corrections[0].classes]
        own = judged.logits[np.arange(len(judged)), judged.targets]
        right += int((own > others.max(axis=1)).sum())
        added = [correction.of(judged.embeddings) for correction in corrections]
        shortfalls.append(
            np.array(
                [
                    [(others + alpha * each).max(axis=1) - own - alpha * each.mean(axis=1) for alpha in alphas]
                    for each in added
                ]
            )
        )
    together = np.concatenate(shortfalls, axis=2)
    return np.asarray(np.quantile(together, right / len(examples), axis=2), dtype=np.float64)


def gda_corrections(examples: Examples, found: Gaussians, ridges: Sequence[float]) -> list[Correction]:
    """Return the discriminants of the examples' Gaussians, for multiples of the paper's ridge."""
    corrections = []
    for ridge in ridges:
        weights, biases = found.discriminants(shrinkage_of(len(examples), examples.embeddings.shape[1], ridge))
        corrections.append(
            Correction(found.classes, found.unbiased * weights, found.unbiased * biases, len(examples.texts))
        )
    return corrections


def shrinkage_of(examples: int, width: int, ridge: float) -> float:
    """Return a shrinkage whose ridge is a multiple of the paper's."""
    paper = paper_shrinkage(examples, width)
    return ridge * paper / (1 - paper + ridge * paper)


KINDS = {
    TuneMethod.GDA: Kind(
        gda_corrections,
        strengths=(0.25, 1.0, 4.0, 16.0),
        alphas=(0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0),
        default=lambda examples: (1.0, 0.003),
    ),
    TuneMethod.LOGISTIC: Kind(
        logistic_corrections,
        strengths=(10.0, 3.0, 1.0, 0.3),
        alphas=(1.0,),
        # So an example moves its class as far among a thousand as among ten.
        default=lambda examples: (float(len(examples.texts)), 1.0),
    ),
}
