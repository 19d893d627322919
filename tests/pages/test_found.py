"""The page of search and duplicates: its order, its links, and names that must stay text."""

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

import pytest

from zeroshot_cli.pages import found as found_module
from zeroshot_cli.pages.found import FoundImage, FoundPage, write_found_html
from zeroshot_cli.records import SkippedImage

PNG = b"\x89PNG\r\n\x1a\n1"


def thumbnails(paths: Sequence[str]) -> Iterable[bytes | None]:
    return [None if "broken" in path else PNG for path in paths]


def written(tmp_path: Path, *sections: tuple[str, list[FoundImage]], **others: object) -> str:
    values = {"kind": "search", "title": "'a boat'", "about": [("model", "small")], **others}
    write_found_html(FoundPage(sections=sections, **values), tmp_path / "a.html", thumbnails=thumbnails)  # type: ignore[arg-type]
    return (tmp_path / "a.html").read_text(encoding="utf-8")


def test_images_in_their_order_with_links_and_lines(tmp_path: Path) -> None:
    images = [FoundImage(str(tmp_path / f"{name}.jpg"), line) for name, line in (("b c", "1. 0.3"), ("a", "2. 0.2"))]
    text = written(tmp_path, ("", images))
    assert re.findall(r'class="path" href="([^"]+)"', text) == [Path(image.path).as_uri() for image in images]
    assert re.findall(r"<p>(\d\. 0\.\d)</p>", text) == ["1. 0.3", "2. 0.2"]
    assert text.count("data:image/png;base64,") == 2
    assert "<h2>" not in text


def test_groups_have_headings_and_the_one_to_keep_is_marked(tmp_path: Path) -> None:
    text = written(tmp_path, ("1. 2 images", [FoundImage("a.jpg", "keep", True), FoundImage("b.jpg", "identical")]))
    assert "<h2>1. 2 images</h2>" in text
    assert text.count("class=kept") == 1
    assert text.index("class=kept") < text.index("a.jpg") < text.index("b.jpg")


def test_names_stay_text(tmp_path: Path) -> None:
    bad = "<script>alert(1)</script>\"' onerror=x.jpg"
    text = written(
        tmp_path, (bad, [FoundImage(bad, bad)]), title=bad, about=[(bad, bad)], skipped=[SkippedImage(bad, bad)]
    )
    assert "<script>alert" not in text
    assert text.count("<script") == 2  # the theme's and the page's
    assert not re.search(r'<[^>]* onerror=x[^">]*>', re.sub(r'"[^"]*"', '""', text))


def test_nothing_found(tmp_path: Path) -> None:
    assert "Nothing was found." in written(tmp_path, ("", []))


def test_an_image_without_a_thumbnail_and_images_that_could_not_be_read(tmp_path: Path) -> None:
    text = written(tmp_path, ("", [FoundImage("broken.jpg", "1.")]), skipped=[SkippedImage("c.jpg", "too short")])
    assert "no preview" in text
    assert "too short" in text


def test_more_images_than_a_page_holds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(found_module, "MOST", 3)
    groups = [(f"group {number}", [FoundImage(f"{number}{letter}.jpg", "") for letter in "ab"]) for number in range(4)]
    text = written(tmp_path, *groups)
    assert re.findall(r"<h2>([^<]+)</h2>", text) == ["group 0", "group 1"]
    assert text.count("<li>") == 3
    assert "and 5 more images" in text
