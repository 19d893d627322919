import numpy as np
import pytest
from sklearn.metrics import balanced_accuracy_score, recall_score, top_k_accuracy_score

from zeroshot_cli.evaluation.metrics import (
    bin_of,
    class_counts,
    expected_calibration_error,
    mean_per_class_recall,
    per_class_recall,
    top_k_accuracy,
    true_class_ranks,
)


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
    ranks, predicted = true_class_ranks(scores, targets), scores.argmax(axis=1)  # argmax: the first of equals
    expected = recall_score(targets, predicted, average=None, labels=range(9))
    assert per_class_recall(ranks, targets, 9) == pytest.approx(expected, abs=1e-12)
    macro = recall_score(targets, predicted, average="macro")
    assert mean_per_class_recall(ranks, targets, 9) == pytest.approx(macro, abs=1e-12)
    balanced = balanced_accuracy_score(targets, predicted)
    assert mean_per_class_recall(ranks, targets, 9) == pytest.approx(balanced, abs=1e-12)


def test_a_class_without_images_takes_no_part_in_the_mean() -> None:
    ranks, targets = [0, 1, 0], [0, 0, 2]
    assert class_counts(targets, 4).tolist() == [2, 0, 1, 0]
    assert per_class_recall(ranks, targets, 4) == pytest.approx([0.5, np.nan, 1.0, np.nan], nan_ok=True)
    assert mean_per_class_recall(ranks, targets, 4) == pytest.approx(0.75)


def test_recall_of_unequal_classes_is_not_accuracy() -> None:
    ranks, targets = [0, 0, 0, 3], [0, 0, 0, 1]
    assert top_k_accuracy(ranks, 1) == 0.75
    assert mean_per_class_recall(ranks, targets, 4) == 0.5


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
        mean_per_class_recall([], [], 3)
    with pytest.raises(ValueError, match="no image"):
        expected_calibration_error([], [])
    with pytest.raises(ValueError, match="not 0"):
        top_k_accuracy([0], 0)


def test_an_upper_edge_belongs_to_its_bin() -> None:
    edges = np.linspace(0, 1, 16)[1:]
    assert bin_of(edges, 15).tolist() == list(range(15))
    assert bin_of(edges[:-1] + 1e-12, 15).tolist() == list(range(1, 15))
    assert bin_of(np.array([0.0, 1e-300, np.nextafter(1, 2)]), 15).tolist() == [0, 0, 14]
