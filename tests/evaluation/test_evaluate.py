"""`evaluate` from a program: every way to give a data set, and what the result says of each image."""

import csv
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from zeroshot_cli.classify.classifier import Classifier
from zeroshot_cli.datasets.labelled import LabelledImages, labelled_images, read_dataset
from zeroshot_cli.errors import DataError, UsageError
from zeroshot_cli.evaluation.evaluate import evaluate
from zeroshot_cli.evaluation.output import write_eval_json
from zeroshot_cli.records import ImageAnswer
from zeroshot_cli.words.labels import Labels
from zeroshot_cli.words.prompts import Prompts

BARE = Prompts(name="bare", description="", source="", templates=("{}",))
# What `angle_folder` says by hand: its images, and whether the nearest class is the folder's.
DEGREES = {"0": (10, 40), "60": (70,), "120": (250,), "180": (0,), "240": (200,)}
CLASSES = ["0", "60", "120", "180", "240", "300"]
RIGHT = [True, False, True, False, False, False]


def image(degrees: int) -> Image.Image:
    return Image.new("RGB", (4, 4), (degrees, 0, 0))


def table(folder: Path) -> Path:
    path = folder / "labels.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        rows = [(f"{label}/{angle}.png", label) for label, angles in DEGREES.items() for angle in angles]
        csv.writer(file).writerows([("image", "label"), *rows])
    return path


FORMS: dict[str, Callable[[Path], Any]] = {
    "folder": Path,
    "text": str,
    "table": table,
    "read": lambda folder: read_dataset(folder, Labels.of(CLASSES)),
    "mapping": lambda _: {label: list(map(image, angles)) for label, angles in DEGREES.items()},
    "pairs": lambda _: [(image(angle), label) for label, angles in DEGREES.items() for angle in angles],
    "generator": lambda _: ((np.asarray(image(a)), label) for label, angles in DEGREES.items() for a in angles),
    "named": lambda folder: read_dataset(folder, CLASSES),
    "numbers": lambda _: [(image(a), np.int64(CLASSES.index(label))) for label, each in DEGREES.items() for a in each],
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_a_data_set_has_the_same_answers(angle_model: Any, angle_folder: Path, form: str) -> None:
    given = FORMS[form](angle_folder)
    result = evaluate(angle_model, given, BARE, labels=None if form == "read" else CLASSES)
    assert (result.n, result.metrics["top1"]) == (6, pytest.approx(2 / 6))
    assert [answer.correct for answer in result.answers] == RIGHT
    assert [answer.label for answer in result.answers] == ["0", "0", "60", "120", "180", "240"]
    assert [answer.predicted for answer in result.answers] == ["0", "60", "60", "240", "0", "180"]
    low, high = result.intervals["top1"]
    assert 0 < low < 2 / 6 < high < 1


def test_images_without_a_path_are_named(angle_model: Any, tmp_path: Path) -> None:
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"")
    pairs = [(image(10), "0"), (bad, "60"), (image(70), "60")]
    assert [answer.path for answer in evaluate(angle_model, pairs, BARE).answers] == [
        "<image 0>",
        str(bad),
        "<image 2>",
    ]
    mapping = {"0": [image(10)], "60": [bad, image(70)]}
    result = evaluate(angle_model, mapping, BARE)
    assert [each.path for each in result.answers] == ["<image 0 of 0>", str(bad), "<image 1 of 60>"]
    assert result.answers[1] == ImageAnswer(str(bad), "60", error="the file is empty")
    assert (result.dataset, result.n, [each.path for each in result.skipped]) == ("images", 2, [str(bad)])


def test_an_answer_by_hand(angle_model: Any) -> None:
    """40° between 0° and 60°: cosines 0.766 and 0.940, scale 10."""
    (answer,) = evaluate(angle_model, [(image(40), "0")], BARE, labels=["0", "60"]).answers
    cosines = np.cos(np.deg2rad([40, 20]))
    weights = np.exp(10 * cosines)
    assert (answer.predicted, answer.correct, answer.rank) == ("60", False, 2)
    assert [answer.true_score, answer.score] == pytest.approx(cosines, abs=2e-6)
    assert [answer.true_probability, answer.probability] == pytest.approx(weights / weights.sum(), abs=2e-5)


def test_a_classifier_has_labels_and_prompts(angle_model: Any, angle_folder: Path) -> None:
    classifier = Classifier(angle_model, CLASSES, BARE)
    expected = evaluate(angle_model, angle_folder, BARE, labels=CLASSES)
    result = evaluate(classifier, angle_folder)
    assert (result.metrics, result.answers, result.prompts) == (expected.metrics, expected.answers, "bare")
    for more in ({"labels": CLASSES}, {"prompts": BARE}):
        with pytest.raises(UsageError, match="a classifier has its own labels and prompts; omit"):
            evaluate(classifier, angle_folder, **more)
    with pytest.raises(UsageError, match=re.escape("read it with these: read_dataset(path, labels)")):
        evaluate(Classifier(angle_model, ["1", "2"], BARE), read_dataset(angle_folder))


@pytest.mark.parametrize("name", ["batch_size", "workers"])
def test_none_of_what_works_is_refused(angle_model: Any, angle_folder: Path, name: str) -> None:
    with pytest.raises(ValueError, match="batch_size and workers are at least 1, not "):
        evaluate(angle_model, angle_folder, BARE, **{name: 0})


def test_the_result_says_what_was_assumed(angle_model: Any, angle_folder: Path) -> None:
    result = evaluate(angle_model, angle_folder, BARE, labels=CLASSES)
    assert any("1 of 6 classes has no image (300)" in note for note in result.assumed)


def test_the_json_has_no_answers(angle_model: Any, angle_folder: Path, tmp_path: Path) -> None:
    write_eval_json([evaluate(angle_model, angle_folder, BARE)], [], tmp_path / "a.json")
    assert "answers" not in json.loads((tmp_path / "a.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    ("given", "labels", "error", "message"),
    [
        (
            [("a.jpg", 0)],
            None,
            UsageError,
            "the label of a.jpg is the number 0; say what numbers stand for: labels=[...]",
        ),
        ([("a.jpg", 2)], ["x", "y"], DataError, "is the number 2, and the 2 labels are counted from 0"),
        ([("a.jpg", -1)], ["x", "y"], DataError, "is the number -1, and the 2 labels are counted from 0"),
        ([(b"", "z")], ["x", "y"], DataError, "images: label 'z' is not one of the 2 labels"),
        ([(b"", float("nan"))], None, TypeError, "the label of <image 0> is nan; a label is a text, or its index"),
        ([(b"", True)], None, TypeError, "the label of <image 0> is True; a label is a text, or its index"),
        ({"cat": [b"", None]}, None, TypeError, "<image 1 of cat> is a NoneType; an image is a path"),
        ({"cat": "cat.jpg"}, None, TypeError, "images are a list, and 'cat.jpg' is one image; put it into brackets"),
        (["a.jpg", "b.jpg"], None, TypeError, "item 0 is no pair of an image and its label; give zip(images, labels)"),
        (["ab"], None, TypeError, "item 0 is no pair"),
        ([], None, DataError, "images: there is none; give pairs of an image and its label"),
        ({"cat": []}, None, DataError, "images: there is none"),
        ([(b"", " ")], None, Exception, "label"),
    ],
)
def test_what_is_no_data_set_is_refused(given: Any, labels: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=re.escape(message)):
        labelled_images(given, None if labels is None else Labels.of(labels))


def test_without_labels_they_are_in_the_order_of_the_images() -> None:
    pairs = [("1.jpg", "b"), ("2.jpg", "a"), ("3.jpg", "b")]
    found = labelled_images(iter(pairs))
    assert (found.items, found.targets, found.labels.names) == (("1.jpg", "2.jpg", "3.jpg"), (0, 1, 0), ("b", "a"))


def test_a_data_set_that_is_neither_a_path_nor_known(angle_model: Any) -> None:
    with pytest.raises(UsageError, match="no such data set"):
        evaluate(angle_model, "no/such/folder", BARE)
    with pytest.raises(DataError, match="none of its 1 images can be read"):
        evaluate(angle_model, LabelledImages("x", ("gone.png",), (0,), Labels.of(["0"])), BARE)
