"""The files of an evaluation: metrics as JSON, whose fields docs/eval.md names, and a table with a row per image."""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, replace
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Any

from zeroshot_cli.disk import check_output, replacing, write_file, writing
from zeroshot_cli.errors import UsageError
from zeroshot_cli.evaluation.answers import Answers, image_answers
from zeroshot_cli.evaluation.compare import Comparison
from zeroshot_cli.records import EvalResult
from zeroshot_cli.results.formats import DELIMITERS, GROUP, Format, delimited_row, format_of, no_formula, to_bytes
from zeroshot_cli.results.parquet import ANSWERS, arrow_text, check_parquet, schema_of

COLUMNS = tuple(ANSWERS)


class PredictionsFormat(StrEnum):
    """The formats of the predictions, by the file's extension."""

    CSV = "csv"
    TSV = "tsv"
    JSONL = "jsonl"
    PARQUET = "parquet"


def check_json_target(path: Path, *, overwrite: bool) -> None:
    """Raise UsageError, before any work, for a file that cannot be the JSON output."""
    if path.suffix.lower() != ".json":
        raise UsageError(f"{path}: eval writes JSON; give a file name with the extension .json, as in results.json")
    check_output(path, overwrite=overwrite)


def write_eval_json(
    results: Sequence[EvalResult], comparisons: Sequence[tuple[int, int, Comparison]], path: Path
) -> None:
    """Write one result, or several under `results` with their `comparisons`, whose `first` and `second` count from 0.

    `path` is at any time the old file, none, or the whole new one. Bytes of a path that are not UTF-8 become lone
    surrogates, escaped as in JSON.
    """
    content: Any = _as_json(results[0])
    if len(results) > 1:
        pairs = [{"first": first, "second": second, **asdict(each)} for first, second, each in comparisons]
        content = {"results": [_as_json(result) for result in results], "comparisons": pairs}
    text = json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    write_file(path, text.encode("utf-8", errors="backslashreplace"))


def _as_json(result: EvalResult) -> dict[str, Any]:
    """Return the fields of a result, with the intervals among the metrics."""
    found = asdict(replace(result, answers=()))
    intervals, _ = found.pop("intervals"), found.pop("answers")
    return {**found, "metrics": {**result.metrics, "intervals": intervals}}


def check_predictions_target(path: Path, *, overwrite: bool) -> None:
    """Raise UsageError, before any work, for a file of predictions that cannot be written."""
    if format_of(path, PredictionsFormat) is PredictionsFormat.PARQUET:
        check_parquet()
    check_output(path, overwrite=overwrite)


def write_predictions(answers: Answers, path: Path, *, excel_safe: bool = False, model: str = "") -> None:
    """Write a row per image in the data set's order, with COLUMNS; ranks count from 1.

    Where labels have groups, their paths follow, of the true label and of the predicted one. With `excel_safe`, no text
    in CSV or TSV begins as a formula does. In JSONL, every row names the `model`.

    `path` is at any time the old file, none, or the whole new one. Raises UsageError if it cannot be written.
    """
    form = format_of(path, PredictionsFormat)
    with replacing(path) as unfinished, writing(str(path)):
        if form is PredictionsFormat.PARQUET:
            _write_parquet(answers, unfinished)
        elif form is PredictionsFormat.JSONL:
            own = {"model": model} if model else {}
            lines = (json.dumps(row | own, ensure_ascii=False, allow_nan=False) + "\n" for row in _rows(answers))
            unfinished.write_bytes("".join(lines).encode("utf-8", "backslashreplace"))
        else:
            cell = partial(_cell, text_of=no_formula if excel_safe else str)
            header = (*COLUMNS, *_more(answers))
            table = (header, *(tuple(map(cell, row.values())) for row in _rows(answers)))
            unfinished.write_bytes(to_bytes("".join(delimited_row(row, DELIMITERS[Format(form)]) for row in table)))


def _rows(answers: Answers) -> Iterator[dict[str, Any]]:
    """Yield the columns of every image; what does not apply is None."""
    of = dict(zip(answers.labels, answers.groups, strict=True)) if answers.groups else {}
    for each in image_answers(answers):
        more = zip(_more(answers), (of.get(each.label), of.get(each.predicted or "")), strict=False)
        yield {column: getattr(each, column) for column in COLUMNS} | dict(more)


def _more(answers: Answers) -> tuple[str, ...]:
    """Return the columns that only answers with groups have."""
    return (GROUP, f"predicted_{GROUP}") if answers.groups else ()


def _cell(value: Any, *, text_of: Callable[[str], str]) -> str:
    """Return the shortest text that reads back as the same number; true and false as in JSON; nothing for None."""
    if isinstance(value, str):
        return text_of(value)
    return "" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def _write_parquet(answers: Answers, path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    types = ANSWERS | dict.fromkeys(_more(answers), "string")
    texts = [{key: arrow_text(v) if isinstance(v, str) else v for key, v in row.items()} for row in _rows(answers)]
    pq.write_table(pa.Table.from_pylist(texts, schema=schema_of(types)), path)
