"""What a user sees of a training run, on stderr: lines, and on a terminal a view below them."""

import math
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from types import TracebackType
from typing import TYPE_CHECKING

from rich.console import Console

from zeroshot_cli.console.preflight import print_preflight
from zeroshot_cli.console.training_live import LONG_WAIT, LiveView, TrainingTable, bar
from zeroshot_cli.console.training_state import TrainingState
from zeroshot_cli.display import counted, shown

if TYPE_CHECKING:
    from zeroshot_cli.train.events import Checked, Finished, Started, Stepped

MOST_LINES = 100  # of epochs; of more epochs than that, every second, third ... has a line
LONG = 60.0  # seconds without a line, after which a tenth of an epoch has one
PATIENCE = 1.0  # seconds that images are looked at before there is a bar


class TrainingView(AbstractContextManager["TrainingView"]):
    """Lines before, at the end of epochs and after; on a terminal a view of the run below them; `quiet` shows none.

    Elsewhere, an epoch that takes long has a line for each of its tenths. Logit scale and temperature are one number:
    the first is what a cosine is multiplied by, the second what it is divided by.
    """

    def __init__(
        self, *, quiet: bool = False, console: Console | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.console = console or Console(stderr=True, quiet=quiet, highlight=False, emoji=False)
        self._view = LiveView(self.console, wanted=not quiet)
        self._clock = clock
        self._began = self._last_line = clock()
        self._state: TrainingState | None = None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._view.close()
        state = self._state
        if isinstance(error, KeyboardInterrupt) and state is not None and state.report is not None:
            self.note(f"stopped after step {state.step:,} of {state.info.steps:,}; add --resume to go on")

    def checked(self, event: "Checked") -> None:
        """Show how many images were looked at before the first step, where that takes more than a second."""
        if self._clock() - self._began >= PATIENCE:
            text = f"checking images: {event.done:,} of {event.total:,}"
            self._view.show(bar(text, event.done, event.total))

    def started(self, info: "Started") -> None:
        """Say what the pairs are like, and what will be done with them."""
        self._view.close()
        print_preflight(info.preflight, self.console)
        processes = f"by {info.processes:,} processes, " if info.processes > 1 else ""
        self.note(
            f"{info.parameters / 1e6:.1f} million parameters on {info.device} in {info.precision}, "
            f"{processes}learning rate {info.lr:g}"
        )
        if info.first_step:
            self.note(f"going on after step {info.first_step:,}")
        self._state = TrainingState(info, self._clock)
        self._last_line = self._clock()

    def stepped(self, report: "Stepped") -> None:
        """Show the step; say how an epoch goes."""
        state = self._state
        assert state is not None, "a run starts before its first step"
        new = state.report is None
        state.add(report)
        if new:
            self._view.show(TrainingTable(state))
        if _has_line(state) or (not self._view.is_wanted and self._is_due(state)):
            self.note(epoch_line(state, report))
            self._last_line = self._clock()

    def _is_due(self, state: TrainingState) -> bool:
        tenths = [10 * steps // state.info.steps_per_epoch for steps in (state.within_epoch - 1, state.within_epoch)]
        return tenths[0] != tenths[1] and self._clock() - self._last_line >= LONG

    def finished(self, result: "Finished") -> None:
        """Say where the model is and how many images could not be read."""
        if result.skipped:
            first = result.skipped[0]
            images = counted(len(result.skipped), "image")
            self.note(f"{images} could not be read, first {first.path}: {first.reason}; see skipped.csv of the run")
        report = result.model.with_name("report.html")
        self.note(f"the model is in {result.model}" + (f", its curves in {report}" if report.is_file() else ""))

    def note(self, text: str) -> None:
        """Say something on standard error, above the view."""
        self.console.print(shown(text), markup=False, soft_wrap=True)


def _has_line(state: TrainingState) -> bool:
    """Whether an epoch ends that is worth a line: all are, but where they are very many."""
    report = state.report
    if report is None or state.within_epoch:
        return False
    judged = report.validation is not None or report.zero_shot is not None
    return judged or report.epoch == state.epochs or report.epoch % math.ceil(state.epochs / MOST_LINES) == 0


def epoch_line(state: TrainingState, report: "Stepped") -> str:
    """How an epoch went, or goes; the loss is the mean of its steps."""
    share = f", {state.within_epoch / state.info.steps_per_epoch:.0%}" if state.within_epoch else ""
    parts = [f"loss {state.epoch_loss.value:.3f}", f"{report.images_per_second:,.0f} images/s"]
    if report.data_wait > LONG_WAIT:
        parts.append(f"waiting for data {report.data_wait:.0%} of the time")
    if report.validation is not None:
        retrieval = report.validation.retrieval
        parts.append(f"validation loss {report.validation.loss:.3f}")
        recalls = f"{retrieval.image_to_text[1]:.1%} image to text, {retrieval.text_to_image[1]:.1%} text to image"
        parts.append(f"recall@1 {recalls}")
    if report.zero_shot is not None:
        parts.append(f"zero-shot {report.zero_shot.top1:.1%}")
    return f"epoch {report.epoch:,} of {state.epochs:,}{share}: " + ", ".join(parts)
