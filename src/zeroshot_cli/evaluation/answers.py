"""What a model answered for every image of a data set: all that metrics, tables and pages are made of. No torch."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from zeroshot_cli.classify.groups import Level
from zeroshot_cli.classify.scoring import best
from zeroshot_cli.records import ImageAnswer, SkippedImage

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

KEPT = 5  # best classes of an image

Graded = tuple[Ints, Ints, Floats, Doubles, Floats, Doubles, Bools]
"""Of some images that were read: `ranks` to `right_at`, as in Answers."""


@dataclass(frozen=True, slots=True, eq=False)
class Answers:
    """The best classes of the images that were read, and the scores of their true classes.

    `items` are all images of the data set in order, unreadable ones as SkippedImage, and `item_targets` (items,) their
    true classes. The other arrays have a row per image that was read, in the same order. `targets` (images,) are true
    classes; `ranks` (images,) the place of the true class from 0, where of equal scores the lower index comes first;
    `best` (images, kept) class indices, best first, at most 5, with their cosines `scores` (images, kept) and
    `probabilities` (images, kept), the softmax over all classes with the model's own temperature; `true_scores`
    (images,) the cosine of the true class, and `log_likelihoods` (images,) the natural log of its probability. Where
    classes have groups, `right_at` (images, levels) says whether the most probable answer at each of the `levels` is
    the true class or its group; `groups` are then the paths of all classes.
    """

    labels: tuple[str, ...]
    items: tuple[str | SkippedImage, ...]
    item_targets: Ints
    targets: Ints
    ranks: Ints
    best: Ints
    scores: Floats
    probabilities: Doubles
    true_scores: Floats
    log_likelihoods: Doubles
    right_at: Bools = field(default_factory=lambda: np.empty((0, 0), dtype=np.bool_))
    levels: tuple[int, ...] = field(default=(), kw_only=True)
    groups: tuple[str, ...] = field(default=(), kw_only=True)

    @classmethod
    def of(
        cls,
        labels: tuple[str, ...],
        items: Sequence[str | SkippedImage],
        item_targets: Ints,
        parts: Sequence[Graded],
        levels: Sequence[int] = (),
    ) -> "Answers":
        """Return answers from at least one part of them, as `graded` returns it."""
        targets = item_targets[[isinstance(item, str) for item in items]]
        columns = map(np.concatenate, zip(*parts, strict=True))
        return cls(labels, tuple(items), item_targets, targets, *columns, levels=tuple(levels))

    @property
    def paths(self) -> tuple[str, ...]:
        """The images that were read."""
        return tuple(item for item in self.items if isinstance(item, str))

    @property
    def skipped(self) -> tuple[SkippedImage, ...]:
        """The images that could not be read."""
        return tuple(item for item in self.items if isinstance(item, SkippedImage))

    @property
    def right(self) -> npt.NDArray[np.bool_]:
        """Whether the best class is the true one, (images,)."""
        right: npt.NDArray[np.bool_] = self.ranks == 0
        return right

    @property
    def confidences(self) -> Doubles:
        """The probability of the best class, (images,)."""
        confidences: Doubles = self.probabilities[:, 0]
        return confidences

    @property
    def probabilities_of_true(self) -> Doubles:
        """The probability of the true class, (images,)."""
        probabilities: Doubles = np.exp(self.log_likelihoods)
        return probabilities


def graded(scores: Floats, logs: Doubles, targets: Ints, levels: Sequence[Level] = ()) -> Graded:
    """Return what Answers keep of scores and log probabilities, both (images, classes), and true classes (images,)."""
    probabilities = np.exp(logs) if levels else logs
    right_at = [level.summed(probabilities).argmax(axis=1) == level.places[targets] for level in levels]
    first = best(scores, min(KEPT, scores.shape[1]))
    true = targets[:, None]
    return (
        true_class_ranks(scores, targets),
        first.astype(np.int64),
        np.take_along_axis(scores, first, axis=1),
        np.exp(np.take_along_axis(logs, first, axis=1)),
        np.take_along_axis(scores, true, axis=1)[:, 0],
        np.take_along_axis(logs, true, axis=1)[:, 0],
        np.array(right_at, dtype=np.bool_).reshape(len(levels), len(targets)).T,
    )


def image_answers(answers: Answers) -> Iterator[ImageAnswer]:
    """Yield what was answered for every image, in the data set's order; ranks count from 1."""
    number = 0
    for item, target in zip(answers.items, answers.item_targets.tolist(), strict=True):
        label = answers.labels[target]
        if isinstance(item, SkippedImage):
            yield ImageAnswer(item.path, label, error=item.reason)
            continue
        yield ImageAnswer(
            path=item,
            label=label,
            predicted=answers.labels[answers.best[number, 0]],
            correct=bool(answers.ranks[number] == 0),
            rank=int(answers.ranks[number]) + 1,
            score=float(answers.scores[number, 0]),
            probability=float(answers.probabilities[number, 0]),
            true_score=float(answers.true_scores[number]),
            true_probability=float(answers.probabilities_of_true[number]),
        )
        number += 1


def true_class_ranks(scores: npt.ArrayLike, targets: npt.ArrayLike) -> Ints:
    """Return the place of each image's true class among all classes, 0 for the best, (images,).

    `scores` are (images, classes), higher is better; `targets` are class indices (images,). Of classes with equal
    scores the one with the lower index comes first, as everywhere in this package.
    Raises ValueError for NaN, which compares as neither higher nor lower and would count as right.
    """
    table, truth = np.asarray(scores), np.asarray(targets, dtype=np.int64)
    if table.ndim != 2 or truth.shape != table.shape[:1]:
        raise ValueError(f"scores {table.shape} and targets {truth.shape} do not belong together")
    if not np.isfinite(table).all():
        raise ValueError("scores must be finite numbers")
    if truth.size and not (truth.min() >= 0 and truth.max() < table.shape[1]):
        raise ValueError(f"targets must be class indices under {table.shape[1]}")
    own = np.take_along_axis(table, truth[:, None], axis=1)
    earlier = np.arange(table.shape[1])[None, :] < truth[:, None]
    ahead = (table > own) | ((table == own) & earlier)
    ranks: Ints = ahead.sum(axis=1, dtype=np.int64)
    return ranks
