"""Tables of images and texts: CSV in all its forms, lines of JSON, and Parquet by the extra `parquet`.

The texts are captions or labels. The form is what the content says, else the ending. All but Parquet may be gzipped.
"""

import csv
import gzip
import io
import json
import re
import zlib
from collections.abc import Generator, Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum, auto
from itertools import chain, islice
from pathlib import PurePath
from typing import Any, BinaryIO

from zeroshot_cli.errors import DataError, UsageError
from zeroshot_cli.images.file_kinds import image_format
from zeroshot_cli.pairs.columns import (
    CAPTIONS,
    Fault,
    Row,
    TextColumn,
    find_columns,
    image_of_value,
    is_wanted,
)

_DELIMITERS = (",", "\t", ";", "|")
_SEPARATOR_LINE = re.compile(r'"?sep=([^\w\s"]|\t)"?\s*')  # what Excel reads, and writes for those who ask
_HEAD = 512  # bytes that tell a form
_FIRST_OBJECTS = 100  # lines of JSON whose keys are the columns
_BATCH = 10_000  # rows of Parquet in memory at once


class Form(Enum):
    """How the pairs are written."""

    CSV = auto()
    JSON = auto()
    PARQUET = auto()
    TAR = auto()


_ENDINGS = {
    **dict.fromkeys((".csv", ".tsv", ".tab", ".psv"), Form.CSV),
    **dict.fromkeys((".jsonl", ".ndjson", ".json"), Form.JSON),
    **dict.fromkeys((".parquet", ".pq"), Form.PARQUET),
    ".tar": Form.TAR,
}
_MAGIC = ((b"PAR1", 0, Form.PARQUET), (b"ustar", 257, Form.TAR))
_REFUSED = (
    (b"PK\x03\x04", "a ZIP archive or an Excel workbook; save it as CSV"),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "an Excel workbook; save it as CSV"),
    (b"BZh", "compressed by bzip2; unpack it with bunzip2"),
    (b"\xfd7zXZ\0", "compressed by xz; unpack it with unxz"),
    (b"\x28\xb5\x2f\xfd", "compressed by Zstandard; unpack it with unzstd"),
    (b"version https://git-lfs", "a Git LFS pointer, not the file itself; fetch it with git lfs pull"),
    (b"<", "a web page or XML, no table of images and captions; download the file itself"),
)
_GZIP = b"\x1f\x8b"


def form_of(name: str, file: BinaryIO) -> Form:
    """How the pairs in an open file are written; DataError for what is none of the forms."""
    head = _head(name, file)
    for magic, what in _REFUSED:
        if head.startswith(magic):
            raise DataError(f"{name} is {what}")
    inner = _head(name, _unpacked(file)) if head.startswith(_GZIP) else head
    if kind := image_format(inner):
        raise DataError(f"{name} is a picture ({kind}), not a list of pictures and captions")
    form = next((form for magic, at, form in _MAGIC if inner[at:].startswith(magic)), None) or _by_name(name, inner)
    if inner is not head and form in (Form.TAR, Form.PARQUET):
        raise DataError(f"{name} is compressed by gzip, so no image can be found in it fast; unpack it with gunzip")
    return form


def _by_name(name: str, head: bytes) -> Form:
    path = PurePath(name.lower().removesuffix(".gz"))
    if path.suffix in _ENDINGS:
        return _ENDINGS[path.suffix]
    text = head.removeprefix(b"\xef\xbb\xbf").replace(b"\0", b"").lstrip(b"\xff\xfe\r\n\t ")
    return Form.JSON if re.match(rb'\{\s*"|\[\s*\{', text) else Form.CSV


def _head(name: str, file: BinaryIO) -> bytes:
    try:
        file.seek(0)
        return file.read(_HEAD)
    except (EOFError, gzip.BadGzipFile, zlib.error):
        raise DataError(f"{name} is a damaged gzip file; copy or compress it once more") from None


def _unpacked(file: BinaryIO) -> BinaryIO:
    file.seek(0)
    return gzip.GzipFile(fileobj=file)  # type: ignore[return-value]  # it is one in all but name


PlacedRow = tuple[str, str, tuple[str, ...]]
"""Where a row stands, as "line 3", its image and its texts."""


def read_table(
    name: str, file: BinaryIO, form: Form, *, image_column: str | None = None, caption_column: str | None = None
) -> Iterator[Row]:
    """The rows of an open file, whose name is for errors. Raises DataError with the line of what is wrong."""
    wanted = _Wanted(image_column, caption_column, CAPTIONS)
    for _, image, captions in _read(name, file, form, wanted):
        yield image, captions


def read_placed(
    name: str,
    file: BinaryIO,
    form: Form,
    kind: TextColumn,
    *,
    image_column: str | None = None,
    text_column: str | None = None,
) -> Generator[PlacedRow]:
    """The rows of an open file with their places, for those who find more wrong with them; raises as `read_table`.

    Who stops early closes the generator before the file.
    """
    return _read(name, file, form, _Wanted(image_column, text_column, kind))


@dataclass(frozen=True, slots=True)
class _Wanted:
    """The columns that are asked for, None for known ones, and what the second holds."""

    image: str | None
    text: str | None
    kind: TextColumn

    def columns(self, header: list[str], name: str) -> tuple[int, int]:
        try:
            return find_columns(header, self.image, self.text, self.kind)
        except Fault as fault:
            raise DataError(f"{name} {fault}") from None


def _read(name: str, file: BinaryIO, form: Form, wanted: _Wanted) -> Generator[PlacedRow]:
    if form is Form.PARQUET:
        yield from _read_parquet(name, file, wanted)
        return
    read = _read_csv if form is Form.CSV else _read_json
    packed = _head(name, file).startswith(_GZIP)
    text = _as_text(_unpacked(file) if packed else file)
    try:
        yield from read(name, text, wanted)
    except (EOFError, gzip.BadGzipFile, zlib.error):
        raise DataError(f"{name} is a damaged gzip file; copy or compress it once more") from None
    except UnicodeDecodeError:  # UTF-8 never, for what is wrong there is seen in the cells
        raise DataError(f"{name} begins as UTF-16 and does not go on so; save the file as UTF-8") from None
    finally:
        text.detach()  # the file is not ours to close


def _as_text(file: BinaryIO) -> io.TextIOWrapper:
    """The file's text with its own line ends; bytes that are not UTF-8 become surrogates, for a path may have them."""
    file.seek(0)
    mark = file.read(3)
    file.seek(0)
    encoding = "utf-16" if mark.startswith((b"\xff\xfe", b"\xfe\xff")) else "utf-8-sig"
    return io.TextIOWrapper(file, encoding, errors="surrogateescape", newline="")


# CSV


def _read_csv(name: str, text: Iterable[str], wanted: _Wanted) -> Iterator[PlacedRow]:
    lines = iter(text)
    above, delimiter = _find_header(name, lines, wanted)
    # Strict, so that a quote which is not closed ends the reading and does not swallow rows.
    reader = csv.reader(chain(above, lines), delimiter=delimiter, strict=True, skipinitialspace=True)
    line = len(above)
    try:
        header = next((row for row in reader if any(map(str.strip, row))), None)
        if header is None:
            raise DataError(
                f"{name} has no header line; its first line must name an image and a {wanted.kind.name} column"
            )
        image, caption = wanted.columns([column.strip() for column in header], name)
        line, width = reader.line_num + 1, len(header)
        for row in reader:
            if len(row) != width and not _even(row, width):
                line = reader.line_num + 1
                continue
            if "\0" in row[image]:
                raise Fault("a NUL byte in a path; the file is damaged or in another encoding, save it as UTF-8")
            yield f"line {line}", row[image], wanted.kind.of_text(row[caption])
            line = reader.line_num + 1
    except Fault as fault:
        raise DataError(f"{name} line {line}: {fault}") from None
    except csv.Error as error:
        raise DataError(f"{name} line {line}: {_why(error)}") from None


def _find_header(name: str, lines: Iterator[str], wanted: _Wanted) -> tuple[list[str], str]:
    """The lines up to the header, and the delimiter under which it has most of the columns that are wanted, and most.

    A line such as sep=; decides where there is one.
    """
    above: list[str] = []
    for line in lines:
        above.append(line)
        if "\0" in line:
            raise DataError(f"{name} line {len(above)}: a NUL byte; the file is damaged or no text, save it as UTF-8")
        if told := _SEPARATOR_LINE.fullmatch(line):
            return ["\n"] * len(above) + [next(lines, "")], told[1]
        if line.strip():
            return above, max(_DELIMITERS, key=lambda delimiter: _promise(line, delimiter, wanted))
    return above, ","


def _promise(line: str, delimiter: str, wanted: _Wanted) -> tuple[int, int]:
    try:
        names = next(csv.reader([line], delimiter=delimiter, skipinitialspace=True), [])
    except csv.Error:  # a line longer than csv takes
        return 0, 0
    asked = wanted.image, wanted.text
    return sum(is_wanted(column.strip(), asked, wanted.kind) for column in names), len(names)


def _even(row: list[str], width: int) -> bool:
    """Make a row as wide as the header; whether it has anything. Raises Fault where that would cut a cell off."""
    if len(row) <= 1 and not "".join(row).strip():
        return False
    if any(cell.strip() for cell in row[width:]):
        raise Fault(
            f"{len(row)} cells under a header of {width} columns; put a text that holds the separator in quotes"
        )
    row.extend([""] * (width - len(row)))
    return True


def _why(error: csv.Error) -> str:
    if "field larger" in str(error):
        return f"{error}, as after a quote that is not closed; correct or remove this line"
    if "unexpected end" in str(error):
        return 'a quote that opens here is not closed; close it, or write "" for a quote inside a quoted cell'
    return f'a quote ends before its cell does ({error}); write "" for a quote inside a quoted cell'


# JSON


def _read_json(name: str, text: io.TextIOWrapper, wanted: _Wanted) -> Iterator[PlacedRow]:
    lines = ((number, line) for number, line in enumerate(text, start=1) if line.strip())
    first = list(islice(lines, 1))
    if not first:
        holds = f"a JSON object with an image and a {wanted.kind.name}"
        raise DataError(f"{name} is empty; each of its lines must be {holds}")
    if first[0][1].lstrip().startswith("["):
        objects = _items(name, first[0][1] + text.read())
    else:
        objects = _objects(name, chain(first, lines))
    head = list(islice(objects, _FIRST_OBJECTS))
    keys = list(dict.fromkeys(key for _, row in head for key in row))
    image, caption = (keys[place] for place in wanted.columns(keys, name))
    for place, row in chain(head, objects):
        try:
            yield place, image_of_value(row.get(image)), wanted.kind.of_value(row.get(caption))
        except Fault as fault:
            raise DataError(f"{name} {place}: {fault}") from None


_Object = tuple[str, Mapping[str, Any]]  # with its place in the file


def _objects(name: str, lines: Iterable[tuple[int, str]]) -> Iterator[_Object]:
    for number, line in lines:
        yield _object(name, f"line {number}", _parsed(name, f" line {number}", line))


def _items(name: str, text: str) -> Iterator[_Object]:
    for number, item in enumerate(_parsed(name, "", text), start=1):
        yield _object(name, f"item {number}", item)


def _parsed(name: str, place: str, text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        place = place or f" line {error.lineno}"
        raise DataError(f"{name}{place}: not valid JSON ({error.msg}); each line must be a whole object") from None
    except (ValueError, RecursionError) as error:  # a number of thousands of digits; brackets in brackets
        raise DataError(f"{name}{place}: JSON that cannot be read ({error})") from None


def _object(name: str, place: str, value: Any) -> _Object:
    if not isinstance(value, dict):
        raise DataError(f"{name} {place}: not a JSON object, which names an image and its text")
    return place, value


# Parquet


def _read_parquet(name: str, file: BinaryIO, wanted: _Wanted) -> Iterator[PlacedRow]:
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError:
        raise UsageError(f"reading {name} needs pyarrow: pip install 'zeroshot-cli[parquet]'") from None
    row = 0
    try:
        table = pq.ParquetFile(file)
        header = table.schema_arrow.names
        columns = [header[place] for place in wanted.columns(header, name)]
        _check_paths(name, table.schema_arrow.field(columns[0]))
        for row, (image, caption) in enumerate(_values(table, columns), start=1):
            yield f"row {row}", image_of_value(image), wanted.kind.of_value(caption)
    except Fault as fault:
        raise DataError(f"{name} row {row}: {fault}") from None
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())
        raise DataError(f"{name} is damaged or not Parquet ({reason}); write or copy it once more") from None


def _values(table: Any, columns: list[str]) -> Iterator[tuple[Any, ...]]:
    for batch in table.iter_batches(_BATCH, columns=columns):
        yield from zip(*(batch.column(column).to_pylist() for column in columns), strict=True)


def _check_paths(name: str, field: Any) -> None:
    """Raise DataError where a column holds pictures, as data sets of Hugging Face have them, or numbers."""
    import pyarrow as pa

    kind = field.type.value_type if pa.types.is_dictionary(field.type) else field.type
    if not any(is_text(kind) for is_text in (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view)):
        raise DataError(
            f"{name} has {kind} in its image column {field.name!r}, not the paths of files; write the pictures out as "
            "files, or as a WebDataset tar with their captions"
        )
