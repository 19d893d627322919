"""Pairs of image and caption, read from CSV files as people have them."""

# pathlib's questions raise OSError where a name is too long or a folder is locked; opening names the reason.
# ruff: noqa: PTH113

import csv
import hashlib
import io
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from zeroshot_cli.errors import DataError, UsageError

IMAGE_COLUMNS = ("image", "filepath", "image_path", "path", "file")
CAPTION_COLUMNS = ("caption", "title", "text", "label")


@dataclass(frozen=True, slots=True)
class Pairs:
    """Images and their captions, row by row, with the count of rows that were left out and why."""

    images: tuple[str, ...]
    captions: tuple[str, ...]
    empty_captions: int = 0
    missing_files: int = 0

    def __len__(self) -> int:
        return len(self.images)

    def fingerprint(self) -> str:
        """SHA-256 over file names and captions: the same for the same rows wherever the folder lies."""
        digest = hashlib.sha256()
        for image, caption in zip(self.images, self.captions, strict=True):
            name = "/".join(Path(image).parts[-2:])
            digest.update(f"{name}\0{caption}\0".encode("utf-8", "surrogateescape"))
        return digest.hexdigest()


def read_pairs(
    files: Sequence[Path],
    *,
    image_column: str | None = None,
    caption_column: str | None = None,
    option: str = "--data",
) -> Pairs:
    """Read the pairs of CSV files (comma, tab or semicolon), one after the other.

    Image paths are relative to the file that names them. Rows with an empty caption or a missing image are left out
    and counted. `option` is what named the files. Raises UsageError for a file that is not there, DataError for one
    without usable rows.
    """
    parts = [_read_csv(file, option, image_column=image_column, caption_column=caption_column) for file in files]
    return Pairs(
        images=tuple(image for part in parts for image in part.images),
        captions=tuple(caption for part in parts for caption in part.captions),
        empty_captions=sum(part.empty_captions for part in parts),
        missing_files=sum(part.missing_files for part in parts),
    )


def _read_csv(file: Path, option: str, *, image_column: str | None, caption_column: str | None) -> Pairs:
    text = _read_text(file, option)
    header, delimiter = _read_header(file, text, (image_column, caption_column))
    image = _find_column(file, header, "image", image_column, IMAGE_COLUMNS)
    caption = _find_column(file, header, "caption", caption_column, CAPTION_COLUMNS)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    try:
        next(reader)
        rows = [row for row in reader if row]
    except csv.Error as error:
        raise DataError(f"{file} line {reader.line_num}: {error}; correct or remove this line") from None
    return _pairs_of(file, [(_cell(row, image), _cell(row, caption)) for row in rows])


def _read_text(file: Path, option: str) -> str:
    try:
        return file.read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        raise UsageError(f"{file}: no such file; give {option} the CSV that names images and captions") from None
    except OSError as error:
        raise UsageError(f"{file}: {error.strerror or error}; give {option} a CSV file") from None
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        byte = error.object[error.start]
        raise DataError(f"{file} line {line}: byte 0x{byte:02x} is not UTF-8; save the file as UTF-8") from None


def _read_header(file: Path, text: str, asked: tuple[str | None, str | None]) -> tuple[list[str], str]:
    """Find the delimiter under which the first line has most of the columns that are wanted, and most columns."""
    first = text.splitlines()[0] if text.strip() else ""
    if not first.strip():
        raise DataError(f"{file} has no header line; its first line must name an image and a caption column")
    wanted = {*IMAGE_COLUMNS, *CAPTION_COLUMNS, *(name.lower() for name in asked if name)}
    headers = []
    for delimiter in (",", "\t", ";"):
        names = [name.strip() for name in next(csv.reader([first], delimiter=delimiter))]
        known = sum(name.lower() in wanted for name in names)
        headers.append((known, len(names), names, delimiter))
    _, _, names, delimiter = max(headers, key=lambda header: header[:2])
    return names, delimiter


def _find_column(file: Path, header: list[str], kind: str, asked: str | None, known: tuple[str, ...]) -> int:
    names = [name.lower() for name in header]
    for name in (asked,) if asked else known:
        if name in header:
            return header.index(name)
        if name.lower() in names:
            return names.index(name.lower())
    lacks = f"no column {asked!r}" if asked else f"no {kind} column ({', '.join(known)})"
    has = ", ".join(repr(name) for name in header)
    raise DataError(f"{file} has {lacks}, its columns are {has}; name the right one with --{kind}-column")


def _cell(row: list[str], column: int) -> str:
    return row[column].strip() if column < len(row) else ""


def _pairs_of(file: Path, rows: list[tuple[str, str]]) -> Pairs:
    if not rows:
        raise DataError(f"{file} has a header but no rows; every row names an image and its caption")
    captioned = [(str(file.parent / image), caption) for image, caption in rows if caption]
    if not captioned:
        raise DataError(f"{file} has {len(rows)} rows, all with an empty caption; name another --caption-column")
    there = [(image, caption) for image, caption in captioned if os.path.isfile(image)]
    if not there:
        raise DataError(
            f"none of the {len(captioned)} images in {file} is there, the first is {captioned[0][0]}; "
            "paths are relative to the file that names them"
        )
    return Pairs(
        images=tuple(image for image, _ in there),
        captions=tuple(caption for _, caption in there),
        empty_captions=len(rows) - len(captioned),
        missing_files=len(captioned) - len(there),
    )
