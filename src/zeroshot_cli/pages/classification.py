"""The results of a run as one HTML file: the images under their labels, the most doubtful first.

The file is self-contained, and its policy forbids the browser to load anything. Order in the file: markup, results,
script, thumbnails; so the page responds while a browser still reads the thumbnails, which are most of it. Results are
blocks of JSON, 200 images each; a thumbnail is a block of its own, which the script opens when its image comes into
view. The script puts every name into the page as text.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Any

from zeroshot_cli.disk import replacing, writing
from zeroshot_cli.pages.shared import asset, block, data_url, link_to, page, script_of
from zeroshot_cli.records import LabelScore, Result, SkippedImage

BLOCK = 200  # images in one block of results

Results = Callable[[], Iterator[Result]]
Thumbnails = Callable[[Iterable[str]], Iterator[bytes | None]]


def write_html(path: Path, results: Results, *, about: Sequence[tuple[str, str]], thumbnails: Thumbnails) -> None:
    """Write the report so that a failed run leaves an old report alone.

    `results` is called twice and read one by one. `about` are rows that describe the run. `thumbnails` yields, for
    each path of a classified image and in that order, a small encoded image, or None if there is none. Raises
    UsageError if the file cannot be written.
    """
    with replacing(path, resumable=True) as unfinished:
        with writing(str(path)):
            stream = unfinished.open("w", encoding="utf-8", newline="\n")
        try:
            for part in _parts(path, results, about, thumbnails):
                with writing(str(path), resumable=True):
                    stream.write(part)
            with writing(str(path), resumable=True):
                stream.flush()
        finally:
            with suppress(OSError):  # of what could not be flushed
                stream.close()


def _parts(path: Path, results: Results, about: Sequence[tuple[str, str]], thumbnails: Thumbnails) -> Iterator[str]:
    """Yield the parts of the file, each made when it is asked for."""
    script = script_of("report.js")
    parts = {"title": "zeroshot classification", "header": asset("report_header.html"), "body": asset("report.html")}
    whole = page("classification", parts, styles=["report.css"], script=script)
    head, rest = whole.split("{{results}}")
    middle, tail = rest.split("{{thumbnails}}")
    yield head
    yield block("about", [list(row) for row in about])
    remaining, number = results(), 0
    while rows := [_row(item, path) for item in islice(remaining, BLOCK)]:
        yield block(f"results-{number}", rows)
        number += 1
    yield middle.replace("{{script}}", script)
    classified = (item.path for item in results() if not isinstance(item, SkippedImage))
    for number, image in enumerate(thumbnails(classified)):
        yield block(f"thumbnail-{number}", data_url(image))
    yield tail


def _row(item: Result, report: Path) -> dict[str, Any]:
    if isinstance(item, SkippedImage):
        return {"path": item.path, "error": item.reason}
    return {
        "path": item.path,
        "address": link_to(item.path, report),
        "rejected": item.rejected,
        "margin": None if item.margin is None else _rounded(item.margin),
        "predictions": [_label(each) for each in item.predictions],
        "others": [_label(each) for each in item.others],
    }


def _label(each: LabelScore) -> list[Any]:
    group = [each.path_of_group] if each.group not in ((), (each.label,)) else []
    return [each.label, _rounded(each.score), _rounded(each.probability), *group]


def _rounded(value: float) -> float | None:
    return float(f"{value:.6g}") if math.isfinite(value) else None
