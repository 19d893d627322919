"""Counts by label and folder, by hand."""

import csv
import io
import json
import os
from pathlib import Path
from typing import Any

import pytest

from zeroshot_cli.records import LabelScore, Prediction, Result, SkippedImage
from zeroshot_cli.results.append_file import AppendFile
from zeroshot_cli.results.formats import Format, header_of, journal_line, rendered
from zeroshot_cli.results.resume import journal_items, keep_whole, scanner_of
from zeroshot_cli.results.summary import Outcome, Tally, write_summary

CAT, DOG = LabelScore("cat", 0.3, 0.75), LabelScore("dog", 0.2, 0.25)
ITEMS: list[Result] = [
    Prediction("a.png", (DOG, CAT), 0.1),
    Prediction("Grüße/b.png", (CAT, DOG), 0.1),
    Prediction("Grüße/c.png", (CAT, DOG), 0.1),
    Prediction("Grüße/d.png", (CAT,), None, rejected=True),
    SkippedImage("Grüße/e.png", "no such file"),
    Prediction("./f.png", (CAT, DOG), 0.1),
    Prediction(os.fsdecode(b"\xff,\n/g.png"), (DOG,), None),
]
ROWS = [  # cat 3, dog 2, then what has no label
    ["cat", "Grüße", "labelled", "2"],
    ["cat", ".", "labelled", "1"],
    ["dog", ".", "labelled", "1"],
    ["dog", os.fsdecode(b"\xff,\n"), "labelled", "1"],
    ["unknown", "Grüße", "unknown", "1"],
    ["", "Grüße", "unreadable", "1"],
]


def written(path: Path, items: list[Result] = ITEMS, **options: Any) -> bytes:
    usual = {"every_label": False, "excel_safe": False, "marked": False}
    write_summary(path, lambda: iter(items), **(usual | options))
    return path.read_bytes()


def rows(data: bytes, delimiter: str = ",") -> list[list[str]]:
    text = data.decode("utf-8", "surrogateescape")
    return list(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter))


@pytest.mark.parametrize(("name", "delimiter"), [("s.csv", ","), ("s.TSV", "\t")])
def test_a_table_has_a_row_for_each_label_in_each_folder(tmp_path: Path, name: str, delimiter: str) -> None:
    found = rows(written(tmp_path / name), delimiter)
    assert found == [["label", "folder", "outcome", "count"], *ROWS]
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_lines_of_json(tmp_path: Path) -> None:
    lines = written(tmp_path / "s.jsonl").decode().splitlines()
    assert [[*map(str, json.loads(line).values())] for line in lines] == ROWS
    assert json.loads(lines[0]) == {"label": "cat", "folder": "Grüße", "outcome": "labelled", "count": 2}
    assert "Grüße" in lines[0]


def test_an_image_counts_for_each_of_several_labels(tmp_path: Path) -> None:
    found = rows(written(tmp_path / "s.csv", every_label=True))
    dog, both = ["dog", os.fsdecode(b"\xff,\n"), "labelled", "1"], [ROWS[4], ROWS[5]]
    dogs = [["dog", ".", "labelled", "2"], ["dog", "Grüße", "labelled", "2"], dog]
    cats = [["cat", ".", "labelled", "2"], ["cat", "Grüße", "labelled", "2"]]
    assert found[1:] == [*dogs, *cats, *both]


def test_formulas_and_the_mark_of_excel(tmp_path: Path) -> None:
    items: list[Result] = [Prediction("=a/b.png", (LabelScore("+1", 0.5, 1.0),), None)]
    assert written(tmp_path / "s.csv", items, excel_safe=True, marked=True) == (
        b"\xef\xbb\xbflabel,folder,outcome,count\n'+1,'=a,labelled,1\n"
    )
    assert written(tmp_path / "s.jsonl", items, excel_safe=True, marked=True).startswith(b'{"label": "+1"')


@pytest.mark.parametrize(("name", "delimiter"), [("s.csv", ","), ("s.jsonl", "")])
def test_labels_that_have_groups_name_them_last(tmp_path: Path, name: str, delimiter: str) -> None:
    crow, bird = LabelScore("crow", 0.3, 0.6, ("animal", "bird")), LabelScore("bird", 0.3, 0.9, ("animal", "bird"))
    rock = LabelScore("rock", 0.3, 0.9)
    items: list[Result] = [
        *(Prediction(f"{place}.png", (best,)) for place, best in enumerate([crow, crow, bird, rock]))
    ]
    items += [Prediction("4.png", (crow,), rejected=True), SkippedImage("5.png", "no such file")]
    text = written(tmp_path / name, items, grouped=True)
    found = rows(text) if delimiter else [[*map(str, json.loads(line).values())] for line in text.splitlines()]
    assert found[1 if delimiter else 0 :] == [
        ["crow", ".", "labelled", "2", "animal/bird"],
        ["bird", ".", "labelled", "1", "animal/bird"],
        ["rock", ".", "labelled", "1", ""],
        ["unknown", ".", "unknown", "1", ""],
        ["", ".", "unreadable", "1", ""],
    ]
    assert written(tmp_path / "empty.csv", [], grouped=True) == b"label,folder,outcome,count,group\n"


def test_no_image_is_a_header(tmp_path: Path) -> None:
    assert written(tmp_path / "s.csv", []) == b"label,folder,outcome,count\n"


def test_labels_and_folders_with_their_images() -> None:
    tally = Tally()
    tally.write(ITEMS[:3])
    tally.write(ITEMS[3:])
    assert tally.images == 7
    assert tally.folders == {".": 2, "Grüße": 4, os.fsdecode(b"\xff,\n"): 1}
    assert tally.by_label() == [
        ("cat", Outcome.LABELLED, 3),
        ("dog", Outcome.LABELLED, 2),
        ("unknown", Outcome.UNKNOWN, 1),
        ("", Outcome.UNREADABLE, 1),
    ]
    assert tally.by_label(".") == [("cat", Outcome.LABELLED, 1), ("dog", Outcome.LABELLED, 1)]


@pytest.mark.parametrize("every_label", [False, True])
@pytest.mark.parametrize("form", [Format.CSV, Format.TSV, Format.JSONL, None])
def test_what_a_killed_run_left_is_counted_alike(tmp_path: Path, form: Format | None, every_label: bool) -> None:
    expected, found, finished = (Tally(every_label=every_label) for _ in range(3))
    data = b"".join(map(journal_line, ITEMS)) if form is None else header_of(form) + rendered(ITEMS, form)
    expected.write(ITEMS[:-1] if form in (Format.CSV, Format.TSV) else ITEMS)  # whose last image may lack ranks
    path = tmp_path / "out"
    path.write_bytes(data)
    file = AppendFile(path)
    scan = journal_items if form is None else scanner_of(form)
    keep_whole([(file, scan)], [item.path for item in ITEMS], found)
    file.close()
    assert (found.counts, found.folders) == (expected.counts, expected.folders)
    expected = Tally(every_label=every_label)
    expected.write(ITEMS)
    scan = journal_items if form is None else scanner_of(form, complete=True)
    for item in scan(io.BytesIO(data), "out"):
        finished.add(os.fsdecode(item.path), item.labels, item.outcome)
    assert finished.counts == expected.counts
