"""The manifest of sorted images: what was put where, so that sorting can be resumed and undone.

It is a CSV file beside the label folders. Each entry is written before its operation, so a killed process leaves at
most one operation half done: the last one, which is rolled back when the manifest is opened again. Entries of
operations that failed are taken back at once; all others stay.
"""

# pathlib would normalise paths that must stay as they are.
# ruff: noqa: PTH110, PTH114, PTH117, PTH118, PTH119, PTH120, PTH122, PTH202

import csv
import errno
import os
import stat
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import astuple, dataclass, fields
from enum import StrEnum
from pathlib import Path
from typing import BinaryIO

from zeroshot_cli.disk import open_own, open_plain, refuse_link, write_file, writing
from zeroshot_cli.errors import InputError, UsageError
from zeroshot_cli.filing.folder_names import numbered
from zeroshot_cli.filing.placing import (
    UNFINISHED,
    absolute,
    is_link_to,
    is_regular,
    is_there,
    remove_if_there,
    rename,
    same_content,
    same_place,
)
from zeroshot_cli.results.formats import csv_records, delimited_row, is_torn, rows_in, to_bytes

MANIFEST = "manifest.csv"


class SortMode(StrEnum):
    """How an image gets into the folder of its label."""

    COPY = "copy"
    MOVE = "move"
    LINK = "link"


@dataclass(frozen=True, slots=True)
class Entry:
    """One file that was sorted.

    `source` is absolute; `target` is `folder/name` below the manifest's folder, which may therefore be moved. `link` is
    the text of a symbolic link that was moved: its target is another link, to the same file.
    """

    action: SortMode
    label: str
    source: str
    target: str
    link: str = ""


COLUMNS = tuple(field.name for field in fields(Entry))
_NAMES = ",".join(COLUMNS)
_HEADER = to_bytes(delimited_row(COLUMNS, ","))


class Manifest:
    """An open manifest; `root` is its folder, `entries` are those it held when it was opened."""

    def __init__(self, path: str, descriptor: int, check: Callable[[Sequence[Entry]], None]) -> None:
        self.path = path
        self.root = os.path.dirname(path)
        self._descriptor = descriptor
        with os.fdopen(os.dup(descriptor), "rb") as file:
            self.entries, self._last, self._end = _read(file, path)
        check(self.entries)
        if os.fstat(descriptor).st_size > self._end:
            self._cut(self._end)  # a torn last line
        if self._end == 0:
            self._write(_HEADER)
        self._roll_back()

    def append(self, entry: Entry) -> None:
        """Write an entry, whole or not at all; UsageError if the manifest cannot be written."""
        self._write(to_bytes(delimited_row(astuple(entry), ",")))

    def take_back(self) -> None:
        """Remove the last entry, whose operation failed."""
        self._cut(self._last)

    def replace(self, entries: Iterable[Entry]) -> None:
        """Replace all entries at once."""
        rows = "".join(delimited_row(astuple(entry), ",") for entry in entries)
        write_file(Path(self.path), _HEADER + to_bytes(rows), locked=True, own=True)

    def retire(self) -> str:
        """Rename the manifest, since all of it is undone; return its new name."""
        stem, extension = os.path.splitext(os.path.basename(self.path))
        with writing(self.path):
            for name in numbered(f"{stem}.undone", extension):
                with suppress(FileExistsError):
                    rename(self.path, os.path.join(self.root, name))
                    return name
        raise AssertionError("unreachable: there is always a free number")

    def _write(self, data: bytes) -> None:
        self._last = self._end
        with writing(self.path):
            rest = data
            try:
                while rest:
                    rest = rest[os.write(self._descriptor, rest) :]
            except OSError:
                with suppress(OSError, UsageError):
                    self._cut(self._end)
                raise
        self._end += len(data)

    def _cut(self, size: int) -> None:
        with writing(self.path):
            os.ftruncate(self._descriptor, size)
        self._end = size

    def _roll_back(self) -> None:
        """Undo what there is of the last operation if it was interrupted."""
        if not self.entries:
            return
        last = self.entries[-1]
        target = os.path.join(self.root, last.target)
        if os.path.islink(os.path.dirname(target)):
            return  # it may lead anywhere
        with writing(target):
            remove_if_there(os.path.join(os.path.dirname(target), UNFINISHED))
            if _is_half_done(last, target):
                remove_if_there(target)
                self.entries.pop()
                self.take_back()


def _is_half_done(entry: Entry, target: str) -> bool:
    source = entry.source
    if not is_there(target):
        return entry.action is not SortMode.MOVE or is_there(source)
    if entry.link:
        return is_link_to(source, entry.link) and os.path.islink(target)
    if entry.action is SortMode.LINK or not is_regular(target):
        return False
    if os.path.getsize(target) == 0:  # without hard links, an empty file reserves the name
        return os.path.exists(source) and os.path.getsize(source) > 0
    if entry.action is SortMode.COPY or not is_regular(source) or same_place(source, target):
        return False
    return same_content(source, target)


def _trusted(entries: Sequence[Entry]) -> None:
    """Let any entries pass."""


@contextmanager
def open_manifest(
    path: str, *, create: bool = False, check: Callable[[Sequence[Entry]], None] = _trusted
) -> Iterator[Manifest]:
    """Open a manifest for this process alone; a torn last line and a half-done last operation are repaired.

    `check` may refuse its entries before anything is touched. Raises UsageError if it is missing (unless `create`), a
    link, locked or not writable, InputError if it is not a manifest.
    """
    path = absolute(path)
    _refuse_special(path)
    with writing(path):
        descriptor = open_own(path, os.O_RDWR | os.O_APPEND | (os.O_CREAT if create else 0))
    try:
        _lock(descriptor, path)
        yield Manifest(path, descriptor, check)
    finally:
        os.close(descriptor)


def check_manifest(path: str) -> None:
    """Raise InputError if a file is not a manifest, UsageError if it is a link."""
    read_manifest(path)


def read_manifest(path: str) -> list[Entry]:
    """Return the entries of a manifest as it is; raises as check_manifest does."""
    _refuse_special(path)
    with writing(path):
        refuse_link(path)
        with open_plain(path) as file:
            return _read(file, path)[0]


def moved_by(manifest: str) -> dict[str, str]:
    """Return where the files that a manifest says were moved are, by where they were; none without a manifest."""
    if not os.path.lexists(manifest):
        return {}
    root = os.path.dirname(manifest)
    entries = read_manifest(manifest)
    return {entry.source: os.path.join(root, entry.target) for entry in entries if entry.action is SortMode.MOVE}


def _refuse_special(path: str) -> None:
    with suppress(OSError):
        mode = os.lstat(path).st_mode
        if not (stat.S_ISREG(mode) or stat.S_ISLNK(mode)):
            raise InputError(f"{path}, line 1: not a manifest of sorted images: it is not a regular file")


def _lock(descriptor: int, path: str) -> None:
    if sys.platform == "win32":
        return
    import fcntl

    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
            raise UsageError(f"{path} is in use by another zeroshot process; wait until it ends") from None
        # otherwise a file system without locks


def _read(file: BinaryIO, path: str) -> tuple[list[Entry], int, int]:
    """Return the entries, and where the last one begins and ends in bytes; a torn last line does not count."""
    entries: list[Entry] = []
    last = end = 0
    line = 1
    for record in csv_records(file):
        if line == 1 and not _is_header(record):
            raise InputError(f"{path}, line 1: not a manifest of sorted images; its columns are not {_NAMES}")
        if is_torn(record):
            if any(f"\n{mode},".encode() in record for mode in SortMode):  # more entries, which must not be dropped
                raise InputError(
                    f"{path}, line {line}: a quotation mark is never closed; restore the line or remove it"
                )
            break
        if line > 1:
            entries.append(_entry(record, path, line))
        last, end, line = end, end + len(record), line + record.count(b"\n")
    return entries, last, end


def _is_header(record: bytes) -> bool:
    return record.rstrip(b"\r\n") == _HEADER.rstrip() if record.endswith(b"\n") else _HEADER.startswith(record)


def _entry(record: bytes, path: str, line: int) -> Entry:
    """Return the entry in a record; InputError if there is none, or it would lead out of the manifest's folder."""
    try:
        ((action, label, source, target, link),) = rows_in(record.decode("utf-8", "surrogateescape"))
        entry = Entry(SortMode(action), label, source, target, link)
    except (csv.Error, ValueError):
        raise InputError(f"{path}, line {line}: not an entry with the columns {_NAMES}") from None
    if not os.path.isabs(source) or "\0" in source or os.path.normpath(source) != source:
        raise InputError(f"{path}, line {line}: the source {source!r} is not an absolute path")
    folder, _, name = target.partition("/")
    if "/" in name or "\0" in target or {folder, name} & {"", ".", ".."}:
        raise InputError(f"{path}, line {line}: the target {target!r} is not a file in a folder beside the manifest")
    return entry
