"""What a run ends with on a terminal: how many images have which label, and where they are."""

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from zeroshot_cli.console.results_table import shortened
from zeroshot_cli.display import counted, shown
from zeroshot_cli.results.summary import Outcome, Tally

if TYPE_CHECKING:
    from rich.table import Table

_FEWEST = 10  # images that are worth counting
_FEWEST_ROWS = 6
_BESIDE_LABELS = 12  # columns of a table of folders: the number of images, and gaps
_UNREADABLE = "could not be read"
_STYLES = {Outcome.LABELLED: "bold", Outcome.UNKNOWN: "yellow", Outcome.UNREADABLE: "red"}


def print_counts(tally: Tally) -> None:
    """Print a short table of the labels on standard error, and one of the folders if there are several.

    Nothing is printed where nobody looks, nor for a few images.
    """
    if tally.images < _FEWEST or not sys.stderr.isatty():
        return
    from rich.console import Console

    console = Console(stderr=True, highlight=False, emoji=False)
    console.print()
    console.print(_labels(tally, max(_FEWEST_ROWS, console.height // 2)))
    if len(tally.folders) > 1:
        console.print()
        console.print(_folders(tally, console.width, max(_FEWEST_ROWS, console.height // 4)))
    console.print()


def _labels(tally: Tally, most: int) -> "Table":
    """Return the labels, most frequent first, with `unknown` and unreadable images last, in at most so many rows."""
    from rich.text import Text

    rows = tally.by_label()
    labelled = [row for row in rows if row[1] is Outcome.LABELLED]
    others = rows[len(labelled) :]
    kept = len(labelled) if len(rows) <= most else most - len(others) - 1
    shown_rows = [(shown(label), _STYLES[outcome], count) for label, outcome, count in labelled[:kept]]
    if rest := labelled[kept:]:
        shown_rows.append((f"… {len(rest)} more labels", "dim", sum(count for *_, count in rest)))
    shown_rows += [(shown(label) or _UNREADABLE, _STYLES[outcome], count) for label, outcome, count in others]
    table = _table("label", "images", "share")
    for label, style, count in shown_rows:
        table.add_row(Text(label, style=style), str(count), f"{count / tally.images:.1%}")
    return table


def _folders(tally: Tally, width: int, most: int) -> "Table":
    """Return the folders, those with the most images first, each with the labels that fit, most frequent first."""
    from rich.cells import cell_len
    from rich.text import Text

    folders = sorted(tally.folders.items(), key=lambda item: (-item[1], item[0]))
    kept = len(folders) if len(folders) <= most else most - 1
    names = [shortened(shown(folder), width // 2 - 5) for folder, _ in folders[:kept]]
    room = width - max(map(cell_len, names)) - _BESIDE_LABELS
    table = _table("folder", "images", "labels")
    for name, (folder, count) in zip(names, folders[:kept], strict=True):
        labels = sorted(tally.by_label(folder), key=lambda row: -row[2])
        texts = [f"{shown(label) or _UNREADABLE} {number}" for label, _, number in labels]
        table.add_row(Text(name), str(count), Text(_listed(texts, room)))
    if rest := folders[kept:]:
        count = sum(count for _, count in rest)
        table.add_row(Text(f"… {counted(len(rest), 'more folder')}", style="dim"), str(count), "")
    return table


def _listed(texts: Sequence[str], width: int) -> str:
    """Return texts with commas, as many as fit, at least the first, and how many more there are."""
    from rich.cells import cell_len

    for kept in range(len(texts), 1, -1):
        line = ", ".join([*texts[:kept], *[f"… {len(texts) - kept} more"] * (kept < len(texts))])
        if cell_len(line) <= width:
            return line
    return ", ".join([texts[0], *[f"… {len(texts) - 1} more"] * (len(texts) > 1)])


def _table(first: str, number: str, last: str) -> "Table":
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    table.add_column(first, no_wrap=True, overflow="ellipsis")
    table.add_column(number, justify="right", min_width=len(number))
    table.add_column(last, justify="right" if last == "share" else "left", no_wrap=True, overflow="ellipsis")
    return table
