"""Results for scripts: CSV, TSV and JSONL, one flushed write a block of images, so that a file is valid at any moment.

Numbers: `score` and `probability` have six decimals in CSV and TSV, six significant digits in JSONL. An image that was
rejected is one row, `unknown`, with the score and the probability of the nearest label.
Paths are written as given, byte for byte; in JSONL, bytes that are not UTF-8 are lone surrogates, as `\\udcff`.
"""

# pathlib's questions raise OSError where a name is too long or a folder is locked; opening names the reason.
# ruff: noqa: PTH112

import errno
import hashlib
import json
import os
import re
import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from enum import StrEnum
from pathlib import Path
from typing import Any, BinaryIO, Protocol, TypeVar

from zeroshot_cli.errors import UsageError
from zeroshot_cli.records import UNKNOWN, LabelScore, Prediction, SkippedImage

Result = Prediction | SkippedImage
COLUMNS = ("path", "rank", "label", "score", "probability", "error")
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)
_QUOTED = re.compile('["\n\r]')
_NO_BYTE = re.compile("[\ud800-\udc7f\udd00-\udfff]")  # surrogates that stand for no byte of a path


class Format(StrEnum):
    """The forms that results have on standard output."""

    TABLE = "table"
    CSV = "csv"
    TSV = "tsv"
    JSONL = "jsonl"


DELIMITERS = {Format.CSV: ",", Format.TSV: "\t"}


class Ending(StrEnum):
    """The forms that results have in files, by a file's ending."""

    CSV = "csv"
    TSV = "tsv"
    JSONL = "jsonl"
    PARQUET = "parquet"
    HTML = "html"


FormT = TypeVar("FormT", bound=StrEnum)

STREAMED = (Ending.CSV, Ending.TSV, Ending.JSONL)  # written image by image; the others when all images are done


class Sink(Protocol):
    """A place for results, which come in blocks and in order; `close` completes it."""

    def write(self, items: Sequence[Result]) -> None: ...

    def close(self) -> None: ...


class Target(Protocol):
    """A place for bytes."""

    def append(self, data: bytes) -> None: ...

    def close(self) -> None: ...


class RowWriter:
    """A sink that renders results for a target: one append a block."""

    def __init__(self, target: Target, form: Format, *, header: bool = True) -> None:
        self._target = target
        self._form = form
        if header and header_of(form):
            target.append(header_of(form))

    def write(self, items: Sequence[Result]) -> None:
        self._target.append(rendered(items, self._form))

    def close(self) -> None:
        self._target.close()


class StreamTarget:
    """An open stream as a target, flushed after every block and never closed.

    UsageError where it cannot be written; a closed pipe stays a BrokenPipeError.
    """

    def __init__(self, stream: BinaryIO, name: str = "standard output") -> None:
        self._stream = stream
        self._name = name

    def append(self, data: bytes) -> None:
        with writing(self._name):
            write_all(self._stream, data)

    def close(self) -> None:
        pass


def open_writer(stream: BinaryIO, form: Format) -> RowWriter:
    """Return a sink that writes to a binary stream, as standard output; closing the sink leaves the stream open."""
    return RowWriter(StreamTarget(stream), form)


def write_all(stream: BinaryIO, data: bytes) -> None:
    """Write all bytes, which an unbuffered stream may take in pieces, and flush."""
    rest = memoryview(data)
    while rest:
        rest = rest[stream.write(rest) :]
    stream.flush()


def rendered(items: Sequence[Result], form: Format) -> bytes:
    """Return a block of results as it stands in a file."""
    if form is Format.JSONL:
        # Escaped here, not by ensure_ascii: every other script stays readable.
        return "".join(map(json_line, items)).encode("utf-8", "backslashreplace")
    delimiter = DELIMITERS[form]
    return to_bytes("".join(delimited_row(fields, delimiter) for item in items for fields in _rows(item)))


def header_of(form: Format) -> bytes:
    """Return what a file begins with."""
    return b"" if form is Format.JSONL else to_bytes(delimited_row(COLUMNS, DELIMITERS[form]))


def ending_of(path: Path) -> Ending:
    """Return the form of results that a file's ending names; UsageError where it is none of ours."""
    return form_of(path, Ending)


def form_of(path: Path, forms: type[FormT]) -> FormT:
    """Return which of some forms a file's ending names; UsageError where it is none of them."""
    for form in forms:
        if path.suffix.lower() == f".{form}":
            return form
    endings = ", ".join(f".{form}" for form in forms)
    raise UsageError(f"cannot write {path}: its ending {path.suffix!r} is none of {endings}")


def check_output(path: Path, *, overwrite: bool) -> None:
    """Raise UsageError where a file exists and may not be overwritten, or cannot be made."""
    with writing(str(path)), suppress(FileNotFoundError, NotADirectoryError):
        os.lstat(path)  # a name too long, a locked folder
    if os.path.isdir(path):
        raise UsageError(f"cannot write {path}: it is a folder; name a file in it")
    if not os.path.isdir(path.parent):
        raise UsageError(f"cannot write {path}: there is no folder {path.parent}; make it first")
    if os.path.lexists(path) and not overwrite:
        raise UsageError(f"{path} exists already; add --overwrite to replace it, or name another file")


@contextmanager
def writing(name: str, *, resumable: bool = False) -> Iterator[None]:
    """Turn a failed write to `name` into a UsageError; a closed pipe stays what it is.

    Where the disk failed and the file is `resumable`, the sentence says how to go on.
    """
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        go_on = "; what was written is valid, and --resume goes on from there"
        hint = go_on if resumable and error.errno in _FULL else ""
        raise UsageError(f"cannot write {name}: {error.strerror or error}{hint}") from error


@contextmanager
def replacing(path: Path, *, resumable: bool = False) -> Iterator[Path]:
    """Give the name of an unfinished file that becomes `path` when it is written; UsageError where it cannot.

    At any time `path` is the old file, none, or the whole new one. A link stays, and the file that it leads to changes.
    """
    path = Path(os.path.realpath(path))
    # Short, however long the name of `path`. A run that is resumed holds locks, and writes over what it left behind.
    unique = hashlib.sha256(os.fsencode(path.name)).hexdigest()[:12] if resumable else secrets.token_hex(6)
    unfinished = path.with_name(f".{unique}.unfinished")
    try:
        yield unfinished
        with writing(str(path), resumable=resumable):
            with unfinished.open("r+b") as file:
                os.fsync(file.fileno())  # a name that outlives a power cut before its bytes do would be an empty file
            unfinished.replace(path)
    except BaseException:
        with suppress(OSError):
            unfinished.unlink()
        raise


def to_bytes(text: str) -> bytes:
    """Return UTF-8, with the bytes of a path that are not UTF-8 as they were."""
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:  # a surrogate that stands for no byte, as JSON's "\ud800"
        return _NO_BYTE.sub(lambda found: f"\\u{ord(found[0]):04x}", text).encode("utf-8", "surrogateescape")


def delimited_row(fields: Sequence[str], delimiter: str) -> str:
    """Return one line; a field with a delimiter, a quote or any line break in it is quoted (RFC 4180)."""
    plain = delimiter.join(fields)
    if plain.count(delimiter) == len(fields) - 1 and not _QUOTED.search(plain):
        return plain + "\n"  # nearly every row
    return delimiter.join(_quoted(field, delimiter) for field in fields) + "\n"


def json_line(item: Result) -> str:
    """Return one JSON object on one line, for one image; lone surrogates are still to be escaped."""
    return json.dumps(_as_json(item), ensure_ascii=False) + "\n"


def _quoted(field: str, delimiter: str) -> str:
    # Python 3.11's csv leaves a lone carriage return bare, which its own reader takes for a line break.
    if any(character in field for character in (delimiter, '"', "\n", "\r")):
        return '"' + field.replace('"', '""') + '"'
    return field


def _rows(item: Result) -> list[tuple[str, ...]]:
    if isinstance(item, SkippedImage):
        return [(item.path, "", "", "", "", item.reason)]
    return [
        (item.path, str(rank), best.label, f"{best.score:.6f}", f"{best.probability:.6f}", "")
        for rank, best in enumerate(labels_to_show(item), start=1)
    ]


def labels_to_show(item: Prediction) -> tuple[LabelScore, ...]:
    """Return the labels of an image's rows, best first: one, `unknown`, where it was rejected."""
    return (LabelScore(UNKNOWN, item.score, item.probability),) if item.rejected else item.predictions


def _as_json(item: Result) -> dict[str, Any]:
    if isinstance(item, SkippedImage):
        return {"path": item.path, "error": item.reason}
    return {
        "path": item.path,
        "label": item.label,
        **({"nearest": item.nearest} if item.rejected else {}),
        "score": _rounded(item.score),
        "probability": _rounded(item.probability),
        "margin": None if item.margin is None else _rounded(item.margin),
        "predictions": [_label_json(best) for best in item.predictions],
    }


def _label_json(best: LabelScore) -> dict[str, Any]:
    return {"label": best.label, "score": _rounded(best.score), "probability": _rounded(best.probability)}


def _rounded(value: float) -> float:
    return float(f"{value:.6g}")
