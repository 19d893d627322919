"""The HTML report as a file: what its blocks hold, that no name gets out of them, and what a failed run leaves."""

import base64
import hashlib
import json
import os
import re
import resource
from collections.abc import Callable, Iterable, Iterator
from html.parser import HTMLParser
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
from memory import peak_memory

from zeroshot_cli.errors import UsageError
from zeroshot_cli.pages.classification import write_html
from zeroshot_cli.records import LabelScore, Prediction, Result, SkippedImage

WEBP = b"RIFF\x10\0\0\0WEBPVP8 not really"
JPEG = b"\xff\xd8\xff\xe0 not really"
PNG = b"\x89PNG\r\n\x1a\n not really"
DOG = Prediction(
    "in/b.png", (LabelScore("dog", 0.123456789, 0.75),), 0.0123456789, others=(LabelScore("cat", 0.1, 1e-9),)
)
ONLY = Prediction("c.png", (LabelScore("cat", 1.0, 1.0),))
NEITHER = Prediction("d.png", (LabelScore("dog", 0.2, 0.3), LabelScore("cat", 0.1, 0.2)), 0.1, rejected=True)
BAD = SkippedImage("bad.png", "the file is truncated")
ODD = "</script><!--<script>&\u2028\u2029\udcff\n'\""


class Page(HTMLParser):
    """The elements of a report: blocks by their id, the content of style and script, the attributes of all."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.blocks: dict[str, Any] = {}
        self.content: dict[str, list[str]] = {}
        self.attributes: list[tuple[str, str, str]] = []
        self._open: tuple[str, str | None] | None = None
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        if tag in ("script", "style"):
            self._open = (tag, dict(attrs).get("id"))
            self.content.setdefault(tag, [])

    def handle_data(self, data: str) -> None:
        if self._open and self._open[1]:
            self.blocks[self._open[1]] = json.loads(data)
        elif self._open:
            self.content[self._open[0]].append(data)

    def handle_endtag(self, tag: str) -> None:
        self._open = None

    def results(self) -> list[dict[str, Any]]:
        return [item for name, block in self.blocks.items() if name.startswith("results-") for item in block]


def none(paths: Iterable[str]) -> Iterator[bytes | None]:
    return (None for _ in paths)


def report(
    path: Path, *items: Result, about: tuple[tuple[str, str], ...] = (), thumbnails: Callable[..., Any] = none
) -> Page:
    write_html(path, lambda: iter(items), about=about, thumbnails=thumbnails)
    return Page(path.read_text(encoding="utf-8"))


def test_blocks_hold_the_results(tmp_path: Path) -> None:
    page = report(tmp_path / "r.html", DOG, BAD, ONLY, NEITHER, about=(("Model", "tiny"), ("Labels", "2")))
    up = f"{os.path.relpath(Path.cwd(), tmp_path)}/"
    assert page.results() == [
        {
            "path": "in/b.png",
            "address": f"{up}in/b.png",
            "rejected": False,
            "margin": 0.0123457,
            "predictions": [["dog", 0.123457, 0.75]],
            "others": [["cat", 0.1, 1e-09]],
        },
        {"path": "bad.png", "error": "the file is truncated"},
        {
            "path": "c.png",
            "address": f"{up}c.png",
            "rejected": False,
            "margin": None,
            "predictions": [["cat", 1.0, 1.0]],
            "others": [],
        },
        {
            "path": "d.png",
            "address": f"{up}d.png",
            "rejected": True,
            "margin": 0.1,
            "predictions": [["dog", 0.2, 0.3], ["cat", 0.1, 0.2]],
            "others": [],
        },
    ]
    assert page.blocks["about"] == [["Model", "tiny"], ["Labels", "2"]]


def test_the_groups_of_a_label_stand_beside_it_but_for_a_group_s_own_name(tmp_path: Path) -> None:
    groups = ("pet",), ("living thing", "pet"), ("pet", "cat"), ()
    answers = [Prediction(f"{n}.png", (LabelScore("pet", 0.5, 1.0, each),)) for n, each in enumerate(groups)]
    labels = [item["predictions"][0] for item in report(tmp_path / "r.html", *answers).results()]
    assert [label[3:] for label in labels] == [[], ["living thing/pet"], ["pet/cat"], []]


def test_blocks_of_two_hundred(tmp_path: Path) -> None:
    items = [Prediction(f"{number}.png", (LabelScore("cat", 0.1, 0.5),)) for number in range(401)]
    page = report(tmp_path / "r.html", *items)
    assert [len(page.blocks[f"results-{number}"]) for number in range(3)] == [200, 200, 1]
    assert [item["path"] for item in page.results()] == [f"{number}.png" for number in range(401)]


def test_a_thumbnail_a_classified_image(tmp_path: Path) -> None:
    asked: list[str] = []

    def thumbnails(paths: Iterable[str]) -> Iterator[bytes | None]:
        for path, image in zip(paths, (WEBP, JPEG, PNG, None, b"GIF89a?"), strict=True):
            asked.append(path)
            yield image

    page = report(tmp_path / "r.html", DOG, BAD, ONLY, NEITHER, DOG, ONLY, thumbnails=thumbnails)
    assert asked == ["in/b.png", "c.png", "d.png", "in/b.png", "c.png"]
    assert [page.blocks[f"thumbnail-{number}"] for number in range(5)] == [
        "data:image/webp;base64," + base64.b64encode(WEBP).decode(),
        "data:image/jpeg;base64," + base64.b64encode(JPEG).decode(),
        "data:image/png;base64," + base64.b64encode(PNG).decode(),
        None,
        None,
    ]
    assert "thumbnail-5" not in page.blocks


def test_no_results(tmp_path: Path) -> None:
    page = report(tmp_path / "r.html")
    assert list(page.blocks) == ["about"]


def test_names_stay_in_their_blocks(tmp_path: Path) -> None:
    odd = Prediction(ODD, (LabelScore(ODD, 0.1, 0.5),), None, others=(LabelScore(ODD, 0.1, 0.5),))
    about = ((ODD, ODD), ("{{script}}", "{{thumbnails}} {{results}}"))
    page = report(tmp_path / "r.html", odd, SkippedImage(ODD, ODD), about=about)
    first, second = page.results()
    assert (first["path"], first["predictions"][0][0], first["others"][0][0]) == (ODD, ODD, ODD)
    assert second == {"path": ODD, "error": ODD}
    assert page.blocks["about"] == [list(row) for row in about]
    text = (tmp_path / "r.html").read_text(encoding="utf-8")
    blocks = re.findall(r'<script type="application/json"[^>]*>(.*)</script>\n', text)
    assert len(blocks) == 3
    assert not any(char in block for block in blocks for char in "<>&\u2028\u2029\udcff")


def test_not_a_number_is_null(tmp_path: Path) -> None:
    page = report(tmp_path / "r.html", Prediction("a", (LabelScore("cat", float("nan"), float("inf")),), float("nan")))
    assert (page.results()[0]["predictions"], page.results()[0]["margin"]) == ([["cat", None, None]], None)


def test_the_policy_allows_this_style_and_script_only(tmp_path: Path) -> None:
    page = report(tmp_path / "r.html", DOG)
    policy = next(value for tag, name, value in page.attributes if tag == "meta" and "default-src" in value)
    for tag, texts in page.content.items():
        digests = [f"'{sha256(text)}'" for text in texts]
        assert f"{tag}-src {' '.join(digests)};" in policy
    assert policy.startswith("default-src 'none'; img-src data:; ")


def sha256(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def test_nothing_external(tmp_path: Path) -> None:
    page = report(tmp_path / "r.html", DOG)
    links = {value for _, name, value in page.attributes if name in ("src", "href", "srcset", "action", "style")}
    assert links == {"data:,", "#main"}
    for text in chain.from_iterable(page.content.values()):
        assert not re.search(r"https?:|url\(|@import|fetch\(|innerHTML|console\.|eval\(|{{", text)


def test_a_failed_run_leaves_the_old_report(tmp_path: Path) -> None:
    path = tmp_path / "r.html"
    path.write_text("old")

    def interrupted(paths: Iterable[str]) -> Iterator[bytes | None]:
        yield WEBP
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        report(path, DOG, ONLY, thumbnails=interrupted)
    assert [(each.name, each.read_text()) for each in tmp_path.iterdir()] == [("r.html", "old")]


def test_a_full_disk_is_one_sentence(tmp_path: Path) -> None:
    path = tmp_path / "r.html"
    path.write_text("old")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, limits[1]))
    try:
        with pytest.raises(UsageError, match=r"^cannot write .*r\.html: File too large; what was written is valid"):
            report(path, DOG)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert [(each.name, each.read_text()) for each in tmp_path.iterdir()] == [("r.html", "old")]


def test_a_lost_folder_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"^cannot write .*r\.html: No such file or directory$"):
        report(tmp_path / "lost" / "r.html", DOG)


def test_what_thumbnails_raise_is_no_failed_write(tmp_path: Path) -> None:
    def broken(paths: Iterable[str]) -> Iterator[bytes | None]:
        raise OSError("the journal is gone")

    with pytest.raises(OSError, match="the journal is gone"):
        report(tmp_path / "r.html", DOG, thumbnails=broken)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["x" * 250 + ".html", "\udcff.html", "a\nb.html"])
def test_any_name_of_the_report(tmp_path: Path, name: str) -> None:
    assert report(tmp_path / name, DOG).results()[0]["path"] == "in/b.png"


def test_memory_is_flat(tmp_path: Path) -> None:
    """Twenty times the images, 40 MB of thumbnails: less than 1 MB more at the peak."""
    few = peak_of_report(tmp_path / "few.html", 200)
    assert peak_of_report(tmp_path / "many.html", 4_000) - few < 1_000_000
    assert (tmp_path / "many.html").stat().st_size > 40_000_000


def peak_of_report(path: Path, count: int) -> int:
    def results() -> Iterator[Result]:
        return (Prediction(f"{number}.png", (LabelScore("cat", 0.1, 0.5),)) for number in range(count))

    def thumbnails(paths: Iterable[str]) -> Iterator[bytes]:
        return (WEBP + bytes(10_000) for _ in paths)

    return peak_memory(lambda: write_html(path, results, about=(), thumbnails=thumbnails))
