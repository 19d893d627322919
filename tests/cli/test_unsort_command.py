"""`zeroshot unsort`: exit codes, and what is said."""

import os
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from zeroshot_cli.cli.commands.classify import unsort
from zeroshot_cli.errors import ZeroshotError
from zeroshot_cli.filing.sort import SortMode, sort_into
from zeroshot_cli.records import LabelScore, Prediction

app = typer.Typer()
app.command()(unsort)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two images, one of them of a hostile name, moved to out/cat."""
    monkeypatch.chdir(tmp_path)
    names = ["a.jpg", os.fsdecode(b"\xff\n.jpg")]
    for name in names:
        Path(name).write_text(name, errors="surrogateescape")
    results = [Prediction(name, (LabelScore("cat", 0.3, 0.9),)) for name in names]
    sort_into(Path("out"), lambda: iter(results), SortMode.MOVE)
    return tmp_path.resolve()


def test_all_undone(folder: Path) -> None:
    result = CliRunner().invoke(app, ["out/manifest.csv"])
    assert (result.exit_code, result.stdout) == (0, "")
    assert result.stderr == "2 files moved back, 0 copies and links removed.\n"
    assert Path("a.jpg").read_text() == "a.jpg"


def test_what_is_left_is_named_on_one_line_each(folder: Path) -> None:
    Path(os.fsdecode(b"\xff\n.jpg")).write_text("new")
    result = CliRunner().invoke(app, ["out", "--quiet"])
    assert (result.exit_code, result.stdout) == (4, "")
    assert result.stderr == f"{folder}/out/cat/\\xff\\n.jpg: another file is now at {folder}/\\xff\\n.jpg\n"
    result = CliRunner().invoke(app, ["out"])
    assert result.stderr.splitlines()[1:] == ["0 files moved back, 0 copies and links removed, 1 left unchanged."]


@pytest.mark.parametrize(
    ("name", "code", "message"),
    [
        ("nowhere.csv", 2, "there is no manifest nowhere.csv; name the manifest.csv that --sort-into wrote"),
        ("mine.csv", 3, "mine.csv, line 1: not a manifest of sorted images; its columns are not action,label,source"),
    ],
)
def test_errors(folder: Path, name: str, code: int, message: str) -> None:
    Path("mine.csv").write_text("path,label\n")
    result = CliRunner().invoke(app, [name])
    assert isinstance(result.exception, ZeroshotError)
    assert result.exception.exit_code == code
    assert message in str(result.exception)


def test_a_manifest_has_to_be_named(folder: Path) -> None:
    assert CliRunner().invoke(app, []).exit_code == 2
