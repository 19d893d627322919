"""What a run says about itself, in this order: Checked, Started, Stepped and Saved, Finished."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # they bring torch
    from pathlib import Path

    from zeroshot_cli.records import SkippedImage
    from zeroshot_cli.train.preflight import Preflight
    from zeroshot_cli.train.validate import Accuracy, Validation


@dataclass(frozen=True, slots=True)
class Checked:
    """So many images of so many were decoded, before the first step."""

    done: int
    total: int


@dataclass(frozen=True, slots=True)
class Started:
    """The run is ready; `first_step` steps were done before it was resumed, `assumed` is what readers assumed."""

    preflight: Preflight
    steps: int
    steps_per_epoch: int
    first_step: int
    parameters: int
    device: str
    precision: str
    lr: float
    processes: int = 1
    assumed: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Stepped:
    """A step is done; `step` and `epoch` count from 1, `skipped` counts the unreadable images met so far.

    `loss` and `grad_norm` may be infinite or NaN: then the step changed nothing. `data_wait` is the share of the time
    spent waiting for batches.
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
        """Return the row of metrics.jsonl; null is what was not finite."""
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
class Saved:
    """The model folder, and a checkpoint where a step was done, are on disk."""


@dataclass(frozen=True, slots=True)
class Finished:
    """All steps are done; `last` is None where none was left."""

    model: Path
    last: Stepped | None
    skipped: tuple[SkippedImage, ...]


Event = Checked | Started | Stepped | Saved | Finished
