"""All pairs of near rows, a tile at a time, and what they connect. Pure functions of numbers."""

from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np
import numpy.typing as npt

from zeroshot_cli.search.nearest import Floats

Labels = npt.NDArray[np.int32]
Pairs = npt.NDArray[np.intp]  # (pairs, 2), places, the smaller one first

TILE = 2048  # rows compared with as many others at once: 16 MB of cosines
_MOST_PAIRS = 2_000_000  # in memory; more are folded into what they connect


def near_pairs(
    rows: Floats,
    least: float,
    *,
    tile: int = TILE,
    on_progress: Callable[[int, int], None] | None = None,
) -> Iterator[Pairs]:
    """Yield the pairs of normalised rows whose cosine is at least `least`, those of one tile at a time.

    `on_progress` gets how many tiles are done, and of how many.
    """
    count = len(rows)
    starts = range(0, count, tile)
    done, total = 0, len(starts) * (len(starts) + 1) // 2
    for start in starts:
        for other in range(start, count, tile):
            cosines = rows[start : start + tile] @ rows[other : other + tile].T
            near = np.argwhere(cosines >= np.float32(least)) + np.array([start, other])
            yield near[near[:, 0] < near[:, 1]]
            done += 1
            if on_progress is not None:
                on_progress(done, total)


def groups_of(count: int, found: Iterable[Pairs]) -> list[list[int]]:
    """Return the groups of two or more of `count` places that pairs connect, each and all in order.

    Two places are in one group if a chain of pairs leads from one to the other. However many pairs there are, few are
    in memory at once.
    """
    held: list[Pairs] = [np.empty((0, 2), dtype=np.intp)]
    for pairs in found:
        held.append(pairs)
        if sum(map(len, held)) > max(_MOST_PAIRS, 2 * count):
            held = [_folded(held, count)]
    labels = _components(held, count)
    order = np.argsort(labels, kind="stable")
    cuts = np.flatnonzero(np.diff(labels[order])) + 1
    return sorted(part.tolist() for part in np.split(order, cuts) if len(part) > 1)


def _components(pairs: Sequence[Pairs], count: int) -> Labels:
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    ends = np.concatenate(pairs)
    graph = coo_array((np.ones(len(ends), dtype=bool), (ends[:, 0], ends[:, 1])), shape=(count, count))
    labels: Labels = connected_components(graph, directed=False)[1]
    return labels


def _folded(pairs: Sequence[Pairs], count: int) -> Pairs:
    """Return fewer pairs that connect the same places: each with the first of its component."""
    labels = _components(pairs, count)
    _, firsts = np.unique(labels, return_index=True)
    stars = np.stack([firsts[labels], np.arange(count)], axis=1)
    joined: Pairs = stars[stars[:, 0] != stars[:, 1]]
    return joined
