"""Evaluations as one HTML file: figures, confusion matrix, classes, reliability, the worst mistakes.

The file needs nothing but itself, and its policy forbids the browser to load anything. What people see without the
script is all but the matrix and the list of classes; those come from blocks of JSON, and the script puts names into the
page as text.
"""

import html
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path, PurePath

import numpy as np

from zeroshot_cli.errors import UsageError
from zeroshot_cli.evaluate.answers import Answers
from zeroshot_cli.evaluate.compare import Comparison
from zeroshot_cli.evaluate.figures import confusion
from zeroshot_cli.records import EvalResult
from zeroshot_cli.report.console import shown
from zeroshot_cli.report.eval_console import figure, setting_of, title_of
from zeroshot_cli.report.eval_diagram import reliability_diagram
from zeroshot_cli.report.files import check_output, replacing, writing
from zeroshot_cli.report.html import asset, block, data_url, policy_of

MISTAKES = 60  # that are shown, the most confident first

Thumbnails = Callable[[Sequence[str]], Iterable[bytes | None]]
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
        "title": _text(", ".join(dict.fromkeys(result.dataset for result, _ in evaluations))),
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
        yield _section("Comparison", _comparison([result for result, _ in evaluations]))
    if comparisons:
        yield _section("Paired differences of top-1 (McNemar's exact test)", _differences(comparisons))
    for number, (result, answers) in enumerate(evaluations):
        yield _article(number, result, answers, thumbnails, several=len(evaluations) > 1)


def _article(number: int, result: EvalResult, answers: Answers | None, thumbnails: Thumbnails, *, several: bool) -> str:
    name = f"{f'{number + 1}. ' if several else ''}{result.dataset}: {setting_of(result)}"
    parts = [f"<h2>{_text(name)}</h2>", _section("Figures", _figures(result))]
    if answers is not None:
        parts.append(_explored(result, answers))
        parts.append(_section("Worst mistakes", _mistakes(answers, thumbnails)))
    parts.append(_section("Settings", _settings(result)))
    data = "" if answers is None else block(f"evaluation-{number}", _data(result, answers))
    marked = "" if answers is None else f' data-labels="{len(answers.labels)}"'
    return f"<article{marked}>{''.join(parts)}{data}</article>\n"


def _section(title: str, content: str) -> str:
    return f"<section><h3>{_text(title)}</h3>{content}</section>\n"


def _table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table of cells that are markup already."""
    head = "".join(f"<th>{_text(column)}</th>" for column in columns)
    body = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows)
    return f'<div class="figures"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


# figures


def _figures(result: EvalResult) -> str:
    counts = [("images", result.n), ("unreadable", len(result.skipped)), ("texts", result.texts)]
    counts += [("classes", len(result.per_class) or None)]
    rows = [(_text(name), f"{count:,}", "") for name, count in counts if count]
    for metric, value in result.metrics.items():
        rows.append((_text(title_of(metric)), figure(metric, value), _interval(result, metric)))
    return _table(("", "figure", "95 % interval"), rows) + _published(result)


def _interval(result: EvalResult, metric: str) -> str:
    if metric not in result.intervals:
        return ""
    low, high = result.intervals[metric]
    return f"{figure(metric, low)} to {figure(metric, high)}"


def _published(result: EvalResult) -> str:
    each = result.published
    if each is None:
        return ""
    verdict = "inside" if each.inside else "outside"
    return (
        f'<p class="{"hint" if each.inside else "far"}">Published {_text(title_of(each.metric))}: {each.value:.2%} '
        f"({_text(each.source)}); ours is {each.difference:+.2%}, {verdict} our 95 % interval.</p>"
    )


def _comparison(results: Sequence[EvalResult]) -> str:
    metrics = tuple(dict.fromkeys(metric for result in results for metric in result.metrics))
    rows = []
    for number, result in enumerate(results, 1):
        cells = [_compared(result, metric, results) for metric in metrics]
        rows.append((str(number), _text(result.dataset), _text(setting_of(result)), *cells))
    return _table(("", "data set", "model", *map(title_of, metrics)), rows)


def _compared(result: EvalResult, metric: str, results: Sequence[EvalResult]) -> str:
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
            f"{each.difference:+.2%}",
            f"{each.interval[0]:+.2%} to {each.interval[1]:+.2%}",
            str(each.first_only),
            str(each.second_only),
            f"{each.n:,}",
            f"{each.p:.2g}",
        )
        for first, second, each in comparisons
    ]
    columns = ("", "difference", "95 % interval", "right for the first only", "for the second only", "images", "p")
    return _table(columns, rows)


# what the answers show


def _explored(result: EvalResult, answers: Answers) -> str:
    confused = _table(
        ("class", "taken for", "images"),
        ((_text(pair["label"]), _text(pair["taken_for"]), str(pair["n"])) for pair in result.confused),
    )
    matrix = (
        '<div class="controls"><button class="button" data-zoom="0.5" type="button">Zoom in</button>'
        '<button class="button" data-zoom="2" type="button">Zoom out</button>'
        '<span class="hint">wheel and drag work too</span></div>'
        '<canvas tabindex="0" role="img" aria-label="Confusion matrix: true classes down, given ones across"></canvas>'
        '<p class="tip">Rows are the true classes, columns what they were taken for; right answers are green.</p>'
    )
    classes = (
        '<div class="controls"><input type="search" placeholder="Filter classes" aria-label="Filter classes">'
        '<select class="button" aria-label="Order"><option value="lowest">lowest recall</option>'
        '<option value="highest">highest recall</option><option value="images">most images</option>'
        '<option value="name">by name</option><option value="index">as in the data set</option></select></div>'
        '<ul class="classes"></ul><p class="hint">The line in a bar is the 95 % interval.</p>'
    )
    panels = [("Confusion matrix", matrix), ("Recall of classes", classes)]
    panels += [("Reliability", reliability_diagram(answers)), ("Confused most", confused)]
    return '<section class="pair">' + "".join(_panel(*panel) for panel in panels) + "</section>"


def _panel(title: str, content: str) -> str:
    return f'<div class="panel"><h3>{title}</h3>{content}</div>'


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


@dataclass(frozen=True, slots=True)
class _Mistake:
    path: str
    true: str
    given: str
    probability: float
    true_probability: float


def worst_mistakes(answers: Answers, count: int = MISTAKES) -> list[_Mistake]:
    """Return wrong answers, the most confident first; of equal ones in the data set's order."""
    wrong = np.flatnonzero(~answers.right)
    order = wrong[np.argsort(-answers.confidences[wrong], kind="stable")][:count]
    paths, labels = answers.paths, answers.labels
    return [
        _Mistake(
            paths[place],
            labels[answers.targets[place]],
            labels[answers.best[place, 0]],
            float(answers.confidences[place]),
            float(answers.probabilities_of_true[place]),
        )
        for place in order.tolist()
    ]


def _mistakes(answers: Answers, thumbnails: Thumbnails) -> str:
    worst = worst_mistakes(answers)
    if not worst:
        return "<p>There are none.</p>"
    pictures = thumbnails([mistake.path for mistake in worst])
    cards = (_card(mistake, picture) for mistake, picture in zip(worst, pictures, strict=True))
    return f'<div class="mistakes">{"".join(cards)}</div>'


def _card(mistake: _Mistake, picture: bytes | None) -> str:
    address = None if picture is None else data_url(picture)
    image = f'<img src="{address}" alt="">' if address else "cannot be shown"
    return (
        f'<figure><div class="picture">{image}</div><figcaption>'
        f'<span class="given">{_text(mistake.given)}</span> {mistake.probability:.1%}<br>'
        f'<span class="true">{_text(mistake.true)}</span> {mistake.true_probability:.1%}<br>'
        f'<span class="path" title="{_text(mistake.path)}">{_text(_short(mistake.path))}</span></figcaption></figure>'
    )


def _short(path: str) -> str:
    """The name of a file in its folder."""
    return "/".join(PurePath(path).parts[-2:])


# settings


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
        ("Command", result.command),
    ]
    items = (f"<div><dt>{_text(name)}</dt><dd>{_text(str(value))}</dd></div>" for name, value in pairs if value != "")
    return f"<dl>{''.join(items)}</dl>"


def _text(text: str) -> str:
    """A text as markup; what is no letter, such as a byte that is not UTF-8, as the console shows it."""
    return html.escape(shown(text))
