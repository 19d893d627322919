"""Cells that a spreadsheet would take for formulas: as they are by default, quoted with --excel-safe."""

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from zeroshot_cli.cli.app import run
from zeroshot_cli.results import formats

NAMES = ("+1.png", "-2.png", "=cmd|' !A0.png", "@sum(a1).png", "plain.png")
LABELS = ("--label", "=1+1", "--label", "cat")


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in NAMES:
        Image.new("RGB", (8, 8), "red").save(tmp_path / name)


def rows(path: str) -> list[dict[str, str]]:
    with Path(path).open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.usefixtures("small_model")
def test_text_is_quoted_and_numbers_are_not(classify: Callable[..., Any]) -> None:
    assert classify(*LABELS, "--top-k", 2, "-o", "plain.csv", "--", *NAMES).code == 0
    assert classify(*LABELS, "--top-k", 2, "-o", "safe.csv", "--excel-safe", "--", *NAMES).code == 0
    plain, safe = rows("plain.csv"), rows("safe.csv")
    assert [row["path"] for row in plain[::2]] == list(NAMES)
    assert [row["path"] for row in safe[::2]] == [f"'{name}" for name in NAMES[:4]] + [NAMES[4]]
    assert {row["label"] for row in safe} == {"'=1+1", "cat"}
    assert [(row["score"], row["probability"]) for row in safe] == [(row["score"], row["probability"]) for row in plain]


@pytest.mark.usefixtures("small_model")
def test_an_interrupted_run_is_resumed(classify: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    command = (*LABELS, "--excel-safe", "--batch-size", 1, "-o", "safe.csv", "--no-cache")
    whole = (*LABELS, "--excel-safe", "--batch-size", 1, "-o", "whole.csv", "--no-cache")
    assert classify(*whole, "--", *NAMES).code == 0
    rendered, calls = formats.rendered, list[int]()

    def interrupted(*given: Any, **more: Any) -> bytes:
        calls.append(1)
        if len(calls) == 5:
            raise KeyboardInterrupt
        return rendered(*given, **more)

    with monkeypatch.context() as patch:
        patch.setattr(formats, "rendered", interrupted)
        assert classify(*command, "--", *NAMES).code == 130
    assert 0 < len(rows("safe.csv")) < len(NAMES)
    assert classify(*command, "--resume", "--", *NAMES).code == 0
    assert Path("safe.csv").read_bytes() == Path("whole.csv").read_bytes()
    refused = classify(*LABELS, "--batch-size", 1, "-o", "safe.csv", "--no-cache", "--resume", "--", *NAMES)
    assert (refused.code, "excel_safe" in refused.err) == (2, True)


@pytest.mark.usefixtures("small_model")
def test_sorted_images_are_restored(classify: Callable[..., Any]) -> None:
    command = (*LABELS, "--excel-safe", "--sort-into", "sorted", "--sort-mode", "move", "-o", "safe.csv")
    assert classify(*command, "--", *NAMES).code == 0
    assert not any(Path(name).exists() for name in NAMES)
    assert run(["unsort", "sorted"]) == 0
    assert all(Path(name).is_file() for name in NAMES)


@pytest.mark.usefixtures("small_model")
def test_predictions_of_eval() -> None:
    for label in ("=a", "b"):
        Path("set", label).mkdir(parents=True)
        Image.new("RGB", (8, 8), "red").save(Path("set", label, "@x.png"))
    assert run(["eval", "set", "--predictions", "safe.csv", "--excel-safe"]) == 0
    assert [row["label"] for row in rows("safe.csv")] == ["'=a", "b"]
    assert {row["predicted"] for row in rows("safe.csv")} <= {"'=a", "b"}
