"""Token sequences as trees, so that what several begin with is computed once: plain Python, no torch.

Eighty templates for a thousand names give 80,000 sequences that have only eighty beginnings.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import takewhile

Tokens = tuple[int, ...]


@dataclass(slots=True)
class Tree:
    """Tokens, each behind the one at `parents` (-1: none); `sequences`, as indices, end at `ends`."""

    tokens: list[int] = field(default_factory=list)
    positions: list[int] = field(default_factory=list)
    parents: list[int] = field(default_factory=list)
    sequences: list[int] = field(default_factory=list)
    ends: list[int] = field(default_factory=list)


def trees(sequences: Sequence[Tokens], *, most: int) -> Iterator[Tree]:
    """Yield trees that together hold each of `sequences` once, in sorted order.

    No tree has more than `most` tokens, unless a single sequence has.
    """
    tree, path, before = Tree(), list[int](), Tokens()
    for index in sorted(range(len(sequences)), key=lambda index: sequences[index]):
        ids = sequences[index]
        shared = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(ids, before, strict=False)))
        if tree.sequences and len(tree.tokens) + len(ids) - shared > most:
            yield tree
            tree, path, shared = Tree(), [], 0
        for position in range(shared, len(ids)):
            tree.parents.append(path[position - 1] if position else -1)
            path[position:] = [len(tree.tokens)]
            tree.tokens.append(ids[position])
            tree.positions.append(position)
        tree.sequences.append(index)
        tree.ends.append(path[len(ids) - 1])
        before = ids
    if tree.sequences:
        yield tree
