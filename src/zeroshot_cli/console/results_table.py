"""Results as a table; on a terminal, no longer than people read, and a row a line."""

import os
import sys
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING

from zeroshot_cli.disk import writing
from zeroshot_cli.display import counted, shown
from zeroshot_cli.records import LabelScore, Result, SkippedImage
from zeroshot_cli.results.formats import labels_to_show

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

CHUNK = 200  # images in one table; more follow in further tables of the same widths
SHOWN_ROWS = 50  # on a terminal, unless all are asked for
_GAP = 3
_NUMBERS = 7 + 11 + 3 * _GAP  # columns of score and probability, with their gaps
_RANK = 4 + _GAP
_USUAL_PATH = 60  # columns for paths that are still to come
_LONGEST_EXTENSION = 12
_MOST_UNREADABLE = 10


class TableWriter:
    """A sink that draws tables of 200 images, all with the column widths of the first.

    After `most` rows it only counts, and says so at the end, below ten more images that could not be read. On a
    terminal, paths, of folders or groups, are cut in their middle. `paused` gives a context to draw in, such as a
    paused progress bar on the same terminal.
    """

    def __init__(
        self,
        console: "Console",
        *,
        ranks: bool,
        grouped: bool = False,
        most: int = sys.maxsize,
        paused: Callable[[], AbstractContextManager[None]] = nullcontext,
    ) -> None:
        self._console = console
        self._ranks = ranks
        self._grouped = grouped
        self._rows_left = most
        self._unreadable: list[SkippedImage] = []  # after the rows that are shown
        self._hidden = 0
        self._paused = paused
        self._items: list[Result] = []
        self._widths: tuple[int, int, int] | None = None

    def write(self, items: Sequence[Result]) -> None:
        """Draw every table that is full."""
        for item in items:
            if self._rows_left > 0:
                self._items.append(item)
                self._rows_left -= len(_label_texts(item))
            elif isinstance(item, SkippedImage) and len(self._unreadable) < _MOST_UNREADABLE:
                self._unreadable.append(item)
            else:
                self._hidden += 1
        while len(self._items) >= CHUNK or (self._items and self._rows_left <= 0):
            self._draw()

    def close(self) -> None:
        """Draw what is left, and say how many images are not shown."""
        from rich.text import Text

        if self._items:
            self._draw()
        lines = [Text(f"{shown(item.path)}: {shown(item.reason)}", style="red") for item in self._unreadable]
        if self._hidden:
            more = f"… {counted(self._hidden, 'more image')}; --format table shows all"
            lines.append(Text(more, style="dim"))
        for line in lines:
            with self._paused(), writing("standard output"):
                self._console.print(line)

    def _draw(self) -> None:
        items, self._items = self._items[:CHUNK], self._items[CHUNK:]
        first = self._widths is None
        self._widths = self._widths or self._widths_for(items)
        table = self._table(items, self._widths, header=first)
        with self._paused(), writing("standard output"):
            self._console.print(table)

    def _widths_for(self, items: Sequence[Result]) -> tuple[int, int, int]:
        """Return the widths of path, label and group: what they need, or their share of the terminal."""
        from rich.cells import cell_len

        groups = [shown(best.path_of_group) for item in items for best in _labels(item)] if self._grouped else []
        group = max(5, *map(cell_len, groups)) if groups else 0
        group = min(group, max(self._console.width // 4, 12))
        room = max(self._console.width - _NUMBERS - _RANK * self._ranks - (group and group + _GAP), 20)
        path = max(4, *(cell_len(shown(item.path)) for item in items))
        name = max((cell_len(shown(best.label)) for item in items for best in _labels(item)), default=0)
        label = max(5, *(cell_len(text) for item in items for text in _label_texts(item)))
        if self._console.is_terminal and len(items) == CHUNK:  # more may come, with longer paths
            path = max(path, min(room - label, _USUAL_PATH))
        if path + label <= room:
            return path, label, group
        least = min(name, room // 2) if self._console.is_terminal else 0  # paths can be cut there
        label = min(label, max(room // 3, room - path, least))
        return room - label, label, group

    def _table(self, items: Sequence[Result], widths: tuple[int, int, int], *, header: bool) -> "Table":
        from rich import box
        from rich.table import Table

        table = Table(box=box.SIMPLE_HEAD, show_header=header, show_edge=False, pad_edge=False)
        table.add_column("path", width=widths[0], overflow="fold")
        if self._ranks:
            table.add_column("rank", width=4, justify="right")
        table.add_column("label", width=widths[1], overflow="fold")
        table.add_column("score", width=7, justify="right")
        table.add_column("probability", width=11, justify="right")
        if self._grouped:
            table.add_column("group", width=widths[2], overflow="fold")
        for item in items:
            cut = shortened if self._console.is_terminal else _whole
            name = cut(shown(item.path), widths[0])
            groups = [cut(shown(best.path_of_group), widths[2]) for best in _labels(item)] if self._grouped else None
            _add_rows(table, item, name, ranks=self._ranks, groups=groups)
        return table


def _whole(path: str, _width: int) -> str:
    return path


def _label_texts(item: Result) -> list[str]:
    if isinstance(item, SkippedImage):
        return [shown(item.reason)]
    return [shown(best.label) for best in _labels(item)]


def _labels(item: Result) -> tuple[LabelScore, ...]:
    return () if isinstance(item, SkippedImage) else labels_to_show(item)


def _add_rows(table: "Table", item: Result, name: str, *, ranks: bool, groups: Sequence[str] | None) -> None:
    """Add a line for each label, the first with the path; an unreadable image has its reason as label.

    `groups` are those of the labels, None for a table without them.
    """
    from rich.text import Text

    path = Text(name)  # Text, because a str would be read as markup
    if isinstance(item, SkippedImage):
        table.add_row(path, *[""] * ranks, Text(shown(item.reason), style="red"), "", "", *[""] * (groups is not None))
        return
    for rank, best in enumerate(labels_to_show(item), start=1):
        style = "yellow" if item.rejected else "bold" if rank == 1 else "dim"
        rank_cell = [str(rank)] * ranks
        label = Text(shown(best.label), style=style)
        numbers = (f"{best.score:.4f}", f"{best.probability:.4f}")
        group = [] if groups is None else [Text(groups[rank - 1], style="dim")]
        table.add_row(path if rank == 1 else "", *rank_cell, label, *numbers, *group)


def shortened(path: str, width: int) -> str:
    """Return a path that takes at most `width` columns: with the middle of its folder cut out.

    If the name of the file does not fit, it stands alone with its middle cut out; its extension stays.
    """
    from rich.cells import cell_len

    if cell_len(path) <= width:
        return path
    place = max(path.rfind("/"), path.rfind(os.sep))
    name = path[place + 1 :]
    room = width - cell_len(name) - 1
    if place > 0 and room > 0:
        slash = path[place]
        start, end = _cut(path[:place], room)
        # Whole names of folders, where there are any.
        return f"{start[: start.rfind(slash) + 1] or start}…{end[max(end.find(slash), 0) :]}{slash}{name}"
    if cell_len(name) <= width:
        return name
    stem, dot, extension = name.rpartition(".")
    kept = dot + extension if stem and cell_len(extension) < min(_LONGEST_EXTENSION, width - 1) else ""
    return "…".join(_cut(name.removesuffix(kept), width - cell_len(kept))) + kept


def _cut(text: str, width: int) -> tuple[str, str]:
    """Return the start and the end of a text that is too long for a number of columns, with one left between them."""
    from rich.cells import set_cell_size

    end = (width - 1) // 2
    return set_cell_size(text, width - 1 - end), set_cell_size(text[::-1], end)[::-1]
