"""CSV, TSV and JSONL, byte for byte, and how their writing fails."""

import csv
import errno
import io
import json
import os
from pathlib import Path

import pytest

from zeroshot_cli.disk import check_output, replacing
from zeroshot_cli.errors import UsageError
from zeroshot_cli.records import Counts, LabelScore, Prediction, Result, SkippedImage
from zeroshot_cli.results.formats import Extension, Format, deliver, extension_of, stream_writer

CAT = Prediction(
    "a.png",
    (LabelScore("cat", 0.25, 0.9), LabelScore("dog, wet", 0.1234567, 1e-9)),
    0.1265433,
    others=(LabelScore("cow", 0.1, 0.0),),
)
ONE = Prediction("b.png", (LabelScore("cat", 1.0, 1.0),), None)
BAD = SkippedImage("c.png", 'not "an" image')
ODD = Prediction("d.png", CAT.predictions, 0.1265433, rejected=True)


def written(form: Format, *items: Result) -> bytes:
    stream = io.BytesIO()
    writer = stream_writer(stream, form)
    writer.write(items)
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


def test_a_rejected_image_is_one_row_with_the_nearest_labels_figures() -> None:
    assert written(Format.CSV, ODD).splitlines()[1:] == [b"d.png,1,unknown,0.250000,0.900000,"]
    line = written(Format.JSONL, ODD).decode()
    assert line.startswith('{"path": "d.png", "label": "unknown", "nearest": "cat", "score": 0.25, "probability": 0.9')
    assert [best["label"] for best in json.loads(line)["predictions"]] == ["cat", "dog, wet"]


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


def test_a_surrogate_that_stands_for_no_byte_is_escaped_and_leaves_the_others_as_they_are() -> None:
    items = [SkippedImage("x\udcff", "a\ud800b"), SkippedImage("y\udcfe", "why")]
    assert written(Format.CSV, *items).splitlines()[1:] == [b"x\xff,,,,,a\\ud800b", b"y\xfe,,,,,why"]


class CountingStream(io.BytesIO):
    writes = flushes = 0

    def write(self, data: object) -> int:  # type: ignore[override]
        self.writes += 1
        return super().write(data)  # type: ignore[arg-type]

    def flush(self) -> None:
        self.flushes += 1


def test_a_block_is_one_write_and_one_flush() -> None:
    stream = CountingStream()
    writer = stream_writer(stream, Format.CSV)
    writer.write([CAT, BAD, ONE])
    writer.write([ODD])
    assert (stream.writes, stream.flushes) == (3, 3)  # the header is a block of its own


@pytest.mark.parametrize(
    ("name", "ending"), [("o.csv", "csv"), ("o.TSV", "tsv"), ("a.b.jsonl", "jsonl"), ("o.Parquet", "parquet")]
)
def test_the_ending_names_the_form(name: str, ending: str) -> None:
    assert extension_of(Path(name)) is Extension(ending)


@pytest.mark.parametrize("name", ["out.xls", "out.table", "out", ".csv", "out.json"])
def test_other_endings_are_refused(name: str) -> None:
    with pytest.raises(
        UsageError, match=rf"cannot write {name}: .* expected one of \.csv, \.tsv, \.jsonl, \.parquet, \.xlsx, \.html"
    ):
        extension_of(Path(name))


def test_an_existing_file_or_dangling_link_is_kept_unless_told_otherwise(tmp_path: Path) -> None:
    path, link = tmp_path / "out.csv", tmp_path / "link.csv"
    path.touch()
    link.symlink_to("nowhere")
    for taken in (path, link):
        with pytest.raises(UsageError, match=r"\.csv already exists; add --overwrite"):
            check_output(taken, overwrite=False)
        check_output(taken, overwrite=True)


def test_a_full_disk_is_one_sentence() -> None:
    with Path("/dev/full").open("wb", buffering=0) as full, pytest.raises(UsageError, match="No space left on device"):
        stream_writer(full, Format.CSV)


def fill_the_disk(path: Path) -> None:
    with replacing(path) as unfinished:
        unfinished.write_text("new")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_replacing_leaves_the_old_file_and_nothing_else_when_it_fails(tmp_path: Path) -> None:
    path = tmp_path / "out.json"
    path.write_text("old")
    with pytest.raises(OSError, match="No space left"):
        fill_the_disk(path)
    assert path.read_text() == "old"
    with replacing(path) as unfinished:
        unfinished.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert [path.name for path in tmp_path.iterdir()] == ["out.json"]


def test_replacing_writes_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("real")
    with replacing(tmp_path / "link") as unfinished:
        unfinished.write_text("new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real").read_text() == "new"


def test_counts_and_their_sentence() -> None:
    stream = io.BytesIO()
    counts = deliver([[CAT, BAD], [ONE]], [stream_writer(stream, Format.CSV)])
    assert counts == Counts(classified=2, unreadable=1)
    assert counts.sentence() == "2 images classified, 1 could not be read."
    assert stream.getvalue() == written(Format.CSV, CAT, BAD, ONE)
    assert Counts(1, 0).sentence() == "1 image classified, 0 could not be read."
    assert counts.exit_code(ignore_errors=False) == 4
    assert counts.exit_code(ignore_errors=True) == 0
    assert Counts(1, 0).exit_code(ignore_errors=False) == 0


def test_counts_of_the_unknown_and_of_an_earlier_run() -> None:
    counts = deliver([[ODD, CAT], [BAD]], [], before=Counts(classified=1, unreadable=0, unknown=1))
    assert counts == Counts(classified=3, unreadable=1, unknown=2)
    assert counts.sentence() == "3 images classified, 2 of them unknown, 1 could not be read."
    assert counts.images == 4
