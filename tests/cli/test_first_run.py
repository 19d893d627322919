"""What a newcomer meets: the first steps, names that are nearly right, no labels, and where help is."""

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import typer
from PIL import Image

from zeroshot_cli.cli import app as entry
from zeroshot_cli.cli.mistyped import OTHER_WORDS


def commands_in(text: str) -> list[list[str]]:
    return [shlex.split(line)[1:] for line in re.findall(r"^  (zeroshot .*?)(?:   .*)?$", text, re.MULTILINE)]


def refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """The sentence of a command line that exits with 2."""
    assert entry.run(arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    return captured.err


# zeroshot alone


def test_the_first_command_works_at_once_and_offline(tmp_path: Path) -> None:
    Image.new("RGB", (80, 80), "red").save(tmp_path / "my cat.png")
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HUB_CACHE": str(tmp_path / "hub")}
    environment = {name: value for name, value in environment.items() if name != "ZEROSHOT_MODEL"}
    run = {"cwd": tmp_path, "env": environment, "capture_output": True, "text": True, "timeout": 120}
    said = subprocess.run([sys.executable, "-m", "zeroshot_cli"], **run).stdout
    first = commands_in(said)[0]
    assert "my cat.png" in first
    done = subprocess.run([sys.executable, "-m", "zeroshot_cli", *first], **run)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[1].split(",")[:3] in (["my cat.png", "1", "cat"], ["my cat.png", "1", "dog"])


def test_every_command_of_the_first_steps_is_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert entry.run([]) == 0
    commands = commands_in(capsys.readouterr().out)
    assert commands[0][:2] == ["classify", "photo.jpg"]  # none is here, so that one is as good as another
    assert {command[0] for command in commands} >= {"classify", "prompts", "models", "doctor", "--help"}
    root = typer.main.get_command(entry.app)
    for command in commands:
        options = {name for parameter in root.params for name in parameter.opts} | {"--help"}
        assert command[0] in root.commands or command[0] in options
    assert entry.run(["prompts", "list"]) == 0
    assert entry.run(["models", "list"]) == 0


def test_a_folder_that_cannot_be_read_changes_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def deny() -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("zeroshot_cli.cli.app.os.scandir", deny)
    assert entry.run([]) == 0
    assert "zeroshot classify photo.jpg --label cat" in capsys.readouterr().out


# Names that are nearly right


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["clasify", "x"], "No such command 'clasify'; did you mean classify? zeroshot --help"),
        (["Train"], "'Train'; did you mean train?"),
        (["models", "dwonload", "x"], "'dwonload'; did you mean download? zeroshot models --help"),
        (["prompts", "lst"], "'lst'; did you mean list? zeroshot prompts --help"),
        (["cache", "cler"], "'cler'; did you mean clear? zeroshot cache --help"),
        (["download", "x"], "'download'; did you mean models download?"),
        (["lint", "x"], "'lint'; did you mean prompts lint?"),
        (["show", "x"], "'show'; did you mean models show or prompts show?"),
        (["predict", "x"], "'predict'; did you mean classify?"),
        (["classify", "x", "--lable", "y"], "No such option --lable; did you mean --label? zeroshot classify --help"),
        (["classify", "x", "--lab", "y"], "--lab; did you mean --label or --labels?"),
        (["classify", "x", "-labels", "y"], "-labels; did you mean --labels?"),
        (["classify", "x", "--no-cahce"], "--no-cahce; did you mean --no-cache?"),
        (["train", "--dta", "x"], "--dta; did you mean --data?"),
        (["models", "export", "x", "--too", "y"], "--too; did you mean --to?"),
        (["prompts", "show", "x", "--lables", "y"], "--lables; did you mean --labels?"),
        (["cache", "clear", "--image"], "--image; did you mean --images?"),
        (
            ["--label", "cat", "classify", "x"],
            "--label before the command; put it after, as in zeroshot classify ...",
        ),
        (["classify", "x", "--precision", "fp61"], "'fp61' is not one of"),
        (["classify", "x", "--precision", "fp61"], "; did you mean fp16? zeroshot classify --help"),
        (["classify", "x", "--precision", "BF16"], "; did you mean bf16?"),
        (["classify", "x", "--format", "jsno"], "; did you mean jsonl?"),
        (["models", "list", "--format", "jso"], "; did you mean json or jsonl?"),
    ],
)
def test_what_is_nearly_right_is_suggested(
    arguments: list[str], expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert expected in refused(arguments, capsys)


@pytest.mark.parametrize(
    "arguments", [["frobnicate"], ["classify", "x", "--xyzzy"], ["classify", "x", "--precision", "many"]]
)
def test_what_is_far_from_everything_is_not(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    sentence = refused(arguments, capsys)
    assert "did you mean" not in sentence
    assert sentence.rstrip().endswith("--help shows what there is")


def test_hidden_commands_are_not_suggested(capsys: pytest.CaptureFixture[str]) -> None:
    assert "did you mean evaluate" not in refused(["evaluat"], capsys)


def test_words_of_other_tools_lead_to_what_is_there() -> None:
    root = typer.main.get_command(entry.app)
    options = {name for parameter in root.params for name in parameter.opts}
    assert set(OTHER_WORDS.values()) <= {*root.commands, *options, "--help"}
    assert not set(OTHER_WORDS) & set(root.commands)


def test_a_file_of_that_name_does_not_turn_an_inner_command_into_an_image(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "prompts").mkdir()
    assert "did you mean list?" in refused(["prompts", "lst"], capsys)
    (tmp_path / "my photo.jpg").touch()
    assert "zeroshot classify 'my photo.jpg' --label" in refused(["my photo.jpg"], capsys)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--labels", "imagnet"], "did you mean imagenet?"),
        (["--label", "a", "--prompts", "imagenet-8"], "did you mean imagenet-80?"),
        (["--label", "a", "--model", "tinny"], "did you mean tiny?"),
    ],
)
def test_names_of_sets_and_models_are_suggested(
    arguments: list[str], expected: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    assert expected in refused(["classify", str(tmp_path), *arguments], capsys)


# No labels


def test_without_labels_the_sentence_names_the_three_ways(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sentence = refused(["classify", str(tmp_path)], capsys)
    assert sentence.startswith("error: no labels to choose from; ")
    assert all(way in sentence for way in ("--label TEXT", "--labels FILE", "--labels imagenet"))


@pytest.mark.usefixtures("small_model")
@pytest.mark.parametrize(
    "arguments",
    [
        ["{photos}", "--top-k", "2"],
        ["{photos}", "--format", "csv", "-q"],
        ["-q", "--", "{photos}"],
        ["{photos}", "rose", "oak tree"],
    ],
)
def test_the_command_that_it_gives_works_as_it_is(
    arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, classify: Callable[..., Any]
) -> None:
    monkeypatch.chdir(tmp_path)
    photos = Path("my photos")
    photos.mkdir()
    Image.new("RGB", (20, 20), "blue").save(photos / "a.png")
    given = [argument.format(photos=photos) for argument in arguments]
    ended = classify(*given)
    assert ended.code == 2
    command = shlex.split(ended.err.rstrip("\n").partition("for example: ")[2])
    assert command[:2] == ["zeroshot", "classify"]
    labels = {command[place + 1] for place, word in enumerate(command) if word == "--label"}
    assert labels == ({"rose", "oak tree"} if "rose" in arguments else {"cat", "dog"})
    assert {*given} - {"rose", "oak tree"} <= {*command}
    again = classify(*command[2:])
    assert again.code == 0, again.err
    assert {row["path"] for row in again.rows} == {str(photos / "a.png")}
    assert {row["label"] for row in again.rows} <= labels


@pytest.mark.parametrize(
    ("arguments", "example"),
    [
        (["a.png", "cat", "tiny", "--model", "tiny"], "zeroshot classify FOLDER --label cat --label tiny"),
        (["a.png", "classify"], "zeroshot classify FOLDER --label classify"),
        (["a.png", "rose", "rose"], "zeroshot classify a.png --label rose"),
        (["rose", "oak"], "zeroshot classify FOLDER --label rose --label oak"),
        (["photos"], "zeroshot classify photos --label cat --label dog"),
    ],
)
def test_only_words_that_are_surely_labels_are_moved(
    arguments: list[str],
    example: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.png").touch()
    assert refused(["classify", *arguments], capsys).rstrip().partition("for example: ")[2] == example


def test_a_thousand_paths_are_not_repeated(capsys: pytest.CaptureFixture[str]) -> None:
    sentence = refused(["classify", *(f"photos/{number}.jpg" for number in range(1000))], capsys)
    assert sentence.rstrip().endswith("zeroshot classify FOLDER --label cat --label dog")


# Where help is


@pytest.mark.parametrize(
    ("arguments", "code", "see"),
    [
        (["classify", "{folder}"], 2, "zeroshot classify --help"),
        (["classify", "{folder}", "--labels", "{folder}/empty.txt"], 3, "zeroshot prompts lint FILE"),
        (["classify", "{folder}", "--label", "a", "--prompts", "{folder}/empty.yaml"], 3, "zeroshot prompts lint FILE"),
        (["models", "download", "ViT-B-32", "--offline"], 5, "zeroshot doctor"),
    ],
)
def test_on_a_terminal_an_error_names_the_command_that_helps(
    arguments: list[str],
    code: int,
    see: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    (tmp_path / "empty.txt").touch()
    (tmp_path / "empty.yaml").touch()
    assert entry.run([argument.format(folder=tmp_path) for argument in arguments]) == code
    first, second = capsys.readouterr().err.splitlines()
    assert first.startswith("error: ")
    assert second == f"see: {see}"
    words = [word for word in see.split()[1:] if word != "FILE"]
    assert entry.run([word for word in words if word != "--help"] + ["--help"]) == 0


@pytest.mark.parametrize(
    ("arguments", "named"),
    [(["clasify"], "zeroshot --help"), (["models", "show", "frobnicate"], "zeroshot models list")],
)
def test_a_sentence_that_says_where_help_is_says_it_once(
    arguments: list[str], named: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    assert entry.run(arguments) == 2
    err = capsys.readouterr().err
    assert err.splitlines()[0].count(named) == 1
    assert err.count(named) == 1
