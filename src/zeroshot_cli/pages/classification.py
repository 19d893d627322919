"""The results of a run as one HTML file: the pictures under their labels, the most doubtful first.

The file needs nothing but itself, and its policy forbids the browser to load anything. Order in the file: markup,
results, script, thumbnails; so the page answers while a browser still reads the thumbnails, which are most of it.
Results stand in blocks of JSON, 200 images each; a thumbnail is a block of its own, which the script opens when its
picture comes into view. The script puts every name into the page as text.
"""

import base64
import hashlib
import json
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Any

from zeroshot_cli.disk import replacing, writing
from zeroshot_cli.records import LabelScore, Result, SkippedImage

BLOCK = 200  # images in one block of results
_ASSETS = Path(__file__).with_name("assets")
_ESCAPES = {ord(char): f"\\u{ord(char):04x}" for char in "<>&\u2028\u2029"}  # so that no text ends or opens an element

Thumbnails = Callable[[Iterable[str]], Iterator[bytes | None]]


def write_html(
    path: Path,
    results: Callable[[], Iterator[Result]],
    *,
    about: Sequence[tuple[str, str]],
    thumbnails: Thumbnails,
) -> None:
    """Write the report beside `path`, then put it in its place, so that a failed run leaves an old report alone.

    `results` is called twice and read one by one. `about` are rows that describe the run. `thumbnails` yields, for
    each path of a classified image and in that order, a small encoded picture, or None where there is none. Raises
    UsageError when the file cannot be written.
    """
    with replacing(path, resumable=True) as unfinished:
        with writing(str(path)):
            stream = unfinished.open("w", encoding="utf-8", newline="\n")
        try:
            for part in _page(results, about, thumbnails):
                with writing(str(path), resumable=True):
                    stream.write(part)
            with writing(str(path), resumable=True):
                stream.flush()
        finally:
            with suppress(OSError):  # of what could not be flushed
                stream.close()


def _page(
    results: Callable[[], Iterator[Result]], about: Sequence[tuple[str, str]], thumbnails: Thumbnails
) -> Iterator[str]:
    """The parts of the file, made as they are asked for."""
    style, script = asset("report.css"), asset("report.js")
    page = asset("report.html").replace("{{policy}}", policy_of(style, script)).replace("{{style}}", style)
    head, rest = page.split("{{results}}")
    middle, tail = rest.split("{{thumbnails}}")
    yield head
    yield block("about", [list(row) for row in about])
    for number, items in enumerate(_batches(results(), BLOCK)):
        yield block(f"results-{number}", [_as_json(item) for item in items])
    yield middle.replace("{{script}}", script)
    classified = (item.path for item in results() if not isinstance(item, SkippedImage))
    for number, picture in enumerate(thumbnails(classified)):
        yield block(f"thumbnail-{number}", None if picture is None else data_url(picture))
    yield tail


def asset(name: str) -> str:
    """A file that pages are made of."""
    return (_ASSETS / name).read_text(encoding="utf-8")


def policy_of(style: str, script: str) -> str:
    """The policy of a page: nothing is loaded, and nothing is obeyed but these two."""
    obeyed = f"style-src {_hash_of(style)}; script-src {_hash_of(script)}"
    return f"default-src 'none'; img-src data:; {obeyed}; base-uri 'none'"


def _hash_of(text: str) -> str:
    """What the policy calls an element of exactly this content."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _batches(items: Iterator[Result], size: int) -> Iterator[list[Result]]:
    while batch := list(islice(items, size)):
        yield batch


def block(name: str, content: Any) -> str:
    """An element that holds data as JSON, all ASCII; a lone surrogate in a path stays one, as `\\udcff`."""
    text = json.dumps(content, separators=(",", ":"), allow_nan=False).translate(_ESCAPES)
    return f'<script type="application/json" id="{name}">{text}</script>\n'


def _as_json(item: Result) -> dict[str, Any]:
    if isinstance(item, SkippedImage):
        return {"path": item.path, "error": item.reason}
    return {
        "path": item.path,
        "rejected": item.rejected,
        "margin": None if item.margin is None else _rounded(item.margin),
        "predictions": [_triple(each) for each in item.predictions],
        "others": [_triple(each) for each in item.others],
    }


def _triple(each: LabelScore) -> list[Any]:
    return [each.label, _rounded(each.score), _rounded(each.probability)]


def _rounded(value: float) -> float | None:
    return float(f"{value:.6g}") if math.isfinite(value) else None


def data_url(picture: bytes) -> str | None:
    """The address of a picture that lies in the page itself; None for what browsers do not show."""
    kind = _media_type(picture)
    return kind and f"data:{kind};base64,{base64.b64encode(picture).decode()}"


def _media_type(picture: bytes) -> str | None:
    """The type that the first bytes of a picture tell, or None for what browsers do not show."""
    if picture[:4] == b"RIFF" and picture[8:12] == b"WEBP":
        return "image/webp"
    starts = {b"\xff\xd8\xff": "image/jpeg", b"\x89PNG\r\n\x1a\n": "image/png"}
    return next((kind for start, kind in starts.items() if picture.startswith(start)), None)
