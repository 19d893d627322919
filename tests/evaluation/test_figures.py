"""Figures against scikit-learn, scipy and hand calculations."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats
from sklearn import metrics as sk
from sklearn.calibration import calibration_curve

from zeroshot_cli.classify.classifier import Classifier
from zeroshot_cli.datasets.labelled import read_labelled_folder
from zeroshot_cli.evaluation.answers import Answers
from zeroshot_cli.evaluation.figures import BINS, confusion, figures, reliability
from zeroshot_cli.evaluation.metrics import expected_calibration_error, true_class_ranks, wilson
from zeroshot_cli.evaluation.run import answer, graded
from zeroshot_cli.words.prompts import Prompts


def answers_of(scores: np.ndarray, targets: np.ndarray, scale: float = 1.0) -> Answers:
    """What `answer` makes of scores nc and true classes n."""
    logs = scale * scores.astype(np.float64)
    logs -= np.log(np.exp(logs).sum(axis=1, keepdims=True))
    ranks, best, own, probabilities, true_scores, log_likelihoods = graded(scores.astype(np.float32), logs, targets)
    return Answers(
        labels=tuple(f"class {number}" for number in range(scores.shape[1])),
        items=tuple(f"{number}.png" for number in range(len(scores))),
        item_targets=targets,
        targets=targets,
        ranks=ranks,
        best=best,
        scores=own,
        probabilities=probabilities,
        true_scores=true_scores,
        log_likelihoods=log_likelihoods,
    )


@pytest.fixture
def drawn() -> tuple[np.ndarray, np.ndarray]:
    """Scores of 700 images among 11 classes, of which one has no image, and their true classes."""
    rng = np.random.default_rng(5)
    targets = rng.integers(0, 10, 700)
    scores = rng.normal(size=(700, 11)).astype(np.float32)
    scores[np.arange(700), targets] += 1.5
    return scores, targets


def test_figures_are_scikit_learns(drawn: tuple[np.ndarray, np.ndarray]) -> None:
    scores, targets = drawn
    answers = answers_of(scores, targets)
    found = figures(answers).metrics
    given = scores.argmax(axis=1)
    probabilities = np.exp(scores.astype(float)) / np.exp(scores.astype(float)).sum(axis=1, keepdims=True)
    assert found["top1"] == pytest.approx(sk.accuracy_score(targets, given))
    assert found["top5"] == pytest.approx(sk.top_k_accuracy_score(targets, scores, k=5, labels=range(11)))
    assert found["mean_per_class_recall"] == pytest.approx(
        sk.recall_score(targets, given, labels=range(10), average="macro")
    )
    assert found["log_loss"] == pytest.approx(sk.log_loss(targets, probabilities, labels=range(11)), rel=1e-9)
    np.testing.assert_array_equal(confusion(answers), sk.confusion_matrix(targets, given, labels=range(11)))
    np.testing.assert_array_equal(
        [row["recall"] for row in figures(answers).per_class[:10]],
        sk.recall_score(targets, given, labels=range(10), average=None),
    )


def plain_calibration_error(confidences: np.ndarray, right: np.ndarray, bins: int) -> float:
    """Guo et al. 2017, equation 3, bin by bin."""
    total = 0.0
    for number in range(bins):
        inside = (confidences > number / bins) & (confidences <= (number + 1) / bins)
        if number == 0:
            inside |= confidences == 0
        if inside.any():
            total += inside.sum() / len(right) * abs(right[inside].mean() - confidences[inside].mean())
    return total


@pytest.mark.parametrize("bins", [1, 10, 15])
def test_the_calibration_error_is_the_papers(bins: int) -> None:
    rng = np.random.default_rng(0)
    confidences = np.concatenate([rng.uniform(0, 1, 500), [0.0, 1.0]])
    right = rng.random(502) < confidences**2
    ours = expected_calibration_error(confidences, right, bins=bins)
    assert ours == pytest.approx(plain_calibration_error(confidences, right, bins))


def test_the_calibration_error_of_a_hand(drawn: tuple[np.ndarray, np.ndarray]) -> None:
    """Half are sure to 0.9 and all right, half to 0.6 and half right: (0.1 + 0.1) / 2."""
    confidences = np.repeat([0.9, 0.6], 10)
    right = np.concatenate([np.ones(10), np.tile([1, 0], 5)]).astype(bool)
    assert expected_calibration_error(confidences, right) == pytest.approx(0.1)


def test_the_diagram_adds_up_to_the_calibration_error(drawn: tuple[np.ndarray, np.ndarray]) -> None:
    answers = answers_of(*drawn)
    found = reliability(answers)
    assert found.counts.sum() == 700
    assert len(found.edges) == BINS + 1
    filled = found.counts > 0
    gaps = np.abs(found.accuracy - found.confidence)[filled]
    assert (gaps * found.counts[filled]).sum() / 700 == pytest.approx(figures(answers).metrics["ece"])


def test_the_diagram_is_scikit_learns(drawn: tuple[np.ndarray, np.ndarray]) -> None:
    answers = answers_of(*drawn)
    found = reliability(answers)
    accuracy, confidence = calibration_curve(answers.right, answers.confidences, n_bins=BINS)  # of filled bins only
    np.testing.assert_allclose(found.accuracy[found.counts > 0], accuracy)
    np.testing.assert_allclose(found.confidence[found.counts > 0], confidence)


@pytest.mark.parametrize(("hits", "n"), [(0, 1), (1, 1), (0, 20), (3, 7), (5592, 10_000)])
def test_wilsons_interval_is_the_formula(hits: int, n: int) -> None:
    """Wilson 1927: (p + z²/2n ± z √(p(1-p)/n + z²/4n²)) / (1 + z²/n)."""
    z, p = 1.959963984540054, hits / n
    middle, half = p + z * z / (2 * n), z * np.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    expected = ((middle - half) / (1 + z * z / n), (middle + half) / (1 + z * z / n))
    assert wilson(hits, n) == pytest.approx(expected, abs=1e-12)


def test_bootstrap_intervals_are_about_scipys(drawn: tuple[np.ndarray, np.ndarray]) -> None:
    """The same method with other draws: ends that differ by less than a tenth of the width."""
    answers = answers_of(*drawn)
    right, losses, targets = answers.right, -answers.log_likelihoods, answers.targets

    def recall(index: np.ndarray) -> float:
        return float(np.mean([right[index][targets[index] == each].mean() for each in np.unique(targets[index])]))

    def calibration(index: np.ndarray) -> float:
        return expected_calibration_error(answers.confidences[index], right[index])

    statistics = {
        "mean_per_class_recall": recall,
        "ece": calibration,
        "log_loss": lambda index: losses[index].mean(),
    }
    ours = figures(answers).intervals
    for name, statistic in statistics.items():
        theirs = stats.bootstrap(
            (np.arange(700),), statistic, vectorized=False, n_resamples=2000, method="percentile", random_state=1
        ).confidence_interval
        width = theirs.high - theirs.low
        assert ours[name] == pytest.approx((theirs.low, theirs.high), abs=0.1 * width), name


def test_the_same_seed_gives_the_same_interval(drawn: tuple[np.ndarray, np.ndarray]) -> None:
    answers = answers_of(*drawn)
    assert figures(answers, seed=3) == figures(answers, seed=3)
    assert figures(answers, seed=3).intervals["ece"] != figures(answers, seed=4).intervals["ece"]


def test_parts_of_the_bootstrap_change_nothing_but_the_draws(
    drawn: tuple[np.ndarray, np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = answers_of(*drawn)
    whole = figures(answers).intervals
    monkeypatch.setattr("zeroshot_cli.evaluation.figures._AT_ONCE", 700 * 3)
    parts = figures(answers).intervals  # the draws come one after the other, however many at once
    for name, interval in whole.items():
        assert parts[name] == pytest.approx(interval, rel=1e-12)


def test_ties_go_to_the_lower_index() -> None:
    scores = np.array([[1, 1, 0], [0, 1, 1], [1, 1, 1]], dtype=np.float32)
    answers = answers_of(scores, np.array([1, 1, 2]))
    assert answers.ranks.tolist() == [1, 0, 2]
    assert answers.best.tolist() == [[0, 1, 2], [1, 2, 0], [0, 1, 2]]
    assert figures(answers).metrics["top1"] == pytest.approx(1 / 3)
    assert true_class_ranks(scores, [1, 1, 2]).tolist() == [1, 0, 2]


@pytest.mark.parametrize("case", ["one image", "one class", "all right", "all wrong"])
def test_the_least_that_can_be_evaluated_has_finite_figures(case: str) -> None:
    if case == "one image":
        answers = answers_of(np.array([[0.1, 0.9]]), np.array([1]))
    elif case == "one class":
        answers = answers_of(np.ones((3, 1)), np.zeros(3, dtype=np.int64))
    else:
        targets = np.arange(6) % 3
        answers = answers_of(np.eye(3)[targets if case == "all right" else (targets + 1) % 3], targets)
    found = figures(answers)
    assert found.metrics["top1"] == (0 if case == "all wrong" else 1)
    assert set(found.intervals) == set(found.metrics)
    for name, (low, high) in found.intervals.items():
        assert np.isfinite([low, high]).all(), name
        assert low <= high
    assert bool(found.confused) is (case == "all wrong")


def test_what_is_confused_most_comes_first() -> None:
    targets = np.array([0, 0, 0, 1, 1, 2, 2])
    given = np.array([1, 1, 0, 0, 2, 1, 1])
    found = figures(answers_of(np.eye(3)[given], targets)).confused
    assert [(pair["label"], pair["taken_for"], pair["n"]) for pair in found] == [
        ("class 0", "class 1", 2),
        ("class 2", "class 1", 2),
        ("class 1", "class 0", 1),
        ("class 1", "class 2", 1),
    ]


def test_all_figures_by_hand(angle_model: Any, angle_folder: Path) -> None:
    """Angles of pictures 10, 40, 70, 250, 0, 200 among classes 0, 60 … 300, at a scale of 10."""
    data = read_labelled_folder(angle_folder)
    bare = Prompts(name="bare", description="", source="", templates=("{}",))
    found = figures(answer(angle_model, data, Classifier(angle_model, data.labels, bare)))
    degrees, truth = np.array([10, 40, 70, 250, 0, 200]), np.array([0, 0, 1, 2, 3, 4])
    scores = np.cos(np.deg2rad(degrees[:, None] - np.arange(0, 360, 60)))
    probabilities = np.exp(10 * scores) / np.exp(10 * scores).sum(axis=1, keepdims=True)
    right = np.array([1, 0, 1, 0, 0, 0])
    assert found.metrics["top1"] == pytest.approx(2 / 6)
    assert found.metrics["top5"] == pytest.approx(5 / 6)
    assert found.metrics["mean_per_class_recall"] == pytest.approx((0.5 + 1 + 0 + 0 + 0) / 5)
    assert found.metrics["log_loss"] == pytest.approx(-np.log(probabilities[np.arange(6), truth]).mean(), abs=1e-4)
    expected = plain_calibration_error(probabilities.max(axis=1), right, 15)
    assert found.metrics["ece"] == pytest.approx(expected, abs=1e-4)
    assert found.per_class[5] == {"label": "300", "n": 0, "recall": None, "interval": None}
    assert [(pair["label"], pair["taken_for"]) for pair in found.confused] == [
        *(("0", "60"), ("120", "240"), ("180", "0"), ("240", "180"))
    ]
