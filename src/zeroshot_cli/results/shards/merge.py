"""Merge the results of shards into the file that one run would have written, and its record beside it.

Rows are copied as they are, so a CSV, TSV or JSONL file of shards of a folder is equal to that of one run, byte for
byte.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path

from zeroshot_cli.disk import replacing, similar_path, writing
from zeroshot_cli.errors import DataError, UsageError
from zeroshot_cli.records import Counts
from zeroshot_cli.results.formats import (
    COLUMNS,
    Extension,
    extension_of,
)
from zeroshot_cli.results.found import RECORD, records_in
from zeroshot_cli.results.parquet import write_typed
from zeroshot_cli.results.run_record import RunRecord, difference, read_record, write_record
from zeroshot_cli.results.shards import parts
from zeroshot_cli.results.shards.merging import OnProgress, merged
from zeroshot_cli.results.shards.parts import earlier_record
from zeroshot_cli.results.shards.shard import Share, without_shard
from zeroshot_cli.results.shards.sources import Lines, Parts, Table
from zeroshot_cli.results.targets import Targets, check_outputs

MERGED = (Extension.CSV, Extension.TSV, Extension.JSONL, Extension.PARQUET)
_ELSEWHERE = ("outputs", "sort_into", "summary")  # settings that say where a shard wrote
_RESOLVED = ("batch_size", "image_size")  # on which results depend


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
    sources = [_source_of(path, record, share, form) for path, record, share in shards]
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
    """Return a file or folder with its record; UsageError or DataError where it has none, or is no finished shard."""
    record = earlier_record(path) if path.is_dir() else records.of(path)
    if path.is_dir() and record is None:
        raise UsageError(f"{path} has no {parts.RECORD}; give a folder that zeroshot classify --output DIR/ wrote")
    if not path.exists():
        way_out = similar_path(str(path)) or "give what zeroshot classify --shard wrote with --output"
        raise UsageError(f"{path}: no such file; {way_out}")
    if not path.is_dir() and extension_of(path) is not form:
        raise UsageError(f"{path} is not .{form} as the output is; give files of one format, and name such an output")
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
    if record.counts is None:
        raise DataError(f"{path}: its record is damaged (counts are missing); run this shard again with --overwrite")
    return path, record, share


class _Records:
    """The records of runs, by what they wrote; those of a folder are read once."""

    def __init__(self) -> None:
        self._in_folder = cache(records_in)

    def of(self, path: Path) -> RunRecord | None:
        """Return the record of the run that wrote a file, which is beside the first output of that run."""
        own = path.with_name(path.name + RECORD)
        record = own if own.exists() else self._in_folder(path.parent).get(path.name)
        return None if record is None else read_record(record)


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


def _source_of(path: Path, record: RunRecord, share: Share, form: Extension) -> Lines | Table | Parts:
    if path.is_dir():
        return Parts(path, record, share, form)
    if extension_of(path) is Extension.PARQUET:
        return Table(path, share)
    return Lines(path, share, excel_safe=bool(record.settings.get("excel_safe")))


def _check_same_columns(sources: Sequence[Lines | Table | Parts]) -> None:
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
    for record in records:
        counts = counts.with_counts(record.counts or Counts())
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
