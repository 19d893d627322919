"""The record of what was written into sidecars and images, so that tagging can be repeated and undone.

It is JSON lines beside the results, to which lines are only ever added. A line is there before its file is touched and
has the file's former bytes, so a killed process can leave a line without a change, but no change without a line.
"""

# pathlib's questions raise OSError where a name is too long or a folder is locked; opening names the reason.
# ruff: noqa: PTH117, PTH118, PTH119, PTH120

import base64
import binascii
import hashlib
import json
import os
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from zeroshot_cli.disk import open_plain, writing
from zeroshot_cli.display import counted
from zeroshot_cli.documents import load_json
from zeroshot_cli.errors import InputError, UsageError
from zeroshot_cli.filing.folder_names import numbered
from zeroshot_cli.filing.known import folders_of, is_inside, remember
from zeroshot_cli.filing.placing import absolute, rename
from zeroshot_cli.results.append_file import AppendFile
from zeroshot_cli.tagging.keywords import Field, Keywords

EXTENSION = ".tags.jsonl"
_HEADER = {"record": "zeroshot tag", "version": 1}
_LARGEST = 1 << 26  # bytes of a sidecar


@dataclass(frozen=True, slots=True)
class Entry:
    """One change of a sidecar or an image at an absolute path.

    `before` are a sidecar's former bytes, None where there was none; `after` is the SHA-256 of what it was to become,
    and `keywords` are those of ours in it. An image is kept beside itself; `original` is the SHA-256 of its bytes.
    """

    path: str
    before: bytes | None
    after: str
    keywords: Keywords
    original: str = ""


class Record:
    """An open record; `entries` are the changes of each path that are not undone, oldest first."""

    def __init__(self, file: AppendFile) -> None:
        self._file = file
        self.path = absolute(str(file.path))
        with file.reader() as stream:
            self.entries, end = _read(stream, file.name)
        file.truncate(end)
        if end == 0:
            self._write(_HEADER)

    def append(self, entry: Entry) -> None:
        """Write down a change that is about to be made."""
        before = None if entry.before is None else base64.b85encode(zlib.compress(entry.before)).decode()
        keywords = {str(field): [*texts] for field, texts in entry.keywords.items() if texts}
        original = {"original": entry.original} if entry.original else {}
        self._write({"path": entry.path, "before": before, **original, "after": entry.after, "keywords": keywords})
        self.entries.setdefault(entry.path, []).append(entry)

    def undone(self, path: str) -> None:
        """Write down that a file is as it was."""
        self._write({"path": path, "undone": True})
        del self.entries[path]

    def trust(self, paths: Iterable[str]) -> None:
        """Note that the user tags files on this machine: in their folders `zeroshot untag` needs no permission."""
        remember(self.path, {os.path.dirname(path) for path in paths})

    def check_known(self) -> None:
        """Raise UsageError if the record, which anybody can write, leads to folders that this user did not tag in."""
        known = [*folders_of(self.path), os.path.dirname(self.path)]
        unknown = [path for path in self.entries if not is_inside(path, known)]
        if unknown:
            raise UsageError(
                f"{self.path} names {len(unknown)} of {counted(len(self.entries), 'file')} in folders that you did not "
                f"tag in on this machine, the first is {unknown[0]}; add --yes if you trust where it comes from"
            )

    def retire(self) -> None:
        """Rename the record, since all of it is undone."""
        stem = self.path.removesuffix(EXTENSION)
        with writing(self.path):
            for name in numbered(f"{os.path.basename(stem)}.untagged", ".jsonl"):
                with suppress(FileExistsError):
                    rename(self.path, os.path.join(os.path.dirname(self.path), name))
                    return

    def _write(self, fields: Mapping[str, Any]) -> None:
        self._file.append(_line(fields))
        self._file.sync()


@dataclass(frozen=True, slots=True)
class Former:
    """What a file was before our changes: `data`, None for no file.

    Where another program has `edited` it since, that is what it is now, and `keywords` of ours may be in it.
    """

    data: bytes | None
    edited: bool = False


def former(entries: Sequence[Entry], data: bytes | None) -> Former:
    """Return what a file was before the changes in a record, from its bytes now."""
    if data is None or not entries:
        return Former(data)
    now = digest(data)
    for entry in reversed(entries):
        if entry.after == now:
            return Former(entry.before)
    if any(entry.before == data for entry in entries):
        return Former(data)
    return Former(data, edited=True)


def digest(data: bytes) -> str:
    """Return the SHA-256 of bytes."""
    return hashlib.sha256(data).hexdigest()


def read_if_there(path: str) -> bytes | None:
    """Return the bytes of a file, None if there is none; raises OSError."""
    try:
        with open_plain(path) as file:
            data = file.read(_LARGEST + 1)
    except FileNotFoundError:
        return None
    if len(data) > _LARGEST:
        raise OSError(0, "it is far too large for a sidecar")
    return data


@contextmanager
def open_record(path: Path, *, create: bool = False) -> Iterator[Record]:
    """Open a record for this process alone; a torn last line is dropped.

    Raises UsageError if it is missing (unless `create`), a link, in use or not writable, InputError if it is none.
    """
    if not create and not os.path.lexists(path):
        way_out = "name the results that zeroshot tag was given, or its record"
        if others := sorted(path.parent.glob(f"*{EXTENSION}")):
            way_out = f"give {' or '.join(map(str, others[:3]))}, which is beside it"
        raise UsageError(f"there is no record {path}; {way_out}")
    file = AppendFile(path, own=True)
    try:
        file.lock()
        record = Record(file)
        yield record
    finally:
        if file.created and not file.size > len(_line(_HEADER)):
            file.discard()
        file.close()


def read_entries(path: Path) -> dict[str, list[Entry]]:
    """Return the changes in a record as it is, none without one; InputError if it is none."""
    with writing(str(path)), suppress(FileNotFoundError), open_plain(path) as file:
        return _read(file, str(path))[0]
    return {}


def record_of(path: Path) -> Path:
    """Return the record beside results; a record is its own."""
    return path if path.name.endswith(EXTENSION) else path.with_name(path.name + EXTENSION)


def _line(fields: Mapping[str, Any]) -> bytes:
    return json.dumps(fields).encode() + b"\n"


def _read(stream: BinaryIO, name: str) -> tuple[dict[str, list[Entry]], int]:
    """Return the changes that are not undone, and where the last whole line ends."""
    entries: dict[str, list[Entry]] = {}
    end = 0
    for number, line in enumerate(stream, start=1):
        if not line.endswith(b"\n") and (number > 1 or _line(_HEADER).startswith(line)):
            break  # torn
        try:
            fields = load_json(line)
            if number == 1 and fields != _HEADER:
                raise ValueError("it does not begin as one")
            if fields.get("undone"):
                entries.pop(fields["path"], None)
            elif number > 1:
                entry = _entry(fields)
                entries.setdefault(entry.path, []).append(entry)
        except (ValueError, TypeError, KeyError, AttributeError, binascii.Error, zlib.error) as error:
            raise InputError(f"{name}, line {number}: not a record of zeroshot tag ({error})") from None
        end += len(line)
    return entries, end


def _entry(fields: Mapping[str, Any]) -> Entry:
    """Return the change in a line; ValueError for one that no `zeroshot tag` makes."""
    path, before, original = fields["path"], fields["before"], str(fields.get("original", ""))
    known = is_sidecar(path) is not bool(original)
    if not os.path.isabs(path) or "\0" in path or os.path.normpath(path) != path or not known:
        raise ValueError(f"{path!r} is not an absolute path of a sidecar or an image")
    if before is not None:
        packed = zlib.decompressobj()
        before = packed.decompress(base64.b85decode(before), _LARGEST)
        if not packed.eof:
            raise ValueError("its bytes are cut short")
    keywords = {Field(name): [str(text) for text in texts] for name, texts in fields["keywords"].items()}
    return Entry(path, before, str(fields["after"]), keywords, original)


def is_sidecar(path: str) -> bool:
    """Return whether a path has the extension of sidecars."""
    return path.lower().endswith(".xmp")
