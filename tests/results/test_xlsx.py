"""Workbooks, read back with openpyxl."""

import io
import os
import urllib.parse
import urllib.request
import zipfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import openpyxl
import pytest
from openpyxl.drawing.spreadsheet_drawing import TwoCellAnchor
from PIL import Image

from zeroshot_cli.errors import UsageError
from zeroshot_cli.records import LabelScore, Prediction, Result, SkippedImage
from zeroshot_cli.results import xlsx
from zeroshot_cli.results.xlsx import check_xlsx, write_xlsx

CAT = (LabelScore("cat", 0.25, 0.7123456789012345), LabelScore("狗", -0.25, 1e-9))
ITEMS: list[Result] = [
    Prediction("Grüße/a #1%20.png", CAT, 0.5, others=(LabelScore("cow", 0.1, 0.0),)),
    SkippedImage("new\nline.png", "no such file"),
    Prediction(os.fsdecode(b"\xff.png"), CAT[:1], None),
    Prediction("d.png", CAT, 0.5, rejected=True),
]
HEADER = ("path", "rank", "label", "score", "probability", "error")


def sheets(path: Path, items: list[Result] = ITEMS, **options: Any) -> list[Any]:
    write_xlsx(path, lambda: iter(items), **options)
    return openpyxl.load_workbook(path).worksheets


def values(sheet: Any) -> list[tuple[Any, ...]]:
    return list(sheet.iter_rows(values_only=True))


def test_rows_are_those_of_the_csv_and_numbers_are_numbers(tmp_path: Path) -> None:
    (sheet,) = sheets(tmp_path / "out.xlsx")
    assert values(sheet) == [
        HEADER,
        ("Grüße/a #1%20.png", 1, "cat", 0.25, 0.7123456789012345, None),
        ("Grüße/a #1%20.png", 2, "狗", -0.25, 1e-9, None),
        ("new\\nline.png", None, None, None, None, "no such file"),
        ("\\xff.png", 1, "cat", 0.25, 0.7123456789012345, None),
        ("d.png", 1, "unknown", 0.25, 0.7123456789012345, None),
    ]
    assert [path.name for path in tmp_path.iterdir()] == ["out.xlsx"]


def test_the_header_stays_in_view_and_has_filters(tmp_path: Path) -> None:
    (sheet,) = sheets(tmp_path / "out.xlsx")
    assert (sheet.freeze_panes, sheet.auto_filter.ref) == ("A2", "A1:F6")
    assert sheet["A1"].font.bold
    (empty,) = sheets(tmp_path / "empty.xlsx", [])
    assert values(empty)[0] == HEADER


def test_a_path_is_a_link_to_its_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (sheet,) = sheets(tmp_path / "out.xlsx")
    found = []
    for row in sheet.iter_rows(min_row=2, max_col=1):
        address = urllib.parse.urlsplit(row[0].hyperlink.target)
        assert (address.scheme, address.netloc, address.query, address.fragment) == ("file", "", "", "")
        found.append(os.fsdecode(urllib.parse.unquote_to_bytes(address.path)))
    paths = [ITEMS[0].path, *(item.path for item in ITEMS)]
    assert found == [str(tmp_path / path) for path in paths]


@pytest.mark.parametrize(
    "text", ["=1+1", "+1", "-1", "@sum(a1)", '=HYPERLINK("http://x")', "{=1}", "http://a.b", "007"]
)
def test_no_text_is_a_formula_a_link_or_a_number(tmp_path: Path, text: str) -> None:
    items: list[Result] = [Prediction(text, (LabelScore(text, 0.5, 0.5),), None), SkippedImage(text, text)]
    (sheet,) = sheets(tmp_path / "out.xlsx", items)
    assert [[cell.value for cell in sheet[place]] for place in (2, 3)] == [
        [text, 1, text, 0.5, 0.5, None],
        [text, None, None, None, None, text],
    ]
    cells = [sheet["A2"], sheet["C2"], sheet["F3"]]
    assert {cell.data_type for cell in cells} == {"s"}
    assert {bool(cell.quotePrefix) for cell in cells} == {text[0] in "=+-@"}  # so that editing makes none of it
    assert sheet["C2"].hyperlink is None
    assert b"<f>" not in zipfile.ZipFile(tmp_path / "out.xlsx").read("xl/worksheets/sheet1.xml")


@pytest.mark.parametrize(
    ("text", "cell"),
    [
        ("\x00\x1b[2J", "\\x00\\x1b[2J"),
        ("\ufffe", "\\ufffe"),
        ("\ud800", "\\ud800"),
        ("_x0041_", "_x0041_"),
        ("<&\"'> ", "<&\"'> "),
        (" space ", " space "),
        ("👩‍🔬", "👩‍🔬"),
        ("x" * 40_000, "x" * 16_383 + "…"),
    ],
)
def test_any_text_makes_a_valid_file(tmp_path: Path, text: str, cell: str) -> None:
    (sheet,) = sheets(tmp_path / "out.xlsx", [Prediction(text, (LabelScore(text, 0.5, 0.5),), None)])
    assert [openpyxl.utils.escape.unescape(str(sheet[place].value)) for place in ("A2", "C2")] == [cell, cell]


def test_numbers_that_are_none(tmp_path: Path) -> None:
    item = Prediction("a.png", (LabelScore("cat", float("nan"), float("inf")),), None)
    (sheet,) = sheets(tmp_path / "out.xlsx", [item])
    assert values(sheet)[1] == ("a.png", 1, "cat", None, None, None)


def test_notes_have_a_column(tmp_path: Path) -> None:
    items: list[Result] = [Prediction("a.png", CAT[:1], None, note="half of it"), SkippedImage("b.png", "gone")]
    (sheet,) = sheets(tmp_path / "out.xlsx", items, more=["note"])
    assert [row[5:] for row in values(sheet)] == [("error", "note"), (None, "half of it"), ("gone", None)]


def test_what_one_sheet_does_not_take_goes_to_the_next(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(xlsx, "ROWS", 4)
    items: list[Result] = [SkippedImage(f"{number}.png", "gone") for number in range(7)]
    notes = write_xlsx(tmp_path / "out.xlsx", lambda: iter(items))
    book = openpyxl.load_workbook(tmp_path / "out.xlsx")
    assert book.sheetnames == ["results", "results 2", "results 3"]
    assert [[row[0] for row in values(sheet)] for sheet in book] == [
        ["path", "0.png", "1.png", "2.png"],
        ["path", "3.png", "4.png", "5.png"],
        ["path", "6.png"],
    ]
    assert [sheet.auto_filter.ref for sheet in book] == ["A1:F4", "A1:F4", "A1:F2"]
    assert notes == [f"{tmp_path / 'out.xlsx'} has 3 sheets, for one takes 4 rows"]


def test_links_end_where_excel_takes_no_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(xlsx, "MOST_LINKS", 2)
    items: list[Result] = [SkippedImage("x" * 2100, "gone"), *(SkippedImage(f"{n}.png", "gone") for n in range(3))]
    (note,) = write_xlsx(tmp_path / "out.xlsx", lambda: iter(items))
    sheet = openpyxl.load_workbook(tmp_path / "out.xlsx").active
    assert [sheet[f"A{row}"].hyperlink is None for row in range(2, 6)] == [True, False, False, True]
    assert sheet["A5"].value == "2.png"
    assert "2 paths without a link; a sheet takes 2, of up to 2,079 characters" in note


def test_thumbnails_stand_in_the_rows_of_their_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(xlsx, "MOST_THUMBNAILS", 2)
    asked = list[str]()

    def thumbnails(paths: Iterable[str]) -> Iterator[bytes | None]:
        for path in paths:
            asked.append(path)
            stream = io.BytesIO()
            Image.new("RGB", (192, 100), "red").save(stream, "WEBP")
            yield None if path == ITEMS[2].path else stream.getvalue()

    def last(path: Path) -> Any:
        write_xlsx(path, lambda: iter([*ITEMS, *ITEMS]), thumbnails=thumbnails)
        return openpyxl.load_workbook(path).active

    sheet = last(tmp_path / "out.xlsx")
    assert asked == [ITEMS[0].path, ITEMS[2].path]
    (image,) = sheet._images
    assert isinstance(image.anchor, TwoCellAnchor)  # sorted, filtered and sized with its cell
    assert (image.anchor._from.row, image.anchor._from.col) == (1, 0)
    pixels = Image.open(io.BytesIO(image._data()))
    assert (pixels.size, pixels.format) == ((96, 50), "JPEG")
    assert pixels.getpixel((40, 20))[0] > 240
    assert sheet.row_dimensions[2].height == 75
    assert values(sheet)[1] == (None, "Grüße/a #1%20.png", 1, "cat", 0.25, 0.7123456789012345, None)
    assert (sheet.freeze_panes, sheet.auto_filter.ref) == ("A2", "B1:G11")


def test_images_beyond_the_last_thumbnail_are_said_even_if_one_before_has_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def notes(count: int) -> list[str]:
        items = [Prediction(f"{number}.png", (LabelScore("cat", 0.25, 0.5),)) for number in range(count)]
        return write_xlsx(tmp_path / "out.xlsx", lambda: iter(items), thumbnails=lambda paths: (None for _ in paths))

    monkeypatch.setattr(xlsx, "MOST_THUMBNAILS", 2)
    assert notes(2) == []
    assert notes(3) == [f"{tmp_path / 'out.xlsx'} has no more than 2 thumbnails, those of the first images"]
    assert write_xlsx(tmp_path / "out.xlsx", lambda: iter([*ITEMS, *ITEMS])) == []


def test_the_same_results_are_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a.xlsx", "b.xlsx"):
        write_xlsx(tmp_path / name, lambda: iter(ITEMS))
    assert (tmp_path / "a.xlsx").read_bytes() == (tmp_path / "b.xlsx").read_bytes()


def test_the_package_that_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(xlsx, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"writing \.xlsx needs xlsxwriter: pip install 'zeroshot-cli\[xlsx\]'"):
        check_xlsx()


def test_a_run_that_fails_leaves_an_old_file_alone(tmp_path: Path) -> None:
    path = tmp_path / "out.xlsx"
    write_xlsx(path, lambda: iter(ITEMS))
    old = path.read_bytes()

    def results() -> Iterator[Result]:
        yield ITEMS[0]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_xlsx(path, results)
    assert path.read_bytes() == old
    assert [each.name for each in tmp_path.iterdir()] == ["out.xlsx"]


@pytest.mark.parametrize("size", [0, 1000, 3000])
def test_a_full_disk_is_one_sentence(
    tmp_path: Path, file_size_limit: Callable[[int], AbstractContextManager[None]], size: int
) -> None:
    path = tmp_path / "out.xlsx"
    with file_size_limit(size), pytest.raises(UsageError, match=r"cannot write .*out\.xlsx: File too large; what"):
        write_xlsx(path, lambda: iter(ITEMS))
    assert list(tmp_path.iterdir()) == []
