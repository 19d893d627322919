"""How token sequences become trees, by hand and by walking them."""

import random

import pytest

from zeroshot_cli.embed.texts import Tree, trees


def test_a_tree_by_hand() -> None:
    """Sorted, these are 1 2 3 9, 1 2 4 9, 1 5 9: they have 1 in common, two of them also 2."""
    (tree,) = trees([(1, 5, 9), (1, 2, 4, 9), (1, 2, 3, 9)], most=100)
    assert tree == Tree(
        tokens=[1, 2, 3, 9, 4, 9, 5, 9],
        positions=[0, 1, 2, 3, 2, 3, 1, 2],
        parents=[-1, 0, 1, 2, 1, 4, 0, 6],
        sequences=[2, 1, 0],
        ends=[3, 5, 7],
    )


def test_without_sequences_there_is_no_tree() -> None:
    assert list(trees([], most=8)) == []


def test_one_sequence_longer_than_a_tree_is_one() -> None:
    assert [tree.tokens for tree in trees([(1, 2, 3), (1, 2, 4)], most=2)] == [[1, 2, 3], [1, 2, 4]]


@pytest.mark.parametrize("most", [1, 13, 40, 10_000])
@pytest.mark.parametrize("seed", range(3))
def test_every_sequence_is_the_way_to_its_end_once(most: int, seed: int) -> None:
    draw = random.Random(seed)
    sequences = list({(0, *draw.choices((1, 2), k=draw.randrange(12)), 9): None for _ in range(300)})
    seen = []
    for tree in trees(sequences, most=most):
        assert len(tree.tokens) <= most or len(tree.sequences) == 1
        assert len(set(zip(tree.parents, tree.tokens, strict=True))) == len(tree.tokens)  # nothing is there twice
        for index, node in zip(tree.sequences, tree.ends, strict=True):
            way: list[int] = []
            while node >= 0:
                assert tree.positions[node] == len(sequences[index]) - 1 - len(way)
                way.append(tree.tokens[node])
                node = tree.parents[node]
            assert tuple(reversed(way)) == sequences[index]
            seen.append(index)
    assert sorted(seen) == list(range(len(sequences)))
