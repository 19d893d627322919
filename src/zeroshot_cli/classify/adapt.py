"""Better answers from all images of a run together: StatA (arXiv 2501.03729). Pure functions of numbers.

Every class is a Gaussian with a diagonal covariance. In turn, images are shared among the classes, and the Gaussians
follow their images, each the less the fewer it has: an anchor holds it to where its text is. As in the paper's code
(github.com/MaxZanella/StatA, solvers/StatA.py), the anchor counts the images that a class wins, and the densities have
no determinant; only `Settings` differ.

n images, c classes, k candidate classes of an image, e embedding, b images of a block
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from zeroshot_cli.classify.rejection import Rules
from zeroshot_cli.classify.scoring import Doubles, Floats, Indices, best, softmax
from zeroshot_cli.display import counted
from zeroshot_cli.errors import UsageError

if TYPE_CHECKING:  # they bring torch, and 20 MB and a tenth of a second for those who do not adapt
    from scipy.sparse import csr_array

    from zeroshot_cli.classify.tuning import Tuning

FEWEST = 16  # images that are worth a look together
OnProgress = Callable[[int, int], None]

CANDIDATES = 20  # labels that an image may get, its best without adaptation
NEIGHBOURS = 3  # images that should share an image's label
ITERATIONS = 10
_PASSES = 5  # of the neighbours' votes in an iteration
_BLOCK = 2048
_MOST_COSINES = 2**24  # of images in memory at once
_SMALLEST = 1e-12


def check_adapting(
    labels: Sequence[str], rules: Rules, *, tuning: "Tuning | None" = None, images: int | None = None
) -> None:
    """Raise UsageError where adaptation makes no sense: for labels on their own, one label or a handful of images.

    It moves probabilities, so that the thresholds that `tuning` found for each label would not keep their precision.
    """
    if tuning is not None and tuning.thresholds is not None and rules.min_probability is None:
        raise UsageError(
            "--adapt changes the probabilities that this classifier's thresholds were found for; omit --adapt, or give "
            "--min-probability X, one threshold for all labels"
        )
    if rules.multi_label:
        raise UsageError("--adapt shares images among labels, and --multi-label judges each alone; omit one of them")
    if len(labels) < 2:
        raise UsageError("--adapt shares images among labels, and there is only one; omit it, or give more labels")
    if images is not None and images < FEWEST:
        number = counted(images, "image")
        raise UsageError(
            f"--adapt learns from the images of a run, at least {FEWEST}, and this run has {number}; omit --adapt"
        )


@dataclass(frozen=True, slots=True)
class Settings:
    """How far images pull a class from its text.

    `anchor` (alpha) is how many images a text counts for; `temper` divides the log-likelihood, since the numbers of an
    embedding are not independent; `shared` gives all classes one covariance, as in TransCLIP (arXiv 2406.01837): of
    several without determinants, the widest draws images to its class. The paper's code has 1, 50 and False, which lose
    up to 26 points of accuracy with our models where few of the classes are present.
    """

    anchor: float = 10.0
    temper: float = 200.0
    shared: bool = True


@dataclass(frozen=True, slots=True)
class Candidates:
    """The classes nk that each image may get, and their probabilities nk, which sum to 1: best first."""

    classes: Indices
    probabilities: Doubles

    @classmethod
    def of(cls, probabilities: Doubles, most: int = CANDIDATES) -> "Candidates":
        """Return the `most` best classes of each image: probabilities nc -> nk."""
        classes = best(probabilities, min(most, probabilities.shape[1]))
        kept = np.take_along_axis(probabilities, classes, axis=1)
        return cls(classes, kept / kept.sum(axis=1, keepdims=True))

    @classmethod
    def joined(cls, parts: Iterable["Candidates"]) -> "Candidates":
        """Return the candidates of all images from those of blocks, in order."""
        blocks = [(part.classes, part.probabilities) for part in parts]
        if not blocks:
            return cls(np.empty((0, 1), dtype=np.intp), np.empty((0, 1)))
        classes, probabilities = (np.concatenate(arrays) for arrays in zip(*blocks, strict=True))
        return cls(classes, probabilities)

    def dense(self, rows: slice, classes: int) -> Doubles:
        """Return the probabilities of some images among all classes -> bc."""
        full = np.zeros((len(self.classes[rows]), classes))
        np.put_along_axis(full, self.classes[rows], self.probabilities[rows], axis=1)
        return full

    def changed(self) -> int:
        """Return how many images have another best class than their first candidate."""
        return int(np.count_nonzero(self.probabilities.argmax(axis=1)))


def adapt(
    images: Floats,
    texts: Floats,
    before: Candidates,
    on_progress: OnProgress | None = None,
    settings: Settings = Settings(),
) -> Candidates:
    """Return the same candidates with the probabilities that all images together give them.

    `images` ne and `texts` ce are normalised; `before` are the answers without adaptation. `on_progress` gets how many
    images have been passed, and of how many: each several times.
    """
    count = _Counter(on_progress, (ITERATIONS + 2) * len(images))
    if not len(images):
        return before
    votes = _neighbours(images, count)
    prior = np.log(np.maximum(before.probabilities, np.finfo(float).tiny))
    shares = before.probabilities
    gaussians = first = _Gaussians.of_texts(images, texts.astype(float), before)
    for iteration in range(ITERATIONS + 1):
        likelihood = gaussians.log_likelihood(images, before.classes, count) / settings.temper
        for _ in range(_PASSES):
            shares = softmax(prior + likelihood + _voted(votes, before.classes, shares, len(texts)))
        if iteration < ITERATIONS:
            gaussians = first.moved(images, Candidates(before.classes, shares), settings)
    return Candidates(before.classes, shares)


class _Counter:
    """Counts the images that have been passed."""

    def __init__(self, tell: OnProgress | None, total: int) -> None:
        self._tell, self._total, self._done = tell, total, 0

    def blocks(self, images: int, size: int = _BLOCK) -> Iterator[slice]:
        """Yield the blocks of one pass over the images."""
        for start in range(0, images, size):
            block = slice(start, min(start + size, images))
            yield block
            self._done += block.stop - start
            if self._tell is not None:
                self._tell(self._done, self._total)


def _neighbours(images: Floats, count: _Counter) -> "csr_array":
    """Return what each image's label counts for another's, nn: the cosine of nearest neighbours, from both sides."""
    from scipy.sparse import csr_array

    n = len(images)
    k = min(NEIGHBOURS, n - 1)
    found = np.empty((n, k), dtype=np.intp)
    values = np.empty((n, k))
    for block in count.blocks(n, max(1, min(_BLOCK, _MOST_COSINES // n))):
        cosines = images[block] @ images.T  # bn
        rows = np.arange(len(cosines))
        cosines[rows, rows + block.start] = -np.inf
        found[block] = best(cosines, k)
        values[block] = np.take_along_axis(cosines, found[block], axis=1)
    one_way = csr_array((values.ravel(), found.ravel(), np.arange(n + 1) * k), shape=(n, n))
    return (one_way + one_way.T).tocsr() / (2 * max(k, 1))


def _voted(votes: "csr_array", classes: Indices, shares: Doubles, number: int) -> Doubles:
    """Return what the neighbours of each image say of its candidates: classes and shares nk -> nk."""
    from scipy.sparse import csr_array

    n, k = classes.shape
    sparse = csr_array((shares.ravel(), classes.ravel(), np.arange(n + 1) * k), shape=(n, number))
    said = np.empty((n, k))
    for start in range(0, n, _BLOCK):
        block = slice(start, start + _BLOCK)
        said[block] = np.take_along_axis((votes[block] @ sparse).toarray(), classes[block], axis=1)
    return said


@dataclass(frozen=True, slots=True)
class _Gaussians:
    """The classes' means ce and variances ce."""

    means: Doubles
    variances: Doubles

    @classmethod
    def of_texts(cls, images: Floats, texts: Doubles, shares: Candidates) -> "_Gaussians":
        """Return Gaussians around the texts, all with the variances that the images have around their texts."""
        mass, sums, squares = _moments(images, shares, len(texts))
        around = squares - 2 * sums * texts + mass[:, None] * texts**2
        variances = np.maximum(around.sum(axis=0) / len(images), _SMALLEST)
        return cls(texts, np.tile(variances, (len(texts), 1)))

    def moved(self, images: Floats, shares: Candidates, settings: Settings) -> "_Gaussians":
        """Return Gaussians of the images that each class has, anchored to these."""
        mass, sums, squares = _moments(images, shares, len(self.means))
        winners = shares.classes[np.arange(len(images)), shares.probabilities.argmax(axis=1)]
        number = np.bincount(winners, minlength=len(self.means))
        pull = (number / (settings.anchor + number))[:, None]
        mass = np.maximum(mass, _SMALLEST)[:, None]
        means = _unit(pull * _unit(sums / mass) + (1 - pull) * self.means)
        own = squares / mass - 2 * sums / mass * means + means**2
        variances = pull * own + (1 - pull) * (self.variances + (self.means - means) ** 2)
        if settings.shared:
            variances = np.tile((mass * variances).sum(axis=0) / len(images), (len(means), 1))
        return _Gaussians(means, np.maximum(variances, _SMALLEST))

    def log_likelihood(self, images: Floats, classes: Indices, count: _Counter) -> Doubles:
        """Return the log of the densities of images in their candidate classes, without their constants: -> nk."""
        precisions = 1 / self.variances
        weights = np.concatenate([-0.5 * precisions, self.means * precisions], axis=1).T  # (2e, c)
        constants = -0.5 * (self.means**2 * precisions).sum(axis=1)
        found = np.empty(classes.shape)
        for block in count.blocks(len(images)):
            densities = _with_squares(images[block]) @ weights + constants  # bc
            found[block] = np.take_along_axis(densities, classes[block], axis=1)
        return found


def _moments(images: Floats, shares: Candidates, classes: int) -> tuple[Doubles, Doubles, Doubles]:
    """Return each class's share of the images c, of their sum ce and of their squares' sum ce."""
    e = images.shape[1]
    total = np.zeros((classes, 2 * e))
    mass = np.zeros(classes)
    for start in range(0, len(images), _BLOCK):
        weights = shares.dense(slice(start, start + _BLOCK), classes)
        total += weights.T @ _with_squares(images[start : start + _BLOCK])
        mass += weights.sum(axis=0)
    return mass, total[:, e:], total[:, :e]


def _with_squares(images: Floats) -> Doubles:
    """Return squares and values side by side: be -> (b, 2e)."""
    values = images.astype(float)
    return np.concatenate([values**2, values], axis=1)


def _unit(vectors: Doubles) -> Doubles:
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    units: npt.NDArray[np.float64] = vectors / np.maximum(norms, _SMALLEST)
    return units
