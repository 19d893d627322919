import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import ANY

import pytest

from zeroshot_cli.cli.app import run


@pytest.fixture(autouse=True)
def bare_prompts(tmp_path: Path, angle_model: Any, monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """The angle model in place of a real one, with the label alone as its prompt; gives what load was asked for."""
    asked: list[dict[str, Any]] = []

    def load(name: str, pretrained: str | None = None, **options: Any) -> Any:
        asked.append({"name": name, "pretrained": pretrained, **options})
        return angle_model

    monkeypatch.setattr("zeroshot_cli.models.load.load", load)
    (tmp_path / "bare.txt").write_text("{}\n")
    return asked


def evaluate(tmp_path: Path, *arguments: object) -> int:
    return run(["eval", *map(str, arguments), "--prompts", str(tmp_path / "bare.txt")])


def test_summary_on_stdout(tmp_path: Path, angle_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert evaluate(tmp_path, angle_folder) == 0
    out, err = capsys.readouterr()
    rows = [" ".join(line.split()) for line in out.splitlines()]
    assert any(row.startswith("top-1 33.33% 9.68% to 70.00%") for row in rows)  # Wilson's, of 2 in 6
    assert any(row.startswith("top-5 83.33% 43.65% to 96.99%") for row in rows)
    assert any(row.startswith("mean per-class recall 30.00% ") for row in rows)
    assert "images 6" in rows
    assert "angles" in out
    assert err.splitlines() == [
        f"warning: {angle_folder}: its classes are the numbers 0 to 300, which mean nothing to a model; give their "
        "names with --labels",
        f"assumed: {angle_folder}: 1 of 6 classes has no image (300); they remain possible answers; "
        f"{angle_folder}: 4 of 6 classes have one image only",
    ]


def test_the_worst_classes_are_listed_first_to_last(
    tmp_path: Path, angle_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    evaluate(tmp_path, angle_folder)
    table = capsys.readouterr().out.split("lowest recall")[1].split("confused")[0].splitlines()[1:]
    rows = [line.split() for line in table if line.strip().endswith("%")]
    assert rows == [["120", "1", "0.00%"], ["180", "1", "0.00%"], ["240", "1", "0.00%"], ["0", "2", "50.00%"]]


def test_json(tmp_path: Path, angle_folder: Path) -> None:
    output = tmp_path / "result.json"
    assert evaluate(tmp_path, angle_folder, "--output", output) == 0
    result = json.loads(output.read_text(encoding="utf-8"))
    assert set(result) >= {
        *("dataset", "n", "model", "pretrained", "prompts", "metrics", "per_class", "skipped", "versions"),
        "fingerprint",
    }
    assert (result["dataset"], result["n"], result["model"], result["pretrained"]) == (
        str(angle_folder),
        6,
        "angles",
        None,
    )
    intervals = result["metrics"].pop("intervals")
    assert set(intervals) == set(result["metrics"]) == {"top1", "top5", "mean_per_class_recall", "ece", "log_loss"}
    assert result["metrics"]["top1"] == pytest.approx(2 / 6)
    assert result["metrics"]["mean_per_class_recall"] == pytest.approx(0.3)
    assert intervals["top1"] == pytest.approx([0.09677, 0.70001], abs=1e-4)
    assert result["per_class"][0] == {"label": "0", "n": 2, "recall": 0.5, "interval": ANY}
    assert result["per_class"][5] == {"label": "300", "n": 0, "recall": None, "interval": None}
    assert (result["task"], result["decoding"]) == ("classification", "exact, at most 178956970 pixels")
    assert (result["seed"], result["published"]) == (0, None)
    assert result["command"].split()[0] == "zeroshot"
    assert result["skipped"] == []
    assert [path.name for path in tmp_path.iterdir() if path.name.endswith(".tmp")] == []


def test_an_output_that_exists_is_refused_before_any_work(
    tmp_path: Path, angle_folder: Path, bare_prompts: list[dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "result.json"
    output.write_text("mine")
    assert evaluate(tmp_path, angle_folder, "--output", output) == 2
    assert "--overwrite" in capsys.readouterr().err
    assert output.read_text() == "mine"
    assert bare_prompts == []
    assert evaluate(tmp_path, angle_folder, "--output", output, "--overwrite") == 0
    assert json.loads(output.read_text())["n"] == 6


@pytest.mark.parametrize(("name", "reason"), [("x.csv", ".json"), ("none/x.json", "create it first")])
def test_an_output_that_cannot_be(
    tmp_path: Path, angle_folder: Path, capsys: pytest.CaptureFixture[str], name: str, reason: str
) -> None:
    assert evaluate(tmp_path, angle_folder, "--output", tmp_path / name) == 2
    assert reason in capsys.readouterr().err


def test_unreadable_images_end_with_4(tmp_path: Path, angle_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bad = angle_folder / "60" / "bad.png"
    bad.write_bytes(b"")
    output = tmp_path / "result.json"
    assert evaluate(tmp_path, angle_folder, "--output", output) == 4
    assert f"{bad}: " in capsys.readouterr().err
    result = json.loads(output.read_text())
    assert result["n"] == 6
    assert [image["path"] for image in result["skipped"]] == [str(bad)]
    assert result["metrics"]["top1"] == pytest.approx(2 / 6)
    assert evaluate(tmp_path, angle_folder, "--ignore-errors") == 0
    capsys.readouterr()
    assert evaluate(tmp_path, angle_folder, "--quiet") == 4
    assert capsys.readouterr().err == ""


def test_an_output_with_a_name_that_is_too_long(
    tmp_path: Path, angle_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert evaluate(tmp_path, angle_folder, "--output", tmp_path / f"{'x' * 300}.json") == 2
    assert "x.json: File name too long" in capsys.readouterr().err


def test_a_path_that_is_not_utf8_survives_in_json(tmp_path: Path, angle_folder: Path) -> None:
    bad = angle_folder / "60" / "\udcff.png"
    bad.write_bytes(b"")
    output = tmp_path / "result.json"
    assert evaluate(tmp_path, angle_folder, "--output", output) == 4
    assert json.loads(output.read_text(encoding="utf-8"))["skipped"][0]["path"] == str(bad)


def test_a_csv_with_a_label_file(tmp_path: Path, angle_folder: Path) -> None:
    (tmp_path / "labels.csv").write_text("label,synonyms,prompt\n0,,0\n180,200,{}\n")
    (tmp_path / "set.csv").write_text("file,class\nangles/0/10.png,0\nangles/240/200.png,200\n")
    output = tmp_path / "result.json"
    code = evaluate(tmp_path, tmp_path / "set.csv", "--labels", tmp_path / "labels.csv", "--output", output)
    assert code == 0
    result = json.loads(output.read_text())
    assert (result["n"], result["metrics"]["top1"]) == (2, 1.0)
    assert [row["label"] for row in result["per_class"]] == ["0", "180"]


def test_fp32_unless_asked_otherwise(tmp_path: Path, angle_folder: Path, bare_prompts: list[dict[str, Any]]) -> None:
    evaluate(tmp_path, angle_folder)
    evaluate(tmp_path, angle_folder, "--precision", "bf16", "--model", "m", "--pretrained", "p", "--offline")
    assert [asked["precision"] for asked in bare_prompts] == ["fp32", "bf16"]
    assert {key: bare_prompts[1][key] for key in ("name", "pretrained", "offline")} == {
        "name": "m",
        "pretrained": "p",
        "offline": True,
    }


@pytest.mark.parametrize(
    ("dataset", "code", "message"),
    [
        ("missing", 2, "no such data set"),
        ("empty", 3, "no class folders"),
        ("wrong.csv", 3, "'picture', 'label'"),
        ("captions.csv", 3, "add --task retrieval for its captions"),
    ],
)
def test_wrong_data_sets(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], dataset: str, code: int, message: str
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "wrong.csv").write_text("picture,label\na.png,dog\n")
    (tmp_path / "captions.csv").write_text("image,caption\na.png,a dog\n")
    assert evaluate(tmp_path, tmp_path / dataset) == code
    err = capsys.readouterr().err
    assert message in err
    assert len(err.splitlines()) == 1


def test_other_files_are_counted_on_stderr(
    tmp_path: Path, angle_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (angle_folder / "60" / "notes.txt").write_text("hello")
    assert evaluate(tmp_path, angle_folder) == 0
    assert "1 file left out: .txt 1" in capsys.readouterr().err
    assert evaluate(tmp_path, angle_folder, "--quiet") == 0
    assert capsys.readouterr().err == ""


def test_several_models_and_prompts_are_compared(
    tmp_path: Path, angle_folder: Path, bare_prompts: list[dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    """The angle model turns labels by what a template adds: "{}0" makes 0, 600, 1200 … of them."""
    (tmp_path / "turned.txt").write_text("{}0\n")
    output = tmp_path / "both.json"
    more = ("--prompts", tmp_path / "turned.txt", "--model", "a", "--model", "b:tag", "--output", output)
    assert evaluate(tmp_path, angle_folder, *more) == 0
    assert [(asked["name"], asked["pretrained"]) for asked in bare_prompts] == [("a", None), ("b", "tag")]
    content = json.loads(output.read_text())
    assert [each["prompts"] for each in content["results"]] == ["turned", "bare", "turned", "bare"]
    assert [(pair["first"], pair["second"]) for pair in content["comparisons"]] == [
        *((0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3))
    ]
    same = content["comparisons"][1]
    assert (same["difference"], same["first_only"], same["second_only"], same["p"]) == (0, 0, 0, 1)
    first, second = (content["results"][place]["metrics"]["top1"] for place in (0, 1))
    assert content["comparisons"][0]["difference"] == pytest.approx(first - second)
    assert "McNemar" in capsys.readouterr().out


def test_several_data_sets_have_a_row_each(
    tmp_path: Path, angle_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "set.csv").write_text("file,class\nangles/0/10.png,0\nangles/240/200.png,180\n")
    output = tmp_path / "two.json"
    assert evaluate(tmp_path, angle_folder, tmp_path / "set.csv", "--output", output) == 0
    content = json.loads(output.read_text())
    assert [each["n"] for each in content["results"]] == [6, 2]
    assert content["comparisons"] == []


def test_predictions_have_a_row_for_every_image(tmp_path: Path, angle_folder: Path) -> None:
    (angle_folder / "60" / "bad.png").write_bytes(b"")
    predictions = tmp_path / "p.csv"
    assert evaluate(tmp_path, angle_folder, "--predictions", predictions) == 4
    with predictions.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(Path(row["path"]).name, row["label"], row["predicted"], row["rank"]) for row in rows] == [
        *(
            ("10.png", "0", "0", "1"),
            ("40.png", "0", "60", "2"),
            ("70.png", "60", "60", "1"),
            ("bad.png", "60", "", ""),
        ),
        *(("250.png", "120", "240", "5"), ("0.png", "180", "0", "6"), ("200.png", "240", "180", "2")),
    ]
    assert rows[3]["error"]


def test_retrieval_of_pairs(tmp_path: Path, draw_angle: Callable[[Path, int], Path]) -> None:
    """Images of 0, 100 and 200 degrees; the texts 10, 110, 130 and 190, of which 130 is the first one's.

    By hand: nearest text of 0 is 10 (its own), of 100 110, of 200 190; nearest image of 130 is 100, then 200.
    """
    for degrees in (0, 100, 200):
        draw_angle(tmp_path / f"{degrees}.png", degrees)
    (tmp_path / "pairs.csv").write_text("image,caption\n0.png,10\n100.png,110\n0.png,130\n200.png,190\n")
    output = tmp_path / "r.json"
    named = ("--caption-column", "caption")  # else captions that are numbers are refused
    assert run(["eval", str(tmp_path / "pairs.csv"), "--task", "retrieval", *named, "--output", str(output)]) == 0
    result = json.loads(output.read_text())
    assert (result["task"], result["n"], result["texts"], result["prompts"]) == ("retrieval", 3, 4, None)
    assert result["metrics"]["image_to_text_recall@1"] == 1
    assert result["metrics"]["text_to_image_recall@1"] == 0.75
    assert result["metrics"]["text_to_image_recall@5"] == 1
    assert result["main_metric"] == "image_to_text_recall@1"


def test_the_model_of_the_environment_may_have_blanks(
    tmp_path: Path, angle_folder: Path, bare_prompts: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ZEROSHOT_MODEL", "my models/first one")
    assert evaluate(tmp_path, angle_folder) == 0
    assert [asked["name"] for asked in bare_prompts] == ["my models/first one"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--model", "a", "--model", "b", "--pretrained", "x"), "--model NAME:TAG"),
        (("--model", "a", "--model", "b", "--predictions", "p.csv"), "2 evaluations"),
        (("--task", "retrieval", "--probe", "train"), "--task retrieval has captions"),
        (("--probe", "train"), "omit --prompts"),
        (("--predictions", "p.json"), "unknown extension"),
        (("--report", "r.pdf"), "html"),
    ],
)
def test_options_that_contradict_are_refused_before_any_work(
    tmp_path: Path,
    angle_folder: Path,
    bare_prompts: list[dict[str, Any]],
    capsys: pytest.CaptureFixture[str],
    options: tuple[str, ...],
    message: str,
) -> None:
    assert evaluate(tmp_path, angle_folder, *options) == 2
    assert message in capsys.readouterr().err
    assert bare_prompts == []


def test_no_data_set_says_what_to_give(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["eval"]) == 2
    assert "zeroshot eval --list" in capsys.readouterr().err


def test_a_subset_narrowed_to_the_classes_that_are_there(
    tmp_path: Path, angle_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """With the labels 350 to 10 besides, an image of 0 at 10 degrees is 10; with those that are there it is 0 again."""
    labels = tmp_path / "labels.csv"
    labels.write_text("label,prompt\n" + "".join(f"{each},{each}\n" for each in (0, 60, 120, 180, 240, 300, 10, 350)))
    output = tmp_path / "result.json"
    assert evaluate(tmp_path, angle_folder, "--labels", labels, "--output", output) == 0
    wide = json.loads(output.read_text())
    assert (
        evaluate(tmp_path, angle_folder, "--labels", labels, "--only-present", "--output", output, "--overwrite") == 0
    )
    narrow = json.loads(output.read_text())
    assert "only the 5 of 8 labels that have images are possible answers" in capsys.readouterr().err
    assert [len(result["per_class"]) for result in (wide, narrow)] == [8, 5]
    assert [result["metrics"]["top1"] for result in (wide, narrow)] == pytest.approx([1 / 6, 2 / 6])


def test_only_present_is_for_labels(
    tmp_path: Path, draw_pairs: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    assert evaluate(tmp_path, draw_pairs(2), "--task", "retrieval", "--only-present") == 2
    assert "has captions instead of labels; omit --only-present" in capsys.readouterr().err
