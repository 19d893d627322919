"""Folds, labels without examples, and examples that are few in some classes and many in others."""

import numpy as np
import pytest

from zeroshot_cli.records import TuneMethod
from zeroshot_cli.tuning.core import tune
from zeroshot_cli.tuning.corrections import Correction
from zeroshot_cli.tuning.examples import Examples, folds
from zeroshot_cli.tuning.results import TuneSettings
from zeroshot_cli.tuning.search import leads_of_unseen, shrinkage_of

WIDTH, CLASSES, SCALE = 24, 12, 15.0


def made_up(counts: list[int], seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Embeddings of `counts` images a class, their classes, and text embeddings that are near, as those of CLIP."""
    rng, fixed = np.random.default_rng(seed), np.random.default_rng(7)
    centres = fixed.normal(size=(CLASSES, WIDTH))
    targets = np.repeat(np.arange(CLASSES), counts)
    images = centres[targets] + 1.3 * rng.normal(size=(len(targets), WIDTH))
    texts = centres + 0.8 * fixed.normal(size=(CLASSES, WIDTH))
    normal = [x / np.linalg.norm(x, axis=1, keepdims=True) for x in (images, texts)]
    return normal[0].astype(np.float32), targets, normal[1].astype(np.float32)


@pytest.mark.parametrize("counts", [[2] * 12, [1, 1, 1, 5, 5, 40, 2, 3, 0, 0, 1, 7], [30] * 12])
def test_every_example_of_a_pair_is_judged_once_by_others_of_its_class(counts: list[int]) -> None:
    x, y, texts = made_up(counts)
    examples = Examples.of(x, y, texts, SCALE)
    judged = []
    for learned, held_out in folds(examples, seed=1):
        assert not set(learned) & set(held_out)
        assert set(y[held_out]) <= set(y[learned])
        assert set(np.flatnonzero(examples.counts[y] == 1)) <= set(learned)
        judged += held_out.tolist()
    assert sorted(judged) == np.flatnonzero(examples.counts[y] > 1).tolist()


def test_a_single_example_a_class_has_no_folds_and_takes_the_default() -> None:
    x, y, texts = made_up([1] * 12)
    tuned = tune(x, y, texts, SCALE)
    assert tuned.cross_validation is None
    assert tuned.chosen.strength == pytest.approx(200 / 12)  # the penalty of 12 examples, whatever the classes
    assert tuned.better is None
    assert tuned.calibration is None
    assert tuned.temperature == 1 / SCALE
    unseen, truth, _ = made_up([300] * 12, seed=1)
    before = ((unseen @ texts.T).argmax(axis=1) == truth).mean()
    assert ((unseen @ tuned.weights.T + tuned.bias).argmax(axis=1) == truth).mean() > before - 0.01


@pytest.mark.parametrize("method", [TuneMethod.GDA, TuneMethod.LOGISTIC])
def test_images_of_classes_without_examples_keep_their_accuracy(method: TuneMethod) -> None:
    x, y, texts = made_up([20] * 6 + [0] * 6)
    tuned = tune(x, y, texts, SCALE, TuneSettings(method=method))
    unseen, truth, _ = made_up([400] * 12, seed=1)
    right = [scores.argmax(axis=1) == truth for scores in (unseen @ texts.T, unseen @ tuned.weights.T + tuned.bias)]
    with_examples = truth < 6
    assert right[1][with_examples].mean() > right[0][with_examples].mean()
    assert right[1][~with_examples].mean() == pytest.approx(right[0][~with_examples].mean(), abs=0.12)
    assert tuned.counts.tolist() == [20] * 6 + [0] * 6


def test_classes_without_examples_have_the_mean_of_the_others_and_the_lead() -> None:
    correction = Correction(np.array([0, 2]), np.array([[1.0, 2.0], [3.0, 4.0]]), np.array([0.5, 1.5]), 3)
    weights, biases = correction.extended(10.0)
    assert weights.tolist() == [[1, 2], [2, 3], [3, 4]]
    assert biases.tolist() == [0.5, 11.0, 1.5]
    x, logits = np.array([[1.0, -1.0]]), np.zeros((1, 3))
    assert correction.add_to(logits, correction.of(x), 10.0) == pytest.approx(x @ weights.T + biases)


def test_no_lead_is_needed_where_all_classes_have_examples_or_only_two_have() -> None:
    for counts in ([2] * 12, [5, 5] + [0] * 10, [5] + [0] * 11):
        examples = Examples.of(*made_up(counts), SCALE)
        assert leads_of_unseen(examples, TuneMethod.GDA, (1.0,), (0.1, 1.0)).tolist() == [[0.0, 0.0]]


def test_few_examples_in_some_classes_and_many_in_others() -> None:
    x, y, texts = made_up([1, 2, 60, 3, 1, 25, 4, 0, 2, 16, 1, 8])
    tuned = tune(x, y, texts, SCALE, TuneSettings(target_precision=0.8))
    assert tuned.cross_validation is not None
    assert tuned.cross_validation.zero_shot.n == len(y) - 3  # but those that are alone in their class
    assert {each.index for each in tuned.cross_validation.per_class} == {1, 2, 3, 5, 6, 8, 9, 11}
    assert {each.index for each in tuned.cross_validation.gained}.isdisjoint(
        each.index for each in tuned.cross_validation.lost
    )
    assert len(tuned.candidates) == 2
    assert tuned.chosen.log_loss == min(each.log_loss or 0 for each in tuned.candidates)


def test_shrinkage_is_the_papers_at_a_ridge_of_one_and_grows_with_it() -> None:
    assert shrinkage_of(101, 300, 1.0) == 300 / 400
    assert shrinkage_of(101, 300, 4.0) == pytest.approx(1200 / 1300)
