"""The summary of an evaluation for people."""

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from zeroshot_cli.records import EvalResult
from zeroshot_cli.report.console import shown

WORST = 10  # classes worth a look; the JSON has them all


def print_eval(result: EvalResult, console: Console) -> None:
    """Print what was evaluated, its figures, and the classes with the lowest recall."""
    console.print(_headline(result), soft_wrap=True)
    console.print(_figures(result))
    worst = worst_classes(result, WORST)
    if worst:
        console.print(f"\nlowest recall, {len(worst)} of {len(result.per_class)} classes")
        console.print(_worst_table(worst))


def worst_classes(result: EvalResult, count: int) -> list[tuple[str, int, float]]:
    """Return label, images and recall of the classes with the lowest recall under 1, lowest first.

    Classes without images are no candidates; equal recalls stay in class order.
    """
    judged = [(row["label"], row["n"], row["recall"]) for row in result.per_class if row["recall"] is not None]
    return sorted((row for row in judged if row[2] < 1), key=lambda row: row[2])[:count]


def _headline(result: EvalResult) -> Text:
    weights = f" ({result.pretrained})" if result.pretrained else ""
    prompts = f", prompts {result.prompts}" if result.prompts else ""
    return Text(shown(f"{result.dataset}: {result.model}{weights}{prompts}"))


def _figures(result: EvalResult) -> Table:
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column()
    table.add_column(justify="right")
    table.add_row("images", str(result.n))
    if result.skipped:
        table.add_row("unreadable", str(len(result.skipped)))
    table.add_row("classes", str(len(result.per_class)))
    for name, title in (
        ("top1", "top-1"),
        ("top5", "top-5"),
        ("mean_per_class_recall", "mean per-class recall"),
    ):
        table.add_row(title, f"{result.metrics[name]:.2%}")
    return table


def _worst_table(worst: list[tuple[str, int, float]]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    table.add_column("class")
    table.add_column("images", justify="right")
    table.add_column("recall", justify="right")
    for label, n, recall in worst:
        table.add_row(Text(shown(label)), str(n), f"{recall:.2%}")
    return table
