"""Classifiers that examples taught: their files, and scores against plain numpy."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from zeroshot_cli.classify.classifier import Classifier
from zeroshot_cli.classify.classifier_file import read_classifier
from zeroshot_cli.classify.rejection import Rules
from zeroshot_cli.classify.tuning import Tuning, key_of
from zeroshot_cli.errors import CheckpointError, LabelsError, UsageError
from zeroshot_cli.words.prompts import Prompts

PLAIN = Prompts("plain", "", "", ("{}",))
KEYS = frozenset(key_of(bytes([number] * 32)) for number in (3, 1, 2))
TUNING = Tuning(
    "gda",
    0.2,
    weights=torch.tensor([[1.0, 0.25], [0.5, 0.5], [0.0, 1.25]]),
    bias=torch.tensor([-0.125, 0.0, 0.0625]),
    thresholds=torch.tensor([0.0, 0.9, float("inf")], dtype=torch.float64),
    examples=KEYS,
    figures={"zero_shot": {"accuracy": 0.5}},
)


@pytest.fixture
def tuned(angle_model: Any) -> Classifier:
    classifier = Classifier(angle_model, ["0", "45", "90"], PLAIN)
    classifier.tuning = TUNING
    return classifier


@pytest.fixture
def saved(tuned: Classifier, tmp_path: Path) -> Path:
    path = tmp_path / "my.classifier"
    tuned.save(path, thresholds={"min_score": -1})
    return path


@pytest.fixture
def images(tmp_path: Path) -> list[str]:
    """One for every ten degrees."""
    for angle in range(0, 100, 10):
        Image.new("RGB", (8, 8), (angle, 0, 0)).save(tmp_path / f"{angle}.png")
    return [str(tmp_path / f"{angle}.png") for angle in range(0, 100, 10)]


def expected_scores() -> np.ndarray[Any, Any]:
    angles = np.deg2rad(np.arange(0, 100, 10))
    x = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    return x @ np.array([[1.0, 0.25], [0.5, 0.5], [0.0, 1.25]]).T + np.array([-0.125, 0.0, 0.0625])


def expected_probabilities() -> np.ndarray[Any, Any]:
    weights = np.exp(expected_scores() / 0.2)
    return weights / weights.sum(axis=1, keepdims=True)


def test_what_is_read_is_what_was_written(saved: Path, angle_model: Any) -> None:
    found = read_classifier(saved)
    assert found.tuning is not None
    for name in ("weights", "bias", "thresholds"):
        assert torch.equal(getattr(found.tuning, name), getattr(TUNING, name))
    assert (found.tuning.method, found.tuning.temperature, found.temperature) == ("gda", 0.2, 0.2)
    assert (found.tuning.examples, found.tuning.figures) == (KEYS, TUNING.figures)
    assert found.tuning.fingerprint == TUNING.fingerprint
    assert Classifier.of(found, angle_model).tuning is found.tuning
    assert "tensor(" not in repr(found)


def test_plain_safetensors_reads_it(saved: Path) -> None:
    tensors = load_file(saved)
    assert {name: tuple(each.shape) for name, each in tensors.items()} == {
        "embeddings": (3, 2),
        "weights": (3, 2),
        "bias": (3,),
        "thresholds": (3,),
        "examples": (3, 8),
    }
    with safe_open(saved, framework="pt") as file:
        metadata = file.metadata()
    assert (metadata["format"], metadata["method"], metadata["temperature"]) == ("zeroshot-classifier-2", "gda", "0.2")
    assert json.loads(metadata["figures"]) == {"zero_shot": {"accuracy": 0.5}}


def test_a_calibrated_classifier_keeps_its_cosines(angle_model: Any, tmp_path: Path, images: list[str]) -> None:
    plain = Classifier(angle_model, ["0", "45", "90"], PLAIN)
    calibrated = Classifier(angle_model, ["0", "45", "90"], PLAIN)
    calibrated.tuning = Tuning("calibrated", 0.5)
    calibrated.save(tmp_path / "c.classifier")
    read = Classifier.of(read_classifier(tmp_path / "c.classifier"), angle_model)
    assert set(load_file(tmp_path / "c.classifier")) == {"embeddings"}
    for before, after in zip(plain.predict(images, top_k=3), read.predict(images, top_k=3), strict=True):
        scores = np.array([each.score for each in before.predictions])
        assert [each.score for each in after.predictions] == scores.tolist()
        weights = np.exp(scores / 0.5)
        assert [each.probability for each in after.predictions] == pytest.approx((weights / weights.sum()).tolist())


def test_scores_and_probabilities_are_those_of_the_linear_map(saved: Path, angle_model: Any, images: list[str]) -> None:
    classifier = Classifier.of(read_classifier(saved), angle_model)
    results = list(classifier.predict(images, top_k=3))
    for result, scores, probabilities in zip(results, expected_scores(), expected_probabilities(), strict=True):
        order = np.argsort(-scores)
        assert [each.label for each in result.predictions] == [("0", "45", "90")[index] for index in order]
        assert [each.score for each in result.predictions] == pytest.approx(scores[order].tolist(), abs=1e-6)
        assert [each.probability for each in result.predictions] == pytest.approx(
            probabilities[order].tolist(), abs=1e-6
        )
        assert result.margin == pytest.approx(scores[order[0]] - scores[order[1]], abs=1e-6)


def test_under_the_threshold_of_its_best_label_an_image_is_unknown(tuned: Classifier, images: list[str]) -> None:
    best = expected_scores().argmax(axis=1)
    kept = expected_probabilities().max(axis=1) >= np.array([0.0, 0.9, np.inf])[best]
    assert set(kept[best == 0]) == {True}
    assert set(kept[best == 2]) == {False}
    labels = [("0", "45", "90")[index] if ok else "unknown" for index, ok in zip(best, kept, strict=True)]
    assert [result.label for result in tuned.predict(images)] == labels
    rules = Rules(min_probability=0.0)  # asked for now, it comes before what the file has
    assert [result.label for result in tuned.predict(images, rules=rules)] == [("0", "45", "90")[i] for i in best]


def test_scores_under_min_score_are_unknown(tuned: Classifier, images: list[str]) -> None:
    scores = expected_scores().max(axis=1)
    least = float(np.median(scores))
    found = [result.rejected for result in tuned.predict(images, rules=Rules(min_score=least, min_probability=0.0))]
    assert found == (scores < np.float32(least)).tolist()


def test_a_background_rejects_what_it_is_nearer_to_than_all_texts(tuned: Classifier, images: list[str]) -> None:
    tuned.tuning = Tuning("gda", 0.2, weights=TUNING.weights, bias=TUNING.bias)
    tuned.set_background(["20"])  # nearer than 0 and 45 from 10 to 32.5 degrees
    found = [result.rejected for result in tuned.predict(images)]
    assert found == [angle in (20, 30) or (angle == 10 and found[1]) for angle in range(0, 100, 10)]


def test_thresholds_of_labels_do_not_judge_adapted_probabilities(tuned: Classifier, images: list[str]) -> None:
    with pytest.raises(UsageError, match=r"--adapt changes the probabilities .* were found for; omit --adapt, or give"):
        tuned.predict(images, adapt=True)
    assert [found.path for found in tuned.predict(images, adapt=True, rules=Rules(min_probability=0.1))] == images


def test_adaptation_begins_with_the_tuned_answers(angle_model: Any, images: list[str]) -> None:
    """The weights say 90 of every image, far beyond what neighbours and text say; scores stay the tuned ones."""
    classifier = Classifier(angle_model, ["0", "45", "90"], PLAIN)
    bias = torch.tensor([0.0, 0.0, 100.0])
    classifier.tuning = Tuning("gda", 0.2, weights=TUNING.weights, bias=bias)
    alone, adapted = ([*classifier.predict(images, adapt=adapt)] for adapt in (False, True))
    assert [found.label for found in adapted] == ["90"] * len(images)
    assert [found.predictions[0].score for found in adapted] == [found.predictions[0].score for found in alone]
    classifier.set_background(["30"])
    rejected = [found.rejected for found in classifier.predict(images, adapt=True)]
    assert rejected == [found.rejected for found in classifier.predict(images)]
    assert set(rejected) == {False, True}


def test_labels_are_not_judged_one_by_one(tuned: Classifier, images: list[str]) -> None:
    with pytest.raises(UsageError, match=r"--multi-label judges every label on its own, .* was tuned"):
        list(tuned.predict(images, rules=Rules(multi_label=True)))


def test_unknown_is_no_label_where_thresholds_reject(angle_model: Any, images: list[str]) -> None:
    angle_model.encode_texts = lambda texts: torch.eye(2)
    classifier = Classifier(angle_model, ["unknown", "0"], PLAIN)
    classifier.tuning = Tuning("calibrated", 0.2)
    classifier.check(Rules())
    classifier.tuning = Tuning("calibrated", 0.2, thresholds=torch.zeros(2, dtype=torch.float64))
    with pytest.raises(LabelsError, match="'unknown' is reserved"):
        classifier.check(Rules())


def rewritten(path: Path, tensors: dict[str, torch.Tensor | None], **metadata: str | None) -> None:
    with safe_open(path, framework="pt") as file:
        changed = {**file.metadata(), **metadata}
    kept = {name: tensor for name, tensor in (load_file(path) | tensors).items() if tensor is not None}
    save_file(kept, path, metadata={key: value for key, value in changed.items() if value is not None})


@pytest.mark.parametrize(
    ("tensors", "metadata", "words"),
    [
        ({"weights": None}, {}, "a bias without weights"),
        ({"bias": None}, {}, "weights without a bias"),
        ({"weights": torch.zeros(2, 2)}, {}, "weights (2, 2) of torch.float32, not (3, 2)"),
        ({"weights": torch.zeros(3, 3)}, {}, "weights (3, 3)"),
        ({"weights": torch.zeros(3, 2).half()}, {}, "torch.float16"),
        ({"weights": torch.full((3, 2), float("nan"))}, {}, "weights that are not finite numbers"),
        ({"bias": torch.zeros(3, 1)}, {}, "bias (3, 1)"),
        ({"bias": torch.full((3,), float("inf"))}, {}, "bias that are not finite numbers"),
        ({"thresholds": torch.zeros(3)}, {}, "thresholds (3,) of torch.float32"),
        ({"thresholds": torch.full((3,), float("nan"), dtype=torch.float64)}, {}, "thresholds that are not finite"),
        ({"thresholds": torch.full((3,), -0.5, dtype=torch.float64)}, {}, "thresholds under 0"),
        ({"examples": torch.zeros(3, 4, dtype=torch.uint8)}, {}, "examples (3, 4)"),
        ({"examples": torch.tensor(1, dtype=torch.uint8)}, {}, "damaged"),
        ({}, {"method": None}, "damaged"),
        ({}, {"figures": None}, "damaged"),
        ({}, {"figures": "[]"}, "figures []"),
        ({}, {"figures": "{"}, "damaged"),
        ({}, {"figures": "[" * 100_000}, "nested too deeply"),
        ({}, {"temperature": "0"}, "temperature 0"),
        ({}, {"format": "zeroshot-classifier-3"}, "its format is zeroshot-classifier-3"),
    ],
)
def test_a_file_that_is_wrong(
    saved: Path, tensors: dict[str, torch.Tensor | None], metadata: dict[str, str | None], words: str
) -> None:
    rewritten(saved, tensors, **metadata)
    with pytest.raises(CheckpointError) as caught:
        read_classifier(saved)
    assert str(caught.value).startswith(str(saved))
    assert words in str(caught.value)
