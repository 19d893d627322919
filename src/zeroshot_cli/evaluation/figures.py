"""From answers to figures: what is right, how sure one may be of it, and where the mistakes are.

n images, c classes, b bins, r resamples
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from zeroshot_cli.evaluation.answers import Answers, Doubles, Ints
from zeroshot_cli.evaluation.metrics import bin_of, class_counts, expected_calibration_error, wilson

LEVEL = 0.95
BINS = 15  # of the confidence, as in Guo et al. 2017 (arXiv 1706.04599)
RESAMPLES = 1000
CONFUSED = 20  # pairs of classes

_AT_ONCE = 4_000_000  # numbers of resamples that are in memory at once

Interval = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Figures:
    """Figures and their 95 % intervals by name, a mapping for each class, and the pairs that are confused most."""

    metrics: dict[str, float]
    intervals: dict[str, Interval]
    per_class: tuple[dict[str, Any], ...]
    confused: tuple[dict[str, Any], ...]


@dataclass(frozen=True, slots=True, eq=False)
class Reliability:
    """How often answers of about equal confidence are right: edges (b + 1), the others (b,), NaN for an empty bin."""

    edges: Doubles
    counts: Ints
    confidence: Doubles
    accuracy: Doubles


def figures(answers: Answers, *, seed: int = 0) -> Figures:
    """Return the figures of at least one answer, and how far chance may have moved them.

    Of top-1, top-5 and a class's recall the intervals are Wilson's. Mean per-class recall, expected calibration error
    and log loss have those of a bootstrap over images, seeded, percentiles of a thousand resamples.
    """
    n, c = len(answers.targets), len(answers.labels)
    right = int(answers.right.sum())
    among_five = int((answers.ranks < min(5, c)).sum())
    losses = -answers.log_likelihoods
    resampled = _resampled(answers, losses, np.random.default_rng(seed))
    return Figures(
        metrics={
            "top1": right / n,
            "top5": among_five / n,
            "mean_per_class_recall": float(_mean_recall(answers)(np.ones((1, n)))[0]),
            "ece": expected_calibration_error(answers.confidences, answers.right, bins=BINS),
            "log_loss": float(losses.mean()),
        },
        intervals={"top1": wilson(right, n), "top5": wilson(among_five, n), **resampled},
        per_class=_per_class(answers),
        confused=_confused(answers),
    )


def confusion(answers: Answers) -> Ints:
    """Return how many images of a class (rows) got a class (columns), (c, c)."""
    c = len(answers.labels)
    return class_counts(answers.targets * c + answers.best[:, 0], c * c).reshape(c, c)


def reliability(answers: Answers, bins: int = BINS) -> Reliability:
    """Return confidence and accuracy in equally wide bins of the confidence, each without its lower edge."""
    places = bin_of(answers.confidences, bins)
    counts = class_counts(places, bins)

    def mean(values: npt.ArrayLike) -> Doubles:
        sums = np.bincount(places, weights=np.asarray(values, dtype=np.float64), minlength=bins)
        means: Doubles = np.divide(sums, counts, out=np.full(bins, np.nan), where=counts > 0)
        return means

    return Reliability(np.linspace(0, 1, bins + 1), counts, mean(answers.confidences), mean(answers.right))


def _per_class(answers: Answers) -> tuple[dict[str, Any], ...]:
    """Label, n, recall and its interval of every class; None, JSON's null, for a class without images."""
    c = len(answers.labels)
    counts = class_counts(answers.targets, c).tolist()
    hits = class_counts(answers.targets[answers.right], c).tolist()
    return tuple(
        {
            "label": label,
            "n": n,
            "recall": hit / n if n else None,
            "interval": wilson(hit, n) if n else None,
        }
        for label, n, hit in zip(answers.labels, counts, hits, strict=True)
    )


def _confused(answers: Answers) -> tuple[dict[str, Any], ...]:
    """The pairs of classes that were confused most, most first; of equal ones the lower indices first."""
    c = len(answers.labels)
    wrong = ~answers.right
    pairs, counts = np.unique(answers.targets[wrong] * c + answers.best[wrong, 0], return_counts=True)
    order = np.argsort(-counts, kind="stable")[:CONFUSED]
    return tuple(
        {
            "label": answers.labels[pair // c],
            "taken_for": answers.labels[pair % c],
            "n": int(count),
        }
        for pair, count in zip(pairs[order].tolist(), counts[order].tolist(), strict=True)
    )


# the bootstrap: how often each image is drawn, r resamples at a time


def _resampled(answers: Answers, losses: Doubles, rng: np.random.Generator) -> dict[str, Interval]:
    statistics: dict[str, Callable[[Doubles], Doubles]] = {
        "mean_per_class_recall": _mean_recall(answers),
        "ece": _calibration_error(answers),
        "log_loss": lambda weights: weights @ losses / len(losses),
    }
    n = len(losses)
    found: dict[str, list[Doubles]] = {name: [] for name in statistics}
    left = RESAMPLES
    while left:
        rows = min(left, max(1, _AT_ONCE // n))
        weights = rng.multinomial(n, np.full(n, 1 / n), size=rows).astype(np.float64)  # rn
        for name, statistic in statistics.items():
            found[name].append(statistic(weights))
        left -= rows
    tail = 50 * (1 - LEVEL)
    return {name: _percentiles(np.concatenate(parts), tail) for name, parts in found.items()}


def _percentiles(values: Doubles, tail: float) -> Interval:
    low, high = np.percentile(values, (tail, 100 - tail))
    return float(low), float(high)


def _mean_recall(answers: Answers) -> Callable[[Doubles], Doubles]:
    """The mean recall over classes with images, of weights rn of the images -> r."""
    order = np.argsort(answers.targets, kind="stable")
    starts = np.flatnonzero(np.diff(answers.targets[order], prepend=-1))
    right = answers.right[order].astype(np.float64)

    def mean(weights: Doubles) -> Doubles:
        sorted_weights = weights[:, order]
        drawn = np.add.reduceat(sorted_weights, starts, axis=1)  # of each class
        hits = np.add.reduceat(sorted_weights * right, starts, axis=1)
        recalls = np.divide(hits, drawn, out=np.full(drawn.shape, np.nan), where=drawn > 0)
        means: Doubles = np.nanmean(recalls, axis=1)
        return means

    return mean


def _calibration_error(answers: Answers) -> Callable[[Doubles], Doubles]:
    """The expected calibration error of weights rn of the images -> r."""
    places = bin_of(answers.confidences, BINS)
    gaps = answers.confidences - answers.right  # n
    members = np.zeros((len(gaps), BINS))
    members[np.arange(len(gaps)), places] = gaps
    return lambda weights: np.abs(weights @ members).sum(axis=1) / len(gaps)
