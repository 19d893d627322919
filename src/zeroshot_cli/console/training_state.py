"""What is known of a training run that goes on: its last step, and what is made of all steps since it began."""

import math
import time
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from zeroshot_cli.train.events import Started, Stepped
    from zeroshot_cli.train.validate import Accuracy, Validation

SMOOTHING = 0.95  # of the loss that is shown: what it keeps at a step of what it was
POINTS = 128  # the most means that a course is kept in


class Smooth:
    """A running average, exact from the first number on: what is missing of its weights is divided out."""

    def __init__(self, keep: float) -> None:
        self._keep = keep
        self._sum = self._weights = 0.0

    def add(self, number: float) -> None:
        self._sum = self._keep * self._sum + (1 - self._keep) * number
        self._weights = self._keep * self._weights + 1 - self._keep

    @property
    def value(self) -> float:
        return self._sum / self._weights if self._weights else math.nan


class Mean:
    """The mean of some numbers, NaN of none."""

    def __init__(self) -> None:
        self._sum, self._count = 0.0, 0

    def add(self, number: float) -> None:
        self._sum += number
        self._count += 1

    def __len__(self) -> int:
        return self._count

    @property
    def value(self) -> float:
        return self._sum / self._count if self._count else math.nan


class Course:
    """How a number went, in at most 128 means, each of as many steps as the others."""

    def __init__(self) -> None:
        self.means: list[float] = []
        self._each = 1
        self._mean = Mean()

    def add(self, number: float) -> None:
        self._mean.add(number)
        if len(self._mean) < self._each:
            return
        means = [*self.means, self._mean.value]
        if len(means) == POINTS:
            means = [(one + other) / 2 for one, other in zip(means[::2], means[1::2], strict=True)]
            self._each *= 2
        self.means, self._mean = means, Mean()  # replaced, for another thread reads it

    def at_most(self, points: int) -> Sequence[float]:
        """The course in so many means or fewer."""
        means = self.means
        count = min(points, len(means))
        bounds = [i * len(means) // count for i in range(count + 1)] if count else []
        return [sum(means[a:b]) / (b - a) for a, b in pairwise(bounds)]


class TrainingState:
    """A run, step by step. Read by the thread that draws it, so what it holds is replaced or a number."""

    def __init__(self, info: "Started", clock: Callable[[], float] = time.monotonic) -> None:
        self.info = info
        self.epochs = info.steps // info.steps_per_epoch
        self.report: Stepped | None = None
        self.validation: tuple[int, Validation] | None = None  # with the epoch that ended
        self.zero_shot: tuple[int, Accuracy] | None = None
        self.course = Course()
        self.smooth_loss = Smooth(SMOOTHING)
        self.epoch_loss = Mean()
        self._clock = clock
        self._began = clock()
        self._first: tuple[int, float] | None = None  # step and time: it waited for the first images

    def add(self, report: "Stepped") -> None:
        """Take in a step."""
        if self.report is not None and self.report.epoch != report.epoch:
            self.epoch_loss = Mean()
        if math.isfinite(report.loss):
            for kept in (self.course, self.smooth_loss, self.epoch_loss):
                kept.add(report.loss)
        if report.validation is not None:
            self.validation = report.epoch, report.validation
        if report.zero_shot is not None:
            self.zero_shot = report.epoch, report.zero_shot
        self._first = self._first or (report.step, self._clock())
        self.report = report

    @property
    def step(self) -> int:
        return self.info.first_step if self.report is None else self.report.step

    @property
    def within_epoch(self) -> int:
        """How many steps of its epoch are made; 0 at the end of one."""
        return self.step % self.info.steps_per_epoch

    def seconds_gone(self) -> float:
        return self._clock() - self._began

    def seconds_left(self) -> float | None:
        """The time that the other steps will take, with all that comes between steps; None before the second one."""
        if self._first is None or self.step == self._first[0]:
            return None
        step, at = self._first
        return (self._clock() - at) / (self.step - step) * (self.info.steps - self.step)
