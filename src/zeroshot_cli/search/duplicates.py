"""Near-copies: groups of images whose embeddings are nearer to each other than a threshold. Pure functions.

A group is a connected component: two images are in it if a chain of near pairs leads from one to the other.
"""

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from zeroshot_cli.search.nearest import Floats

Labels = npt.NDArray[np.int32]
Pairs = npt.NDArray[np.intp]

THRESHOLD = 0.97  # docs/search.md has the measurement
TILE = 2048  # images compared with as many others at once: 16 MB of cosines
_MOST_PAIRS = 2_000_000  # in memory; more are folded into what they connect


def near_components(
    embeddings: Floats,
    threshold: float,
    *,
    same: Sequence[tuple[int, int]] = (),
    tile: int = TILE,
    on_progress: Callable[[int, int], None] | None = None,
) -> Labels:
    """Return the number of the group that each image is in, for normalised embeddings (images, embedding).

    Images are connected where their cosine is at least `threshold`, and where they are a pair of `same`. Each tile of
    images is compared with each that follows; `on_progress` gets how many comparisons are done, and of how many.
    """
    count = len(embeddings)
    starts = range(0, count, tile)
    pairs = [np.array(same, dtype=np.intp).reshape(-1, 2)]
    held, done, total = len(pairs[0]), 0, len(starts) * (len(starts) + 1) // 2
    for start in starts:
        rows = embeddings[start : start + tile]
        for other in range(start, count, tile):
            cosines = rows @ embeddings[other : other + tile].T
            near = np.argwhere(cosines >= np.float32(threshold))
            near = near[near[:, 0] + start < near[:, 1] + other] + (start, other)
            pairs.append(near)
            held += len(near)
            if held > _MOST_PAIRS:
                pairs = [_folded(pairs, count)]
                held = len(pairs[0])
            done += 1
            if on_progress is not None:
                on_progress(done, total)
    return _components(pairs, count)


def _components(pairs: Sequence[Pairs], count: int) -> Labels:
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    ends = np.concatenate(pairs)
    graph = coo_array((np.ones(len(ends), dtype=bool), (ends[:, 0], ends[:, 1])), shape=(count, count))
    labels: Labels = connected_components(graph, directed=False)[1]
    return labels


def _folded(pairs: Sequence[Pairs], count: int) -> Pairs:
    """Return fewer pairs that connect the same images: each with the first of its component."""
    labels = _components(pairs, count)
    _, firsts = np.unique(labels, return_index=True)
    stars = np.stack([firsts[labels], np.arange(count)], axis=1)
    return stars[stars[:, 0] != stars[:, 1]]


def groups_of(labels: Labels) -> list[list[int]]:
    """Return the places of the images in each group that has two or more, both in the order of the images."""
    order = np.argsort(labels, kind="stable")
    cuts = np.flatnonzero(np.diff(labels[order])) + 1
    groups = [part.tolist() for part in np.split(order, cuts) if len(part) > 1]
    return sorted(groups)
