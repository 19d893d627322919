"""Draw the curves of a training run as SVG, with matplotlib, in the colours of the page."""

import io
import logging
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # matplotlib is slow to import
    from matplotlib.axes import Axes

Row = Mapping[str, float]

MOST_POINTS = 1000  # of a curve; more are means of their neighbours
LEAST_SCALE = 0.1  # of a chart of shares
FEW = 30  # points up to which each has a mark, and none is smoothed
_SIZE = (4.6, 2.8)  # inches, at 72 points each; the page scales it to 300 pixels on a phone, where text must be legible
# matplotlib needs colours and the page has variables: these colours stand for them, and occur nowhere else.
_TEXT, _LINE, _CURVES = "#010101", "#010102", ("#010103", "#010104", "#010105")
_VARIABLES = {_TEXT: "--muted", _LINE: "--line", **dict(zip(_CURVES, ("--first", "--second", "--third"), strict=True))}


@dataclass(frozen=True, slots=True)
class Chart:
    """Curves on one pair of axes: a name for each key of metrics.jsonl.

    `style` is plain, power, share with a scale that fits, or whole: a share on a scale from 0 to 1.
    """

    title: str
    curves: Mapping[str, str]
    style: str = "plain"
    smooth: bool = False


def charts_of(rows: Sequence[Row]) -> dict[str, str]:
    """Return the SVG of every chart that there are figures for, by its title."""
    found = ((chart, curves_of(chart, rows)) for chart in _charts(rows))
    return {chart.title: draw(chart, curves) for chart, curves in found if curves}


def _charts(rows: Sequence[Row]) -> list[Chart]:
    recalls = [
        Chart(f"Validation recall, {direction}", _at_k(prefix, rows), "share")
        for direction, prefix in (("image to text", "val_recall@"), ("text to image", "val_text_recall@"))
    ]
    return [
        Chart("Loss", {"training": "loss", "validation": "val_loss"}, smooth=True),
        *recalls,
        Chart("Zero-shot accuracy, top 1", {"": "zero_shot_top1"}, "share"),
        Chart("Zero-shot accuracy, top 5", {"": "zero_shot_top5"}, "share"),
        Chart("Learning rate", {"": "lr"}, "power"),
        Chart("Logit scale, 1 ÷ temperature", {"": "logit_scale"}),
        Chart("Norm of the gradient", {"": "grad_norm"}, smooth=True),
        Chart("Images a second", {"": "images_per_second"}),
        Chart("Time without a batch", {"": "data_wait"}, "whole"),
    ]


def _at_k(prefix: str, rows: Iterable[Row]) -> dict[str, str]:
    """Return a curve for each key with this prefix: `@1`, `@5` ..., in the order of the rows."""
    return {f"@{key.removeprefix(prefix)}": key for row in rows for key in row if key.startswith(prefix)}


Points = tuple[list[float], list[float]]  # steps and values; NaN breaks a curve


def curves_of(chart: Chart, rows: Sequence[Row]) -> dict[str, Points]:
    """Return the points of each curve that has any: a row without its key is passed over, a null breaks the curve."""
    curves = {}
    for name, key in chart.curves.items():
        points = [(row["step"], row[key]) for row in rows if key in row]
        if any(math.isfinite(value) for _, value in points):
            curves[name] = thinned(points)
    return curves


def thinned(points: Sequence[tuple[float, float]], most: int = MOST_POINTS) -> Points:
    """Return at most so many points, each the mean of the finite values of equally many neighbours."""
    each = math.ceil(len(points) / most)
    groups = [points[start : start + each] for start in range(0, len(points), each)]
    return [group[-1][0] for group in groups], [mean_of_finite(value for _, value in group) for group in groups]


def draw(chart: Chart, curves: Mapping[str, Points]) -> str:
    """Return a chart as an SVG element."""
    logging.getLogger("matplotlib").setLevel(logging.ERROR)  # it reports its caches
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context():
        matplotlib.rcdefaults()  # whatever the user has set for figures of their own
        # Text stays text, in the page's font; equal figures make equal bytes.
        matplotlib.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": chart.title, "font.size": 11})
        figure = Figure(figsize=_SIZE)
        figure.subplots_adjust(left=0.17, right=0.97, top=0.96, bottom=0.19)
        axes = figure.add_subplot()
        _prepare(axes, chart, share_limits([value for _, values in curves.values() for value in values]))
        for colour, (name, points) in zip(_CURVES, curves.items(), strict=False):
            if chart.style == "share" and points[0][0] == 0:  # what the model was before its first step
                axes.axhline(points[1][0], color=colour, linewidth=1, linestyle="--", alpha=0.6)
            _add(axes, points, name=name, colour=colour, smooth=chart.smooth)
        if chart.style == "power":
            axes.set_ylim(bottom=0)  # two digits then tell all marks apart, of a constant rate too
        if any(curves):
            axes.legend(loc="best", frameon=False, labelcolor=_TEXT)
        stream = io.StringIO()
        nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
        figure.savefig(stream, format="svg", metadata=nothing)
    return _for_page(stream.getvalue(), chart.title)


def share_limits(values: Iterable[float]) -> tuple[float, float]:
    """Return the ends of a scale on which a small fall of these shares is seen: it has 10 points at least.

    A tenth of it is margin, but for the half point beyond 0 and 1 that a mark needs.
    """
    finite = [value for value in values if math.isfinite(value)] or [0.0, 1.0]
    low, high = min(finite), max(finite)
    margin = max((high - low) / 20, (LEAST_SCALE - (high - low)) / 2)
    return max(low - margin, -0.005), min(high + margin, 1.005)


def _prepare(axes: "Axes", chart: Chart, limits: tuple[float, float]) -> None:
    from matplotlib.ticker import FuncFormatter, MaxNLocator, PercentFormatter

    axes.patch.set_visible(False)
    axes.figure.patch.set_visible(False)
    axes.grid(color=_LINE, linewidth=0.8)
    axes.tick_params(colors=_TEXT, length=0)
    axes.set_xlabel("step", color=_TEXT)
    for spine in axes.spines.values():
        spine.set_visible(False)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=6, steps=[1, 2, 5, 10], integer=True, min_n_ticks=1))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    if chart.style in ("share", "whole"):
        axes.yaxis.set_major_formatter(PercentFormatter(1))
        axes.set_ylim(limits if chart.style == "share" else (-0.02, 1.02))
    elif chart.style == "power":
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.1e}" if value else "0"))
    else:
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.6g}"))


def _add(axes: "Axes", points: Points, *, name: str, colour: str, smooth: bool) -> None:
    """Add a curve; a long one that is to be smoothed is drawn over its raw values."""
    steps, values = points
    label = name or None
    if len(steps) <= FEW:
        axes.plot(steps, values, color=colour, label=label, linewidth=1.6, marker="o", markersize=3.5)
    elif smooth:
        axes.plot(steps, values, color=colour, linewidth=1, alpha=0.3)
        axes.plot(steps, smoothed(values), color=colour, label=label, linewidth=1.6)
    else:
        axes.plot(steps, values, color=colour, label=label, linewidth=1.6)


def smoothed(values: Sequence[float]) -> list[float]:
    """Return the mean of the finite values around each value, over a twentieth of all; NaN where there is none."""
    reach = max(1, len(values) // 40)
    around = [values[max(0, i - reach) : i + reach + 1] for i in range(len(values))]
    return [mean_of_finite(some) for some in around]


def mean_of_finite(values: Iterable[float]) -> float:
    """Return the mean of the finite values, NaN where there is none."""
    finite = [value for value in values if math.isfinite(value)]
    return sum(finite) / len(finite) if finite else math.nan


def _for_page(svg: str, title: str) -> str:
    """Return the element alone, with a name, ids of its own and the page's colours; the page styles line ends."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<style.*?</style>", "", svg, flags=re.DOTALL)
    own = "-".join(re.findall("[a-z0-9]+", title.lower()))
    svg = re.sub(r'(\bid="|="#|url\(#)', rf"\1{own}-", svg)
    svg = svg.replace("<svg", f'<svg role="img" aria-label="{title} by step"', 1)
    for colour, variable in _VARIABLES.items():
        svg = svg.replace(colour, f"var({variable})")
    return svg
