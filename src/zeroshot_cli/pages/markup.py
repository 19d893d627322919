"""Pieces of markup that the parts of an evaluation's report are made of."""

import html
from collections.abc import Iterable, Sequence

from zeroshot_cli.display import shown


def escaped(text: str) -> str:
    """Return a text as markup; what cannot be printed, such as a byte that is not UTF-8, as the console shows it."""
    return html.escape(shown(text))


def section(title: str, content: str) -> str:
    """Return a part of the page under its title."""
    return f"<section><h3>{escaped(title)}</h3>{content}</section>\n"


def panel(title: str, content: str) -> str:
    """Return a framed part that may stand beside others."""
    return f'<div class="panel"><h3>{escaped(title)}</h3>{content}</div>'


def table(columns: Sequence[str], rows: Iterable[Sequence[str]], *, texts: int = 1) -> str:
    """Return a table of cells that are markup already; the first `texts` columns are text, the others figures."""
    head = "".join(f"<th{_kind(place, texts)}>{escaped(column)}</th>" for place, column in enumerate(columns))
    body = "".join(
        "<tr>" + "".join(f"<td{_kind(place, texts)}>{cell}</td>" for place, cell in enumerate(row)) + "</tr>"
        for row in rows
    )
    return f'<div class="figures"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def _kind(place: int, texts: int) -> str:
    return ' class="text"' if place < texts else ""
