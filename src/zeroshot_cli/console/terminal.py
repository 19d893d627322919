"""What people read on a terminal: tables on standard output; progress and notes on standard error.

No text from a user or a file name is read as rich's markup, and no control character reaches the terminal.
"""

import json
import shutil
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from enum import StrEnum
from typing import TYPE_CHECKING, TextIO, TypeVar

from zeroshot_cli.display import shown
from zeroshot_cli.models.default import BETTER_DOWNLOAD, BETTER_MODEL, Chosen, Source
from zeroshot_cli.remote.address import shown_in
from zeroshot_cli.results.formats import DELIMITERS, Format, delimited_row

if TYPE_CHECKING:  # rich is slow to import, and `zeroshot --version` does not need it
    from rich.console import Console
    from rich.progress import Progress, TaskID

T = TypeVar("T")
_ASSUMED = 3  # notes in the one line
_ERASE = "\r\x1b[K"  # of a terminal: the line that the cursor is in
_passing: list[str] = []  # the note that stands there
_PIPE_WIDTH = 10_000  # wide enough that a table in a pipe is never folded
_GAP = 2  # between the columns of a list
_LEAST = 24  # of its last column, whose words may be longer, as paths are


def note(text: str, *, quiet: bool = False) -> None:
    """Print one line on standard error; what is secret in an address is left out."""
    if not quiet:
        _end_passing_note()
        print(shown(shown_in(text)), file=sys.stderr)


@contextmanager
def passing_note(text: str, *, quiet: bool) -> Iterator[None]:
    """Show what takes a while on standard error, if that is a terminal, until it is done or another note comes."""
    if not quiet and sys.stderr.isatty():
        _passing.append(text)
        row = shown(shown_in(text))[: shutil.get_terminal_size().columns - 1]  # what wraps could not be erased
        print(row, end="", file=sys.stderr, flush=True)
    try:
        yield
    finally:
        _end_passing_note()


def _end_passing_note() -> None:
    if _passing:
        _passing.clear()
        print(_ERASE, end="", file=sys.stderr, flush=True)


def note_default(chosen: Chosen, *, quiet: bool) -> None:
    """Say on a terminal that the model in the package answers, because nobody chose one, and what to take next."""
    if chosen.source is Source.PACKAGE and sys.stderr.isatty():
        better = f"--model {BETTER_MODEL} gives far better answers ({BETTER_DOWNLOAD}, downloaded once)"
        note(f"{chosen.name}, the model in the package, answers; {better}", quiet=quiet)


def assumed_lines(notes: Sequence[str], *, verbose: bool) -> list[str]:
    """Return what readers took for granted in one line, which names at most three; with `verbose` one line for each."""
    if verbose:
        return [f"assumed: {text}" for text in notes]
    more = [f"--verbose lists all {len(notes)}"] * (len(notes) > _ASSUMED)
    return [f"assumed: {'; '.join([*notes[:_ASSUMED], *more])}"] * bool(notes)


def note_assumed(notes: Sequence[str], *, quiet: bool, verbose: bool) -> None:
    """Print what readers took for granted on standard error, nothing if that is nothing."""
    for line in assumed_lines(notes, verbose=verbose):
        note(line, quiet=quiet)


def console_for(stream: TextIO) -> "Console":
    """Return a console that folds lines only on a terminal."""
    from rich.console import Console

    return Console(file=stream, width=None if stream.isatty() else _PIPE_WIDTH, highlight=False, emoji=False)


def print_rows(columns: Sequence[str], rows: Iterable[Sequence[str]], *, spare: Sequence[str] = ()) -> None:
    """Print a plain table on standard output, aligned on a terminal and tab-separated in a pipe.

    Words are never cut: on a narrow terminal cells fold at blanks, then `spare` columns go, first the first of them.
    """
    if not sys.stdout.isatty():
        for row in (columns, *rows):
            print(delimited_row([shown(field) for field in row], "\t"), end="")
        return
    from rich import box
    from rich.table import Table
    from rich.text import Text

    console = console_for(sys.stdout)
    cells = [[*map(shown, row)] for row in (columns, *rows)]
    kept, widths = _fitted(cells, console.width, spare)
    console.width = max(console.width, sum(widths) + _GAP * (len(widths) - 1))
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
    for column, width in zip(kept, widths, strict=True):
        table.add_column(Text(columns[column]), width=width, overflow="fold")
    for row in cells[1:]:
        table.add_row(*(Text(row[column]) for column in kept))
    console.print(table)
    gone = [name for column, name in enumerate(columns) if column not in kept]
    if gone:
        note(f"left out at this width: {', '.join(gone)}; a wider terminal has all, and so has a pipe")


def _fitted(cells: Sequence[Sequence[str]], room: int, spare: Sequence[str]) -> tuple[list[int], list[int]]:
    """Return which columns of a table fit, and their widths; the last column folds within a word if it must."""
    from rich.cells import cell_len

    columns = [*zip(*cells, strict=True)]
    whole = [max(map(cell_len, column)) for column in columns]
    words = [max((cell_len(word) for cell in column for word in cell.split()), default=0) for column in columns]
    words[-1] = min(whole[-1], _LEAST)
    kept = list(range(len(columns)))
    for name in spare:
        if sum(words[each] + _GAP for each in kept) - _GAP > room:
            kept.remove(cells[0].index(name))
    widths = {each: whole[each] for each in kept}
    while sum(widths.values()) + _GAP * (len(kept) - 1) > room:
        widest = max((each for each in kept if widths[each] > words[each]), key=widths.__getitem__, default=None)
        if widest is None:
            break
        widths[widest] -= 1
    return kept, list(widths.values())


class ListFormat(StrEnum):
    """How a list is printed."""

    TABLE = "table"
    CSV = "csv"
    TSV = "tsv"
    JSON = "json"
    JSONL = "jsonl"


def print_list(
    columns: Sequence[str],
    rows: Iterable[Sequence[str]],
    objects: Sequence[Mapping[str, object]],
    form: ListFormat,
    *,
    spare: Sequence[str] = (),
) -> None:
    """Print a list on standard output: `rows` under `columns` for people, or `objects` for programs."""
    if form is ListFormat.TABLE:
        print_rows(columns, rows, spare=spare)
    elif form is ListFormat.JSON:
        print(json.dumps(objects, indent=2))
    elif form is ListFormat.JSONL:
        print("".join(f"{json.dumps(each)}\n" for each in objects), end="")
    else:
        cells = [[_cell(value) for value in each.values()] for each in objects]
        table = [*(list(each) for each in objects[:1]), *cells]
        print("".join(delimited_row(row, DELIMITERS[Format(form)]) for row in table), end="")


def _cell(value: object) -> str:
    return "" if value is None else json.dumps(value) if isinstance(value, bool) else str(value)


class ProgressBar:
    """A progress bar on standard error, or nothing if nobody would see it."""

    def __init__(self, progress: "Progress | None" = None) -> None:
        self._progress = progress

    def track(
        self,
        items: Iterable[T],
        total: int,
        description: str,
        *,
        images: Callable[[T], int] = lambda item: 1,
        status: Callable[[], str] | None = None,
    ) -> Iterator[T]:
        """Yield the items, counting the `images` of each; the `status` stands beside the rate."""
        if self._progress is None:
            yield from items
            return
        task = self._progress.add_task(shown(description), total=total, rate="")
        start, done = time.monotonic(), 0
        for item in items:
            yield item
            done += images(item)
            self._progress.update(task, completed=done, rate=_rate(done, start, "images", status))

    def counter(
        self, description: str, unit: str, *, status: Callable[[], str] | None = None
    ) -> Callable[[int, int], None]:
        """Return a function that shows how many of a total are done, once the work has taken a second."""
        start = time.monotonic()
        task: TaskID | None = None

        def count(done: int, total: int) -> None:
            nonlocal task
            if self._progress is None or time.monotonic() - start < 1:
                return
            if task is None:
                task = self._progress.add_task(shown(description), rate="")
            rate = _rate(done, start, unit, status)
            self._progress.update(task, completed=done, total=total, rate=rate)

        return count

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Hide the bar while something else is written to the terminal."""
        if self._progress is None or not self._progress.live.is_started:
            yield
            return
        self._progress.stop()
        try:
            yield
        finally:
            self._progress.start()


def _rate(done: int, start: float, unit: str, status: Callable[[], str] | None = None) -> str:
    rate = f"{done / max(time.monotonic() - start, 1e-9):.1f} {unit}/s"
    return rate if status is None else f"{rate}, {status()}"


@contextmanager
def progress_bar(*, quiet: bool = False) -> Iterator[ProgressBar]:
    """Give a progress bar with a rate per second; it is drawn only if standard error is a terminal."""
    if quiet or not sys.stderr.isatty():
        yield ProgressBar()
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}", markup=False),
        TimeRemainingColumn(),
    )
    # Without redirect_stdout=False, rich would send standard output to standard error.
    with Progress(*columns, console=Console(stderr=True), transient=True, redirect_stdout=False) as progress:
        yield ProgressBar(progress)
