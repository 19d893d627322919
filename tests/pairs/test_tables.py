"""Tables with every fault that people's files have; each is read as it was meant, or explained in a sentence."""

import csv
import gzip
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from zeroshot_cli.errors import DataError, UsageError
from zeroshot_cli.pairs.columns import CAPTIONS, Columns
from zeroshot_cli.pairs.opened import Form, form_of
from zeroshot_cli.pairs.tables import read_table

Row = tuple[str, tuple[str, ...]]
ROWS = [("a.png", ("red",)), ("b.png", ("blue, or not",))]
TEXT = 'image,caption\na.png,red\nb.png,"blue, or not"\n'
JSONL = '{"image": "a.png", "caption": "red"}\n{"caption": "blue, or not", "image": "b.png"}\n'


def read(path: Path, *, image_column: str | None = None, caption_column: str | None = None) -> list[Row]:
    columns = Columns(CAPTIONS, image_column, caption_column)
    with path.open("rb") as file:
        return [row[1:] for row in read_table(path.name, file, form_of(path.name, file), columns)]


@pytest.fixture
def rows_of(tmp_path: Path) -> Callable[..., list[Row]]:
    """`rows_of(content, name)` writes a file and reads it."""

    def write(content: str | bytes, name: str = "pairs.csv", **columns: str) -> list[Row]:
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8", "surrogateescape"))
        return read(path, **columns)

    return write


RowsOf = Callable[..., list[Row]]


# Forms ------------------------------------------------------------------------------------------------------


def parquet(**columns: Any) -> bytes:
    file = io.BytesIO()
    pq.write_table(pa.table(columns), file)
    return file.getvalue()


CONTENTS = {
    "csv": TEXT.encode(),
    "tsv": TEXT.replace('"', "").replace("image,", "image\t").replace("png,", "png\t").encode(),
    "jsonl": JSONL.encode(),
    "json": json.dumps([json.loads(line) for line in JSONL.splitlines()], indent=1).encode(),
    "parquet": parquet(image=["a.png", "b.png"], caption=["red", "blue, or not"]),
}


@pytest.mark.parametrize("form", CONTENTS)
@pytest.mark.parametrize("named", [True, False])
def test_a_form_is_known_by_its_ending_or_its_content(rows_of: RowsOf, form: str, named: bool) -> None:
    assert rows_of(CONTENTS[form], f"pairs.{form.upper()}" if named else "pairs") == ROWS


@pytest.mark.parametrize("form", ["csv", "tsv", "jsonl", "json"])
@pytest.mark.parametrize("name", ["pairs.{}.gz", "pairs.gz", "pairs.{}", "pairs"])
def test_gzip_is_seen_through(rows_of: RowsOf, form: str, name: str) -> None:
    assert rows_of(gzip.compress(CONTENTS[form]), name.format(form)) == ROWS


def test_what_a_file_holds_counts_more_than_its_ending(rows_of: RowsOf) -> None:
    assert rows_of(CONTENTS["parquet"], "pairs.csv") == ROWS


@pytest.mark.parametrize("name", ["x.csv", "x", "x.csv.gz"])
@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"PK\x03\x04" + bytes(100), "Excel workbook; save it as CSV"),
        (b"BZh91AY&SY" + bytes(100), "bunzip2"),
        (b"\xfd7zXZ\0" + bytes(100), "unxz"),
        (b"\x28\xb5\x2f\xfd" + bytes(100), "unzstd"),
        (b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
        (b"<!DOCTYPE html><html>", "a web page"),
        (gzip.compress(TEXT.encode(), mtime=0)[:40], "damaged gzip"),
        (gzip.compress(TEXT.encode() * 1000, mtime=0)[:-20], "damaged gzip"),
        (gzip.compress(CONTENTS["parquet"], mtime=0), "unpack it with gunzip"),
        (b"\x89PNG\r\n\x1a\n" + bytes(100), "an image .PNG."),
        (bytes(10_000), "NUL"),
        (b"", "no header"),
        (b"\xff\xfe", "no header"),
        (gzip.compress(b"", mtime=0), "no header"),
        (b"\n \r\n\t\n", "no header"),
    ],
)
def test_what_is_no_table_is_named(rows_of: RowsOf, name: str, content: bytes, words: str) -> None:
    with pytest.raises(DataError, match=f"^{name}.*{words}"):
        rows_of(content, name)


# Encodings --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("form", ["csv", "jsonl"])
def test_encodings_are_detected(rows_of: RowsOf, encoding: str, form: str) -> None:
    text = {"csv": "image,caption\na.png,été 夏 🐈\n", "jsonl": '{"image": "a.png", "caption": "été 夏 🐈"}\n'}[form]
    for name in (f"pairs.{form}", "pairs"):
        assert rows_of(text.encode(encoding), name) == [("a.png", ("été 夏 🐈",))]


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be", "utf-32"])
def test_other_unicode_is_explained(rows_of: RowsOf, encoding: str) -> None:
    with pytest.raises(DataError, match=r"pairs\.csv line 1: NUL byte.* UTF-8"):
        rows_of(TEXT.encode(encoding))


def test_utf_16_that_is_cut_is_explained(rows_of: RowsOf) -> None:
    with pytest.raises(DataError, match="UTF-16"):
        rows_of(TEXT.encode("utf-16")[:-1])


def test_a_caption_that_is_not_utf_8_is_explained_and_a_path_is_not_touched(rows_of: RowsOf) -> None:
    assert rows_of("image,caption\n\udce9.png,x\n") == [("\udce9.png", ("x",))]
    with pytest.raises(DataError, match=r"line 3: byte 0xe9 is not UTF-8; save the file as UTF-8"):
        rows_of("image,caption\na.png,x\nb.png,\udce9t\udce9\n")
    with pytest.raises(DataError, match=r"line 1: byte 0xe9 is not UTF-8"):
        rows_of('{"image": "a.png", "caption": "\udce9"}', "x.jsonl")


# CSV --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ends", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("delimiter", [",", "\t", ";", "|"])
@pytest.mark.parametrize("quoting", [csv.QUOTE_MINIMAL, csv.QUOTE_ALL])
def test_what_the_csv_module_writes_is_read_back(rows_of: RowsOf, ends: str, delimiter: str, quoting: Any) -> None:
    rows = [
        ("1", 'a "b", c;d|e\tf', "x.png", ""),
        ("2", "two lines" if ends == "\r" else "two\nlines", "a b.png", "z"),  # the module quotes no foreign line end
        ("3", "\u2028\x0b\x85", "c", ""),
    ]
    file = io.StringIO(newline="")
    writer = csv.writer(file, delimiter=delimiter, quoting=quoting, lineterminator=ends)
    writer.writerows([("id", "Title", " FILE_NAME", "more"), *rows])
    assert rows_of(file.getvalue()) == [(row[2], (row[1].strip(),)) for row in rows]


@pytest.mark.parametrize(
    "text",
    [
        "\n\n" + TEXT,
        TEXT.replace("\n", "\n\n  \n"),
        'image, caption\na.png, red\nb.png, "blue, or not"\n',
        "sep=;\n" + TEXT.replace('"', "").replace("e,c", "e;c").replace("g,", "g;"),
        '"sep=,"\r\n' + TEXT,
        TEXT.replace("image,caption", "image,caption,,").replace("red", "red,,"),
        TEXT.replace("red", "red,").replace('not"', 'not", ,'),
        "id,image,caption,caption_2\n" + "".join(f"{i},{line}\n" for i, line in enumerate(TEXT.splitlines()[1:])),
    ],
)
def test_untidy_tables_are_read(rows_of: RowsOf, text: str) -> None:
    assert rows_of(text) == ROWS


def test_short_rows_lack_a_caption(rows_of: RowsOf) -> None:
    assert rows_of("image,caption\na.png\nb.png,\n,x\n") == [("a.png", ("",)), ("b.png", ("",)), ("", ("x",))]


def test_a_name_in_the_right_case_wins(rows_of: RowsOf) -> None:
    text = "Caption,image,caption\nno,a.png,yes\n"
    assert rows_of(text) == [("a.png", ("yes",))]
    assert rows_of(text, caption_column="Caption") == [("a.png", ("no",))]


def test_columns_with_one_name_do_not_matter_where_they_are_not_wanted(rows_of: RowsOf) -> None:
    assert rows_of("image,x,x,caption\na.png,,,red\n") == [("a.png", ("red",))]


@pytest.mark.parametrize(
    ("text", "columns", "words"),
    [
        ("image,caption,caption\na,b,c\n", {}, "2 columns named 'caption'; rename one"),
        ("image,Caption,CAPTION\na,b,c\n", {}, "2 columns named 'caption'"),
        ("image,IMAGE,caption\na,b,c\n", {"image_column": "Image"}, "2 columns named 'Image'.*--image-column"),
        ("image,caption\na,b\n", {"image_column": "caption"}, "one column for both image and caption, 'caption'"),
        ("a.png,red\nb.png,blue\n", {}, "no header, it begins with 'a.png', 'red'.*image,caption"),
        ("photos/1.JPG;red\n", {}, "no header"),
        ('image,caption\na.png,"red", round\n', {}, "line 2: 3 cells in 2 columns.*quotes"),
        ("image,caption\n\na.png,x\n0,b.png,y\n", {}, "line 4: 3 cells"),
        ('image,caption\na.png,"red\nb.png,blue\nc.png,green\n', {}, r"line 2: a quote opened here is never closed"),
        ('image,caption\na.png,"red\nb.png,blue\nc.png,"green"\n', {}, r"line 2: a quote ends before its cell does"),
        ('image,caption\na.png,"red" ball\n', {}, r'line 2: a quote ends .*write "" for'),
        ('image,caption\na.png,"red\n' + "b.png,blue\n" * 20_000, {}, "line 2: .*unclosed quote"),
        ('"image,caption\na.png,red\n', {}, "columns are|quote"),
        ("image,caption\na.png,r\0d\n", {}, "line 2: NUL byte"),
        ("image,caption\na.png,red\nb\0.png,x\n", {}, "line 3: NUL byte"),
        ("sep=;\n", {}, "no header"),
        ("image\na.png\n", {}, "no caption column"),
        ("x" * 200_000, {}, "larger|no image column"),
        (",".join(f"c{i}" for i in range(5000)), {}, "and 4980 more"),
    ],
)
def test_faults_of_a_csv_are_explained(rows_of: RowsOf, text: str, columns: dict[str, str], words: str) -> None:
    with pytest.raises(DataError, match=words) as error:
        rows_of(text, **columns)
    assert str(error.value).startswith("pairs.csv ")
    assert len(str(error.value)) < 2000


# Lists of captions ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cell", "captions"),
    [
        ('["a cat", "two, \\"2\\" \\u00e9"]', ("a cat", 'two, "2" é')),
        ("['a cat', \"it's\"]", ("a cat", "it's")),
        ("['a cat' 'a dog'\n 'a cow']", ("a cat", "a dog", "a cow")),
        ("['a\ncat',\n'\\d']", ("a\ncat", "\\d")),
        ("[ ' a ' ]", ("a",)),
        ("[]", ("",)),
        ("[sic] a cat", ("[sic] a cat",)),
        ("[a cat]", ("[a cat]",)),
        ("[1, 2]", ("[1, 2]",)),
        ("['a', b]", ("['a', b]",)),
        (r"['\x']", (r"['\x']",)),
        ("[" * 100_000 + "]" * 2, ("[" * 100_000 + "]" * 2,)),
    ],
)
def test_a_cell_may_be_a_list(rows_of: RowsOf, cell: str, captions: tuple[str, ...]) -> None:
    file = io.StringIO(newline="")
    csv.writer(file).writerows([("image", "caption"), ("a.png", cell)])
    assert rows_of(file.getvalue()) == [("a.png", captions)]


# JSON -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("caption", "captions"),
    [
        ('"x"', ("x",)),
        ("null", ("",)),
        ("NaN", ("",)),
        ("7", ("7",)),
        ("[]", ("",)),
        ('["x ", null, " y"]', ("x", "", "y")),
        (r'"\ud83d\ude00"', ("😀",)),
        ('"[x]"', ("[x]",)),
    ],
)
def test_captions_in_json(rows_of: RowsOf, caption: str, captions: tuple[str, ...]) -> None:
    assert rows_of(f'{{"path": "a", "captions": {caption}}}\n', "x.jsonl") == [("a", captions)]


def test_json_lines_may_be_blank_and_lack_keys(rows_of: RowsOf) -> None:
    text = '\n{"caption": "x"}\n\r\n{"image": "a.png"}\n{"image": null, "caption": "y", "more": {}}\n'
    assert rows_of(text, "x.jsonl") == [("", ("x",)), ("a.png", ("",)), ("", ("y",))]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "x.jsonl is empty"),
        ('{"image": "a"}\n', "no caption column"),
        ('{"image": "a", "caption": "x"}\n{"image": \n', r"x.jsonl line 2: invalid JSON"),
        ('{\n "image": "a"\n}\n{\n "image": "b"\n}\n', "line 4: invalid JSON .*a whole object"),
        ('{"image": "a", "caption": "x"}\n\n["a"]\n', "line 3: not a JSON object"),
        ('[{"image": "a", "caption": "x"},\n 3]\n', "item 2: not a JSON object"),
        ('[{"image": "a", "caption": "x"}\n', "line 2: invalid JSON"),
        ('{"image": "a", "caption": {"en": "x"}}\n', "line 1: the caption is .*; expected text"),
        ('{"image": "a", "caption": true}\n', "the caption is True"),
        ('{"image": "a", "caption": ["x", [["y"]]]}\n', r"the caption is \['y'\]"),
        ('{"image": {"bytes": "x"}, "caption": "x"}\n', "the image is .*expected the path of a file"),
        (r'{"image": "a", "caption": "x\ud83d"}' + "\n", r"half of a character, \\ud83d"),
        (r'{"image": "a", "caption": "x\u0000"}' + "\n", "NUL"),
        ('{"image": "a", "caption": ' + "9" * 5000 + "}\n", "line 1: unreadable JSON"),
        ("[" * 100_000, "unreadable JSON"),
    ],
)
def test_faults_of_json_are_explained(rows_of: RowsOf, text: str, words: str) -> None:
    with pytest.raises(DataError, match=words):
        rows_of(text, "x.jsonl")


# Parquet ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "values", "captions"),
    [
        (pa.string(), ["x ", None], [("x",), ("",)]),
        (pa.large_string(), ["x", "[y]"], [("x",), ("[y]",)]),
        (pa.dictionary(pa.int8(), pa.string()), ["x", "y"], [("x",), ("y",)]),
        (pa.list_(pa.string()), [["x", None, "y"], []], [("x", "", "y"), ("",)]),
        (pa.list_(pa.string()), [["x"], None], [("x",), ("",)]),
        (pa.int64(), [3, 4], [("3",), ("4",)]),
        (pa.float64(), [float("nan"), 0.5], [("",), ("0.5",)]),
    ],
)
def test_captions_in_parquet(rows_of: RowsOf, kind: Any, values: list[Any], captions: list[Any]) -> None:
    content = parquet(image=["a", "b"], n=[0, 1], text=pa.array(values, kind))
    assert rows_of(content, "x.parquet") == [("a", captions[0]), ("b", captions[1])]


def test_parquet_is_read_in_parts_and_columns_may_have_dots(rows_of: RowsOf, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("zeroshot_cli.pairs.tables._BATCH", 3)
    names, numbers = [f"{i}.png" for i in range(10)], [str(i) for i in range(10)]
    content = parquet(**{"meta.path": names, "caption": numbers})
    rows = rows_of(content, "x.parquet", image_column="meta.path")
    assert rows == [(name, (number,)) for name, number in zip(names, numbers, strict=True)]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "x.parquet is damaged or not Parquet"),
        (CONTENTS["parquet"][:-8], "x.parquet is damaged or not Parquet"),
        (TEXT.encode(), "x.parquet is damaged or not Parquet"),
        (parquet(image=[{"bytes": b"x", "path": "a"}], caption=["x"]), "has struct.* in its image column 'image'"),
        (parquet(image=[b"x"], caption=["x"]), "has binary in its image column"),
        (parquet(image=["a"], caption=[b"x"]), "row 1: the caption is b'x'"),
        (parquet(image=["a", "b"], caption=["x", "y\0"]), "row 2: NUL"),
        (parquet(image=["a"], x=["y"]), "no caption column"),
    ],
)
def test_faults_of_parquet_are_explained(rows_of: RowsOf, content: bytes, words: str) -> None:
    with pytest.raises(DataError, match=words):
        rows_of(content, "x.parquet")


def test_parquet_needs_its_extra(rows_of: RowsOf, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    with pytest.raises(UsageError, match=r"pip install 'zeroshot-cli\[parquet\]'"):
        rows_of(CONTENTS["parquet"], "x.parquet")


def test_a_tar_is_known(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(bytes(257) + b"ustar\0" + bytes(200))
    with (tmp_path / "x").open("rb") as file:
        assert form_of("x", file) is Form.TAR
