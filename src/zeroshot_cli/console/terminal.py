"""What people read on a terminal: tables on standard output; progress and notes on standard error.

No text from a user or a file name is read as rich's markup, and no control character reaches the terminal.
"""

import json
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from enum import StrEnum
from typing import TYPE_CHECKING, TextIO, TypeVar

from zeroshot_cli.disk import writing
from zeroshot_cli.display import shown
from zeroshot_cli.models.default import BETTER_DOWNLOAD, BETTER_MODEL, Chosen, Source
from zeroshot_cli.records import Result, SkippedImage
from zeroshot_cli.results.formats import DELIMITERS, Format, delimited_row, labels_to_show

if TYPE_CHECKING:  # rich is slow to import, and `zeroshot --version` does not need it
    from rich.console import Console
    from rich.progress import Progress, TaskID
    from rich.table import Table

T = TypeVar("T")
CHUNK = 200  # images in one table; more follow in further tables of the same widths
_ASSUMED = 3  # notes in the one line
_FIXED_WIDTH = 34  # columns of score, probability and rank, with their gaps
_PIPE_WIDTH = 10_000  # wide enough that a table in a pipe is never folded


def note(text: str, *, quiet: bool = False) -> None:
    """Print one line on standard error."""
    if not quiet:
        print(shown(text), file=sys.stderr)


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


class TableWriter:
    """A sink that draws tables of 200 images, all with the column widths of the first.

    `paused` gives a context to draw in, such as a paused progress bar on the same terminal.
    """

    def __init__(
        self,
        console: "Console",
        *,
        ranks: bool,
        paused: Callable[[], AbstractContextManager[None]] = nullcontext,
    ) -> None:
        self._console = console
        self._ranks = ranks
        self._paused = paused
        self._items: list[Result] = []
        self._widths: tuple[int, int] | None = None

    def write(self, items: Sequence[Result]) -> None:
        """Draw every table that is full."""
        self._items.extend(items)
        while len(self._items) >= CHUNK:
            self._draw()

    def close(self) -> None:
        """Draw what is left."""
        if self._items:
            self._draw()

    def _draw(self) -> None:
        items, self._items = self._items[:CHUNK], self._items[CHUNK:]
        first = self._widths is None
        self._widths = self._widths or _widths(items, self._console.width)
        table = _table(items, self._widths, ranks=self._ranks, header=first)
        with self._paused(), writing("standard output"):
            self._console.print(table)


def _widths(items: Sequence[Result], available: int) -> tuple[int, int]:
    """Return the widths of path and label: what they need, or their share of the terminal."""
    from rich.cells import cell_len

    room = max(available - _FIXED_WIDTH, 20)
    path = max(4, *(cell_len(shown(item.path)) for item in items))
    label = max(5, *(cell_len(text) for item in items for text in _label_texts(item)))
    if path + label <= room:
        return path, label
    label = min(label, max(room // 3, room - path))
    return room - label, label


def _label_texts(item: Result) -> list[str]:
    if isinstance(item, SkippedImage):
        return [shown(item.reason)]
    return [shown(best.label) for best in labels_to_show(item)]


def _table(items: Sequence[Result], widths: tuple[int, int], *, ranks: bool, header: bool) -> "Table":
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, show_header=header, show_edge=False, pad_edge=False)
    table.add_column("path", width=widths[0], overflow="fold")
    if ranks:
        table.add_column("rank", width=4, justify="right")
    table.add_column("label", width=widths[1], overflow="fold")
    table.add_column("score", width=7, justify="right")
    table.add_column("probability", width=11, justify="right")
    for item in items:
        _add_rows(table, item, ranks=ranks)
    return table


def _add_rows(table: "Table", item: Result, *, ranks: bool) -> None:
    """Add a line for each label, the first with the path; an unreadable image has its reason as label."""
    from rich.text import Text

    path = Text(shown(item.path))  # Text, because a str would be read as markup
    if isinstance(item, SkippedImage):
        table.add_row(path, *[""] * ranks, Text(shown(item.reason), style="red"), "", "")
        return
    for rank, best in enumerate(labels_to_show(item), start=1):
        style = "yellow" if item.rejected else "bold" if rank == 1 else "dim"
        rank_cell = [str(rank)] * ranks
        label = Text(shown(best.label), style=style)
        table.add_row(path if rank == 1 else "", *rank_cell, label, f"{best.score:.4f}", f"{best.probability:.4f}")


def print_rows(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print a plain table on standard output, aligned on a terminal and tab-separated in a pipe."""
    if not sys.stdout.isatty():
        for row in (columns, *rows):
            print(delimited_row([shown(field) for field in row], "\t"), end="")
        return
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(*columns, box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for row in rows:
        table.add_row(*(Text(shown(field)) for field in row))
    console_for(sys.stdout).print(table)


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
) -> None:
    """Print a list on standard output: `rows` under `columns` for people, or `objects` for programs."""
    if form is ListFormat.TABLE:
        print_rows(columns, rows)
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
        self, items: Iterable[T], total: int, description: str, *, images: Callable[[T], int] = lambda item: 1
    ) -> Iterator[T]:
        """Yield the items, counting the `images` of each."""
        if self._progress is None:
            yield from items
            return
        task = self._progress.add_task(shown(description), total=total, rate="")
        start, done = time.monotonic(), 0
        for item in items:
            yield item
            done += images(item)
            self._progress.update(task, completed=done, rate=_rate(done, start, "images"))

    def counter(self, description: str, unit: str) -> Callable[[int, int], None]:
        """Return a function that shows how many of a total are done, once the work has taken a second."""
        start = time.monotonic()
        task: TaskID | None = None

        def count(done: int, total: int) -> None:
            nonlocal task
            if self._progress is None or time.monotonic() - start < 1:
                return
            if task is None:
                task = self._progress.add_task(shown(description), rate="")
            self._progress.update(task, completed=done, total=total, rate=_rate(done, start, unit))

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


def _rate(done: int, start: float, unit: str) -> str:
    return f"{done / max(time.monotonic() - start, 1e-9):.1f} {unit}/s"


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
