"""The labels of images, as `zeroshot classify` wrote them, people corrected them, or a log of corrections says."""

from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from zeroshot_cli.disk import similar_path
from zeroshot_cli.errors import DataError, UsageError
from zeroshot_cli.pairs.results import result_rows
from zeroshot_cli.records import UNKNOWN
from zeroshot_cli.results.formats import as_was
from zeroshot_cli.results.shards.parts import check_no_parts

_WAY_OUT = "name what zeroshot classify wrote with --output"
_COLUMNS = ("path", "label", "rank", "probability", "error", "group", "was", "when")


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
    check_no_parts(path)
    found = Answers()
    try:
        with (
            path.open("rb") as file,
            closing(result_rows(str(path), file, known=_COLUMNS, needed=("path", "label"))) as rows,
        ):
            for place, row in rows:
                try:
                    _add(found, row)
                except (ValueError, TypeError, AttributeError) as error:
                    raise DataError(f"{path}, {place}: not a result of zeroshot classify ({error})") from None
    except FileNotFoundError:
        way_out = similar_path(str(path)) or _WAY_OUT
        raise UsageError(f"there is no file {path}; {way_out}") from None
    except IsADirectoryError:
        raise DataError(f"{path} is a folder; {_WAY_OUT}") from None
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}); check the path and its permissions") from None
    if not found.images and not found.errors and not found.is_log:
        raise DataError(f"{path} has no rows; {_WAY_OUT}")
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
