"""The metrics of a classification: how much is right, how certain that is, and where the mistakes are."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from zeroshot_cli.evaluation.answers import Answers, Doubles, Ints

LEVEL = 0.95
BINS = 15  # of confidence, as in Guo et al. 2017 (arXiv 1706.04599)
RESAMPLES = 1000
CONFUSED = 20  # pairs of classes

_AT_ONCE = 4_000_000  # numbers of resamples in memory at once

Interval = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Figures:
    """Metrics and their 95 % intervals by name, a mapping per class, and the pairs of classes confused most."""

    metrics: dict[str, float]
    intervals: dict[str, Interval]
    per_class: tuple[dict[str, Any], ...]
    confused: tuple[dict[str, Any], ...]


@dataclass(frozen=True, slots=True, eq=False)
class Reliability:
    """How often answers of similar confidence are right: edges (bins + 1,), the rest (bins,), NaN for an empty bin."""

    edges: Doubles
    counts: Ints
    confidence: Doubles
    accuracy: Doubles


def figures(answers: Answers, *, seed: int = 0) -> Figures:
    """Return the metrics of at least one answer, and how far chance may have moved them.

    With groups, top-1 at a level is of the most probable groups there, as `top1_level1` is at the topmost. The
    intervals of top-1, top-5 and a class's recall are Wilson's; those of mean per-class recall, calibration error
    and log loss are percentiles of a seeded bootstrap, a thousand resamples of the images.
    """
    n, c = len(answers.targets), len(answers.labels)
    right = int(answers.right.sum())
    among_five = int((answers.ranks < min(5, c)).sum())
    losses = -answers.log_likelihoods
    at_levels = {f"top1_level{n}": int(answers.right_at[:, i].sum()) for i, n in enumerate(answers.levels)}
    resampled = _resampled(answers, losses, np.random.default_rng(seed))
    return Figures(
        metrics={
            "top1": right / n,
            **{name: hits / n for name, hits in at_levels.items()},
            "top5": among_five / n,
            "mean_per_class_recall": float(_mean_recall(answers)(np.ones((1, n)))[0]),
            "ece": expected_calibration_error(answers.confidences, answers.right, bins=BINS),
            "log_loss": float(losses.mean()),
        },
        intervals={
            "top1": wilson(right, n),
            **{name: wilson(hits, n) for name, hits in at_levels.items()},
            "top5": wilson(among_five, n),
            **resampled,
        },
        per_class=_per_class(answers),
        confused=_confused(answers),
    )


def confusion(answers: Answers) -> Ints:
    """Return how many images of a class (rows) were labelled as a class (columns), (classes, classes)."""
    c = len(answers.labels)
    return class_counts(answers.targets * c + answers.best[:, 0], c * c).reshape(c, c)


def reliability(answers: Answers, bins: int = BINS) -> Reliability:
    """Return confidence and accuracy in equally wide bins of the confidence, each excluding its lower edge."""
    return reliability_of(answers.confidences, answers.right, bins)


def reliability_of(confidences: Doubles, right: npt.NDArray[np.bool_], bins: int = BINS) -> Reliability:
    """Return the same of confidences (images,), and whether these answers are right (images,)."""
    places = bin_of(confidences, bins)
    counts = class_counts(places, bins)

    def mean(values: npt.ArrayLike) -> Doubles:
        sums = np.bincount(places, weights=np.asarray(values, dtype=np.float64), minlength=bins)
        means: Doubles = np.divide(sums, counts, out=np.full(bins, np.nan), where=counts > 0)
        return means

    return Reliability(np.linspace(0, 1, bins + 1), counts, mean(confidences), mean(right))


def _per_class(answers: Answers) -> tuple[dict[str, Any], ...]:
    """Return label, n, recall and its interval of every class; None for a class without images."""
    c = len(answers.labels)
    counts = class_counts(answers.targets, c).tolist()
    hits = class_counts(answers.targets[answers.right], c).tolist()
    return tuple(
        {"label": label, "n": n, "recall": hit / n if n else None, "interval": wilson(hit, n) if n else None}
        for label, n, hit in zip(answers.labels, counts, hits, strict=True)
    )


def _confused(answers: Answers) -> tuple[dict[str, Any], ...]:
    """Return the pairs of classes that were confused most, most first; of equal ones the lower indices first."""
    c = len(answers.labels)
    wrong = ~answers.right
    pairs, counts = np.unique(answers.targets[wrong] * c + answers.best[wrong, 0], return_counts=True)
    order = np.argsort(-counts, kind="stable")[:CONFUSED]
    return tuple(
        {"label": answers.labels[pair // c], "taken_for": answers.labels[pair % c], "n": int(count)}
        for pair, count in zip(pairs[order].tolist(), counts[order].tolist(), strict=True)
    )


def figures_of_answered(answers: Answers, thresholds: Doubles) -> tuple[dict[str, float], dict[str, Interval]]:
    """Return the share of images that are not unknown, the share of these that are right, and their intervals.

    An answer of a class is unknown under the class's probability in `thresholds` (classes,). Without any answer there
    is no precision.
    """
    kept = answers.confidences >= thresholds[answers.best[:, 0]]
    counts = {"answered": (int(kept.sum()), len(kept))}
    if kept.any():
        counts["precision"] = (int(answers.right[kept].sum()), int(kept.sum()))
    return {name: hits / n for name, (hits, n) in counts.items()}, {
        name: wilson(*each) for name, each in counts.items()
    }


# metrics of ranks and confidences


def top_k_accuracy(ranks: npt.ArrayLike, k: int) -> float:
    """Return the fraction of images whose true class is among the best k; `ranks` (images,) count from 0."""
    if k < 1:
        raise ValueError(f"k must be 1 or more, not {k}")
    places = np.asarray(ranks, dtype=np.int64)
    if not places.size:
        raise ValueError("no image, so there is no metric")
    return float(np.mean(places < k))


def class_counts(targets: npt.ArrayLike, classes: int) -> Ints:
    """Return how many images each class has, (classes,)."""
    counts: Ints = np.bincount(np.asarray(targets, dtype=np.int64), minlength=classes).astype(np.int64)
    return counts


def expected_calibration_error(confidences: npt.ArrayLike, right: npt.ArrayLike, bins: int = BINS) -> float:
    """Return the mean distance of confidence and accuracy over equally wide bins, weighted by their images.

    `confidences` (images,) of the best class, from 0 to 1; `right` (images,) whether it is the true one. A bin excludes
    its lower edge, except the first. Guo et al. 2017 (arXiv 1706.04599), equation 3.
    """
    sure, truth = np.asarray(confidences, dtype=np.float64), np.asarray(right, dtype=np.float64)
    if not sure.size:
        raise ValueError("no image, so there is no metric")
    gaps = np.bincount(bin_of(sure, bins), weights=sure - truth, minlength=bins)
    return float(np.abs(gaps).sum() / len(sure))


def bin_of(confidences: Doubles, bins: int) -> Ints:
    """Return the bin of each confidence (images,), from 0: bin i holds what is over i/bins, up to its upper edge."""
    places: Ints = (np.ceil(confidences * bins).astype(np.int64) - 1).clip(0, bins - 1)
    return places


def wilson(hits: int, n: int, level: float = LEVEL) -> Interval:
    """Return Wilson's interval of a fraction, `hits` of `n`."""
    from scipy.stats import binomtest

    interval = binomtest(hits, n).proportion_ci(level, method="wilson")
    return float(interval.low), float(interval.high)


# the bootstrap; weights (resamples, images) say how often each image is drawn


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
        weights = rng.multinomial(n, np.full(n, 1 / n), size=rows).astype(np.float64)
        for name, statistic in statistics.items():
            found[name].append(statistic(weights))
        left -= rows
    tail = 50 * (1 - LEVEL)
    bounds = {name: np.percentile(np.concatenate(parts), (tail, 100 - tail)) for name, parts in found.items()}
    return {name: (float(low), float(high)) for name, (low, high) in bounds.items()}


def _mean_recall(answers: Answers) -> Callable[[Doubles], Doubles]:
    """Return a function from weights (resamples, images) to the mean recall over classes with images, (resamples,)."""
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
    """Return a function from weights (resamples, images) to the expected calibration error, (resamples,)."""
    places = bin_of(answers.confidences, BINS)
    gaps = answers.confidences - answers.right
    members = np.zeros((len(gaps), BINS))
    members[np.arange(len(gaps)), places] = gaps
    return lambda weights: np.abs(weights @ members).sum(axis=1) / len(gaps)
