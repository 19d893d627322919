"""The results of shards as they are read to be merged: an item is what the output gets of an image, as it is.

Each says in `header` what its columns are, in the form of the output.
"""

import io
import os
import re
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, cast

from zeroshot_cli.disk import open_plain
from zeroshot_cli.errors import DataError, UsageError
from zeroshot_cli.results.formats import (
    COLUMNS,
    DELIMITERS,
    Extension,
    Format,
    as_was,
    csv_records,
    extension_of,
    header_of,
    more_columns,
    rendered,
    rows_in,
)
from zeroshot_cli.results.parquet import RESULTS, TypedRow, check_parquet, read_result_part, schema_of, typed_rows
from zeroshot_cli.results.resume import scanner_of
from zeroshot_cli.results.run_record import RunRecord
from zeroshot_cli.results.shards.parts import whole_parts
from zeroshot_cli.results.shards.shard import Share

_ESCAPED = re.compile(r"\\x([89a-f][0-9a-f])")
_BATCH = 10_000  # rows of Parquet in memory at once


@dataclass(slots=True)
class _Kept:
    """A stream that keeps what was read of it, until it is taken."""

    stream: BinaryIO
    content: bytearray

    def readline(self) -> bytes:
        line = self.stream.readline()
        self.content += line
        return line

    def __iter__(self) -> Iterator[bytes]:
        return iter(self.readline, b"")

    def take(self, size: int) -> bytes:
        taken = bytes(self.content[:size])
        del self.content[:size]
        return taken


class Lines:
    """A CSV, TSV or JSONL file; an item is its bytes."""

    columns: tuple[str, ...] = ()

    def __init__(self, path: Path, share: Share, *, excel_safe: bool = False) -> None:
        self.path, self.name, self.share = path, str(path), share
        self._form = Format(extension_of(path).value)
        self._path_of = as_was if excel_safe and self._form is not Format.JSONL else str  # which decides its place
        self.header = b""
        if self._form is not Format.JSONL:
            with open_plain(path) as stream:
                self.header = stream.readline()

    def paths(self) -> Iterator[str]:
        """Yield the path of every image."""
        return (path for path, _ in self.items())

    def items(self) -> Iterator[tuple[str, bytes]]:
        """Yield every image; DataError where not every byte is of one."""
        with open_plain(self.path) as stream:
            kept = _Kept(stream, bytearray())
            start = 0
            try:
                for item in scanner_of(self._form, complete=True)(cast("BinaryIO", kept), self.name):
                    if not start:
                        start = len(kept.take(len(self.header)))
                    block = kept.take(item.end - start)
                    start = item.end
                    self._check_ranks(block)
                    yield self._path_of(os.fsdecode(item.path)), block
            except UsageError:  # it does not begin as a file of results
                raise self._damaged() from None
            if kept.content.removeprefix(self.header if not start else b""):
                raise self._damaged()

    def _check_ranks(self, block: bytes) -> None:
        """Raise DataError where rows of one path are not the ranks of one image."""
        if self._form is Format.JSONL or block.count(b"\n") < 2:
            return
        records = (record.decode("latin-1") for record in csv_records(io.BytesIO(block)))
        ranks = [row[1] for record in records for row in rows_in(record, DELIMITERS[self._form])]
        if len(ranks) > 1 and ranks != [str(rank) for rank in range(1, len(ranks) + 1)]:
            raise self._damaged()

    def _damaged(self) -> DataError:
        return DataError(f"{self.name}, shard {self.share.shard}, is damaged; run this shard again with --overwrite")


class Table:
    """A Parquet file; an item is its rows."""

    def __init__(self, path: Path, share: Share) -> None:
        check_parquet()
        import pyarrow as pa
        import pyarrow.parquet as pq

        self.path, self.name, self.share = path, str(path), share
        self._broken = (pa.ArrowException, OSError)
        try:
            with open_plain(path) as file:
                schema = pq.read_schema(file)
        except self._broken as problem:
            raise self._damaged() from problem
        self.columns, self.header = tuple(schema.names), str(schema.remove_metadata()).encode()

    def paths(self) -> Iterator[str]:
        """Yield the path of every image."""
        return (path for path, _ in self._images(["path", "rank"]))

    def items(self) -> Iterator[tuple[str, list[TypedRow]]]:
        """Yield every image; DataError where the file is damaged."""
        return self._images(list(self.columns))

    def _images(self, columns: list[str]) -> Iterator[tuple[str, list[TypedRow]]]:
        import pyarrow.parquet as pq

        rows: list[TypedRow] = []
        try:
            with open_plain(self.path) as file, closing(pq.ParquetFile(file)) as table:
                for batch in table.iter_batches(_BATCH, columns=columns):
                    for row in zip(*(column.to_pylist() for column in batch.columns), strict=True):
                        if rows and row[1] in (None, 1):  # its first rank begins an image
                            yield _as_was(rows), rows
                            rows = []
                        rows.append(row)
        except self._broken as problem:
            raise self._damaged() from problem
        if rows:
            yield _as_was(rows), rows

    def _damaged(self) -> DataError:
        return DataError(f"{self.name}, shard {self.share.shard}, is damaged; run this shard again with --overwrite")


def _as_was(rows: list[TypedRow]) -> str:
    """Return the path of an image, of which Parquet has bytes that are not UTF-8 escaped; they decide its place."""
    path = str(rows[0][0])
    return _ESCAPED.sub(lambda found: chr(0xDC00 + int(found[1], 16)), path) if "\\" in path else path


class Parts:
    """A folder of parts; an item is what `form` makes of a result."""

    def __init__(self, path: Path, record: RunRecord, share: Share, form: Extension) -> None:
        self.path, self.name, self.share, self._form = path, str(path), share, form
        settings = record.settings
        self._more = more_columns(settings)
        self._excel_safe = bool(settings.get("excel_safe"))
        self.columns = (*COLUMNS, *self._more)
        self._parts = whole_parts(path, share.own.count)
        if form is Extension.PARQUET:
            self.header = str(schema_of({**RESULTS, **dict.fromkeys(self._more, "string")})).encode()
        else:
            self.header = header_of(Format(form.value), self._more, marked=bool(settings.get("output_encoding")))

    def paths(self) -> Iterator[str]:
        """Yield the path of every image."""
        return (path for path, _ in self._results())

    def items(self) -> Iterator[tuple[str, Any]]:
        """Yield every image; DataError where a part is damaged."""
        for path, item in self._results():
            if self._form is Extension.PARQUET:
                yield path, typed_rows(item, self._more)
            else:
                form = Format(self._form.value)
                yield path, rendered([item], form, more=self._more, excel_safe=self._excel_safe)

    def _results(self) -> Iterator[tuple[str, Any]]:
        import pyarrow as pa

        for part in self._parts:
            try:
                for item in read_result_part(part):
                    yield item.path, item
            except (pa.ArrowException, OSError, ValueError, KeyError) as problem:
                raise DataError(f"{part} is damaged; run it again with --resume") from problem
