"""The outputs of a run: opened all or none, resumed after an interruption, completed at the end.

A run can be killed between any two of its steps: files are opened, locked and emptied; the record is written,
`complete: false`; results are appended, block by block; the record says `complete: true`; reports are made from the
journal, and the record names those still to be made; the journal is removed.
"""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from zeroshot_cli.disk import writing
from zeroshot_cli.display import counted
from zeroshot_cli.errors import UsageError
from zeroshot_cli.records import Counts, Result
from zeroshot_cli.results.append_file import AppendFile
from zeroshot_cli.results.formats import (
    GROUP,
    Extension,
    Format,
    Sink,
    Writer,
    extension_of,
    journal_lines,
    more_columns,
    no_formula,
    parse_line,
    row_writer,
)
from zeroshot_cli.results.parquet import write_parquet
from zeroshot_cli.results.resume import Scanner, journal_items, keep_whole, scanner_of
from zeroshot_cli.results.run_record import RunRecord, as_plain, check_resumable, read_record, write_record
from zeroshot_cli.results.summary import Tally, write_summary
from zeroshot_cli.results.targets import Targets, check_own

T = TypeVar("T")
Results = Callable[[], Iterator[Result]]
Maker = Callable[[Path, Results], object]  # makes a report at a path, from results that it may read several times


class Outputs:
    """The open files of a run.

    `sinks` take the results still to come, and `tally` counts them by label. `kept` counts those that the files already
    hold, which the tally has too; `complete` says that they hold all. `written` are the files that this run wrote, and
    `notes` are sentences for the user.
    """

    def __init__(self, start: "_Start", record: RunRecord, kept: Counts, notes: Sequence[str]) -> None:
        targets, files = start.targets, start.files
        self._targets = targets
        self._record = record
        self.kept = kept
        self.tally = start.tally
        self.complete = record.complete
        self.notes = tuple(notes)
        self._journal = files.get(targets.journal) if targets.journal is not None else None
        self.sinks: list[Sink] = []
        self.written = list[Path]()
        if not self.complete:  # a finished run takes no more results
            self.written += targets.streamed
            for path in targets.streamed:
                self.sinks.append(self._row_writer(files[path], _format(path)))
            if self._journal is not None:
                self.sinks.append(Writer(self._journal.append, journal_lines))

    def _row_writer(self, file: AppendFile, form: Format) -> Sink:
        safe, marked = self._excel_safe, self._marked
        return row_writer(file.append, form, header=not file.size, more=self.more, excel_safe=safe, marked=marked)

    @property
    def more(self) -> tuple[str, ...]:
        """The columns that not every run has."""
        return more_columns(self._record.settings)

    @property
    def _excel_safe(self) -> bool:
        return bool(self._record.settings.get("excel_safe"))

    @property
    def _marked(self) -> bool:
        """Whether CSV and TSV begin with a byte order mark."""
        return bool(self._record.settings.get("output_encoding"))

    @property
    def assumed(self) -> tuple[str, ...]:
        """What was assumed when the inputs of the run, or of the earlier one, were read."""
        return self._record.assumed

    @property
    def done(self) -> int:
        """The number of images that the files already hold."""
        return self.kept.images

    def remaining(self, items: Sequence[T]) -> Sequence[T]:
        """Return those of all items that are still to be classified."""
        return items[len(items) if self.complete else self.done :]

    def finish(self, counts: Counts, *, sort: Maker | None = None, **makers: Maker) -> None:
        """Mark the run complete, with the counts of all its images; make its reports; remove the journal.

        The `makers` are by extension, as `html`; `sort`, which may move the images, comes last. Raises UsageError if a
        report cannot be written (`--resume` makes what is missing), ValueError if a report has no maker.
        """
        if self._targets.record is None:
            return
        if not self.complete:
            to_make = tuple(map(str, self._targets.derived))
            self._note(replace(self._record, complete=True, counts=counts, to_make=to_make))
        for path in self._targets.derived:
            if str(path) in self._record.to_make:
                self._make(path, self._maker(path, sort, makers))
                if path != self._targets.folder:
                    self.written.append(path)
                rest = tuple(name for name in self._record.to_make if name != str(path))
                self._note(replace(self._record, to_make=rest))
        if self._journal is not None and self._targets.journal is not None:
            self._journal.close()
            self._targets.journal.unlink(missing_ok=True)

    def _make(self, path: Path, maker: Maker | None) -> None:
        if maker is None or self._journal is None:
            raise ValueError(f"nothing here makes {path}")
        maker(path, partial(read_journal, self._journal))

    def _maker(self, path: Path, sort: Maker | None, makers: Mapping[str, Maker]) -> Maker | None:
        """Return what makes a report, or fills the folder."""
        if path == self._targets.folder:
            return sort
        if path == self._targets.summary:
            every, safe = self.tally.every_label, self._excel_safe
            tables = partial(write_summary, excel_safe=safe, marked=self._marked)
            return partial(tables, every_label=every, grouped=GROUP in self.more)
        extension = extension_of(path)
        own = {Extension.PARQUET: partial(write_parquet, more=self.more)}
        return own.get(extension) or makers.get(extension)

    def _note(self, record: RunRecord) -> None:
        if self._targets.record is not None:
            write_record(self._targets.record, record)
            self._record = record


def read_journal(file: AppendFile) -> Iterator[Result]:
    """Yield the results in a journal; UsageError if a line is damaged."""
    with file.reader() as stream:
        for number, line in enumerate(stream, start=1):
            try:
                yield parse_line(line)
            except ValueError:
                where = f"{file.name}, line {number}"
                raise UsageError(f"{where}: damaged; add --overwrite to classify all images again") from None


@contextmanager
def open_outputs(
    targets: Targets,
    record: RunRecord,
    *,
    expected: Iterable[str] = (),
    overwrite: bool = False,
    resume: bool = False,
) -> Iterator[Outputs]:
    """Open the files of a run, which `check_outputs` has passed, and close them whatever happens.

    `record` says what the run is asked for; with `resume`, its settings must equal those of the earlier run. `expected`
    are the paths of all images, in order. Raises UsageError if a file cannot be opened (those created before it are
    removed), is held by another run, or cannot be resumed.
    """
    places = {
        "outputs": list(map(str, targets.paths)),
        "sort_into": None if not targets.folder else str(targets.folder),
        "summary": targets.summary and str(targets.summary),
    }
    record = replace(record, settings=as_plain({**record.settings, **places}), resolved=as_plain(record.resolved))
    with ExitStack() as closing:
        with ExitStack() as undo:
            start = _Start(targets, record, closing, undo)
            outputs = start.resume(expected) if resume else start.begin(exclusive=not overwrite)
            undo.pop_all()
        yield outputs


class _Start:
    """Opens files: the stack `closing` closes all of them at the end, `undo` removes those created here."""

    def __init__(self, targets: Targets, record: RunRecord, closing: ExitStack, undo: ExitStack) -> None:
        self.targets = targets
        self.record = record
        self.closing = closing
        self.undo = undo
        self.files: dict[Path, AppendFile] = {}
        self.tally = _tally(record.settings)

    def begin(self, *, exclusive: bool, notes: Sequence[str] = ()) -> Outputs:
        """Begin with empty files; with `exclusive` none may exist, except what an earlier run left behind."""
        self._create_folder()
        for path in self.targets.streamed:
            self._open(path, exclusive=exclusive)
        if self.targets.journal is not None:
            self._open(self.targets.journal, own=True)
        # Nothing is changed before every file is open and locked. An old record goes first: it must not be taken for
        # that of the new files, nor the new one for that of the old files.
        if self.targets.record is not None:
            with writing(str(self.targets.record)):
                self.targets.record.unlink(missing_ok=True)
        for file in self.files.values():
            file.truncate(0)
        if self.targets.record is not None:
            self.undo.callback(self.targets.record.unlink, missing_ok=True)
            write_record(self.targets.record, self.record)
        return Outputs(self, self.record, Counts(), notes)

    def resume(self, expected: Iterable[str]) -> Outputs:
        """Resume the files of an earlier run, or begin if there is none."""
        targets = self.targets
        for path in (*targets.streamed, targets.journal):
            if path is not None and path.exists():
                self._open(path, own=path == targets.journal)
        check_own(targets)
        earlier = None if targets.record is None else read_record(targets.record)
        if earlier is None or not (self.files or any(path.exists() for path in targets.derived)):
            return self.begin(exclusive=False)
        check_resumable(earlier.settings, self.record.settings, str(targets.anchor))
        return self._finished(earlier, expected) if earlier.complete else self._interrupted(earlier, expected)

    def _interrupted(self, earlier: RunRecord, expected: Iterable[str]) -> Outputs:
        scanners: dict[Path, Scanner] = {path: scanner_of(_format(path)) for path in self.targets.streamed}
        if self.targets.journal is not None:
            scanners[self.targets.journal] = journal_items
        missing = [path for path in scanners if path not in self.files]
        if missing:
            return self._start_over(missing[0])
        kept = keep_whole([(self.files[path], scan) for path, scan in scanners.items()], expected, self.tally)
        note = f"--resume: kept {counted(kept.images, 'image')} of {self.targets.anchor}; classifying the rest"
        return Outputs(self, earlier, kept, [note])

    def _finished(self, earlier: RunRecord, expected: Iterable[str]) -> Outputs:
        """Leave the files of a finished run alone; only missing reports are still to be made."""
        targets, kept = self.targets, earlier.counts or Counts()
        missing = [path for path in targets.streamed if path not in self.files]
        to_make = [path for path in targets.derived if str(path) in earlier.to_make or not targets.is_made(path)]
        if not missing and to_make and targets.journal not in self.files:
            missing = to_make
        if missing:
            return self._start_over(missing[0])
        if to_make:
            note = f"--resume: every image is done; still to be made: {', '.join(map(str, to_make))}"
        else:
            self._check_number(kept.images, expected)
            note = f"--resume: {targets.anchor} is finished, with {counted(kept.images, 'image')}; nothing to do"
        self._count()
        return Outputs(self, replace(earlier, to_make=tuple(map(str, to_make))), kept, [note])

    def _count(self) -> None:
        """Count the images of a finished run by label, where one of its files has them and was not changed since."""
        scanners = [(path, scanner_of(_format(path), complete=True)) for path in self.targets.streamed]
        for path, scan in [*scanners, (self.targets.journal, journal_items)]:
            if path in self.files:
                with suppress(UsageError), self.files[path].reader() as stream:
                    for item in scan(stream, str(path)):
                        self.tally.add(os.fsdecode(item.path), item.labels, item.outcome)
                return

    def _check_number(self, number: int, expected: Iterable[str]) -> None:
        now = sum(1 for _ in expected)
        if now != number and self.targets.folder is None:  # sorting may have moved the images
            raise UsageError(
                f"--resume: {self.targets.anchor} is finished, with {counted(number, 'image')}, but there are {now} "
                "now; --overwrite classifies them all"
            )

    def _start_over(self, missing: Path) -> Outputs:
        return self.begin(
            exclusive=False, notes=[f"--resume: {missing} is missing, so all images are classified again"]
        )

    def _open(self, path: Path, *, exclusive: bool = False, own: bool = False) -> None:
        """Open and lock a file, unless it is open."""
        if path in self.files:
            return
        file = AppendFile(path, exclusive=exclusive, own=own)
        self.closing.callback(file.close)
        self.undo.callback(file.discard)
        file.lock()
        self.files[path] = file

    def _create_folder(self) -> None:
        folder = self.targets.folder
        if folder is None or folder.is_dir():
            return
        with writing(str(folder)):
            folder.mkdir()
        self.undo.callback(_remove_if_empty, folder)


def _tally(settings: Mapping[str, Any]) -> Tally:
    """Return an empty tally for a run, which knows its labels by what --excel-safe makes of them."""
    labels = settings.get("labels") or []
    names = {no_formula(label): label for label in labels} if settings.get("excel_safe") else {}
    return Tally(every_label=bool(settings.get("multi_label")), names=names | {label: label for label in labels})


def _remove_if_empty(folder: Path) -> None:
    with suppress(OSError):
        folder.rmdir()


def _format(path: Path) -> Format:
    return Format(extension_of(path).value)
