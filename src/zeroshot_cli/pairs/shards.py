"""Pairs in WebDataset tars: an image and its caption have the same name except for the extension.

The library (extra `webdataset`) expands patterns such as shard-{000..099}.tar and groups the members of a tar. Images
stay in their tar: their position is recorded, so that any of them can be read at any time.
"""

# Path.exists raises OSError where a name is too long or a folder is locked; opening the file names the reason.
# ruff: noqa: PTH110, PTH113, PTH207

import glob
import io
import os
import re
import tarfile
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

from zeroshot_cli.disk import writing
from zeroshot_cli.documents import load_json
from zeroshot_cli.errors import DataError, UnreadableImage, UsageError
from zeroshot_cli.images.decode import open_regular
from zeroshot_cli.images.file_kinds import reason_of
from zeroshot_cli.pairs.columns import (
    CAPTION_COLUMNS,
    IMAGE_EXTENSIONS,
    Columns,
    Fault,
    captions_of_value,
    checked,
)

CAPTION_EXTENSIONS = ("txt", "text", "caption")
_META = re.compile(r"__[^/]*__($|/)")  # members about the tar itself, which webdataset skips too
_BLOCK = 512  # bytes; a tar ends with blocks of zeros
MOST_SHARDS = 1_000_000  # that a pattern may stand for
_DIGITS = 36  # of both ends of a range
_NUMBERS = re.compile(r"\{(-?\d+)\.\.(-?\d+)[^{}]*\}")
_CHOICES = re.compile(r"\{([^{}]*(?:,|[A-Za-z]\.\.[A-Za-z])[^{}]*)\}")
_LETTERS_OF = re.compile(r"[A-Za-z]\.\.[A-Za-z].*")
_LETTERS = range(ord("A"), ord("z") + 1)


@dataclass(frozen=True, slots=True)
class Member:
    """Where an image is in a tar, in bytes."""

    tar: str
    offset: int
    size: int

    def open(self) -> BinaryIO:
        """Return the image's bytes as a file; raises UnreadableImage with the reason."""
        if not self.size:
            raise UnreadableImage("the file is empty")
        with open_regular(self.tar) as tar:
            content = self.read(tar)
        if len(content) < self.size:
            raise UnreadableImage("its tar is truncated")
        return io.BytesIO(content)

    def read(self, tar: BinaryIO) -> bytes:
        """Return the image's bytes from its open tar; raises UnreadableImage where the disk fails."""
        try:
            tar.seek(self.offset)
            return tar.read(self.size)
        except OSError as error:
            raise UnreadableImage(reason_of(error)) from None


ShardRow = tuple[str, Member | None, tuple[str, ...]]
"""The name of an image, "x.tar/000.jpg", its place, None where the tar has no image, and its captions."""


def expand(pattern: str) -> list[str]:
    """Return the files that `shard-{000..099}.tar` means; a name without braces, or of an existing file, is itself.

    Raises UsageError for a pattern that webdataset does not understand, or where it is not installed.
    """
    if "{" not in pattern or os.path.exists(pattern):
        return [pattern]
    _check_count(pattern)
    try:
        from webdataset.shardlists import expand_urls
    except ImportError:
        raise _webdataset_missing(pattern) from None
    try:
        return list(expand_urls(pattern))
    except (ValueError, AssertionError, RecursionError) as error:  # unclosed braces; an unset variable; thousands
        raise UsageError(f"{pattern}: {error}; write a pattern like shard-{{000..099}}.tar") from None


def _check_count(pattern: str) -> None:
    """Raise UsageError for a pattern of more shards than anybody has: their names alone would fill the memory."""
    total = 0
    for part in pattern.split("::"):
        count = 1
        for first, last in _NUMBERS.findall(part):
            count *= abs(int(last) - int(first)) + 1 if len(first + last) < _DIGITS else MOST_SHARDS + 1
        for choices in _CHOICES.findall(part):
            count *= len(_LETTERS) if _LETTERS_OF.fullmatch(choices) else choices.count(",") + 1
        total += count
    if total > MOST_SHARDS:
        raise UsageError(f"{pattern} stands for more than {MOST_SHARDS:,} files; write a smaller range")


def _webdataset_missing(name: str) -> UsageError:
    return UsageError(f"reading {name} needs webdataset: pip install 'zeroshot-cli[webdataset]'")


def read_shard(name: str, file: BinaryIO, columns: Columns) -> Iterator[ShardRow]:
    """Yield the rows of an open tar.

    The image is the member with the extension `columns.image`, else a usual one; the caption is the member with the
    extension `columns.text`, else a text, else a field of the JSON. Raises DataError for an incomplete tar, or one
    without images or captions.
    """
    parts = _Parts(name, file, columns)
    for sample in _samples(name, file):
        yield parts.row(sample)
    parts.check()


def unpack_tars(inputs: Sequence[str], scratch: ExitStack) -> tuple[list[str], dict[str, str]]:
    """Return inputs with a folder of its images in place of each tar, and the tar of each such folder.

    The folders are gone when `scratch` is closed. Patterns and globs of tars stand for those that exist.
    """
    given: list[str] = []
    tars: dict[str, str] = {}
    for text in inputs:
        is_pattern = text.lower().endswith(".tar") and not os.path.exists(text)
        for name in (sorted(glob.glob(text)) or expand(text)) if is_pattern else [text]:
            if not (name.lower().endswith(".tar") and os.path.isfile(name)):
                given.append(name)
                continue
            folder = scratch.enter_context(tempfile.TemporaryDirectory(prefix="zeroshot-"))
            _unpack_images(name, Path(folder))
            given.append(folder)
            tars[folder] = name
    return given, tars


def _unpack_images(name: str, into: Path) -> None:
    """Write the images of a tar into a folder, under their own paths.

    Raises DataError for a damaged tar, one without images, and a path that leads out of it; UsageError for a full disk.
    """
    count = 0
    with open_regular(name) as file, writing(str(into)):
        for path, member in _members(name, file):
            inner = PurePosixPath(path)
            if inner.suffix[1:].lower() not in IMAGE_EXTENSIONS:
                continue
            target = into.joinpath(*inner.parts)
            if inner.is_absolute() or ".." in inner.parts:
                raise DataError(f"{name}: the path {path!r} leads out of it; do not use this tar")
            if os.path.lexists(target):
                raise DataError(f"{name}: {path} occurs twice; write the shard again")
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(member.read(file))
            count += 1
    if not count:
        raise DataError(f"{name}: has no images ({', '.join(IMAGE_EXTENSIONS)}); give a tar that has some")


class _Parts:
    """Finds the image and the caption of each sample."""

    def __init__(self, name: str, file: BinaryIO, columns: Columns) -> None:
        self.name, self.file = name, file
        image, text = columns.image, columns.text
        self.image_extensions = (image.lower(),) if image else IMAGE_EXTENSIONS
        self.caption_extensions = (text.lower(),) if text else CAPTION_EXTENSIONS
        self.fields = (text,) if text and text.lower() != "json" else CAPTION_COLUMNS
        self.has_image = self.has_caption = False
        self.extensions: dict[str, None] = {}

    def row(self, sample: Mapping[str, Any]) -> ShardRow:
        members = {extension: value for extension, value in sample.items() if not extension.startswith("__")}
        self.extensions.update(dict.fromkeys(members))
        key = f"{self.name}/{sample['__key__']}"
        captions = self._captions(key, members)
        self.has_caption |= any(captions)
        found = next((members[extension] for extension in self.image_extensions if extension in members), None)
        if found is None:
            return key, None, captions
        self.has_image = True
        image, member = found
        return f"{self.name}/{image}", member, captions

    def _captions(self, key: str, members: Mapping[str, tuple[str, Member]]) -> tuple[str, ...]:
        text = next((members[extension] for extension in self.caption_extensions if extension in members), None)
        try:
            if text is not None and not text[0].lower().endswith(".json"):
                return checked((self._text(text[1]).strip(),))
            return self._captions_of_json(members["json"][1]) if "json" in members else ("",)
        except Fault as fault:
            raise DataError(f"{key}: {fault}") from None

    def _captions_of_json(self, member: Member) -> tuple[str, ...]:
        try:
            fields = load_json(self._text(member))
        except (ValueError, RecursionError) as error:
            raise Fault(f"its JSON cannot be read ({error}); correct or remove it, and write the shard again") from None
        if not isinstance(fields, dict):
            raise Fault("its JSON is not an object with a caption")
        return next((captions_of_value(fields[field]) for field in self.fields if field in fields), ("",))

    def _text(self, member: Member) -> str:
        try:
            return member.read(self.file).decode("utf-8-sig", "surrogateescape")
        except UnreadableImage as error:
            raise Fault(str(error)) from None

    def check(self) -> None:
        """Raise DataError where no sample had an image, or a caption."""
        if not self.extensions:
            raise DataError(f"{self.name} holds no files; a shard has images and captions, such as 000.jpg and 000.txt")
        has = ", ".join(list(self.extensions)[:20])
        if not self.has_image:
            wanted = ", ".join(self.image_extensions)
            raise DataError(
                f"{self.name} has no images ({wanted}), only {has}; name their extension with --image-column"
            )
        if not self.has_caption:
            wanted = ", ".join((*self.caption_extensions, f"{self.fields[0]!r} in json"))
            tables = {"csv", "tsv", "jsonl", "parquet"} & self.extensions.keys()
            way_out = f"unpack it and name its {min(tables)}" if tables else "name the extension in --caption-column"
            raise DataError(f"{self.name} has no captions ({wanted}) beside its images, only {has}; {way_out}")


def _samples(name: str, file: BinaryIO) -> Iterator[Mapping[str, Any]]:
    """Yield the members of each sample: extension → (name, Member), and `__key__`."""
    try:
        from webdataset.tariterators import group_by_keys
    except ImportError:
        raise _webdataset_missing(name) from None
    members = ({"fname": member, "data": (member, place), "__url__": name} for member, place in _members(name, file))
    try:
        yield from group_by_keys(members)
    except ValueError as error:  # it raises only this, for two members with one name
        member = str(error.args[0]).partition(": duplicate")[0]
        raise DataError(f"{name}: {member} occurs twice; write the shard again") from None


def _members(name: str, file: BinaryIO) -> Iterator[tuple[str, Member]]:
    file.seek(0)
    try:
        with tarfile.open(fileobj=file, mode="r:", errors="surrogateescape") as tar:
            while (member := tar.next()) is not None:
                tar.members.clear()  # type: ignore[attr-defined]  # else all of them stay in memory
                if member.isreg() and not member.issparse() and not _META.match(member.name):
                    yield member.name, Member(name, member.offset_data, member.size)
            end = tar.offset
    except (tarfile.TarError, ValueError) as error:
        raise DataError(f"{name} is truncated or not a tar ({error}); copy it again") from None
    file.seek(end)
    if file.read(_BLOCK) != bytes(_BLOCK):  # tarfile takes a damaged header for the end, too
        raise DataError(f"{name} is truncated or damaged at byte {end:,}; copy it again")
