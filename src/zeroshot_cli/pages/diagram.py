"""The reliability diagram: how often answers of about equal confidence are right."""

import math
from collections.abc import Iterator

from zeroshot_cli.evaluation.answers import Answers
from zeroshot_cli.evaluation.figures import Reliability, reliability

_LEFT, _TOP, _SIDE, _BELOW = 62, 10, 300, 84  # of the plot, in units of the picture
_COUNTS, _COUNTS_TOP = 36, 46  # how high the highest bar of counts is, and how far below the plot they begin


def reliability_diagram(answers: Answers) -> str:
    """Return the diagram as markup: accuracy by confidence, the gap to the diagonal, and below how many images."""
    found = reliability(answers)
    width, height = _LEFT + _SIDE + 22, _TOP + _SIDE + _BELOW
    return (
        f'<svg class="reliability" viewBox="0 0 {width} {height}" role="img" '
        f'aria-label="Accuracy by confidence">{"".join(_bars(found))}{"".join(_axes())}</svg>'
        '<p class="hint">Blue: how many answers of a confidence are right; shaded: how far that is from the line, on '
        "which a model is right as often as it is sure. Below: how many images there are, as the square root.</p>"
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
        yield _rectangle("accuracy", x, width, 0, accuracy, title)
        yield _rectangle("gap", x, width, min(accuracy, confidence), max(accuracy, confidence), title)
        tall = _COUNTS * math.sqrt(count / most)
        yield (
            f'<rect class="accuracy" x="{x:.1f}" y="{_TOP + _SIDE + _COUNTS_TOP:.1f}" width="{width:.1f}" '
            f'height="{tall:.1f}" opacity=".5">{title}</rect>'
        )


def _rectangle(kind: str, x: float, width: float, low: float, high: float, title: str) -> str:
    y, height = _TOP + (1 - high) * _SIDE, (high - low) * _SIDE
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
