"""What token sequences begin with together, and batches of one shape from what is left: plain Python, no torch.

Eighty templates for a thousand names give 80,000 sequences that have only eighty beginnings.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby, takewhile
from typing import TypeVar

T = TypeVar("T")
Tokens = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Batch:
    """Sequences whose ends have one length: `sequences[i]` goes on where `beginnings[i]` stops, both as indices."""

    sequences: list[int]
    beginnings: list[int]


@dataclass(frozen=True, slots=True)
class Part:
    """Beginnings of one length, and the batches of all the sequences that go on from them."""

    beginnings: list[Tokens]
    batches: list[Batch]


def plan(sequences: Sequence[Tokens], *, most: int) -> Iterator[Part]:
    """Yield parts that together hold each of `sequences` once, with at least one token before the cut and one behind.

    The sequences differ, and none is the beginning of another. `most` bounds the new tokens of a batch and the tokens
    of a part's beginnings, unless a single sequence has more.
    """
    by_length: dict[int, dict[Tokens, list[int]]] = defaultdict(lambda: defaultdict(list))
    for index, cut in enumerate(cuts(sequences)):
        by_length[cut][sequences[index][:cut]].append(index)
    for length, members in by_length.items():
        beginnings = list(members)
        for some in _split(beginnings, most // length):
            yield _part(sequences, some, [members[beginning] for beginning in some], most)


def cuts(sequences: Sequence[Tokens]) -> list[int]:
    """How much of each sequence is best computed together with others.

    Where n sequences share l tokens, each of them saves l - l/n; the greatest saving counts. At least 1.
    """
    best = [1] * len(sequences)
    order = sorted(range(len(sequences)), key=lambda index: sequences[index])

    def visit(members: list[int], saving: float, cut: int) -> None:
        if len(members) == 1:
            best[members[0]] = cut
            return
        # They are sorted: what the first and the last share, all share.
        shared = _shared(sequences[members[0]], sequences[members[-1]])
        if shared * (1 - 1 / len(members)) > saving:
            saving, cut = shared * (1 - 1 / len(members)), shared
        for _, branch in groupby(members, key=lambda index: sequences[index][shared]):
            visit(list(branch), saving, cut)

    if order:
        visit(order, 0, 1)
    return best


def _part(sequences: Sequence[Tokens], beginnings: list[Tokens], members: list[list[int]], most: int) -> Part:
    by_length: dict[int, list[tuple[int, int]]] = defaultdict(list)
    for place, indices in enumerate(members):
        for index in indices:
            by_length[len(sequences[index])].append((index, place))
    start = len(beginnings[0])
    batches = []
    for length, pairs in by_length.items():
        # A place to look back at weighs little beside a new token, but long beginnings would fill the memory.
        rows = min(most // (length - start), 8 * most // length)
        batches += [Batch([i for i, _ in some], [place for _, place in some]) for some in _split(pairs, rows)]
    return Part(beginnings, batches)


def _split(items: list[T], most: int) -> Iterator[list[T]]:
    """Yield runs of at most `most` items, no run much shorter than another."""
    runs = -(-len(items) // max(most, 1))
    for run in range(runs):
        yield items[run * len(items) // runs : (run + 1) * len(items) // runs]


def _shared(one: Tokens, other: Tokens) -> int:
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False)))
