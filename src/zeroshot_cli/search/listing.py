"""What search and duplicates found, as bytes for scripts: CSV, JSONL, or plain paths for pipes."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from zeroshot_cli.results.formats import delimited_row, to_bytes

THRESHOLD = 0.96  # how alike copies are; docs/duplicates.md has the measurement


class Match(StrEnum):
    """What a file of a group is: the one to keep, the same bytes as that, or nearly the same image."""

    KEEP = "keep"
    IDENTICAL = "identical"
    SIMILAR = "similar"


class ListingFormat(StrEnum):
    """How what was found is printed."""

    TABLE = "table"
    PATHS = "paths"
    CSV = "csv"
    JSONL = "jsonl"


class ListingFile(StrEnum):
    """The files that what was found is written to, by extension."""

    CSV = "csv"
    JSONL = "jsonl"
    HTML = "html"


@dataclass(frozen=True, slots=True)
class Listing:
    """Rows under columns, None where a row has no value; `paths` are those for pipes."""

    columns: tuple[str, ...]
    rows: Sequence[Mapping[str, object]]
    paths: Sequence[str]

    def rendered(self, form: ListingFormat | ListingFile, *, null: bool = False) -> bytes:
        """Return all as bytes; paths, byte for byte, end with a line feed, or with NUL."""
        if form == ListingFormat.PATHS:
            return to_bytes("".join(f"{path}{chr(0) if null else chr(10)}" for path in self.paths))
        if form == ListingFormat.JSONL:
            return "".join(map(_json_line, self.rows)).encode("utf-8", "backslashreplace")
        cells = ([_cell(row.get(column)) for column in self.columns] for row in self.rows)
        return to_bytes(_joined([self.columns, *cells]))


def _joined(rows: Iterable[Sequence[str]]) -> str:
    return "".join(delimited_row(row, ",") for row in rows)


def _json_line(row: Mapping[str, object]) -> str:
    present = {
        name: float(f"{value:.6g}") if isinstance(value, float) else value
        for name, value in row.items()
        if value is not None
    }
    return json.dumps(present, ensure_ascii=False) + "\n"


def _cell(value: object) -> str:
    return "" if value is None else f"{value:.6f}" if isinstance(value, float) else str(value)
