"""Gaussian discriminant analysis of embeddings: one covariance for all classes, shrunk, and a linear map from it.

n examples, c classes with examples, e embedding
"""

from dataclasses import dataclass

import numpy as np

from zeroshot_cli.evaluation.answers import Doubles, Ints


@dataclass(frozen=True, slots=True, eq=False)
class Gaussians:
    """The means of classes and the eigendecomposition of the covariance within them, which gives every shrinkage.

    `classes` (c,) are the indices of the classes that have examples, `means` (c, e); the covariance is
    `axes` @ diag(`variances`) @ `axes`.T, with axes (e, e) and variances (e,). It divides by n, as in scikit-learn;
    times `unbiased` the discriminants are those of the covariance that divides by n - c, which alpha is chosen for:
    otherwise it would mean something else with two examples a class than with twenty.
    """

    classes: Ints
    means: Doubles
    axes: Doubles
    variances: Doubles
    unbiased: float

    def discriminants(self, shrinkage: float) -> tuple[Doubles, Doubles]:
        """Return weights (c, e) and biases (c,): x @ weights.T + biases is the log posterior but for a constant.

        The covariance is (1 - shrinkage) Σ + shrinkage tr(Σ)/e I, that of scikit-learn's LinearDiscriminantAnalysis;
        every class has the same prior, since the numbers of examples say nothing about the images to come.
        """
        shrunk = (1 - shrinkage) * self.variances + shrinkage * self.variances.mean()
        turned = self.means @ self.axes
        weights: Doubles = (turned / shrunk) @ self.axes.T
        biases: Doubles = -np.log(len(self.classes)) - 0.5 * (turned**2 / shrunk).sum(axis=1)
        return weights, biases


def gaussians(examples: Doubles, targets: Ints) -> Gaussians:
    """Estimate the Gaussians of examples (n, e) of classes (n,).

    Where no class has a second example, nothing is known of the covariance within classes: it is taken as a sphere,
    with the variance of all examples.
    """
    from scipy.linalg import eigh

    classes, places = np.unique(targets, return_inverse=True)
    members = np.equal.outer(np.arange(len(classes)), places).astype(np.float64)
    means = members @ examples / members.sum(axis=1, keepdims=True)
    if len(classes) == len(examples):
        width = examples.shape[1]
        spread = examples.var(axis=0).mean() or 1.0
        return Gaussians(classes.astype(np.int64), means, np.eye(width), np.full(width, spread), 1.0)
    centred = examples - means[places]
    variances, axes = eigh(centred.T @ centred / len(examples))
    floor = variances.max() * 1e-12 or 1.0  # equal examples have no variance at all
    return Gaussians(classes.astype(np.int64), means, axes, variances.clip(floor), 1 - len(classes) / len(examples))


def paper_shrinkage(examples: int, width: int) -> float:
    """Return the shrinkage at which the discriminants are those of the paper, up to a factor that alpha takes up.

    Wang et al., "A Hard-to-Beat Baseline for Training-free CLIP-based Adaptation" (ICLR 2024, arXiv 2402.04087),
    estimate the inverse covariance as e ((n - 1) Σ + tr(Σ) I)^-1, with Σ of n - 1. That is (1 - 1/n) times this
    shrinkage times the inverse of our covariance.
    """
    return width / (examples - 1 + width)
