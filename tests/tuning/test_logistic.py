"""Logistic regression held to the text weights, against scikit-learn and the condition of its minimum."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from zeroshot_cli.tuning import logistic
from zeroshot_cli.tuning.examples import Examples
from zeroshot_cli.tuning.gda import gaussians
from zeroshot_cli.tuning.logistic import logistic_corrections, penalty_of

N, WIDTH, CLASSES = 90, 6, 3


@pytest.fixture
def exact(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logistic, "ITERATIONS", 500)


def examples(scale: float, counts: tuple[int, ...] = (30, 30, 30)) -> Examples:
    rng = np.random.default_rng(1)
    targets = np.repeat(np.arange(CLASSES), counts)
    x = rng.normal(size=(CLASSES, WIDTH))[targets] + rng.normal(size=(N, WIDTH))
    texts = rng.normal(size=(CLASSES, WIDTH))
    return Examples.of(
        (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32),
        targets,
        (texts / np.linalg.norm(texts, axis=1, keepdims=True)).astype(np.float32),
        scale,
    )


@pytest.mark.usefixtures("exact")
@pytest.mark.parametrize("counts", [(30, 30, 30), (60, 20, 10)])
def test_without_text_it_is_scikit_learns_with_balanced_classes(counts: tuple[int, ...]) -> None:
    given = examples(1e-9, counts)  # logits of the text that are nothing
    found = gaussians(given.embeddings, given.targets)
    (correction,) = logistic_corrections(given, found, (1.0,))
    x, y, n = given.embeddings, given.targets, len(given)
    within = sum((x[y == k] - x[y == k].mean(axis=0)).T @ (x[y == k] - x[y == k].mean(axis=0)) for k in range(3)) / n
    shrinkage = WIDTH / (n - 1 + WIDTH)
    shrunk = (1 - shrinkage) * within + shrinkage * np.trace(within) / WIDTH * np.eye(WIDTH)
    values, axes = np.linalg.eigh(shrunk)
    middle = np.mean([x[y == k].mean(axis=0) for k in range(CLASSES)], axis=0)
    features = np.column_stack(((x - middle) @ axes / np.sqrt(values), np.ones(n)))
    c = 1 / (n * penalty_of(n, CLASSES))
    reference = LogisticRegression(C=c, class_weight="balanced", fit_intercept=False, tol=1e-10, max_iter=5000)
    expected = reference.fit(features, y).decision_function(features)
    logits = correction.of(x)
    centred = [each - each.mean(axis=1, keepdims=True) for each in (logits, expected)]
    assert centred[0] == pytest.approx(centred[1], abs=2e-3)


@pytest.mark.usefixtures("exact")
def test_it_is_better_than_text_alone_and_nearer_to_it_the_larger_the_penalty() -> None:
    given = examples(10.0)
    strong, weak = logistic_corrections(given, gaussians(given.embeddings, given.targets), (1000.0, 0.1))
    y = given.targets

    def right(added: np.ndarray) -> float:
        return float(((given.logits + added).argmax(axis=1) == y).mean())

    assert np.abs(strong.of(given.embeddings)).max() < 0.05
    assert right(weak.of(given.embeddings)) > right(np.zeros((N, CLASSES)))


def test_fifteen_iterations_answer_as_five_hundred(monkeypatch: pytest.MonkeyPatch) -> None:
    given = examples(10.0)
    found = gaussians(given.embeddings, given.targets)
    (few,) = logistic_corrections(given, found, (1.0,))
    monkeypatch.setattr(logistic, "ITERATIONS", 500)
    (many,) = logistic_corrections(given, found, (1.0,))
    added = [given.logits + each.of(given.embeddings) for each in (few, many)]
    assert (added[0].argmax(axis=1) == added[1].argmax(axis=1)).mean() > 0.97
