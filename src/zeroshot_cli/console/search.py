"""What search and duplicates found, as tables on a terminal whose paths are links to the files."""

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from zeroshot_cli.console.terminal import console_for
from zeroshot_cli.disk import writing
from zeroshot_cli.display import shown

if TYPE_CHECKING:
    from rich.text import Text

Row = tuple[str, ...]  # cells, the last of them a path


def print_linked(columns: Sequence[str], rows: Sequence[Row], *, texts: Sequence[str] = ()) -> None:
    """Print a table on standard output; the last cell of a row is a path, and a link to the file if it is there.

    The columns named in `texts` are aligned on the left, all other but the path on the right.
    """
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for column in columns[:-1]:
        table.add_column(column, justify="left" if column in texts else "right", no_wrap=True)
    table.add_column(columns[-1], overflow="fold")
    for *cells, path in rows:
        table.add_row(*cells, linked(path))
    with writing("standard output"):
        console_for(sys.stdout).print(table)


def linked(path: str) -> "Text":
    """Return a path as it is shown, with a link (OSC 8) to the file where there is one."""
    from rich.style import Style
    from rich.text import Text

    there = os.path.exists(path)  # noqa: PTH110 (a NUL in the path is no error here)
    return Text(shown(path), style=Style(link=Path(os.path.abspath(path)).as_uri()) if there else "")  # noqa: PTH100
