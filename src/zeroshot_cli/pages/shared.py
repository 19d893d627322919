"""What every page is made of: the files in `assets`, a policy that loads nothing, blocks of data, pieces of markup."""

import base64
import hashlib
import html
import json
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path, PurePath
from typing import Any
from urllib.parse import quote

from zeroshot_cli.display import shown
from zeroshot_cli.records import SkippedImage
from zeroshot_cli.remote.address import is_address

Thumbnails = Callable[[Sequence[str]], Iterable[bytes | None]]
"""A small encoded image for each path, or None."""

MOST_SKIPPED = 200  # images that are named
ASSETS = Path(__file__).with_name("assets")
_ESCAPES = {ord(char): f"\\u{ord(char):04x}" for char in "<>&\u2028\u2029"}  # so that no text ends or opens an element


def asset(name: str) -> str:
    """Return the text of a file that pages are made of."""
    return (ASSETS / name).read_text(encoding="utf-8")


def script_of(*names: str) -> str:
    """Return the script of a page that is a file; what modules of `zeroshot review` import needs no export here."""
    return re.sub(r"^export ", "", "".join(map(asset, ("shared.js", "files.js", *names))), flags=re.MULTILINE)


def filled(name: str, values: Mapping[str, str]) -> str:
    """Return a template with values for its `{{names}}`, in one pass: no value is itself read as a template."""
    return re.sub(r"\{\{(\w+)\}\}", lambda found: values[found[1]], asset(name))


def written(now: datetime | None) -> str:
    """Return the time that a page states, `now` or that of the clock."""
    return f"{now or datetime.now().astimezone():%Y-%m-%d %H:%M}"


def page(kind: str, parts: Mapping[str, str], *, styles: Sequence[str], script: str = "", drawn: bool = False) -> str:
    """Return a whole page of a kind, as "training", in the colours that people choose on any page.

    `parts` are its title, the markup in its header, and its body, which holds `script` as an element where it needs
    one. `styles` are assets. The policy is that nothing is loaded, and only these styles and scripts are applied; where
    charts are `drawn` into the body, which have styles in their elements, all styles.
    """
    style, theme = "".join(map(asset, ("theme.css", "base.css", "page.css", *styles))), asset("theme.js")
    scripts = " ".join(_hash_of(text) for text in (theme, script) if text)
    applied = "'unsafe-inline'" if drawn else _hash_of(style)
    policy = f"default-src 'none'; img-src data:; style-src {applied}; script-src {scripts}; base-uri 'none'"
    return filled("page.html", {"kind": kind, "policy": policy, "style": style, "theme": theme, **parts})


def _hash_of(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def block(name: str, content: Any) -> str:
    r"""Return an element that holds data as JSON, all ASCII; a lone surrogate in a path stays one, as `\udcff`."""
    text = json.dumps(content, separators=(",", ":"), allow_nan=False).translate(_ESCAPES)
    return f'<script type="application/json" id="{name}">{text}</script>\n'


def link_to(path: str, page: Path) -> str:
    """Return the address of a file in a page: relative where `path` is, so that both can be moved together.

    `PATH#N`, a frame of a file, leads to the file, and an address there. Every byte that could be read otherwise is
    escaped.
    """
    if is_address(path):
        return quote(os.fsencode(path), safe="/:?#[]@!$&()*+,;=%~")
    file, mark, number = path.rpartition("#")
    if not (mark and number.isdecimal()) or os.path.lexists(path):
        file = path
    if not Path(file).is_absolute():
        with suppress(ValueError):  # on another drive of Windows
            return quote(os.fsencode(os.path.relpath(file, page.parent).replace(os.sep, "/")))
    whole = os.path.abspath(file)  # noqa: PTH100 - resolves no links
    return Path(whole.removeprefix("/") if whole.startswith("//") else whole).as_uri()  # a host is never meant


def data_url(image: bytes | None) -> str | None:
    """Return the address of an encoded image that is part of the page; None without one that browsers show."""
    if image is None:
        return None
    kinds = {b"\xff\xd8\xff": "jpeg", b"\x89PNG\r\n\x1a\n": "png"}
    kind = next((kind for start, kind in kinds.items() if image.startswith(start)), None)
    if image[:4] == b"RIFF" and image[8:12] == b"WEBP":
        kind = "webp"
    return kind and f"data:image/{kind};base64,{base64.b64encode(image).decode()}"


def escaped(text: str) -> str:
    """Return text as markup; what cannot be printed, such as a byte that is not UTF-8, as the terminal shows it."""
    return html.escape(shown(text))


def card(path: str, page: Path, thumbnail: str | None, about: str, *, kept: bool = False) -> str:
    """Return an image in a list: its thumbnail, which leads to it as its name does, and markup about it.

    `thumbnail` is an address, None if there is none; `kept` marks the one of a group to keep.
    """
    link = f'href="{escaped(link_to(path, page))}" target="_blank" rel="noopener"'
    drawn = f'<img src="{thumbnail}" alt="" loading="lazy">' if thumbnail else "no preview"
    return (
        f'<li{" class=kept" if kept else ""}><a class="frame" {link} tabindex="-1">{drawn}</a><p>{about}</p>'
        f'<a class="path" {link} title="{escaped(path)}">{escaped("/".join(PurePath(path).parts[-2:]))}</a></li>'
    )


def section(title: str, content: str) -> str:
    """Return a part of the page under its title."""
    return f"<section><h3>{escaped(title)}</h3>{content}</section>\n"


def panel(title: str, content: str) -> str:
    """Return a framed part that may stand beside others."""
    return f'<div class="panel"><h3>{escaped(title)}</h3>{content}</div>'


def table(columns: Sequence[str], rows: Iterable[Sequence[str]], *, texts: int = 1) -> str:
    """Return a table of cells that are already markup; the first `texts` columns are text, the others figures."""
    kinds = [' class="text"' if place < texts else "" for place in range(len(columns))]
    head = "".join(f"<th{kind}>{escaped(column)}</th>" for kind, column in zip(kinds, columns, strict=True))
    body = "".join(
        "<tr>" + "".join(f"<td{kind}>{cell}</td>" for kind, cell in zip(kinds, row, strict=True)) + "</tr>"
        for row in rows
    )
    return f'<div class="figures"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def definitions(rows: Iterable[tuple[str, str]]) -> str:
    """Return names and values as the content of a `dl`; line breaks in a value are kept."""
    return "".join(
        f"<div><dt>{escaped(name)}</dt><dd>{chr(10).join(map(escaped, value.split(chr(10))))}</dd></div>"
        for name, value in rows
    )


def about(content: str) -> str:
    """Return what describes a run, closed until somebody asks."""
    return f'<details class="about"><summary>About this run</summary>{content}</details>\n'


def skipped_list(images: Sequence[SkippedImage], *, all_in: str) -> str:
    """Return the first 200 images that could not be read, each with its reason; `all_in` names where the others are."""
    rows = "".join(
        f'<li><span class="path">{escaped(image.path)}</span><span class="reason">{escaped(image.reason)}</span></li>'
        for image in images[:MOST_SKIPPED]
    )
    rest = len(images) - MOST_SKIPPED
    more = f'<p class="hint">and {rest:,} more; {all_in} lists them all</p>' if rest > 0 else ""
    return f'<ul class="failures">{rows}</ul>{more}'
