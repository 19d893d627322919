"""From embeddings to labels: cosines, probabilities, rejection. Pure functions of numbers.

n images, c classes, g background classes, e embedding, k best labels
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from zeroshot_cli.errors import LabelsError, UsageError
from zeroshot_cli.records import UNKNOWN, LabelScore, Prediction

if TYPE_CHECKING:  # rules are checked before there is a model, and torch takes its time to import
    from torch import Tensor

Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]
Indices = npt.NDArray[np.intp]

KEPT_FROM = 0.5  # the probability from which on a label is kept where each is judged on its own
_FEW = 8  # best labels: more are found faster by sorting all


@dataclass(frozen=True, slots=True)
class Rules:
    """When a label is an image's own: it reaches these numbers, and no background class has a higher cosine.

    `min_margin` is the lead in cosine over the second label. With `multi_label` every label is judged on its own, by a
    probability of its own, of at least a half unless `min_probability` says otherwise; else the best one is.
    """

    min_score: float | None = None
    min_probability: float | None = None
    min_margin: float | None = None
    multi_label: bool = False

    def check(self, labels: Sequence[str], *, background: bool = False) -> None:
        """Raise UsageError where a rule has no meaning for these labels, LabelsError where they hold "unknown"."""
        if UNKNOWN in labels and (background or self != Rules()):
            raise LabelsError(f"the label {UNKNOWN!r} is what rejected images get; give that label another name")
        if self.min_margin is None:
            return
        if self.multi_label:
            raise UsageError("--min-margin has no meaning with --multi-label, where every label is judged on its own")
        if len(labels) < 2:
            raise UsageError(
                "--min-margin is the lead over the second label, and there is one label only; leave it out"
            )


@dataclass(frozen=True, slots=True)
class Scored:
    """N images against c classes: cosines nc, probabilities nc, and the highest cosine n with a background class.

    `background` is None too where the probabilities have taken it into account.
    """

    scores: Floats
    probabilities: Doubles
    background: Floats | None = None


def cosines(images: "Floats | Tensor", classes: "Tensor") -> Floats:
    """Images ne and classes ce, normalised -> nc.

    Summed in float64 and rounded once, so that a score does not depend on the image's neighbours.
    """
    import torch

    products = torch.as_tensor(images).double() @ classes.double().T
    scores: Floats = products.float().numpy()
    return scores


def softmax(logits: Doubles) -> Doubles:
    """Logits nc -> probabilities nc, of each image among the classes."""
    weights: Doubles = np.exp(logits - logits.max(axis=-1, keepdims=True))
    probabilities: Doubles = weights / weights.sum(axis=-1, keepdims=True)
    return probabilities


def sigmoid(logits: Doubles) -> Doubles:
    """Logits nc -> probabilities nc, each on its own."""
    probabilities: Doubles = 0.5 * (1 + np.tanh(0.5 * logits))
    return probabilities


def best(scores: Floats, k: int) -> Indices:
    """The k classes with the highest scores nc, best first -> nk; of equal ones the lower index comes first."""
    if k > _FEW or k >= scores.shape[1]:
        order: Indices = np.argsort(-scores, axis=1, kind="stable")[:, :k]
        return order
    left = scores.copy()
    rows = np.arange(len(left))
    found = np.empty((len(left), k), dtype=np.intp)
    for rank in range(k):
        found[:, rank] = left.argmax(axis=1)
        left[rows, found[:, rank]] = -np.inf
    return found


def score(
    images: Floats,
    classes: "Tensor",
    background: "Tensor | None",
    *,
    scale: float,
    bias: float | None,
    multi_label: bool,
) -> Scored:
    """Score images ne against classes ce; `scale` and `bias` are the model's own.

    Probabilities are the softmax of scale × cosine. With `multi_label` they are the sigmoid of scale × cosine + bias
    where the model was trained with one (arXiv 2303.15343), else of scale × (cosine − the background's cosine): that
    is the softmax between the label and the background.
    """
    scores = cosines(images, classes)
    highest = None if background is None else cosines(images, background).max(axis=1)
    logits = scale * scores.astype(np.float64)
    if not multi_label:
        return Scored(scores, softmax(logits), highest)
    if bias is not None:
        return Scored(scores, sigmoid(logits + bias), highest)
    assert highest is not None
    return Scored(scores, sigmoid(logits - scale * highest[:, None].astype(np.float64)))


def judge(
    paths: Sequence[str], scored: Scored, names: Sequence[str], rules: Rules, *, top_k: int | None, shown: int = 0
) -> list[Prediction]:
    """The labels of each image: the `top_k` best of those that the rules let it have, None for all of them.

    An image that may have none is rejected, and keeps the nearest. `others` are the next ones, up to `shown` in all.
    """
    classes = scored.scores.shape[1]
    wanted = classes if top_k is None else top_k
    order = best(scored.scores, min(classes, max(wanted, shown, 2)))  # nk
    scores = np.take_along_axis(scored.scores, order, axis=1)
    chances = np.take_along_axis(scored.probabilities, order, axis=1)
    counts = np.minimum(_kept(scores, chances, scored.background, rules), wanted)  # n
    predictions = []
    for row, path in enumerate(paths):
        kept = int(counts[row])
        first = kept or (1 if top_k is None else top_k)
        ranked = [
            LabelScore(names[index], float(score), float(chance))
            for index, score, chance in zip(order[row, : max(first, shown)], scores[row], chances[row], strict=False)
        ]
        margin = float(scores[row, 0] - scores[row, 1]) if classes > 1 else None
        predictions.append(Prediction(path, tuple(ranked[:first]), margin, not kept, tuple(ranked[first:])))
    return predictions


def _kept(scores: Floats, chances: Doubles, background: Floats | None, rules: Rules) -> Indices:
    """How many of an image's best labels, scores and probabilities nk, the rules let it have -> n."""
    least = rules.min_probability
    if rules.multi_label and least is None:
        least = KEPT_FROM
    allowed = np.ones(scores.shape, dtype=bool)
    if rules.min_score is not None:
        allowed &= scores >= rules.min_score
    if least is not None:
        allowed &= chances >= least
    if background is not None:
        allowed &= scores >= background[:, None]
    if rules.multi_label:
        counts: Indices = allowed.sum(axis=1)
        return counts
    if rules.min_margin is not None:
        allowed[:, 0] &= scores[:, 0] - scores[:, 1] >= rules.min_margin
    return np.where(allowed[:, 0], scores.shape[1], 0)
