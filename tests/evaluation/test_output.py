import csv
import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from zeroshot_cli.errors import UsageError
from zeroshot_cli.evaluation.answers import Answers
from zeroshot_cli.evaluation.output import COLUMNS, check_predictions_target, write_predictions
from zeroshot_cli.records import SkippedImage

STRANGE = 'a\udcff, "b"\n\tc.jpg'  # a byte that is not UTF-8, a comma, quotes, a line break, a tab


@pytest.fixture
def answers() -> Answers:
    """Three images of "cat" and "dog, or wolf": right, unreadable, wrong."""
    return Answers(
        labels=("cat", "dog, or wolf"),
        items=("a.jpg", SkippedImage("b.jpg", "the file is empty"), STRANGE),
        item_targets=np.array([0, 1, 1]),
        targets=np.array([0, 1]),
        ranks=np.array([0, 1]),
        best=np.array([[0, 1], [0, 1]]),
        scores=np.array([[0.5, 0.25], [0.75, 0.5]], dtype=np.float32),
        probabilities=np.array([[0.75, 0.25], [0.875, 0.125]]),
        true_scores=np.array([0.5, 0.5], dtype=np.float32),
        log_likelihoods=np.log(np.array([0.75, 0.125])),
    )


EXPECTED = [
    ("a.jpg", "cat", "cat", True, 1, 0.5, 0.75, 0.5, 0.75, None),
    ("b.jpg", "dog, or wolf", None, None, None, None, None, None, None, "the file is empty"),
    (STRANGE, "dog, or wolf", "cat", False, 2, 0.75, 0.875, 0.5, 0.125, None),
]


def text_of(value: object) -> str:
    return "" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


@pytest.mark.parametrize(("name", "delimiter"), [("p.csv", ","), ("p.TSV", "\t")])
def test_rows_of_text(tmp_path: Path, answers: Answers, name: str, delimiter: str) -> None:
    write_predictions(answers, tmp_path / name)
    with (tmp_path / name).open(encoding="utf-8", errors="surrogateescape", newline="") as file:
        header, *rows = csv.reader(file, delimiter=delimiter)
    assert tuple(header) == COLUMNS
    assert rows[:2] == [[text_of(value) for value in row] for row in EXPECTED[:2]]
    assert rows[2][:8] == [text_of(value) for value in EXPECTED[2][:8]]
    assert float(rows[2][8]) == pytest.approx(0.125)
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_lines_of_json(tmp_path: Path, answers: Answers) -> None:
    write_predictions(answers, tmp_path / "p.jsonl")
    rows = [json.loads(line) for line in (tmp_path / "p.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [tuple(row) for row in rows] == [COLUMNS] * 3
    assert rows[0] == pytest.approx(dict(zip(COLUMNS, EXPECTED[0], strict=True)))
    assert rows[1] == dict(zip(COLUMNS, EXPECTED[1], strict=True))
    assert rows[2]["path"] == STRANGE


def test_parquet(tmp_path: Path, answers: Answers) -> None:
    import pyarrow.parquet as pq

    write_predictions(answers, tmp_path / "p.parquet")
    table = pq.read_table(tmp_path / "p.parquet")
    assert tuple(table.column_names) == COLUMNS
    assert table.column("correct").to_pylist() == [True, None, False]
    assert table.column("rank").to_pylist() == [1, None, 2]
    assert table.column("path").to_pylist()[2] == STRANGE.replace("\udcff", "\\xff")
    assert table.column("true_probability").to_pylist() == pytest.approx([0.75, None, 0.125])


@pytest.mark.parametrize("name", ["p.csv", "p.jsonl", "p.parquet"])
def test_groups_of_both_labels_come_last(tmp_path: Path, answers: Answers, name: str) -> None:
    import pyarrow.parquet as pq

    write_predictions(replace(answers, groups=("pet", "pet/large")), tmp_path / name)
    if name == "p.parquet":
        rows = pq.read_table(tmp_path / name).to_pylist()
    else:
        text = (tmp_path / name).read_bytes().decode("utf-8", "replace")
        rows = [*csv.DictReader(io.StringIO(text))] if name == "p.csv" else [*map(json.loads, text.splitlines())]
    assert [[*row][-2:] for row in rows] == [["group", "predicted_group"]] * 3
    assert [row["group"] for row in rows] == ["pet", "pet/large", "pet/large"]
    assert [row["predicted_group"] or None for row in rows] == ["pet", None, "pet"]


@pytest.mark.parametrize("name", ["p.json", "p", "p.html", "there.csv", "no/p.csv", "folder.csv"])
def test_what_cannot_be_written_is_refused_before_any_work(tmp_path: Path, name: str) -> None:
    (tmp_path / "there.csv").write_text("mine")
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(UsageError, match=r"p|there|folder"):
        check_predictions_target(tmp_path / name, overwrite=False)
    assert (tmp_path / "there.csv").read_text() == "mine"


def test_a_file_may_be_replaced(tmp_path: Path, answers: Answers) -> None:
    (tmp_path / "p.csv").write_text("old")
    check_predictions_target(tmp_path / "p.csv", overwrite=True)
    write_predictions(answers, tmp_path / "p.csv")
    assert (tmp_path / "p.csv").read_text(encoding="utf-8", errors="surrogateescape").startswith("path,label,")
