"""Which labels an image may have: the rules under which a cosine or probability is too low and the image "unknown".

n images, c classes, k best labels
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from zeroshot_cli.classify.groups import Level, level_of, levels_above
from zeroshot_cli.classify.scoring import Doubles, Floats, Indices, Scored, best
from zeroshot_cli.errors import LabelsError, UsageError
from zeroshot_cli.records import UNKNOWN, LabelScore, Prediction

KEPT_FROM = 0.5  # the lowest probability of a label when each is judged on its own
KNOWN_FROM = 0.5  # the lowest share of the labels, against mined words, at which an image shows one of them


@dataclass(frozen=True, slots=True)
class Rules:
    """What an image's best label must reach, or the image is unknown; no background class may have a higher cosine.

    `min_margin` is the lead in cosine over the second label. With `multi_label` every label is judged on its own, by an
    independent probability that must be at least a half unless `min_probability` says otherwise. Labels with groups are
    answered at a `level`, 1 for the topmost groups, and an image whose best label fails gets the deepest group that
    does not, if there is one. Raises UsageError for a number that is no cosine, from -1 to 1, or no probability, from 0
    to 1.
    """

    min_score: float | None = None
    min_probability: float | None = None
    min_margin: float | None = None
    multi_label: bool = False
    level: int | None = None

    def __post_init__(self) -> None:
        kinds = {"min_score": ("cosine", -1), "min_probability": ("probability", 0), "min_margin": ("cosine", -1)}
        for name, (kind, lowest) in kinds.items():
            value = getattr(self, name)
            if value is not None and not lowest <= value <= 1:
                raise UsageError(f"{name} {value} is not a {kind}; give a number from {lowest} to 1")

    def check(
        self, labels: Sequence[str], *, background: bool = False, tuned: bool = False, mined: bool = False
    ) -> None:
        """Raise UsageError where a rule makes no sense for these labels, LabelsError where one of them is "unknown".

        `background` says that something else rejects images, `tuned` that examples taught the classifier, `mined` that
        the background is that of `auto`.
        """
        if tuned and self.multi_label:
            raise UsageError(
                "--multi-label judges every label on its own, and this classifier was tuned to choose one label per "
                "image; omit --multi-label, or give --labels in place of --classifier"
            )
        if UNKNOWN in labels and (background or replace(self, level=None) != Rules()):
            raise LabelsError(f"the label {UNKNOWN!r} is reserved for rejected images; rename that label")
        if self.min_probability is not None and len(labels) < 2 and not self.multi_label:
            raise UsageError(
                "--min-probability is a share among labels, and with one label it is always 1; give --min-score X, "
                "--background FILE, or more labels"
            )
        if mined and self.multi_label:
            raise UsageError(
                "--background auto cannot be used with --multi-label, where every label is judged on its own; give "
                "--background FILE"
            )
        if self.min_margin is None:
            return
        if self.multi_label:
            raise UsageError("--min-margin cannot be used with --multi-label, where every label is judged on its own")
        if len(labels) < 2:
            raise UsageError("--min-margin is the lead over the second label; with one label, omit it")


def judge(
    paths: Sequence[str], scored: Scored, levels: Sequence[Level], rules: Rules, *, top_k: int | None, shown: int = 0
) -> list[Prediction]:
    """Return the labels of each image: the `top_k` best of those that the rules allow, or with None all of those.

    An image with none gets the best answer of the deepest of the `levels` above that has an allowed one, before its
    nearest labels; else it is rejected and keeps these. `others` are the next ones, up to `shown` in total.
    """
    own = level_of(levels, rules.level)
    above = levels_above(levels[: levels.index(own) + 1])
    found = _judged(paths, own.scored(scored), own, rules, top_k=top_k, shown=shown)
    if rules.multi_label or (scored.least is not None and rules.min_probability is None):
        return found  # a threshold of a label says nothing of its group
    for level in reversed(above.values()):
        rows = [row for row, each in enumerate(found) if each.rejected]
        if not rows:
            break
        again = _judged([paths[row] for row in rows], level.scored(scored.at(rows)), level, rules, top_k=1)
        for row, each in zip(rows, again, strict=True):
            if not each.rejected:
                found[row] = _before(each, found[row], top_k or 1, shown)
    return found


def _before(answer: Prediction, rejected: Prediction, top_k: int, shown: int) -> Prediction:
    """Return an answer by group, followed by the labels that were too unsure to be one."""
    labels = (*rejected.predictions, *rejected.others)
    rest = [each for each in labels if each.label != answer.label]
    others = tuple(rest[top_k - 1 : max(top_k, shown) - 1])
    return replace(answer, predictions=(*answer.predictions, *rest[: top_k - 1]), others=others)


def _judged(
    paths: Sequence[str], scored: Scored, level: Level, rules: Rules, *, top_k: int | None, shown: int = 0
) -> list[Prediction]:
    """Return the answers at one level of each image, whose `scored` are of that level."""
    classes = scored.scores.shape[1]
    wanted = classes if top_k is None else top_k
    order = best(scored.ranking, min(classes, max(wanted, shown, 2)))  # nk
    scores = np.take_along_axis(scored.scores, order, axis=1)
    probabilities = np.take_along_axis(scored.probabilities, order, axis=1)
    least = None if scored.least is None else scored.least[order]
    counts = np.minimum(_kept(scores, probabilities, scored, least, rules), wanted)  # n
    predictions = []
    for row, path in enumerate(paths):
        kept = int(counts[row])
        first = kept or (1 if top_k is None else top_k)
        ranked = [
            _answer(level, index, float(score), float(probability))
            for index, score, probability in zip(
                order[row, : max(first, shown)], scores[row], probabilities[row], strict=False
            )
        ]
        margin = float(scores[row, 0] - scores[row, 1]) if classes > 1 else None
        predictions.append(Prediction(path, tuple(ranked[:first]), margin, not kept, tuple(ranked[first:])))
    return predictions


def _answer(level: Level, index: int, score: float, probability: float) -> LabelScore:
    return LabelScore(level.names[index], score, probability, level.groups[index])


def corrected(prediction: Prediction, index: int | None, scored: Scored, row: int, level: Level) -> Prediction:
    """Return a prediction with the label that a person gave the image: first, with its own score and probability.

    `row` is the image's of `scored`, and `index` the label's of the `level`; none, as of "unknown", rejects the image.
    """
    if index is None:
        return replace(prediction, rejected=True)
    own = _answer(level, index, float(scored.scores[row, index]), float(scored.probabilities[row, index]))
    others = [each for each in (*prediction.predictions, *prediction.others) if each.label != own.label]
    ranked, kept = (own, *others), len(prediction.predictions)
    rest = np.delete(scored.scores[row], index)
    margin = float(scored.scores[row, index] - rest.max()) if len(rest) else None
    total = kept + len(prediction.others)
    return replace(prediction, predictions=ranked[:kept], others=ranked[kept:total], margin=margin, rejected=False)


def _kept(scores: Floats, probabilities: Doubles, scored: Scored, of_label: Doubles | None, rules: Rules) -> Indices:
    """Return how many of an image's best labels the rules allow: scores and probabilities nk -> n.

    `of_label` nk are the lowest probabilities of these labels, for rules that have none.
    """
    least: float | Doubles | None = of_label if rules.min_probability is None else rules.min_probability
    if rules.multi_label and least is None:
        least = KEPT_FROM
    allowed = np.ones(scores.shape, dtype=bool)
    if rules.min_score is not None:
        allowed &= scores >= rules.min_score
    if least is not None:
        allowed &= probabilities >= least
    if scored.background is not None:
        allowed &= scores >= scored.background[:, None]
    if scored.share is not None:
        allowed &= scored.share[:, None] >= KNOWN_FROM
    if rules.multi_label:
        counts: Indices = allowed.sum(axis=1)
        return counts
    if rules.min_margin is not None and scores.shape[1] > 1:
        allowed[:, 0] &= scores[:, 0] - scores[:, 1] >= rules.min_margin
    return np.where(allowed[:, 0], scores.shape[1], 0)
