"""What a model answered for every image of a data set: all that figures, tables and reports are made of. No torch."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from zeroshot_cli.records import SkippedImage

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]

KEPT = 5  # best classes of an image


@dataclass(frozen=True, slots=True, eq=False)
class Answers:
    """The best classes of n images that were read, out of m that there are, and what their true class c got.

    `items` are all m in order, those that could not be read as SkippedImage; `item_targets` (m,) their true classes.
    The others are of the n that were read, in the same order: `targets` (n,); `ranks` (n,), the place of the true class
    from 0, of equal scores the lower index first; `best` (n, k) class indices, best first, k = min(5, c), with their
    cosines `scores` (n, k) and `probabilities` (n, k), the softmax over all c classes with the model's own temperature;
    `true_scores` (n,), the cosine of the true class, and `log_likelihoods` (n,), the natural log of its probability.
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

    @property
    def paths(self) -> tuple[str, ...]:
        """The n images that were read."""
        return tuple(item for item in self.items if isinstance(item, str))

    @property
    def skipped(self) -> tuple[SkippedImage, ...]:
        return tuple(item for item in self.items if isinstance(item, SkippedImage))

    @property
    def right(self) -> npt.NDArray[np.bool_]:
        """(n,) whether the best class is the true one."""
        right: npt.NDArray[np.bool_] = self.ranks == 0
        return right

    @property
    def confidences(self) -> Doubles:
        """(n,) the probability of the best class."""
        confidences: Doubles = self.probabilities[:, 0]
        return confidences

    @property
    def probabilities_of_true(self) -> Doubles:
        """(n,) the probability of the true class."""
        probabilities: Doubles = np.exp(self.log_likelihoods)
        return probabilities
