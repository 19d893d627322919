"""Write a training run as one HTML file, from its folder: figures, curves, settings, what was skipped.

The file needs nothing but itself, has no script but that of its colours, and its policy forbids the browser to load
anything.
"""

import math
import platform
from collections.abc import Iterable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from zeroshot_cli.disk import write_file
from zeroshot_cli.display import shown
from zeroshot_cli.documents import load_json
from zeroshot_cli.pages.charts import Row, charts_of
from zeroshot_cli.pages.shared import about, definitions, escaped, filled, page, skipped_list, written
from zeroshot_cli.records import versions
from zeroshot_cli.train.files.folder import read_assumed, read_settings, read_skipped

_SHARES = ("val_recall@", "val_text_recall@", "zero_shot_")
_NAMES = {
    "step": "Step",
    "epoch": "Epoch",
    "loss": "Loss",
    "val_loss": "Validation loss",
    "zero_shot_top1": "Zero-shot accuracy, top 1",
    "zero_shot_top5": "Zero-shot accuracy, top 5",
    "val_skipped": "Validation images that could not be read",
    "lr": "Learning rate",
    "logit_scale": "Logit scale",
    "grad_norm": "Norm of the gradient",
    "images_per_second": "Images a second",
    "data_wait": "Time without a batch",
    "skipped": "Images that could not be read",
}


def write_training_report(run: Path, *, now: datetime | None = None) -> Path:
    """Write `run`/report.html from config.yaml, metrics.jsonl and skipped.csv of that folder; return its path.

    It is written beside its name and then renamed; `now` is the time that it states. Raises UsageError for a folder
    that holds no run or cannot be written, DataError for settings that cannot be read.
    """
    settings = [(name, _value(value)) for name, value in read_settings(run).items()]
    assumed = [("assumed", text)] if (text := read_assumed(run)) else []
    rows = read_rows(run / "metrics.jsonl")
    skipped = read_skipped(run / "skipped.csv")
    uses = {"python": platform.python_version(), **versions("open_clip_torch", "numpy", "pillow")}
    name = escaped(run.resolve().name or str(run))
    kept = [("Settings", [*settings, *assumed]), ("Versions", uses.items())]
    body = {
        "figures": _figures(rows),
        "charts": "".join(_figure(*chart) for chart in charts_of(rows).items()),
        "skipped": skipped_list(skipped, all_in="skipped.csv") if skipped else '<p class="hint">None so far.</p>',
        "about": about("".join(f"<h3>{title}</h3><dl>{definitions(pairs)}</dl>" for title, pairs in kept)),
    }
    parts = {
        "title": f"{name} · zeroshot training",
        "header": filled("named_header.html", {"name": name, "written": written(now)}),
        "body": filled("training.html", body),
    }
    report = run / "report.html"
    write_file(report, page("training", parts, styles=["figures.css"], drawn=True), resumable=True)
    return report


def read_rows(file: Path) -> list[Row]:
    """Return the rows of metrics.jsonl, NaN for null, without lines that have no step or are cut off."""
    if not file.exists():
        return []
    with file.open(encoding="utf-8", errors="replace") as stream:
        rows = [_row(line) for line in stream]
    return [row for row in rows if "step" in row]


def _row(line: str) -> dict[str, float]:
    try:
        row = load_json(line)
    except ValueError:
        return {}
    pairs = row.items() if isinstance(row, dict) else ()
    numbers = {key: math.nan if value is None else value for key, value in pairs}
    return {key: value for key, value in numbers.items() if type(value) in (int, float)}


def best_row(rows: Sequence[Row]) -> tuple[str, Row] | None:
    """Return the row of the lowest validation loss, else of the highest zero-shot accuracy; the first of equal ones.

    Row 0 is from before the first step, and not among them.
    """
    for key, what, sign in (("val_loss", "lowest validation loss", 1), ("zero_shot_top1", "best zero-shot", -1)):
        judged = [row for row in rows if row["step"] and math.isfinite(row.get(key, math.nan))]
        if judged:
            return what, min(judged, key=lambda row: sign * row[key])
    return None


def _figures(rows: Sequence[Row]) -> str:
    """Return a table of the newest figures, and of those of the best step where steps were validated."""
    if not rows:
        return '<p class="hint">No step is logged yet.</p>'
    newest = {key: value for row in rows for key, value in row.items()}
    columns: dict[str, Row] = {"Last": newest}
    if rows[0]["step"] == 0:
        columns = {"Before training": rows[0], **columns}
    best = best_row(rows)
    if best is not None:
        columns[f"Best: {best[0]}"] = best[1]
    keys = sorted(newest, key=_place)
    body = "".join(_table_row(_name(key), [_number(key, row.get(key)) for row in columns.values()]) for key in keys)
    head = "".join(f'<th scope="col">{escaped(name)}</th>' for name in columns)
    return (
        f'<div class="figures"><table><thead><tr><th scope="col">Figure</th>{head}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )


def _place(key: str) -> tuple[int, str]:
    """Return the sort key of a figure: in the order of the names, recalls before accuracies, others last."""
    names = [*_NAMES]
    if key in names:
        return names.index(key) * 10, ""
    if "recall@" in key:
        return names.index("val_loss") * 10 + 1 + key.startswith("val_text_"), f"{key.rpartition('@')[2]:>9}"
    return len(names) * 10, key


def _name(key: str) -> str:
    for prefix, direction in (("val_recall@", "image to text"), ("val_text_recall@", "text to image")):
        if key.startswith(prefix):
            return f"Validation recall@{key.removeprefix(prefix)}, {direction}"
    return _NAMES.get(key, key.replace("_", " ").capitalize())


def _table_row(name: str, cells: Iterable[str]) -> str:
    return f'<tr><th scope="row">{escaped(name)}</th>{"".join(f"<td>{cell}</td>" for cell in cells)}</tr>'


def _number(key: str, value: float | None) -> str:
    if value is None:
        return "–"
    if not math.isfinite(value):
        return "not finite"
    if key.startswith(_SHARES) or key == "data_wait":
        return f"{value:.1%}"
    return f"{value:.2e}" if key == "lr" else f"{value:,}" if isinstance(value, int) else f"{value:,.5g}"


def _figure(title: str, svg: str) -> str:
    return f"<figure><figcaption>{escaped(title)}</figcaption>{svg}</figure>"


def _value(value: Any) -> str:
    """Return a setting as text; a list has a line for each entry."""
    if value is None or value == []:
        return "not set"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return "\n".join(shown(str(each)) for each in value)
    return shown(str(value))
