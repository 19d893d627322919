"""`zeroshot classify --adapt` in every output form, and what it refuses.

Twelve pictures lie about 20 degrees, and twelve from 44 on; the labels are at 0 and 90. So alone, the picture of 44 is
the only one of its group that gets 0.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from zeroshot_cli.cli import app

FIRST = [f"p/{angle:03}.png" for angle in range(14, 26)]
SECOND = [f"p/{angle:03}.png" for angle in range(44, 68, 2)]
SETTING = ["--label", "0", "--label", "90", "--prompts", "plain", "--batch-size", "4"]
FILES = [part for ending in ("csv", "jsonl", "html") for part in ("--output", f"out.{ending}")]


@pytest.fixture(autouse=True)
def _folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, draw_angle: Callable[[Path, int], Path], angles: list[Any]
) -> None:
    monkeypatch.chdir(tmp_path)
    for path in (*FIRST, *SECOND):
        draw_angle(Path(path), int(Path(path).stem))


def test_all_images_together_answer_otherwise_than_each_alone(classify: Callable[..., Any]) -> None:
    alone = classify("p", *SETTING, "--top-k", 2)
    ended = classify("p", *SETTING, "--top-k", 2, "--adapt", *FILES)
    before = {row["path"]: row["label"] for row in alone.rows if row["rank"] == "1"}
    after = {row["path"]: row["label"] for row in ended.rows if row["rank"] == "1"}
    assert before == {path: "0" if path < "p/045.png" else "90" for path in (*FIRST, *SECOND)}
    assert after == {path: "0" if path in FIRST else "90" for path in (*FIRST, *SECOND)}
    lines = ended.err.splitlines()
    assert lines[0] == "--adapt changed 1 of 24 answers"
    assert lines[-1].startswith("24 images classified, 0 could not be read")
    scores = {(row["path"], row["label"]): row["score"] for row in alone.rows}
    assert {(row["path"], row["label"]): row["score"] for row in ended.rows} == scores  # cosines, as ever
    assert Path("out.csv").read_bytes() == ended.out
    (moved,) = (
        item for line in Path("out.jsonl").read_text().splitlines() if (item := json.loads(line))["path"] == "p/044.png"
    )
    assert moved["label"] == "90"
    assert moved["probability"] > 0.5
    assert moved["margin"] < 0  # its lead in cosine is a lag
    record = json.loads(Path("out.csv.run.json").read_text())
    assert record["settings"]["adapt"] is True
    assert '["adapt","changed 1 of 24 answers"]' in Path("out.html").read_text()


def test_it_is_repeatable_and_off_unless_asked_for(classify: Callable[..., Any]) -> None:
    once = classify("p", *SETTING, "--adapt")
    assert classify("p", *SETTING, "--adapt").out == once.out
    assert classify("p", *SETTING, "--output", "plain.csv").out != once.out
    assert json.loads(Path("plain.csv.run.json").read_text())["settings"]["adapt"] is None


def test_thresholds_judge_the_adapted_answer(classify: Callable[..., Any]) -> None:
    rows = {row["path"]: row for row in classify("p", *SETTING, "--adapt").rows}
    least = sorted(float(row["probability"]) for row in rows.values())[5] + 1e-6
    unknown = classify("p", *SETTING, "--adapt", "--min-probability", f"{least:.6f}")
    assert sum(row["label"] == "unknown" for row in unknown.rows) == 6
    lagging = classify("p", *SETTING, "--adapt", "--min-margin", 0)
    assert [row["path"] for row in lagging.rows if row["label"] == "unknown"] == ["p/044.png"]


def test_an_unreadable_image_keeps_its_row_and_its_place(classify: Callable[..., Any]) -> None:
    Path("p/030.png").write_bytes(b"no picture")
    ended = classify("p", *SETTING, "--adapt", "--sort-into", "sorted")
    assert ended.code == 4
    assert [row["path"] for row in ended.rows] == sorted([*FIRST, *SECOND, "p/030.png"])
    assert ended.rows[len(FIRST)]["error"]
    assert len(list(Path("sorted/90").iterdir())) == len(SECOND)


def test_a_classifier_file_is_adapted_as_its_labels_are(classify: Callable[..., Any]) -> None:
    assert app.run(["build", *SETTING[:6], "--output", "two.safetensors"]) == 0
    assert (
        classify("p", "--classifier", "two.safetensors", "--batch-size", 4, "--adapt").out
        == classify("p", *SETTING, "--adapt").out
    )


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ([*SETTING, "--resume", "--output", "out.csv"], "--adapt looks at all images together, and --resume"),
        ([*SETTING, "--multi-label"], "--multi-label judges each alone; omit one of them"),
        (["--label", "cat"], "there is only one; omit it, or give more labels"),
    ],
)
def test_what_makes_no_sense_is_refused_in_a_sentence(
    options: list[str], says: str, classify: Callable[..., Any]
) -> None:
    ended = classify("p", "--adapt", *options)
    assert (ended.code, ended.out) == (2, b"")
    assert says in ended.err
    assert not Path("out.csv").exists()


def test_a_handful_of_images_is_refused(classify: Callable[..., Any]) -> None:
    ended = classify(*FIRST, *SETTING, "--adapt")
    assert (ended.code, ended.out) == (2, b"")
    assert "at least 16, and this run has 12 images; omit --adapt" in ended.err
