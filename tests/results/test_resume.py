"""What is whole in a file, wherever it ends."""

import csv
import io
import os
from pathlib import Path

import pytest

from zeroshot_cli.errors import UsageError
from zeroshot_cli.records import Counts, LabelScore, Prediction, Result, SkippedImage
from zeroshot_cli.results.append_file import AppendFile
from zeroshot_cli.results.formats import Format, header_of, journal_line, rendered
from zeroshot_cli.results.resume import journal_items, keep_whole, scanner_of

LABELS = (LabelScore('the "cat", 猫\n', 0.25, 0.9), LabelScore("dog", 0.125, 0.1))
PATHS = [os.fsdecode(name) for name in (b"a.png", b'"q\n"\r.png', b"\xff,\n\n.png", "猫\t.png".encode(), b"e", b"f")]
ITEMS: list[Result] = [
    Prediction(PATHS[0], LABELS, 0.125),
    Prediction(PATHS[1], LABELS, 0.125),
    SkippedImage(PATHS[2], "damaged,\n'really'"),
    Prediction(PATHS[3], LABELS, 0.125, rejected=True),
    Prediction(PATHS[4], LABELS[:1]),
    SkippedImage(PATHS[5], "no such file"),
]
BYTES = {form: header_of(form) + rendered(ITEMS, form) for form in (Format.CSV, Format.TSV, Format.JSONL)}


def kept(tmp_path: Path, form: Format, data: bytes, expected: list[str] = PATHS) -> tuple[Counts, bytes]:
    path = tmp_path / f"out.{form}"
    path.write_bytes(data)
    file = AppendFile(path)
    try:
        return keep_whole([(file, scanner_of(form))], expected), path.read_bytes()
    finally:
        file.close()


@pytest.mark.parametrize("form", BYTES)
def test_wherever_a_file_is_cut_the_whole_images_are_kept(form: Format) -> None:
    data = BYTES[form]
    ends = [len(header_of(form) + rendered(ITEMS[:number], form)) for number in range(1, len(ITEMS) + 1)]
    for cut in range(len(data) + 1):
        found = list(scanner_of(form)(io.BytesIO(data[:cut]), "out"))
        whole = [end for end in ends if end <= cut]
        assert [item.end for item in found] == ends[: len(found)]
        assert len(found) in (len(whole), len(whole) - 1)  # the one before the cut may lack ranks
        assert [os.fsdecode(item.path) for item in found] == PATHS[: len(found)]


@pytest.mark.parametrize(("form", "delimiter"), [(Format.CSV, ","), (Format.TSV, "\t")])
def test_the_last_image_of_a_csv_file_is_given_up_because_ranks_may_be_missing(
    tmp_path: Path, form: Format, delimiter: str
) -> None:
    counts, left = kept(tmp_path, form, BYTES[form])
    assert counts == Counts(classified=4, unreadable=1, unknown=1)
    text = io.StringIO(left.decode("utf-8", "surrogateescape"), newline="")
    paths = [row["path"] for row in csv.DictReader(text, delimiter=delimiter)]
    assert list(dict.fromkeys(paths)) == PATHS[:5]


def test_every_line_of_a_jsonl_file_is_an_image(tmp_path: Path) -> None:
    assert kept(tmp_path, Format.JSONL, BYTES[Format.JSONL]) == (Counts(4, 2, unknown=1), BYTES[Format.JSONL])


def test_the_shortest_file_says_how_many_and_the_journal_of_what_kind(tmp_path: Path) -> None:
    contents = {
        "out.csv": BYTES[Format.CSV],
        "out.jsonl": rendered(ITEMS[:3], Format.JSONL) + b'{"path": "',
        "out.run.jsonl": b"".join(map(journal_line, ITEMS)),
    }
    scanners = [scanner_of(Format.CSV), scanner_of(Format.JSONL), journal_items]
    for name, data in contents.items():
        (tmp_path / name).write_bytes(data)
    files = [AppendFile(tmp_path / name) for name in contents]
    assert keep_whole(list(zip(files, scanners, strict=True)), PATHS) == Counts(classified=2, unreadable=1)
    for file in files:
        file.close()
    assert [(tmp_path / name).read_bytes() for name in contents] == [
        header_of(Format.CSV) + rendered(ITEMS[:3], Format.CSV),
        rendered(ITEMS[:3], Format.JSONL),
        b"".join(map(journal_line, ITEMS[:3])),
    ]


def test_a_label_that_is_called_unknown_is_a_label_where_the_journal_says_so(tmp_path: Path) -> None:
    item = Prediction("a.png", (LabelScore("unknown", 0.25, 0.9),))
    (tmp_path / "out.csv").write_bytes(header_of(Format.CSV) + rendered([item, ITEMS[1]], Format.CSV))
    (tmp_path / "out.run.jsonl").write_bytes(journal_line(item))
    files = [AppendFile(tmp_path / "out.csv"), AppendFile(tmp_path / "out.run.jsonl")]
    scans = [scanner_of(Format.CSV), journal_items]
    assert keep_whole(list(zip(files, scans, strict=True)), ["a.png"]) == Counts(classified=1)
    for file in files:
        file.close()


@pytest.mark.parametrize("form", BYTES)
def test_zeros_where_the_power_went_end_what_is_whole(tmp_path: Path, form: Format) -> None:
    start = header_of(form) + rendered(ITEMS[:3], form)
    counts, _ = kept(tmp_path, form, start + bytes(50) + b"\n" + rendered(ITEMS[3:], form))
    assert counts.images == (3 if form is Format.JSONL else 2)


@pytest.mark.parametrize("form", BYTES)
@pytest.mark.parametrize(
    ("expected", "message"),
    [
        (
            ["a.png", "new.png", *PATHS[1:]],
            r"image 2 in .*out\.\w+ is '\"q\\n\"\\r\.png', .* now give 'new\.png'",
        ),
        (PATHS[:2], r"image 3 in .* is '\\udcff,\\n\\n\.png', but the inputs now give no more images"),
        (["./a.png", *PATHS[1:]], r"image 1 in .* is 'a\.png', .*; give the same inputs, or --overwrite"),
    ],
)
def test_other_images_are_refused_and_the_file_stays(
    tmp_path: Path, form: Format, expected: list[str], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        kept(tmp_path, form, BYTES[form] + b"torn", expected)
    assert (tmp_path / f"out.{form}").read_bytes() == BYTES[form] + b"torn"


def test_only_what_is_kept_is_compared(tmp_path: Path) -> None:
    counts, _ = kept(tmp_path, Format.CSV, BYTES[Format.CSV], [*PATHS[:5], "other", "more"])
    assert counts.images == 5


@pytest.mark.parametrize(
    ("form", "data"),
    [
        (Format.CSV, b"my own notes\n"),
        (Format.CSV, b"my own notes"),
        (Format.CSV, b"path\n"),
        (Format.TSV, BYTES[Format.CSV]),
        (Format.JSONL, b'{"a": 1}\n'),
        (Format.JSONL, b"[1]\n"),
        (Format.JSONL, b"my own notes\n"),
    ],
)
def test_a_file_that_is_not_ours_is_refused_and_stays(tmp_path: Path, form: Format, data: bytes) -> None:
    with pytest.raises(UsageError, match=r"out\.\w+ was not written by zeroshot; name another file"):
        kept(tmp_path, form, data)
    assert (tmp_path / f"out.{form}").read_bytes() == data


def test_a_quote_that_is_never_closed_takes_no_more_memory_than_a_record_may(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("zeroshot_cli.results.resume.MAX_RECORD", 100)
    rows = rendered(ITEMS[:1], Format.CSV) + b'"' + b"line\n" * 100 + b'",1,a,,,\n'
    assert kept(tmp_path, Format.CSV, header_of(Format.CSV) + rows)[0].images == 0
