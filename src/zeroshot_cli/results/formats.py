r"""Results for scripts: CSV, TSV and JSONL, with one flushed write per block of images, so a file is always valid.

`score` and `probability` have six decimals in CSV and TSV, six significant digits in JSONL. A rejected image is one
row, `unknown`, with the score and the probability of the nearest label.
Paths are written as given, byte for byte; in JSONL, bytes that are not UTF-8 are lone surrogates, as `\udcff`.
"""

import codecs
import csv
import json
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, Protocol, TypeVar

from zeroshot_cli.disk import write_all, writing
from zeroshot_cli.display import escaped, shown_lines
from zeroshot_cli.documents import load_json
from zeroshot_cli.errors import UsageError
from zeroshot_cli.records import SEPARATOR, UNKNOWN, Counts, LabelScore, Prediction, Result, SkippedImage

COLUMNS = ("path", "rank", "label", "score", "probability", "error")
MARK = codecs.BOM_UTF8  # by which Excel knows UTF-8
NOTE = "note"  # one more column where images may be read in part
GROUP = "group"  # one more, the last, where labels have groups: the path, with slashes
_FORMULA = ("=", "+", "-", "@", "\t", "\r")
_QUOTED = re.compile('["\n\r]')
_NO_BYTE = re.compile("[\ud800-\udc7f\udd00-\udfff]")  # surrogates that stand for no byte of a path


class Format(StrEnum):
    """The formats of results on standard output."""

    TABLE = "table"
    CSV = "csv"
    TSV = "tsv"
    JSONL = "jsonl"


class OutputEncoding(StrEnum):
    """How tables in files are encoded; `utf-8-sig` is UTF-8 that begins with a mark, by which Excel knows it."""

    UTF_8 = "utf-8"
    UTF_8_SIG = "utf-8-sig"


DELIMITERS = {Format.CSV: ",", Format.TSV: "\t"}


class Extension(StrEnum):
    """The formats of results in files, by extension."""

    CSV = "csv"
    TSV = "tsv"
    JSONL = "jsonl"
    PARQUET = "parquet"
    XLSX = "xlsx"
    HTML = "html"


FormatT = TypeVar("FormatT", bound=StrEnum)

STREAMED = (
    Extension.CSV,
    Extension.TSV,
    Extension.JSONL,
)  # written image by image; the others when all images are done


class Sink(Protocol):
    """A destination for results, which come in blocks and in order."""

    def write(self, items: Sequence[Result]) -> None:
        """Take a block of results."""


class Writer:
    """A sink that renders each block and appends it as one piece."""

    def __init__(self, append: Callable[[bytes], None], render: Callable[[Sequence[Result]], bytes]) -> None:
        self._append = append
        self._render = render

    def write(self, items: Sequence[Result]) -> None:
        """Append a rendered block."""
        self._append(self._render(items))


def row_writer(
    append: Callable[[bytes], None],
    form: Format,
    *,
    header: bool = True,
    more: Sequence[str] = (),
    excel_safe: bool = False,
    marked: bool = False,
) -> Writer:
    """Return a sink that appends rows in a format, with its header first, which a byte order mark precedes if `marked`.

    `more` are columns that only some runs have: NOTE, GROUP.
    """
    if header and header_of(form, more):
        append(header_of(form, more, marked=marked))
    return Writer(append, partial(rendered, form=form, more=more, excel_safe=excel_safe))


def stream_writer(stream: BinaryIO, form: Format, *, more: Sequence[str] = (), excel_safe: bool = False) -> Writer:
    """Return a sink that writes to standard output, flushed after every block; on a terminal, text is escaped.

    Raises UsageError if it cannot be written; a closed pipe stays a BrokenPipeError.
    """
    printable = _shown_json if form is Format.JSONL else shown_lines
    on_terminal = stream.isatty()

    def append(data: bytes) -> None:
        if on_terminal:
            data = printable(data.decode("utf-8", "surrogateescape")).encode()
        with writing("standard output"):
            write_all(stream, data)

    return row_writer(append, form, more=more, excel_safe=excel_safe)


def _shown_json(text: str) -> str:
    """Return lines of JSON with what cannot be printed escaped as JSON does."""
    return escaped(text, lambda character: json.dumps(character)[1:-1], keep="\n")


def rendered(items: Sequence[Result], form: Format, *, more: Sequence[str] = (), excel_safe: bool = False) -> bytes:
    """Return a block of results as it is written to a file; with `excel_safe` no text is a formula."""
    if form is Format.JSONL:
        # Escaped here, not by ensure_ascii: every other script stays readable.
        lines = (json_line(item, grouped=GROUP in more) for item in items)
        return "".join(lines).encode("utf-8", "backslashreplace")
    delimiter = DELIMITERS[form]
    text_of = no_formula if excel_safe else str
    rows = (fields for item in items for fields in _rows(item, text_of, more))
    return to_bytes("".join(delimited_row(fields, delimiter) for fields in rows))


def no_formula(text: str) -> str:
    """Return text with a quote before it if Excel would take it for a formula; `=1+1` becomes `'=1+1`."""
    return f"'{text}" if text.startswith(_FORMULA) else text


def as_was(text: str) -> str:
    """Return text without the quote that `no_formula` put before it."""
    return text[1:] if text.startswith("'") and text[1:].startswith(_FORMULA) else text


def header_of(form: Format, more: Sequence[str] = (), *, marked: bool = False) -> bytes:
    """Return the first line of a file, after a byte order mark if it is `marked`; empty for JSONL."""
    columns = (*COLUMNS, *more)
    return b"" if form is Format.JSONL else MARK * marked + to_bytes(delimited_row(columns, DELIMITERS[form]))


def extension_of(path: Path) -> Extension:
    """Return the format of results that a file's extension names; UsageError if it names none."""
    return format_of(path, Extension)


def format_of(path: Path, formats: type[FormatT]) -> FormatT:
    """Return the one of several formats that a file's extension names; UsageError if it names none of them."""
    for form in formats:
        if path.suffix.lower() == f".{form}":
            return form
    expected = [f".{form}" for form in formats]
    if path.suffix:
        excel = "; Excel opens .csv" if path.suffix.lower() == ".xlsx" and ".csv" in expected else ""
        raise UsageError(
            f"cannot write {path}: unknown extension {path.suffix!r}; expected one of {', '.join(expected)}{excel}"
        )
    raise UsageError(
        f"cannot write {path}: it has no extension; expected one of {', '.join(expected)}, as in {path}{expected[0]}"
    )


def to_bytes(text: str) -> bytes:
    """Return UTF-8; bytes of a path that are not UTF-8 are kept."""
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:  # a surrogate that stands for no byte, as JSON's "\ud800"
        return _NO_BYTE.sub(lambda found: f"\\u{ord(found[0]):04x}", text).encode("utf-8", "surrogateescape")


def delimited_row(fields: Sequence[str], delimiter: str) -> str:
    """Return one line; a field that contains a delimiter, a quote or a line break is quoted (RFC 4180)."""
    plain = delimiter.join(fields)
    if plain.count(delimiter) == len(fields) - 1 and not _QUOTED.search(plain):
        return plain + "\n"  # nearly every row
    return delimiter.join(_quoted(field, delimiter) for field in fields) + "\n"


def json_line(item: Result, *, grouped: bool = False) -> str:
    """Return one image as a JSON object on one line, labels `grouped` by path; lone surrogates are not escaped yet."""
    return json.dumps(_as_json(item, grouped=grouped), ensure_ascii=False) + "\n"


def _quoted(field: str, delimiter: str) -> str:
    # Python 3.11's csv does not quote a lone carriage return, which its own reader takes for a line break.
    if any(character in field for character in (delimiter, '"', "\n", "\r")):
        return '"' + field.replace('"', '""') + '"'
    return field


def _rows(item: Result, text_of: Callable[[str], str], more: Sequence[str]) -> list[tuple[str, ...]]:
    """Return the fields of an image's rows; `text_of` writes paths, labels and reasons, but no number."""
    path = text_of(item.path)
    if isinstance(item, SkippedImage):
        return [(path, "", "", "", "", text_of(item.reason), *more_fields(item, None, more))]
    return [
        (
            path,
            str(rank),
            text_of(best.label),
            f"{best.score:.6f}",
            f"{best.probability:.6f}",
            "",
            *map(text_of, others),
        )
        for rank, best in enumerate(labels_to_show(item), start=1)
        for others in [more_fields(item, best, more)]
    ]


def more_columns(settings: Mapping[str, object]) -> tuple[str, ...]:
    """Return the columns that not every run has: of notes, where images may be read in part, and of groups."""
    return (*[NOTE] * bool(settings.get("truncated")), *[GROUP] * bool(settings.get("groups")))


def more_fields(item: Result, best: LabelScore | None, more: Sequence[str]) -> tuple[str, ...]:
    """Return what columns that only some runs have say of an image and one of its labels; mostly nothing."""
    if not more:
        return ()
    known = {NOTE: "" if isinstance(item, SkippedImage) else item.note, GROUP: best.path_of_group if best else ""}
    return tuple(known[name] for name in more)


def labels_to_show(item: Prediction) -> tuple[LabelScore, ...]:
    """Return the labels of an image's rows, best first; only `unknown` if it was rejected."""
    return (LabelScore(UNKNOWN, item.score, item.probability),) if item.rejected else item.predictions


def _as_json(item: Result, *, grouped: bool) -> dict[str, Any]:
    if isinstance(item, SkippedImage):
        return {"path": item.path, "error": item.reason}
    return {
        "path": item.path,
        "label": item.label,
        **({"nearest": item.nearest} if item.rejected else {}),
        **({GROUP: SEPARATOR.join(item.group)} if grouped else {}),
        "score": _rounded(item.score),
        "probability": _rounded(item.probability),
        "margin": None if item.margin is None else _rounded(item.margin),
        "predictions": [_label_json(best, grouped=grouped) for best in item.predictions],
        **({"note": item.note} if item.note else {}),
    }


def rows_in(text: str, delimiter: str = ",") -> list[list[str]]:
    """Return the rows of a text that this package wrote, however long a field is; csv.Error if it is damaged."""
    usual = csv.field_size_limit()
    csv.field_size_limit(max(usual, len(text)))
    try:
        return list(csv.reader([text], delimiter=delimiter, strict=True))
    finally:
        csv.field_size_limit(usual)


def csv_records(stream: BinaryIO, *, longest: int = sys.maxsize) -> Iterator[bytes]:
    """Yield the records of a CSV file with the line breaks in their quotes; the last may be torn.

    So may be a record over `longest` bytes, which is cut short so that a quote that is never closed does not fill the
    memory.
    """
    lines, length, in_quotes = list[bytes](), 0, False
    for line in stream:
        lines.append(line)
        length += len(line)
        in_quotes ^= line.count(b'"') % 2 == 1
        if not in_quotes or length >= longest:
            yield b"".join(lines)
            lines, length, in_quotes = [], 0, False
    if lines:
        yield b"".join(lines)


def is_torn(record: bytes) -> bool:
    """Return whether a CSV record ends too early, outside or inside quotes."""
    return not record.endswith(b"\n") or record.count(b'"') % 2 == 1


def _label_json(best: LabelScore, *, grouped: bool) -> dict[str, Any]:
    found = {"label": best.label, "score": _rounded(best.score), "probability": _rounded(best.probability)}
    return {**found, GROUP: best.path_of_group} if grouped else found


def _rounded(value: float) -> float:
    return float(f"{value:.6g}")


# The journal: every result exactly, one line per image, for the reports made when all images are done. It is internal:
# floats are written as Python's repr, lone surrogates like any other character, so what is read is what was written.


def journal_lines(items: Sequence[Result]) -> bytes:
    """Return results as lines of the journal."""
    return b"".join(map(journal_line, items))


def journal_line(item: Result) -> bytes:
    """Return one result as a line."""
    text = json.dumps(_exact(item), ensure_ascii=False, separators=(",", ":"))
    return text.encode("utf-8", "surrogatepass") + b"\n"


def is_journal(file: BinaryIO) -> bool:
    """Return whether an open file may be overwritten as a journal: it begins as one, or is empty or zeros."""
    line = file.readline()
    try:
        return not line.strip(b"\0") or bool(parse_line(line))
    except (ValueError, AttributeError, RecursionError):
        return line.startswith(b'{"path":') and not line.endswith(b"\n")  # cut short


def parse_line(line: bytes) -> Result:
    """Return the result on a line; ValueError if there is none."""
    fields = load_json(line.decode("utf-8", "surrogatepass"))
    try:
        if "error" in fields:
            return SkippedImage(fields["path"], fields["error"])
        return Prediction(
            fields["path"],
            _labels(fields["predictions"]),
            fields["margin"],
            rejected=fields["rejected"],
            others=_labels(fields["others"]),
            note=fields.get("note", ""),
        )
    except (KeyError, TypeError) as error:
        raise ValueError(f"no result: {error}") from error


def _exact(item: Result) -> dict[str, Any]:
    if isinstance(item, SkippedImage):
        return {"path": item.path, "error": item.reason}
    return {
        "path": item.path,
        "predictions": list(map(_exact_label, item.predictions)),
        "margin": item.margin,
        "rejected": item.rejected,
        "others": list(map(_exact_label, item.others)),
        **({"note": item.note} if item.note else {}),
    }


def _exact_label(best: LabelScore) -> tuple[Any, ...]:
    return (best.label, best.score, best.probability, *best.group)


def _labels(rows: list[list[Any]]) -> tuple[LabelScore, ...]:
    return tuple(LabelScore(label, score, probability, tuple(group)) for label, score, probability, *group in rows)


def deliver(blocks: Iterable[Sequence[Result]], sinks: Sequence[Sink], *, before: Counts | None = None) -> Counts:
    """Write every block to every sink; return the counts, added to those of `before`."""
    counts = before or Counts()
    for block in blocks:
        for sink in sinks:
            sink.write(block)
        counts = counts.plus(block)
    return counts
