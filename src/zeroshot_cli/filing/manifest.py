"""The manifest of sorted images: what was put where, so that it can be gone on with and undone.

A CSV file beside the label folders. An entry is written before the operation that it is about, so a process that is
killed leaves at most one operation half done: the last one, which is rolled back when the manifest is opened again.
Entries of operations that failed are taken back at once; all others stay.
"""

# pathlib would tidy up paths that are to stay as they are.
# ruff: noqa: PTH110, PTH114, PTH117, PTH118, PTH119, PTH120, PTH122, PTH123, PTH202

import csv
import errno
import os
import stat
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import astuple, dataclass, fields
from enum import StrEnum
from pathlib import Path
from typing import BinaryIO

from zeroshot_cli.disk import writing
from zeroshot_cli.errors import InputError, UsageError
from zeroshot_cli.filing.folder_names import numbered
from zeroshot_cli.filing.placing import (
    UNFINISHED,
    is_link_to,
    is_regular,
    is_there,
    remove_if_there,
    rename,
    same_content,
    same_place,
)
from zeroshot_cli.results.formats import delimited_row, to_bytes

MANIFEST = "manifest.csv"


class SortMode(StrEnum):
    """How an image gets into the folder of its label."""

    COPY = "copy"
    MOVE = "move"
    LINK = "link"


@dataclass(frozen=True, slots=True)
class Entry:
    """One file put in its place.

    `source` is absolute, `target` is `folder/name` below the manifest's folder, which may therefore be moved.
    `link` is the text of a symbolic link that was moved: its target is another link, to the same file.
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
    """An open manifest; `root` is its folder, `entries` are those that it held when it was opened."""

    def __init__(self, path: str, descriptor: int) -> None:
        self.path = path
        self.root = os.path.dirname(path)
        self._descriptor = descriptor
        with os.fdopen(os.dup(descriptor), "rb") as file:
            self.entries, self._last, self._end = _read(file, path)
        if os.fstat(descriptor).st_size > self._end:
            self._cut(self._end)  # a last line that was being written
        if self._end == 0:
            self._write(_HEADER)
        self._roll_back()

    def append(self, entry: Entry) -> None:
        """Write an entry, whole or not at all; UsageError where the manifest cannot be written."""
        self._write(to_bytes(delimited_row(astuple(entry), ",")))

    def take_back(self) -> None:
        """Remove the entry appended last, whose operation failed."""
        self._cut(self._last)

    def replace(self, entries: Iterable[Entry]) -> None:
        """Put another list of entries in the manifest's place, at once."""
        rows = [delimited_row(astuple(entry), ",") for entry in entries]
        unfinished = os.path.join(self.root, UNFINISHED)
        with writing(self.path):
            with open(unfinished, "wb") as file:
                file.write(_HEADER + to_bytes("".join(rows)))
                file.flush()
                os.fsync(file.fileno())
            Path(unfinished).replace(self.path)

    def retire(self) -> str:
        """Rename the manifest to one that is undone; return its new name."""
        stem, ending = os.path.splitext(os.path.basename(self.path))
        with writing(self.path):
            for name in numbered(f"{stem}.undone", ending):
                with suppress(FileExistsError):
                    rename(self.path, os.path.join(self.root, name))
                    return name
        raise AssertionError("numbers do not end")

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
        """Undo what there is of the last operation, if it was cut short."""
        if not self.entries:
            return
        last = self.entries[-1]
        target = os.path.join(self.root, last.target)
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
    if os.path.getsize(target) == 0:  # where there are no hard links, an empty file holds the place
        return os.path.exists(source) and os.path.getsize(source) > 0
    if entry.action is SortMode.COPY or not is_regular(source) or same_place(source, target):
        return False
    return same_content(source, target)


@contextmanager
def open_manifest(path: str, *, create: bool = False) -> Iterator[Manifest]:
    """Open a manifest for this process alone, with a torn last line and a half done last operation made good.

    UsageError where it is missing (unless `create`), locked or not writable, InputError where it is no manifest.
    """
    path = os.path.join(os.path.realpath(os.path.dirname(path)), os.path.basename(path))
    flags = os.O_RDWR | os.O_APPEND | getattr(os, "O_BINARY", 0) | (os.O_CREAT if create else 0)
    with writing(path):
        descriptor = os.open(path, flags, 0o666)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise InputError(f"{path}, line 1: not a manifest of sorted images, nor a file at all")
        _lock(descriptor, path)
        yield Manifest(path, descriptor)
    finally:
        os.close(descriptor)


def check_manifest(path: str) -> None:
    """Raise InputError where a file is not a manifest."""
    with writing(path), open(path, "rb") as file:
        _read(file, path)


def _lock(descriptor: int, path: str) -> None:
    if sys.platform == "win32":
        return
    import fcntl

    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
            raise UsageError(f"{path} is in use by another zeroshot; wait until that has ended") from None
        # a file system without locks: go on without


def _read(file: BinaryIO, path: str) -> tuple[list[Entry], int, int]:
    """Return the entries, and the byte at which the last begins and ends; a torn last line does not count."""
    entries: list[Entry] = []
    last = end = 0
    for line, record in _records(file):
        if line == 1 and not _is_header(record):
            raise InputError(f"{path}, line 1: not a manifest of sorted images; its columns are not {_NAMES}")
        if _is_torn(record):
            _refuse_unless_last(record, path, line)
            break
        if line > 1:
            entries.append(_entry(record, path, line))
        last, end = end, end + len(record)
    return entries, last, end


def _refuse_unless_last(record: bytes, path: str, line: int) -> None:
    """Raise InputError where a quotation mark without end has swallowed more entries: they are not ours to drop."""
    if any(f"\n{mode},".encode() in record for mode in SortMode):
        raise InputError(f"{path}, line {line}: a quotation mark has no end; restore the line or take it out")


def _records(file: BinaryIO) -> Iterator[tuple[int, bytes]]:
    """Yield each record with its first line's number; line breaks within quotes are part of it."""
    lines: list[bytes] = []
    quoted = False
    start = 1
    for number, line in enumerate(file, start=1):
        lines.append(line)
        quoted ^= line.count(b'"') % 2 == 1
        if not quoted:
            yield start, b"".join(lines)
            lines, start = [], number + 1
    if lines:
        yield start, b"".join(lines)


def _is_torn(record: bytes) -> bool:
    return not record.endswith(b"\n") or record.count(b'"') % 2 == 1


def _is_header(record: bytes) -> bool:
    return record.rstrip(b"\r\n") == _HEADER.rstrip() if record.endswith(b"\n") else _HEADER.startswith(record)


def _entry(record: bytes, path: str, line: int) -> Entry:
    """Return the entry of one record; InputError where it is none, or would lead out of the manifest's folder."""
    try:
        row = next(csv.reader([record.decode("utf-8", "surrogateescape")], strict=True))
        action, label, source, target, link = row
        entry = Entry(SortMode(action), label, source, target, link)
    except (csv.Error, ValueError):
        raise InputError(f"{path}, line {line}: not an entry with the columns {_NAMES}") from None
    if not os.path.isabs(source) or "\0" in source:
        raise InputError(f"{path}, line {line}: the source {source!r} is not an absolute path")
    if not _is_folder_and_name(target.split("/")):
        raise InputError(f"{path}, line {line}: the target {target!r} is not a file in a folder beside the manifest")
    return entry


def _is_folder_and_name(parts: Sequence[str]) -> bool:
    return len(parts) == 2 and all(part not in ("", ".", "..") and "\0" not in part for part in parts)
