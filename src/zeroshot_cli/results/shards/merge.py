"""Merge the results of shards into the file that one run would have written, and its record beside it.

Rows are copied as they are, so a CSV, TSV or JSONL file of shards of a folder is equal to that of one run, byte for
byte.
"""

import io
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import BinaryIO, cast

from zeroshot_cli.disk import open_plain, replacing, writing
from zeroshot_cli.errors import DataError, UsageError
from zeroshot_cli.records import Counts
from zeroshot_cli.results.formats import (
    COLUMNS,
    DELIMITERS,
    Extension,
    Format,
    as_was,
    csv_records,
    extension_of,
    rows_in,
)
from zeroshot_cli.results.parquet import TypedRow, check_parquet, write_typed
from zeroshot_cli.results.resume import scanner_of
from zeroshot_cli.results.run_record import RunRecord, difference, read_record, write_record
from zeroshot_cli.results.shards.merging import OnProgress, merged
from zeroshot_cli.results.shards.shard import Share, without_shard
from zeroshot_cli.results.targets import Targets, check_outputs

MERGED = (Extension.CSV, Extension.TSV, Extension.JSONL, Extension.PARQUET)
RECORD = ".run.json"
_ELSEWHERE = ("outputs", "sort_into", "summary")  # settings that say where a shard wrote
_RESOLVED = ("batch_size", "image_size")  # on which results depend
_ESCAPED = re.compile(r"\\x([89a-f][0-9a-f])")
_BATCH = 10_000  # rows of Parquet in memory at once


def merge_results(
    inputs: Sequence[Path], output: Path, *, overwrite: bool = False, on_progress: OnProgress = lambda done, total: None
) -> RunRecord:
    """Write the results of all shards to `output`, in order of path, and return the record of the merged run.

    Raises UsageError or DataError, and writes nothing, where a shard is missing, twice or incomplete, was changed since
    it was written, or is of other settings or other images than the rest.
    """
    form = extension_of(output)
    if form not in MERGED:
        raise UsageError(f"cannot write {output}: merge writes {', '.join(f'.{each}' for each in MERGED)}; name one")
    targets = Targets((output,))
    check_outputs(targets, overwrite=overwrite)
    records = _Records()
    shards = [_shard_of(path, form, records) for path in inputs]
    _check_same(shards)
    sources = [_source_of(path, record, share) for path, record, share in shards]
    _check_same_columns(sources)
    content = merged(sources, on_progress)
    record = _record_of([record for _, record, _ in shards], output)
    if targets.record is not None:
        with writing(str(targets.record)):  # an old one must not be taken for that of the new file
            targets.record.unlink(missing_ok=True)
    if form is Extension.PARQUET:
        write_typed(output, content, more=sources[0].columns[len(COLUMNS) :])
    else:
        _write_lines(output, sources[0].header, content)
    if targets.record is not None:
        write_record(targets.record, record)
    return record


_Shard = tuple[Path, RunRecord, Share]


def _shard_of(path: Path, form: Extension, records: "_Records") -> _Shard:
    """Return a file with its record; UsageError or DataError where it has none, or is no finished shard."""
    if not path.is_file():
        raise UsageError(f"{path}: no such file; give what zeroshot classify --shard wrote with --output")
    if extension_of(path) is not form:
        raise UsageError(f"{path} is not .{form} as the output is; give files of one format, and name such an output")
    record = records.of(path)
    if record is None:
        raise UsageError(
            f"{path} has no record of its run, {path.name}{RECORD}, beside it, which says what was asked for; "
            "copy it there too"
        )
    try:
        share = Share.read(record.settings)
    except ValueError as problem:
        raise DataError(f"{path}: its record is damaged ({problem}); run this shard again with --overwrite") from None
    if share is None:
        raise UsageError(f"{path} is not a shard: its run had no --shard I/N; give the files of runs that had")
    if not record.complete or path.name in {Path(name).name for name in record.to_make}:
        raise DataError(f"{path}, shard {share.shard}, is incomplete: its run was stopped; run it again with --resume")
    return path, record, share


class _Records:
    """The records of runs, by what they wrote; those of a folder are read once."""

    def __init__(self) -> None:
        self._in_folder = cache(self._read)

    def of(self, path: Path) -> RunRecord | None:
        """Return the record of the run that wrote a file, which is beside the first output of that run."""
        own = path.with_name(path.name + RECORD)
        return read_record(own) if own.exists() else self._in_folder(path.parent).get(path.name)

    @staticmethod
    def _read(folder: Path) -> Mapping[str, RunRecord]:
        found: dict[str, RunRecord] = {}
        for each in sorted(folder.glob(f"*{RECORD}")):
            record = read_record(each)
            if record is not None:
                found |= {Path(str(name)).name: record for name in record.settings.get("outputs") or ()}
        return found


def _check_same(shards: Sequence[_Shard]) -> None:
    """Raise UsageError for a shard that was made with other settings than the first."""
    first, before, _ = shards[0]
    for path, record, share in shards[1:]:
        if found := difference(_shared(before), _shared(record)):
            name, was, is_now = found
            raise UsageError(
                f"{path}, shard {share.shard}, was made otherwise than {first}: {name} is {is_now}, not {was}; "
                "run all shards with the same options"
            )


def _shared(record: RunRecord) -> dict[str, object]:
    settings = {**without_shard(record.settings), **{name: record.resolved.get(name) for name in _RESOLVED}}
    return {name: value for name, value in settings.items() if name not in _ELSEWHERE}


def _source_of(path: Path, record: RunRecord, share: Share) -> "Lines | Table":
    if extension_of(path) is Extension.PARQUET:
        return Table(path, share)
    return Lines(path, share, excel_safe=bool(record.settings.get("excel_safe")))


def _check_same_columns(sources: "Sequence[Lines | Table]") -> None:
    for source in sources:
        if source.header != sources[0].header:
            raise DataError(
                f"{source.name}, shard {source.share.shard}, begins otherwise than {sources[0].name}: it was changed "
                "since its run; run this shard again with --overwrite"
            )


def _record_of(records: Sequence[RunRecord], output: Path) -> RunRecord:
    """Return the record of the run that would have written the merged file."""
    places = {"outputs": [str(output)], "sort_into": None, "summary": None}
    counts = Counts()
    for each in (record.counts or Counts() for record in records):
        counts = Counts(
            classified=counts.classified + each.classified,
            unreadable=counts.unreadable + each.unreadable,
            unknown=counts.unknown + each.unknown,
            truncated=counts.truncated + each.truncated,
        )
    return replace(
        records[0],
        started=min(record.started for record in records),
        settings={**without_shard(records[0].settings), **places},
        counts=counts,
        assumed=tuple(dict.fromkeys(text for record in records for text in record.assumed)),
    )


def _write_lines(output: Path, header: bytes, blocks: Iterable[bytes]) -> None:
    with replacing(output) as unfinished, unfinished.open("wb") as file, writing(str(output)):
        file.write(header)
        for block in blocks:
            file.write(block)


# Files of results, as they are read to be copied


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
