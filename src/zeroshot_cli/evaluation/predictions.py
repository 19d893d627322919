"""What a model answered for every image of an evaluation: a row an image, in the data set's order."""

import json
from collections.abc import Callable, Iterator
from enum import StrEnum
from pathlib import Path
from typing import Any

from zeroshot_cli.disk import check_output, replacing, writing
from zeroshot_cli.evaluation.answers import Answers
from zeroshot_cli.records import SkippedImage
from zeroshot_cli.results.formats import DELIMITERS, Format, delimited_row, format_of, to_bytes
from zeroshot_cli.results.parquet import arrow_text, check_parquet

COLUMNS = (
    *("path", "label", "predicted", "correct", "rank"),
    *("score", "probability", "true_score", "true_probability", "error"),
)


class Form(StrEnum):
    """The forms of the file, by its ending."""

    CSV = "csv"
    TSV = "tsv"
    JSONL = "jsonl"
    PARQUET = "parquet"


def check_predictions_target(path: Path, *, overwrite: bool) -> None:
    """Refuse, before any work, a file that cannot be written: UsageError."""
    if format_of(path, Form) is Form.PARQUET:
        check_parquet()
    check_output(path, overwrite=overwrite)


def write_predictions(answers: Answers, path: Path) -> None:
    """Write path, true label, predicted label, whether that is correct, the rank of the true class (from 1), cosine
    and probability of both, and for an image that could not be read its reason.

    `path` is at any time the old file, none, or the whole new one. UsageError where it cannot be written.
    """
    form = format_of(path, Form)
    with replacing(path) as unfinished, writing(str(path)):
        if form is Form.PARQUET:
            _write_parquet(answers, unfinished)
        else:
            unfinished.write_bytes(_json_lines(answers) if form is Form.JSONL else _delimited(answers, form))


def rows(answers: Answers) -> Iterator[dict[str, Any]]:
    """Yield a mapping of the columns for every image; what an image has not is None."""
    number = 0
    for item, target in zip(answers.items, answers.item_targets.tolist(), strict=True):
        label = answers.labels[target]
        if isinstance(item, SkippedImage):
            yield dict.fromkeys(COLUMNS) | {"path": item.path, "label": label, "error": item.reason}
            continue
        yield {
            "path": item,
            "label": label,
            "predicted": answers.labels[answers.best[number, 0]],
            "correct": bool(answers.ranks[number] == 0),
            "rank": int(answers.ranks[number]) + 1,
            "score": float(answers.scores[number, 0]),
            "probability": float(answers.probabilities[number, 0]),
            "true_score": float(answers.true_scores[number]),
            "true_probability": float(answers.probabilities_of_true[number]),
            "error": None,
        }
        number += 1


def _delimited(answers: Answers, form: Form) -> bytes:
    delimiter = DELIMITERS[Format(form)]
    lines = ([_cell(value) for value in row.values()] for row in rows(answers))
    return to_bytes("".join(delimited_row(fields, delimiter) for fields in (COLUMNS, *lines)))


def _cell(value: Any) -> str:
    """The shortest text that reads back as the same number; true and false as JSON has them; nothing for None."""
    return "" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def _json_lines(answers: Answers) -> bytes:
    lines = (json.dumps(row, ensure_ascii=False, allow_nan=False) for row in rows(answers))
    return "".join(f"{line}\n" for line in lines).encode("utf-8", "backslashreplace")


def _write_parquet(answers: Answers, path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    types: dict[str, Callable[[], Any]] = dict.fromkeys(("path", "label", "predicted", "error"), pa.string)
    types |= {"correct": pa.bool_, "rank": pa.int32}
    schema = pa.schema([(column, types.get(column, pa.float64)()) for column in COLUMNS])
    texts = [{key: arrow_text(v) if isinstance(v, str) else v for key, v in row.items()} for row in rows(answers)]
    pq.write_table(pa.Table.from_pylist(texts, schema=schema), path)
