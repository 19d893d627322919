"""The examples to tune on, checked; and the folds that they are cross-validated in."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from zeroshot_cli.errors import DataError
from zeroshot_cli.evaluation.answers import Doubles, Floats, Ints

FOLDS = 5
FOLDS_OF_FEW = 10  # more of the examples to learn from, where there are few
FEW = 200


@dataclass(frozen=True, slots=True, eq=False)
class Examples:
    """Embeddings (n, e) of the classes `targets` (n,), text embeddings (c, e), and the model's logit scale.

    Embeddings are L2-normalised; `logits` (n, c) are those of the zero-shot classifier.
    """

    embeddings: Doubles
    targets: Ints
    texts: Doubles
    scale: float
    logits: Doubles

    @classmethod
    def of(cls, embeddings: Floats, targets: npt.ArrayLike, texts: Floats, scale: float) -> "Examples":
        """Check and convert; raises DataError for no example, one class, or numbers that are not finite."""
        x, y, t = np.asarray(embeddings, np.float64), np.asarray(targets, np.int64), np.asarray(texts, np.float64)
        if x.ndim != 2 or t.ndim != 2 or y.shape != x.shape[:1] or x.shape[1] != t.shape[1]:
            raise ValueError(f"embeddings {x.shape}, targets {y.shape} and texts {t.shape} do not belong together")
        if not len(x):
            raise DataError("there is no example to learn from; give labelled images")
        if len(t) < 2:
            raise DataError(f"there is nothing to tell apart with {len(t)} label; give two or more")
        if y.min() < 0 or y.max() >= len(t):
            raise ValueError(f"targets must be class indices under {len(t)}")
        for name, numbers in (("example", x), ("label", t)):
            finite = np.isfinite(numbers).all(axis=1)
            if not finite.all():
                number = int(finite.argmin()) + 1
                raise DataError(f"the embedding of {name} {number} is not finite; embed it again with --precision fp32")
        if not (np.isfinite(scale) and scale > 0):
            raise ValueError(f"the logit scale must be over 0, not {scale}")
        return cls(x, y, t, float(scale), float(scale) * (x @ t.T))

    def __len__(self) -> int:
        return len(self.targets)

    @property
    def counts(self) -> Ints:
        """The examples of each class, (c,)."""
        counts: Ints = np.bincount(self.targets, minlength=len(self.texts)).astype(np.int64)
        return counts

    def at(self, rows: Ints) -> "Examples":
        """Return the examples of these rows."""
        return replace(self, embeddings=self.embeddings[rows], targets=self.targets[rows], logits=self.logits[rows])


def folds(examples: Examples, seed: int) -> Iterator[tuple[Ints, Ints]]:
    """Yield the rows to learn from and the rows to judge, of every fold; none where fewer than two classes have two.

    Every example of a class with two or more is judged once, by what has learned from others of its class; the only
    example of a class is always learned from. If one class alone were judged, the best classifier would be one that
    always answers it. The members of a class are dealt out to the folds in turn.
    """
    paired = np.flatnonzero(examples.counts[examples.targets] > 1)
    if (examples.counts > 1).sum() < 2:
        return
    number = min(FOLDS_OF_FEW if len(paired) < FEW else FOLDS, len(paired))
    shuffled = np.random.default_rng(seed).permutation(paired)
    dealt = shuffled[np.argsort(examples.targets[shuffled], kind="stable")]
    for fold in range(number):
        judged = np.sort(dealt[fold::number])
        yield np.setdiff1d(np.arange(len(examples)), judged), judged
