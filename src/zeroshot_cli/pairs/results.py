"""The rows of results of `classify` with all that they say, also as other programs have saved them again."""

import csv
import io
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from itertools import zip_longest
from typing import Any, BinaryIO

from zeroshot_cli.documents import load_json
from zeroshot_cli.errors import DataError, UsageError
from zeroshot_cli.pairs.opened import Form, form_of, text_of

_DELIMITERS = (",", "\t", ";")
_BATCH = 10_000  # rows of Parquet in memory at once
_ENDS = ("\n", "\r")

ResultRow = tuple[str, Mapping[str, Any]]
"""Where a row is, such as "line 3", and what its columns hold."""


def result_rows(name: str, file: BinaryIO, *, known: Sequence[str], needed: Iterable[str]) -> Generator[ResultRow]:
    """Yield the rows of CSV with any delimiter, JSON lines or Parquet, of whose columns only the `known` are read.

    The torn end of a run that was killed is left out. Raises DataError, with the place, for what is damaged, no table,
    or lacks a column that is `needed`. Close the generator before the file.
    """
    form = form_of(name, file)
    if form is Form.TAR:
        raise DataError(f"{name} is a tar, not results; name what zeroshot classify wrote with --output")
    file.seek(0)
    if form is Form.PARQUET:
        yield from _parquet_rows(name, file, known, needed)
        return
    with text_of(name, file) as text:
        yield from _csv_rows(name, text, known, needed) if form is Form.CSV else _json_rows(name, text)


def _csv_rows(name: str, text: io.TextIOWrapper, known: Iterable[str], needed: Iterable[str]) -> Iterator[ResultRow]:
    last = [text.readline()]
    header = last[0].rstrip("\r\n")
    delimiter = max(_DELIMITERS, key=lambda each: len({*header.split(each)}.intersection(known)))
    columns = next(csv.reader([header], delimiter=delimiter), [])
    _check_columns(name, columns, needed)
    # Strict, so that an unclosed quote is an error and does not swallow rows.
    reader = csv.reader(_kept(text, last), delimiter=delimiter, strict=True)
    line = 2
    try:
        for row in reader:
            if len(row) < len(columns) and not last[0].endswith(_ENDS):
                return
            if row:
                yield f"line {line}", dict(zip_longest(columns, row[: len(columns)], fillvalue=""))
            line = reader.line_num + 2
    except csv.Error as error:
        if line == reader.line_num + 1 and not last[0].endswith(_ENDS):  # torn in a quoted cell
            return
        raise DataError(f"{name}, line {line}: damaged ({error}); restore the line") from None


def _kept(lines: Iterable[str], last: list[str]) -> Iterator[str]:
    for line in lines:
        last[0] = line
        yield line


def _json_rows(name: str, text: Iterable[str]) -> Iterator[ResultRow]:
    for number, line in enumerate(text, start=1):
        if not line.strip():
            continue
        try:
            row = load_json(line)
        except ValueError as error:
            if not line.endswith(_ENDS):
                return
            raise DataError(f"{name}, line {number}: invalid JSON ({error}); restore the line") from None
        if not isinstance(row, dict):
            raise DataError(f"{name}, line {number}: not a JSON object with path and label")
        yield f"line {number}", row


def _parquet_rows(name: str, file: BinaryIO, known: Iterable[str], needed: Iterable[str]) -> Iterator[ResultRow]:
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError:
        raise UsageError(f"reading {name} needs pyarrow: pip install 'zeroshot-cli[parquet]'") from None
    try:
        table = pq.ParquetFile(file)
        columns = table.schema_arrow.names
        _check_columns(name, columns, needed)
        wanted = [each for each in known if each in columns]
        rows = (row for batch in table.iter_batches(_BATCH, columns=wanted) for row in batch.to_pylist())
        yield from ((f"row {number}", row) for number, row in enumerate(rows, start=1))
    except pa.ArrowException as error:
        reason = " ".join(str(error).split())
        raise DataError(f"{name} is damaged or not Parquet ({reason}); write or copy it again") from None


def _check_columns(name: str, columns: Sequence[str], needed: Iterable[str]) -> None:
    if lacking := next((each for each in needed if each not in columns), None):
        raise DataError(f"{name} has no column {lacking!r}; name what zeroshot classify wrote with --output")
