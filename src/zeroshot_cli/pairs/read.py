"""Pairs of image and caption, read from tables and tars."""

# Path.exists raises OSError where a name is too long or a folder is locked; opening the file names the reason.
# ruff: noqa: PTH111, PTH116, PTH123, PTH207

import glob
import hashlib
import io
import math
import os
import re
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cache
from itertools import accumulate
from pathlib import Path
from random import Random
from typing import BinaryIO

from zeroshot_cli.disk import similar_path
from zeroshot_cli.errors import DataError, UnreadableImage, UsageError
from zeroshot_cli.images.decode import open_regular
from zeroshot_cli.images.file_kinds import special_file
from zeroshot_cli.pairs.columns import PairColumns
from zeroshot_cli.pairs.opened import Form, form_of
from zeroshot_cli.pairs.paths import Roots, shown_as
from zeroshot_cli.pairs.shards import Member, expand, read_shard
from zeroshot_cli.pairs.tables import PlacedRow, read_table
from zeroshot_cli.records import SkippedImage
from zeroshot_cli.remote.address import is_address, shown_address, suffix_of
from zeroshot_cli.remote.tables import fetch_table, with_way_out

_FORMS = "a csv, tsv, jsonl or parquet file, or WebDataset tars such as shard-{000..099}.tar"
_NUMBER = re.compile(r"[+-]?\d+([.,]\d+)?")
_NOTHING = frozenset({"nan", "null", "none", "<na>", "n/a", "#n/a"})  # what programs write for no caption


@dataclass(frozen=True, slots=True)
class Source:
    """Pairs that were named together; `weight` is how often each is drawn, relative to other sources.

    Where the images have classes, `texts` are the texts that may describe each: a row's caption is its class.
    """

    name: str
    rows: int
    weight: float = 1.0
    texts: Mapping[str, tuple[str, ...]] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, slots=True)
class Pairs:
    """Images and their captions, row by row and source by source, with counts of what was omitted.

    An image with several captions has as many rows. `members` locates images inside tars; such an image is named
    tar/member. Without `sources` the rows are one source. `notes` say what was assumed, `skipped` are tars
    that could not be read.
    """

    images: tuple[str, ...]
    captions: tuple[str, ...]
    empty_captions: int = 0
    missing_files: int = 0
    first_missing: str | None = None
    sources: tuple[Source, ...] = ()
    members: Mapping[str, Member] = field(default_factory=dict, repr=False)
    notes: tuple[str, ...] = ()
    skipped: tuple[SkippedImage, ...] = ()

    def __post_init__(self) -> None:
        if not self.sources:
            object.__setattr__(self, "sources", (Source("", len(self.images)),))

    def __len__(self) -> int:
        return len(self.images)

    def text(self, row: int, draw: Random | None = None) -> str:
        """Return the text of a row: its caption, or one of its class's texts, drawn at random or else the first."""
        place = bisect_right(list(accumulate(source.rows for source in self.sources)), row)
        texts = self.sources[place].texts.get(self.captions[row], (self.captions[row],))
        return texts[0] if draw is None or len(texts) == 1 else draw.choice(texts)

    def shown(self, row: int) -> str:
        """Return what messages and records call the image of a row."""
        return shown_address(self.images[row])

    def open(self, row: int) -> BinaryIO:
        """Open the image of a row, which is not at an address; raises UnreadableImage with the reason."""
        image = self.images[row]
        member = self.members.get(image)
        return open_regular(image) if member is None else member.open()

    def fingerprint(self) -> str:
        """Return the SHA-256 of names and captions, and of weights if they differ; it survives moving the folder."""
        digest = hashlib.sha256()
        name_of = cache(lambda folder: Path(folder).name)  # a folder has many images
        for image, caption in zip(self.images, self.captions, strict=True):
            folder, name = os.path.split(shown_address(image))
            name = f"{name_of(folder)}/{name}" if folder else name
            digest.update(f"{name}\0{caption}\0".encode("utf-8", "surrogateescape"))
        if len({source.weight for source in self.sources}) > 1:
            for source in self.sources:
                digest.update(f"{source.rows} {source.weight}\0".encode())
        for source in self.sources:
            for texts in source.texts.values():
                digest.update("\0".join(texts).encode("utf-8", "surrogateescape"))
        return digest.hexdigest()


def read_pairs(
    files: Sequence[Path | str],
    *,
    weights: Sequence[float] = (),
    image_column: str | None = None,
    caption_column: str | None = None,
    label_column: str | None = None,
    image_root: str | None = None,
    option: str = "--data",
) -> Pairs:
    """Read the pairs of tables (CSV, JSON lines, Parquet), lists of captions and WebDataset tars, one after the other.

    Each of `files`, even a pattern such as shard-{000..099}.tar or *.csv, is a source; `weights` is empty or has one
    for each. Image paths are relative to `image_root`, else to the file that names them or to a folder of images beside
    it. Pairs with an empty caption or a missing image are omitted and counted. Classes, from the column `label_column`
    or in a table without captions from one called label, are the source's texts, each its own only one. `option` is the
    option that named the files. Raises UsageError for a missing file or an invalid weight, DataError for an invalid
    file or a source without usable pairs.
    """
    columns = PairColumns(image=image_column, text=caption_column, label=label_column)
    return joined([_read_source(str(file), option, columns, image_root) for file in files], weights, option=option)


def joined(parts: Sequence[Pairs], weights: Sequence[float] = (), *, option: str = "--data") -> Pairs:
    """Return the pairs of several sources as one, with a weight for each. Raises UsageError for invalid weights."""
    weights = _checked_weights(parts, weights, option)
    sources = [
        replace(source, weight=weight) for part, weight in zip(parts, weights, strict=True) for source in part.sources
    ]
    return Pairs(
        images=tuple(image for part in parts for image in part.images),
        captions=tuple(caption for part in parts for caption in part.captions),
        empty_captions=sum(part.empty_captions for part in parts),
        missing_files=sum(part.missing_files for part in parts),
        first_missing=next((part.first_missing for part in parts if part.missing_files), None),
        sources=tuple(sources),
        members={image: member for part in parts for image, member in part.members.items()},
        notes=tuple(note for part in parts for note in part.notes),
        skipped=tuple(item for part in parts for item in part.skipped),
    )


def _checked_weights(files: Sequence[object], weights: Sequence[float], option: str) -> Sequence[float]:
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

    images: list[str] = field(default_factory=list)
    captions: list[str] = field(default_factory=list)
    members: dict[str, Member] = field(default_factory=dict)
    empty: int = 0
    nothing: int = 0
    missing: int = 0
    first_missing: str | None = None
    classes: dict[str, tuple[str, ...]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    skipped: list[SkippedImage] = field(default_factory=list)

    def add(self, image: str, captions: Iterable[str], *, is_there: bool) -> None:
        """Add the pairs of an image, named as `Pairs.open` opens it."""
        for caption in captions:
            if not caption:
                self.empty += 1
            elif len(caption) < 5 and caption.casefold() in _NOTHING:
                self.empty += 1
                self.nothing += 1
            elif is_there:
                self.images.append(image)
                self.captions.append(caption)
            else:
                self.missing += 1
                self.first_missing = self.first_missing or image

    def cut(self, rows: int) -> None:
        """Keep so many of the rows."""
        for image in self.images[rows:]:
            self.members.pop(image, None)
        del self.images[rows:], self.captions[rows:]


def _read_source(pattern: str, option: str, columns: PairColumns, root: str | None) -> Pairs:
    part = _Part()
    names = _files_of(pattern, option)
    for name in names:
        notes: list[str] = []
        rows = len(part.images)
        columns.classes.clear()  # a tar says nothing of them
        try:
            _read_file(name, option, columns, root, part, notes)
        except _Broken as broken:
            if len(names) == 1:
                raise broken.error from None
            part.cut(rows)
            name = shown_address(name)
            part.skipped.append(SkippedImage(name, str(broken.error).removeprefix(name).lstrip(": ")))
        if columns.classes:
            part.classes |= {text: (text,) for text in part.captions[rows:]}
        part.notes += [f"{shown_address(name)}: {note}" for note in notes]
    pattern = shown_address(pattern)
    _check_usable(pattern, part, columns)
    return Pairs(
        tuple(part.images),
        tuple(part.captions),
        part.empty,
        part.missing,
        part.first_missing,
        sources=(Source(pattern, len(part.images), texts=part.classes),),
        members=part.members,
        notes=tuple(part.notes),
        skipped=tuple(part.skipped),
    )


class _Broken(Exception):
    """A tar is damaged, which matters less where it is one of several."""

    def __init__(self, error: DataError) -> None:
        super().__init__()
        self.error = error


def _files_of(pattern: str, option: str) -> list[str]:
    """Return the files that a pattern such as shard-{000..099}.tar or *.csv means, else its own name."""
    if is_address(pattern):
        return expand(pattern)
    pattern = os.path.expanduser(pattern)
    names = []
    for name in expand(pattern):
        found = [] if os.path.lexists(name) or not glob.has_magic(name) else sorted(glob.glob(name, recursive=True))
        if not found and glob.has_magic(name) and not os.path.lexists(name):
            raise UsageError(f"{name}: no file matches this pattern; give {option} {_FORMS}")
        names += found or [name]
    return names


def _read_file(name: str, option: str, columns: PairColumns, root: str | None, part: _Part, notes: list[str]) -> None:
    """Read one file of a source. Raises _Broken for a damaged tar, or one that is at an address and does not come."""
    path = _place_of(name)
    with _opened(path, option) as file:
        roots, name = Roots(name, root), shown_address(name)
        form = form_of(name, file)
        if form is Form.TAR and is_address(path):
            raise UsageError(f"{name} is a tar, whose name must end in .tar where it is at an address")
        if form is Form.TAR:
            if columns.label is not None:
                notes.append(
                    f"--label-column {columns.label} not used, for a tar has no columns; --caption-column names an "
                    "extension"
                )
            try:
                _read_tar(name, path, file, part, columns)
            except DataError as error:
                raise _Broken(error) from None
        else:
            _find_images(read_table(name, file, form, columns, notes), roots, part)
            notes += roots.notes()


@contextmanager
def _opened(name: str, option: str) -> Iterator[BinaryIO]:
    if is_address(name):
        yield io.BytesIO(fetch_table(name))
        return
    try:
        if what := special_file(os.stat(name).st_mode):
            raise UsageError(f"{name}: {what}; give {option} {_FORMS}")
        file = open(name, "rb")  # noqa: SIM115, closed below
    except FileNotFoundError:
        raise UsageError(f"{name}: no such file; {similar_path(name) or f'give {option} {_FORMS}'}") from None
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        reason = getattr(error, "strerror", None) or error
        raise UsageError(f"{name}: {reason}; give {option} {_FORMS}") from None
    with file:
        try:
            yield file
        except OSError as error:
            raise UsageError(f"{name} cannot be read: {error.strerror or error}; copy it to another disk") from None


def _place_of(name: str) -> str:
    """Return the file of a name: of a tar at an address a copy, since its images are read at any time."""
    if not is_address(name) or suffix_of(name) != ".tar":
        return name
    from zeroshot_cli.remote.copies import copy_of

    try:
        return str(copy_of(name))
    except UnreadableImage as error:
        raise _Broken(DataError(f"{shown_address(name)}: {with_way_out(error)}")) from None


def _read_tar(name: str, path: str, file: BinaryIO, part: _Part, columns: PairColumns) -> None:
    for image, found, captions in read_shard(name, file, columns):
        member = None if found is None else replace(found, tar=path)
        part.add(image, captions, is_there=member is not None)
        if member is not None and part.members.setdefault(image, member) != member:
            raise DataError(f"{name}: {image[len(name) + 1 :]} occurs twice; write the shard again")


def _find_images(rows: Iterable[PlacedRow], roots: Roots, part: _Part) -> None:
    """Add the rows of a table, looking up each image once, since that takes longer than reading."""
    there: dict[str, str] = {}
    missing: dict[str, str] = {}
    for _, cell, captions in rows:
        path = there.get(cell)
        if path is None and cell not in missing:
            path = roots.find(cell)
            if path is None:
                missing[cell] = shown_as(cell, roots.own)
            else:
                there[cell] = path
        part.add(missing[cell] if path is None else path, captions, is_there=path is not None)


def _check_usable(name: str, part: _Part, columns: PairColumns) -> None:
    """Raise DataError for a source that has no pairs, or classes by number in place of captions."""
    if part.nothing:
        part.notes.append(f"{name}: {part.nothing:,} captions say nan, null or none, and count as empty")
    if part.images:
        if not part.classes:  # whose numbers may have names elsewhere
            _check_words(name, part, columns)
        return
    if part.skipped:
        raise DataError(f"none of the {len(part.skipped):,} files of {name} can be read: {part.skipped[0].reason}")
    if not part.empty and not part.missing:
        raise DataError(f"{name} has no rows; each row names an image and its caption")
    if not part.missing:
        raise DataError(f"{name} has {part.empty:,} rows, all with an empty caption; name another --caption-column")
    first = part.first_missing or ""
    raise DataError(
        f"none of the {part.missing:,} images in {name} exists, the first is {first}; "
        "paths are relative to the file that names them, or to --image-root"
    )


def _check_words(name: str, part: _Part, columns: PairColumns) -> None:
    numbers = sum(_NUMBER.fullmatch(caption) is not None for caption in part.captions)
    if numbers == len(part.captions) and columns.text is None and not part.members:
        raise DataError(
            f"{name}: all {numbers:,} captions are numbers, the first {part.captions[0]}, which say "
            "nothing to a model; name the column of words with --caption-column"
        )
    if numbers:
        part.notes.append(f"{name}: {numbers:,} captions are numbers only")
