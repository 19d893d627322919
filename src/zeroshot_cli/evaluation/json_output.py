"""Evaluations as a JSON file; docs/eval.md names its fields, which stay as they are."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from zeroshot_cli.disk import check_output, replacing, writing
from zeroshot_cli.errors import UsageError
from zeroshot_cli.evaluation.compare import Comparison
from zeroshot_cli.records import EvalResult


def check_json_target(path: Path, *, overwrite: bool) -> None:
    """Refuse, before any work, a file that cannot be the output: UsageError."""
    if path.suffix.lower() != ".json":
        raise UsageError(f"{path}: the output of eval is JSON; give a name that ends in .json")
    check_output(path, overwrite=overwrite)


def write_eval_json(
    results: Sequence[EvalResult], comparisons: Sequence[tuple[int, int, Comparison]], path: Path
) -> None:
    """Write one result, or several under `results` with their `comparisons`, whose `first` and `second` count from 0.

    `path` is at any time the old file, none, or the whole new one. Bytes of a path that are not UTF-8 become lone
    surrogates, escaped as JSON has them.
    """
    content: Any = _as_json(results[0])
    if len(results) > 1:
        pairs = [{"first": first, "second": second, **asdict(each)} for first, second, each in comparisons]
        content = {"results": [_as_json(result) for result in results], "comparisons": pairs}
    text = json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    with replacing(path) as unfinished, writing(str(path)):
        unfinished.write_bytes(text.encode("utf-8", errors="backslashreplace"))


def _as_json(result: EvalResult) -> dict[str, Any]:
    """The result with its intervals among its metrics."""
    fields = asdict(result)
    intervals = fields.pop("intervals")
    return {**fields, "metrics": {**result.metrics, "intervals": intervals}}
