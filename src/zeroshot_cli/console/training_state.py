"""What is known of a training run while it goes on: its last step, and what is made of all steps so far."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from zeroshot_cli.train.files.folder import Started, Stepped
    from zeroshot_cli.train.validate import Accuracy, Validation


SMOOTHING = 0.95  # of the loss that is shown: the weight of what came before
POINTS = 128  # the most means that a course is kept in


class Smooth:
    """A running average that is exact from the first number on: it is divided by the sum of its weights.

    With 1 to keep of what came before it is the mean. NaN before the first number.
    """

    def __init__(self, keep: float) -> None:
        self._keep, self._new = keep, 1 - keep or 1.0
        self._sum = self._weights = 0.0

    def add(self, number: float) -> None:
        """Add a number."""
        self._sum = self._keep * self._sum + self._new * number
        self._weights = self._keep * self._weights + self._new

    @property
    def value(self) -> float:
        """The running mean."""
        return self._sum / self._weights if self._weights else math.nan


class Course:
    """The course of a number, in at most 128 means of equally many steps."""

    def __init__(self) -> None:
        self.means: list[float] = []
        self._each = 1
        self._group: list[float] = []

    def add(self, number: float) -> None:
        """Add a step's number."""
        self._group.append(number)
        if len(self._group) < self._each:
            return
        means = [*self.means, sum(self._group) / self._each]
        if len(means) == POINTS:
            means = [(one + other) / 2 for one, other in zip(means[::2], means[1::2], strict=True)]
            self._each *= 2
        self.means, self._group = means, []  # replaced, for another thread reads it

    def at_most(self, points: int) -> Sequence[float]:
        """Return the course in at most so many means."""
        means = self.means
        count = min(points, len(means))
        bounds = [i * len(means) // count for i in range(count + 1)] if count else []
        return [sum(means[a:b]) / (b - a) for a, b in pairwise(bounds)]


class TrainingState:
    """A run, step by step. A thread that draws reads it, so what it holds is a number or is replaced whole."""

    def __init__(self, info: Started, clock: Callable[[], float] = time.monotonic) -> None:
        self.info = info
        self.epochs = info.steps // info.steps_per_epoch
        self.report: Stepped | None = None
        self.validation: tuple[int, Validation] | None = None  # with the epoch that ended
        self.zero_shot: tuple[int, Accuracy] | None = None
        self.course = Course()
        self.smooth_loss = Smooth(SMOOTHING)
        self.epoch_loss = Smooth(1.0)
        self._clock = clock
        self._began = clock()
        self._first: tuple[int, float] | None = None  # step and time: it waited for the first images

    def add(self, report: Stepped) -> None:
        """Add a step."""
        if self.report is not None and self.report.epoch != report.epoch:
            self.epoch_loss = Smooth(1.0)
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
        """The number of steps done."""
        return self.info.first_step if self.report is None else self.report.step

    @property
    def within_epoch(self) -> int:
        """The steps done of the current epoch; 0 at the end of one."""
        return self.step % self.info.steps_per_epoch

    def seconds_gone(self) -> float:
        """Return the time since this process began the run."""
        return self._clock() - self._began

    def seconds_left(self) -> float | None:
        """Return the time that the remaining steps will take; None before the second step."""
        if self._first is None or self.step == self._first[0]:
            return None
        step, at = self._first
        return (self._clock() - at) / (self.step - step) * (self.info.steps - self.step)


# the view
