"""What search and duplicates found as one HTML file: thumbnails in their order, each a link to its file.

The file is self-contained, and its policy forbids the browser to load anything.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from pathlib import Path

from zeroshot_cli.disk import write_file
from zeroshot_cli.pages import shared
from zeroshot_cli.pages.shared import (
    Thumbnails,
    card,
    data_url,
    definitions,
    escaped,
    filled,
    page,
    script_of,
    skipped_list,
    written,
)
from zeroshot_cli.records import SkippedImage

MOST = 2000  # images that are shown


@dataclass(frozen=True, slots=True)
class FoundImage:
    """An image with a line that says what it is; `kept` marks the one of a group to keep."""

    path: str
    line: str
    kept: bool = False


@dataclass(frozen=True, slots=True)
class FoundPage:
    """What a page shows: its kind, such as "search", a title, sections with a heading or none, and a run's settings."""

    kind: str
    title: str
    sections: Sequence[tuple[str, Sequence[FoundImage]]]
    about: Sequence[tuple[str, str]]
    skipped: Sequence[SkippedImage] = ()


def write_found_html(found: FoundPage, path: Path, *, thumbnails: Thumbnails, now: datetime | None = None) -> None:
    """Write the page, so that `path` is at any time the old file, none, or the whole new one.

    `thumbnails` gives a small encoded image for each path, or None. Raises UsageError if the file cannot be written.
    """
    script = script_of()
    parts = {
        "title": f"{escaped(found.title)} · zeroshot {found.kind}",
        "header": filled("named_header.html", {"name": escaped(found.title), "written": written(now)}),
        "body": filled("found.html", {"sections": "".join(_sections(found, path, thumbnails)), "script": script}),
    }
    write_file(path, page(found.kind, parts, styles=["found.css"], script=script))


def _sections(found: FoundPage, target: Path, thumbnails: Thumbnails) -> Iterator[str]:
    images = [image for _, some in found.sections for image in some]
    drawn = iter(thumbnails([image.path for image in images[:MOST]]))
    left = MOST
    for heading, some in found.sections:
        shown = some[:left]
        left -= len(shown)
        if shown:
            cards = (
                card(image.path, target, data_url(each), escaped(image.line), kept=image.kept)
                for image, each in zip(shown, islice(drawn, len(shown)), strict=True)
            )
            title = f"<h2>{escaped(heading)}</h2>" if heading else ""
            yield f'<section>{title}<ul class="images">{"".join(cards)}</ul></section>\n'
    if not images:
        yield "<p>Nothing was found.</p>"
    if len(images) > MOST:
        yield f'<p class="hint">and {len(images) - MOST:,} more images; a .csv file lists them all</p>'
    if found.skipped:
        skipped = skipped_list(found.skipped, all_in="--verbose")
        yield f"<section><h2>Images that could not be read</h2>{skipped}</section>\n"
    yield shared.about(f"<dl>{definitions(found.about)}</dl>")
