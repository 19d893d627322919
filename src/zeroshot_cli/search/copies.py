"""Files that are copies of each other: the same bytes, or nearly the same pixels, and the one of each group to keep."""

import os
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np

from zeroshot_cli.embed.image_cache import ImageCache, contents_of
from zeroshot_cli.search.listing import THRESHOLD, Match
from zeroshot_cli.search.nearest import Floats
from zeroshot_cli.search.pairs import Pairs, groups_of, near_pairs
from zeroshot_cli.search.pixels import COARSELY_ALIKE, Crops, alike, coarse, crops_of, likeness

NEAR = 0.7  # the least cosine of embeddings at which pixels are compared

OnProgress = Callable[[int, int], None]
Thumbnails = Callable[[Sequence[str]], Iterable[bytes | None]]


@dataclass(frozen=True, slots=True)
class Copy:
    """A file of a group, from 1; `score` is how alike it is to the file to keep, at most 1, `size` is in bytes."""

    group: int
    path: str
    match: Match
    score: float
    size: int


@dataclass(frozen=True, slots=True)
class _File:
    """What is known of a file: a hash of its content, if another has its size, its size and when it was changed."""

    content: bytes | None
    size: int
    modified: int


def find_copies(
    paths: Sequence[str],
    embeddings: Floats,
    threshold: float = THRESHOLD,
    *,
    thumbnails: Thumbnails,
    cache: ImageCache | None = None,
    on_progress: OnProgress | None = None,
) -> list[list[Copy]]:
    """Return the groups of images that are copies, each with the file to keep first: the largest, then the oldest.

    `embeddings` (images, embedding) are normalised; those of images with a cosine of 0.7 and more have their pixels
    compared, which `thumbnails` gives as encoded images, or None. Images are connected where these correlate to
    `threshold`. The others of a group follow, those of the same bytes first, then the most alike.
    """
    files = _files(paths, cache)
    same = _same(files)
    first = np.setdiff1d(np.arange(len(paths)), same[:, 1])  # of files with the same bytes one is enough
    near = first[_has_near(embeddings[first], on_progress)]
    crops = np.zeros((len(near), *crops_of(None).shape), dtype=np.uint8)
    for place, thumbnail in enumerate(thumbnails([paths[place] for place in near])):
        crops[place] = crops_of(thumbnail)
    pairs = alike(_candidates(embeddings[near], crops), crops, threshold)
    groups = groups_of(len(paths), chain([same], (near[some] for some in pairs)))
    row_of = {int(place): row for row, place in enumerate(near)}
    for copied, original in same[:, ::-1]:
        row_of[int(copied)] = row_of.get(int(original), -1)
    return [_group(number, places, paths, files, _Likeness(crops, row_of)) for number, places in enumerate(groups, 1)]


def once_each(paths: Sequence[str]) -> list[int]:
    """Return the places of files, each of which counts once: of several names, as links are, the first that is no link.

    Names of one file are no copies, and whoever deletes what a link leads to has nothing left.
    """
    chosen: dict[tuple[int, int] | str, int] = {}
    for place, path in sorted(enumerate(paths), key=lambda each: os.path.islink(each[1])):  # noqa: PTH114
        try:
            status = os.stat(path)  # noqa: PTH116
        except (OSError, ValueError):
            chosen[path] = place
        else:
            chosen.setdefault((status.st_dev, status.st_ino) if status.st_ino else path, place)
    return sorted(chosen.values())


def _has_near(embeddings: Floats, on_progress: OnProgress | None) -> "np.ndarray[tuple[int], np.dtype[np.bool_]]":
    found = np.zeros(len(embeddings), dtype=bool)
    for pairs in near_pairs(embeddings, NEAR, on_progress=on_progress):
        found[pairs.ravel()] = True
    return found


def _candidates(embeddings: Floats, crops: Crops) -> Iterator[Pairs]:
    """Yield pairs that are roughly alike by pixels, and near by their embeddings."""
    for pairs in near_pairs(coarse(crops), COARSELY_ALIKE):
        cosines = np.einsum("ij,ij->i", embeddings[pairs[:, 0]], embeddings[pairs[:, 1]])
        yield pairs[cosines >= np.float32(NEAR)]


@dataclass(frozen=True, slots=True)
class _Likeness:
    """The colours of images, and the row in them that an image has."""

    crops: Crops
    row_of: dict[int, int]

    def __call__(self, one: int, other: int) -> float:
        a, b = self.row_of[one], self.row_of[other]
        return float(likeness(self.crops[a][None], self.crops[b][None])[0])


def _group(
    number: int, places: Sequence[int], paths: Sequence[str], files: Sequence[_File], alike_to: _Likeness
) -> list[Copy]:
    keep, *others = sorted(places, key=lambda place: (-files[place].size, files[place].modified, place))
    group = []
    for place in others:
        same = files[place].content is not None and files[place].content == files[keep].content
        match, score = (Match.IDENTICAL, 1.0) if same else (Match.SIMILAR, alike_to(keep, place))
        group.append(Copy(number, paths[place], match, score, files[place].size))
    group.sort(key=lambda copy: (copy.match is Match.SIMILAR, -copy.score))
    return [Copy(number, paths[keep], Match.KEEP, 1.0, files[keep].size), *group]


def _files(paths: Sequence[str], cache: ImageCache | None) -> list[_File]:
    """Return what is known of files; read are only those with the size of another, which `cache` does not know."""
    stated = [_size_and_time(path) for path in paths]
    by_size: defaultdict[int, list[int]] = defaultdict(list)
    for place, (size, _) in enumerate(stated):
        by_size[size].append(place)
    asked = sorted(place for size, some in by_size.items() if size >= 0 and len(some) > 1 for place in some)
    contents = dict(zip(asked, contents_of([paths[place] for place in asked], cache), strict=True))
    return [_File(contents.get(place), *numbers) for place, numbers in enumerate(stated)]


def _size_and_time(path: str) -> tuple[int, int]:
    """Return the size of a file and when it was changed; -1 and 0 where there is none, as of a frame."""
    try:
        status = os.stat(path)  # noqa: PTH116
    except (OSError, ValueError):
        return -1, 0
    return status.st_size, status.st_mtime_ns


def _same(files: Sequence[_File]) -> Pairs:
    """Return each file with the bytes of an earlier one as a pair with the first that has them."""
    first: dict[bytes, int] = {}
    pairs = [
        (first[file.content], place)
        for place, file in enumerate(files)
        if file.content is not None and first.setdefault(file.content, place) != place
    ]
    return np.array(pairs, dtype=np.intp).reshape(-1, 2)
