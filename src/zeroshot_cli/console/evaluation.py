"""The summary of evaluations for people."""

from collections.abc import Sequence

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from zeroshot_cli.display import shown
from zeroshot_cli.evaluation.compare import Comparison
from zeroshot_cli.records import EvalResult

WORST = 10  # classes worth a look; the JSON has them all
CONFUSED = 5  # pairs of classes
TITLES = {
    "top1": "top-1",
    "top5": "top-5",
    "mean_per_class_recall": "mean per-class recall",
    "ece": "calibration error",
    "log_loss": "log loss",
}
_CLASSIFICATION = ("top1", "top5", "mean_per_class_recall")
_RETRIEVAL = ("image_to_text_recall@1", "image_to_text_recall@5", "text_to_image_recall@1")


def print_eval(result: EvalResult, console: Console) -> None:
    """Print what was evaluated, its figures with their intervals, the weakest classes and what they are taken for."""
    console.print(_headline(result), soft_wrap=True)
    console.print(_figures(result))
    if result.published is not None:
        console.print(_published(result), soft_wrap=True)
    worst = worst_classes(result, WORST)
    if worst:
        console.print(f"\nlowest recall, {len(worst)} of {len(result.per_class)} classes")
        console.print(_worst_table(worst))
    if result.confused:
        console.print("\nconfused most")
        console.print(_confused_table(result))


def print_comparison(
    results: Sequence[EvalResult], comparisons: Sequence[tuple[int, int, Comparison]], console: Console
) -> None:
    """Print a row for every evaluation, the best of each data set marked, and the differences of pairs."""
    for task in dict.fromkeys(result.task == "retrieval" for result in results):
        rows = [(number, each) for number, each in enumerate(results, 1) if (each.task == "retrieval") is task]
        console.print(_comparison_table(rows, _RETRIEVAL if task else _CLASSIFICATION))
    if comparisons:
        console.print("\npaired differences of top-1 (McNemar's exact test)")
        console.print(_differences_table(comparisons))


def worst_classes(result: EvalResult, count: int) -> list[tuple[str, int, float]]:
    """Return label, images and recall of the classes with the lowest recall under 1, lowest first.

    Classes without images are no candidates; equal recalls stay in class order.
    """
    judged = [(row["label"], row["n"], row["recall"]) for row in result.per_class if row["recall"] is not None]
    return sorted((row for row in judged if row[2] < 1), key=lambda row: row[2])[:count]


def title_of(metric: str) -> str:
    """Return what people call a metric."""
    return TITLES.get(metric) or metric.replace("_", " ")


def figure(metric: str, value: float) -> str:
    """Return a figure as people read it: per cent, but for the log loss."""
    return f"{value:.3f}" if metric == "log_loss" else f"{value:.2%}"


def points(share: float) -> str:
    """Return a difference of two shares in percentage points, with its sign."""
    return f"{100 * share:+.2f}"


def setting_of(result: EvalResult) -> str:
    """Return model, weights and prompts of an evaluation in a line."""
    weights = f" ({result.pretrained})" if result.pretrained else ""
    prompts = f", prompts {result.prompts}" if result.prompts else ""
    probe = ", linear probe" if result.task == "probe" else ""
    return f"{result.model}{weights}{prompts}{probe}"


def _headline(result: EvalResult) -> Text:
    return Text(shown(f"{result.dataset}: {setting_of(result)}"))


def _figures(result: EvalResult) -> Table:
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column()
    table.add_column(justify="right")
    table.add_column(style="dim")
    table.add_row("images", f"{result.n:,}", "")
    if result.skipped:
        table.add_row("unreadable", f"{len(result.skipped):,}", "")
    if result.texts is not None:
        table.add_row("texts", f"{result.texts:,}", "")
    else:
        table.add_row("classes", f"{len(result.per_class):,}", "")
    for metric, value in result.metrics.items():
        table.add_row(title_of(metric), figure(metric, value), _interval(result, metric))
    return table


def _interval(result: EvalResult, metric: str) -> str:
    if metric not in result.intervals:
        return ""
    low, high = (figure(metric, bound) for bound in result.intervals[metric])
    return f"{low} to {high}"


def _published(result: EvalResult) -> Text:
    published = result.published
    assert published is not None
    verdict = "inside" if published.inside else "outside"
    return Text(
        shown(
            f"published {title_of(published.metric)} {published.value:.2%} ({published.source}); "
            f"ours differs by {points(published.difference)} points, and it is {verdict} our 95 % interval"
        ),
        style="" if published.inside else "yellow",
    )


def _worst_table(worst: list[tuple[str, int, float]]) -> Table:
    table = _table("class", "images", "recall")
    for label, n, recall in worst:
        table.add_row(Text(shown(label)), str(n), f"{recall:.2%}")
    return table


def _confused_table(result: EvalResult) -> Table:
    table = _table("class", "taken for", "images")
    table.columns[1].justify, table.columns[1].no_wrap = "left", False
    for pair in result.confused[:CONFUSED]:
        table.add_row(Text(shown(pair["label"])), Text(shown(pair["taken_for"])), str(pair["n"]))
    return table


def _comparison_table(rows: Sequence[tuple[int, EvalResult]], metrics: Sequence[str]) -> Table:
    table = _table("", "data set and model", *(_short(metric) for metric in metrics))
    table.columns[1].justify = "left"
    table.columns[1].no_wrap = False
    for number, result in rows:
        same = [other for _, other in rows if other.dataset == result.dataset]
        cells = [_cell(result, metric, same) for metric in metrics]
        what = Text("\n".join(map(shown, (result.dataset, setting_of(result)))), overflow="fold")
        table.add_row(str(number), what, *cells)
    return table


def _cell(result: EvalResult, metric: str, same: Sequence[EvalResult]) -> Text:
    """A figure over its interval; bold where it is the best of several on that data set."""
    value = result.metrics[metric]
    best = len(same) > 1 and value == max(other.metrics[metric] for other in same)
    cell = Text(figure(metric, value), style="bold" if best else "")
    low, high = result.intervals.get(metric, (value, value))
    return cell.append(f"\n{100 * low:.1f}-{high:.1%}", style="dim not bold")


def _short(metric: str) -> str:
    names = {"mean per-class recall": "per class", "image to text recall": "texts ", "text to image recall": "images "}
    title = title_of(metric)
    return next((title.replace(name, short) for name, short in names.items() if name in title), title)


def _differences_table(comparisons: Sequence[tuple[int, int, Comparison]]) -> Table:
    table = _table("", "points", "only 1st", "only 2nd", "p")
    for first, second, each in comparisons:
        low, high = each.interval
        table.add_row(
            f"{first + 1} - {second + 1}",
            Text(points(each.difference)).append(f"\n{points(low)} to {points(high)}", style="dim"),
            str(each.first_only),
            str(each.second_only),
            "<0.0001" if each.p < 0.0001 else f"{each.p:.4f}",
        )
    return table


def _table(*columns: str) -> Table:
    """A light table whose first column is text and whose others are figures."""
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for place, column in enumerate(columns):
        table.add_column(column, justify="right" if place else "left", no_wrap=place > 0 or not column)
    return table
