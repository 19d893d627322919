"""Logistic regression that starts from the text weights and is held to them.

n examples, s classes with examples, e embedding
"""

from collections.abc import Sequence

import numpy as np

from zeroshot_cli.evaluation.answers import Doubles
from zeroshot_cli.tuning.corrections import Correction
from zeroshot_cli.tuning.examples import Examples
from zeroshot_cli.tuning.gda import Gaussians, paper_shrinkage

ITERATIONS = 15

_PENALTY = 200.0


def penalty_of(examples: int, classes: int) -> float:
    """Return the penalty that multiples are tried of: the more examples, the less they are held to the text."""
    return _PENALTY / (examples * classes)


def logistic_corrections(examples: Examples, found: Gaussians, strengths: Sequence[float]) -> list[Correction]:
    """Return what logistic regression adds to zero-shot logits, for each multiple of the penalty, largest first.

    A simplified form of LP++ (Huang et al., CVPR 2024, arXiv 2404.02285): class weights are scale × text + v, and what
    is minimised is the cross-entropy, in which every class counts alike however many examples it has, and penalty ×
    |v|² / 2, in coordinates in which the covariance of `found` is a unit sphere. L-BFGS starts from v = 0, which is
    zero-shot; a smaller penalty starts from what a larger one found.
    """
    from scipy.optimize import minimize

    shrinkage = paper_shrinkage(len(examples), examples.embeddings.shape[1])
    variances = (1 - shrinkage) * found.variances + shrinkage * found.variances.mean()
    turn = found.axes / np.sqrt(variances)
    middle = found.means.mean(axis=0)
    features = np.column_stack(((examples.embeddings - middle) @ turn, np.ones(len(examples)))).astype(np.float32)
    start = examples.logits[:, found.classes].astype(np.float32)
    own = np.searchsorted(found.classes, examples.targets)
    each = 1 / examples.counts[examples.targets]
    each *= len(each) / each.sum()
    shape, rows = (len(found.classes), features.shape[1]), np.arange(len(own))

    def loss(flat: Doubles, penalty: float) -> tuple[float, Doubles]:
        v = flat.reshape(shape)
        logits = start + features @ v.T.astype(np.float32)
        logits -= logits.max(axis=1, keepdims=True)
        odds = np.exp(logits)
        sums = odds.sum(axis=1)
        value = float((each * (np.log(sums) - logits[rows, own])).mean()) + penalty * float((v**2).sum()) / 2
        odds /= sums[:, None]
        odds[rows, own] -= 1
        odds *= each[:, None].astype(np.float32)
        return value, ((odds.T @ features).astype(np.float64) / len(rows) + penalty * v).ravel()

    corrections, v = [], np.zeros(shape[0] * shape[1])
    for strength in strengths:
        penalty = strength * penalty_of(len(examples), len(examples.texts))
        v = minimize(loss, v, (penalty,), "L-BFGS-B", jac=True, options={"maxiter": ITERATIONS}).x
        slopes, biases = v.reshape(shape)[:, :-1], v.reshape(shape)[:, -1]
        weights = slopes @ turn.T
        corrections.append(Correction(found.classes, weights, biases - weights @ middle, len(examples.texts)))
    return corrections
