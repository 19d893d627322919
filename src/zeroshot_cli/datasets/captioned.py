"""Images with captions: a table, or a folder of images with a text file beside each."""

# pathlib's questions raise OSError where a name is too long or a folder is locked; opening names the reason.
# ruff: noqa: PTH112, PTH113, PTH122

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from zeroshot_cli.datasets.matching import all_numbers
from zeroshot_cli.errors import DataError, UsageError
from zeroshot_cli.images.find import FoundImages, find_images, path_of
from zeroshot_cli.images.selection import USUAL, Selection, other_files
from zeroshot_cli.pairs.read import read_pairs
from zeroshot_cli.pairs.shards import CAPTION_EXTENSIONS
from zeroshot_cli.records import SkippedImage
from zeroshot_cli.remote.address import shown_address
from zeroshot_cli.words.textfiles import read_text

# What Hugging Face, Flickr8k and others call the list of captions in a folder of images.
TABLES = ("metadata.jsonl", "metadata.csv", "metadata.parquet", "captions.txt", "captions.csv", "captions.jsonl")


@dataclass(frozen=True, slots=True)
class CaptionedImages:
    """Images and texts, and which of them belong together: `pairs` are an index of `items` and one of `texts`.

    `as_stored` and `known` are as in LabelledImages. Not among them, but counted, are `empty` captions, captions of
    `missing` images (the first is `first_missing`) and `bare` images, which have no caption; `left_out` says
    what of a folder was left out, `read_as` what was assumed of a table.
    """

    name: str
    items: tuple[str | SkippedImage, ...]
    texts: tuple[str, ...]
    pairs: tuple[tuple[int, int], ...]
    as_stored: bool = False
    known: str | None = None
    empty: int = 0
    missing: int = 0
    first_missing: str | None = None
    bare: int = 0
    left_out: tuple[str, ...] = ()
    read_as: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.items)

    @property
    def notes(self) -> tuple[str, ...]:
        """What a user should know about the data set, one sentence each."""
        notes = []
        if self.missing:
            notes.append(f"skipped {_many(self.missing, 'caption')} of missing images (first: {self.first_missing})")
        if self.empty:
            notes.append(f"skipped {_many(self.empty, 'empty caption')}")
        if self.bare:
            notes.append(f"skipped {_many(self.bare, 'image')} without a caption")
        return (*self.read_as, *(f"{self.name}: {text}" for text in (*notes, *self.left_out)))

    @property
    def warnings(self) -> tuple[str, ...]:
        """Why the figures may mean nothing; there is nothing to doubt about captions."""
        return ()


def read_captioned(
    path: Path | str,
    *,
    image_column: str | None = None,
    caption_column: str | None = None,
    selection: Selection = USUAL,
) -> CaptionedImages:
    """Read a table of images and captions, or a folder with a text file, one caption per line, beside each image.

    A table is CSV, JSON Lines, or Parquet, and may be in the folder as metadata.csv or captions.txt; an image may have
    several captions, as rows or as a list. Equal captions
    are one text with several images. Raises UsageError for a missing file or another format, DataError for what is
    wrong in it, or where no pair is left.
    """
    if os.path.isdir(path):
        path = Path(path)
        table = table_in(path)
        if table is None:
            return _read_folder(path, selection)
        path = table
    pairs = read_pairs([path], image_column=image_column, caption_column=caption_column, option="eval")
    if pairs.members:
        raise UsageError(f"{path}: evaluation reads images from files; unpack the tar into a folder, and give that")
    if (classes := pairs.sources[0].texts) and all_numbers([*classes]):
        raise DataError(f"{path}: all its labels are numbers, which are no captions; name these with --caption-column")
    rows = ((image, (caption,)) for image, caption in zip(pairs.images, pairs.captions, strict=True))
    return replace(
        captioned(shown_address(str(path)), rows),
        empty=pairs.empty_captions,
        missing=pairs.missing_files,
        first_missing=pairs.first_missing,
        read_as=pairs.notes,
    )


def table_in(folder: Path) -> Path | None:
    """Return the list of captions that a folder of images holds, if it does. Raises UsageError for several."""
    found = [folder / name for name in TABLES if os.path.isfile(folder / name)]
    if len(found) > 1:
        raise UsageError(f"{folder}: has {' and '.join(file.name for file in found)}; name the one to use")
    return found[0] if found else None


def captioned(name: str, rows: Iterable[tuple[str | SkippedImage, Sequence[str]]]) -> CaptionedImages:
    """Return images with their captions, in order; equal images are merged, and so are equal captions."""
    items: dict[str | SkippedImage, int] = {}
    texts: dict[str, int] = {}
    pairs: dict[tuple[int, int], None] = {}
    for item, captions in rows:
        image = items.setdefault(item, len(items))
        for caption in captions:
            pairs[image, texts.setdefault(caption, len(texts))] = None
    return CaptionedImages(name, tuple(items), tuple(texts), tuple(pairs))


def _read_folder(path: Path, selection: Selection) -> CaptionedImages:
    found = find_images([f"{path}{os.sep}"], selection=selection)
    rows = [(item, _captions_beside(item)) for item in found.items]
    with_text = [(item, captions) for item, captions in rows if captions]
    if not with_text:
        raise DataError(
            f"{path}: none of its {_many(len(rows), 'image')} has a caption; write a text file beside each, such as "
            "dog.txt for dog.jpg, or give a CSV with the columns image and caption"
        )
    return replace(captioned(str(path), with_text), bare=len(rows) - len(with_text), left_out=_left_out(found))


def _left_out(found: FoundImages) -> tuple[str, ...]:
    """Return what was left out of a folder; its texts were read."""
    others = {name: number for name, number in found.others.items() if name[1:] not in CAPTION_EXTENSIONS}
    return (*other_files(others), *(note for note in found.assumed if note not in tuple(other_files(found.others))))


def _captions_beside(item: str | SkippedImage) -> tuple[str, ...]:
    """Return the lines of the text file with an image's name; none if there is no such file."""
    stem = os.path.splitext(path_of(item))[0]
    for path in (f"{stem}.{extension}" for extension in CAPTION_EXTENSIONS):
        if os.path.lexists(path):
            lines = (line.strip() for line in read_text(Path(path), DataError).split("\n"))
            return tuple(line for line in lines if line)
    return ()


def _many(count: int, what: str) -> str:
    return f"{count:,} {what}" + ("" if count == 1 else "s")
