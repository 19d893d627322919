"""Results as tables of pyarrow and pandas: the values of the CSV, typed."""

import csv
import io
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from zeroshot_cli.errors import UsageError
from zeroshot_cli.records import EvalResult, ImageAnswer, LabelScore, Prediction, SkippedImage
from zeroshot_cli.results import frames
from zeroshot_cli.results.formats import COLUMNS, Format, header_of, rendered
from zeroshot_cli.results.frames import to_arrow, to_pandas

RESULTS = [
    Prediction("a.jpg", (LabelScore("cat", 0.25, 0.75), LabelScore("dog", 0.125, 0.25)), margin=0.125),
    SkippedImage("bad\udcff.jpg", "the file is empty"),
    Prediction("<image 2>", (LabelScore("dog", 0.5, 0.5),), rejected=True),
]
ANSWERS = (
    ImageAnswer("a.jpg", "cat", "dog", False, 2, 0.5, 0.75, 0.25, 0.125),
    ImageAnswer("b.jpg", "dog", error="no such file"),
)
EVALUATION = EvalResult("set", 1, "toy", None, None, {"top1": 0.0}, answers=ANSWERS)


def rows_of(table: Any) -> list[dict[str, Any]]:
    """The rows of either table; what is missing is None."""
    if hasattr(table, "to_pylist"):
        return table.to_pylist()
    found = table.astype(object)
    return found.where(found.notna(), None).to_dict("records")


@pytest.mark.parametrize("to_table", [to_arrow, to_pandas])
def test_rows_are_those_of_the_csv(to_table: Any) -> None:
    text = header_of(Format.CSV) + rendered(RESULTS, Format.CSV)
    expected = list(csv.DictReader(io.StringIO(text.decode("utf-8", "backslashreplace"))))
    found = rows_of(to_table(iter(RESULTS)))
    assert [list(row) for row in found] == [list(COLUMNS)] * 4
    for row, own in zip(expected, found, strict=True):
        for column, value in row.items():
            number = column in ("score", "probability") and value
            assert own[column] == float(value) if number else str(own[column] or "") == value, (column, own)


@pytest.mark.parametrize("to_table", [to_arrow, to_pandas])
def test_an_evaluation_has_a_row_per_image(to_table: Any) -> None:
    first, second = rows_of(to_table(EVALUATION))
    assert first == {
        **{"path": "a.jpg", "label": "cat", "predicted": "dog", "correct": False, "rank": 2, "score": 0.5},
        **{"probability": 0.75, "true_score": 0.25, "true_probability": 0.125, "error": None},
    }
    assert {name: value for name, value in second.items() if value is not None} == {
        "path": "b.jpg",
        "label": "dog",
        "error": "no such file",
    }


@pytest.mark.parametrize("results", [RESULTS, []])
def test_types_do_not_depend_on_the_rows(results: Any) -> None:
    assert [str(each.type) for each in to_arrow(results).schema] == [
        "string",
        "int32",
        "string",
        "float",
        "double",
        "string",
    ]
    assert list(map(str, to_pandas(results).dtypes)) == ["string", "Int32", "string", "float32", "float64", "string"]


def test_what_is_right_can_be_counted() -> None:
    frame = to_pandas(EVALUATION)
    assert frame.correct.mean() == 0
    assert list(frame[frame.error.notna()].path) == ["b.jpg"]


@pytest.mark.parametrize(
    ("to_table", "message"),
    [
        (to_arrow, r"to_arrow needs pyarrow: pip install 'zeroshot-cli\[parquet\]'"),
        (to_pandas, "to_pandas needs pandas: pip install pandas"),
    ],
)
def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch, to_table: Any, message: str) -> None:
    monkeypatch.setattr(frames, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match=message):
        to_table(RESULTS)


def test_neither_package_is_imported_before_it_is_needed(tmp_path: Path) -> None:
    code = "import sys; from zeroshot_cli import to_arrow, to_pandas; print({'pandas', 'pyarrow'} & set(sys.modules))"
    run = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert run.stdout == "set()\n"


def test_pandas_needs_no_pyarrow(tmp_path: Path) -> None:
    code = (
        "import sys; sys.modules['pyarrow'] = None; from zeroshot_cli import to_pandas, SkippedImage; "
        "print(list(to_pandas([SkippedImage('a.jpg', 'no such file')]).error))"
    )
    run = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert run.stdout == "['no such file']\n"
