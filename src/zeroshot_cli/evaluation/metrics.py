"""Figures of a classification, as pure numpy functions of the rank that each image's true class got.

Legend: n images, c classes. Ranks are all that has to be kept: n small integers where the scores are n x c floats.
"""

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


def true_class_ranks(scores: npt.ArrayLike, targets: npt.ArrayLike) -> Ints:
    """Return the place of each image's true class among all classes, 0 for the best.

    `scores` is (n, c), higher is better, and finite; `targets` is (n,), class indices. Of classes with equal
    scores the one with the lower index comes first, as everywhere in this package.
    ValueError for NaN, which compares as neither higher nor lower and would count as right.
    """
    table, truth = np.asarray(scores), np.asarray(targets, dtype=np.int64)
    if table.ndim != 2 or truth.shape != table.shape[:1]:
        raise ValueError(f"scores {table.shape} and targets {truth.shape} do not belong together")
    if not np.isfinite(table).all():
        raise ValueError("scores must be finite numbers")
    if truth.size and not (truth.min() >= 0 and truth.max() < table.shape[1]):
        raise ValueError(f"targets must be class indices under {table.shape[1]}")
    own = np.take_along_axis(table, truth[:, None], axis=1)  # n1
    earlier = np.arange(table.shape[1])[None, :] < truth[:, None]  # nc
    ahead = (table > own) | ((table == own) & earlier)  # nc
    ranks: Ints = ahead.sum(axis=1, dtype=np.int64)
    return ranks


def top_k_accuracy(ranks: npt.ArrayLike, k: int) -> float:
    """Return the fraction of images whose true class is among the best k; ranks as from `true_class_ranks`."""
    if k < 1:
        raise ValueError(f"k must be 1 or more, not {k}")
    places = _not_empty(ranks)
    return float(np.mean(places < k))


def class_counts(targets: npt.ArrayLike, classes: int) -> Ints:
    """Return how many images each class has, (c,)."""
    counts: Ints = np.bincount(np.asarray(targets, dtype=np.int64), minlength=classes).astype(np.int64)
    return counts


def per_class_recall(ranks: npt.ArrayLike, targets: npt.ArrayLike, classes: int) -> Floats:
    """Return for each class the fraction of its images that got it as best label, (c,); NaN without images."""
    truth = np.asarray(targets, dtype=np.int64)
    hits = class_counts(truth[np.asarray(ranks) == 0], classes)
    counts = class_counts(truth, classes)
    recalls: Floats = np.divide(hits, counts, out=np.full(classes, np.nan), where=counts > 0)
    return recalls


def mean_per_class_recall(ranks: npt.ArrayLike, targets: npt.ArrayLike, classes: int) -> float:
    """Return the mean of `per_class_recall` over the classes that have images (the balanced accuracy)."""
    _not_empty(ranks)
    return float(np.nanmean(per_class_recall(ranks, targets, classes)))


def _not_empty(ranks: npt.ArrayLike) -> Ints:
    places = np.asarray(ranks, dtype=np.int64)
    if not places.size:
        raise ValueError("no image, so there is no figure")
    return places


def expected_calibration_error(confidences: npt.ArrayLike, right: npt.ArrayLike, bins: int = 15) -> float:
    """Return the mean distance of confidence and accuracy over equally wide bins, weighed by their images.

    `confidences` (n,) of the best class, from 0 to 1; `right` (n,) whether it is the true one. A bin is without its
    lower edge, but for the first. Guo et al. 2017 (arXiv 1706.04599), equation 3.
    """
    sure, truth = np.asarray(confidences, dtype=np.float64), np.asarray(right, dtype=np.float64)
    if not sure.size:
        raise ValueError("no image, so there is no figure")
    places = bin_of(sure, bins)
    gaps = np.bincount(places, weights=sure - truth, minlength=bins)
    return float(np.abs(gaps).sum() / len(sure))


def bin_of(confidences: Floats, bins: int) -> Ints:
    """Return the bin of each confidence (n,), from 0: the i-th holds what is over i/bins, up to its upper edge."""
    places: Ints = (np.ceil(confidences * bins).astype(np.int64) - 1).clip(0, bins - 1)
    return places


def wilson(hits: int, n: int, level: float = 0.95) -> tuple[float, float]:
    """Return Wilson's interval of a share, of `hits` in `n`."""
    from scipy.stats import binomtest

    interval = binomtest(hits, n).proportion_ci(level, method="wilson")
    return float(interval.low), float(interval.high)
