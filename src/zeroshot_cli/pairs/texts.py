"""Texts in a column of a table, without images."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath

from zeroshot_cli.errors import DataError, UsageError
from zeroshot_cli.pairs.columns import CAPTION_COLUMNS, CAPTIONS, Columns
from zeroshot_cli.pairs.opened import Form, form_of
from zeroshot_cli.pairs.tables import read_table

_SUFFIXES = (".csv", ".tsv", ".tab", ".psv", ".jsonl", ".ndjson", ".json", ".parquet", ".pq")


@dataclass(frozen=True, slots=True)
class _TextColumn(Columns):
    """The one column that is read: the named one, the only one, or the first with a usual name."""

    def find(self, header: Sequence[str]) -> tuple[int, int]:
        """Return the place of the column, twice; raises Fault."""
        is_only = self.text is None and len(header) == 1
        place = 0 if is_only else self._find(header, "text", self.text, CAPTION_COLUMNS)
        return place, place

    def path_of(self, value: object) -> str:
        """Return nothing: there is no image."""
        return ""


def is_table(path: Path) -> bool:
    """Return whether a file of texts is a table by its name, and not one with a text a line."""
    return PurePath(str(path).lower().removesuffix(".gz")).suffix in _SUFFIXES


def read_texts(path: Path, column: str | None = None) -> tuple[list[str], tuple[str, ...]]:
    """Return the texts of a column of CSV, JSONL or Parquet, an empty one for an empty cell, and what was assumed.

    A list in a cell is several texts. Raises UsageError for a file that is not there, DataError for a wrong one.
    """
    notes: list[str] = []
    columns = _TextColumn(CAPTIONS, None, column)
    try:
        with path.open("rb") as file:
            form = form_of(str(path), file)
            if form is Form.TAR:
                raise UsageError(f"{path}: is a tar; give it as IMAGES for its images, or unpack it for its texts")
            rows = list(read_table(str(path), file, form, columns, notes))
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror or error}; check the path") from None
    texts = [text for _, _, own in rows for text in own]
    if not any(texts):
        raise DataError(f"{path}: has no text under its header; name another --text-column")
    named = [note.rpartition(" from ")[2] for note in notes if note.startswith("images from the column")]
    others = [note for note in notes if not note.startswith("images from the column")]
    return texts, (*(f"{os.fspath(path)}: texts from the column {each}" for each in named), *others)
