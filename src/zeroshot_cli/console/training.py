"""What a user sees of a training run, on stderr: lines, and on a terminal a view below them."""

from __future__ import annotations

import io
import math
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, redirect_stderr
from datetime import timedelta
from types import TracebackType
from typing import TYPE_CHECKING, TextIO

from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from zeroshot_cli.console.preflight import print_preflight
from zeroshot_cli.console.terminal import assumed_lines
from zeroshot_cli.console.training_state import TrainingState
from zeroshot_cli.display import counted, shown, shown_lines

if TYPE_CHECKING:
    from zeroshot_cli.train.features import Encoded
    from zeroshot_cli.train.files.folder import Before, Finished, Started, Stepped
    from zeroshot_cli.train.preflight import Checked
    from zeroshot_cli.train.validate import Accuracy, Validation

MOST_LINES = 100  # of epochs; of more epochs, every second, third ... has a line
LONG = 60.0  # seconds without a line, after which a tenth of an epoch has one
PATIENCE = 1.0  # seconds of checking images before a bar is drawn
REFRESHES = 4  # a second
LONG_WAIT = 0.1  # the share of time without a batch that is worth a look
BLOCKS = "▁▂▃▄▅▆▇█"
NAMES = 14  # columns of the names, with the gap


class TrainingView(AbstractContextManager["TrainingView"]):
    """Lines at the start, after each epoch and at the end; on a terminal a view of the run below them.

    Elsewhere, a long epoch has a line for each of its tenths. `quiet` shows nothing. A cosine is multiplied by the
    logit scale, or divided by the temperature, which is the same.
    """

    def __init__(
        self,
        *,
        quiet: bool = False,
        verbose: bool = False,
        console: Console | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.console = console or Console(stderr=True, quiet=quiet, highlight=False, emoji=False)
        self._verbose = verbose
        self._view = LiveView(self.console, wanted=not quiet)
        self._clock = clock
        self._began = self._last_line = clock()
        self._state: TrainingState | None = None
        self._encoding = False

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._view.close()
        state = self._state
        if isinstance(error, KeyboardInterrupt) and self._encoding:
            self.note("stopped while images were encoded; add --resume to continue")
        elif isinstance(error, KeyboardInterrupt) and state is not None and state.report is not None:
            self.note(f"stopped after step {state.step:,} of {state.info.steps:,}; add --resume to continue")

    def checked(self, event: Checked) -> None:
        """Show how many images were checked before the first step, if that takes more than a second."""
        if self._clock() - self._began >= PATIENCE:
            text = f"checking images: {event.done:,} of {event.total:,}"
            self._view.show(bar(text, event.done, event.total))

    def started(self, info: Started) -> None:
        """Print what was found in the pairs, and what the run will do."""
        self._view.close()
        for line in assumed_lines(info.assumed, verbose=self._verbose):
            self.note(line)
        print_preflight(info.preflight, self.console)
        processes = f"by {info.processes:,} processes, " if info.processes > 1 else ""
        trained = f", {info.trained:,} of them trained," if info.trained < info.parameters else ""
        self.note(
            f"{info.origin}: {info.parameters / 1e6:.1f} million parameters{trained} on {info.device} in "
            f"{info.precision}, {processes}learning rate {info.lr:g}"
        )
        if info.chosen:
            options = " ".join(f"--{name.replace('_', '-')} {value:g}" for name, value in info.chosen.items())
            self.note(f"chosen for {info.preflight.pairs:,} pairs: {options}; each can be given")
        if info.first_step:
            self.note(f"resuming after step {info.first_step:,}")
        self._state = TrainingState(info, self._clock)
        self._last_line = self._clock()

    def before(self, report: Before) -> None:
        """Print what the model is worth before its first step."""
        self.note("before training: " + ", ".join(_judged(report.validation, report.zero_shot)))

    def encoded(self, event: Encoded) -> None:
        """Show how many views are encoded; without a terminal by a line a minute."""
        self._encoding = True
        text = f"encoding images: {event.done:,} of {event.total:,}"
        self._view.show(bar(text, event.done, event.total))
        if not self._view.is_wanted and self._clock() - self._last_line >= LONG:
            self.note(text)
            self._last_line = self._clock()

    def stepped(self, report: Stepped) -> None:
        """Show the step; print a line at the end of an epoch."""
        state = self._state
        assert state is not None, "a run starts before its first step"
        new, self._encoding = state.report is None, False
        state.add(report)
        if new:
            self._view.show(TrainingTable(state))
        if _has_line(state) or (not self._view.is_wanted and self._is_due(state)):
            self.note(epoch_line(state, report))
            self._last_line = self._clock()

    def _is_due(self, state: TrainingState) -> bool:
        tenths = [10 * steps // state.info.steps_per_epoch for steps in (state.within_epoch - 1, state.within_epoch)]
        return tenths[0] != tenths[1] and self._clock() - self._last_line >= LONG

    def finished(self, result: Finished) -> None:
        """Print where the model is and how many images could not be read."""
        for note in result.notes:
            self.note(note)
        if result.skipped:
            first = result.skipped[0]
            images = counted(len(result.skipped), "file" if first.path.endswith(".tar") else "image")
            self.note(f"{images} could not be read, first {first.path}: {first.reason}; see the run's skipped.csv")
        report = result.model.with_name("report.html")
        self.note(f"the model is in {result.model}" + (f", its curves in {report}" if report.is_file() else ""))

    def note(self, text: str) -> None:
        """Print a line on standard error, above the view."""
        self.console.print(shown(text), markup=False, soft_wrap=True)


def _has_line(state: TrainingState) -> bool:
    """Return whether an epoch has ended that gets a line: all do unless they are very many."""
    report = state.report
    if report is None or state.within_epoch:
        return False
    judged = report.validation is not None or report.zero_shot is not None
    return judged or report.epoch == state.epochs or report.epoch % math.ceil(state.epochs / MOST_LINES) == 0


def epoch_line(state: TrainingState, report: Stepped) -> str:
    """Return a line on an epoch; its loss is the mean over the steps so far."""
    share = f", {state.within_epoch / state.info.steps_per_epoch:.0%}" if state.within_epoch else ""
    parts = [f"loss {state.epoch_loss.value:.3f}", f"{report.images_per_second:,.0f} images/s"]
    if report.distil is not None:
        parts.insert(1, f"distil {report.distil:.3f}")
    if report.data_wait > LONG_WAIT:
        parts.append(f"waiting for data {report.data_wait:.0%} of the time")
    parts += _judged(report.validation, report.zero_shot)
    return f"epoch {report.epoch:,} of {state.epochs:,}{share}: " + ", ".join(parts)


def _judged(validation: Validation | None, zero_shot: Accuracy | None) -> Iterator[str]:
    """Yield what validation has found."""
    if validation is not None:
        retrieval = validation.retrieval
        yield f"validation loss {validation.loss:.3f}"
        yield f"recall@1 {retrieval.image_to_text[1]:.1%} image to text, {retrieval.text_to_image[1]:.1%} text to image"
    if zero_shot is not None:
        yield f"zero-shot {zero_shot.top1:.1%}"


# what is kept of a run


class LiveView:
    """A renderable at the foot of a terminal; nothing elsewhere."""

    def __init__(self, console: Console, *, wanted: bool) -> None:
        self.console = console
        self.is_wanted = wanted and console.is_terminal and not console.is_dumb_terminal
        self._live: Live | None = None
        self._open = ExitStack()

    def show(self, content: RenderableType) -> None:
        """Draw this from now on, four times a second."""
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
        """Remove it from the terminal."""
        self._open.close()
        self._live = None


class _AboveView(io.TextIOBase):
    """Standard error while a view is drawn: this process's lines go above it.

    A forked process has a copy of the view's locks, perhaps locked forever; what it writes goes straight out.
    """

    def __init__(self, console: Console, stream: TextIO) -> None:
        self._console, self._process, self._line = console, os.getpid(), ""
        self.rich_proxied_file = stream  # where rich itself writes

    def write(self, text: str) -> int:
        if os.getpid() != self._process:
            return self.rich_proxied_file.write(text)
        *lines, self._line = (self._line + text).split("\n")
        for line in lines:
            self._console.print(Text(shown_lines(line)), soft_wrap=True)
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
    """The figures of a run: a bar, then a name and a value per line, cut at the terminal's width."""

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
    """Return a text and a bar in the room that it leaves."""
    grid = Table.grid(expand=True, padding=(0, 1, 0, 0))
    grid.add_column(no_wrap=True)
    grid.add_column(ratio=1)
    grid.add_row(Text(text), ProgressBar(total=total, completed=done))
    return grid


def _step_rows(state: TrainingState, report: Stepped, width: int) -> Iterator[tuple[str, Text]]:
    loss = Text(f"{state.smooth_loss.value:.3f}, last {report.loss:.3f}")
    room = width - loss.cell_len - 2
    yield "loss", loss.append("  " + sparkline(state.course.at_most(max(room, 0))), style="cyan")
    if report.distil is not None:
        yield "distil", Text(f"{report.distil:.3f}")
    yield "logit scale", Text(f"{report.logit_scale:.2f}, temperature {1 / report.logit_scale:.4f}")
    yield "learning rate", Text(f"{report.lr:.2e}")
    wait = Text(f"{report.data_wait:.0%} of the time", style="yellow" if report.data_wait > LONG_WAIT else "")
    yield "images/s", Text(f"{report.images_per_second:,.0f}, waiting for data ").append_text(wait)
    yield "time left", Text(f"{_span(state.seconds_left())}, elapsed {_span(state.seconds_gone())}")
    if report.skipped:
        yield "skipped", Text(counted(report.skipped, "unreadable image"), style="yellow")


def _judged_rows(state: TrainingState) -> Iterator[tuple[str, Text]]:
    """Yield what the last validation and zero-shot classification found."""
    if state.validation is not None:
        epoch, validation = state.validation
        yield "validation", Text(f"loss {validation.loss:.3f} after epoch {epoch:,}")
        at = "/".join(str(k) for k in validation.retrieval.image_to_text)
        yield f"recall@{at}", Text(_recalls(validation))
    if state.zero_shot is not None:
        epoch, accuracy = state.zero_shot
        yield "zero-shot", Text(f"top-1 {accuracy.top1:.1%}, top-5 {accuracy.top5:.1%} after epoch {epoch:,}")


def _recalls(validation: Validation) -> str:
    retrieval = validation.retrieval
    directions = (("text", retrieval.image_to_text), ("image", retrieval.text_to_image))
    return ", ".join(f"{name} {' '.join(f'{100 * r:.1f}' for r in found.values())} %" for name, found in directions)


def sparkline(numbers: Sequence[float]) -> str:
    """Return one character per number, scaled from the lowest to the highest."""
    if not numbers:
        return ""
    lowest = min(numbers)
    height = max(numbers) - lowest
    top = len(BLOCKS) - 1
    return "".join(BLOCKS[round((number - lowest) / height * top) if height else 0] for number in numbers)


def _span(seconds: float | None) -> str:
    return "unknown" if seconds is None else str(timedelta(seconds=round(seconds)))
