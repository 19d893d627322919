"""Pairs of near rows and the groups that they make, against groups made by hand and a walk in plain Python."""

import numpy as np
import pytest

from zeroshot_cli.search import pairs as pairs_module
from zeroshot_cli.search.pairs import groups_of, near_pairs


def unit(*degrees: float) -> np.ndarray:
    angles = np.deg2rad(degrees)
    return np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)


def groups(rows: np.ndarray, least: float, tile: int = 2048) -> list[list[int]]:
    return groups_of(len(rows), near_pairs(rows, least, tile=tile))


def by_hand(rows: np.ndarray, least: float) -> list[list[int]]:
    """Walk from each row to all that are near, one by one."""
    left, found = set(range(len(rows))), []
    while left:
        group, waiting = set[int](), [min(left)]
        while waiting:
            place = waiting.pop()
            group.add(place)
            near = {other for other in left - group if rows[place] @ rows[other] >= least}
            waiting += sorted(near - set(waiting))
        left -= group
        found.append(sorted(group))
    return sorted(group for group in found if len(group) > 1)


NEAR = float(np.cos(np.deg2rad(10.5)))


def test_groups_made_by_hand() -> None:
    assert groups(unit(0, 90, 5, 180, 94, 270), NEAR) == [[0, 2], [1, 4]]


def test_a_chain_is_one_group() -> None:
    assert groups(unit(20, 0, 200, 10), NEAR) == [[0, 1, 3]]


def test_nothing_is_near() -> None:
    assert groups(unit(0, 90, 180), NEAR) == []
    assert groups(np.empty((0, 2), np.float32), NEAR) == []
    assert groups(unit(0), NEAR) == []


def test_each_pair_comes_once_the_smaller_place_first() -> None:
    found = np.concatenate(list(near_pairs(unit(0, 90, 5, 180, 94, 2), NEAR, tile=2)))
    assert sorted(map(tuple, found.tolist())) == [(0, 2), (0, 5), (1, 4), (2, 5)]


def test_groups_of_pairs_from_anywhere() -> None:
    some = [np.array([[0, 3]]), np.empty((0, 2), dtype=np.intp), np.array([[4, 5], [3, 1]])]
    assert groups_of(7, some) == [[0, 1, 3], [4, 5]]
    assert groups_of(3, []) == []
    assert groups_of(0, []) == []


@pytest.mark.slow
@pytest.mark.parametrize("tile", [1, 3, 50, 1000])
@pytest.mark.parametrize("most", [5, 10_000_000])
def test_random_rows_at_any_tile_however_few_pairs_are_held(
    tile: int, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pairs_module, "_MOST_PAIRS", most)
    rng = np.random.default_rng(3)
    centres = rng.normal(size=(60, 16))
    rows = np.repeat(centres, 3, axis=0) + 0.25 * rng.normal(size=(180, 16))
    rows = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)[rng.permutation(180)]
    expected = by_hand(rows, 0.93)
    assert 20 < len(expected) < 70
    assert groups(rows, 0.93, tile) == expected


def test_all_rows_the_same_are_one_group_in_little_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pairs_module, "_MOST_PAIRS", 100)
    assert groups(np.tile(unit(30), (300, 1)), 0.99, 20) == [list(range(300))]


def test_progress_ends_with_all_tiles() -> None:
    seen: list[tuple[int, int]] = []
    list(near_pairs(unit(*range(0, 70, 10)), NEAR, tile=3, on_progress=lambda *done: seen.append(done)))
    assert seen == [(number, 6) for number in range(1, 7)]  # three strips: 3 + 2 + 1 tiles
