"""Results for scripts: CSV, TSV and JSONL, one flushed write an image, so that a file is valid at any moment.

Numbers: `score` and `probability` have six decimals in CSV and TSV, six significant digits in JSONL.
Paths are written as given, byte for byte; in JSONL, bytes that are not UTF-8 are lone surrogates, as `\\udcff`.
"""

# pathlib's questions raise OSError where a name is too long or a folder is locked; opening names the reason.
# ruff: noqa: PTH110, PTH112

import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from enum import StrEnum
from pathlib import Path
from typing import Any, BinaryIO, Protocol

from zeroshot_cli.errors import UsageError
from zeroshot_cli.records import LabelScore, Prediction, SkippedImage

Result = Prediction | SkippedImage
COLUMNS = ("path", "rank", "label", "score", "probability", "error")


class Format(StrEnum):
    """The forms that results have on standard output; all but the table are file endings too."""

    TABLE = "table"
    CSV = "csv"
    TSV = "tsv"
    JSONL = "jsonl"


FILE_FORMATS = (Format.CSV, Format.TSV, Format.JSONL)


class Sink(Protocol):
    """A place for results; `close` completes it."""

    def write(self, item: Result) -> None: ...

    def close(self) -> None: ...


class FileWriter:
    """A sink that appends rows to a binary stream; `close` closes the stream if `owned`.

    UsageError where the stream cannot be written; a closed pipe stays a BrokenPipeError.
    """

    def __init__(self, stream: BinaryIO, form: Format, *, name: str, owned: bool) -> None:
        self._stream = stream
        self._name = name
        self._owned = owned
        self._render, header = _RENDERERS[form]
        self._put(header)

    def write(self, item: Result) -> None:
        self._put(self._render(item))

    def close(self) -> None:
        if self._owned:
            self._stream.close()

    def _put(self, text: str) -> None:
        with writing(self._name):
            self._stream.write(to_bytes(text))
            self._stream.flush()


def open_writer(target: Path | BinaryIO, form: Format | None = None, *, overwrite: bool = False) -> FileWriter:
    """Return a writer to a file, whose ending names the form unless `form` does, or to an open binary stream.

    UsageError where the ending is none of ours, or the file exists and may not be overwritten.
    """
    if not isinstance(target, Path):
        return FileWriter(target, form or Format.CSV, name="standard output", owned=False)
    form = form or format_of(target)
    check_output(target, overwrite=overwrite)
    with writing(str(target)):
        stream = target.open("wb" if overwrite else "xb")
    return FileWriter(stream, form, name=str(target), owned=True)


def check_outputs(paths: Sequence[Path], *, overwrite: bool) -> None:
    """Raise UsageError now for what `open_writer` would refuse after an hour's work, or for a file named twice."""
    for index, path in enumerate(paths):
        format_of(path)
        check_output(path, overwrite=overwrite)
        if path.resolve() in (other.resolve() for other in paths[:index]):
            raise UsageError(f"--output {path} is given twice; give each file once")


def format_of(path: Path) -> Format:
    """Return the form that a file's ending names."""
    for form in FILE_FORMATS:
        if path.suffix.lower() == f".{form}":
            return form
    endings = ", ".join(f".{form}" for form in FILE_FORMATS)
    raise UsageError(f"cannot write {path}: its ending {path.suffix!r} is none of {endings}")


def check_output(path: Path, *, overwrite: bool) -> None:
    """Raise UsageError where a file exists and may not be overwritten, or cannot be made."""
    with writing(str(path)), suppress(FileNotFoundError, NotADirectoryError):
        os.lstat(path)  # a name too long, a locked folder
    if os.path.isdir(path):
        raise UsageError(f"cannot write {path}: it is a folder; name a file in it")
    if not os.path.isdir(path.parent):
        raise UsageError(f"cannot write {path}: there is no folder {path.parent}; make it first")
    if os.path.exists(path) and not overwrite:
        raise UsageError(f"{path} exists already; add --overwrite to replace it, or name another file")


@contextmanager
def writing(name: str) -> Iterator[None]:
    """Turn a failed write to `name` into a UsageError; a closed pipe stays what it is."""
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        raise UsageError(f"cannot write {name}: {error.strerror or error}") from error


def to_bytes(text: str) -> bytes:
    """Return UTF-8, with the bytes of a path that are not UTF-8 as they were."""
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:  # a surrogate that stands for no byte, as JSON's "\ud800"
        return text.encode("utf-8", "backslashreplace")


def delimited_row(fields: Sequence[str], delimiter: str) -> str:
    """Return one line; a field with a delimiter, a quote or any line break in it is quoted (RFC 4180)."""
    return delimiter.join(_quoted(field, delimiter) for field in fields) + "\n"


def json_line(item: Result) -> str:
    """Return one JSON object on one line, for one image."""
    text = json.dumps(_as_json(item), ensure_ascii=False)
    # Escaped here, not by ensure_ascii: every other script stays readable.
    return text.encode("utf-8", "backslashreplace").decode("utf-8") + "\n"


def _quoted(field: str, delimiter: str) -> str:
    # Python 3.11's csv leaves a lone carriage return bare, which its own reader takes for a line break.
    if any(character in field for character in (delimiter, '"', "\n", "\r")):
        return '"' + field.replace('"', '""') + '"'
    return field


def _delimited(delimiter: str) -> Callable[[Result], str]:
    def render(item: Result) -> str:
        return "".join(delimited_row(fields, delimiter) for fields in _rows(item))

    return render


def _rows(item: Result) -> list[tuple[str, ...]]:
    if isinstance(item, SkippedImage):
        return [(item.path, "", "", "", "", item.reason)]
    return [
        (item.path, str(rank), best.label, f"{best.score:.6f}", f"{best.probability:.6f}", "")
        for rank, best in enumerate(item.predictions, start=1)
    ]


def _as_json(item: Result) -> dict[str, Any]:
    if isinstance(item, SkippedImage):
        return {"path": item.path, "error": item.reason}
    return {
        "path": item.path,
        **_label_json(item.predictions[0]),
        "margin": None if item.margin is None else _rounded(item.margin),
        "predictions": [_label_json(best) for best in item.predictions],
    }


def _label_json(best: LabelScore) -> dict[str, Any]:
    return {"label": best.label, "score": _rounded(best.score), "probability": _rounded(best.probability)}


def _rounded(value: float) -> float:
    return float(f"{value:.6g}")


_RENDERERS: dict[Format, tuple[Callable[[Result], str], str]] = {
    Format.CSV: (_delimited(","), delimited_row(COLUMNS, ",")),
    Format.TSV: (_delimited("\t"), delimited_row(COLUMNS, "\t")),
    Format.JSONL: (json_line, ""),
}
