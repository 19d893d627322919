"""Tuning and calibration of made-up embeddings: what they find, and what they refuse."""

import numpy as np
import pytest

from zeroshot_cli.errors import DataError
from zeroshot_cli.tuning.core import calibrate, tune
from zeroshot_cli.tuning.results import TuneSettings

WIDTH, CLASSES, SCALE = 16, 6, 20.0


def made_up(per_class: int, seed: int = 0, *, off: float = 0.8) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Embeddings (n, WIDTH) of images, their classes, and text embeddings that are `off` from where images are."""
    rng, fixed = np.random.default_rng(seed), np.random.default_rng(99)
    centres = fixed.normal(size=(CLASSES, WIDTH))
    texts = centres + off * fixed.normal(size=(CLASSES, WIDTH))
    targets = np.repeat(np.arange(CLASSES), per_class)
    images = centres[targets] + 0.9 * rng.normal(size=(len(targets), WIDTH))
    normal = [x / np.linalg.norm(x, axis=1, keepdims=True) for x in (images, texts)]
    return normal[0].astype(np.float32), targets, normal[1].astype(np.float32)


def test_a_tuned_classifier_is_better_on_images_it_has_not_seen() -> None:
    x, y, texts = made_up(16)
    unseen, truth, _ = made_up(200, seed=1)
    tuned = tune(x, y, texts, SCALE)
    before = ((unseen @ texts.T).argmax(axis=1) == truth).mean()
    after = ((unseen @ tuned.weights.T + tuned.bias).argmax(axis=1) == truth).mean()
    assert after > before + 0.02
    assert tuned.better
    assert tuned.cross_validation is not None
    assert tuned.cross_validation.tuned.interval[0] < after < tuned.cross_validation.tuned.interval[1]


def test_the_same_seed_gives_the_same_classifier() -> None:
    x, y, texts = made_up(5)
    first, second = (tune(x, y, texts, SCALE, TuneSettings(seed=3)) for _ in range(2))
    assert (first.weights == second.weights).all()
    assert first.temperature == second.temperature


def test_calibration_keeps_the_answers_and_mends_the_probabilities() -> None:
    x, y, texts = made_up(50)
    found = calibrate(x, y, texts, 300.0)  # far too sure
    assert found.accuracy.value == ((x @ texts.T).argmax(axis=1) == y).mean()
    assert found.calibration.ece_after < found.calibration.ece_before / 2


@pytest.mark.parametrize("place", ["images", "texts"])
def test_embeddings_that_are_not_finite_are_refused(place: str) -> None:
    x, y, texts = made_up(3)
    (x if place == "images" else texts)[2, 5] = np.nan
    name = "example" if place == "images" else "label"
    with pytest.raises(DataError, match=f"the embedding of {name} 3 is not finite"):
        tune(x, y, texts, SCALE)


def test_without_examples_there_is_nothing_to_learn() -> None:
    x, y, texts = made_up(1)
    with pytest.raises(DataError, match="there is no example to learn from"):
        tune(x[:0], y[:0], texts, SCALE)
    with pytest.raises(DataError, match="nothing to tell apart with 1 label"):
        tune(x[:1], y[:1], texts[:1], SCALE)


def test_one_label_with_several_examples_is_not_judged_alone() -> None:
    # Whatever raises the first class would look better on its own examples, and take the images of all others.
    x, y, texts = made_up(12)
    some = np.flatnonzero((y == 0) | (np.arange(len(y)) % 12 == 0))
    tuned = tune(x[some], y[some], texts, SCALE)
    assert tuned.better is None
    assert tuned.calibration is None
    unseen, truth, _ = made_up(200, seed=1)
    before, after = unseen @ texts.T, unseen @ tuned.weights.T + tuned.bias
    others = truth != 0
    assert (after.argmax(axis=1) == truth)[others].mean() > (before.argmax(axis=1) == truth)[others].mean() - 0.02


def test_examples_of_one_label_alone_teach_nothing() -> None:
    x, y, texts = made_up(4)
    with pytest.raises(DataError, match="all examples have the same label"):
        tune(x[y == 2], y[y == 2], texts, SCALE)


@pytest.mark.filterwarnings("error")
def test_copies_that_differ_in_nothing_are_no_certainty() -> None:
    x, _, texts = made_up(1)
    tuned = tune(np.repeat(x[:2], 5, axis=0), np.repeat([0, 1], 5), texts[:2], SCALE)
    scores = x[:2] @ tuned.weights.T + tuned.bias
    assert 1 / (1 + np.exp(-abs(scores[0, 0] - scores[0, 1]) / tuned.temperature)) < 0.99
