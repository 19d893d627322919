"""Put every classified image into the folder of its label; unsort.py undoes it."""

# pathlib would normalise paths that must stay as they are.
# ruff: noqa: PTH103, PTH110, PTH112, PTH114, PTH115, PTH116, PTH118, PTH119, PTH120, PTH122, PTH208, PTH211

import errno
import os
import shlex
import stat
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from zeroshot_cli.disk import writing
from zeroshot_cli.display import counted
from zeroshot_cli.errors import UnreadableImage, UsageError
from zeroshot_cli.filing.folder_names import FolderNames, folded, numbered
from zeroshot_cli.filing.known import remember
from zeroshot_cli.filing.manifest import (
    MANIFEST,
    Entry,
    Manifest,
    SortMode,
    check_manifest,
    open_manifest,
    read_manifest,
)
from zeroshot_cli.filing.placing import (
    UNFINISHED,
    copy_file,
    error_text,
    is_link_to,
    is_there,
    make_folder,
    move_file,
    move_link,
    unchanged_copy,
)
from zeroshot_cli.records import UNKNOWN, Prediction, Result, SkippedImage
from zeroshot_cli.remote.address import is_elsewhere
from zeroshot_cli.results.formats import to_bytes

__all__ = ["SortMode", "Sorted", "check_on_disk", "check_sort_into", "check_sorted_before", "sort_into"]

_FULL = (errno.ENOSPC, errno.EDQUOT)
_LONGEST_EXTENSION = 32  # bytes; what is longer is part of the name
_MOST_LINKS = 40  # followed in a row, as Linux does


@dataclass(frozen=True, slots=True)
class Sorted:
    """How many images were filed, were already in place, and could not be filed."""

    filed: int
    already: int
    failed: tuple[SkippedImage, ...]

    def sentence(self, folder: Path) -> str:
        """Return the counts as a sentence."""
        parts = [f"{counted(self.filed, 'image')} filed into {folder}"]
        if self.already:
            parts.append(f"{self.already} already there")
        if self.failed:
            parts.append(f"{len(self.failed)} could not be filed")
        return ", ".join(parts) + "."


def check_sort_into(folder: Path, mode: SortMode, *, every_label: bool = False) -> None:
    """Raise now, before any work, what sort_into would: UsageError, or InputError for a damaged manifest."""
    if every_label and mode is SortMode.MOVE:
        raise UsageError("--sort-mode move cannot put an image under several labels; use copy or link")
    with writing(str(folder)), suppress(FileNotFoundError, NotADirectoryError):
        os.lstat(folder)  # a name too long, a locked folder
    existing = next(path for path in (folder, *folder.absolute().parents) if os.path.lexists(path))
    if not os.path.isdir(existing):
        raise UsageError(f"cannot sort into {folder}: {existing} is not a folder; name another place")
    if not os.access(existing, os.W_OK | os.X_OK, effective_ids=os.access in os.supports_effective_ids):
        raise UsageError(f"cannot sort into {folder}: {existing} is not writable; name another place")
    manifest = os.path.join(folder, MANIFEST)
    if os.path.lexists(manifest):
        check_manifest(manifest)


def sort_into(
    folder: Path,
    results: Callable[[], Iterator[Result]],
    mode: SortMode,
    *,
    every_label: bool = False,
    labels: Iterable[str] = (),
    on_progress: Callable[[int], None] = lambda done: None,
) -> Sorted:
    """File every image under its label (with `every_label`, under each of its labels) and list it in a manifest.

    Called again with the same results, it continues where it stopped. Of `labels` that look the same as folder names,
    the first gets the plain name. `results` is called twice if files are moved. `on_progress` gets the number of images
    done. Raises UsageError if the folder cannot be written or the disk is full; a single image that cannot be filed is
    in `failed`.
    """
    check_sort_into(folder, mode, every_label=every_label)
    with writing(str(folder)):
        os.makedirs(folder, exist_ok=True)
    filed, done = 0, 0
    failed: list[SkippedImage] = []
    with open_manifest(os.path.join(folder, MANIFEST), create=True) as manifest:
        items = ((i.path, _labels_of(i, every_label=every_label)) for i in results() if isinstance(i, Prediction))
        remember(manifest.path, _check_again(folder, manifest.entries, items))
        sorter = _Sorter(manifest, mode, labels)
        for done, item in enumerate(_in_order(results, mode), start=1):
            try:
                filed += sorter.file(item.path, _labels_of(item, every_label=every_label))
            except UnreadableImage as problem:
                failed.append(SkippedImage(item.path, str(problem)))
            on_progress(done)
    return Sorted(filed, done - filed - len(failed), tuple(failed))


def check_on_disk(paths: Iterable[str]) -> None:
    """Raise UsageError for an image that is no file of its own, and so cannot be filed."""
    if elsewhere := next(filter(is_elsewhere, paths), None):
        raise UsageError(f"--sort-into files images on disk, and {elsewhere} is elsewhere; omit it, or --sort-into")


def check_sorted_before(folder: Path, paths: Iterable[str], labels: Iterable[str]) -> None:
    """Raise UsageError now where images are sorted into a folder already, by labels that are not among these."""
    manifest = os.path.join(folder, MANIFEST)
    if os.path.lexists(manifest):
        possible = [*labels, UNKNOWN]
        _check_again(folder, read_manifest(manifest), ((path, possible) for path in paths))


def _check_again(folder: Path, entries: Iterable[Entry], items: Iterable[tuple[str, Sequence[str]]]) -> set[str]:
    """Return the folders of images with their new labels; UsageError for a copy or a link under another label.

    Sorted once more by other words, an image would be in two folders, and the older copy wrong.
    """
    before: dict[str, list[Entry]] = {}
    for entry in entries:
        if entry.action is not SortMode.MOVE:
            before.setdefault(entry.source, []).append(entry)
    folders = set[str]()
    real_folder = lru_cache(maxsize=1024)(os.path.realpath)
    for path, labels in items:
        place = real_folder(os.path.dirname(path) or ".")
        folders.add(place)
        for entry in before.get(os.path.join(place, os.path.basename(path)), ()):
            if entry.label not in map(_as_written, labels) and os.path.lexists(os.path.join(folder, entry.target)):
                raise UsageError(
                    f"{path} is in {folder} already, sorted by other labels as {entry.label!r}; type zeroshot unsort "
                    f"{shlex.quote(str(folder))} first, or name another folder"
                )
    return folders


def _in_order(results: Callable[[], Iterator[Result]], mode: SortMode) -> Iterator[Prediction]:
    """Yield what is to be filed; links are moved after files, so that they can lead to where those are now."""
    if mode is not SortMode.MOVE:
        yield from (item for item in results() if isinstance(item, Prediction))
        return
    for links in (False, True):
        yield from (i for i in results() if isinstance(i, Prediction) and os.path.islink(i.path) is links)


def _labels_of(item: Prediction, *, every_label: bool) -> Sequence[str]:
    if every_label and not item.rejected:
        return list(dict.fromkeys(best.label for best in item.predictions))
    return [item.label]


class _Sorter:
    """Files one image after another; knows what was filed before and which names are taken."""

    def __init__(self, manifest: Manifest, mode: SortMode, labels: Iterable[str]) -> None:
        self.manifest = manifest
        self.mode = mode
        self.root = manifest.root
        self.targets = {(e.label, e.source): e.target for e in manifest.entries if e.action is mode}
        self.moved = {e.source: e.target for e in manifest.entries if e.action is SortMode.MOVE}
        self.copies = {e.target for e in manifest.entries if e.action is not SortMode.MOVE}
        self.folder_names = FolderNames(_names_that_are_no_folders(self.root))
        for entry in manifest.entries:
            self.folder_names.assign(entry.label, entry.target.partition("/")[0])
        for label in labels:
            self.folder_names.folder(_as_written(label))
        manifest.entries.clear()
        self.names: dict[str, _FreeNames] = {}
        self._real_folder = lru_cache(maxsize=1024)(os.path.realpath)

    def file(self, path: str, labels: Sequence[str]) -> bool:
        """Put an image in the folder of each label; False if it was already there, UnreadableImage if it cannot be."""
        source = os.path.join(self._real_folder(os.path.dirname(path) or "."), os.path.basename(path))
        try:
            filed = [self._file(source, _as_written(label)) for label in labels]
        except OSError as error:
            if error.errno in _FULL:
                advice = f"{self.manifest.path} lists what is filed; free some space and run the same command again"
                raise UsageError(f"cannot write to {self.root}: {error_text(error)}; {advice}") from error
            gone = isinstance(error, FileNotFoundError) and not os.path.exists(source)
            raise UnreadableImage("missing since it was classified" if gone else error_text(error)) from error
        return any(filed)

    def _file(self, source: str, label: str) -> bool:
        folder = self.folder_names.folder(label)
        if self._is_there(source, label, folder):
            return False
        self._check(source)
        link = os.readlink(source) if self.mode is SortMode.MOVE and os.path.islink(source) else ""
        make_folder(os.path.join(self.root, folder))
        if folder not in self.names:
            self.names[folder] = _FreeNames(os.path.join(self.root, folder))
        for name in self.names[folder].like(os.path.basename(source)):
            if self._place(Entry(self.mode, label, source, f"{folder}/{name}", link)):
                return True
        raise AssertionError("unreachable: there is always a free number")

    def _is_there(self, source: str, label: str, folder: str) -> bool:
        """Return whether the image is in place: by an earlier call, or because it is one of the sorted files."""
        if os.path.dirname(source) == self._real_folder(os.path.join(self.root, folder)) and is_there(source):
            return True
        if self.mode is not SortMode.MOVE and self._is_own_copy(source):
            return True
        target = self.targets.get((label, source))
        if target is None:
            return False
        target = os.path.join(self.root, target)
        if self.mode is SortMode.COPY:
            return unchanged_copy(source, target) or (os.path.exists(target) and not os.path.exists(source))
        if self.mode is SortMode.LINK:
            return is_link_to(target, source)
        return is_there(target) and not is_there(source)

    def _is_own_copy(self, source: str) -> bool:
        return (
            source.startswith(self.root + os.sep)
            and os.path.relpath(source, self.root).replace(os.sep, "/") in self.copies
        )

    def _check(self, source: str) -> None:
        """Raise OSError if the source is missing, UnreadableImage if it is no longer a file."""
        mode = os.lstat(source).st_mode
        if stat.S_ISLNK(mode) and self.mode is not SortMode.MOVE:
            mode = os.stat(source).st_mode
        if not (stat.S_ISREG(mode) or stat.S_ISLNK(mode)):
            raise UnreadableImage("no longer a file")

    def _place(self, entry: Entry) -> bool:
        """Do what the entry says and keep it, or neither; False if another process has just taken the name."""
        target = os.path.join(self.root, entry.target)
        self.manifest.append(entry)
        try:
            if self.mode is SortMode.COPY:
                copy_file(entry.source, target)
            elif self.mode is SortMode.LINK:
                os.symlink(entry.source, target)
            elif entry.link:
                move_link(entry.source, target, self._still_leading(entry))
            else:
                move_file(entry.source, target)
        except OSError as error:
            self.manifest.take_back()
            if isinstance(error, FileExistsError):
                return False
            raise
        if self.mode is SortMode.MOVE:
            self.moved[entry.source] = entry.target
        return True

    def _still_leading(self, entry: Entry) -> str:
        """Return an absolute path for a moved link to the same file as before, even if that is moved itself."""
        goal = os.path.join(os.path.dirname(entry.source), entry.link)
        if os.path.exists(goal) and not os.path.islink(goal):
            return goal
        # Another link, which may be moved next, or a moved file: the file at the end of all links.
        now = end = os.path.realpath(entry.source)
        for _ in range(_MOST_LINKS):
            if os.path.lexists(now) or now not in self.moved:
                break
            now = os.path.join(self.root, self.moved[now])
        return now if os.path.lexists(now) else end


class _FreeNames:
    """The free names in a folder, on a system that may ignore case."""

    def __init__(self, folder: str) -> None:
        self._taken = {folded(name) for name in [*os.listdir(folder), UNFINISHED]}
        self._next: dict[str, int] = {}

    def like(self, name: str) -> Iterator[str]:
        """Yield the name, then the name with numbers; what was yielded counts as taken."""
        stem, extension = os.path.splitext(name)
        if len(os.fsencode(extension)) > _LONGEST_EXTENSION:
            stem, extension = name, ""
        first = self._next.get(folded(name), 1)
        for number, free in enumerate(numbered(stem, extension, first=first), start=first):
            self._next[folded(name)] = number + 1
            if folded(free) not in self._taken:
                self._taken.add(folded(free))
                yield free


def _names_that_are_no_folders(root: str) -> list[str]:
    stem, extension = os.path.splitext(MANIFEST)
    with os.scandir(root) as entries:
        files = [entry.name for entry in entries if not entry.is_dir(follow_symlinks=False)]
    return [*files, MANIFEST, f"{stem}.undone{extension}", UNFINISHED]


def _as_written(label: str) -> str:
    """Return the label as it is read back from the manifest."""
    return to_bytes(label).decode("utf-8", "surrogateescape")
