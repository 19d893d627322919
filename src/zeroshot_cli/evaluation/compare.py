"""Compare two evaluations of the same images, with an interval and a test of their difference."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from math import sqrt

import numpy as np
import numpy.typing as npt

from zeroshot_cli.errors import DataError
from zeroshot_cli.evaluation.answers import Answers
from zeroshot_cli.evaluation.metrics import wilson
from zeroshot_cli.images.find import path_of


@dataclass(frozen=True, slots=True)
class Comparison:
    """Of `n` images that both read: how many only one had right, the difference of top-1 and its 95 % interval.

    `difference` is the first's top-1 minus the second's; `p` is the probability of a split at least as uneven if both
    were equally good: McNemar's exact test.
    """

    n: int
    first_only: int
    second_only: int
    difference: float
    interval: tuple[float, float]
    p: float


def compare(first: Answers, second: Answers) -> Comparison:
    """Compare the answers for the images that both have read, matched by path.

    Raises DataError where there is none, or where an image has another true class.
    """
    theirs = {key: (label, right) for key, label, right in _rows(second)}
    counts = {(True, True): 0, (True, False): 0, (False, True): 0, (False, False): 0}
    for key, label, right in _rows(first):
        if key not in theirs:
            continue
        other_label, other_right = theirs[key]
        if label != other_label:
            raise DataError(f"{key[0]}: is {label!r} in one evaluation and {other_label!r} in the other")
        counts[right, other_right] += 1
    if not sum(counts.values()):
        raise DataError("the evaluations have no image in common, so there is nothing to compare")
    return _compared(*counts.values())


def compare_right(first: npt.NDArray[np.bool_], second: npt.NDArray[np.bool_]) -> Comparison:
    """Compare whether two classifiers have the same images right; both are (images,), of at least one."""
    parts = (first & second, first & ~second, ~first & second, ~first & ~second)
    return _compared(*(int(part.sum()) for part in parts))


def _rows(answers: Answers) -> Iterator[tuple[tuple[str, int], str, bool]]:
    """Yield path and occurrence, label, and whether the answer was right, of every image that was read.

    A table may list an image several times, with several labels.
    """
    times: Counter[str] = Counter()
    right = iter(answers.right.tolist())
    for item, target in zip(answers.items, answers.item_targets.tolist(), strict=True):
        path = path_of(item)
        times[path] += 1
        if isinstance(item, str):
            yield (path, times[path]), answers.labels[target], next(right)


def _compared(both: int, first_only: int, second_only: int, neither: int) -> Comparison:
    from scipy.stats import binomtest

    n, differing = both + first_only + second_only + neither, first_only + second_only
    return Comparison(
        n=n,
        first_only=first_only,
        second_only=second_only,
        difference=(first_only - second_only) / n,
        interval=_newcombe(both, first_only, second_only, neither),
        p=float(binomtest(first_only, differing).pvalue) if differing else 1.0,
    )


def _newcombe(both: int, first_only: int, second_only: int, neither: int) -> tuple[float, float]:
    """Return the 95 % interval of a difference of paired fractions, from the intervals of both.

    Newcombe 1998, Statistics in Medicine 17, pages 2635 to 2650, method 10: the correlation of the two, with a
    continuity correction where it is positive.
    """
    n = both + first_only + second_only + neither
    one, two = (both + first_only) / n, (both + second_only) / n
    (low_1, high_1), (low_2, high_2) = wilson(both + first_only, n), wilson(both + second_only, n)
    margins = (both + first_only) * (second_only + neither) * (both + second_only) * (first_only + neither)
    product = both * neither - first_only * second_only
    corrected = max(product - n / 2, 0) if product > 0 else product
    phi = corrected / sqrt(margins) if margins else 0.0

    def spread(a: float, b: float) -> float:
        return sqrt(max(0.0, a * a - 2 * phi * a * b + b * b))

    difference = one - two
    return difference - spread(one - low_1, high_2 - two), difference + spread(high_1 - one, two - low_2)
