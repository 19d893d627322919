"""What a user sees of a training run: notes and a progress bar, on stderr."""

from contextlib import AbstractContextManager
from types import TracebackType
from typing import TYPE_CHECKING, Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from zeroshot_cli.report.console import shown
from zeroshot_cli.report.deliver import counted

if TYPE_CHECKING:
    from zeroshot_cli.train.metrics import RunInfo, StepReport, TrainResult


class TrainingView(AbstractContextManager["TrainingView"]):
    """Notes before and after, a bar on a terminal in between, a line an epoch elsewhere; `quiet` shows none of them."""

    def __init__(self, *, quiet: bool = False, console: Console | None = None) -> None:
        self.console = console or Console(stderr=True, quiet=quiet, highlight=False, soft_wrap=True)
        self.progress = Progress(
            TextColumn("epoch {task.fields[epoch]}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("loss {task.fields[loss]:.3f}  lr {task.fields[lr]:.1e}  {task.fields[speed]:.0f} images/s"),
            TimeRemainingColumn(),
            console=self.console,
            disable=quiet or not self.console.is_terminal,
        )
        self.task = self.progress.add_task("train", start=False, epoch=1, loss=float("nan"), lr=0.0, speed=0.0)
        self.steps_per_epoch = 1

    def __enter__(self) -> Self:
        self.progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.progress.stop()

    def started(self, info: "RunInfo") -> None:
        """Say what will be done, and what was left out of the data."""
        pairs = info.pairs
        left_out = ((pairs.empty_captions, "with an empty caption"), (pairs.missing_files, "whose image is missing"))
        dropped = ", ".join(f"{count:,} {why}" for count, why in left_out if count)
        self.note(f"{len(pairs):,} pairs" + (f"; left out: {dropped}" if dropped else ""))
        self.note(
            f"{info.parameters / 1e6:.1f} million parameters on {info.device} in {info.precision}, "
            f"{info.steps:,} steps ({info.steps_per_epoch:,} an epoch), learning rate {info.lr:g}"
        )
        if info.first_step:
            self.note(f"going on after step {info.first_step:,}")
        self.steps_per_epoch = info.steps_per_epoch
        self.progress.update(self.task, total=info.steps, completed=info.first_step)
        self.progress.start_task(self.task)

    def stepped(self, report: "StepReport") -> None:
        """Move the bar; say how an epoch went when it ends."""
        self.progress.update(
            self.task,
            completed=report.step,
            epoch=report.epoch,
            loss=report.loss,
            lr=report.lr,
            speed=report.images_per_second,
        )
        if report.step % self.steps_per_epoch == 0:
            self.note(_epoch_line(report))

    def finished(self, result: "TrainResult") -> None:
        """Say where the model is and how many images could not be read."""
        if result.skipped:
            first = result.skipped[0]
            images = counted(len(result.skipped), "image")
            self.note(f"{images} could not be read, first {first.path}: {first.reason}; see skipped.csv of the run")
        self.note(f"the model is in {result.model}")

    def note(self, text: str) -> None:
        """Say something on standard error, above the bar."""
        self.console.print(shown(text), markup=False)


def _epoch_line(report: "StepReport") -> str:
    line = f"epoch {report.epoch}: loss {report.loss:.3f}, {report.images_per_second:.0f} images/s"
    if report.validation is None:
        return line
    return f"{line}, validation loss {report.validation.loss:.3f}, recall@1 {report.validation.recall_at_1:.1%}"
