"""A temperature that makes probabilities true, and thresholds under which an answer is unknown.

n images, c classes
"""

import numpy as np

from zeroshot_cli.classify.scoring import softmax
from zeroshot_cli.evaluation.answers import Doubles, Ints
from zeroshot_cli.evaluation.metrics import expected_calibration_error, reliability_of
from zeroshot_cli.tuning.results import Calibration, Share

FOLDS = 5
POOLED = 20.0  # answers that those of all other labels count as, beside a label's own

_LOGS = (-7.0, 7.0)  # of the factor on logits


def fit_temperature(
    logits: Doubles, targets: Ints, *, tolerance: float = 1e-3, doubt: float = 0.0
) -> tuple[float, float]:
    """Return the temperature with the least log loss of softmax(logits (n, c) / temperature), and that loss.

    Guo et al. 2017 (arXiv 1706.04599), section 4.2; the loss is convex in the inverse of the temperature. `doubt` is
    the probability that an image is of its best other class: without any, the more logits are multiplied the better
    where all images are right, and every answer would have a probability of 1.
    """
    from scipy.optimize import minimize_scalar

    rows = np.arange(len(targets))
    leads = logits - logits[rows, targets][:, None]
    most = leads.max(axis=1)
    under = (leads - most[:, None]).astype(np.float32)  # half the time of float64, and exact enough
    leads[rows, targets] = -np.inf
    doubted = doubt * leads.max(axis=1).mean() if doubt else 0.0

    def loss(log_factor: float) -> float:
        factor = np.exp(log_factor)
        with np.errstate(over="ignore"):  # to minus infinity, the probability of which is 0
            sums = np.exp(np.float32(factor) * under).sum(axis=1, dtype=np.float64)
        return float((factor * most + np.log(sums)).mean() - factor * doubted)

    found = minimize_scalar(loss, bounds=_LOGS, method="bounded", options={"xatol": tolerance})
    return float(np.exp(-found.x)), float(found.fun)


def fit_thresholds(confidences: Doubles, given: Ints, right: Ints, classes: int, precision: float) -> Doubles:
    """Return the probability that an answer of each class must reach, (c,), for answers to be right that often.

    `confidences` (n,) are probabilities of the labels `given` (n,), `right` (n,) whether these are true. A threshold is
    the lowest at which (wrong + 1) / (answered + 1) is small enough: the one more is for the image to come, as in
    conformal risk control (arXiv 2208.02814). A label's own answers are joined by those of all others, which together
    weigh as much as `POOLED` answers; so labels with few answers have the threshold of all. Infinite where none is
    enough: a probability may be 1 by rounding.
    """
    order = np.argsort(-confidences, kind="stable")
    levels, wrong = confidences[order], 1.0 - right[order]
    last = np.append(levels[1:] < levels[:-1], True)  # of equal confidences all are kept, or none
    all_wrong, all_answered = wrong.cumsum(), np.arange(1, len(levels) + 1)
    thresholds = np.full(classes, np.inf)
    for index in range(classes):
        own = given[order] == index
        own_wrong, own_answered = (wrong * own).cumsum(), own.cumsum()
        others = all_answered - own_answered + 1
        weight = np.minimum(POOLED, others)
        pooled = weight * (all_wrong - own_wrong + 1) / others
        enough = np.flatnonzero(last & ((own_wrong + pooled) / (own_answered + weight) <= 1 - precision))
        if len(enough):
            thresholds[index] = levels[enough[-1]]
    return thresholds


def calibrate_logits(
    logits: Doubles, zero_shot: Doubles, targets: Ints, *, seed: int, precision: float | None = None
) -> Calibration:
    """Fit temperature and thresholds to logits (n, c) that have not seen the true classes `targets` (n,).

    What is said of them is cross-fitted: the examples are split once more, and each part is judged with what the others
    say. `zero_shot` (n, c) are the logits before, at the model's own temperature.
    """
    classes = logits.shape[1]
    temperature = _sober_temperature(logits, targets)
    given, right = logits.argmax(axis=1), logits.argmax(axis=1) == targets
    confidences, kept = np.zeros(len(targets)), np.zeros(len(targets), dtype=bool)
    parts = np.random.default_rng(seed).permutation(len(targets)) % min(FOLDS, len(targets))
    for part in np.unique(parts):
        others, judged = parts != part, parts == part
        if not others.any():  # one example alone
            others = judged
        fitted = _sober_temperature(logits[others], targets[others])
        confidences[judged] = softmax(logits[judged] / fitted).max(axis=1)
        if precision is not None:
            sure = softmax(logits[others] / fitted).max(axis=1)
            least = fit_thresholds(sure, given[others], right[others], classes, precision)
            kept[judged] = confidences[judged] >= least[given[judged]]
    before, was_right = softmax(zero_shot).max(axis=1), zero_shot.argmax(axis=1) == targets
    sure = softmax(logits / temperature).max(axis=1)
    return Calibration(
        temperature=temperature,
        before=reliability_of(before, was_right),
        after=reliability_of(confidences, right),
        ece_before=expected_calibration_error(before, was_right),
        ece_after=expected_calibration_error(confidences, right),
        target_precision=precision,
        thresholds=None if precision is None else fit_thresholds(sure, given, right, classes, precision),
        answered=None if precision is None else Share(int(kept.sum()), len(kept)),
        precision=None if precision is None else Share(int(right[kept].sum()), int(kept.sum())),
    )


def _sober_temperature(logits: Doubles, targets: Ints) -> float:
    """Return the temperature of logits (n, c) if one image of n + 2 is doubtful, as in Platt 1999, section 2.2."""
    return fit_temperature(logits, targets, doubt=1 / (len(targets) + 2))[0]
