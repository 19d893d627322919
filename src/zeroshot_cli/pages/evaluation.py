"""Evaluations as one HTML file: figures, confusion matrix, classes, reliability, the worst mistakes.

The file is self-contained, and its policy forbids the browser to load anything. Without the script, people see all but
the matrix and the list of classes; those are drawn from blocks of JSON. The script puts names into the page as text.
"""

import math
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path

import numpy as np

from zeroshot_cli.console.evaluation import figure, interval_text, is_best, points, published_text, setting_of, title_of
from zeroshot_cli.disk import check_output, write_file
from zeroshot_cli.display import shown
from zeroshot_cli.errors import UsageError
from zeroshot_cli.evaluation.answers import Answers
from zeroshot_cli.evaluation.compare import Comparison
from zeroshot_cli.evaluation.metrics import Reliability, confusion, reliability
from zeroshot_cli.pages.answered import AnsweredImages
from zeroshot_cli.pages.shared import (
    Thumbnails,
    about,
    asset,
    block,
    definitions,
    escaped,
    filled,
    page,
    panel,
    script_of,
    section,
    skipped_list,
    table,
    written,
)
from zeroshot_cli.records import EvalResult, PublishedFigure

THUMBNAILS = 600  # on a page, besides those of the worst mistakes

_Evaluation = tuple[EvalResult, Answers | None]
_Comparisons = Sequence[tuple[int, int, Comparison]]


def check_html_target(path: Path, *, overwrite: bool) -> None:
    """Raise UsageError, before any work, for a file that cannot be the report."""
    if path.suffix.lower() != ".html":
        raise UsageError(f"{path}: the report of eval is a web page; give a name with the extension .html")
    check_output(path, overwrite=overwrite)


def write_eval_html(
    evaluations: Sequence[_Evaluation],
    comparisons: _Comparisons,
    path: Path,
    *,
    thumbnails: Thumbnails,
    now: datetime | None = None,
) -> None:
    """Write the page, so that `path` is at any time the old file, none, or the whole new one.

    Captioned images have no answers; their part is a summary. `thumbnails` gives a small encoded image for each path,
    or None. Raises UsageError if the file cannot be written.
    """
    title = escaped(", ".join(dict.fromkeys(result.dataset for result, _ in evaluations)))
    script = script_of("eval.js", "eval_images.js")
    articles = "".join(_body(evaluations, comparisons, path, thumbnails))
    parts = {
        "title": f"{title} · zeroshot evaluation",
        "header": filled("named_header.html", {"name": title, "written": written(now)}),
        "body": filled("eval.html", {"articles": articles, "script": script}),
    }
    write_file(path, page("evaluation", parts, styles=["figures.css", "eval.css"], script=script))


def _body(
    evaluations: Sequence[_Evaluation], comparisons: _Comparisons, path: Path, thumbnails: Thumbnails
) -> Iterator[str]:
    if len(evaluations) > 1:
        yield section("Comparison", _comparison([result for result, _ in evaluations]))
    if comparisons:
        yield section("Paired differences of top-1 (McNemar's exact test)", _differences(comparisons))
    for number, (result, answers) in enumerate(evaluations):
        several = len(evaluations)
        images = None if answers is None else AnsweredImages(answers, path, thumbnails, THUMBNAILS // several)
        yield _article(number, result, images, several=several > 1)


def _article(number: int, result: EvalResult, images: AnsweredImages | None, *, several: bool) -> str:
    name = f"{f'{number + 1}. ' if several else ''}{result.dataset}: {setting_of(result)}"
    panels = [("Figures", _figures(result))] + ([] if images is None else _explored(result, images.answers))
    parts = [
        f"<h2>{escaped(name)}</h2>",
        f'<section class="panels">{"".join(panel(*each) for each in panels)}</section>',
    ]
    if images is not None:
        parts.append(section("Worst mistakes", images.worst_mistakes()))
    if result.task == "multi-label":
        parts.append(section("Labels", _labels(result)))
    if result.skipped:
        parts.append(section("Images that could not be read", skipped_list(result.skipped, all_in="--predictions")))
    parts.append(about(_settings(result)))
    data = "" if images is None else block(f"evaluation-{number}", _data(result, images))
    marked = "" if images is None else f' data-labels="{len(images.answers.labels)}"'
    return f'<article id="number-{number + 1}"{marked}>{"".join(parts)}{data}</article>\n'


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
        ("Assumed", "\n".join(result.assumed)),
        ("Fingerprint", result.fingerprint),
        *result.versions.items(),
    ]
    settings = f"<dl>{definitions((name, str(value)) for name, value in pairs if value not in (None, ''))}</dl>"
    again = f"<h3>How to repeat it</h3><pre>{escaped(result.command)}</pre>" if result.command else ""
    return settings + again


# Figures and comparisons


def _figures(result: EvalResult) -> str:
    published = result.published
    counts = [("images", result.n), ("unreadable", len(result.skipped)), ("texts", result.texts)]
    counts += [("classes", len(result.per_class) or None)]
    rows = [(escaped(name), f"{count:,}", "", "") for name, count in counts if count]
    for metric, value in result.metrics.items():
        known = figure(metric, published.value) if published and published.metric == metric else ""
        rows.append((escaped(title_of(metric)), figure(metric, value), interval_text(result, metric), known))
    columns = ("", "figure", "95 % interval", "published")
    width = len(columns) if published else len(columns) - 1
    return table(columns[:width], [row[:width] for row in rows]) + (_verdict(published) if published else "")


def _labels(result: EvalResult) -> str:
    """Return a table of labels that were judged on their own."""
    names = ("average_precision", "precision", "recall", "f1")
    rows = [
        (escaped(row["label"]), f"{row['n']:,}", *("" if row[name] is None else f"{row[name]:.2%}" for name in names))
        for row in result.per_class
    ]
    return table(("label", "images", "average precision", "precision", "recall", "F1"), rows)


def _verdict(published: PublishedFigure) -> str:
    text = published_text(published)
    return f'<p class="verdict {"hint" if published.inside else "far"}">{escaped(text[0].upper() + text[1:])}.</p>'


def _comparison(results: Sequence[EvalResult]) -> str:
    """Return a table of the labelled data sets and one of the captioned ones; the numbers link to the details."""
    tables = []
    for captioned in (False, True):
        rows = [(number, each) for number, each in enumerate(results, 1) if (each.task == "retrieval") is captioned]
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
    """Return a figure over its interval, marked if it is the best of several on the same data set."""
    if metric not in result.metrics:
        return ""
    mark = ' class="best"' if is_best(result, metric, results) else ""
    interval = f'<br><span class="hint">{interval_text(result, metric)}</span>'
    return f"<span{mark}>{figure(metric, result.metrics[metric])}</span>{interval}"


def _differences(comparisons: _Comparisons) -> str:
    rows = [
        (
            f"{first + 1}\N{NO-BREAK SPACE}−\N{NO-BREAK SPACE}{second + 1}",
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


# What the answers show: matrix and classes, which the script draws, and the reliability diagram


def _explored(result: EvalResult, answers: Answers) -> list[tuple[str, str]]:
    """Return the titles of panels and what they hold."""
    panels = [("Confusion matrix", asset("eval_matrix.html")), ("Recall by class", asset("eval_classes.html"))]
    panels += [("Reliability", _reliability_diagram(reliability(answers)))]
    return panels + ([("Confused most", _confused(result, answers))] if result.confused else [])


def _confused(result: EvalResult, answers: Answers) -> str:
    """Return a table whose numbers the script makes buttons that show the images."""
    places = {label: place for place, label in enumerate(answers.labels)}
    rows = [
        (
            escaped(pair["label"]),
            escaped(pair["taken_for"]),
            f'<span data-cell="{places[pair["label"]]} {places[pair["taken_for"]]}">{pair["n"]:,}</span>',
        )
        for pair in result.confused
    ]
    return table(("class", "taken for", "images"), rows, texts=2)


def _data(result: EvalResult, images: AnsweredImages) -> dict[str, object]:
    """Return what the script draws from; matrix cells that are not empty are row, column, count and images."""
    answers = images.answers
    matrix = confusion(answers)
    rows, columns = np.nonzero(matrix)
    intervals = [row["interval"] or (0, 0) for row in result.per_class]
    cells = zip(rows.tolist(), columns.tolist(), matrix[rows, columns].tolist(), strict=True)
    return {
        "labels": [shown(label) for label in answers.labels],
        "counts": [row["n"] for row in result.per_class],
        "recalls": [row["recall"] for row in result.per_class],
        "lows": [low for low, _ in intervals],
        "highs": [high for _, high in intervals],
        "cells": [[row, column, count, images.of_cell(row, column)] for row, column, count in cells],
    }


_LEFT, _TOP, _SIDE, _BELOW = 62, 10, 300, 84  # of the plot, in units of the drawing
_COUNTS, _COUNTS_TOP = 36, 46  # how high the highest bar of counts is, and how far below the plot they begin


def _reliability_diagram(found: Reliability) -> str:
    """Return accuracy by confidence, the gap to the diagonal, and below the number of images."""
    width, height = _LEFT + _SIDE + 22, _TOP + _SIDE + _BELOW
    return (
        f'<svg class="reliability" viewBox="0 0 {width} {height}" role="img" '
        f'aria-label="Accuracy by confidence">{"".join(_bars(found))}{"".join(_axes())}</svg>'
        '<p class="hint">Blue: the share of right answers at each confidence. Shaded: its distance from the line on '
        "which a model is right as often as it is sure. Below: the number of images, on a square-root scale.</p>"
    )


def _bars(found: Reliability) -> Iterator[str]:
    most = max(1, int(found.counts.max()))
    for low, high, count, confidence, accuracy in zip(
        found.edges, found.edges[1:], found.counts.tolist(), found.confidence, found.accuracy, strict=False
    ):
        if not count:
            continue
        x, width = _LEFT + low * _SIDE, (high - low) * _SIDE - 1
        title = f"<title>confidence {confidence:.1%}, accuracy {accuracy:.1%}, {count} images</title>"
        for kind, bottom, top in (("accuracy", 0, accuracy), ("gap", *sorted((accuracy, confidence)))):
            yield _rectangle(kind, x, _TOP + (1 - top) * _SIDE, width, (top - bottom) * _SIDE, title)
        tall = _COUNTS * math.sqrt(count / most)
        yield _rectangle('accuracy" opacity=".5', x, _TOP + _SIDE + _COUNTS_TOP, width, tall, title)


def _rectangle(kind: str, x: float, y: float, width: float, height: float, title: str) -> str:
    return f'<rect class="{kind}" x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}">{title}</rect>'


def _axes() -> Iterator[str]:
    bottom, right = _TOP + _SIDE, _LEFT + _SIDE
    yield f'<line x1="{_LEFT}" y1="{bottom}" x2="{right}" y2="{_TOP}" class="even"/>'
    yield f'<line x1="{_LEFT}" y1="{bottom}" x2="{right}" y2="{bottom}"/>'
    yield f'<line x1="{_LEFT}" y1="{bottom}" x2="{_LEFT}" y2="{_TOP}"/>'
    centre = _TOP + _SIDE / 2
    yield f'<text x="{_LEFT + _SIDE / 2}" y="{bottom + 34}" text-anchor="middle">confidence</text>'
    yield f'<text x="14" y="{centre}" text-anchor="middle" transform="rotate(-90 14 {centre})">accuracy</text>'
    yield f'<text x="{_LEFT - 6}" y="{bottom + _COUNTS_TOP + 10}" text-anchor="end">images</text>'
    for share in (0, 0.25, 0.5, 0.75, 1):
        yield f'<text x="{_LEFT + share * _SIDE}" y="{bottom + 16}" text-anchor="middle">{share:.0%}</text>'
        yield f'<text x="{_LEFT - 6}" y="{bottom - share * _SIDE + 4}" text-anchor="end">{share:.0%}</text>'
