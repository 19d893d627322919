"""Walk folders in order of path, with no more in memory than the names in one folder and in those above it."""

# pathlib would change how a path is written, and results carry it as it was given.
# ruff: noqa: PTH116, PTH118

import heapq
import os
from collections import deque
from collections.abc import Callable, Iterator

from zeroshot_cli.images.file_kinds import reason_of
from zeroshot_cli.records import SkippedImage

Identity = tuple[int, int]  # device and number of a folder
Run = Iterator[str | SkippedImage]


def folders_below(root: str) -> list[str]:
    """Return a folder and all below it, each once."""
    found: list[str] = []
    walk = _Walk(root, lambda folder, identity: True, lambda entry: False, found.append)
    for run in walk.runs():
        deque(run, maxlen=0)
    return found


def runs_below(
    root: str, enters: Callable[[str, Identity], bool], takes: Callable[[os.DirEntry[str]], bool]
) -> Iterator[Run]:
    """Yield runs of images, each in order of path, to be read one after the other.

    The first has what is in the folder and in those below it that `enters` admits, of files those that `takes` admits.
    Every folder comes once, so loops end. Links to folders come after all others, in a run each, so that an image has
    its own path and not one through a link. The last run are folders that cannot be listed.
    """
    return _Walk(root, enters, takes, lambda folder: None).runs()


class _Walk:
    def __init__(
        self,
        root: str,
        enters: Callable[[str, Identity], bool],
        takes: Callable[[os.DirEntry[str]], bool],
        visits: Callable[[str], object],
    ) -> None:
        self._root, self._enters, self._takes, self._visits = root, enters, takes, visits
        self._links = [root]  # a heap
        self._seen: set[Identity] = set()
        self._failed: list[SkippedImage] = []

    def runs(self) -> Iterator[Run]:
        while self._links:
            yield self._below(heapq.heappop(self._links))
        failed = sorted(self._failed, key=lambda item: item.path)
        yield iter(failed)

    def _below(self, top: str) -> Run:
        levels = [self._listed(top)]
        while levels:
            path = next(levels[-1], None)
            if path is None:
                levels.pop()
            elif path.endswith(os.sep):
                levels.append(self._listed(path[: -len(os.sep)]))
            else:
                yield path

    def _listed(self, folder: str) -> Iterator[str]:
        """Return the images in a folder and, with a slash at their end, its folders, in the order of all paths."""
        names: list[str] = []
        try:
            status = os.stat(folder)
            identity = status.st_dev, status.st_ino
            if identity in self._seen or (folder != self._root and not self._enters(folder, identity)):
                return iter(())
            self._seen.add(identity)
            self._visits(folder)
            with os.scandir(folder) as listing:
                for entry in listing:
                    if entry.is_dir(follow_symlinks=False):
                        names.append(entry.name + os.sep)
                    elif _links_to_folder(entry):
                        heapq.heappush(self._links, entry.path)
                    elif self._takes(entry):
                        names.append(entry.name)
        except OSError as problem:
            self._visits(folder)
            self._failed.append(SkippedImage(folder, reason_of(problem)))
            return iter(())
        names.sort()
        return (os.path.join(folder, name) for name in names)


def _links_to_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_symlink() and entry.is_dir()
    except OSError:  # it leads into a locked folder, or in a circle
        return False
