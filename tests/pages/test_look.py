"""What all pages share: colours and their button, the place of "About this run", links to originals, widths."""

import io
import os
import re
from collections.abc import Callable, Iterable, Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote_to_bytes, urljoin, urlsplit

import numpy as np
import pytest
import yaml
from PIL import Image

from zeroshot_cli import pages
from zeroshot_cli.evaluation.answers import Answers
from zeroshot_cli.evaluation.metrics import figures
from zeroshot_cli.pages.answered import OF_A_CELL, AnsweredImages
from zeroshot_cli.pages.classification import write_html
from zeroshot_cli.pages.evaluation import write_eval_html
from zeroshot_cli.pages.shared import asset, link_to
from zeroshot_cli.pages.training import write_training_report
from zeroshot_cli.records import EvalResult, LabelScore, Prediction

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

KINDS = ("classification", "evaluation", "training")
ODD = "a#b?c %41 'ü' \udce9.png"


def answers_of(folder: Path, *, images: int = 42) -> Answers:
    """Two classes: the first always right; the second taken for the first once, in its last image."""
    targets = np.repeat([0, 1], images)
    right = np.arange(2 * images) < 2 * images - 1
    first = np.where(right, targets, 0)
    sure = np.linspace(0.6, 0.9, 2 * images)
    paths = tuple(str(folder / f"{place}.png") for place in range(2 * images - 1))
    return Answers(
        labels=("a class whose name has several words", "<b>bird</b>"),
        items=(*paths, str(folder / ODD)),
        item_targets=targets,
        targets=targets,
        ranks=np.where(right, 0, 1),
        best=np.stack([first, 1 - first], axis=1),
        scores=np.stack([sure, 1 - sure], axis=1).astype(np.float32),
        probabilities=np.stack([sure, 1 - sure], axis=1),
        true_scores=np.zeros(2 * images, dtype=np.float32),
        log_likelihoods=np.log(np.where(right, sure, 1 - sure)),
    )


def thumbnails(paths: Iterable[str]) -> Iterator[bytes | None]:
    stream = io.BytesIO()
    Image.new("RGB", (60, 40), "teal").save(stream, "PNG")
    return (stream.getvalue() for _ in paths)


def classification(folder: Path) -> Path:
    names = ["in/one.png", f"in/{ODD}", str(folder / "in/one.png")]
    results = [Prediction(name, (LabelScore("cat", 0.3, 0.9),), 0.1) for name in names]
    write_html(folder / "c.html", lambda: iter(results), about=[("Model", "tiny")], thumbnails=thumbnails)
    return folder / "c.html"


def evaluation(folder: Path) -> Path:
    answers = answers_of(folder / "in")
    found = figures(answers)
    result = EvalResult(
        dataset="a/long/path/of/some/data/set/" + "x" * 60,
        n=84,
        model="tiny",
        pretrained=None,
        prompts="photo",
        metrics=found.metrics,
        intervals=found.intervals,
        per_class=found.per_class,
        confused=found.confused,
        command="zeroshot eval birds",
    )
    write_eval_html([(result, answers)], [], folder / "e.html", thumbnails=thumbnails)
    return folder / "e.html"


def training(folder: Path) -> Path:
    run = folder / ("run " + "x" * 90)
    run.mkdir()
    (run / "config.yaml").write_text(yaml.safe_dump({"model": "tiny", "lr": 1e-5}))
    accuracies = (0.68, 0.66, 0.6)
    rows = (
        f'{{"step": {step}, "lr": 1e-5, "loss": 0.123456789, "val_loss": 2.{step}, "zero_shot_top1": {accuracy}}}\n'
        for step, accuracy in enumerate(accuracies)
    )
    (run / "metrics.jsonl").write_text("".join(rows))
    return write_training_report(run)


MAKERS: dict[str, Callable[[Path], Path]] = dict(zip(KINDS, (classification, evaluation, training), strict=True))


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to work in, with images that the pages lead to."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "in").mkdir()
    for name in ("one.png", ODD):
        Image.new("RGB", (300, 200), "teal").save(tmp_path / "in" / name)
    return tmp_path


class Outline(HTMLParser):
    """The elements of a page in order, with their attributes."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def where(self, tag: str, **attributes: str) -> list[int]:
        return [
            number
            for number, (name, has) in enumerate(self.elements)
            if name == tag and attributes.items() <= {key: value or "" for key, value in has.items()}.items()
        ]


@pytest.mark.parametrize("kind", KINDS)
def test_every_page_has_the_button_and_about_closed_and_last(place: Path, kind: str) -> None:
    outline = Outline(MAKERS[kind](place).read_text(encoding="utf-8"))
    assert len(outline.where("button", id="theme", type="button")) == 1
    assert len(outline.where("h1")) == 1
    (about,) = outline.where("details")
    assert "open" not in outline.elements[about][1]
    images = [*outline.where("div", id="sections"), *outline.where("ul"), *outline.where("figure")]
    inside_main = [
        number for number in images if outline.where("main")[0] < number < (outline.where("dialog") or [9**9])[0]
    ]
    assert inside_main
    assert max(inside_main) < about


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_is_loaded_and_every_script_is_known(place: Path, kind: str) -> None:
    page = MAKERS[kind](place).read_text(encoding="utf-8")
    outline = Outline(page)
    (policy,) = [has["content"] for tag, has in outline.elements if has.get("http-equiv") == "Content-Security-Policy"]
    assert policy is not None
    assert policy.startswith("default-src 'none'; img-src data:; style-src ")
    scripts = [has for tag, has in outline.elements if tag == "script" and has.get("type") != "application/json"]
    assert policy.count("'sha256-") - (kind != "training") == len(scripts)
    assert not any("src" in has for has in scripts)
    assert not outline.where("link", rel="stylesheet")
    assert not re.search(r"@import|innerHTML|fetch\(|eval\(", page)
    for tag, has in outline.elements:
        if tag == "a" and has.get("href", "#").startswith("#") is False:  # type: ignore[union-attr]
            assert (has["target"], has["rel"]) == ("_blank", "noopener")


# Colours


def luminance(colour: str) -> float:
    """WCAG 2.2, relative luminance."""
    channels = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    red, green, blue = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def test_the_formula_gives_known_contrasts() -> None:
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#767676", "#ffffff") == pytest.approx(4.54, abs=0.005)  # the lightest grey that passes on white


@pytest.mark.parametrize("scheme", [0, 1], ids=["light", "dark"])
@pytest.mark.parametrize(
    ("names", "grounds", "least"),
    [
        ("text muted accent wrong", "page surface well tint", 4.5),
        ("right second", "page surface", 4.5),
        ("field", "page surface", 3),
        ("first second third", "surface", 3),
    ],
)
def test_colours_have_the_contrast_of_wcag_aa(scheme: int, names: str, grounds: str, least: float) -> None:
    pairs = re.findall(r"--(\w+): light-dark\((#\w{6}), (#\w{6})\);", asset("theme.css"))
    colours = {name: both[scheme] for name, *both in pairs}
    found = {
        (name, ground): contrast(colours[name], colours[ground]) for name in names.split() for ground in grounds.split()
    }
    assert {pair: round(value, 2) for pair, value in found.items() if value < least} == {}


def test_colours_are_in_one_file() -> None:
    styles = Path(str(pages.__file__)).with_name("assets").glob("*.css")
    assert [each.name for each in styles if re.search(r"#[0-9a-f]{3,6}\b", each.read_text())] == ["theme.css"]


# Originals


@pytest.mark.parametrize(
    "name",
    ["in/a.png", ODD, "javascript:alert(1)", "//host/share.png", "../up/a.png", "a\nb.png", 'x" onerror="y', "data:,x"],
)
def test_an_address_leads_to_the_file_and_nowhere_else(place: Path, name: str) -> None:
    page = place / "reports" / "r.html"
    found = urlsplit(urljoin(page.as_uri(), link_to(name, page)))
    assert (found.scheme, found.netloc, found.query, found.fragment) == ("file", "", "", "")
    assert os.fsdecode(unquote_to_bytes(found.path)) == os.path.abspath(name).replace("//", "/")  # noqa: PTH100


def test_relative_paths_have_addresses_that_move_with_the_page(place: Path) -> None:
    assert link_to("in/a b.png", place / "r.html") == "in/a%20b.png"
    assert link_to("in/a.png", Path("out/r.html")) == "../in/a.png"
    assert link_to(str(place / "in/a.png"), place / "r.html") == (place / "in/a.png").as_uri()


def test_a_frame_leads_to_its_file(place: Path) -> None:
    page = place / "r.html"
    assert link_to("in/scan.tiff#3", page) == "in/scan.tiff"
    (place / "in/scan.tiff#3").touch()
    assert link_to("in/scan.tiff#3", page) == "in/scan.tiff%233"
    assert link_to("in/#x", page) == "in/%23x"


def test_cells_hold_their_images_and_few_thumbnails(place: Path) -> None:
    asked: list[str] = []

    def noted(paths: Iterable[str]) -> Iterator[bytes | None]:
        asked.extend(paths)
        return thumbnails(asked)

    images = AnsweredImages(answers_of(place / "in"), place / "r.html", noted, 600)
    right = images.of_cell(0, 0)
    assert [path for path, *_ in right] == [
        str(place / "in" / f"{number}.png") for number in range(42)
    ]  # doubtful first
    assert right[0][2] == 0.6
    assert [image is not None for *_, image in right] == [True] * OF_A_CELL + [False] * (42 - OF_A_CELL)
    assert images.of_cell(1, 0) == [(str(place / "in" / ODD), link_to(str(place / "in" / ODD), place), 0.9, 0)]
    assert images.of_cell(0, 1) == []
    assert len(asked) == len(set(asked)) == 1 + 2 * OF_A_CELL


@pytest.mark.parametrize(("most", "others"), [(0, 0), (3, 3), (600, 24)])
def test_the_number_of_thumbnails_is_limited(place: Path, most: int, others: int) -> None:
    asked: list[str] = []
    AnsweredImages(
        answers_of(place / "in"), place / "r.html", lambda paths: (asked.extend(paths), thumbnails(paths))[1], most
    )
    assert len(asked) == 1 + others


# In a browser

Visit = Callable[..., "Page"]


@pytest.fixture
def visit(browser: "Browser", place: Path) -> Iterator[Visit]:
    """Opens pages, with clipboard and memory in common, and holds all that they did which they should not."""
    context, faults = browser.new_context(), list[str]()
    context.grant_permissions(["clipboard-read", "clipboard-write"])

    def open_page(kind: str, *, width: int = 1200, scheme: Any = "light") -> "Page":
        page = context.new_page()
        page.set_viewport_size({"width": width, "height": 800})
        page.set_default_timeout(10_000)
        page.emulate_media(color_scheme=scheme)
        page.on("console", lambda message: faults.append(message.text))
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on("dialog", lambda dialog: (faults.append(dialog.message), dialog.dismiss()))
        page.goto(MAKERS[kind](place).as_uri())
        return page

    yield open_page
    context.close()
    assert faults == []


def ground(page: "Page") -> str:
    return str(page.evaluate("getComputedStyle(document.body).backgroundColor"))


LIGHT, DARK = "rgb(245, 246, 248)", "rgb(15, 18, 22)"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("scheme", "seen"),
    [
        ("light", [("Auto", LIGHT), ("Dark", DARK), ("Light", LIGHT), ("Auto", LIGHT)]),
        ("dark", [("Auto", DARK), ("Light", LIGHT), ("Dark", DARK), ("Auto", DARK)]),
    ],
)
def test_the_first_press_changes_the_colours_and_the_third_gives_them_back(
    visit: Visit, scheme: str, seen: list[tuple[str, str]]
) -> None:
    page = visit("training", scheme=scheme)
    for name, colour in seen:
        button = page.get_by_role("button", name=f"Theme: {name}")
        assert ground(page) == colour
        button.press("Enter")


@pytest.mark.slow
def test_the_choice_is_kept_on_every_page(visit: Visit) -> None:
    first = visit("classification")
    first.get_by_role("button", name="Theme: Auto").click()
    others = [visit(kind) for kind in KINDS]
    assert {ground(page) for page in others} == {DARK}
    others[-1].get_by_role("button", name="Theme: Dark").click()
    first.get_by_role("button", name="Theme: Light").wait_for()  # a page that is open follows
    others[1].reload()
    assert {ground(page) for page in (first, *others)} == {LIGHT}


@pytest.mark.slow
def test_the_matrix_is_drawn_anew_in_other_colours(visit: Visit) -> None:
    page = visit("evaluation")
    drawn = "document.querySelector('canvas').toDataURL()"
    before = page.evaluate(drawn)
    page.get_by_role("button", name="Theme: Auto").click()
    assert page.evaluate(drawn) != before


CLIPPED = """() => [...document.querySelectorAll(
    "h1, .top .button, .classes :is(.number, .name), .figures, .figures :is(th, td), .caption .number, .panel, figure"
)].filter((each) => each.checkVisibility() && each.clientWidth && each.scrollWidth > each.clientWidth)
.map((each) => `${each.className || each.tagName}: ${each.textContent.slice(0, 40)}`)"""
OUTSIDE = """() => [...document.querySelectorAll("body *:not(.unseen, .skip, svg *)")].filter((each) => {
    const { left, right } = each.getBoundingClientRect();
    return each.checkVisibility() && (right > innerWidth + 0.5 || left < -0.5);
}).map((each) => each.outerHTML.slice(0, 80))"""


@pytest.mark.slow
@pytest.mark.parametrize("width", [320, 390, 768, 1280, 1920])
@pytest.mark.parametrize("kind", KINDS)
def test_nothing_is_clipped_or_wider_than_the_window(visit: Visit, kind: str, width: int) -> None:
    page = visit(kind, width=width)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.evaluate(CLIPPED) == []
    assert page.evaluate(OUTSIDE) == []
    if kind == "evaluation":
        assert "100.0 % of 42" in page.locator(".classes .number").all_text_contents()


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_no_strip_is_beside_the_header(visit: Visit, kind: str) -> None:
    page = visit(kind, width=1920)
    header, content = (page.locator(each).bounding_box() for each in (".top", "main"))
    assert header is not None
    assert content is not None
    assert (header["x"], header["width"]) == (0, 1920)
    assert content["x"] + content["width"] == 1920


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_about_is_closed_and_below_the_images(visit: Visit, kind: str) -> None:
    page = visit(kind)
    about = page.locator("details.about")
    assert not about.locator("dl").first.is_visible()
    last = page.locator(".card, section .images li, .charts figure").last
    box, image = about.bounding_box(), last.bounding_box()
    assert box is not None
    assert image is not None
    assert box["y"] >= image["y"] + image["height"]
    about.locator("summary").press("Enter")
    assert about.locator("dl").first.is_visible()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["in/one.png", f"in/{ODD}"])
def test_the_dialog_opens_the_original_and_copies_its_path(visit: Visit, place: Path, name: str) -> None:
    page = visit("classification")
    page.locator(".card").nth(["in/one.png", f"in/{ODD}"].index(name)).press("Enter")
    dialog = page.get_by_role("dialog")
    assert dialog.locator("#viewer-path").inner_text() == name.replace("\udce9", "\\xe9")
    dialog.get_by_role("button", name="Copy the path").press("Enter")
    copied = str(place / name)
    if "\udce9" in name:  # a clipboard holds Unicode, and no URL of such a name can be read
        copied = name.replace("\udce9", "\ufffd")
    page.get_by_text("Copied ").wait_for()
    assert page.evaluate("navigator.clipboard.readText()") == copied
    with page.context.expect_page() as opened:
        dialog.get_by_role("link", name="Open the original").press("Enter")
    assert opened.value.locator("img").evaluate("each => each.decode().then(() => each.naturalWidth)") == 300
    assert os.fsdecode(unquote_to_bytes(urlsplit(opened.value.url).path)) == str(place / name)


@pytest.mark.slow
def test_a_cell_opens_its_images_by_mouse_and_by_keyboard(visit: Visit, place: Path) -> None:
    page = visit("evaluation")
    canvas, dialog = page.locator("canvas"), page.get_by_role("dialog")
    side = canvas.bounding_box()["width"]  # type: ignore[index]
    canvas.click(position={"x": side * (0.26 + 0.74 / 4), "y": side * (0.26 + 0.74 * 3 / 4)})  # names take a part
    assert dialog.get_by_role("heading").inner_text() == "<b>bird</b> taken for a class whose name has several words"
    assert dialog.get_by_text("1 of 42 images").is_visible()
    assert dialog.locator("li img").count() == 1  # that of the card under the worst mistakes
    link = dialog.get_by_role("link", name=f"in/{ODD}".replace("\udce9", "\\xe9"))
    assert link.get_attribute("href") == link_to(str(place / "in" / ODD), place / "e.html")
    assert page.evaluate("document.activeElement.id") == "cell-close"
    page.keyboard.press("Escape")
    assert page.evaluate("document.activeElement.tagName") == "CANVAS"
    for key in ("ArrowDown", "ArrowUp", "Enter"):  # the first shows where the keyboard is
        page.keyboard.press(key)
    assert dialog.get_by_text("42 of 42 images").is_visible()
    assert (dialog.locator("li").count(), dialog.locator("li img").count()) == (42, OF_A_CELL)
    dialog.get_by_role("button", name="Copy the path of in/0.png", exact=True).click()
    page.get_by_text("Copied ").wait_for()
    assert page.evaluate("navigator.clipboard.readText()") == str(place / "in/0.png")
    page.keyboard.press("Escape")
    page.get_by_role("button", name="<b>bird</b> taken for a class whose name has several words: 1 of 42").click()
    assert dialog.get_by_text("1 of 42 images").is_visible()


@pytest.mark.slow
def test_dragging_and_empty_cells_open_nothing(visit: Visit) -> None:
    page = visit("evaluation")
    box = page.locator("canvas").bounding_box()
    assert box is not None
    x, y = (box[corner] + box["width"] * (0.26 + 0.74 / 4) for corner in ("x", "y"))
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x + 40, y)
    page.mouse.up()
    page.mouse.click(x + box["width"] * 0.37, y)
    assert page.locator(".tip").inner_text() == "a class whose name has several words taken for <b>bird</b>: 0 of 42"
    assert page.get_by_role("dialog").count() == 0
