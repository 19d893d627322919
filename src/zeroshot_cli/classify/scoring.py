"""From embeddings to cosines and probabilities. Pure functions of numbers.

n images, c classes, g background classes, e embedding, k best labels
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:  # torch is slow to import, and rules are checked before there is a model
    from torch import Tensor

    from zeroshot_cli.classify.tuning import Tuning

Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]
Indices = npt.NDArray[np.intp]

_FEW = 8  # best labels; sorting all is faster for more


@dataclass(frozen=True, slots=True)
class Scored:
    """The cosines nc and probabilities nc of images, and the highest cosine n with a background class.

    `background` is also None where the probabilities take it into account. `least` c is the lowest probability of each
    label, None where there is none. `share` n is what the labels have of the probability among labels and mined words.
    Labels rank by score, or `by_probability` where that is another order: of sums, and after a look at all images.
    """

    scores: Floats
    probabilities: Doubles
    background: Floats | None = None
    least: Doubles | None = None
    share: Doubles | None = None
    by_probability: bool = False

    @property
    def ranking(self) -> "Floats | Doubles":
        """What orders the labels nc: those that adaptation gives no probability come last, by score."""
        if not self.by_probability:
            return self.scores
        order: Doubles = np.where(self.probabilities > 0, self.probabilities, self.scores - self.scores.max() - 1)
        return order

    def at(self, rows: Sequence[int]) -> "Scored":
        """Return the scores of these images."""
        kept = list(rows)
        return replace(
            self,
            scores=self.scores[kept],
            probabilities=self.probabilities[kept],
            background=None if self.background is None else self.background[kept],
            share=None if self.share is None else self.share[kept],
        )


def cosines(images: "Floats | Tensor", classes: "Tensor", bias: "Tensor | None" = None) -> Floats:
    """Return the cosines of images ne and classes ce, normalised -> nc; with a `bias` c that is added to them.

    Summed in float64 and rounded once, so that a score does not depend on the image's neighbours.
    """
    import torch

    products = torch.as_tensor(images).double() @ classes.double().T
    if bias is not None:
        products += bias.double()
    scores: Floats = products.float().numpy()
    return scores


def softmax(logits: Doubles) -> Doubles:
    """Return the probabilities of each image among the classes: logits nc -> nc."""
    weights: Doubles = np.exp(logits - logits.max(axis=-1, keepdims=True))
    probabilities: Doubles = weights / weights.sum(axis=-1, keepdims=True)
    return probabilities


def sigmoid(logits: Doubles) -> Doubles:
    """Return independent probabilities: logits nc -> nc."""
    probabilities: Doubles = 0.5 * (1 + np.tanh(0.5 * logits))
    return probabilities


def best(scores: Floats | Doubles, k: int) -> Indices:
    """Return the k classes with the highest scores, best first, ties by index: nc -> nk."""
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
    """Score images ne against classes ce and background ge; `scale` and `bias` are the model's own.

    Probabilities are the softmax of scale × cosine. With `multi_label` they are the sigmoid of scale × cosine + bias
    where the model was trained with one (arXiv 2303.15343), else of scale × (cosine − the background's cosine), which
    is the softmax of the label against the background.
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


def score_tuned(images: Floats, classes: "Tensor", background: "Tensor | None", tuning: "Tuning") -> Scored:
    """Score images ne as examples taught it; `classes` ce are the text embeddings of the labels.

    The background's highest cosine is raised as tuning raised the best label: an image is nearer to the background
    where its cosine is over those of all labels, whatever their tuned scores are.
    """
    scores = cosines(images, classes if tuning.weights is None else tuning.weights, tuning.bias)
    highest = None
    if background is not None:
        ahead = cosines(images, classes).max(axis=1) - cosines(images, background).max(axis=1)
        highest = scores.max(axis=1) - ahead
    least = None if tuning.thresholds is None else tuning.thresholds.numpy()
    return Scored(scores, softmax(scores.astype(np.float64) / tuning.temperature), highest, least)
