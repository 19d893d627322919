"""The nearest images to a query, against numpy's sort of all cosines, and angles that anyone can add up."""

import numpy as np
import pytest

from zeroshot_cli.search.nearest import best, query_of, scores_of


def unit(*degrees: float) -> np.ndarray:
    angles = np.deg2rad(degrees)
    return np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)


def random_units(count: int, width: int, seed: int = 0) -> np.ndarray:
    rows = np.random.default_rng(seed).normal(size=(count, width))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def in_blocks(embeddings: np.ndarray, size: int) -> list[tuple[range, np.ndarray]]:
    starts = range(0, len(embeddings), size)
    return [(range(at, min(at + size, len(embeddings))), embeddings[at : at + size]) for at in starts]


def test_the_ranking_is_that_of_all_cosines_sorted() -> None:
    images, query = random_units(1000, 24), random_units(1, 24, seed=1)[0]
    cosines = [sum(float(a) * float(b) for a, b in zip(row, query, strict=True)) for row in images]
    expected = sorted(range(1000), key=lambda place: -cosines[place])[:50]
    scores = scores_of(in_blocks(images, 64), query, 1000)
    assert best(scores, 50) == expected
    np.testing.assert_allclose(scores, cosines, atol=1e-7)


@pytest.mark.parametrize("size", [1, 7, 64, 1000])
def test_the_size_of_a_block_changes_no_bit(size: int) -> None:
    images, query = random_units(1000, 384), random_units(1, 384, seed=1)[0]
    whole = scores_of([(range(1000), images)], query, 1000)
    assert scores_of(in_blocks(images, size), query, 1000).tobytes() == whole.tobytes()


def test_the_order_of_blocks_does_not_matter() -> None:
    images, query = random_units(100, 8), random_units(1, 8, seed=1)[0]
    blocks = in_blocks(images, 9)
    assert scores_of(reversed(blocks), query, 100).tobytes() == scores_of(blocks, query, 100).tobytes()


def test_equal_scores_stay_in_order() -> None:
    same = unit(0, 90, 0, 90, 0)
    assert best(scores_of([(range(5), same)], unit(0)[0], 5), 4) == [0, 2, 4, 1]


def test_images_under_the_least_score_and_those_without_one_are_left_out() -> None:
    scores = scores_of([([0, 2, 3], unit(0, 60, 90))], unit(0)[0], 4)
    assert best(scores, 10) == [0, 2, 3]
    assert best(scores, 10, 0.5) == [0, 2]  # cos 60° is 0.5, in float32 too
    assert best(scores, 10, -1.0) == [0, 2, 3]
    assert best(scores, 10, 0.51) == [0]


def test_nothing_at_all() -> None:
    assert best(scores_of([], unit(0)[0], 0), 5) == []
    assert best(scores_of([([], np.empty((0, 2), np.float32))], unit(0)[0], 1), 5) == []


def test_what_is_wanted_is_averaged() -> None:
    np.testing.assert_allclose(query_of(unit(0, 90)), unit(45)[0], atol=1e-6)


def test_what_is_not_wanted_is_taken_away() -> None:
    # (1, 0) - (0, 1) points to -45°
    np.testing.assert_allclose(query_of(unit(0), unit(90)), unit(-45)[0], atol=1e-6)


def test_a_query_without_a_direction_is_refused() -> None:
    with pytest.raises(ValueError, match="are the same"):
        query_of(unit(30), unit(30))
    with pytest.raises(ValueError, match="are the same"):
        query_of(unit(0, 180))
    with pytest.raises(ValueError, match="needs something"):
        query_of([], unit(0))
