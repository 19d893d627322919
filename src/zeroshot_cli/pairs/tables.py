"""Tables of images and texts: CSV in all its variants, JSON lines, and Parquet by the extra `parquet`.

The texts are captions or labels. Other forms of captions, which tables and JSON may turn out to be, are in `forms`.
"""

import csv
import io
import json
import re
from collections.abc import Generator, Iterable, Iterator, Mapping
from itertools import chain, islice
from pathlib import PurePath
from typing import Any, BinaryIO

from zeroshot_cli.errors import DataError, UsageError
from zeroshot_cli.pairs.columns import CAPTIONS, IMAGE_EXTENSIONS, NUL, Columns, Fault
from zeroshot_cli.pairs.forms import from_conversation, is_token, items_of, rows_of_document, token_rows
from zeroshot_cli.pairs.opened import Form, text_of

_DELIMITERS = (",", "\t", ";", "|")
_SEPARATOR_LINE = re.compile(r'"?sep=([^\w\s"]|\t)"?\s*')  # Excel reads it, and writes it on request
_FIRST_OBJECTS = 100  # lines of JSON whose keys are the columns
_BATCH = 10_000  # rows of Parquet in memory at once

PlacedRow = tuple[str, str, tuple[str, ...]]
"""Where a row is, such as "line 3", its image and its texts."""


def read_table(
    name: str, file: BinaryIO, form: Form, columns: Columns, notes: list[str] | None = None
) -> Generator[PlacedRow]:
    """Yield the rows of an open file, whose name is for errors; raises DataError, with the line, for invalid content.

    What is assumed is added to `notes`. Close the generator before the file if you stop early.
    """
    notes = [] if notes is None else notes
    if form is Form.PARQUET:
        yield from _read_parquet(name, file, columns, notes)
        return
    read = _read_csv if form is Form.CSV else _read_json
    with text_of(name, file) as text:
        if text.encoding == "utf-16":
            notes.append("read as UTF-16")
        yield from read(name, text, columns, notes)


def _find(columns: Columns, header: list[str], name: str, notes: list[str]) -> tuple[int, int]:
    try:
        image, text = columns.find(header)
    except Fault as fault:
        raise DataError(f"{name} {fault}") from None
    guessed = {(columns.image, header[image], "image"), (columns.text, header[text], columns.kind.name)}
    if any(given is None and column.casefold() != usual for given, column, usual in guessed):
        notes.append(f"images from the column {header[image]!r}, {columns.kind.name}s from {header[text]!r}")
    notes += columns.passed_over(header, (image, text))
    return image, text


# CSV


def _read_csv(name: str, text: Iterable[str], columns: Columns, notes: list[str]) -> Iterator[PlacedRow]:
    lines = iter(text)
    above, delimiter = _find_header(name, lines, columns)
    if above and columns.kind is CAPTIONS and is_token(above[-1]):
        yield from _read_token(name, chain(above, lines), notes)
        return
    current = [""]
    # Strict, so that an unclosed quote is an error and does not swallow rows.
    reader = csv.reader(_kept(chain(above, lines), current), delimiter=delimiter, strict=True, skipinitialspace=True)
    line, unquoted = len(above), 0
    try:
        header = next((row for row in reader if any(map(str.strip, row))), None)
        if header is None:
            kind = columns.kind.name
            raise DataError(f"{name} has no header; its first line must name an image and a {kind} column")
        image, caption = _find(columns, [column.strip() for column in header], name, notes)
        if delimiter != _usual_delimiter(name):
            notes.append(f"its columns are separated by {delimiter!r}")
        line, width = reader.line_num + 1, len(header)
        is_last = columns.kind is CAPTIONS and caption == width - 1
        for row in reader:
            if len(row) > width and is_last and line == reader.line_num:
                unquoted += _joined(row, width, image, current[0], delimiter)
            if len(row) != width and not _even(row, width):
                line = reader.line_num + 1
                continue
            if "\0" in row[image]:
                raise Fault(NUL)
            yield f"line {line}", row[image], columns.kind.of_text(row[caption])
            line = reader.line_num + 1
    except Fault as fault:
        raise DataError(f"{name} line {line}: {fault}") from None
    except csv.Error as error:
        raise DataError(f"{name} line {line}: {_why(error)}") from None
    if unquoted:
        notes.append(f"{unquoted:,} captions hold {delimiter!r} without quotes around them, and are read whole")


def _read_token(name: str, lines: Iterable[str], notes: list[str]) -> Iterator[PlacedRow]:
    notes.append("read as a .token file: name.jpg#0, a TAB, and a caption")
    place = "line 1"
    try:
        for number, image, caption in token_rows(enumerate(lines, start=1)):
            place = f"line {number}"
            yield place, image, CAPTIONS.of_text(caption)
    except Fault as fault:
        where = name if str(fault).startswith("line ") else f"{name} {place}:"
        raise DataError(f"{where} {fault}") from None


def _kept(lines: Iterable[str], current: list[str]) -> Iterator[str]:
    for line in lines:
        current[0] = line
        yield line


def _joined(row: list[str], width: int, image: int, line: str, delimiter: str) -> bool:
    """Make one cell of a last column whose text has delimiters and no quotes; return whether that was possible.

    It is not where a cell is quoted, nor where the delimiter may belong to the image's path.
    """
    pieces = line.rstrip("\r\n").split(delimiter)
    quoted = len(pieces) != len(row) or any(piece.lstrip().startswith('"') for piece in pieces)
    named = [PurePath(cell.strip()).suffix[1:].casefold() in IMAGE_EXTENSIONS for cell in row]
    if quoted or not any(cell.strip() for cell in row[width:]) or (any(named) and not named[image]):
        return False
    row[width - 1 :] = [delimiter.join(pieces[width - 1 :])]
    return True


def _usual_delimiter(name: str) -> str:
    """Return the delimiter that a file's extension promises."""
    return {".tsv": "\t", ".tab": "\t", ".psv": "|"}.get(PurePath(name.lower().removesuffix(".gz")).suffix, ",")


def _find_header(name: str, lines: Iterator[str], columns: Columns) -> tuple[list[str], str]:
    """Return the lines up to the header, and the delimiter under which it has the most known columns, then columns.

    A line such as sep=; overrules that.
    """
    above: list[str] = []
    for line in lines:
        above.append(line)
        if "\0" in line:
            raise DataError(f"{name} line {len(above)}: {NUL}")
        if told := _SEPARATOR_LINE.fullmatch(line):
            return ["\n"] * len(above) + [next(lines, "")], told[1]
        if line.strip():
            return above, max(_DELIMITERS, key=lambda delimiter: _promise(line, delimiter, columns))
    return above, ","


def _promise(line: str, delimiter: str, columns: Columns) -> tuple[int, int]:
    try:
        names = next(csv.reader([line], delimiter=delimiter, skipinitialspace=True), [])
    except csv.Error:  # a line longer than csv takes
        return 0, 0
    return columns.known_in([column.strip() for column in names]), len(names)


def _even(row: list[str], width: int) -> bool:
    """Pad or cut a row to the header's width and return whether it has content; raises Fault for a cell too many."""
    if len(row) <= 1 and not "".join(row).strip():
        return False
    if any(cell.strip() for cell in row[width:]):
        raise Fault(f"{len(row)} cells in {width} columns; put text that contains the separator in quotes")
    row.extend([""] * (width - len(row)))
    return True


def _why(error: csv.Error) -> str:
    if "field larger" in str(error):
        return f"{error}, probably after an unclosed quote; correct or remove this line"
    if "unexpected end" in str(error):
        return 'a quote opened here is never closed; close it, or write "" for a quote inside a quoted cell'
    return f'a quote ends before its cell does ({error}); write "" for a quote inside a quoted cell'


# JSON


def _read_json(name: str, text: io.TextIOWrapper, columns: Columns, notes: list[str]) -> Iterator[PlacedRow]:
    lines = ((number, line) for number, line in enumerate(text, start=1) if line.strip())
    first = list(islice(lines, 2))
    if not first:
        kind = columns.kind.name
        raise DataError(f"{name} is empty; each line must be a JSON object with an image and a {kind}")
    objects = _listed(name, [line for _, line in first], text, columns, notes) or _objects(name, chain(first, lines))
    if columns.kind is CAPTIONS and columns.text is None:
        objects = _answered(objects, notes)
    try:
        head = list(islice(objects, _FIRST_OBJECTS))
        keys = list(dict.fromkeys(key for _, row in head for key in row))
        image, caption = (keys[place] for place in _find(columns, keys, name, notes))
        for place, row in chain(head, objects):
            try:
                found = columns.path_of(row.get(image)), columns.kind.of_value(row.get(caption))
            except Fault as fault:
                raise Fault(f"{place}: {fault}") from None
            yield place, *found
    except Fault as fault:
        raise DataError(f"{name} {fault}") from None


_Object = tuple[str, Mapping[str, Any]]  # with its place in the file


def _objects(name: str, lines: Iterable[tuple[int, str]]) -> Iterator[_Object]:
    for number, line in lines:
        yield _object(name, f"line {number}", _parsed(name, f" line {number}", line))


def _listed(
    name: str, first: list[str], text: io.TextIOWrapper, columns: Columns, notes: list[str]
) -> Iterator[_Object] | None:
    """Return the objects of a file that is one JSON value, None where it is one of JSON lines.

    `first` are the first two lines, or the only one.
    """
    start = first[0].strip()
    if start.startswith("["):
        return items_of(_parsed(name, "", "".join(first) + text.read()))
    if start == "{":  # printed over many lines
        value = _parsed(name, "", "".join(first) + text.read())
    elif len(first) > 1:
        return None
    else:
        try:
            value = json.loads(start)
        except (ValueError, RecursionError):  # _objects names the line
            return None
    try:
        rows = rows_of_document(value, notes) if columns.kind is CAPTIONS and isinstance(value, dict) else None
    except Fault as fault:
        raise DataError(f"{name} {fault}") from None
    return iter([_object(name, "line 1", value)]) if rows is None and start == "{" else rows


def _answered(objects: Iterable[_Object], notes: list[str]) -> Iterator[_Object]:
    """Yield objects with a caption for those that hold a conversation."""
    asked = more = 0
    for place, row in objects:
        try:
            found, others = from_conversation(row)
        except Fault as fault:
            raise Fault(f"{place}: {fault}") from None
        asked += found is not row
        more += others
        yield place, found
    if asked:
        notes.append(f"the captions of {asked:,} conversations are their first answers; {more:,} have others")


def _parsed(name: str, place: str, text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        place = place or f" line {error.lineno}"
        raise DataError(f"{name}{place}: invalid JSON ({error.msg}); each line must be a whole object") from None
    except (ValueError, RecursionError) as error:  # a number with thousands of digits; deep nesting
        raise DataError(f"{name}{place}: unreadable JSON ({error})") from None


def _object(name: str, place: str, value: Any) -> _Object:
    if not isinstance(value, dict):
        raise DataError(f"{name} {place}: not a JSON object with an image and its text")
    return place, value


# Parquet


def _read_parquet(name: str, file: BinaryIO, columns: Columns, notes: list[str]) -> Iterator[PlacedRow]:
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError:
        raise UsageError(f"reading {name} needs pyarrow: pip install 'zeroshot-cli[parquet]'") from None
    row = 0
    try:
        table = pq.ParquetFile(file)
        header = table.schema_arrow.names
        names = [header[place] for place in _find(columns, header, name, notes)]
        if names[0] != names[1]:
            _check_paths(name, table.schema_arrow.field(names[0]))
        for row, (image, caption) in enumerate(_values(table, names), start=1):
            yield f"row {row}", columns.path_of(image), columns.kind.of_value(caption)
    except Fault as fault:
        raise DataError(f"{name} row {row}: {fault}") from None
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())
        raise DataError(f"{name} is damaged or not Parquet ({reason}); write or copy it again") from None


def _values(table: Any, names: list[str]) -> Iterator[tuple[Any, ...]]:
    for batch in table.iter_batches(_BATCH, columns=names):
        yield from zip(*(batch.column(name).to_pylist() for name in names), strict=True)


def _check_paths(name: str, field: Any) -> None:
    """Raise DataError where a column has numbers, or images themselves, as data sets of Hugging Face do."""
    import pyarrow as pa

    kind = field.type.value_type if pa.types.is_dictionary(field.type) else field.type
    if not any(is_text(kind) for is_text in (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view)):
        raise DataError(
            f"{name} has {kind} in its image column {field.name!r}, not the paths of files; write the images to "
            "files, or to a WebDataset tar with their captions"
        )
