"""`zeroshot prompts`: list, show, lint."""

from pathlib import Path

import pytest
import yaml

from zeroshot_cli.cli.app import run
from zeroshot_cli.models.formats.open_clip import save_model
from zeroshot_cli.models.load import new_model

MODEL = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 16, "patch_size": 8, "width": 16, "layers": 1, "head_width": 8},
    "text_cfg": {"width": 32, "heads": 2, "layers": 1, "context_length": 77, "vocab_size": 49408},
}


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(MODEL))
    model, config, preprocess, _ = new_model(str(tmp_path / "config.yaml"), seed=0)
    save_model(tmp_path / "model", model, config, preprocess)
    monkeypatch.setenv("ZEROSHOT_MODEL", str(tmp_path / "model"))
    monkeypatch.chdir(tmp_path)


def table(text: str) -> list[list[str]]:
    return [line.split("\t") for line in text.splitlines()]


def test_list_has_templates_and_labels(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["prompts", "list"]) == 0
    rows = {row[0]: row[1:] for row in table(capsys.readouterr().out)}
    assert rows["name"] == ["templates", "labels", "description"]
    assert rows["imagenet"][:2] == ["", "1000"]
    assert rows["imagenet-80"][:2] == ["80", ""]
    assert rows["ucf101"] == ["48", "101", "UCF101: actions of people"]
    assert all(row[2] for row in rows.values())
    assert run(["prompts"]) == 0


@pytest.mark.parametrize(
    ("arguments", "lines"),
    [
        (["photo"], ["a photo of a {}."]),
        (["photo", "--labels", "labels.txt"], ["a photo of a cat.", "a photo of a kitten.", "a photo of a dog."]),
        (
            ["plain", "--labels", "stl10"],
            ["airplane", "bird", "car", "cat", "deer", "dog", "horse", "monkey", "ship", "truck"],
        ),
    ],
)
def test_show(arguments: list[str], lines: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    Path("labels.txt").write_text("cat | kitten\ndog\n")
    assert run(["prompts", "show", *arguments]) == 0
    assert capsys.readouterr().out.splitlines() == lines


def test_show_labels_that_have_no_templates_of_their_own(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["prompts", "show", "imagenet"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert (len(lines), lines[0], lines[-1]) == (1000, "tench", "toilet paper")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["imagnet"], "no set 'imagnet'; did you mean imagenet?"),
        (["fodo101"], "no set 'fodo101'; did you mean food101?"),
        (["imagenet-81"], "no set 'imagenet-81'; did you mean imagenet-80?"),
        (["zzz"], "no set 'zzz'; a file needs the extension .yaml or .txt;"),
        (["drawing", "--labels", "stl10"], "no prompt set 'drawing'; did you mean drawings?"),
        (["none.txt"], "cannot read none.txt"),
    ],
)
def test_show_offers_sets_of_both_kinds(arguments: list[str], says: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["prompts", "show", *arguments]) == 2
    assert says in capsys.readouterr().err


def test_lint_finds_one_of_each(capsys: pytest.CaptureFixture[str]) -> None:
    long = " ".join(["word"] * 80)
    lines = ["cat", "a/b/cat.jpg", "42", "CAT", "cat", "", " bird", "so\u200bfa", "a {}", long]
    Path("labels.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    assert run(["prompts", "lint", "labels.txt"]) == 3
    captured = capsys.readouterr()
    rows = table(captured.out)
    assert rows[0] == ["file", "line", "fault", "text", "what"]
    assert [(row[1], row[2]) for row in rows[1:]] == [
        ("2", "path"),
        ("3", "number"),
        ("4", "alike"),
        ("5", "duplicate"),
        ("6", "blank"),
        ("7", "white space"),
        ("8", "non-printing"),
        ("9", "placeholder"),
        ("10", "too long"),
    ]
    assert "is nearly identical to 'cat' on line 1: cosine 1.0000" in rows[3][4]
    assert captured.err == "9 faults in 1 input.\n"


def test_lint_of_good_files_is_silent_on_standard_output(capsys: pytest.CaptureFixture[str]) -> None:
    Path("labels.txt").write_text("cat\ndog\n")
    Path("mine.yaml").write_text("templates: ['my {}', 'your {}']\n")
    assert run(["prompts", "lint", "labels.txt", "mine.yaml", "oxford-pets", "drawings"]) == 0
    assert capsys.readouterr() == ("", "0 faults in 4 inputs.\n")
    assert run(["prompts", "lint", "none.txt"]) == 2
