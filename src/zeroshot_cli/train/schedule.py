"""When a run does what: its learning rate, and its checkpoints, as pure functions of the step."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from zeroshot_cli.train.config import TrainConfig

MIN_SAVE_STEPS = 100  # a checkpoint every epoch, but short epochs share one


@dataclass(frozen=True, slots=True)
class Schedule:
    """The steps of a run; `peak` is the highest learning rate, `warmup` and `save_every` count steps."""

    steps: int
    steps_per_epoch: int
    warmup: int
    save_every: int
    peak: float

    @classmethod
    def of(cls, config: TrainConfig, *, pairs: int, peak: float) -> Schedule:
        """Return the schedule of a run on so many pairs."""
        per_epoch = pairs // config.batch_size
        steps = config.epochs * per_epoch
        save_every = config.save_every or epochs_of_at_least(MIN_SAVE_STEPS, per_epoch)
        return cls(steps, per_epoch, warmup_steps(steps, config.warmup), save_every, peak)

    def lr(self, step: int) -> float:
        """Return the learning rate of a step, counted from 0."""
        return learning_rate(step, total=self.steps, warmup=self.warmup, peak=self.peak)

    def is_saved(self, done: int) -> bool:
        """Return whether a checkpoint follows when so many steps are done."""
        return done % self.save_every == 0 or done == self.steps

    def is_judged(self, done: int) -> bool:
        """Return whether validation follows when so many steps are done: at the end of epochs, and before saving."""
        return done % self.steps_per_epoch == 0 or done % self.save_every == 0


def learning_rate(step: int, *, total: int, warmup: int, peak: float) -> float:
    """Return the learning rate of a step (counted from 0) of `total`.

    1. warm-up: linear; the first step has peak / warmup, step warmup - 1 has the peak (never 0: no step is wasted);
    2. cosine: half a period over the steps that are left, SGDR (arXiv 1608.03983) without restarts;
    3. from `total` on: 0.
    """
    if step < warmup:
        return peak * (step + 1) / warmup
    if step >= total:
        return 0.0
    progress = (step - warmup) / (total - warmup)
    return peak * 0.5 * (1.0 + math.cos(math.pi * progress))


def warmup_steps(total: int, fraction: float) -> int:
    """Return the steps of warm-up for a share of all steps; at least one where the share is not 0."""
    return min(total, math.ceil(total * fraction))


def epochs_of_at_least(steps: int, steps_per_epoch: int) -> int:
    """Return the steps of the fewest whole epochs that have at least `steps`."""
    return steps_per_epoch * math.ceil(steps / steps_per_epoch)
