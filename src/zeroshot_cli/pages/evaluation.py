"""Evaluations as one HTML file: figures, confusion matrix, classes, reliability, the worst mistakes.

The file needs nothing but itself, and its policy forbids the browser to load anything. What people see without the
script is all but the matrix and the list of classes; those come from blocks of JSON, and the script puts names into the
page as text.
"""

from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path

import numpy as np

from zeroshot_cli.console.evaluation import figure, points, setting_of, title_of
from zeroshot_cli.disk import check_output, replacing, writing
from zeroshot_cli.display import shown
from zeroshot_cli.errors import UsageError
from zeroshot_cli.evaluation.answers import Answers
from zeroshot_cli.evaluation.compare import Comparison
from zeroshot_cli.evaluation.figures import confusion
from zeroshot_cli.pages.classification import asset, block, policy_of
from zeroshot_cli.pages.diagram import reliability_diagram
from zeroshot_cli.pages.markup import escaped, panel, section, table
from zeroshot_cli.pages.mistakes import Thumbnails, mistakes_markup
from zeroshot_cli.records import EvalResult, PublishedFigure, SkippedImage

MOST_SKIPPED = 200  # images that are named

_Evaluation = tuple[EvalResult, Answers | None]


def check_html_target(path: Path, *, overwrite: bool) -> None:
    """Refuse, before any work, a file that cannot be the report: UsageError."""
    if path.suffix.lower() != ".html":
        raise UsageError(f"{path}: the report of eval is a page; give a name that ends in .html")
    check_output(path, overwrite=overwrite)


def write_eval_html(
    evaluations: Sequence[_Evaluation],
    comparisons: Sequence[tuple[int, int, Comparison]],
    path: Path,
    *,
    thumbnails: Thumbnails,
    now: datetime | None = None,
) -> None:
    """Write the page, so that `path` is at any time the old file, none, or the whole new one.

    Captioned images have no answers, and their part is the summary. `thumbnails` gives a small encoded picture for each
    path, or None. UsageError where the file cannot be written.
    """
    style = "".join(asset(name) for name in ("report.css", "training.css", "eval.css"))
    script = asset("eval.js")
    body = "".join(_body(evaluations, comparisons, thumbnails))
    values = {
        "policy": policy_of(style, script),
        "title": escaped(", ".join(dict.fromkeys(result.dataset for result, _ in evaluations))),
        "written": f"{now or datetime.now().astimezone():%Y-%m-%d %H:%M}",
        "style": style,
        "script": script,
        "body": body,
    }
    head, *rest = asset("eval.html").split("{{")
    parts = [head, *(values[name] + tail for name, tail in (part.split("}}", 1) for part in rest))]
    with replacing(path) as unfinished, writing(str(path)):
        unfinished.write_text("".join(parts), encoding="utf-8", newline="\n")


def _body(
    evaluations: Sequence[_Evaluation], comparisons: Sequence[tuple[int, int, Comparison]], thumbnails: Thumbnails
) -> Iterator[str]:
    if len(evaluations) > 1:
        yield section("Comparison", _comparison([result for result, _ in evaluations]))
    if comparisons:
        yield section("Paired differences of top-1 (McNemar's exact test)", _differences(comparisons))
    for number, (result, answers) in enumerate(evaluations):
        yield _article(number, result, answers, thumbnails, several=len(evaluations) > 1)


def _article(number: int, result: EvalResult, answers: Answers | None, thumbnails: Thumbnails, *, several: bool) -> str:
    name = f"{f'{number + 1}. ' if several else ''}{result.dataset}: {setting_of(result)}"
    parts = [f"<h2>{escaped(name)}</h2>", section("Figures", _figures(result))]
    if answers is not None:
        parts.append(_explored(result, answers))
        parts.append(section("Worst mistakes", mistakes_markup(answers, thumbnails)))
    if result.skipped:
        parts.append(section("Images that could not be read", _skipped(result.skipped)))
    parts.append(section("Settings", _settings(result)))
    if result.command:
        parts.append(section("How to repeat it", f'<pre class="panel">{escaped(result.command)}</pre>'))
    data = "" if answers is None else block(f"evaluation-{number}", _data(result, answers))
    marked = "" if answers is None else f' data-labels="{len(answers.labels)}"'
    return f'<article id="number-{number + 1}"{marked}>{"".join(parts)}{data}</article>\n'


# figures


def _figures(result: EvalResult) -> str:
    published = result.published
    counts = [("images", result.n), ("unreadable", len(result.skipped)), ("texts", result.texts)]
    counts += [("classes", len(result.per_class) or None)]
    rows = [(escaped(name), f"{count:,}", "", "") for name, count in counts if count]
    for metric, value in result.metrics.items():
        known = figure(metric, published.value) if published and published.metric == metric else ""
        rows.append((escaped(title_of(metric)), figure(metric, value), _interval(result, metric), known))
    columns = ("", "figure", "95 % interval", "published")
    width = len(columns) if published else len(columns) - 1
    return table(columns[:width], [row[:width] for row in rows]) + (_verdict(published) if published else "")


def _interval(result: EvalResult, metric: str) -> str:
    if metric not in result.intervals:
        return ""
    low, high = result.intervals[metric]
    return f"{figure(metric, low)} to {figure(metric, high)}"


def _verdict(published: PublishedFigure) -> str:
    verdict = "inside" if published.inside else "outside"
    return (
        f'<p class="verdict {"hint" if published.inside else "far"}">Published {escaped(title_of(published.metric))}: '
        f"{published.value:.2%} ({escaped(published.source)}); ours differs by {points(published.difference)} points, "
        f"and it is {verdict} our 95 % interval.</p>"
    )


def _comparison(results: Sequence[EvalResult]) -> str:
    """A table of the labelled data sets and one of the captioned ones, the numbers leading to the details."""
    numbered = list(enumerate(results, 1))
    tables = []
    for captioned in (False, True):
        rows = [(number, each) for number, each in numbered if (each.task == "retrieval") is captioned]
        if rows:
            tables.append(_compared(rows))
    return "".join(tables)


def _compared(rows: Sequence[tuple[int, EvalResult]]) -> str:
    metrics = tuple(dict.fromkeys(metric for _, result in rows for metric in result.metrics))
    results = [result for _, result in rows]
    cells = [
        (
            f'<a href="#number-{number}">{number}</a>',
            escaped(result.dataset),
            escaped(setting_of(result)),
            *(_cell(result, metric, results) for metric in metrics),
        )
        for number, result in rows
    ]
    return table(("", "data set", "model", *map(title_of, metrics)), cells, texts=3)


def _cell(result: EvalResult, metric: str, results: Sequence[EvalResult]) -> str:
    """A figure over its interval, marked where it is the best of several on the same data set."""
    if metric not in result.metrics:
        return ""
    same = [other.metrics[metric] for other in results if other.dataset == result.dataset and metric in other.metrics]
    best = (min if metric in ("ece", "log_loss") else max)(same)
    mark = ' class="best"' if len(same) > 1 and result.metrics[metric] == best else ""
    low_high = f'<br><span class="hint">{_interval(result, metric)}</span>'
    return f"<span{mark}>{figure(metric, result.metrics[metric])}</span>{low_high}"


def _differences(comparisons: Sequence[tuple[int, int, Comparison]]) -> str:
    rows = [
        (
            f"{first + 1} − {second + 1}",
            points(each.difference),
            f"{points(each.interval[0])} to {points(each.interval[1])}",
            f"{each.first_only:,}",
            f"{each.second_only:,}",
            f"{each.n:,}",
            f"{each.p:.2g}",
        )
        for first, second, each in comparisons
    ]
    columns = ("", "points", "95 % interval", "only the first right", "only the second", "images of both", "p")
    return table(columns, rows)


# what the answers show


def _explored(result: EvalResult, answers: Answers) -> str:
    confused = table(
        ("class", "taken for", "images"),
        [(escaped(pair["label"]), escaped(pair["taken_for"]), f"{pair['n']:,}") for pair in result.confused],
        texts=2,
    )
    matrix, classes = asset("eval_matrix.html"), asset("eval_classes.html")
    panels = [("Confusion matrix", matrix), ("Recall of classes", classes)]
    panels += [("Reliability", reliability_diagram(answers))]
    panels += [("Confused most", confused)] if result.confused else []
    return '<section class="pair">' + "".join(panel(*each) for each in panels) + "</section>"


def _data(result: EvalResult, answers: Answers) -> dict[str, object]:
    """What the script draws from; cells of the matrix that are not empty, as row, column and count."""
    matrix = confusion(answers)
    rows, columns = np.nonzero(matrix)
    intervals = [row["interval"] or (0, 0) for row in result.per_class]
    return {
        "labels": [shown(label) for label in answers.labels],
        "counts": [row["n"] for row in result.per_class],
        "recalls": [row["recall"] for row in result.per_class],
        "lows": [low for low, _ in intervals],
        "highs": [high for _, high in intervals],
        "cells": np.stack([rows, columns, matrix[rows, columns]], axis=1).tolist(),
    }


# what it depends on


def _skipped(images: Sequence[SkippedImage]) -> str:
    rows = "".join(
        f'<li><span class="path">{escaped(image.path)}</span><span class="reason">{escaped(image.reason)}</span></li>'
        for image in images[:MOST_SKIPPED]
    )
    rest = len(images) - MOST_SKIPPED
    more = f'<p class="hint">and {rest:,} more; --predictions lists them all</p>' if rest > 0 else ""
    return f'<ul class="failures">{rows}</ul>{more}'


def _settings(result: EvalResult) -> str:
    pairs = [
        ("Task", result.task),
        ("Model", result.model),
        ("Weights", result.pretrained),
        ("Prompts", result.prompts),
        ("Device", result.device),
        ("Precision", result.precision),
        ("Batch size", result.batch_size),
        ("Decoding", result.decoding),
        ("Seed", result.seed),
        ("Fingerprint", result.fingerprint),
        *result.versions.items(),
    ]
    given = ((name, str(value)) for name, value in pairs if value not in (None, ""))
    return (
        "<dl>"
        + "".join(f"<div><dt>{escaped(name)}</dt><dd>{escaped(value)}</dd></div>" for name, value in given)
        + "</dl>"
    )
