"""Files that are copies of each other: the same bytes, or nearly the same image, and the one of each group to keep."""

import os
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from zeroshot_cli.embed.image_cache import ImageCache, contents_of
from zeroshot_cli.search.duplicates import Labels, groups_of
from zeroshot_cli.search.nearest import Floats


class Match(StrEnum):
    """What a file of a group is: the one to keep, the same bytes as that, or nearly the same image."""

    KEEP = "keep"
    IDENTICAL = "identical"
    SIMILAR = "similar"


@dataclass(frozen=True, slots=True)
class Copy:
    """A file of a group, from 1; `score` is its cosine with the file to keep, `size` in bytes."""

    group: int
    path: str
    match: Match
    score: float
    size: int


def identical(paths: Sequence[str], cache: ImageCache | None) -> tuple[list[bytes | None], list[tuple[int, int]]]:
    """Return a hash of the content of files that have the size of another, and the pairs with the same content.

    Each file is paired with the first that has its bytes. A file that `cache` knows is not read.
    """
    by_size: defaultdict[int, list[int]] = defaultdict(list)
    for place, path in enumerate(paths):
        by_size[_size_and_time(path)[0]].append(place)
    places = sorted(place for size, some in by_size.items() if len(some) > 1 and size >= 0 for place in some)
    hashes: list[bytes | None] = [None] * len(paths)
    for place, content in zip(places, contents_of([paths[place] for place in places], cache), strict=True):
        hashes[place] = content
    first: dict[bytes, int] = {}
    pairs = []
    for place, content in enumerate(hashes):
        if content is not None and first.setdefault(content, place) != place:
            pairs.append((first[content], place))
    return hashes, pairs


def _size_and_time(path: str) -> tuple[int, int]:
    """Return the size of a file and when it was changed; -1 and 0 where there is none, as of a frame."""
    try:
        status = os.stat(path)  # noqa: PTH116
    except (OSError, ValueError):
        return -1, 0
    return status.st_size, status.st_mtime_ns


def copies(
    paths: Sequence[str], embeddings: Floats, labels: Labels, hashes: Sequence[bytes | None]
) -> list[list[Copy]]:
    """Return the groups of files that are copies, each with the one to keep first: the largest, then the oldest.

    The others follow, those of the same bytes first, then by their cosine.
    """
    found = []
    for number, places in enumerate(groups_of(labels), start=1):
        facts = {place: _size_and_time(paths[place]) for place in places}
        keep, *others = sorted(places, key=lambda place: (-facts[place][0], facts[place][1], place))
        group = [Copy(number, paths[keep], Match.KEEP, 1.0, facts[keep][0])]
        for place in others:
            same = hashes[place] is not None and hashes[place] == hashes[keep]
            score = 1.0 if same else float(embeddings[keep] @ embeddings[place])
            match = Match.IDENTICAL if same else Match.SIMILAR
            group.append(Copy(number, paths[place], match, score, facts[place][0]))
        group[1:] = sorted(group[1:], key=lambda copy: (copy.match, -copy.score))
        found.append(group)
    return found
