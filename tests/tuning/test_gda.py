"""Gaussian discriminant analysis, against the paper's formula in plain numpy and against scikit-learn."""

import numpy as np
import pytest
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

from zeroshot_cli.tuning.gda import gaussians, paper_shrinkage

WIDTH = 12


def embeddings(counts: list[int], seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Normalised embeddings around one centre a class, and their classes."""
    rng = np.random.default_rng(seed)
    targets = np.repeat(np.arange(len(counts)), counts)
    x = rng.normal(size=(len(counts), WIDTH))[targets] + rng.normal(size=(len(targets), WIDTH)) @ np.diag(
        np.linspace(0.2, 1.5, WIDTH)
    )
    return x / np.linalg.norm(x, axis=1, keepdims=True), targets


def paper(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return W and b as the paper has them: arXiv 2402.04087, section 3.2, the covariance of Kubokawa & Srivastava."""
    classes, (n, d) = np.unique(y), x.shape
    mu = np.stack([x[y == k].mean(axis=0) for k in classes])
    sigma = np.cov(np.concatenate([x[y == k] - mu[k] for k in classes]).T)
    inverse = d * np.linalg.pinv((n - 1) * sigma + np.trace(sigma) * np.eye(d))
    w = mu @ inverse
    return w, np.log(1 / len(classes)) - 0.5 * np.einsum("kd,kd->k", w, mu)


@pytest.mark.parametrize("counts", [[4, 4, 4], [1, 2, 30], [2, 2, 2, 2, 2]])
def test_weights_are_the_papers(counts: list[int]) -> None:
    x, y = embeddings(counts)
    shrinkage, n = paper_shrinkage(len(x), WIDTH), len(x)
    weights, biases = gaussians(x, y).discriminants(shrinkage)
    w, b = paper(x, y)
    factor = shrinkage * (1 - 1 / n)  # what the paper's estimate of the covariance has besides
    constant = -np.log(len(counts))
    assert factor * weights == pytest.approx(w, abs=1e-5)
    assert factor * (biases - constant) + constant == pytest.approx(b, abs=1e-5)


@pytest.mark.parametrize("shrinkage", [0.0, 0.1, 0.5, 1.0])
def test_discriminants_are_scikit_learns(shrinkage: float) -> None:
    x, y = embeddings([20, 20, 20, 20])
    reference = LinearDiscriminantAnalysis(solver="lsqr", shrinkage=shrinkage).fit(x, y)
    weights, biases = gaussians(x, y).discriminants(shrinkage)
    assert weights == pytest.approx(reference.coef_, abs=1e-5)
    assert biases == pytest.approx(reference.intercept_, abs=1e-5)


def test_uneven_classes_have_the_covariance_of_scikit_learn_but_even_priors() -> None:
    x, y = embeddings([3, 9, 40])
    reference = LinearDiscriminantAnalysis(solver="lsqr", shrinkage=0.2).fit(x, y)
    weights, biases = gaussians(x, y).discriminants(0.2)
    assert weights == pytest.approx(reference.coef_, abs=1e-5)
    assert biases - np.log(1 / 3) == pytest.approx(reference.intercept_ - np.log(reference.priors_), abs=1e-5)


def test_without_a_second_example_a_sphere_is_assumed() -> None:
    x, y = embeddings([1, 1, 1])
    weights, biases = gaussians(x, y).discriminants(0.3)
    variance = x.var(axis=0).mean()
    assert weights == pytest.approx(x / variance)
    assert biases == pytest.approx(np.log(1 / 3) - 0.5 / variance)  # normalised, so that all have the same


def test_equal_examples_give_finite_numbers() -> None:
    x = np.repeat(np.eye(3), 4, axis=0)
    weights, biases = gaussians(x, np.repeat(np.arange(3), 4)).discriminants(0.5)
    assert np.isfinite(weights).all()
    assert np.isfinite(biases).all()


def test_classes_without_examples_are_left_out() -> None:
    x, y = embeddings([5, 5])
    found = gaussians(x, y * 3)
    assert found.classes.tolist() == [0, 3]
    assert found.discriminants(0.1)[0] == pytest.approx(gaussians(x, y).discriminants(0.1)[0])
