import dataclasses
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from zeroshot_cli.classify.classifier import Classifier
from zeroshot_cli.datasets.labelled import LabelledImages, read_labelled_folder
from zeroshot_cli.errors import CheckpointError, DataError
from zeroshot_cli.evaluation.classification import Pipeline, answer, compared
from zeroshot_cli.evaluation.evaluate import evaluate
from zeroshot_cli.records import EvalResult, Prediction, SkippedImage
from zeroshot_cli.words.labels import Labels
from zeroshot_cli.words.prompts import Prompts

FIGURES = ("top1", "top5", "mean_per_class_recall")
BARE = Prompts(name="bare", description="", source="", templates=("{}",))


def test_figures_equal_those_by_hand(angle_model: Any, angle_folder: Path) -> None:
    result = evaluate(angle_model, read_labelled_folder(angle_folder), BARE)
    assert result.n == 6
    assert {name: result.metrics[name] for name in FIGURES} == pytest.approx(
        {"top1": 2 / 6, "top5": 5 / 6, "mean_per_class_recall": 1.5 / 5}
    )
    assert [(row["label"], row["n"], row["recall"]) for row in result.per_class] == [
        ("0", 2, 0.5),
        ("60", 1, 1.0),
        ("120", 1, 0.0),
        ("180", 1, 0.0),
        ("240", 1, 0.0),
        ("300", 0, None),
    ]


def test_the_result_says_what_it_depends_on(angle_model: Any, angle_folder: Path) -> None:
    result = evaluate(angle_model, read_labelled_folder(angle_folder), BARE, batch_size=4)
    assert (result.dataset, result.model, result.pretrained) == (str(angle_folder), "angles", None)
    assert (result.prompts, result.fingerprint) == ("bare", "f" * 64)
    assert (result.device, result.precision, result.batch_size) == ("cpu", "fp32", 4)
    assert result.versions["torch"] == torch.__version__.split("+")[0]
    assert set(result.versions) >= {"python", "zeroshot-cli", "torch", "open_clip_torch"}
    assert angle_model.batches == [(4, 1, 1, 3), (4, 1, 1, 3)]  # the last one is padded


@pytest.mark.parametrize("batch_size", [1, 2, 5, 32])
def test_the_batch_size_changes_nothing(angle_model: Any, angle_folder: Path, batch_size: int) -> None:
    data = read_labelled_folder(angle_folder)
    first = evaluate(angle_model, data, BARE)
    again = evaluate(angle_model, data, BARE, batch_size=batch_size, workers=3)
    assert (again.metrics, again.per_class) == (first.metrics, first.per_class)


def test_equal_cosines_go_to_the_lower_class_index(
    angle_model: Any, tmp_path: Path, draw_angle: Callable[[Path, int], Path]
) -> None:
    middle = str(draw_angle(tmp_path / "x.png", 0))
    for truth, right in ((0, 1.0), (1, 0.0)):
        data = LabelledImages("tie", (middle,), (truth,), Labels.of(["60", "300", "180"]))
        assert evaluate(angle_model, data, BARE).metrics["top1"] == right


def test_under_five_classes_top5_is_one(
    angle_model: Any, tmp_path: Path, draw_angle: Callable[[Path, int], Path]
) -> None:
    worst = str(draw_angle(tmp_path / "x.png", 180))
    data = LabelledImages("small", (worst,), (0,), Labels.of(["0", "90", "180"]))
    metrics = evaluate(angle_model, data, BARE).metrics
    assert {name: metrics[name] for name in FIGURES} == {"top1": 0.0, "top5": 1.0, "mean_per_class_recall": 0.0}


def test_unreadable_images_are_listed_and_not_counted(angle_model: Any, angle_folder: Path) -> None:
    sound = evaluate(angle_model, read_labelled_folder(angle_folder), BARE)
    (angle_folder / "0" / "a.png").write_bytes(b"")
    (angle_folder / "180" / "text.jpg").write_text("not an image")
    (angle_folder / "300" / "gone.png").symlink_to("nowhere")
    result = evaluate(angle_model, read_labelled_folder(angle_folder), BARE, batch_size=2)
    assert (result.n, result.metrics, result.per_class) == (sound.n, sound.metrics, sound.per_class)
    assert [Path(image.path).name for image in result.skipped] == ["a.png", "text.jpg", "gone.png"]
    assert all(image.reason for image in result.skipped)


def test_no_readable_image_is_an_error(angle_model: Any) -> None:
    data = LabelledImages("bad", (SkippedImage("x.png", "empty file"),), (0,), Labels.of(["0", "90"]))
    with pytest.raises(DataError, match=r"bad: none of its 1 images can be read; the first, x.png: empty file"):
        evaluate(angle_model, data, BARE)


def test_embeddings_that_are_no_numbers_do_not_count_as_right(
    angle_model: Any, angle_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(angle_model, "encode_pixels", lambda batch: torch.full((len(batch), 2), torch.nan))
    with pytest.raises(CheckpointError, match="not finite"):
        evaluate(angle_model, read_labelled_folder(angle_folder), BARE)


def test_every_image_passes_the_tracker(angle_model: Any, angle_folder: Path) -> None:
    seen: list[str] = []

    def track(outcomes: Any) -> Any:
        for outcome in outcomes:
            seen.append(outcome.path)
            yield outcome

    data = read_labelled_folder(angle_folder)
    answer(angle_model, data, Classifier(angle_model, data.labels, BARE), Pipeline(track=track))
    assert tuple(seen) == data.items


def test_top1_is_what_classify_answers(angle_model: Any, angle_folder: Path) -> None:
    data = read_labelled_folder(angle_folder)
    answers = Classifier(angle_model, data.labels, BARE).predict(data.items)
    labels = [answer.label for answer in answers if isinstance(answer, Prediction)]
    right = [label == data.labels.names[target] for label, target in zip(labels, data.targets, strict=True)]
    assert evaluate(angle_model, data, BARE).metrics["top1"] == sum(right) / len(right)


def test_several_prompts_of_a_class_are_averaged(angle_model: Any, tmp_path: Path) -> None:
    """Labels "1" and "2" with the templates "{}0" and "{}4" are 10, 14 and 20, 24: their means are 12 and 22."""
    prompts = Prompts(name="two", description="", source="", templates=("{}0", "{}4"))
    from zeroshot_cli.embed.prompt_ensemble import class_embeddings

    embeddings = class_embeddings(angle_model, prompts.fill(Labels.of(["1", "2"])))
    angles = torch.rad2deg(torch.atan2(embeddings[:, 1], embeddings[:, 0]))
    assert angles.tolist() == pytest.approx([12, 22], abs=1e-3)


def test_answers_by_hand(angle_model: Any, angle_folder: Path) -> None:
    """Cosines are those of angles, rounded to six places by the model; the scale is 10."""
    (angle_folder / "60" / "bad.png").write_bytes(b"")
    data = read_labelled_folder(angle_folder)
    answers = answer(angle_model, data, Classifier(angle_model, data.labels, BARE))
    degrees, classes = np.array([10, 40, 70, 250, 0, 200]), np.array([0, 60, 120, 180, 240, 300])
    scores = np.cos(np.deg2rad(degrees[:, None] - classes))  # nc
    probabilities = np.exp(10 * scores) / np.exp(10 * scores).sum(axis=1, keepdims=True)
    rows, truth = np.arange(6), np.array([0, 0, 1, 2, 3, 4])
    assert answers.targets.tolist() == truth.tolist()
    assert answers.item_targets.tolist() == [0, 0, 1, 1, 2, 3, 4]
    assert [Path(path).name for path in answers.paths] == [f"{angle}.png" for angle in degrees]
    assert [Path(image.path).name for image in answers.skipped] == ["bad.png"]
    assert answers.ranks.tolist() == [0, 1, 0, 4, 5, 1]
    assert answers.best[:, 0].tolist() == [0, 1, 1, 4, 0, 3]
    np.testing.assert_allclose(answers.true_scores, scores[rows, truth], atol=2e-6)
    np.testing.assert_allclose(answers.log_likelihoods, np.log(probabilities[rows, truth]), atol=2e-5)
    np.testing.assert_allclose(answers.confidences, probabilities.max(axis=1), atol=2e-5)
    assert answers.scores.shape == answers.probabilities.shape == answers.best.shape == (6, 5)


def test_answers_over_several_parts(angle_model: Any, angle_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = read_labelled_folder(angle_folder)
    classifier = Classifier(angle_model, data.labels, BARE)
    whole = answer(angle_model, data, classifier)
    monkeypatch.setattr("zeroshot_cli.evaluation.classification._AT_ONCE", 4)
    parts = answer(angle_model, data, classifier)
    for field in dataclasses.fields(whole):
        assert np.array_equal(getattr(whole, field.name), getattr(parts, field.name)), field.name


def test_a_classifier_of_other_labels_is_refused(angle_model: Any, angle_folder: Path) -> None:
    with pytest.raises(ValueError, match="other labels"):
        answer(angle_model, read_labelled_folder(angle_folder), Classifier(angle_model, Labels.of(["1", "2"]), BARE))


@pytest.mark.parametrize(("value", "inside"), [(0.5, True), (0.4, True), (0.39, False), (0.61, False)])
def test_a_published_figure_is_held_against_ours(value: float, inside: bool) -> None:
    result = EvalResult("set", 10, "model", None, None, {"top1": 0.5}, {"top1": (0.4, 0.6)})
    figure = compared(("top1", value, "a paper"), result)
    assert (figure.metric, figure.value, figure.source) == ("top1", value, "a paper")
    assert figure.difference == pytest.approx(0.5 - value)
    assert figure.inside is inside


def test_the_function_is_public_beside_the_package() -> None:
    """`evaluation/` is a package, and importing what is in it leaves `zeroshot_cli.evaluate` the function."""
    code = "import zeroshot_cli.evaluation.evaluate as room; from zeroshot_cli import evaluate, LabelledImages; "
    code += "assert evaluate is room.evaluate; assert LabelledImages is room.LabelledImages"
    subprocess.run([sys.executable, "-c", code], check=True)
