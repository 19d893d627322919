"""Two evaluations of the same images: is the difference more than chance?"""

from dataclasses import dataclass
from math import sqrt

from zeroshot_cli.errors import DataError
from zeroshot_cli.evaluate.answers import Answers
from zeroshot_cli.evaluate.metrics import wilson


@dataclass(frozen=True, slots=True)
class Comparison:
    """N images that both read: how many only one of them had right, the difference of top-1 and its 95 % interval.

    `difference` is the first's top-1 less the second's; `p` is the chance of a split at least as uneven if both were
    equally good: McNemar's exact test.
    """

    n: int
    first_only: int
    second_only: int
    difference: float
    interval: tuple[float, float]
    p: float


def compare(first: Answers, second: Answers) -> Comparison:
    """Compare the answers to the images that both have read, which are told by their paths.

    DataError where there is none, or where an image has another true class.
    """
    theirs = {
        path: (second.labels[target], right)
        for path, target, right in zip(second.paths, second.targets.tolist(), second.right.tolist(), strict=True)
    }
    counts = {(True, True): 0, (True, False): 0, (False, True): 0, (False, False): 0}
    for path, target, right in zip(first.paths, first.targets.tolist(), first.right.tolist(), strict=True):
        if path not in theirs:
            continue
        label, second_right = theirs[path]
        if label != first.labels[target]:
            raise DataError(f"{path}: is {first.labels[target]!r} in one evaluation and {label!r} in the other")
        counts[right, second_right] += 1
    if not sum(counts.values()):
        raise DataError("the evaluations have no image in common, so there is nothing to compare")
    return _compared(*counts.values())


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
    """The 95 % interval of a difference of paired shares, from those of the two shares.

    Newcombe 1998, Statistics in Medicine 17, pages 2635 to 2650, method 10: the correlation of the two, with a
    correction for continuity where it is positive.
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
