"""What merging is, whatever the files hold: each is what its run wrote, and all images come once, in order of path."""

import heapq
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from operator import itemgetter
from typing import Any, Protocol

from zeroshot_cli.display import counted
from zeroshot_cli.errors import DataError
from zeroshot_cli.results.shards.shard import PathSet, Share, check_complete

_OTHER_FILES = 100  # that a process has open
_STEP = 1000  # images between two calls of `on_progress`
OnProgress = Callable[[int, int], None]


class Source(Protocol):
    """A file that is one of several to merge; `items` are what it has of each image, with its path."""

    name: str
    share: Share

    def paths(self) -> Iterator[str]:
        """Yield the path of every image; DataError where the file is damaged."""

    def items(self) -> Iterator[tuple[str, Any]]:
        """Yield the path of every image, and what a writer of the same format takes."""


@dataclass(slots=True)
class _Watch:
    """Whether paths come in order."""

    ascending: bool = True

    def __call__(self, paths: Iterable[str]) -> Iterator[str]:
        last = ""
        for path in paths:
            self.ascending &= last <= path
            last = path
            yield path


def merged(sources: Sequence[Source], on_progress: OnProgress) -> Iterator[Any]:
    """Return what sources have of their images, in order of path; that of a single source stays as it is.

    All are read first: UsageError or DataError where one is missing, twice, changed or of other images. One that is not
    in order of path is sorted in memory.
    """
    check_complete([(source.name, source.share) for source in sources])
    ordered = [_is_sorted(source) or len(sources) == 1 for source in sources]
    return _joined(sources, ordered, on_progress)


def _joined(sources: Sequence[Source], ordered: Sequence[bool], on_progress: OnProgress) -> Iterator[Any]:
    _allow_open(len(sources))
    path_of = itemgetter(0)
    streams = [
        source.items() if in_order else iter(sorted(source.items(), key=path_of))
        for source, in_order in zip(sources, ordered, strict=True)
    ]
    total = sources[0].share.all.count
    for done, (_, content) in enumerate(heapq.merge(*streams, key=path_of), start=1):
        yield content
        if done % _STEP == 0 or done == total:
            on_progress(done, total)


def _allow_open(files: int) -> None:
    """Raise the number of files that may be open at once, where the system lets this process do so."""
    if sys.platform != "win32":
        import resource

        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        wanted = files + _OTHER_FILES
        if soft != resource.RLIM_INFINITY and soft < wanted:
            most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
            with suppress(ValueError, OSError):
                resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


def _is_sorted(source: Source) -> bool:
    """Return whether a file is in order of path; DataError unless it has the images that its run wrote."""
    watch, expected, what = _Watch(), source.share.own, f"{source.name}, shard {source.share.shard},"
    found = PathSet.of(watch(source.paths()))
    if found.count != expected.count:
        raise DataError(
            f"{what} has {counted(found.count, 'whole image')}, and its run wrote {expected.count}: it was cut or "
            "changed since; run this shard again with --overwrite"
        )
    if found != expected:
        raise DataError(f"{what} has other images than its run wrote; run this shard again with --overwrite")
    return watch.ascending
