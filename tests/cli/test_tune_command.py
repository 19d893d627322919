"""`zeroshot tune` and `calibrate`: pictures and labels are angles, so who is right is known by hand.

Zero-shot, the border between the labels 1e1 and 8e1 is at 45 degrees; of the examples it is at 60.
"""

import csv
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from zeroshot_cli.classify.classifier_file import read_classifier
from zeroshot_cli.cli.app import run

LOW, HIGH = range(30, 58, 2), range(62, 90, 2)  # of the true class 10, and of 80


@pytest.fixture(autouse=True)
def _here(
    angles: list[tuple[int, ...]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, draw_angle: Callable[..., Path]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ZEROSHOT_DEVICE", "cpu")
    monkeypatch.setenv("ZEROSHOT_MODEL", "angles")
    for label, degrees in (("1e1", LOW), ("8e1", HIGH)):
        for each in degrees:
            draw_angle(Path("set", label, f"{each}.png"), each)
    Path("labels.txt").write_text("1e1\n8e1\n")


def tune(*options: object, command: str = "tune") -> int:
    return run([command, *map(str, options), "-o", "my.classifier", "--prompts", "plain"])


def tune_set(*options: object, command: str = "tune") -> int:
    return tune("set", "--labels", "labels.txt", *options, command=command)


def labelled(capsys: pytest.CaptureFixture[str], *options: object) -> dict[int, str]:
    """The label of the picture of each angle."""
    capsys.readouterr()
    assert run(["classify", "set", *map(str, options)]) == 0
    return {int(Path(row["path"]).stem): row["label"] for row in csv.DictReader(capsys.readouterr().out.splitlines())}


def test_a_tuned_classifier_is_better_and_classify_uses_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert tune_set() == 0
    captured = capsys.readouterr()
    assert "zero-shot accuracy" in captured.out
    assert "examples            28 for all 2 labels" in captured.out
    assert captured.err.splitlines()[-2:] == [
        "wrote my.classifier: 2 labels, tuned by gda, model angles.",
        "next: zeroshot classify FOLDER --classifier my.classifier",
    ]
    before = labelled(capsys, "--labels", "labels.txt", "--prompts", "plain")
    assert {each for each, label in before.items() if label == "8e1"} == {*(each for each in LOW if each > 45), *HIGH}
    after = labelled(capsys, "--classifier", "my.classifier")
    assert sum(label == ("1e1" if each < 60 else "8e1") for each, label in after.items()) >= 26


def test_json_has_all_figures(capsys: pytest.CaptureFixture[str]) -> None:
    assert tune_set("--format", "json", "--quiet", "--target-precision", "0.5") == 0
    captured = capsys.readouterr()
    found = json.loads(captured.out)
    assert captured.err == ""
    wrong = sum(each > 45 for each in LOW)
    assert found["zero_shot"]["value"] == pytest.approx((28 - wrong) / 28)
    assert (found["output"], found["written"], found["model"], found["method"]) == (
        "my.classifier",
        True,
        "angles",
        "gda",
    )
    assert found["gain"]["value"] == pytest.approx(found["tuned"]["value"] - found["zero_shot"]["value"])
    assert [each["label"] for each in found["per_class"]] == ["1e1", "8e1"]
    assert sum(each["n"] for each in found["reliability_after"]) == 28
    tuning = read_classifier(Path("my.classifier")).tuning
    assert tuning is not None
    assert tuning.figures["zero_shot"] == found["zero_shot"]
    assert tuning.temperature == found["temperature"]
    assert tuning.thresholds is not None
    assert len(tuning.examples) == 28


def test_what_is_not_better_is_not_written(capsys: pytest.CaptureFixture[str], draw_angle: Callable[..., Path]) -> None:
    for label, degrees in (("0", range(0, 20)), ("90", range(70, 90))):
        for each in degrees:
            draw_angle(Path("easy", label, f"{each}.png"), each)
    command = ["tune", "easy", "--label", "0", "--label", "90", "--prompts", "plain", "-o", "easy.classifier"]
    assert run(command) == 3
    captured = capsys.readouterr()
    assert "100.0 %" in captured.out  # the report says why
    assert "easy.classifier was not written, for it is not better than zero-shot (100.0% against 100.0%" in captured.err
    assert "--force" in captured.err
    assert "zeroshot calibrate" not in captured.err
    assert run([*command, "--target-precision", "0.9"]) == 3
    assert "zeroshot calibrate finds thresholds for the zero-shot labels" in capsys.readouterr().err
    assert not Path("easy.classifier").exists()
    assert run([*command, "--force"]) == 0
    assert Path("easy.classifier").exists()


def test_results_that_were_corrected(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["classify", "set", "--labels", "labels.txt", "--top-k", "2", "--prompts", "plain", "-o", "r.csv"]) == 0
    rows = list(csv.DictReader(Path("r.csv").read_text().splitlines()))
    for row in rows:
        if row["rank"] == "1":
            row["label"] = Path(row["path"]).parent.name
    rows[0]["label"] = "unknown"
    rows.append({**dict.fromkeys(rows[0], ""), "path": "gone.png", "error": "no such file"})
    with Path("r.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    capsys.readouterr()
    assert tune("r.csv", "--labels", "labels.txt", "--format", "json") == 0
    captured = capsys.readouterr()
    assert captured.err.splitlines()[:3] == [
        "r.csv: 1 row labelled 'unknown' passed over",
        "r.csv: 1 row without a label passed over",
        "r.csv: 28 rows with a rank over 1 passed over",
    ]
    assert "its labels are taken as checked by hand" in captured.err
    assert json.loads(captured.out)["examples"] == 27


def test_several_sources_count_an_image_once(capsys: pytest.CaptureFixture[str]) -> None:
    Path("more.csv").write_text("image,label\nset/1e1/30.png,1e1\nset/8e1/62.png,8e1\n")
    assert tune("set", "more.csv", "--labels", "labels.txt", "--format", "json") == 0
    assert json.loads(capsys.readouterr().out)["examples"] == 28


def test_copies_count_once(capsys: pytest.CaptureFixture[str]) -> None:
    Path("set/1e1/copy.png").write_bytes(Path("set/1e1/30.png").read_bytes())
    for options in ((), ("--no-cache", "--overwrite")):
        assert tune_set("--format", "json", *options) == 0
        captured = capsys.readouterr()
        assert json.loads(captured.out)["examples"] == 28
        assert "1 example left out, with the same content as another" in captured.err


@pytest.mark.parametrize("copied", [True, False])
def test_an_image_with_two_labels(capsys: pytest.CaptureFixture[str], copied: bool) -> None:
    if copied:
        Path("set/8e1/copy.png").write_bytes(Path("set/1e1/30.png").read_bytes())
        assert tune_set() == 3
        words = "set/1e1/30.png and set/8e1/copy.png are the same image, '1e1' in set and '8e1' in set"
    else:
        Path("more.csv").write_text("image,label\nset/1e1/30.png,8e1\n")
        assert tune("set", "more.csv", "--labels", "labels.txt") == 3
        words = "set/1e1/30.png: is '1e1' in set and '8e1' in more.csv line 2"
    assert words in capsys.readouterr().err
    assert not Path("my.classifier").exists()


def test_labels_are_those_of_the_examples_without_any_other(capsys: pytest.CaptureFixture[str]) -> None:
    assert tune("set") == 0
    assert "the labels are the 2 that the examples have" in capsys.readouterr().err
    assert read_classifier(Path("my.classifier")).labels.names == ("1e1", "8e1")


def test_labels_without_an_example_and_with_one(
    capsys: pytest.CaptureFixture[str], draw_angle: Callable[..., Path]
) -> None:
    draw_angle(Path("set/200/200.png"), 200)
    Path("labels.txt").write_text("1e1\n8e1\n200\n250\n")
    assert tune_set() == 0
    captured = capsys.readouterr()
    assert "1 of 4 labels has no example and stays zero-shot: 250" in captured.err
    assert "1 of 4 labels has one example, which is learned from, not judged: 200" in captured.err
    assert "29 for 3 of 4 labels" in captured.out


def test_one_example_a_label(capsys: pytest.CaptureFixture[str]) -> None:
    Path("few.csv").write_text("image,label\nset/1e1/40.png,1e1\nset/8e1/70.png,8e1\n")
    assert tune("few.csv", "--labels", "labels.txt") == 0
    assert "fewer than two labels have two examples" in capsys.readouterr().out
    assert tune("few.csv", "--labels", "labels.txt", "--overwrite", "--target-precision", "0.9") == 3
    assert "--target-precision needs two labels with two examples each" in capsys.readouterr().err


WRONG: list[tuple[str, str, tuple[object, ...], int, str]] = [
    ("more.csv", "image,label\nset/1e1/30.png,8O\n", (), 3, "more.csv line 2: label '8O' is not one of the 2 labels"),
    ("more.csv", "image,label\n", (), 3, "more.csv: has no rows under its header"),
    ("more.csv", "image,label\nset/1e1/30.png,\n", (), 3, "no example to learn from; more.csv: 1 row without a label"),
    ("more.csv", "image,label\nnone.png,1e1\n", (), 3, "none of its 1 images exists"),
    ("labels.txt", "1e1\n", (), 3, "class folder '8e1' is not one of the 1 labels"),
    ("labels.txt", "1e1\n8e1\n", ("-o", "my.npz"), 2, "ending in .safetensors or .classifier"),
    ("my.classifier", "mine", (), 2, "--overwrite"),
    ("labels.txt", "1e1\n8e1\n", ("--frames", "each"), 2, "--frames each has several images for one label"),
    ("labels.txt", "1e1\n8e1\n", ("--target-precision", "95"), 2, "--target-precision 95.0 is not a share"),
    ("labels.txt", "1e1\n8e1\n", ("--target-precision", "nan"), 2, "--target-precision is nan"),
    ("labels.txt", "unknown\n1e1\n8e1\n", ("--target-precision", "0.9"), 3, "'unknown' is reserved"),
    ("labels.txt", "1e1\n8e1\n", ("--method", "magic"), 2, "'magic' is not one of"),
    ("labels.txt", "1e1\n8e1\n", ("--classifier", "none.classifier"), 2, "there is no classifier file none.classifier"),
]


@pytest.mark.parametrize(("name", "content", "options", "code", "words"), WRONG, ids=[case[-1][:30] for case in WRONG])
def test_what_is_wrong_is_one_sentence_and_costs_nothing(
    name: str, content: str, options: tuple[object, ...], code: int, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Path(name).write_text(content)
    examples = "more.csv" if name == "more.csv" else "set"
    labels = () if "--classifier" in options else ("--labels", "labels.txt")
    assert run(["tune", examples, *labels, "-o", "my.classifier", *map(str, options)]) == code
    captured = capsys.readouterr()
    assert words in captured.err
    assert [line[:7] for line in captured.err.splitlines()][-1:] == ["error: "]
    assert captured.out == ""
    assert Path(name).read_text() == content
    assert name == "my.classifier" or not Path("my.classifier").exists()


def test_one_label_is_nothing_to_choose_from(capsys: pytest.CaptureFixture[str]) -> None:
    Path("more.csv").write_text("image,label\nset/1e1/30.png,1e1\nset/1e1/32.png,1e1\n")
    assert tune("more.csv") == 3
    assert "there is nothing to tell apart with one label, '1e1'" in capsys.readouterr().err


def test_an_output_that_is_an_input(capsys: pytest.CaptureFixture[str]) -> None:
    assert tune_set() == 0
    before = Path("my.classifier").read_bytes()
    assert run(["tune", "set", "--classifier", "my.classifier", "-o", "my.classifier", "--overwrite"]) == 2
    assert "it is the file of classifier, which is read" in capsys.readouterr().err
    assert Path("my.classifier").read_bytes() == before


def test_unreadable_examples_are_named_and_end_with_4(capsys: pytest.CaptureFixture[str]) -> None:
    Path("set/1e1/bad.png").write_text("no image")
    assert tune_set("--format", "json") == 4
    captured = capsys.readouterr()
    assert "set/1e1/bad.png: " in captured.err
    assert [each["path"] for each in json.loads(captured.out)["skipped"]] == ["set/1e1/bad.png"]
    assert tune_set("--overwrite", "--ignore-errors") == 0
    Path("bad.csv").write_text("image,label\nset/1e1/bad.png,1e1\n")
    assert tune("bad.csv", "--labels", "labels.txt", "--overwrite") == 3
    assert "none of the 1 examples can be read; the first, set/1e1/bad.png: " in capsys.readouterr().err


def test_embeddings_that_are_no_numbers(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, angle_model: Any
) -> None:
    def encode(model: Any, batch: torch.Tensor) -> torch.Tensor:
        return torch.full((len(batch), 2), float("nan"))

    monkeypatch.setattr(type(angle_model), "encode_pixels", encode)
    assert tune_set() == 3
    assert "are not finite numbers" in capsys.readouterr().err
    assert not Path("my.classifier").exists()


def test_a_second_run_reads_no_image(angles: list[tuple[int, ...]], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("zeroshot_cli.embed.image_cache.SETTLED", 0)
    assert tune_set() == 0
    encoded = len(angles)
    assert encoded > 0
    first = read_classifier(Path("my.classifier")).tuning
    assert tune_set("--overwrite") == 0
    assert len(angles) == encoded
    second = read_classifier(Path("my.classifier")).tuning
    assert first is not None
    assert second is not None
    assert (first.fingerprint, first.figures, first.examples) == (second.fingerprint, second.figures, second.examples)


def test_eval_warns_of_examples_and_says_what_is_answered(
    capsys: pytest.CaptureFixture[str], draw_angle: Callable[..., Path]
) -> None:
    assert tune_set("--target-precision", "0.9") == 0
    draw_angle(Path("test/1e1/31.png"), 31)
    draw_angle(Path("test/8e1/75.png"), 75)
    Path("test/8e1/same.png").write_bytes(Path("set/8e1/62.png").read_bytes())
    for options in ((), ("--no-cache",)):
        capsys.readouterr()
        assert run(["eval", "test", "--classifier", "my.classifier", "-o", "e.json", "--overwrite", *options]) == 0
        warning = "warning: test: 1 of its 3 images are examples that the classifier was tuned on"
        assert warning in capsys.readouterr().err
        found = json.loads(Path("e.json").read_text())
        assert (found["tuned"], found["metrics"]["top1"]) == ("gda", 1.0)
        assert found["metrics"]["answered"] in (0, 1 / 3, 2 / 3, 1)
        assert any(each.startswith(warning) for each in found["assumed"])
    Path("test/8e1/same.png").unlink()
    capsys.readouterr()
    assert run(["eval", "test", "--classifier", "my.classifier"]) == 0
    captured = capsys.readouterr()
    assert "warning" not in captured.err
    assert "tuned (gda)" in captured.out


def test_classify_and_eval_refuse_what_a_tuned_classifier_cannot(capsys: pytest.CaptureFixture[str]) -> None:
    assert tune_set() == 0
    for command in (["classify", "set", "--multi-label"], ["eval", "set", "--multi-label"]):
        capsys.readouterr()
        assert run([*command, "--classifier", "my.classifier"]) == 2
        assert "was tuned to choose one label per image" in capsys.readouterr().err
    for command in (["classify", "set"], ["eval", "set"]):
        assert run([*command, "--classifier", "my.classifier", "--model", "others"]) == 3
        assert "was built with --model angles, not with --model others" in capsys.readouterr().err


def test_a_tuned_classifier_is_tuned_again_from_its_texts(capsys: pytest.CaptureFixture[str]) -> None:
    assert tune_set() == 0
    command = ["tune", "set", "--classifier", "my.classifier", "-o", "again.classifier"]
    assert run(command) == 0
    first, again = (read_classifier(Path(name)) for name in ("my.classifier", "again.classifier"))
    assert first.tuning is not None
    assert again.tuning is not None
    assert torch.equal(first.embeddings, again.embeddings)
    assert first.tuning.fingerprint == again.tuning.fingerprint


def test_resume_knows_how_the_classifier_was_tuned(capsys: pytest.CaptureFixture[str]) -> None:
    assert tune_set() == 0
    assert run(["classify", "set", "--classifier", "my.classifier", "-o", "r.csv"]) == 0
    assert run(["classify", "set", "--classifier", "my.classifier", "-o", "r.csv", "--resume"]) == 0
    Path("half").mkdir()
    for label in ("1e1", "8e1"):
        for path in sorted(Path("set", label).iterdir())[::2]:
            Path("half", label).mkdir(exist_ok=True)
            Path("half", label, path.name).write_bytes(path.read_bytes())
    assert run(["tune", "half", "--classifier", "my.classifier", "-o", "other.classifier", "--force"]) == 0
    capsys.readouterr()
    assert run(["classify", "set", "--classifier", "other.classifier", "-o", "r.csv", "--resume"]) == 2
    assert "tuning was " in capsys.readouterr().err


def test_unknown_images_are_sorted_into_unknown(
    capsys: pytest.CaptureFixture[str], draw_angle: Callable[..., Path]
) -> None:
    for label, degrees in (("1e1", (63, 71)), ("8e1", (49, 57))):  # labelled wrongly
        for each in degrees:
            draw_angle(Path("set", label, f"{each}.png"), each)
    assert tune_set("--target-precision", "0.9") == 0
    assert run(["classify", "set", "--classifier", "my.classifier", "--sort-into", "sorted", "-o", "r.csv"]) == 0
    rejected = [
        row["path"] for row in csv.DictReader(Path("r.csv").read_text().splitlines()) if row["label"] == "unknown"
    ]
    assert rejected
    assert len(list(Path("sorted/unknown").iterdir())) == len(rejected)
    assert "unknown" not in labelled(capsys, "--classifier", "my.classifier", "--min-probability", "0").values()


def test_calibration_changes_no_answer(capsys: pytest.CaptureFixture[str]) -> None:
    assert tune_set("--quiet", "--format", "json", command="calibrate") == 0
    found = json.loads(capsys.readouterr().out)
    wrong = sum(each > 45 for each in LOW)
    assert found["accuracy"]["value"] == pytest.approx((28 - wrong) / 28)
    saved = read_classifier(Path("my.classifier"))
    assert saved.tuning is not None
    assert (saved.tuning.method, saved.tuning.weights, saved.temperature) == ("calibrated", None, found["temperature"])
    before = labelled(capsys, "--labels", "labels.txt", "--prompts", "plain")
    assert labelled(capsys, "--classifier", "my.classifier") == before
    Path("few.csv").write_text("image,label\nset/1e1/40.png,1e1\nset/8e1/70.png,8e1\n")
    assert run(["calibrate", "few.csv", "--labels", "labels.txt", "--prompts", "plain", "-o", "b.classifier"]) == 0
    captured = capsys.readouterr()
    assert "learned from" not in captured.err
    assert "no example" not in captured.err
    assert "calibration error" in captured.out
    assert "wrote b.classifier: 2 labels, calibrated, model angles." in captured.err
    more = ["few.csv", "--labels", "labels.txt", "--label", "50", "--prompts", "plain", "-o", "c.classifier"]
    assert run(["calibrate", *more]) == 0
    assert "1 of 3 labels has no example: 50\n" in capsys.readouterr().err


def test_a_tuned_classifier_is_calibrated_on_other_images(
    capsys: pytest.CaptureFixture[str], draw_angle: Callable[..., Path]
) -> None:
    assert tune_set() == 0
    command = ["calibrate", "--classifier", "my.classifier", "-o", "b.classifier"]
    assert run([*command, "set"]) == 3
    said = capsys.readouterr().err
    assert re.search(r"28 of the 28 examples \((set/1e1/\d+.png, ){3}…\) have taught", said)
    for each in (31, 45, 57, 59, 61, 75):
        draw_angle(Path("others", "1e1" if each < 60 else "8e1", f"{each}.png"), each)
    assert run([*command, "others", "--target-precision", "0.5"]) == 0
    first, second = (read_classifier(Path(name)).tuning for name in ("my.classifier", "b.classifier"))
    assert first is not None
    assert second is not None
    assert first.weights is not None
    assert second.weights is not None
    assert torch.equal(first.weights, second.weights)
    assert (second.method, len(second.examples)) == ("gda", 34)
    assert second.thresholds is not None
    again = ["calibrate", "others", "-o", "c.classifier", "--classifier"]
    assert run([*again, "b.classifier"]) == 3
    assert "calibrate it on others, or the file that it was calibrated from on these" in capsys.readouterr().err
    assert run([*again, "my.classifier"]) == 0


def test_thresholds_of_earlier_scores_are_left_out_and_named(capsys: pytest.CaptureFixture[str]) -> None:
    built = ("--min-score", "0.1", "--min-margin", "0.01", "--min-probability", "0.99", "-o", "built.classifier")
    assert run(["build", "--labels", "labels.txt", "--prompts", "plain", *built]) == 0
    given = ("set", "--classifier", "built.classifier")
    assert run(["tune", *given, "-o", "tuned.classifier", "--target-precision", "0.5"]) == 0
    left = "left out: --min-score 0.1, --min-probability 0.99, --min-margin 0.01 of built.classifier"
    assert left in capsys.readouterr().err
    assert read_classifier(Path("tuned.classifier")).thresholds == {}
    # Calibration leaves cosines as they are.
    assert run(["calibrate", *given, "-o", "first.classifier", "--target-precision", "0.5"]) == 0
    assert "left out: --min-probability 0.99 of built.classifier" in capsys.readouterr().err
    first = read_classifier(Path("first.classifier"))
    assert first.thresholds == {"min_score": 0.1, "min_margin": 0.01}
    assert run(["calibrate", "set", "--classifier", "first.classifier", "-o", "second.classifier"]) == 0
    assert "left out: --target-precision of first.classifier" in capsys.readouterr().err
    second = read_classifier(Path("second.classifier")).tuning
    assert second is not None
    assert second.thresholds is None
    assert "target_precision" not in second.figures
    assert first.tuning is not None
    assert {"target_precision", "answered", "precision", "never_answered"} <= {*first.tuning.figures}


@pytest.mark.parametrize("command", ["tune", "calibrate"])
def test_a_precision_that_no_answer_reaches_is_refused(capsys: pytest.CaptureFixture[str], command: str) -> None:
    assert tune_set("--target-precision", "0.999", command=command) == 3
    words = "--target-precision 0.999 is not reached at any probability by the answers to 28 examples"
    assert words in capsys.readouterr().err
    assert not Path("my.classifier").exists()


def test_pages_say_that_it_was_tuned() -> None:
    assert tune_set() == 0
    assert run(["classify", "set", "--classifier", "my.classifier", "-o", "page.html"]) == 0
    assert "gda, 28 examples" in Path("page.html").read_text()


def test_parquet_and_jsonl_results_are_read(capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--labels", "labels.txt", "--top-k", "2", "--prompts", "plain", "--min-score", "0.93"]
    for name in ("r.parquet", "r.jsonl", "r.tsv"):
        assert run(["classify", "set", *options, "-o", name, "--quiet"]) == 0
        capsys.readouterr()
        assert tune(name, "--labels", "labels.txt", "--format", "json", "--force", "--overwrite") == 0
        captured = capsys.readouterr()
        assert f"{name}: 13 rows labelled 'unknown' passed over" in captured.err
