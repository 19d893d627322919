"""The view of a training run that a terminal shows below all lines, four times a second anew."""

import io
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, redirect_stderr
from datetime import timedelta
from typing import TYPE_CHECKING, TextIO

from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from zeroshot_cli.console.training_state import TrainingState
from zeroshot_cli.display import counted

if TYPE_CHECKING:
    from zeroshot_cli.train.events import Stepped
    from zeroshot_cli.train.validate import Validation

REFRESHES = 4  # a second
LONG_WAIT = 0.1  # the share of time without a batch that is worth a look
BLOCKS = "▁▂▃▄▅▆▇█"
NAMES = 14  # columns of the names, with the gap


class LiveView:
    """A renderable at the foot of a terminal, while there is one; nothing elsewhere."""

    def __init__(self, console: Console, *, wanted: bool) -> None:
        self.console = console
        self.is_wanted = wanted and console.is_terminal and not console.is_dumb_terminal
        self._live: Live | None = None
        self._open = ExitStack()

    def show(self, content: RenderableType) -> None:
        """Draw this from now on."""
        if not self.is_wanted:
            return
        if self._live is not None:
            self._live.update(content)
            return
        # Standard output is left alone: rich would send it to standard error.
        self._live = Live(
            content,
            console=self.console,
            refresh_per_second=REFRESHES,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        self._open.enter_context(self._live)
        if self.console.stderr:
            above = self._open.enter_context(_AboveView(self.console, sys.stderr))
            self._open.enter_context(redirect_stderr(above))

    def close(self) -> None:
        """Take it off the terminal."""
        self._open.close()
        self._live = None


class _AboveView(io.TextIOBase):
    """Standard error while a view is drawn: whole lines of this process go above it.

    A process that was forked has a copy of the view's locks, perhaps locked for good; what it says goes straight out.
    """

    def __init__(self, console: Console, stream: TextIO) -> None:
        self._console, self._process, self._line = console, os.getpid(), ""
        self.rich_proxied_file = stream  # where rich itself writes

    def write(self, text: str) -> int:
        if os.getpid() != self._process:
            return self.rich_proxied_file.write(text)
        *lines, self._line = (self._line + text).split("\n")
        for line in lines:
            self._console.print(Text(line), soft_wrap=True)
        return len(text)

    def close(self) -> None:
        if self._line:
            self.write("\n")
        super().close()

    def flush(self) -> None:
        self.rich_proxied_file.flush()

    def fileno(self) -> int:
        return self.rich_proxied_file.fileno()

    def isatty(self) -> bool:
        return self.rich_proxied_file.isatty()


class TrainingTable:
    """The figures of a run: a bar, and a name and a value a line, each line cut where the terminal ends."""

    def __init__(self, state: TrainingState) -> None:
        self._state = state

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        state, report = self._state, self._state.report
        place = f"step {state.step:,} of {state.info.steps:,}"
        if report is None:
            yield bar(place, state.step, state.info.steps)
            return
        yield bar(f"epoch {report.epoch:,} of {state.epochs:,}, {place}", state.step, state.info.steps)
        table = Table.grid(padding=(0, 1, 0, 0))
        table.add_column(style="dim", no_wrap=True, width=NAMES - 1)
        table.add_column(no_wrap=True, overflow="crop" if options.ascii_only else "ellipsis")
        width = 0 if options.ascii_only else options.max_width - NAMES
        for name, value in (*_step_rows(state, report, width), *_judged_rows(state)):
            table.add_row(name, value)
        yield table


def bar(text: str, done: int, total: int) -> RenderableType:
    """A bar in what room its text leaves."""
    grid = Table.grid(expand=True, padding=(0, 1, 0, 0))
    grid.add_column(no_wrap=True)
    grid.add_column(ratio=1)
    grid.add_row(Text(text), ProgressBar(total=total, completed=done))
    return grid


def _step_rows(state: TrainingState, report: "Stepped", width: int) -> Iterator[tuple[str, Text]]:
    loss = Text(f"{state.smooth_loss.value:.3f}, last {report.loss:.3f}")
    room = width - loss.cell_len - 2
    yield "loss", loss.append("  " + sparkline(state.course.at_most(max(room, 0))), style="cyan")
    yield "logit scale", Text(f"{report.logit_scale:.2f}, temperature {1 / report.logit_scale:.4f}")
    yield "learning rate", Text(f"{report.lr:.2e}")
    wait = Text(f"{report.data_wait:.0%} of the time", style="yellow" if report.data_wait > LONG_WAIT else "")
    yield "images/s", Text(f"{report.images_per_second:,.0f}, waiting for data ").append_text(wait)
    yield "time left", Text(f"{_span(state.seconds_left())}, elapsed {_span(state.seconds_gone())}")
    if report.skipped:
        yield "skipped", Text(counted(report.skipped, "unreadable image"), style="yellow")


def _judged_rows(state: TrainingState) -> Iterator[tuple[str, Text]]:
    """What the last validation and zero-shot classification have found."""
    if state.validation is not None:
        epoch, validation = state.validation
        yield "validation", Text(f"loss {validation.loss:.3f} after epoch {epoch:,}")
        at = "/".join(str(k) for k in validation.retrieval.image_to_text)
        yield f"recall@{at}", Text(_recalls(validation))
    if state.zero_shot is not None:
        epoch, accuracy = state.zero_shot
        yield "zero-shot", Text(f"top-1 {accuracy.top1:.1%}, top-5 {accuracy.top5:.1%} after epoch {epoch:,}")


def _recalls(validation: "Validation") -> str:
    retrieval = validation.retrieval
    directions = (("text", retrieval.image_to_text), ("image", retrieval.text_to_image))
    return ", ".join(f"{name} {' '.join(f'{100 * r:.1f}' for r in found.values())} %" for name, found in directions)


def sparkline(numbers: Sequence[float]) -> str:
    """One character a number, from the lowest to the highest of them."""
    if not numbers:
        return ""
    lowest = min(numbers)
    height = max(numbers) - lowest
    top = len(BLOCKS) - 1
    return "".join(BLOCKS[round((number - lowest) / height * top) if height else 0] for number in numbers)


def _span(seconds: float | None) -> str:
    return "unknown" if seconds is None else str(timedelta(seconds=round(seconds)))
