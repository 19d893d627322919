"""Pairs in WebDataset tars: an image and what belongs to it have one name but for the ending.

The library (extra `webdataset`) says which files a pattern such as shard-{000..099}.tar means and which members of a
tar belong together. Images stay in their tar: where they lie is noted, so that any of them can be read at any time.
"""

# pathlib's questions raise OSError where a name is too long or a folder is locked; opening names the reason.
# ruff: noqa: PTH110

import io
import json
import os
import re
import tarfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, BinaryIO

from zeroshot_cli.errors import DataError, UnreadableImage, UsageError
from zeroshot_cli.images.decode import open_regular
from zeroshot_cli.images.file_kinds import reason_of
from zeroshot_cli.pairs.columns import (
    CAPTION_COLUMNS,
    IMAGE_ENDINGS,
    Fault,
    captions_of_value,
    checked,
)

CAPTION_ENDINGS = ("txt", "text", "caption")
_META = re.compile(r"__[^/]*__($|/)")  # members about the tar itself, which webdataset passes over as well
_BLOCK = 512  # bytes; a tar ends with blocks of zeros


@dataclass(frozen=True, slots=True)
class Member:
    """Where an image lies in a tar, in bytes."""

    tar: str
    offset: int
    size: int

    def open(self) -> BinaryIO:
        """The image's bytes as a file. Raises UnreadableImage with the reason."""
        if not self.size:
            raise UnreadableImage("the file is empty")
        with open_regular(self.tar) as tar:
            content = self.read(tar)
        if len(content) < self.size:
            raise UnreadableImage("its tar is truncated")
        return io.BytesIO(content)

    def read(self, tar: BinaryIO) -> bytes:
        """The image's bytes out of its open tar. Raises UnreadableImage where the disk fails."""
        try:
            tar.seek(self.offset)
            return tar.read(self.size)
        except OSError as error:
            raise UnreadableImage(reason_of(error)) from None


ShardRow = tuple[str, Member | None, tuple[str, ...]]
"""The name of an image, "x.tar/000.jpg", where it lies (None: the tar has none), and its captions."""


def expand(pattern: str) -> list[str]:
    """The files that `shard-{000..099}.tar` means; a name without braces, or of a file that is there, is that file.

    Raises UsageError for a pattern that webdataset does not understand, or where that is not installed.
    """
    if "{" not in pattern or os.path.exists(pattern):
        return [pattern]
    try:
        from webdataset.shardlists import expand_urls
    except ImportError:
        raise _webdataset_missing(pattern) from None
    try:
        return list(expand_urls(pattern))
    except (ValueError, AssertionError) as error:  # braces that are not closed; a variable that is not set
        raise UsageError(f"{pattern}: {error}; write a pattern like shard-{{000..099}}.tar") from None


def _webdataset_missing(name: str) -> UsageError:
    return UsageError(f"reading {name} needs webdataset: pip install 'zeroshot-cli[webdataset]'")


def read_shard(
    name: str, file: BinaryIO, *, image_column: str | None = None, caption_column: str | None = None
) -> Iterator[ShardRow]:
    """The rows of an open tar.

    The image is the member with the ending `image_column`, else with a known one; the caption is the member with the
    ending `caption_column`, else a text, else a field of the JSON. Raises DataError for what is no whole tar, or holds
    neither.
    """
    parts = _Parts(name, file, image_column, caption_column)
    for sample in _samples(name, file):
        yield parts.row(sample)
    parts.check()


class _Parts:
    """Which members of a sample are its image and its caption."""

    def __init__(self, name: str, file: BinaryIO, image_column: str | None, caption_column: str | None) -> None:
        self.name, self.file = name, file
        self.image_endings = (image_column.lower(),) if image_column else IMAGE_ENDINGS
        self.caption_endings = (caption_column.lower(),) if caption_column else CAPTION_ENDINGS
        self.fields = (caption_column,) if caption_column and caption_column.lower() != "json" else CAPTION_COLUMNS
        self.has_image = self.has_caption = False
        self.endings: dict[str, None] = {}

    def row(self, sample: Mapping[str, Any]) -> ShardRow:
        members = {ending: value for ending, value in sample.items() if not ending.startswith("__")}
        self.endings.update(dict.fromkeys(members))
        key = f"{self.name}/{sample['__key__']}"
        captions = self._captions(key, members)
        self.has_caption |= any(captions)
        found = next((members[ending] for ending in self.image_endings if ending in members), None)
        if found is None:
            return key, None, captions
        self.has_image = True
        image, member = found
        return f"{self.name}/{image}", member, captions

    def _captions(self, key: str, members: Mapping[str, tuple[str, Member]]) -> tuple[str, ...]:
        text = next((members[ending] for ending in self.caption_endings if ending in members), None)
        try:
            if text is not None and not text[0].lower().endswith(".json"):
                return checked((self._text(text[1]).strip(),))
            return self._captions_of_json(members["json"][1]) if "json" in members else ("",)
        except Fault as fault:
            raise DataError(f"{key}: {fault}") from None

    def _captions_of_json(self, member: Member) -> tuple[str, ...]:
        try:
            fields = json.loads(self._text(member))
        except (ValueError, RecursionError) as error:
            raise Fault(f"its JSON cannot be read ({error})") from None
        if not isinstance(fields, dict):
            raise Fault("its JSON is no object with a caption in it")
        return next((captions_of_value(fields[field]) for field in self.fields if field in fields), ("",))

    def _text(self, member: Member) -> str:
        try:
            return member.read(self.file).decode("utf-8-sig", "surrogateescape")
        except UnreadableImage as error:
            raise Fault(str(error)) from None

    def check(self) -> None:
        """Raise DataError where no sample had an image, or a caption."""
        if not self.endings:
            raise DataError(f"{self.name} holds no files; a shard has images and captions, as 000.jpg and 000.txt")
        has = ", ".join(list(self.endings)[:20])
        if not self.has_image:
            wanted = ", ".join(self.image_endings)
            raise DataError(f"{self.name} has no images ({wanted}), only {has}; name their ending with --image-column")
        if not self.has_caption:
            wanted = ", ".join((*self.caption_endings, f"{self.fields[0]!r} in json"))
            tables = {"csv", "tsv", "jsonl", "parquet"} & self.endings.keys()
            way_out = f"unpack it and name its {min(tables)}" if tables else "name their ending with --caption-column"
            raise DataError(f"{self.name} has no captions ({wanted}) beside its images, only {has}; {way_out}")


def _samples(name: str, file: BinaryIO) -> Iterator[Mapping[str, Any]]:
    """Members by sample: ending → (name, Member), and `__key__`."""
    try:
        from webdataset.tariterators import group_by_keys
    except ImportError:
        raise _webdataset_missing(name) from None
    members = ({"fname": member, "data": (member, place), "__url__": name} for member, place in _members(name, file))
    try:
        yield from group_by_keys(members)
    except ValueError as error:  # the one that it raises is of two members with one name
        member = str(error.args[0]).partition(": duplicate")[0]
        raise DataError(f"{name}: {member} is in it twice; write the shard anew") from None


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
        raise DataError(f"{name} is truncated or no tar ({error}); copy it once more") from None
    file.seek(end)
    if file.read(_BLOCK) != bytes(_BLOCK):  # tarfile takes this for the end as well
        raise DataError(f"{name} is truncated or damaged at byte {end:,}; copy it once more")
