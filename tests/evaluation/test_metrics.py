"""Metrics against scikit-learn, scipy and hand calculations."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats
from sklearn import metrics as sk
from sklearn.calibration import calibration_curve
from sklearn.metrics import balanced_accuracy_score, recall_score, top_k_accuracy_score

from zeroshot_cli.classify.classifier import Classifier
from zeroshot_cli.datasets.labelled import read_labelled_folder
from zeroshot_cli.evaluation.answers import Answers, graded, true_class_ranks
from zeroshot_cli.evaluation.classification import answer
from zeroshot_cli.evaluation.metrics import (
    BINS,
    bin_of,
    class_counts,
    confusion,
    expected_calibration_error,
    figures,
    reliability,
    top_k_accuracy,
    wilson,
)
from zeroshot_cli.words.prompts import Prompts


def answers_of(scores: np.ndarray, targets: np.ndarray, scale: float = 1.0) -> Answers:
    """What `answer` makes of scores (images, classes) and true classes (images,)."""
    logs = scale * scores.astype(np.float64)
    logs -= np.log(np.exp(logs).sum(axis=1, keepdims=True))
    labels = tuple(f"class {number}" for number in range(scores.shape[1]))
    items = tuple(f"{number}.png" for number in range(len(scores)))
    return Answers.of(labels, items, targets, [graded(scores.astype(np.float32), logs, targets)])


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
    monkeypatch.setattr("zeroshot_cli.evaluation.metrics._AT_ONCE", 700 * 3)
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
    """Images of angles 10, 40, 70, 250, 0, 200 among classes 0, 60 … 300, at a scale of 10."""
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


# ranks and what is counted from them


def scores_with_ties(seed: int, n: int = 400, classes: int = 9) -> tuple[np.ndarray, np.ndarray]:
    """Scores of few distinct values, so that most rows hold ties."""
    random = np.random.default_rng(seed)
    return random.integers(0, 5, (n, classes)).astype(np.float32), random.integers(0, classes, n)


def test_ranks_by_hand() -> None:
    scores = [[0.1, 0.9, 0.5], [0.1, 0.9, 0.5], [0.1, 0.9, 0.5]]
    assert true_class_ranks(scores, [1, 2, 0]).tolist() == [0, 1, 2]


def test_of_equal_scores_the_lower_index_comes_first() -> None:
    scores = [[0.5, 0.5, 0.5]] * 3 + [[0.1, 0.7, 0.7]] * 2
    assert true_class_ranks(scores, [0, 1, 2, 1, 2]).tolist() == [0, 1, 2, 0, 1]


@pytest.mark.parametrize("seed", range(5))
def test_ranks_equal_a_stable_sort(seed: int) -> None:
    scores, targets = scores_with_ties(seed)
    order = np.argsort(-scores, axis=1, kind="stable")
    expected = [list(row).index(target) for row, target in zip(order, targets, strict=True)]
    assert true_class_ranks(scores, targets).tolist() == expected


@pytest.mark.parametrize("k", [1, 2, 5, 9])
@pytest.mark.parametrize("seed", range(3))
def test_top_k_equals_scikit_learn(seed: int, k: int) -> None:
    scores, targets = scores_with_ties(seed)
    ours = top_k_accuracy(true_class_ranks(scores, targets), k)
    # scikit-learn gives ties to the higher index: the same question with the classes in reverse order.
    if k == 9:  # it warns that the answer is always 1
        assert ours == 1.0
    else:
        theirs = top_k_accuracy_score(8 - targets, scores[:, ::-1], k=k, labels=range(9))
        assert ours == pytest.approx(theirs, abs=1e-12)


@pytest.mark.parametrize("seed", range(5))
def test_recall_equals_scikit_learn(seed: int) -> None:
    scores, targets = scores_with_ties(seed)
    found, predicted = figures(answers_of(scores, targets)), scores.argmax(axis=1)  # argmax: the first of equals
    expected = recall_score(targets, predicted, average=None, labels=range(9))
    assert [row["recall"] for row in found.per_class] == pytest.approx(expected, abs=1e-12)
    macro = recall_score(targets, predicted, average="macro")
    assert found.metrics["mean_per_class_recall"] == pytest.approx(macro, abs=1e-12)
    balanced = balanced_accuracy_score(targets, predicted)
    assert found.metrics["mean_per_class_recall"] == pytest.approx(balanced, abs=1e-12)


def test_a_class_without_images_takes_no_part_in_the_mean() -> None:
    given, targets = np.array([0, 1, 2]), np.array([0, 0, 2])
    assert class_counts(targets, 4).tolist() == [2, 0, 1, 0]
    found = figures(answers_of(np.eye(4)[given], targets))
    assert [row["recall"] for row in found.per_class] == [0.5, None, 1.0, None]
    assert found.metrics["mean_per_class_recall"] == pytest.approx(0.75)


def test_recall_of_unequal_classes_is_not_accuracy() -> None:
    given, targets = np.array([0, 0, 0, 3]), np.array([0, 0, 0, 1])
    answers = answers_of(np.eye(4)[given], targets)
    assert top_k_accuracy(answers.ranks, 1) == 0.75
    assert figures(answers).metrics["mean_per_class_recall"] == 0.5


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_scores_that_are_no_numbers_are_refused(bad: float) -> None:
    with pytest.raises(ValueError, match="finite"):
        true_class_ranks([[bad, 0.1]], [0])


def test_targets_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="under 2"):
        true_class_ranks([[0.2, 0.1]], [2])
    with pytest.raises(ValueError, match="under 2"):
        true_class_ranks([[0.2, 0.1]], [-1])
    with pytest.raises(ValueError, match="belong together"):
        true_class_ranks([[0.2, 0.1]], [0, 1])


def test_no_image_has_no_figure() -> None:
    with pytest.raises(ValueError, match="no image"):
        top_k_accuracy([], 1)
    with pytest.raises(ValueError, match="no image"):
        expected_calibration_error([], [])
    with pytest.raises(ValueError, match="not 0"):
        top_k_accuracy([0], 0)


def test_an_upper_edge_belongs_to_its_bin() -> None:
    edges = np.linspace(0, 1, 16)[1:]
    assert bin_of(edges, 15).tolist() == list(range(15))
    assert bin_of(edges[:-1] + 1e-12, 15).tolist() == list(range(1, 15))
    assert bin_of(np.array([0.0, 1e-300, np.nextafter(1, 2)]), 15).tolist() == [0, 0, 14]
