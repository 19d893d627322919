"""Classifier files, read with plain safetensors beside our own reader."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from zeroshot_cli.classify.classifier import Classifier, load_classifier
from zeroshot_cli.classify.classifier_file import read_classifier
from zeroshot_cli.classify.rejection import Rules
from zeroshot_cli.errors import CheckpointError, UsageError
from zeroshot_cli.models.load import load
from zeroshot_cli.words.labels import Label, Labels
from zeroshot_cli.words.prompts import Prompts

TENS = Prompts("tens", "", "", ("{}", "{}0"))
LABELS = Labels((Label("3", ("6",)), Label("9", (), ("80", "100")), Label("3")))


@pytest.fixture
def built(angle_model: Any, tmp_path: Path) -> Path:
    path = tmp_path / "angles.safetensors"
    Classifier(angle_model, LABELS, TENS).save(path, thresholds={"min_score": 0.25})
    return path


def test_plain_safetensors_reads_it(built: Path) -> None:
    # By hand: 3° and 30°, 6° and 60°: the mean direction; 80° and 100° have 90° between them; 3° and 30° 16.5°.
    angles = torch.deg2rad(torch.tensor([3.0, 30.0, 6.0, 60.0]))
    first = torch.atan2(angles.sin().sum(), angles.cos().sum()).rad2deg()
    expected = torch.deg2rad(torch.tensor([float(first), 90.0, 16.5]))
    tensors = load_file(built)
    assert list(tensors) == ["embeddings"]
    torch.testing.assert_close(
        tensors["embeddings"], torch.stack([expected.cos(), expected.sin()], dim=1), atol=1e-5, rtol=0
    )
    with safe_open(built, framework="pt") as file:
        metadata = file.metadata()
    assert json.loads(metadata["labels"]) == ["3", "9", "3"]
    assert json.loads(metadata["synonyms"]) == [["6"], [], []]
    assert json.loads(metadata["class_prompts"]) == [[], ["80", "100"], []]
    assert json.loads(metadata["templates"]) == ["{}", "{}0"]
    assert json.loads(metadata["thresholds"]) == {"min_score": 0.25}
    assert set(json.loads(metadata["versions"])) == {"zeroshot-cli", "torch", "safetensors"}
    assert float(metadata["temperature"]) == pytest.approx(0.1)
    assert (metadata["fingerprint"], metadata["model"], metadata["pretrained"]) == ("f" * 64, "angles", "")
    assert [path.name for path in built.parent.iterdir()] == [built.name]


def test_what_is_read_is_what_was_built(built: Path, angle_model: Any) -> None:
    fresh, saved = Classifier(angle_model, LABELS, TENS), read_classifier(built)
    read = Classifier.of(saved, angle_model)
    assert torch.equal(read.embeddings, fresh.embeddings)
    assert (read.labels, read.prompts.name, read.prompts.templates) == (LABELS, "tens", TENS.templates)
    assert (saved.thresholds, saved.pretrained, saved.precision) == ({"min_score": 0.25}, None, "fp32")


def test_a_file_is_loaded_with_its_thresholds_and_saved_with_them_again(
    built: Path, angle_model: Any, draw_angle: Callable[[Path, int], Path]
) -> None:
    """80° is near the 90° of label 9; 255° is 120° or more from every label, a cosine under 0.25."""
    loaded = load_classifier(str(built), angle_model)
    assert loaded.rules == Rules(min_score=0.25)
    images = [draw_angle(built.parent / f"{angle}.png", angle) for angle in (80, 255)]
    assert [item.label for item in loaded.predict(images)] == ["9", "unknown"]
    assert [item.label for item in loaded.predict(images, rules=Rules())] == ["9", "3"]
    again = built.parent / "again.safetensors"
    loaded.save(str(again))
    first, second = (safe_open(path, framework="pt").metadata() for path in (built, again))
    assert first == second
    assert torch.equal(load_file(built)["embeddings"], load_file(again)["embeddings"])
    loaded.save(again, thresholds={})
    assert load_classifier(again, angle_model).rules == Rules()


@pytest.mark.parametrize(
    ("thresholds", "error", "words"),
    [
        ({"min_prob": 0.5}, TypeError, "min_prob"),
        ({"min_probability": 50}, UsageError, "min_probability 50 is not a probability"),
        ({"min_score": float("nan")}, UsageError, "min_score nan"),
    ],
)
def test_thresholds_that_could_not_be_read_again_are_not_written(
    built: Path, angle_model: Any, thresholds: dict[str, float], error: type[Exception], words: str
) -> None:
    before = built.read_bytes()
    with pytest.raises(error, match=words):
        Classifier(angle_model, LABELS, TENS).save(built, thresholds=thresholds)
    assert built.read_bytes() == before


def test_a_file_names_its_model(tmp_path: Path) -> None:
    classifier = Classifier(load("tiny"), ["apple", "pizza"])
    classifier.save(tmp_path / "a.safetensors")
    loaded = load_classifier(tmp_path / "a.safetensors")
    assert (repr(loaded), len(repr(loaded.model)) < 300) == ("<Classifier: 2 labels, model tiny>", True)
    assert "tensor(" not in repr(read_classifier(tmp_path / "a.safetensors"))
    assert (loaded.model.name, loaded.model.fingerprint) == ("tiny", classifier.model.fingerprint)
    assert torch.equal(loaded.embeddings, classifier.embeddings)


def test_another_model_is_refused(built: Path, angle_model: Any) -> None:
    angle_model.fingerprint = "0" * 64
    with pytest.raises(CheckpointError, match="was built with other weights under the name --model angles"):
        Classifier.of(read_classifier(built), angle_model)
    angle_model.name, angle_model.pretrained = "corners", "square"
    with pytest.raises(
        CheckpointError, match="was built with --model angles, not with --model corners --pretrained square; give that"
    ):
        Classifier.of(read_classifier(built), angle_model)


def test_groups_are_read_as_they_were_built(built: Path, angle_model: Any) -> None:
    groups = {"far": {"left": ["120", "180"]}, "near": ["0"]}
    Classifier(angle_model, groups, TENS).save(built)
    with safe_open(built, framework="pt") as file:
        metadata = file.metadata()
    assert json.loads(metadata["groups"]) == [["far", "left"], ["far", "left"], ["near"]]
    assert metadata["format"] == "zeroshot-classifier-1"  # versions without groups answer with its labels
    read = load_classifier(built, angle_model)
    assert read.labels == Labels.of_user(groups)
    assert [level.names for level in read.levels] == [("far", "near"), ("left", "0"), ("120", "180", "0")]


def test_a_file_without_groups_has_none(built: Path) -> None:
    with safe_open(built, framework="pt") as file:
        assert "groups" not in file.metadata()
    assert not read_classifier(built).labels.grouped


def rewritten(built: Path, tensors: dict[str, torch.Tensor] | None = None, **metadata: str | None) -> None:
    with safe_open(built, framework="pt") as file:
        changed = {**file.metadata(), **metadata}
    kept = {key: value for key, value in changed.items() if value is not None}
    save_file(load_file(built) if tensors is None else tensors, built, metadata=kept)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"format": None}, "its format is none, not zeroshot-classifier-1"),
        ({"format": "zeroshot-classifier-9"}, "its format is zeroshot-classifier-9"),
        ({"labels": "[1"}, "damaged"),
        ({"labels": '["3"]'}, "damaged"),
        ({"labels": '["3", 9, "3"]'}, "a label is not a text"),
        ({"labels": '["3", " ", "3"]'}, "a label is blank"),
        ({"labels": '{"3": 1}'}, "a label is not a text"),
        ({"labels": "[" * 100_000}, "nested too deeply"),
        ({"labels": f'["3", "9", {"1" * 5000}]'}, "damaged"),
        ({"labels": json.dumps(["3", "9", "x" * 100_000])}, "a label has 100,000 characters"),
        ({"synonyms": '[["6"], [7], []]'}, "a synonym is not a text"),
        ({"synonyms": '["6", [], []]'}, "a synonym is not a text"),
        ({"class_prompts": '[[], [""], []]'}, "a prompt is blank"),
        ({"templates": "[1]"}, "a template is not a text"),
        ({"templates": '"{}"'}, "a template is not a text"),
        ({"thresholds": '{"min_score": NaN}'}, "thresholds {'min_score': nan}"),
        ({"thresholds": '{"min_score": 2}'}, "thresholds"),
        ({"groups": '[["a"], "b", []]'}, "a group is not a text"),
        ({"groups": '[["a"], [" b"], []]'}, "group (' b',)"),
        ({"groups": '[["a"], ["b/c"], []]'}, "has a slash"),
        ({"groups": '[["3"], [], ["3"]]'}, "'3' is a label, and '3' is a group"),
        ({"groups": '[["a"], ["b"]]'}, "damaged"),
        ({"thresholds": "[]"}, "damaged"),
        ({"versions": "[]"}, "damaged"),
        ({"temperature": "nan"}, "temperature nan"),
        ({"temperature": "0"}, "temperature 0"),
        ({"fingerprint": None}, "damaged"),
        ({"temperature": "warm"}, "damaged"),
        ({"tensors": {}}, "damaged"),
        ({"tensors": {"embeddings": torch.zeros(2, 2)}}, "3 labels and embeddings"),
        ({"tensors": {"embeddings": torch.zeros(3, 2).half()}}, "torch.float16"),
        ({"tensors": {"embeddings": torch.full((3, 2), float("nan"))}}, "not finite"),
    ],
)
def test_a_file_that_is_wrong(built: Path, change: dict[str, Any], words: str) -> None:
    rewritten(built, **change)
    with pytest.raises(CheckpointError) as caught:
        read_classifier(built)
    assert str(caught.value).startswith(str(built))
    assert words in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"label\ncat\n", b"\x10" * 4000])
def test_a_file_that_is_something_else(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.safetensors"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match="is not a classifier file"):
        read_classifier(path)


def test_a_cut_file(built: Path) -> None:
    built.write_bytes(built.read_bytes()[:-4])
    with pytest.raises(CheckpointError, match="damaged"):
        read_classifier(built)


def test_places_that_cannot_be(tmp_path: Path, angle_model: Any) -> None:
    with pytest.raises(UsageError, match="there is no classifier file"):
        read_classifier(tmp_path / "none.safetensors")
    with pytest.raises(UsageError, match="cannot write"):
        Classifier(angle_model, ["1"], TENS).save(tmp_path / "none" / "x.safetensors")
    with pytest.raises(UsageError, match="there is no classifier file"):
        read_classifier(tmp_path / ("x" * 300))
    with pytest.raises(UsageError, match=r"cannot write .*File name too long"):
        Classifier(angle_model, ["1"], TENS).save(tmp_path / ("x" * 300))
