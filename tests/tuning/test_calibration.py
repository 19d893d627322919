"""Temperatures and thresholds: against scans over all values, hand calculations, and images held out."""

import numpy as np
import pytest

from zeroshot_cli.classify.scoring import softmax
from zeroshot_cli.tuning.calibration import calibrate_logits, fit_temperature, fit_thresholds


def drawn(n: int, factor: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Logits (n, 4) that are `factor` times the log probabilities that the classes were drawn with, and the classes."""
    rng = np.random.default_rng(seed)
    true = 2 * rng.normal(size=(n, 4))
    targets = (softmax(true).cumsum(axis=1) < rng.random((n, 1))).sum(axis=1)
    return factor * true, targets


@pytest.mark.parametrize("factor", [0.2, 1.0, 25.0])
def test_temperature_is_the_one_that_a_scan_finds(factor: float) -> None:
    logits, targets = drawn(400, factor)
    temperature, loss = fit_temperature(logits, targets)
    scanned = np.geomspace(factor / 4, factor * 4, 801)
    losses = [-np.log(softmax(logits / each)[np.arange(400), targets]).mean() for each in scanned]
    assert temperature == pytest.approx(scanned[np.argmin(losses)], rel=0.02)
    assert loss == pytest.approx(min(losses), abs=1e-5)


def test_temperature_of_what_is_all_right_is_finite() -> None:
    temperature, _ = fit_temperature(np.eye(4), np.arange(4))
    assert 0 < temperature < 1


def test_threshold_of_all_labels_by_hand() -> None:
    # 39 right answers, then at 0.5 one that is wrong, then right ones again: (1 + 1) / (40 + 1) is under 5 in 100,
    # and with the wrong one at 0.3 it is (2 + 1) / (42 + 1), which is over.
    confidences = np.concatenate((np.linspace(0.99, 0.6, 39), [0.5, 0.4, 0.3, 0.2]))
    right = np.array([1] * 39 + [0, 1, 0, 1])
    given = np.zeros(43, dtype=np.int64)
    pooled = fit_thresholds(confidences, given, right, 2, 0.95)
    assert pooled[1] == 0.4  # a label without answers has what all answers say
    assert fit_thresholds(confidences, given, right, 2, 0.5).tolist() == [0.2, 0.2]


def test_no_threshold_is_high_enough_with_too_few_answers() -> None:
    # One more that is wrong must be allowed for: 18 right of 18 are not yet 95 in 100.
    assert fit_thresholds(np.full(18, 0.9), np.zeros(18, dtype=np.int64), np.ones(18), 1, 0.95).tolist() == [np.inf]
    assert fit_thresholds(np.full(19, 0.9), np.zeros(19, dtype=np.int64), np.ones(19), 1, 0.95).tolist() == [0.9]


def test_answers_of_one_probability_are_kept_together() -> None:
    right = np.array([1] * 30 + [0] * 10)
    thresholds = fit_thresholds(np.full(40, 0.7), np.zeros(40, dtype=np.int64), right, 1, 0.9)
    assert thresholds.tolist() == [np.inf]


def test_a_label_that_is_often_wrong_has_a_higher_threshold() -> None:
    rng = np.random.default_rng(0)
    confidences, given = rng.random(2000), rng.integers(0, 2, 2000)
    right = rng.random(2000) < np.where(given == 0, 0.5 + confidences / 2, confidences)
    thresholds = fit_thresholds(confidences, given, right, 2, 0.85)
    assert thresholds[0] < thresholds[1] - 0.05


def test_the_target_is_reached_on_images_held_out() -> None:
    logits, targets = drawn(1000, 3.0)
    found = calibrate_logits(logits, logits, targets, seed=0, precision=0.9)
    unseen, truth = drawn(20_000, 3.0, seed=1)
    sure = softmax(unseen / found.temperature)
    given = sure.argmax(axis=1)
    assert found.thresholds is not None
    kept = sure.max(axis=1) >= found.thresholds[given]
    assert (given == truth)[kept].mean() > 0.89
    assert found.answered is not None
    assert found.precision is not None
    assert found.answered.value == pytest.approx(kept.mean(), abs=0.05)
    assert found.precision.interval[0] < 0.9 < found.precision.interval[1] + 0.02


def test_reliability_is_judged_on_what_had_no_part_in_it() -> None:
    logits, targets = drawn(300, 20.0)
    found = calibrate_logits(logits, logits, targets, seed=0)
    assert found.ece_after < found.ece_before / 2
    assert found.after.counts.sum() == 300
    assert found.thresholds is None


def test_one_example_is_enough_not_to_fail() -> None:
    found = calibrate_logits(np.array([[1.0, 0.0]]), np.array([[1.0, 0.0]]), np.array([0]), seed=0, precision=0.95)
    assert np.isfinite(found.temperature)
    assert found.thresholds is not None
    assert found.thresholds.tolist() == [np.inf, np.inf]


def test_answers_that_are_all_right_do_not_have_a_probability_of_1() -> None:
    # Nothing has been seen that is wrong, in 10 images or in 100: the fewer, the less is known.
    few, many = (
        calibrate_logits(10 * np.eye(2)[targets], 10 * np.eye(2)[targets], targets, seed=0)
        for targets in (np.arange(10) % 2, np.arange(100) % 2)
    )
    # By hand: of n + 2 images one is of the other class, so its probability is 1 / (n + 2).
    for found, n in ((few, 10), (many, 100)):
        assert softmax(np.array([[10.0, 0.0]]) / found.temperature)[0, 1] == pytest.approx(1 / (n + 2), rel=0.01)


def test_doubt_says_little_beside_many_examples() -> None:
    logits, targets = drawn(2000, 3.0)
    found = calibrate_logits(logits, logits, targets, seed=0)
    assert found.temperature == pytest.approx(fit_temperature(logits, targets)[0], rel=0.01)


def test_temperature_with_doubt_is_the_one_that_a_scan_finds() -> None:
    logits, targets = drawn(60, 2.0)
    rows, rivals = np.arange(60), logits.copy()
    rivals[rows, targets] = -np.inf
    scanned = np.geomspace(0.5, 16, 1201)
    losses = []
    for each in scanned:
        logs = np.log(softmax(logits / each))
        losses.append(-(0.9 * logs[rows, targets] + 0.1 * logs[rows, rivals.argmax(axis=1)]).mean())
    temperature, loss = fit_temperature(logits, targets, doubt=0.1)
    assert temperature == pytest.approx(scanned[np.argmin(losses)], rel=0.02)
    assert loss == pytest.approx(min(losses), abs=1e-5)


def test_a_probability_of_1_is_not_enough_where_no_threshold_is() -> None:
    logits = 1e4 * np.eye(2)[np.arange(10) % 2]  # probabilities are 1 by rounding
    found = calibrate_logits(logits, logits, np.arange(10) % 2, seed=0, precision=0.95)
    assert found.thresholds is not None
    assert (found.thresholds > 1).all()
    assert found.answered is not None
    assert found.answered.hits == 0
