from dataclasses import replace

import numpy as np
import pytest

from zeroshot_cli.errors import DataError
from zeroshot_cli.evaluation.answers import Answers
from zeroshot_cli.evaluation.compare import _compared, compare
from zeroshot_cli.records import SkippedImage


def answers_of(right: list[bool | None], *, labels: tuple[str, ...] = ("cat", "dog"), start: int = 0) -> Answers:
    """Images of the class "cat", right or not, None where they cannot be read."""
    items = [f"{start + place}.jpg" for place in range(len(right))]
    ranks = np.array([0 if each else 1 for each in right if each is not None], dtype=np.int64)
    n = len(ranks)
    return Answers(
        labels=labels,
        items=tuple(
            item if each is not None else SkippedImage(item, "x") for item, each in zip(items, right, strict=True)
        ),
        item_targets=np.zeros(len(right), dtype=np.int64),
        targets=np.zeros(n, dtype=np.int64),
        ranks=ranks,
        best=np.stack([ranks, 1 - ranks], axis=1),
        scores=np.ones((n, 2), dtype=np.float32),
        probabilities=np.full((n, 2), 0.5),
        true_scores=np.ones(n, dtype=np.float32),
        log_likelihoods=np.zeros(n),
    )


def test_mcnemars_exact_test_by_hand() -> None:
    """Of 8 that differ 7 are the first's: p is 2 (C(8,0) + C(8,1)) / 2⁸."""
    first = answers_of([True] * 7 + [False] + [True] * 4 + [False] * 3)
    second = answers_of([False] * 7 + [True] + [True] * 4 + [False] * 3)
    found = compare(first, second)
    assert (found.n, found.first_only, found.second_only) == (15, 7, 1)
    assert found.p == pytest.approx(2 * (1 + 8) / 2**8)
    assert found.difference == pytest.approx(6 / 15)
    turned = compare(second, first)
    assert turned.difference == -found.difference
    assert turned.interval == pytest.approx((-found.interval[1], -found.interval[0]))
    assert turned.p == found.p


def test_equal_answers_do_not_differ() -> None:
    found = compare(answers_of([True, False, True]), answers_of([True, False, True]))
    assert (found.difference, found.p, found.first_only, found.second_only) == (0, 1, 0, 0)
    assert found.interval[0] <= 0 <= found.interval[1]


# Of the correlations that it takes, some are negative, some positive, and some have no margin to be told by.
NEWCOMBES_TABLE = {
    (36, 12, 2, 0): (0.0569, 0.3404),
    (20, 12, 2, 16): (0.0562, 0.3292),
    (18, 12, 2, 18): (0.0562, 0.3290),
    (36, 14, 0, 0): (0.1528, 0.4167),
    (35, 14, 0, 1): (0.1461, 0.4175),
    (18, 14, 0, 18): (0.1441, 0.3963),
    (2, 97, 1, 0): (0.8721, 0.9854),
    (1, 97, 1, 1): (0.8736, 0.9850),
    (0, 29, 1, 0): (0.6666, 0.9882),
    (0, 30, 0, 0): (0.8395, 1.0),
    (54, 0, 0, 0): (-0.0664, 0.0664),
    (53, 0, 0, 1): (-0.0729, 0.0729),
    (30, 0, 0, 24): (-0.0358, 0.0358),
    (27, 0, 0, 27): (-0.0351, 0.0351),
}


@pytest.mark.parametrize(("table", "interval"), NEWCOMBES_TABLE.items())
def test_newcombes_interval(table: tuple[int, int, int, int], interval: tuple[float, float]) -> None:
    """Newcombe 1998, table III, method 10: both right, the first only, the second only, neither."""
    assert _compared(*table).interval == pytest.approx(interval, abs=1e-4)  # its last digit is cut off or rounded


def test_the_interval_holds_what_it_promises() -> None:
    """Of pairs drawn with a true difference of 0.1, at least 93 in 100 intervals hold it."""
    rng = np.random.default_rng(0)
    held = 0
    for _ in range(400):
        both, one, two, none = rng.multinomial(120, [0.5, 0.2, 0.1, 0.2])
        low, high = _compared(int(both), int(one), int(two), int(none)).interval
        held += low <= 0.1 <= high
    assert held / 400 >= 0.93


def test_images_that_one_could_not_read_are_left_out() -> None:
    found = compare(answers_of([True, None, False, True]), answers_of([False, True, None, True]))
    assert (found.n, found.first_only, found.second_only) == (2, 1, 0)


def test_an_image_may_come_several_times_with_other_labels() -> None:
    both = replace(answers_of([True, False]), items=("a.jpg", "a.jpg"), item_targets=np.array([0, 1]))
    found = compare(both, replace(both, ranks=np.array([1, 1])))
    assert (found.n, found.first_only, found.second_only) == (2, 1, 0)


def test_nothing_in_common_or_other_classes_are_refused() -> None:
    with pytest.raises(DataError, match="no image in common"):
        compare(answers_of([True]), answers_of([True], start=5))
    with pytest.raises(DataError, match=r"0\.jpg: is 'cat' in one evaluation and 'owl' in the other"):
        compare(answers_of([True]), answers_of([True], labels=("owl", "dog")))
