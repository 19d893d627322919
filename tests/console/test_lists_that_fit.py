"""Lists on narrow terminals: what must be typed is whole, and what is left out is said."""

import io
import json
import re
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import typer

from zeroshot_cli.cli.app import app, run
from zeroshot_cli.datasets.registry import known_sets
from zeroshot_cli.models.catalogue import list_models
from zeroshot_cli.models.recommended import recommended


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def on_terminal(hub: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    """A function that runs a command on a terminal of so many columns; it returns the lines and the notes."""

    def printed(width: int, *arguments: str) -> tuple[list[str], str]:
        terminal = _Terminal()
        with monkeypatch.context() as patch:
            patch.setenv("COLUMNS", str(width))
            patch.setenv("TERM", "xterm")
            patch.setattr(sys, "stdout", terminal)
            assert run([*arguments]) == 0
        lines = re.sub(r"\x1b\[[0-9;]*m", "", terminal.getvalue()).splitlines()
        assert max(map(len, lines)) <= width
        assert "…" not in terminal.getvalue()
        return lines, capsys.readouterr().err

    return printed


def _first_words(lines: list[str]) -> list[str]:
    """Return the first word of each line that does not continue the one before."""
    return [line.split()[0] for line in lines[2:] if not line.startswith(" ")]


@pytest.mark.parametrize("width", [80, 200])
def test_models_are_few_and_their_names_whole(on_terminal: Any, width: int) -> None:
    lines, notes = on_terminal(width, "models", "list")
    assert _first_words(lines) == [model.entry.name for model in recommended()]
    assert "used *: the model of commands without --model" in notes
    assert "models list --all" in notes
    assert ("left out at this width: source, GFLOP" in notes) is (width == 80)


@pytest.mark.parametrize("width", [80, 200])
def test_all_models_have_names_and_tags_whole(on_terminal: Any, width: int) -> None:
    lines, notes = on_terminal(width, "models", "list", "--all")
    rows = [line.split() for line in lines[2:]]
    entries = list_models()
    assert [row[0] for row in rows] == [entry.name for entry in entries]
    assert all((entry.pretrained or entry.name) in row for entry, row in zip(entries, rows, strict=True))
    assert "default *: the weights of a name without a tag" in notes


@pytest.mark.parametrize("width", [80, 200])
def test_data_sets_are_few_or_all_and_their_names_whole(on_terminal: Any, width: int) -> None:
    names = [known.name for known in known_sets()]
    lines, notes = on_terminal(width, "eval", "--list")
    few = _first_words(lines)
    assert 6 <= len(few) <= 10
    assert {*few} < {*names}
    assert "eval --list --all" in notes
    lines, _ = on_terminal(width, "eval", "--list", "--all")
    assert _first_words(lines) == names


@pytest.mark.parametrize("arguments", [("prompts", "list"), ("cache", "info"), ("models", "recommend")])
@pytest.mark.parametrize("width", [80, 200])
def test_other_lists_fit(on_terminal: Any, width: int, arguments: tuple[str, ...]) -> None:
    assert on_terminal(width, *arguments)[0]


def test_pipes_and_json_have_all(hub: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["eval", "--list"]) == 0
    names = [known.name for known in known_sets()]
    assert [line.split("\t")[0] for line in capsys.readouterr().out.splitlines()[1:]] == names
    assert run(["eval", "--list", "--json"]) == 0
    sets = json.loads(capsys.readouterr().out)
    assert [each["name"] for each in sets] == names
    assert sets[0]["images"] == 10_000
    assert run(["models", "list", "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)) == len(list_models())
    assert run(["prompts", "list", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)[0]["name"] == "birdsnap"


@pytest.mark.parametrize("option", ["--json", "--all"])
def test_what_belongs_to_the_list_is_refused_without_it(option: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["eval", "photos", option]) == 2
    assert f"{option} is for --list" in capsys.readouterr().err


def test_a_narrow_terminal_cuts_no_word() -> None:
    from zeroshot_cli.console.terminal import _fitted

    cells = [["name", "size", "what for"], ["a-long-name", "12 MB", "one two three four five"]]
    assert _fitted(cells, 60, ["size"]) == ([0, 1, 2], [11, 5, 23])
    assert _fitted(cells, 38, ["size"]) == ([0, 2], [11, 23])
    assert _fitted(cells, 30, []) == ([0, 1, 2], [11, 4, 23])


def _commands(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    yield path, command
    for name, inner in getattr(command, "commands", {}).items():
        yield from () if inner.hidden else _commands(inner, (*path, name))


def test_help_cuts_no_option_at_80_columns(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    for path, command in _commands(typer.main.get_command(app)):
        assert run([*path, "--help"]) == 0
        shown = capsys.readouterr().out
        assert "…" not in shown, path
        assert max(map(len, shown.splitlines())) <= 80, path
        names = [name for each in command.params for name in each.opts if name.startswith("--") and not each.hidden]
        assert [name for name in names if name not in shown and "completion" not in name] == [], path
