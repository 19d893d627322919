import json
from pathlib import Path
from typing import Any

import pytest

from zeroshot_cli.cli.app import run


@pytest.fixture(autouse=True)
def bare_prompts(tmp_path: Path, angle_model: Any, monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """The angle model in place of a real one, with the label alone as its prompt; gives what load was asked for."""
    asked: list[dict[str, Any]] = []

    def load(name: str, pretrained: str | None = None, **options: Any) -> Any:
        asked.append({"name": name, "pretrained": pretrained, **options})
        return angle_model

    monkeypatch.setattr("zeroshot_cli.weights.load.load", load)
    (tmp_path / "bare.txt").write_text("{}\n")
    return asked


def evaluate(tmp_path: Path, *arguments: object) -> int:
    return run(["eval", *map(str, arguments), "--prompts", str(tmp_path / "bare.txt")])


def test_summary_on_stdout(tmp_path: Path, angle_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert evaluate(tmp_path, angle_folder) == 0
    out, err = capsys.readouterr()
    figures = dict(line.rsplit(maxsplit=1) for line in out.splitlines() if line.endswith("%") or "images  " in line)
    assert figures["top-1"] == "33.33%"
    assert figures["top-5"] == "83.33%"
    assert figures["mean per-class recall"] == "30.00%"
    assert "angles" in out
    assert err == ""


def test_the_worst_classes_are_listed_first_to_last(
    tmp_path: Path, angle_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    evaluate(tmp_path, angle_folder)
    table = capsys.readouterr().out.split("lowest recall")[1].splitlines()[1:]
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
    assert result["metrics"] == pytest.approx({"top1": 2 / 6, "top5": 5 / 6, "mean_per_class_recall": 0.3})
    assert result["per_class"][0] == {"label": "0", "n": 2, "recall": 0.5}
    assert result["per_class"][5] == {"label": "300", "n": 0, "recall": None}
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


@pytest.mark.parametrize(("name", "reason"), [("x.csv", ".json"), ("none/x.json", "does not exist")])
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
    (tmp_path / "labels.txt").write_text("0\n180 | 200\n")
    (tmp_path / "set.csv").write_text("file,class\nangles/0/10.png,0\nangles/240/200.png,200\n")
    output = tmp_path / "result.json"
    code = evaluate(tmp_path, tmp_path / "set.csv", "--labels", tmp_path / "labels.txt", "--output", output)
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
    [("missing", 2, "no such data set"), ("empty", 3, "no class folders"), ("wrong.csv", 3, "'picture', 'label'")],
)
def test_wrong_data_sets(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], dataset: str, code: int, message: str
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "wrong.csv").write_text("picture,label\na.png,dog\n")
    assert evaluate(tmp_path, tmp_path / dataset) == code
    err = capsys.readouterr().err
    assert message in err
    assert len(err.splitlines()) == 1


def test_other_files_are_counted_on_stderr(
    tmp_path: Path, angle_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (angle_folder / "60" / "notes.txt").write_text("hello")
    assert evaluate(tmp_path, angle_folder) == 0
    assert "passed over 1 file that is no image in a class folder" in capsys.readouterr().err
    assert evaluate(tmp_path, angle_folder, "--quiet") == 0
    assert capsys.readouterr().err == ""
