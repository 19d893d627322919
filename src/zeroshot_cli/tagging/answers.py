"""The labels of images, as `zeroshot classify` wrote them, people corrected them, or a log of corrections says."""

import csv
import io
from collections.abc import Generator, Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, BinaryIO

from zeroshot_cli.documents import load_json
from zeroshot_cli.errors import DataError, UsageError
from zeroshot_cli.pairs.tables import Form, form_of
from zeroshot_cli.records import UNKNOWN
from zeroshot_cli.results.formats import as_was

_DELIMITERS = (",", "\t", ";")
_COLUMNS = ("path", "label", "rank", "probability", "error", "group", "was", "when")
_BATCH = 10_000  # rows of Parquet in memory at once


@dataclass(frozen=True, slots=True)
class Answer:
    """A label, the names above it in its hierarchy, and its probability; None where a person decided."""

    label: str
    group: tuple[str, ...] = ()
    probability: float | None = None

    @property
    def path(self) -> tuple[str, ...]:
        """The names from the top of the hierarchy to the label, whether or not its group ends with it."""
        return self.group if self.group[-1:] == (self.label,) else (*self.group, self.label)


@dataclass(slots=True)
class Answers:
    """The answers of each image, best first, none for what is unknown; and the images that could not be read.

    `is_log` says that they are a log of corrections, where the last line of an image counts.
    """

    images: dict[str, list[Answer]] = field(default_factory=dict)
    errors: set[str] = field(default_factory=set)
    is_log: bool = False

    def as_were(self) -> "Answers":
        """Return the answers of a table of `classify --excel-safe` without its quotes."""
        images = {
            as_was(path): [replace(each, label=as_was(each.label)) for each in answers]
            for path, answers in self.images.items()
        }
        return Answers(images, {*map(as_was, self.errors)}, self.is_log)


def read_answers(path: Path) -> Answers:
    """Read CSV, TSV, JSON lines or Parquet; raises UsageError without the file, DataError for what is wrong in it."""
    found = Answers()
    try:
        with path.open("rb") as file, closing(_rows(path, file)) as rows:
            for place, row in rows:
                try:
                    _add(found, row)
                except (ValueError, TypeError, AttributeError) as error:
                    raise DataError(f"{path}, {place}: not a result of zeroshot classify ({error})") from None
    except FileNotFoundError:
        raise UsageError(f"there is no file {path}; name what zeroshot classify wrote with --output") from None
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}); check the path and its permissions") from None
    if not found.images and not found.errors and not found.is_log:
        raise DataError(f"{path} has no rows; name what zeroshot classify wrote with --output")
    return found


def _add(found: Answers, row: Mapping[str, Any]) -> None:
    path = row.get("path")
    if not isinstance(path, str) or not path:
        raise ValueError("it has no path")
    found.is_log = found.is_log or {"was", "when"} <= row.keys()
    if row.get("error"):
        found.errors.add(path)
        return
    if found.is_log:
        found.images.pop(path, None)
        if not row.get("label"):  # its only correction was undone
            return
    answers = found.images.setdefault(path, [])
    predictions = [row] if row.get("predictions") is None else row["predictions"]
    if predictions[:1] and "nearest" not in row and row.get("label") != predictions[0].get("label"):
        predictions = [{**row, "probability": None}]  # corrected by hand: the others were a model's
    if row.get("label") and row["label"] != UNKNOWN:
        answers.extend(_answer({"group": row.get("group"), **each}) for each in predictions)


def _answer(row: Mapping[str, Any]) -> Answer:
    probability, group = row.get("probability"), row.get("group") or ""
    names = group.split("/") if isinstance(group, str) else group
    return Answer(str(row["label"]), tuple(map(str, filter(None, names))), _number(probability))


def _number(value: Any) -> float | None:
    try:
        return None if value in (None, "") else float(value)
    except ValueError:
        raise ValueError(f"{value!r} is not a probability") from None


# Rows of the three forms, with the place of each


def _rows(path: Path, file: BinaryIO) -> Generator[tuple[str, Mapping[str, Any]]]:
    form = form_of(str(path), file)
    if form is Form.TAR:
        raise DataError(f"{path} is a tar, not results; name what zeroshot classify wrote with --output")
    file.seek(0)
    if form is Form.PARQUET:
        yield from _parquet_rows(path, file)
        return
    mark = file.read(2)
    file.seek(0)
    encoding = "utf-16" if mark in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    text = io.TextIOWrapper(file, encoding, errors="surrogateescape", newline="")
    try:
        yield from (_csv_rows if form is Form.CSV else _json_rows)(path, text)
    finally:
        text.detach()  # the file is not ours to close


def _csv_rows(path: Path, text: Iterable[str]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    lines = iter(text)
    header = next(lines, "").rstrip("\r\n")
    delimiter = max(_DELIMITERS, key=lambda each: len(set(header.split(each)) & set(_COLUMNS)))
    names = next(csv.reader([header], delimiter=delimiter), [])
    _check_columns(path, names)
    reader = csv.DictReader(lines, names, delimiter=delimiter, strict=True)
    line = 2
    try:
        for row in reader:
            yield f"line {line}", row
            line = reader.line_num + 2
    except csv.Error as error:
        raise DataError(f"{path}, line {line}: damaged ({error}); restore the line") from None


def _json_rows(path: Path, text: Iterable[str]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for number, line in enumerate(text, start=1):
        if not line.strip():
            continue
        try:
            row = load_json(line)
        except ValueError as error:
            raise DataError(f"{path}, line {number}: invalid JSON ({error})") from None
        if not isinstance(row, dict):
            raise DataError(f"{path}, line {number}: not a JSON object with path and label")
        yield f"line {number}", row


def _parquet_rows(path: Path, file: BinaryIO) -> Iterator[tuple[str, Mapping[str, Any]]]:
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError:
        raise UsageError(f"reading {path} needs pyarrow: pip install 'zeroshot-cli[parquet]'") from None
    try:
        table = pq.ParquetFile(file)
        _check_columns(path, table.schema_arrow.names)
        wanted = [name for name in _COLUMNS if name in table.schema_arrow.names]
        rows = (row for batch in table.iter_batches(_BATCH, columns=wanted) for row in batch.to_pylist())
        yield from ((f"row {number}", row) for number, row in enumerate(rows, start=1))
    except pa.ArrowException as error:
        reason = " ".join(str(error).split())
        raise DataError(f"{path} is damaged or not Parquet ({reason}); write or copy it again") from None


def _check_columns(path: Path, names: Iterable[str]) -> None:
    lacking = [name for name in ("path", "label") if name not in names]
    if lacking:
        raise DataError(
            f"{path} has no column {lacking[0]!r}; name what zeroshot classify wrote with --output, or its corrections"
        )
