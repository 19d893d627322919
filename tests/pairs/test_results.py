import gzip
import io

import pytest

from zeroshot_cli.errors import DataError
from zeroshot_cli.pairs.results import ResultRow, result_rows

KNOWN = ("path", "label", "error")


def rows(content: str | bytes, name: str = "r.csv") -> list[ResultRow]:
    data = content.encode() if isinstance(content, str) else content
    return list(result_rows(name, io.BytesIO(data), known=KNOWN, needed=("path", "label")))


CAT = ("line 2", {"path": "a,b.png", "label": "cat", "error": ""})


@pytest.mark.parametrize(
    "content",
    [
        'path,label,error\n"a,b.png",cat,\n',
        '\ufeffpath,label,error\r\n"a,b.png",cat,\r\n',
        "path;label;error\na,b.png;cat;\n",
        "path\tlabel\terror\na,b.png\tcat\t\n",
        'path,label,error\n"a,b.png",cat\n',  # an editor has cut what is empty
        'path,label,error\n"a,b.png",cat,,,\n\n',  # or added to it
        "path;label;error\na,b.png;cat;\n".encode("utf-16"),
        gzip.compress(b'path,label,error\n"a,b.png",cat,\n', mtime=0),
        'path,label,error\n"a,b.png",cat,\n"c.png",do',  # torn
        'path,label,error\n"a,b.png",cat,\n"c.p',
    ],
)
def test_tables_as_programs_save_them(content: str | bytes) -> None:
    assert rows(content) == [CAT]


def test_a_whole_last_line_needs_no_end() -> None:
    assert rows("path,label\na.png,cat") == [("line 2", {"path": "a.png", "label": "cat"})]
    assert rows('{"path": "a.png", "label": "cat"}', "r.jsonl") == [("line 1", {"path": "a.png", "label": "cat"})]


def test_places_are_those_of_the_first_line_of_a_row() -> None:
    found = rows('path,label\n"a\nb.png",cat\nc.png,dog\n')
    assert [place for place, _ in found] == ["line 2", "line 4"]


def test_json_lines_end_where_a_kill_tore_them() -> None:
    assert rows('{"path": "a.png"}\n\n{"pat', "r.jsonl") == [("line 1", {"path": "a.png"})]


@pytest.mark.parametrize(
    ("content", "name", "says"),
    [
        ('path,label\n"a.png,cat\nb.png,dog\n', "r.csv", "r.csv, line 2: damaged"),
        ('path,label\n"a.png,cat\nb.png,dog', "r.csv", "r.csv, line 2: damaged"),  # an open quote, not a torn end
        ("path,error\na.png,\n", "r.csv", "r.csv has no column 'label'; name what zeroshot classify wrote"),
        ("", "r.csv", "r.csv has no column 'path'"),
        ('{"path": 1\n{}\n', "r.jsonl", "r.jsonl, line 1: invalid JSON"),
        ("[1]\n", "r.jsonl", "r.jsonl, line 1: not a JSON object"),
        ("PAR1", "r.parquet", "r.parquet is damaged or not Parquet"),
        (b"PK\x03\x04", "r.xlsx", "an Excel workbook; save it as CSV"),
        (b"\xff\xfep", "r.csv", "r.csv is invalid UTF-16"),
        (gzip.compress(b"path,label\n", mtime=0)[:-4], "r.csv", "r.csv is a damaged gzip file"),
    ],
)
def test_what_is_wrong_is_named(content: str | bytes, name: str, says: str) -> None:
    with pytest.raises(DataError, match=says):
        rows(content, name)
