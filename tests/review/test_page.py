"""The page of `zeroshot review` in headless Chromium, with the server that comes with it: keys, filters, dialogs."""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from reviewed import Answer, Reviewer, draw, log_of, write_results

if TYPE_CHECKING:
    from playwright.sync_api import Page, Route

pytestmark = pytest.mark.slow

SCRIPT = "<img src=x onerror=alert(1)>"
ODD = "in/b/caf\udce9\n\u202egpj.png"
ODD_SHOWN = "caf\\xe9\\n\\u202egpj.png"
COLOURS = ("#d22", "#2d2", "#22d", "#dd2", "#2dd", "#d2d", "#999")


def answers(label: str, *probabilities: float) -> Iterator[Answer]:
    """Images of one label, whose next best labels are `dog`, `owl`, and a label that is a script."""
    others = [name for name in ("cat", "dog", "owl", SCRIPT) if name != label]
    for number, probability in enumerate(probabilities, 1):
        rest = [(name, (1 - probability) / 2 ** (place + 1)) for place, name in enumerate(others)]
        yield f"in/{'a' if label == 'cat' else 'b'}/{label}{number}.png", [(label, probability), *rest]


RUN: tuple[Answer, ...] = (
    *answers("cat", 0.9, 0.31, 0.5, 0.6, 0.7, 0.8, 0.85, 0.88, 0.89),  # nine: more than a row of seven
    *answers("dog", 0.4, 0.996, 0.35),
    *answers("owl", 0.45),
    (ODD, [(SCRIPT, 0.55), ("cat", 0.45)]),
)
IN_ORDER = [
    *("<img src=x onerror=alert(1)>", "cat", "dog", "owl"),  # as Intl.Collator sorts
]
CATS = ["cat2.png", "cat3.png", "cat4.png", "cat5.png", "cat6.png", "cat7.png", "cat8.png", "cat9.png", "cat1.png"]


@pytest.fixture
def results(tmp_path: Path) -> Path:
    for number, (path, _) in enumerate(RUN):
        draw(tmp_path / path, COLOURS[number % len(COLOURS)])
    return write_results(tmp_path / "results.csv", RUN)


@pytest.fixture
def page(reviewer: Reviewer, results: Path) -> "Page":
    page = reviewer.open(reviewer.serve(results))
    go_to(page, "cat2.png")
    return page


def go_to(page: "Page", name: str) -> None:
    page.locator(f'.card[title$="/{name}"]').click()


def active(page: "Page") -> str:
    """The file of the image that keys decide about; the grid names it to screen readers, too."""
    card = page.locator(".card.active")
    assert page.locator("#grid").get_attribute("aria-activedescendant") == card.get_attribute("id")
    return str(card.get_attribute("title")).rsplit("/")[-1]


def selected(page: "Page") -> list[str]:
    chosen = page.locator('.card[aria-selected="true"]')
    return [title.rsplit("/")[-1] for title in chosen.evaluate_all("all => all.map(card => card.title)")]


def said(page: "Page", text: str) -> None:
    """Wait until this was announced."""
    from playwright.sync_api import expect

    expect(page.locator("#status")).to_have_text(text)
    assert page.locator("#status").get_attribute("role") == "status"


def alerted(page: "Page", text: str) -> None:
    """Wait until this is in the alert."""
    from playwright.sync_api import expect

    expect(page.get_by_role("alert")).to_contain_text(text)


def numbered(page: "Page", selector: str, count: int) -> None:
    from playwright.sync_api import expect

    expect(page.locator(selector)).to_have_count(count)


def until(page: "Page", condition: str) -> None:
    """Wait until a condition holds; `wait_for_function` needs eval, which the page's policy forbids."""
    for _ in range(150):
        if page.evaluate(condition):
            return
        page.wait_for_timeout(100)
    raise AssertionError(condition)


def names(page: "Page") -> list[str]:
    return page.locator(".card").evaluate_all("all => all.map(card => card.title.split('/').at(-1))")


def test_images_stand_under_their_labels_the_most_doubtful_first(page: "Page") -> None:
    assert page.locator(".head b").all_text_contents() == IN_ORDER
    assert page.locator(".head .number").all_text_contents() == ["1 image", "9 images", "3 images", "1 image"]
    assert names(page) == [ODD_SHOWN, *CATS, "dog3.png", "dog1.png", "dog2.png", "owl1.png"]
    shown = page.locator(".card .number").all_text_contents()
    cats = ("31 %", "50 %", "60 %", "70 %", "80 %", "85 %", "88 %", "89 %", "90 %")
    assert shown == ["55 %", *cats, "35 %", "40 %", "> 99 %", "45 %"]
    assert page.locator("#decided").text_content() == "0 of 14 decided"


def test_thumbnails_are_shown(page: "Page") -> None:
    images = "[...document.querySelectorAll('.card img')]"
    until(page, f"{images}.filter(image => image.naturalWidth == 60).length == 14")


def test_decisions_by_keyboard_are_lines_of_the_log(page: "Page", tmp_path: Path) -> None:
    for key, name in {"r": "cat3.png", "2": "cat4.png", "u": "cat5.png", "x": "cat6.png", " ": "cat7.png"}.items():
        page.keyboard.press(key)
        assert active(page) == name
    said(page, "Saved: cat6.png right.")
    assert log_of(tmp_path) == [
        ("in/a/cat2.png", "cat", "cat", "right"),
        ("in/a/cat3.png", "dog", "cat", "label"),
        ("in/a/cat4.png", "unknown", "cat", "unknown"),
        ("in/a/cat5.png", "unknown", "cat", "unwanted"),
        ("in/a/cat6.png", "cat", "cat", "right"),
    ]
    assert page.locator(".card .badge").all_text_contents()[1:6] == ["✓", "→", "?", "✕", "✓"]
    until(page, "document.getElementById('decided').textContent == '5 of 14 decided'")
    assert page.locator("#train").text_content() == "Train from 3 corrections"


def test_decisions_are_there_when_the_page_is_left_and_opened_again(page: "Page") -> None:
    page.keyboard.press("2")
    said(page, "Saved: cat2.png corrected to dog.")
    page.reload()
    page.locator(".card.decided").wait_for()
    group = page.locator(".row").nth(3)  # below the heads and rows of the script, of cats in two rows
    assert page.locator(".head .number").all_text_contents() == ["1 image", "8 images", "4 images", "1 image"]
    assert group.locator(".card").last.locator(".file").text_content() == "was cat"  # the decided stand last
    assert active(page) == ODD_SHOWN


def test_undo_takes_back_the_last_decision_and_goes_there(page: "Page", tmp_path: Path) -> None:
    page.keyboard.press("u")
    page.keyboard.press("2")
    said(page, "Saved: cat3.png corrected to dog.")
    page.keyboard.press("z")
    said(page, "Undone: cat3.png is undecided again.")
    assert active(page) == "cat3.png"
    page.keyboard.press("Control+z")
    said(page, "Undone: cat2.png is undecided again.")
    page.keyboard.press("z")
    said(page, "There is nothing to undo.")
    numbered(page, ".card.decided", 0)
    assert [line[3] for line in log_of(tmp_path)] == ["unknown", "label", "undo", "undo"]


def test_undo_of_a_second_decision_shows_the_first(page: "Page") -> None:
    page.keyboard.press("u")
    go_to(page, "cat2.png")
    page.keyboard.press("2")
    said(page, "Saved: cat2.png corrected to dog.")
    page.keyboard.press("z")
    said(page, "Undone: cat2.png is unknown again.")


def test_arrows_move_by_the_geometry_of_the_grid(page: "Page") -> None:
    """Seven in a row: nine cats are 2 3 4 5 6 7 8 / 9 1, then dogs 3 1 2."""
    walk = [
        *(("ArrowRight", "cat3.png"), ("ArrowDown", "cat1.png"), ("ArrowDown", "dog1.png"), ("ArrowUp", "cat1.png")),
        *(("ArrowUp", "cat3.png"), ("End", "owl1.png"), ("ArrowRight", "owl1.png"), ("ArrowUp", "dog3.png")),
        *(("ArrowLeft", "cat1.png"), ("PageUp", ODD_SHOWN), ("End", "owl1.png")),
        *(("Home", ODD_SHOWN), ("ArrowUp", ODD_SHOWN), ("n", "cat2.png")),
    ]
    for key, name in walk:
        page.keyboard.press(key)
        assert (key, active(page)) == (key, name)


def test_a_decision_applies_to_all_that_are_selected(page: "Page", tmp_path: Path) -> None:
    page.keyboard.press("Shift+ArrowRight")
    page.keyboard.press("Shift+ArrowRight")
    assert selected(page) == CATS[:3]
    assert page.locator("#current b").text_content() == "3 selected"
    page.keyboard.press("2")
    said(page, "Saved: 3 images corrected to dog.")
    assert (active(page), selected(page)) == ("cat5.png", [])
    assert {line[1:] for line in log_of(tmp_path)} == {("dog", "cat", "label")}
    page.keyboard.press("z")
    said(page, "Undone: 3 images.")
    numbered(page, ".card.decided", 0)


def test_many_are_selected_by_mouse_and_by_key(page: "Page") -> None:
    card = {name: page.locator(f'.card[title$="/{name}"]') for name in (*CATS, "dog1.png")}
    card["cat5.png"].click(modifiers=["Shift"])
    assert selected(page) == CATS[:4]
    card["dog1.png"].click(modifiers=["Control"])
    card["cat3.png"].click(modifiers=["Control"])
    assert selected(page) == ["cat2.png", "cat4.png", "cat5.png", "dog1.png"]
    page.keyboard.press("Escape")
    assert selected(page) == []
    card["cat3.png"].click()
    page.keyboard.press("Control+ArrowRight")
    page.keyboard.press("Control+Space")
    assert selected(page) == ["cat4.png"]
    page.keyboard.press("Escape")
    page.keyboard.press("a")
    assert selected(page) == CATS
    page.keyboard.press("Control+a")
    assert len(selected(page)) == 14
    page.get_by_role("button", name="Select many").click()
    page.keyboard.press("Escape")
    card["cat2.png"].click()
    assert len(selected(page)) == 2  # the active one is the first of many


def test_another_label_with_type_ahead(page: "Page", tmp_path: Path) -> None:
    page.keyboard.press("l")
    field, options = page.get_by_role("combobox", name="Label", exact=True).last, page.locator("#choices li")
    assert options.all_text_contents() == [*sorted({"cat", "dog", "owl", SCRIPT})]
    page.keyboard.type("O")  # begins owl, is in dog and in the script
    assert options.all_text_contents() == ["owl", SCRIPT, "dog", "New label “O”"]
    assert field.get_attribute("aria-activedescendant") == "choice-0"
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowDown")
    assert page.locator("#choices [aria-selected=true]").text_content() == "dog"
    page.keyboard.press("Enter")
    said(page, "Saved: cat2.png corrected to dog.")
    page.keyboard.press("/")
    page.keyboard.press("Escape")
    assert log_of(tmp_path) == [("in/a/cat2.png", "dog", "cat", "label")]
    assert active(page) == "cat3.png"


def test_a_new_label_is_asked_about_once(page: "Page", tmp_path: Path) -> None:
    page.keyboard.press("l")
    page.keyboard.type("lynx")
    page.keyboard.press("Enter")
    assert page.locator("#picker-hint").text_content() == "“lynx” is not among the labels. Apply once more to add it."
    page.keyboard.press("Enter")
    said(page, "Saved: cat2.png corrected to lynx.")
    page.keyboard.press("l")
    page.keyboard.type("ly")
    page.keyboard.press("Enter")
    said(page, "Saved: cat3.png corrected to lynx.")
    assert [line[1] for line in log_of(tmp_path)] == ["lynx", "lynx"]


def test_text_that_no_label_begins_with_is_a_new_label_first(page: "Page") -> None:
    page.keyboard.press("l")
    page.keyboard.type("og")  # in dog
    assert page.locator("#choices li").all_text_contents() == ["New label “og”", "dog"]
    assert page.locator("#choices [aria-selected=true]").text_content() == "New label “og”"


def test_what_the_server_refuses_is_shown_and_rolled_back(page: "Page", reviewer: Reviewer, tmp_path: Path) -> None:
    page.keyboard.press("l")
    page.keyboard.type("unknown")
    page.keyboard.press("Enter")
    page.keyboard.press("Enter")
    alerted(page, "1 decision was not saved. 'unknown' is reserved")
    numbered(page, ".card.decided, .card.pending", 0)
    assert log_of(tmp_path) == []
    assert reviewer.faults.pop().startswith("console: Failed to load resource")
    page.get_by_role("alert").get_by_role("button").click()
    assert page.get_by_role("alert").text_content() == ""


def test_nothing_is_shown_as_saved_before_the_server_says_so(page: "Page") -> None:
    held: list[Route] = []
    page.route("**/api/decisions", lambda route: held.append(route))
    page.keyboard.press("2")
    numbered(page, ".card.pending", 1)
    card = page.locator(".card.pending")
    assert card.locator(".badge").text_content() == "…"
    label = card.get_attribute("aria-label")
    assert label == "in/a/cat2.png, label cat, 31 %, corrected to dog, not saved yet"
    assert (page.locator("#status").text_content(), page.locator(".card.decided").count()) == ("", 0)
    held[0].continue_()
    numbered(page, ".card.decided", 1)
    numbered(page, ".card.pending", 0)


def test_an_ended_server_is_said_with_how_to_start_it_again(page: "Page", reviewer: Reviewer, tmp_path: Path) -> None:
    page.keyboard.press("r")
    said(page, "Saved: cat2.png right.")
    reviewer.kill()
    page.keyboard.press("u")
    alerted(page, "The server of this page has ended.")  # whether the page or the decision has noticed it
    assert page.locator("#alert code").text_content() == f"zeroshot review {tmp_path / 'results.csv'}"
    numbered(page, ".card.decided", 1)
    numbered(page, ".card.pending", 0)
    page.keyboard.press("x")
    alerted(page, "Nothing was saved.")
    assert log_of(tmp_path) == [("in/a/cat2.png", "cat", "cat", "right")]
    page.close()  # or it asks once more
    assert all("ERR_CONNECTION" in fault or "ERR_EMPTY" in fault for fault in reviewer.faults)
    reviewer.faults.clear()


@pytest.mark.parametrize(
    ("field", "value", "expected"),
    [
        ("#by-label", "dog (3)", ["dog3.png", "dog1.png", "dog2.png"]),
        ("#by-folder", "in/b (5)", [ODD_SHOWN, "dog3.png", "dog1.png", "dog2.png", "owl1.png"]),
        ("#from", "88", ["cat8.png", "cat9.png", "cat1.png", "dog2.png"]),
        ("#to", "35", ["cat2.png", "dog3.png"]),
        ("#by-state", "decided", ["cat2.png"]),
        ("#by-state", "undecided", [ODD_SHOWN, *CATS[1:], "dog3.png", "dog1.png", "dog2.png", "owl1.png"]),
    ],
)  # fmt: skip
def test_filters(page: "Page", field: str, value: str, expected: list[str]) -> None:
    page.keyboard.press("r")
    said(page, "Saved: cat2.png right.")
    choose(page, field, value)
    assert names(page) == expected
    assert page.locator("#count").text_content() == f"{len(expected)} of 14 images"
    page.get_by_role("button", name="Clear").click()
    assert page.locator("#count").text_content() == "14 images"


def choose(page: "Page", field: str, value: str) -> None:
    if field in ("#from", "#to"):
        page.locator(field).fill(value)
    else:
        page.locator(field).select_option(value)


def test_filters_work_together_and_may_leave_nothing(page: "Page") -> None:
    choose(page, "#by-label", "cat (9)")
    choose(page, "#from", "90")
    assert names(page) == ["cat1.png"]
    choose(page, "#by-folder", "in/b (5)")
    assert page.get_by_text("No image matches these filters.").is_visible()
    page.keyboard.press("Escape")
    page.locator("#grid").focus()
    page.keyboard.press("r")  # decides about nothing
    page.keyboard.press("Enter")
    assert page.get_by_role("dialog").count() == 0


def test_the_original_opens_at_full_size_and_is_decided_about_there(page: "Page", tmp_path: Path) -> None:
    page.keyboard.press("Enter")
    dialog = page.get_by_role("dialog")
    assert dialog.locator("#viewer-title").text_content() == "cat 31 %"
    assert dialog.locator("#viewer-path").text_content() == "in/a/cat2.png"
    image = dialog.get_by_role("img")
    assert (image.get_attribute("alt"), image.evaluate("i => i.decode().then(() => i.naturalWidth)")) == (
        *("in/a/cat2.png", 60),
    )
    for key, name in {"ArrowRight": "cat3.png", "2": "cat4.png", "r": "cat5.png", "ArrowLeft": "cat4.png"}.items():
        page.keyboard.press(key)
        until(page, f"document.getElementById('viewer-path').textContent == 'in/a/{name}'")
    assert dialog.locator("#viewer-title").text_content() == "cat 60 %, right"
    page.keyboard.press("s")
    assert dialog.get_by_role("button", name="Actual size").get_attribute("aria-pressed") == "true"
    for _ in range(20):
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement == document.body || !!document.activeElement.closest('#viewer')")
    page.keyboard.press("Escape")
    assert page.get_by_role("dialog").count() == 0
    assert page.evaluate("document.activeElement.id") == "grid"
    numbered(page, ".card.decided", 2)
    assert [line[3] for line in log_of(tmp_path)] == ["label", "right"]
    page.locator('.card[title$="dog1.png"]').dblclick()
    assert dialog.locator("#viewer-title").text_content() == "dog 40 %"


def test_a_path_is_copied_as_a_shell_takes_it(page: "Page") -> None:
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    for key, expected in {"Enter": "in/a/cat2.png", "Home": "$'in/b/caf\\xe9\\n\\u202egpj.png'"}.items():
        page.keyboard.press(key)
        page.get_by_role("button", name="Copy path").click()
        until(page, f"navigator.clipboard.readText().then(text => text == {json.dumps(expected)})")
    said(page, "Copied the path.")


@pytest.mark.parametrize("name", ["plain/r-1.csv", "my photos/r.csv", "cat's $HOME `r`.csv", "line\nbreak \\ 'r'.csv"])
def test_a_name_in_a_command_is_what_a_shell_reads(page: "Page", name: str) -> None:
    quoted = page.evaluate("async (name) => (await import('./static/text.js')).quoted(name)", name)
    done = subprocess.run(["bash", "-c", f"printf %s {quoted}"], capture_output=True, check=True)
    assert done.stdout.decode() == name


def test_the_folder_of_an_image_opens(reviewer: Reviewer, results: Path, tmp_path: Path) -> None:
    program = tmp_path / "bin" / "xdg-open"
    program.parent.mkdir()
    program.write_text(
        f'#!/bin/sh\nprintf %s "$1" > "{tmp_path}/opened.new" && mv "{tmp_path}/opened.new" "{tmp_path}/opened"\n'
    )
    program.chmod(0o755)
    page = reviewer.open(reviewer.serve(results, PATH=f"{program.parent}:/usr/bin:/bin"))
    go_to(page, "cat2.png")
    page.keyboard.press("Enter")
    page.get_by_role("button", name="Open folder").click()
    said(page, "Opened the folder.")
    for _ in range(50):
        if (tmp_path / "opened").exists():
            break
        page.wait_for_timeout(100)
    assert (tmp_path / "opened").read_text() == str(tmp_path / "in" / "a")


def test_what_screen_readers_say(page: "Page") -> None:
    page.keyboard.press("2")
    said(page, "Saved: cat2.png corrected to dog.")
    grid = page.get_by_role("grid", name="Images")
    assert {name: grid.get_attribute(f"aria-{name}") for name in ("multiselectable", "rowcount", "colcount")} == {
        **{"multiselectable": "true", "rowcount": "9", "colcount": "7"},  # four heads, and cats have two rows
    }
    cell = grid.get_by_role("gridcell", name="in/a/cat2.png, label cat, 31 %, corrected to dog", exact=True)
    assert (cell.get_attribute("aria-selected"), cell.get_attribute("aria-colindex")) == ("false", "1")
    assert grid.get_by_role("row").count() == 9
    assert grid.get_by_role("rowheader").count() == 4
    assert [row.get_attribute("aria-rowindex") for row in grid.get_by_role("row").all()] == [*"123456789"]
    focus = "getComputedStyle(document.querySelector('.card.active .frame')).outlineStyle"
    assert page.evaluate(focus) == "solid"
    page.keyboard.press("?")
    assert page.get_by_role("dialog", name="Keys").is_visible()


def test_a_label_that_is_a_script_is_text(page: "Page") -> None:
    page.keyboard.press("Home")
    page.keyboard.press("r")
    said(page, "Saved: caf\\xe9\\n\\u202egpj.png right.")
    page.keyboard.press("Home")
    page.keyboard.press("Enter")
    assert page.locator("#viewer-title").text_content() == f"{SCRIPT} 55 %, right"
    assert page.locator("img[src=x]").count() == 0


def test_why_it_cannot_train_is_said(page: "Page") -> None:
    button = page.get_by_role("button", name="Train from 0 corrections")
    assert button.get_attribute("aria-disabled") == "true"
    button.click(force=True)
    assert "FILE.run.json, is not beside the results" in str(page.locator("#training-said").text_content())


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_light_and_dark(reviewer: Reviewer, results: Path, scheme: str) -> None:
    page = reviewer.open(reviewer.serve(results), color_scheme=scheme, reduced_motion="reduce")
    colours = {"light": "rgb(245, 246, 248)", "dark": "rgb(15, 18, 22)"}
    background = "getComputedStyle(document.body).backgroundColor"
    assert page.evaluate(background) == colours[scheme]
    page.locator("#theme").click()
    assert page.evaluate(background) == colours["dark" if scheme == "light" else "light"]
    page.locator("#theme").click()
    assert page.evaluate(background) == colours[scheme]


def test_on_a_phone(reviewer: Reviewer, results: Path, tmp_path: Path) -> None:
    page = reviewer.open(reviewer.serve(results), viewport={"width": 390, "height": 800}, has_touch=True)
    width = "Math.max(document.documentElement.scrollWidth, document.body.scrollWidth, grid.scrollWidth)"
    assert page.evaluate(width) == 390
    buttons = [page.get_by_role("button", name=name).bounding_box() for name in ("Train from", "Filters", "Auto")]
    assert len({box["y"] for box in buttons if box}) == 1  # the header has one row of buttons
    assert page.locator(".row").nth(1).locator(".card").count() == 3
    page.get_by_role("button", name="Filters").tap()
    page.get_by_role("button", name="Select many").tap()
    assert page.evaluate(width) == 390
    page.get_by_role("button", name="Filters").tap()
    for name in ("cat2", "cat3"):
        page.locator(f'.card[title$="{name}.png"]').tap()
    page.get_by_role("button", name="Not wanted").tap()
    said(page, "Saved: 3 images not wanted.")  # with the one that was active before
    page.get_by_role("button", name="Open").tap()
    assert page.evaluate(width) == 390
    page.get_by_role("button", name="dog").tap()
    said(page, "Saved: cat4.png corrected to dog.")
    assert page.get_by_role("dialog").get_by_role("button", name="Close").is_visible()
    assert len(log_of(tmp_path)) == 4


def test_5000_images_keep_the_document_small(reviewer: Reviewer, tmp_path: Path) -> None:
    """No time is asserted, as machines differ; `pytest -s` shows the longest frame and task."""
    for number in range(100):
        draw(tmp_path / f"in/{number}.png", COLOURS[number % 7])
    names = [f"in/{number}.png" for number in range(5000)]
    for number, name in enumerate(names[100:], 100):
        (tmp_path / name).hardlink_to(tmp_path / f"in/{number % 100}.png")
    run = [(name, [("even" if n % 2 == 0 else "odd", n / 5000), ("other", 0.0)]) for n, name in enumerate(names)]
    page = reviewer.open(reviewer.serve(write_results(tmp_path / "results.csv", run)))
    page.evaluate(
        """() => {
          window.tasks = []; window.frameTimes = [];
          const keep = list => tasks.push(...list.getEntries().map(each => each.duration));
          new PerformanceObserver(keep).observe({type: "longtask"});
          let last = performance.now();
          const next = now => { frameTimes.push(now - last); last = now; requestAnimationFrame(next); };
          requestAnimationFrame(next);
        }"""
    )
    most = 0
    for action in [lambda: page.mouse.wheel(0, 1500)] * 60 + [lambda: page.keyboard.down("ArrowDown")] * 120:
        page.mouse.move(600, 400)
        action()
        page.wait_for_timeout(16)
        most = max(most, page.evaluate("document.querySelectorAll('*').length"))
    assert most < 1500
    for name, script in {"longest frame": "Math.max(...frameTimes)", "longest task": "Math.max(0, ...tasks)"}.items():
        print(f"{name}: {page.evaluate(script):.0f} ms")
    page.keyboard.up("ArrowDown")
    page.keyboard.press("End")
    assert active(page) == "4999.png"
    until(page, "document.querySelector('.card.active img').naturalWidth == 60")
    page.keyboard.press("a")
    page.keyboard.press("r")
    said(page, "Saved: 2,500 images right.")
    assert len(log_of(tmp_path)) == 2500
