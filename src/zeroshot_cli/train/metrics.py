"""What a run says about itself: its plan, its steps, its end; and metrics.jsonl, a row for each step that is logged."""

import json
import math
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from zeroshot_cli.records import SkippedImage
from zeroshot_cli.train.preflight import Preflight
from zeroshot_cli.train.validate import Validation
from zeroshot_cli.train.zero_shot import Accuracy

SPEED_WINDOW = 20  # steps over which images a second are measured


@dataclass(frozen=True, slots=True)
class RunInfo:
    """What a run is about to do; `first_step` is over 0 when it goes on."""

    preflight: Preflight
    steps: int
    steps_per_epoch: int
    first_step: int
    parameters: int
    device: str
    precision: str
    lr: float
    processes: int = 1


@dataclass(frozen=True, slots=True)
class StepReport:
    """One step done; `step` and `epoch` count from 1, `skipped` counts the unreadable images met so far.

    `loss` and `grad_norm` may be no finite numbers: then the step changed nothing. `data_wait` is the share of the time
    that went by before the batch was there.
    """

    step: int
    epoch: int
    loss: float
    lr: float
    logit_scale: float
    grad_norm: float
    images_per_second: float
    data_wait: float
    skipped: int
    validation: Validation | None = None
    zero_shot: Accuracy | None = None

    def row(self) -> dict[str, float | int | None]:
        """The row of metrics.jsonl; null is what was not finite."""
        row: dict[str, float | int | None] = {
            "step": self.step,
            "epoch": self.epoch,
            "loss": self.loss if math.isfinite(self.loss) else None,
            "lr": self.lr,
            "logit_scale": self.logit_scale,
            "grad_norm": self.grad_norm if math.isfinite(self.grad_norm) else None,
            "images_per_second": round(self.images_per_second, 1),
            "data_wait": round(self.data_wait, 3),
            "skipped": self.skipped,
        }
        if self.validation is not None:
            retrieval = self.validation.retrieval
            row |= {"val_loss": self.validation.loss, "val_skipped": len(self.validation.skipped)}
            row |= {f"val_recall@{k}": recall for k, recall in retrieval.image_to_text.items()}
            row |= {f"val_text_recall@{k}": recall for k, recall in retrieval.text_to_image.items()}
        if self.zero_shot is not None:
            row |= {"zero_shot_top1": self.zero_shot.top1, "zero_shot_top5": self.zero_shot.top5}
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
        self._steps: deque[tuple[int, float, float]] = deque(maxlen=SPEED_WINDOW)
        self._since = time.perf_counter()
        self._waited = 0.0

    def waited(self) -> None:
        """The batch is there."""
        self._waited = time.perf_counter() - self._since

    def count(self, images: int) -> None:
        """The step is done."""
        now = time.perf_counter()
        self._steps.append((images, now - self._since, self._waited))
        self._since = now

    def images_per_second(self) -> float:
        return sum(images for images, _, _ in self._steps) / self._seconds()

    def data_wait(self) -> float:
        """The share of the time in which there was no batch."""
        return sum(waited for _, _, waited in self._steps) / self._seconds()

    def _seconds(self) -> float:
        return max(sum(seconds for _, seconds, _ in self._steps), 1e-9)

    @contextmanager
    def paused(self) -> Iterator[None]:
        began = time.perf_counter()
        try:
            yield
        finally:
            self._since += time.perf_counter() - began
