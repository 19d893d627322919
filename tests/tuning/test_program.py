"""`tune` from Python: every form of examples gives the same classifier, which its file keeps."""

import csv
import hashlib
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from zeroshot_cli.classify.classifier import load_classifier
from zeroshot_cli.datasets.labelled import read_dataset
from zeroshot_cli.errors import DataError, LabelsError, UsageError
from zeroshot_cli.evaluation.evaluate import evaluate
from zeroshot_cli.tuning.program import ExampleWarning, tune
from zeroshot_cli.words.labels import Labels
from zeroshot_cli.words.prompts import Prompts

BARE = Prompts(name="bare", description="", source="", templates=("{}",))
# Zero-shot, 0 and 60 part at 30 degrees; these part at 50. Label 240 has no example.
DEGREES = {"0": (34, 36, 38, 40, 42, 44), "60": (56, 58, 60, 62, 64, 66)}
LABELS = ["0", "60", "240"]


def image(degrees: int) -> Image.Image:
    return Image.new("RGB", (4, 4), (degrees, 0, 0))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for label, angles in DEGREES.items():
        (tmp_path / "examples" / label).mkdir(parents=True)
        for angle in angles:
            image(angle).save(tmp_path / "examples" / label / f"{angle}.png")
    return tmp_path / "examples"


def table(folder: Path) -> Path:
    path = folder.parent / "labels.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        rows = [(f"examples/{label}/{angle}.png", label) for label, angles in DEGREES.items() for angle in angles]
        csv.writer(file).writerows([("image", "label"), *rows])
    return path


FORMS: dict[str, Callable[[Path], Any]] = {
    "folder": Path,
    "table": table,
    "read": lambda folder: read_dataset(folder, Labels.of(LABELS)),
    "mapping": lambda _: {label: list(map(image, angles)) for label, angles in DEGREES.items()},
    "pairs": lambda _: [(np.asarray(image(a)), label) for label, angles in DEGREES.items() for a in angles],
    "numbers": lambda _: zip(map(image, sum(DEGREES.values(), ())), [0] * 6 + [1] * 6, strict=True),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_examples_gives_the_same_classifier(angle_model: Any, folder: Path, form: str) -> None:
    expected = tune(angle_model, folder, LABELS, BARE, force=True)
    labels = None if form == "read" else LABELS
    classifier = tune(angle_model, FORMS[form](folder), labels, BARE, force=True)
    assert classifier.names == tuple(LABELS)
    assert classifier.tuning is not None
    assert expected.tuning is not None
    assert torch.equal(classifier.tuning.weights, expected.tuning.weights)  # type: ignore[arg-type]
    assert classifier.tuning.figures == expected.tuning.figures


def test_it_is_better_and_its_file_keeps_that(angle_model: Any, folder: Path, tmp_path: Path) -> None:
    classifier = tune(angle_model, folder, LABELS, BARE)
    assert classifier.tuning is not None
    figures = classifier.tuning.figures
    assert figures["tuned"]["value"] > figures["zero_shot"]["value"] == 0.5
    images = [image(angle) for angle in (35, 43, 57, 65)]
    assert [item.label for item in classifier.predict(images)] == ["0", "0", "60", "60"]
    classifier.save(tmp_path / "a.classifier")
    again = load_classifier(tmp_path / "a.classifier", angle_model)
    assert list(again.predict(images)) == list(classifier.predict(images))


def test_one_that_is_not_better_is_refused_unless_forced(angle_model: Any) -> None:
    examples = {"0": [image(n) for n in (0, 2, 4)], "60": [image(n) for n in (58, 60, 62)]}
    with pytest.raises(DataError, match=re.escape("is not better than zero-shot (100.0% against 100.0%, cross-")):
        tune(angle_model, examples, prompts=BARE)
    assert tune(angle_model, examples, prompts=BARE, force=True).tuning is not None


@pytest.mark.parametrize(
    ("examples", "more", "error", "message"),
    [
        ({"0": [image(1)], "7": [image(2)]}, {"labels": LABELS}, DataError, "label '7' is not one of the 3 labels"),
        (
            {"0": [b"no image"], "60": [b""]},
            {},
            DataError,
            "none of the 2 examples can be read; the first, <image 0 of 0>",
        ),
        ({"0": [image(1), image(2)]}, {}, DataError, "there is nothing to tell apart with 1 label"),
        ([(image(1), "0")], {"method": "magic"}, UsageError, "method 'magic' is unknown; give one of auto, gda"),
        ([(image(1), "0")], {"target_precision": 95}, UsageError, "target_precision 95 is not a share; give one such"),
        ("no/such/folder", {}, UsageError, "no/such/folder: no such examples"),
        ([], {}, DataError, "there is none"),
        ([(image(1), "0")], {"labels": ["0", "0"]}, LabelsError, "0"),
        (
            [image(1), image(2)],
            {"labels": ["0", "0"]},
            TypeError,
            "item 0 is no pair of an image and its label; give z",
        ),
    ],
)
def test_wrong_examples_are_refused(
    angle_model: Any, examples: Any, more: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=re.escape(message)):
        tune(angle_model, examples, prompts=BARE, **more)


@pytest.mark.parametrize("kind", ["file", "bytes", "pixels"])
def test_evaluate_warns_of_examples_that_were_in_memory(angle_model: Any, folder: Path, kind: str) -> None:
    """60 degrees is in both sets; bytes and files are compared by their content, others by their pixels."""
    paths = {label: [folder / label / f"{angle}.png" for angle in angles] for label, angles in DEGREES.items()}
    read: Callable[[Path], Any] = {"file": Path, "bytes": Path.read_bytes, "pixels": Image.open}[kind]
    classifier = tune(angle_model, {label: [*map(read, each)] for label, each in paths.items()}, LABELS, BARE)
    assert classifier.tuning is not None
    assert len(classifier.tuning.examples) == 12
    content = b"(4, 4)" + bytes([60, 0, 0]) * 16 if kind == "pixels" else paths["60"][2].read_bytes()
    assert hashlib.sha256(content).digest()[:8] in classifier.tuning.examples
    twin = {"file": paths["60"][2].read_bytes(), "bytes": paths["60"][2], "pixels": np.asarray(image(60))}[kind]
    warning = "warning: images: 1 of its 2 images are examples that the classifier was tuned on"
    assert any(each.startswith(warning) for each in evaluate(classifier, [(image(59), "60"), (twin, "60")]).assumed)
    assert "tuned on" not in str(evaluate(classifier, [(image(59), "60")]).assumed)


def test_images_in_memory_count_once_and_have_one_label(angle_model: Any) -> None:
    once = {label: list(map(image, angles)) for label, angles in DEGREES.items()}
    twice = {label: [*each, *map(np.asarray, each)] for label, each in once.items()}
    expected, found = (tune(angle_model, each, prompts=BARE).tuning for each in (once, twice))
    assert found is not None
    assert found.figures == (expected and expected.figures)
    with pytest.raises(DataError, match="<image 0 of 0> and <image 6 of 60> are the same image, '0' in"):
        tune(angle_model, {"0": once["0"], "60": [*once["60"], np.asarray(image(34))]}, prompts=BARE)


def test_examples_that_cannot_be_read_are_a_warning(angle_model: Any, folder: Path) -> None:
    (folder / "0" / "34.png").write_bytes(b"")
    with pytest.warns(ExampleWarning, match=r"^1 of 12 examples cannot be read; the first, .*34.png: the file is"):
        classifier = tune(angle_model, folder, LABELS, BARE)
    assert classifier.tuning is not None
    assert classifier.tuning.figures["examples"] == 11


def test_the_function_is_public_whatever_was_imported_before() -> None:
    code = (
        "import zeroshot_cli.tuning.learn, zeroshot_cli.cli.commands.tune; from zeroshot_cli import tune; tune.__call__"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
