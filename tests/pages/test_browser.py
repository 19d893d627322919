"""The HTML report in headless Chromium: what is seen, filtered and reached by keyboard, and that nothing is loaded."""

import http.server
import io
import random
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from PIL import Image

from zeroshot_cli.pages.classification import write_html
from zeroshot_cli.records import LabelScore, Prediction, Result, SkippedImage

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Locator, Page

pytestmark = pytest.mark.slow

MARKUP = "<img src=x onerror=alert(1)>.png"
ABOUT = (("Model", "tiny"), ("<i>Prompts</i>", "a photo of a {}.\nart of <b>{}</b>."))


def image(path: str, label: str, probability: float, score: float = 0.2, **more: Any) -> Prediction:
    others = (LabelScore("ant", score - 0.05, 1 - probability),)
    return Prediction(path, (LabelScore(label, score, probability),), more.pop("margin", 0.05), others=others, **more)


RESULTS = (
    image("in/sure.jpg", "<b>cat</b>", 0.9, 0.31),
    image("in/doubtful.jpg", "<b>cat</b>", 0.4, 0.21),
    SkippedImage("in/broken.jpg", "the file is <truncated>"),
    image(f"in/{MARKUP}", "<b>cat</b>", 0.6, 0.25),
    image("in/tie.jpg", "dog", 0.5, 0.22, margin=0.02),
    image("in/closer tie.jpg", "dog", 0.5, 0.22, margin=0.01),
    Prediction("in/two.jpg", (LabelScore("dog", 0.3, 0.8), LabelScore("wet", 0.28, 0.7)), 0.02),
    image("in/caf\udce9\n\u202egpj.exe", "dog", 0.95, 0.29),
    image("in/odd.jpg", "dog", 0.3, 0.12, rejected=True),
)


class Reader:
    """Opens reports, and holds all that pages did which they should not: errors, requests, dialogs."""

    def __init__(self, browser: "Browser", folder: Path) -> None:
        self.browser = browser
        self.path = folder / "report.html"
        self.faults: list[str] = []

    def open(self, results: Sequence[Result] = RESULTS, **context: Any) -> "Page":
        if not self.path.exists():
            write_html(self.path, lambda: iter(results), about=ABOUT, thumbnails=thumbnails)
        page = self.browser.new_page(**{"viewport": {"width": 1200, "height": 900}, **context})
        page.set_default_timeout(10_000)
        page.on("console", lambda message: self._said(message.text))
        page.on("pageerror", lambda error: self.faults.append(f"error: {error}"))
        page.on("dialog", lambda dialog: (self.faults.append(f"dialog: {dialog.message}"), dialog.dismiss()))
        page.on("request", lambda request: self._requested(request.url))
        page.goto(self.path.as_uri(), wait_until="commit")
        return page

    def _said(self, text: str) -> None:
        if not text.startswith("Autofocus processing was blocked"):  # who types before a page is whole keeps the focus
            self.faults.append(f"console: {text}")

    def _requested(self, url: str) -> None:
        if url != self.path.as_uri() and not url.startswith("data:"):
            self.faults.append(f"request: {url}")


@pytest.fixture
def reader(browser: "Browser", tmp_path: Path) -> Iterator[Reader]:
    reader = Reader(browser, tmp_path)
    yield reader
    for context in browser.contexts:
        context.close()
    assert reader.faults == []


def thumbnails(paths: Iterable[str]) -> Iterator[bytes | None]:
    """An encoded image of 5 to 6 kB for each but one, as for photographs."""
    stream = io.BytesIO()
    Image.frombytes("RGB", (60, 60), random.Random(0).randbytes(60 * 60 * 3)).save(stream, "JPEG", quality=90)
    for path in paths:
        yield None if path == "in/tie.jpg" else stream.getvalue()


def section(page: "Page", name: str) -> "Locator":
    return page.locator("#sections > section").filter(has=page.get_by_role("heading", name=name, exact=True))


def named(place: "Locator", expected: list[str]) -> None:
    """Wait until these are the file names under the images, in this order."""
    from playwright.sync_api import expect

    expect(place.locator(".card .caption > :first-child")).to_have_text(expected)


def numbered(place: "Locator", count: int) -> None:
    """Wait until there are so many of these."""
    from playwright.sync_api import expect

    expect(place).to_have_count(count)


def counted(page: "Page", text: str) -> None:
    """Wait until the number of images on the page is announced as this."""
    from playwright.sync_api import expect

    expect(page.get_by_role("status")).to_have_text(text)


def test_images_stand_under_their_labels_the_most_doubtful_first(reader: Reader) -> None:
    page = reader.open()
    counted(page, "9 images")
    assert page.get_by_role("heading", level=2).all_text_contents() == [
        *("Labels", "<b>cat</b>", "dog", "unknown", "unreadable")
    ]
    named(section(page, "<b>cat</b>"), ["doubtful.jpg", MARKUP, "sure.jpg"])
    dogs = section(page, "dog")
    named(dogs, ["closer tie.jpg", "tie.jpg", "two.jpg", "caf\\xe9\\n\\u202egpj.exe"])
    assert dogs.locator(".caption .number").all_text_contents() == ["0.500", "0.500", "0.800", "0.950"]
    assert dogs.locator(".title .number").text_content() == "4"


def test_the_unknown_and_the_unreadable(reader: Reader) -> None:
    page = reader.open()
    unknown = section(page, "unknown")
    named(unknown, ["odd.jpg"])
    assert unknown.locator(".card").get_by_text("nearest: dog").is_visible()
    unreadable = section(page, "unreadable")
    assert unreadable.locator("li span").all_text_contents() == ["in/broken.jpg", "the file is <truncated>"]


def test_thumbnails_are_shown(reader: Reader) -> None:
    page = reader.open()
    cards = section(page, "dog").locator(".card")
    numbered(page.locator(".card img"), 7)
    widths = page.locator(".card img").evaluate_all(
        "all => Promise.all(all.map(i => i.decode().then(() => i.naturalWidth)))"
    )
    assert widths == [60] * 7
    assert cards.nth(1).locator(".frame").text_content() == "no preview"


def test_the_page_answers_while_thumbnails_are_still_read(reader: Reader) -> None:
    """A server sends half of the file, in the middle of a thumbnail, and the rest once a filter has answered."""
    write_html(reader.path, lambda: iter(RESULTS), about=ABOUT, thumbnails=thumbnails)
    content = reader.path.read_bytes()
    half = content.index(b'id="thumbnail-4"') + 1000
    answered = threading.Event()

    class Slow(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content[:half])
            answered.wait(30)
            self.wfile.write(content[half:])

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Slow) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        page = reader.browser.new_page()
        page.goto(f"http://127.0.0.1:{server.server_port}/", wait_until="commit")
        page.get_by_label("Search paths").fill("doubtful")
        counted(page, "1 of 9 images")
        page.locator(".card img").wait_for()
        page.get_by_label("Search paths").fill("")
        counted(page, "9 images")
        page.get_by_role("button", name="closer tie.jpg").wait_for()
        assert page.locator(".card img").count() == 3  # of the first four; one has none
        answered.set()
        page.get_by_role("button", name="odd.jpg").locator("img").wait_for()
        assert page.locator(".card img").count() == 7
        server.shutdown()


def test_names_stay_text(reader: Reader) -> None:
    page = reader.open()
    page.get_by_role("button", name=MARKUP).click()
    dialog = page.get_by_role("dialog")
    assert dialog.get_by_role("heading").text_content() == "<b>cat</b>"
    assert dialog.get_by_text(f"in/{MARKUP}").is_visible()
    assert page.locator("#about-run dt").all_text_contents() == ["Model", "<i>Prompts</i>"]
    assert page.locator("b, i, img[src=x]").count() == 0


def test_metadata_is_on_the_page(reader: Reader) -> None:
    page = reader.open()
    page.get_by_text("About this run").click()
    about = page.locator("#about-run div")
    assert about.first.inner_text() == "Model\ntiny"
    assert about.nth(1).locator("dd").text_content() == "a photo of a {}.\nart of <b>{}</b>."


def test_filter_by_label(reader: Reader) -> None:
    page = reader.open()
    labels = page.get_by_role("navigation").get_by_role("button")
    assert labels.all_text_contents() == ["All9", "unknown1", "unreadable1", "<b>cat</b>3", "dog4"]
    for label, count in (("dog", 4), ("unknown", 1), ("unreadable", 1)):
        page.get_by_role("navigation").get_by_role("button", name=label).click()
        counted(page, f"{count} of 9 images")
        assert page.locator("#sections h2").all_text_contents() == [label]
    page.get_by_role("button", name="Clear filters").click()
    counted(page, "9 images")


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"Lowest probability": "0.6"}, [MARKUP, "sure.jpg", "two.jpg", "caf\\xe9\\n\\u202egpj.exe"]),
        ({"Highest probability": "0.4"}, ["doubtful.jpg", "odd.jpg"]),
        ({"Lowest score": "0.22", "Highest score": "0.25"}, [MARKUP, "closer tie.jpg", "tie.jpg"]),
        ({"Lowest score": "0.3", "Highest probability": "0.8"}, ["two.jpg"]),
        ({"Lowest score": "0.9"}, []),
    ],
)
def test_filter_by_range(reader: Reader, fields: dict[str, str], expected: list[str]) -> None:
    page = reader.open()
    for label, value in fields.items():
        page.get_by_label(label).fill(value)
    counted(page, f"{len(expected)} of 9 images")
    named(page.locator("#sections"), expected)
    assert page.locator("[data-kind=unreadable]").count() == 0
    assert page.get_by_text("No image matches these filters.").is_visible() == (not expected)


@pytest.mark.parametrize(
    ("text", "expected"),
    [("TIE", 2), ("<img", 1), ("\\xe9", 1), ("broken", 1), ("in/", 9), ("cat", 0), (".*", 0)],
)
def test_filter_by_text_in_the_path(reader: Reader, text: str, expected: int) -> None:
    page = reader.open()
    page.get_by_label("Search paths").fill(text)
    counted(page, f"{expected} of 9 images")
    numbered(page.locator(".card, .failures li"), expected)


def test_filters_work_together(reader: Reader) -> None:
    page = reader.open()
    page.get_by_role("navigation").get_by_role("button", name="dog").click()
    page.get_by_label("Search paths").fill("tie")
    page.get_by_label("Lowest probability").fill("0.5")
    counted(page, "2 of 9 images")
    named(page.locator("#sections"), ["closer tie.jpg", "tie.jpg"])
    assert page.get_by_role("navigation").get_by_role("button").all_text_contents()[-2:] == ["<b>cat</b>0", "dog2"]


def test_dialog_shows_all_that_is_known(reader: Reader) -> None:
    page = reader.open()
    page.get_by_role("button", name="two.jpg").click()
    dialog = page.get_by_role("dialog")
    assert dialog.locator("tbody tr").all_inner_texts() == ["dog\n\t0.8000\t0.3000", "wet\n\t0.7000\t0.2800"]
    shares = dialog.locator("tbody .bar").evaluate_all("all => all.map(bar => bar.style.getPropertyValue('--share'))")
    assert shares == ["0.8", "0.7"]
    assert dialog.locator("#viewer-margin").text_content() == "0.0200"
    assert dialog.locator("#viewer-path").text_content() == "in/two.jpg"
    assert dialog.get_by_role("img").get_attribute("alt") == "in/two.jpg"


def test_dialog_of_an_unknown_image_names_the_nearest_label(reader: Reader) -> None:
    page = reader.open()
    page.get_by_role("button", name="odd.jpg").click()
    dialog = page.get_by_role("dialog")
    assert dialog.get_by_role("heading").text_content() == "unknown"
    assert dialog.get_by_text("Matches none of the labels; nearest: dog").is_visible()
    assert dialog.locator("tbody .name").all_text_contents() == ["dog", "ant"]


def test_one_label_has_no_margin(reader: Reader) -> None:
    page = reader.open([Prediction("a.png", (LabelScore("cat", 0.2, 1.0),))])
    page.get_by_role("button", name="a.png").click()
    assert page.locator("#viewer-margin").text_content() == "none: there is only one label"


def test_everything_by_keyboard(reader: Reader) -> None:
    page = reader.open()
    counted(page, "9 images")
    page.keyboard.press("/")
    page.keyboard.type("tie")
    counted(page, "2 of 9 images")
    assert focused(page) == "search"
    page.keyboard.press("Escape")
    counted(page, "9 images")
    numbered(page.locator(".card"), 8)
    until_focused(page, "doubtful.jpg")
    assert page.locator(".card:focus").evaluate("card => getComputedStyle(card).outlineStyle") == "solid"
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    path = page.locator("#viewer-path")
    assert path.text_content() == f"in/{MARKUP}"
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("ArrowLeft")  # the first stays
    assert (path.text_content(), page.locator("#viewer-place").text_content()) == ("in/doubtful.jpg", "1 of 8")
    for _ in range(3):
        page.keyboard.press("ArrowRight")
    assert (path.text_content(), page.get_by_role("dialog").get_by_role("heading").text_content()) == (
        "in/closer tie.jpg",
        "dog",
    )
    page.keyboard.press("Escape")
    assert page.get_by_role("dialog").count() == 0
    page.locator(".card:focus", has_text="closer tie.jpg").wait_for()


def focused(page: "Page") -> str:
    return str(page.evaluate("document.activeElement.id || document.activeElement.innerText"))


def until_focused(page: "Page", text: str) -> None:
    """Press Tab until the element with this id or text has the focus."""
    for _ in range(30):
        if text in focused(page):
            return
        page.keyboard.press("Tab")
    raise AssertionError(f"Tab does not reach {text}")


def test_arrows_move_among_the_images(reader: Reader) -> None:
    page = reader.open()
    page.locator(".card").first.focus()
    walk = {"End": "sure", "ArrowDown": "two.jpg", "Home": "closer tie", "ArrowLeft": "sure", "ArrowUp": "sure"}
    for key, name in walk.items():
        page.keyboard.press(key)
        assert name in focused(page)


def test_labels_by_keyboard(reader: Reader) -> None:
    page = reader.open()
    page.get_by_label("Search labels").fill("do")
    labels = page.get_by_role("navigation").get_by_role("button")
    assert labels.all_text_contents() == ["All9", "unknown1", "unreadable1", "dog4"]
    for key in ("ArrowDown", "End", "Enter"):
        page.keyboard.press(key)
    counted(page, "4 of 9 images")
    assert labels.last.get_attribute("aria-pressed") == "true"
    for key in ("Home", "Enter"):
        page.keyboard.press(key)
    counted(page, "9 images")


def test_on_a_phone(reader: Reader) -> None:
    page = reader.open(viewport={"width": 375, "height": 700})
    counted(page, "9 images")
    page.get_by_role("button", name="Filters").click()
    page.get_by_role("navigation").get_by_role("button", name="dog").click()
    counted(page, "4 of 9 images")
    assert page.evaluate("document.documentElement.scrollWidth") <= 375
    page.get_by_role("button", name="two.jpg").click()
    assert page.get_by_role("dialog").get_by_role("button", name="Close").is_visible()


def test_empty_runs(reader: Reader) -> None:
    page = reader.open([])
    counted(page, "0 images")
    assert page.get_by_text("This run has no images.").is_visible()


def test_all_unreadable(reader: Reader) -> None:
    page = reader.open([SkippedImage(f"{number}.png", "the file is empty") for number in range(450)])
    counted(page, "450 images")
    assert page.locator(".failures li").count() == 200
    page.get_by_role("button", name="Show 200 more of 250").click()
    page.get_by_role("button", name="Show 50 more of 50").click()
    assert page.locator(".failures li .path").all_text_contents() == [f"{number}.png" for number in range(450)]


def test_long_names_do_not_widen_the_page(reader: Reader) -> None:
    long = "x" * 3000
    page = reader.open([image(f"{long}/{long}.png", long, 0.5), SkippedImage(long, long)])
    counted(page, "2 images")
    page.locator(".card").click()
    assert page.evaluate("document.documentElement.scrollWidth") <= 1200
    assert page.get_by_role("dialog").evaluate("dialog => dialog.scrollWidth <= dialog.clientWidth")


def test_more_of_a_section(reader: Reader) -> None:
    items = [image(f"{number:03}.png", "cat", number / 1000) for number in range(300)]
    page = reader.open([*items, image("dog.png", "dog", 0.5)])
    cats = section(page, "cat")
    cats.locator(".card").first.wait_for()
    shown = cats.locator(".card").count()
    assert 0 < shown < 60
    cats.get_by_role("button", name=f"Show {300 - shown} more of cat").click()
    assert focused(page) == f"{shown:03}.png\n{shown / 1000:.3f}"
    page.keyboard.press("End")
    assert focused(page) == "299.png\n0.299"
    page.wait_for_timeout(300)
    assert cats.locator(".card").count() < 300  # those far away are not drawn
    page.get_by_role("button", name="Show fewer").click()
    numbered(cats.locator(".card"), shown)
    assert focused(page) == "000.png\n0.000"


@pytest.mark.parametrize("labels", [20, 1000])
def test_ten_thousand_images(reader: Reader, labels: int) -> None:
    """Pictures are there within a few seconds, on a busy machine too, and filters answer at once."""
    rng = random.Random(0)
    items = [image(f"in/{number:05}.jpg", f"label {number % labels}", rng.random()) for number in range(10_000)]
    write_html(reader.path, lambda: iter(items), about=ABOUT, thumbnails=thumbnails)
    assert reader.path.stat().st_size > 50_000_000
    start = time.monotonic()
    page = reader.open()
    page.locator(".card img").first.wait_for()
    counted(page, "10,000 images")
    assert time.monotonic() - start < 5
    start = time.monotonic()
    page.get_by_label("Search paths").fill("in/0012")
    counted(page, "10 of 10,000 images")
    page.get_by_role("button", name="00125.jpg").wait_for()
    assert time.monotonic() - start < 3
    page.get_by_role("button", name="Clear filters").click()
    page.get_by_role("navigation").get_by_role("button", name="label 19", exact=False).first.click()
    counted(page, f"{10_000 // labels} of 10,000 images")
    assert page.locator("#sections h2").all_text_contents() == ["label 19"]
    lowest = min(item.probability for item in items if item.label == "label 19")
    assert page.locator(".card .number").first.text_content() == f"{lowest:.3f}"
