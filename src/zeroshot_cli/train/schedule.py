"""How long a run is, and when it does what: its learning rate, checkpoints, best step, verdict and speed."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, fields, replace
from statistics import fmean
from typing import Any

from zeroshot_cli.train.config import TrainConfig

SCRATCH_LR = 5e-4
LR_TIMES_PARAMETERS = 1.5e3  # from weights: 1e-5 for 150 million parameters, more for fewer
LORA_TIMES = 20
EPOCHS, BATCH = 32, 256
FEW_PAIRS, FEW_EPOCHS = 5_000, 10  # from weights: more epochs of few pairs unlearn what the weights know
VERY_FEW_PAIRS, MIXTURE = 300, 0.5  # and of these, the whole step: halfway back, a model gains on other images too
MIN_SAVE_STEPS = 100  # a checkpoint every epoch, but short epochs share one
FEW_STEPS = 20  # of a run whose loss is not judged
SPEED_WINDOW = 20  # steps over which images a second are measured
STUCK = 0.97  # of the loss of guessing: a last quarter of the steps above it has learned nothing


# what is chosen where the user leaves it open


@dataclass(frozen=True, slots=True, kw_only=True)
class Settled(TrainConfig):
    """The settings of a run, of whose length none is left open."""

    epochs: int = EPOCHS
    batch_size: int = BATCH


def settled(config: TrainConfig, *, pairs: int, trained: bool, processes: int = 1) -> Settled:
    """Return the settings with epochs, batch size and mixture that suit the number of pairs, where they are left open.

    Batches are up to a sixth of the pairs: a power of two of at most 256, and a multiple of the processes. A mixture of
    1, the trained weights alone, is none.
    """
    batch = min(BATCH, 2 ** max(1, int(math.log2(max(pairs, 6) / 6))))
    epochs = FEW_EPOCHS if trained and pairs <= FEW_PAIRS else EPOCHS
    mixture = MIXTURE if trained and pairs < VERY_FEW_PAIRS else None
    chosen = {"epochs": epochs, "batch_size": max(1, batch // processes) * processes, "wise_ft": mixture}
    given = {each.name: getattr(config, each.name) for each in fields(config)}
    found = Settled(**given | {name: value for name, value in chosen.items() if given[name] is None})
    return replace(found, wise_ft=None) if found.wise_ft == 1 else found


def fine_tuning_lr(parameters: int, batch_size: int = BATCH, *, lora: int | None = None) -> float:
    """Return the peak learning rate for weights of so many parameters, with two digits.

    Batches under 64 get less, by the square root of their size, as Adam needs it (arXiv 2205.10287). Thin matrices get
    more, at any rank: 2e-4 for ViT-B, as in CLIP-LoRA (arXiv 2405.18541).
    """
    rate = LR_TIMES_PARAMETERS / parameters * math.sqrt(min(1.0, batch_size / 64))
    lr = min(SCRATCH_LR, float(f"{rate:.1e}"))
    return lr if lora is None else LORA_TIMES * lr


# the steps


@dataclass(frozen=True, slots=True)
class Schedule:
    """The steps of a run; `peak` is the highest learning rate, `warmup` and `save_every` count steps."""

    steps: int
    steps_per_epoch: int
    warmup: int
    save_every: int
    peak: float

    @classmethod
    def of(cls, config: Settled, *, pairs: int, peak: float) -> Schedule:
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


# how good the model has been


Judged = Mapping[str, Any]
"""A row of metrics.jsonl in which the model was judged."""


def badness(row: Judged) -> float:
    """Return what is lower for a better model: the validation loss, else the share that zero-shot gets wrong."""
    loss = row.get("val_loss")
    return float(loss) if loss is not None else 1.0 - float(row.get("zero_shot_top1") or 0.0)


@dataclass(slots=True)
class Course:
    """The rows in which a model was judged, in order; row 0 is from before the first step."""

    rows: list[Judged] = field(default_factory=list)

    @property
    def before(self) -> Judged | None:
        """What the model was before its first step, where that is known."""
        return self.rows[0] if self.rows and self.rows[0]["step"] == 0 else None

    @property
    def best(self) -> Judged | None:
        """The best row after a step, the first of equal ones."""
        return min((row for row in self.rows if row["step"]), key=badness, default=None)

    @property
    def since_best(self) -> int:
        """How many rows have come since the best one."""
        best = self.best
        return 0 if best is None else sum(row["step"] > best["step"] for row in self.rows)


def verdict(course: Course, losses: Sequence[tuple[float, float]], config: TrainConfig, *, lr: float) -> list[str]:
    """Return what is wrong with a run that has ended: it has learned nothing, or its best model is worse than before.

    `losses` are those of its last quarter of steps, each with that of guessing.
    """
    notes = []
    if len(losses) * 4 >= FEW_STEPS:
        loss, guess = (fmean(each) for each in zip(*losses, strict=True))
        if loss >= STUCK * guess:
            notes.append(_stuck(loss, guess, config, lr))
    before, best = course.before, course.best
    if before is None or best is None:
        return notes
    way_out = f"use a lower --lr than {lr:g}, fewer --epochs" + ("" if config.wise_ft else " or --wise-ft 0.5")
    if before.get("val_loss", math.inf) < best.get("val_loss", -math.inf):
        was, now = before["val_loss"], best["val_loss"]
        notes.append(f"the validation loss was {was:.3f} before training and is {now:.3f} now; {way_out}")
    if before.get("zero_shot_top1", -math.inf) > best.get("zero_shot_top1", math.inf):
        was, now = before["zero_shot_top1"], best["zero_shot_top1"]
        notes.append(f"zero-shot accuracy was {was:.1%} before training and is {now:.1%} now; {way_out}")
    return notes


def _stuck(loss: float, guess: float, config: TrainConfig, lr: float) -> str:
    locked = ", a locked tower" if config.lock_image or config.lock_text else ""
    return (
        f"the loss is {loss:.3f}, and guessing costs {guess:.3f}: nothing was learned; usual causes are captions that "
        f"belong to other images, captions that are all alike, a learning rate ({lr:g}) far too high or too low"
        f"{locked}, and too few steps"
    )


class Speed:
    """Images a second over the last steps, without the time that checkpoints and validation take."""

    def __init__(self) -> None:
        self._steps: deque[tuple[int, float, float]] = deque(maxlen=SPEED_WINDOW)
        self._since = time.perf_counter()
        self._waited = 0.0

    def waited(self) -> None:
        """Note that the batch is there."""
        self._waited = time.perf_counter() - self._since

    def count(self, images: int) -> None:
        """Note that the step is done."""
        now = time.perf_counter()
        self._steps.append((images, now - self._since, self._waited))
        self._since = now

    def images_per_second(self) -> float:
        """Return the images of a second."""
        return sum(images for images, _, _ in self._steps) / self._seconds()

    def data_wait(self) -> float:
        """Return the share of the time in which there was no batch."""
        return sum(waited for _, _, waited in self._steps) / self._seconds()

    def _seconds(self) -> float:
        return max(sum(seconds for _, seconds, _ in self._steps), 1e-9)

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Leave out the time that this takes."""
        began = time.perf_counter()
        try:
            yield
        finally:
            self._since += time.perf_counter() - began
