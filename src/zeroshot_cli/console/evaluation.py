"""Evaluations as tables on a terminal, and how figures are written there and on pages."""

from collections.abc import Sequence

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from zeroshot_cli.display import shown
from zeroshot_cli.evaluation.compare import Comparison
from zeroshot_cli.records import EvalResult, PublishedFigure

WORST = 10  # classes worth a look; the JSON has them all
CONFUSED = 5  # pairs of classes
TITLES = {
    "top1": "top-1",
    "top5": "top-5",
    "mean_per_class_recall": "mean per-class recall",
    "ece": "calibration error",
    "log_loss": "log loss",
    "answered": "answered, not unknown",
    "precision": "precision of answers",
    "map": "mean average precision",
    **{f"{metric}_{kind}": f"{metric}, {kind}" for metric in ("precision", "recall") for kind in ("micro", "macro")},
    "f1_micro": "F1, micro",
    "f1_macro": "F1, macro",
}
_LEVEL = "top1_level"
_CLASSIFICATION = ("top1", "top5", "mean_per_class_recall")
_MULTI_LABEL = ("map", "f1_micro", "f1_macro")
_RETRIEVAL = ("image_to_text_recall@1", "image_to_text_recall@5", "text_to_image_recall@1")


def print_eval(result: EvalResult, console: Console) -> None:
    """Print what was evaluated, its figures with intervals, the weakest classes and the most frequent confusions."""
    console.print(Text(shown(f"{result.dataset}: {setting_of(result)}")), soft_wrap=True)
    console.print(_figures(result))
    if result.published is not None:
        style = "" if result.published.inside else "yellow"
        console.print(Text(shown(published_text(result.published)), style=style), soft_wrap=True)
    worst = worst_classes(result, WORST)
    if worst:
        console.print(f"\nlowest recall: {len(worst)} of {len(result.per_class)} classes")
        console.print(_worst_table(worst))
    if result.confused:
        console.print("\nconfused most")
        console.print(_confused_table(result))


def print_comparison(
    results: Sequence[EvalResult], comparisons: Sequence[tuple[int, int, Comparison]], console: Console
) -> None:
    """Print a row for each evaluation, with the best of each data set marked, and the paired differences."""
    for metrics in dict.fromkeys(map(compared_metrics, results)):
        rows = [(number, each) for number, each in enumerate(results, 1) if compared_metrics(each) == metrics]
        console.print(_comparison_table(rows, metrics))
    if comparisons:
        console.print("\npaired differences of top-1 (McNemar's exact test)")
        console.print(_differences_table(comparisons))


def compared_metrics(result: EvalResult) -> tuple[str, ...]:
    """Return the metrics that a comparison shows of a result; those of a table have the same."""
    return {"retrieval": _RETRIEVAL, "multi-label": _MULTI_LABEL}.get(result.task, _CLASSIFICATION)


def worst_classes(result: EvalResult, count: int) -> list[tuple[str, int, float]]:
    """Return label, images and recall of the classes with the lowest recall under 1, lowest first.

    Classes without images are omitted; equal recalls stay in class order.
    """
    judged = [(row["label"], row["n"], row["recall"]) for row in result.per_class if row["recall"] is not None]
    return sorted((row for row in judged if row[2] < 1), key=lambda row: row[2])[:count]


def title_of(metric: str) -> str:
    """Return the name of a metric for people."""
    if metric.startswith(_LEVEL):
        return f"{TITLES['top1']} at level {metric.removeprefix(_LEVEL)}"
    return TITLES.get(metric) or metric.replace("_", " ")


def figure(metric: str, value: float) -> str:
    """Return a figure in per cent; the log loss as it is."""
    return f"{value:.3f}" if metric == "log_loss" else f"{value:.2%}"


def points(share: float) -> str:
    """Return a difference of two shares in percentage points, with its sign."""
    return f"{100 * share:+.2f}"


def setting_of(result: EvalResult) -> str:
    """Return model, weights and prompts of an evaluation on one line."""
    weights = f" ({result.pretrained})" if result.pretrained else ""
    prompts = f", prompts {result.prompts}" if result.prompts else ""
    probe = ", linear probe" if result.task == "probe" else ""
    tuned = f", tuned ({result.tuned})" if result.tuned else ""
    least = "" if result.threshold is None else f", labels of a probability of {result.threshold:g} or more"
    return f"{result.model}{weights}{prompts}{probe}{tuned}{least}"


def interval_text(result: EvalResult, metric: str) -> str:
    """Return the 95 % interval of a metric, empty if it has none."""
    low_high = (figure(metric, bound) for bound in result.intervals.get(metric, ()))
    return " to ".join(low_high)


def published_text(published: PublishedFigure) -> str:
    """Return what others measured, and how ours compares."""
    return (
        f"published {title_of(published.metric)}: {published.value:.2%} ({published.source}), "
        f"{'inside' if published.inside else 'outside'} our 95 % interval; "
        f"ours differs by {points(published.difference)} points"
    )


def is_best(result: EvalResult, metric: str, results: Sequence[EvalResult]) -> bool:
    """Return whether a figure is the best of several on the same data set."""
    same = [other.metrics[metric] for other in results if other.dataset == result.dataset and metric in other.metrics]
    best = (min if metric in ("ece", "log_loss") else max)(same)
    return len(same) > 1 and result.metrics[metric] == best


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
        table.add_row(title_of(metric), figure(metric, value), interval_text(result, metric))
    return table


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
        cells = [_cell(result, metric, [other for _, other in rows]) for metric in metrics]
        what = Text("\n".join(map(shown, (result.dataset, setting_of(result)))), overflow="fold")
        table.add_row(str(number), what, *cells)
    return table


def _cell(result: EvalResult, metric: str, results: Sequence[EvalResult]) -> Text:
    value = result.metrics[metric]
    cell = Text(figure(metric, value), style="bold" if is_best(result, metric, results) else "")
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
    """Return a light table: the first column is text, the others are figures."""
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for place, column in enumerate(columns):
        table.add_column(column, justify="right" if place else "left", no_wrap=place > 0 or not column)
    return table
