"""How sequences are cut and batched, by hand and against a brute search."""

import random
from collections import Counter

import pytest

from zeroshot_cli.encode.prefixes import cuts, plan


def test_cuts_by_hand() -> None:
    """Four share 2 tokens and save 1.5 each; of them two share 4, which saves 2 each; one alone shares only 1 of 5."""
    sequences = [(1, 2, 3, 4, 9), (1, 2, 3, 4, 5, 9), (1, 2, 6, 9), (1, 2, 7, 9), (1, 8, 9)]
    assert cuts(sequences) == [4, 4, 2, 2, 1]


def test_one_sequence_is_cut_behind_its_start() -> None:
    assert cuts([(1, 2, 9)]) == [1]
    assert cuts([]) == []


def _sequences(seed: int, count: int) -> list[tuple[int, ...]]:
    draw = random.Random(seed)
    return list({(0, *draw.choices((1, 2), k=draw.randrange(12)), 9): None for _ in range(count)})


@pytest.mark.parametrize("seed", range(5))
def test_cuts_are_those_of_a_brute_search(seed: int) -> None:
    sequences = _sequences(seed, 60)
    shares = Counter(ids[:length] for ids in sequences for length in range(1, len(ids)))
    for ids, cut in zip(sequences, cuts(sequences), strict=True):
        best = max(length * (1 - 1 / shares[ids[:length]]) for length in range(1, len(ids)))
        assert cut * (1 - 1 / shares[ids[:cut]]) == pytest.approx(best)


@pytest.mark.parametrize("most", [1, 7, 40, 10_000])
def test_the_plan_holds_every_sequence_once_and_stays_small(most: int) -> None:
    sequences = _sequences(9, 300)
    seen = []
    for part in plan(sequences, most=most):
        start = len(part.beginnings[0])
        assert len(part.beginnings) == 1 or start * len(part.beginnings) <= most
        for batch in part.batches:
            ends = [sequences[index][start:] for index in batch.sequences]
            assert len({len(end) for end in ends}) == 1
            assert len(ends) == 1 or len(ends) * len(ends[0]) <= most
            for index, place in zip(batch.sequences, batch.beginnings, strict=True):
                assert sequences[index][:start] == part.beginnings[place]
            seen += batch.sequences
    assert sorted(seen) == list(range(len(sequences)))
