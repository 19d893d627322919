"""Answers by group: the probabilities of labels summed upward, level by level.

n images, c labels, a answers of a level
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from zeroshot_cli.classify.scoring import Doubles, Indices, Scored
from zeroshot_cli.errors import UsageError

if TYPE_CHECKING:
    from zeroshot_cli.words.labels import Labels


@dataclass(frozen=True, slots=True, eq=False)
class Level:
    """What is answered at one level: groups, and labels that are not deeper.

    `names` a are unique; `groups` a are their paths, a group's own name included. Of the label `indices` c, those of an
    answer stand together, and `starts` a are where.
    """

    names: tuple[str, ...]
    groups: tuple[tuple[str, ...], ...]
    indices: Indices
    starts: Indices

    @classmethod
    def of(cls, labels: "Labels", depth: int) -> "Level":
        """Return the answers that have at most this many names in their path, the label's own included."""
        paths = [(*label.group, label.name)[:depth] for label in labels]
        place = {path: number for number, path in enumerate(dict.fromkeys(paths))}
        places = np.array([place[path] for path in paths], dtype=np.intp)
        indices: Indices = np.argsort(places, kind="stable")
        starts: Indices = np.searchsorted(places[indices], np.arange(len(place)))
        groups = {
            path: path if len(label.group) >= depth else label.group for path, label in zip(paths, labels, strict=True)
        }
        return cls(tuple(path[-1] for path in place), tuple(groups[path] for path in place), indices, starts)

    def summed(self, probabilities: Doubles) -> Doubles:
        """Return the probabilities of the answers from those of the labels: nc -> na."""
        sums: Doubles = np.add.reduceat(probabilities[:, self.indices], self.starts, axis=1)
        return np.minimum(sums, 1.0)  # which rounding may pass

    def scored(self, scored: Scored) -> Scored:
        """Return scores of the answers from those of labels: a group's score is that of its best label."""
        if len(self.names) == len(self.indices):
            return scored
        return replace(
            scored,
            scores=np.maximum.reduceat(scored.scores[:, self.indices], self.starts, axis=1),
            probabilities=self.summed(scored.probabilities),
            least=None,
            by_probability=True,
        )

    @property
    def places(self) -> Indices:
        """The answer of each label, c."""
        places = np.empty(len(self.indices), dtype=np.intp)
        places[self.indices] = np.repeat(np.arange(len(self.starts)), np.diff(self.starts, append=len(places)))
        return places


def levels_of(labels: "Labels") -> tuple[Level, ...]:
    """Return the levels of labels from the topmost; the last is the labels themselves, without groups the only one."""
    depth = 1 + max(map(len, labels.groups), default=0)
    return tuple(Level.of(labels, level) for level in range(1, depth + 1))


def level_of(levels: Sequence[Level], number: int | None) -> Level:
    """Return the level of a number from 1; None, and more than there are, is the labels themselves."""
    return levels[-1 if number is None else min(number, len(levels)) - 1]


def answers_by_name(labels: "Labels", levels: Sequence[Level], number: int | None) -> dict[str, tuple[Level, int]]:
    """Return, by the name of each label and group, the level and the index of what answers it at a level or above."""
    own = level_of(levels, number)
    usable = levels[: levels.index(own) + 1]
    places = [(level, {name: index for index, name in enumerate(level.names)}) for level in usable]
    found = {}
    for label in labels:
        path = (*label.group, label.name)
        for end in range(1, len(path) + 1):
            answer = path[: min(end, len(usable))][-1]
            found[path[end - 1]] = next((level, at[answer]) for level, at in reversed(places) if answer in at)
    return found


def levels_above(levels: Sequence[Level]) -> dict[int, Level]:
    """Return the levels of groups by number, but for those where one group holds all labels."""
    return {number: level for number, level in enumerate(levels[:-1], start=1) if len(level.names) > 1}


def check_level(level: int | None, levels: Sequence[Level], *, multi_label: bool, label_thresholds: bool) -> None:
    """Raise UsageError where answers at a level make no sense.

    `label_thresholds` says that an image is unknown by a probability that was found for its label.
    """
    if level is None:
        return
    if level < 1:
        raise UsageError(f"--level counts from 1, the topmost groups, not {level}")
    if len(levels) == 1:
        raise UsageError(
            f"--level {level} answers with groups, and these labels have none; nest them in a .yaml file under "
            "`groups:`, or omit --level"
        )
    if multi_label:
        raise UsageError(
            "--level sums probabilities, and --multi-label judges every label on its own; omit one of them"
        )
    if len(names := level_of(levels, level).names) == 1:
        name = names[0]
        next_one = next((n for n, each in enumerate(levels, start=1) if len(each.names) > 1), None)
        way_out = "omit --level" if next_one is None else f"give --level {next_one}, or omit it"
        raise UsageError(f"--level {level} leaves one answer, {name!r}, for every image; {way_out}")
    if label_thresholds and level < len(levels):
        raise UsageError(
            "--level sums probabilities, and this classifier's thresholds were found for labels; give "
            "--min-probability X, one threshold for all answers, or omit --level"
        )
