"""CSV, TSV and JSONL, byte for byte."""

import csv
import io
import json
import os
from pathlib import Path

import pytest

from zeroshot_cli.errors import UsageError
from zeroshot_cli.records import LabelScore, Prediction, SkippedImage
from zeroshot_cli.report.deliver import Counts, deliver
from zeroshot_cli.report.files import Format, Result, check_outputs, open_writer

CAT = Prediction("a.png", (LabelScore("cat", 0.25, 0.9), LabelScore("dog, wet", 0.1234567, 1e-9)), 0.1265433)
ONE = Prediction("b.png", (LabelScore("cat", 1.0, 1.0),), None)
BAD = SkippedImage("c.png", 'not "an" image')


def written(form: Format, *items: Result) -> bytes:
    stream = io.BytesIO()
    writer = open_writer(stream, form)
    for item in items:
        writer.write(item)
    writer.close()
    return stream.getvalue()


def test_csv_bytes() -> None:
    assert written(Format.CSV, CAT, BAD, ONE) == (
        b"path,rank,label,score,probability,error\n"
        b"a.png,1,cat,0.250000,0.900000,\n"
        b'a.png,2,"dog, wet",0.123457,0.000000,\n'
        b'c.png,,,,,"not ""an"" image"\n'
        b"b.png,1,cat,1.000000,1.000000,\n"
    )


def test_tsv_bytes() -> None:
    assert written(Format.TSV, CAT) == (
        b"path\trank\tlabel\tscore\tprobability\terror\n"
        b"a.png\t1\tcat\t0.250000\t0.900000\t\n"
        b"a.png\t2\tdog, wet\t0.123457\t0.000000\t\n"
    )


def test_jsonl_objects() -> None:
    lines = written(Format.JSONL, CAT, BAD, ONE).splitlines()
    assert [json.loads(line) for line in lines] == [
        {
            "path": "a.png",
            "label": "cat",
            "score": 0.25,
            "probability": 0.9,
            "margin": 0.126543,
            "predictions": [
                {"label": "cat", "score": 0.25, "probability": 0.9},
                {"label": "dog, wet", "score": 0.123457, "probability": 1e-09},
            ],
        },
        {"path": "c.png", "error": 'not "an" image'},
        {
            "path": "b.png",
            "label": "cat",
            "score": 1.0,
            "probability": 1.0,
            "margin": None,
            "predictions": [{"label": "cat", "score": 1.0, "probability": 1.0}],
        },
    ]


NAMES = [
    b"plain.png",
    b"comma, quote \" and 'apostrophe'.png",
    b"new\nline.png",
    b"carriage\rreturn.png",
    b"both\r\n.png",
    b"tab\t.png",
    b"not utf-8 \xff\xfe.png",
    "\u2028 \u0085 猫 🐈.png".encode(),
    b"[red]markup[/].png",
    b"=1+1.png",
    b" spaces \\ .png",
]


@pytest.mark.parametrize(("form", "delimiter"), [(Format.CSV, ","), (Format.TSV, "\t")])
def test_every_path_comes_back_from_pythons_csv_reader_byte_for_byte(form: Format, delimiter: str) -> None:
    paths = [os.fsdecode(name) for name in NAMES]
    data = written(form, *(Prediction(path, ONE.predictions) for path in paths))
    text = io.StringIO(data.decode("utf-8", "surrogateescape"), newline="")
    rows = list(csv.DictReader(text, delimiter=delimiter))
    assert [os.fsencode(row["path"]) for row in rows] == NAMES
    assert {row["probability"] for row in rows} == {"1.000000"}


def test_every_path_comes_back_from_json_byte_for_byte_and_the_file_is_utf_8() -> None:
    paths = [os.fsdecode(name) for name in NAMES]
    text = written(Format.JSONL, *(SkippedImage(path, "why") for path in paths)).decode("utf-8")
    assert [os.fsencode(json.loads(line)["path"]) for line in text.removesuffix("\n").split("\n")] == NAMES
    assert "not utf-8 \\udcff\\udcfe.png" in text
    assert "猫" in text


def test_a_surrogate_that_stands_for_no_byte_is_escaped() -> None:
    assert b"a\\ud800b" in written(Format.CSV, SkippedImage("x", "a\ud800b"))


def test_a_file_is_valid_after_every_image(tmp_path: Path) -> None:
    path = tmp_path / "out.csv"
    writer = open_writer(path)
    assert path.read_bytes() == b"path,rank,label,score,probability,error\n"
    writer.write(ONE)
    assert path.read_bytes().endswith(b"b.png,1,cat,1.000000,1.000000,\n")
    writer.write(BAD)
    assert path.read_bytes().count(b"\n") == 3
    writer.close()


@pytest.mark.parametrize("name", ["out.csv", "out.tsv", "out.jsonl", "OUT.JSONL"])
def test_the_ending_names_the_form(tmp_path: Path, name: str) -> None:
    writer = open_writer(tmp_path / name)
    writer.write(CAT)
    writer.close()
    assert (tmp_path / name).read_bytes() == written(Format(name.lower().split(".")[1]), CAT)


def test_an_existing_file_is_kept_unless_told_otherwise(tmp_path: Path) -> None:
    path = tmp_path / "out.csv"
    path.write_text("precious")
    with pytest.raises(UsageError, match=r"out\.csv exists already; add --overwrite"):
        open_writer(path)
    with pytest.raises(UsageError, match="--overwrite"):
        check_outputs([path], overwrite=False)
    assert path.read_text() == "precious"
    open_writer(path, overwrite=True).close()
    assert path.read_text() == "path,rank,label,score,probability,error\n"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("out.xlsx", r"'\.xlsx' is none of \.csv, \.tsv, \.jsonl"),
        ("out.table", r"'\.table' is none of"),
        ("out", r"'' is none of"),
        ("missing/out.csv", r"there is no folder .*missing"),
        ("folder.csv", r"it is a folder"),
        ("x" * 300 + ".csv", r"x\.csv: File name too long"),
    ],
)
def test_outputs_that_cannot_be_are_refused_before_the_work(tmp_path: Path, name: str, message: str) -> None:
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(UsageError, match=message):
        check_outputs([tmp_path / name], overwrite=True)


def test_one_file_twice_is_refused(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    with pytest.raises(UsageError, match="given twice"):
        check_outputs([tmp_path / "a.csv", tmp_path / "sub" / ".." / "a.csv"], overwrite=False)


def test_a_full_disk_is_one_sentence() -> None:
    with Path("/dev/full").open("wb", buffering=0) as full, pytest.raises(UsageError, match="No space left on device"):
        open_writer(full, Format.CSV)


def test_counts_and_their_sentence() -> None:
    stream = io.BytesIO()
    counts = deliver([CAT, BAD, ONE], [open_writer(stream, Format.CSV)], ignored=4)
    assert counts == Counts(classified=2, unreadable=1, ignored=4)
    assert counts.sentence() == "2 images classified, 1 could not be read, 4 other files passed over."
    assert Counts(1, 0).sentence() == "1 image classified, 0 could not be read."
    assert counts.exit_code(ignore_errors=False) == 4
    assert counts.exit_code(ignore_errors=True) == 0
    assert Counts(1, 0).exit_code(ignore_errors=False) == 0
