"""What a run says about itself: its plan, its steps, its end; and metrics.jsonl, a row for each step that is logged."""

import json
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from zeroshot_cli.records import SkippedImage
from zeroshot_cli.train.pairs import Pairs
from zeroshot_cli.train.validate import Validation

SPEED_WINDOW = 20  # steps over which images a second are measured


@dataclass(frozen=True, slots=True)
class RunInfo:
    """What a run is about to do; `first_step` is over 0 when it goes on."""

    pairs: Pairs
    steps: int
    steps_per_epoch: int
    first_step: int
    parameters: int
    device: str
    precision: str
    lr: float


@dataclass(frozen=True, slots=True)
class StepReport:
    """One step done; `step` and `epoch` count from 1, `skipped` counts the unreadable images met so far."""

    step: int
    epoch: int
    loss: float
    lr: float
    logit_scale: float
    images_per_second: float
    skipped: int
    validation: Validation | None = None

    def row(self) -> dict[str, float | int]:
        """The row of metrics.jsonl."""
        row: dict[str, float | int] = {
            "step": self.step,
            "epoch": self.epoch,
            "loss": self.loss,
            "lr": self.lr,
            "logit_scale": self.logit_scale,
            "images_per_second": round(self.images_per_second, 1),
            "skipped": self.skipped,
        }
        if self.validation is not None:
            row |= {"val_loss": self.validation.loss, "val_recall@1": self.validation.recall_at_1}
            row["val_skipped"] = len(self.validation.skipped)
        return row


@dataclass(frozen=True, slots=True)
class TrainResult:
    """Where the model is, and how the run ended."""

    model: Path
    last: StepReport | None
    skipped: tuple[SkippedImage, ...]


def cut_metrics(file: Path, step: int) -> None:
    """Remove the rows of steps that will be made again, and a last line that was cut off."""
    if not file.exists():
        return
    kept = []
    for line in file.read_text(encoding="utf-8").splitlines(keepends=True):
        try:
            row = json.loads(line)
        except ValueError:
            break
        if line.endswith("\n") and row["step"] <= step:
            kept.append(line)
    write_text(file, "".join(kept))


def write_text(file: Path, text: str) -> None:
    """Write a file beside its name, then rename it."""
    temporary = file.with_name(file.name + ".partial")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(file)


class Speed:
    """Images a second over the last steps, without the time that checkpoints and validation take."""

    def __init__(self) -> None:
        self._seconds: deque[tuple[int, float]] = deque(maxlen=SPEED_WINDOW)
        self._since = time.perf_counter()

    def count(self, images: int) -> None:
        now = time.perf_counter()
        self._seconds.append((images, now - self._since))
        self._since = now

    def images_per_second(self) -> float:
        seconds = sum(spent for _, spent in self._seconds)
        return sum(images for images, _ in self._seconds) / max(seconds, 1e-9)

    @contextmanager
    def paused(self) -> Iterator[None]:
        began = time.perf_counter()
        try:
            yield
        finally:
            self._since += time.perf_counter() - began
