"""Pairs of image and caption, read from tables and tars."""

# Path.exists raises OSError where a name is too long or a folder is locked; opening the file names the reason.
# ruff: noqa: PTH111, PTH116, PTH118, PTH120, PTH123

import hashlib
import math
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import BinaryIO
from urllib.parse import unquote

from zeroshot_cli.errors import DataError, UsageError
from zeroshot_cli.images.decode import open_regular
from zeroshot_cli.images.file_kinds import special_file
from zeroshot_cli.pairs.columns import CAPTIONS, Columns
from zeroshot_cli.pairs.shards import Member, expand, read_shard
from zeroshot_cli.pairs.tables import Form, PlacedRow, form_of, read_table

_WEB = re.compile(r"\s*(?!file:)[a-z][a-z0-9+.-]+://", re.IGNORECASE)  # two letters at least: c: is a Windows drive
_FORMS = "a csv, tsv, jsonl or parquet file, or WebDataset tars such as shard-{000..099}.tar"
_LONGEST = 1000  # characters of a path in a message


@dataclass(frozen=True, slots=True)
class Source:
    """Pairs that were named together; `weight` is how often each is drawn, relative to other sources."""

    name: str
    rows: int
    weight: float = 1.0


@dataclass(frozen=True, slots=True)
class Pairs:
    """Images and their captions, row by row and source by source, with counts of what was omitted.

    An image with several captions has as many rows. `members` locates images inside tars; such an image is named
    tar/member. Without `sources` the rows are one source.
    """

    images: tuple[str, ...]
    captions: tuple[str, ...]
    empty_captions: int = 0
    missing_files: int = 0
    first_missing: str | None = None
    sources: tuple[Source, ...] = ()
    members: Mapping[str, Member] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        if not self.sources:
            object.__setattr__(self, "sources", (Source("", len(self.images)),))

    def __len__(self) -> int:
        return len(self.images)

    def open(self, row: int) -> BinaryIO:
        """Open the image of a row; raises UnreadableImage with the reason."""
        image = self.images[row]
        member = self.members.get(image)
        return open_regular(image) if member is None else member.open()

    def fingerprint(self) -> str:
        """Return the SHA-256 of names and captions, and of weights if they differ; it survives moving the folder."""
        digest = hashlib.sha256()
        name_of = cache(lambda folder: Path(folder).name)  # a folder has many images
        for image, caption in zip(self.images, self.captions, strict=True):
            folder, name = os.path.split(image)
            name = f"{name_of(folder)}/{name}" if folder else name
            digest.update(f"{name}\0{caption}\0".encode("utf-8", "surrogateescape"))
        if len({source.weight for source in self.sources}) > 1:
            for source in self.sources:
                digest.update(f"{source.rows} {source.weight}\0".encode())
        return digest.hexdigest()


def read_pairs(
    files: Sequence[Path | str],
    *,
    weights: Sequence[float] = (),
    image_column: str | None = None,
    caption_column: str | None = None,
    option: str = "--data",
) -> Pairs:
    """Read the pairs of tables (CSV, JSON lines, Parquet) and WebDataset tars, one after the other.

    Each of `files`, even a pattern such as shard-{000..099}.tar, is a source; `weights` is empty or has one for each.
    Image paths are relative to the file that names them. Pairs with an empty caption or a missing image are omitted
    and counted. `option` is the option that named the files. Raises UsageError for a missing file or an invalid
    weight, DataError for an invalid file or a source without usable pairs.
    """
    weights = _checked_weights(files, weights, option)
    columns = Columns(CAPTIONS, image_column, caption_column)
    parts = [_read_source(str(file), option, columns) for file in files]
    sources = zip(parts, weights, strict=True)
    return Pairs(
        images=tuple(image for part in parts for image in part.images),
        captions=tuple(caption for part in parts for caption in part.captions),
        empty_captions=sum(part.empty for part in parts),
        missing_files=sum(part.missing for part in parts),
        first_missing=next((part.first_missing for part in parts if part.missing), None),
        sources=tuple(Source(part.name, len(part.images), weight) for part, weight in sources),
        members={image: member for part in parts for image, member in part.members.items()},
    )


def _checked_weights(files: Sequence[Path | str], weights: Sequence[float], option: str) -> Sequence[float]:
    if not weights:
        return [1.0] * len(files)
    if len(weights) != len(files):
        raise UsageError(f"{len(weights)} {option}-weight for {len(files)} {option}; give one for each, in order")
    for weight in weights:
        if not (weight > 0 and math.isfinite(weight)):
            raise UsageError(
                f"{option}-weight is {weight:g}; it must be greater than 0; omit files that should not be used"
            )
    return [float(weight) for weight in weights]


# one source


@dataclass(slots=True)
class _Part:
    """What has been read of a source."""

    name: str
    images: list[str] = field(default_factory=list)
    captions: list[str] = field(default_factory=list)
    members: dict[str, Member] = field(default_factory=dict)
    empty: int = 0
    missing: int = 0
    first_missing: str | None = None

    def add(self, image: str, captions: Iterable[str], *, is_there: bool) -> None:
        """Add the pairs of an image, named as `Pairs.open` opens it."""
        for caption in captions:
            if not caption:
                self.empty += 1
            elif is_there:
                self.images.append(image)
                self.captions.append(caption)
            else:
                self.missing += 1
                self.first_missing = self.first_missing or image


def _read_source(pattern: str, option: str, columns: Columns) -> _Part:
    part = _Part(pattern)
    for name in expand(pattern):
        with _opened(name, option) as file:
            form = form_of(name, file)
            if form is Form.TAR:
                _read_tar(name, file, part, columns)
            else:
                _find_images(read_table(name, file, form, columns), os.path.dirname(name), part)
    _check_usable(part)
    return part


@contextmanager
def _opened(name: str, option: str) -> Iterator[BinaryIO]:
    try:
        if what := special_file(os.stat(name).st_mode):
            raise UsageError(f"{name}: {what}; give {option} {_FORMS}")
        file = open(name, "rb")  # noqa: SIM115, closed below
    except FileNotFoundError:
        raise UsageError(f"{name}: no such file; give {option} {_FORMS}") from None
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        reason = getattr(error, "strerror", None) or error
        raise UsageError(f"{name}: {reason}; give {option} {_FORMS}") from None
    with file:
        try:
            yield file
        except OSError as error:
            raise UsageError(f"{name} cannot be read: {error.strerror or error}; copy it to another disk") from None


def _read_tar(name: str, file: BinaryIO, part: _Part, columns: Columns) -> None:
    for image, member, captions in read_shard(name, file, columns):
        part.add(image, captions, is_there=member is not None)
        if member is not None and part.members.setdefault(image, member) != member:
            raise DataError(f"{name}: {image[len(name) + 1 :]} occurs twice; write the shard again")


def _find_images(rows: Iterable[PlacedRow], folder: str, part: _Part) -> None:
    """Add the rows of a table, looking up each image once, since that takes longer than reading."""
    there: dict[str, str] = {}
    missing: dict[str, str] = {}
    for _, cell, captions in rows:
        path = there.get(cell)
        if path is None and cell not in missing:
            path = find_image(cell, folder)
            if path is None:
                missing[cell] = _shown(cell, folder)
            else:
                there[cell] = path
        part.add(missing[cell] if path is None else path, captions, is_there=path is not None)


def is_on_web(cell: str) -> bool:
    """Return whether a cell is a URL, not a path."""
    return _WEB.match(cell) is not None


def find_image(cell: str, folder: str) -> str | None:
    """Return the existing file that a cell of a table in `folder` names, if any."""
    if not cell.strip() or is_on_web(cell):
        return None
    paths = (os.path.join(folder, path) for path in _readings(cell))
    return next(filter(os.path.isfile, paths), None)


def _shown(cell: str, folder: str) -> str:
    """Return how a message names a missing image."""
    if not cell.strip():
        return "an empty cell"
    path = cell if is_on_web(cell) else os.path.join(folder, next(_readings(cell)))
    return path if len(path) <= _LONGEST else f"{path[: _LONGEST - 1]}…"


def _readings(cell: str) -> Iterator[str]:
    text = cell.strip()
    if text.startswith(("file://", "file:/")):
        local = text.removeprefix("file:").removeprefix("//localhost").removeprefix("//")
        yield unquote(local, errors="surrogateescape")
    elif text.startswith("~/"):
        yield os.path.expanduser(text)
    yield cell
    if text != cell:
        yield text
    if "\\" in text:
        yield text.replace("\\", "/")


def _check_usable(part: _Part) -> None:
    if part.images:
        return
    if not part.empty and not part.missing:
        raise DataError(f"{part.name} has no rows; each row names an image and its caption")
    if not part.missing:
        raise DataError(
            f"{part.name} has {part.empty:,} rows, all with an empty caption; name another --caption-column"
        )
    first = part.first_missing or ""
    if is_on_web(first):
        way_out = "download them first, for example with img2dataset, whose tars can be used as they are"
        raise DataError(f"the images in {part.name} are on the web, the first is {first}; {way_out}")
    raise DataError(
        f"none of the {part.missing:,} images in {part.name} exists, the first is {first}; "
        "paths are relative to the file that names them"
    )
