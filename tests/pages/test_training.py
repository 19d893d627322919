"""The report of a training run, from folders made by hand; and in headless Chromium."""

import json
import math
import re
import subprocess
import sys
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from datetime import datetime
from html.parser import HTMLParser
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from zeroshot_cli.errors import DataError, UsageError
from zeroshot_cli.pages.charts import Chart, charts_of, curves_of, draw, share_limits, smoothed, thinned
from zeroshot_cli.pages.training import best_row, read_rows, write_training_report

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

NOW = datetime(2026, 3, 4, 5, 6)
MARKUP = "<img src=x onerror=alert(1)>"
SETTINGS = {
    "data": [f"{MARKUP}.csv", "two\nlines.csv", "caf\udce9.csv"],
    "model": "{{style}}",
    "epochs": 3,
    "val": None,
    "verify": True,
    "augment": [],
    "lr": 5e-4,
}


def row(step: int, **more: float | None) -> dict[str, Any]:
    return {
        "step": step,
        "epoch": (step - 1) // 20 + 1,
        "loss": 3.0 - step / 100,
        "lr": 5e-4 - step / 1e6,
        "logit_scale": 14.0 + step / 10,
        "grad_norm": 1.0,
        "images_per_second": 320.0,
        "data_wait": 0.125,
        "skipped": 0,
        **more,
    }


def judged(step: int, val_loss: float, **more: float) -> dict[str, Any]:
    values = (("val_recall@", (0.125, 0.25, 0.5)), ("val_text_recall@", (0.0625, 0.3, 0.6)))
    recalls = {f"{name}{k}": value for name, found in values for k, value in zip((1, 5, 10), found, strict=True)}
    return row(step, val_loss=val_loss, **recalls, val_skipped=1, **more)


ROWS = [
    row(10, loss=None, grad_norm=None),
    judged(20, 2.5, zero_shot_top1=0.25, zero_shot_top5=0.75),
    row(30),
    judged(40, 2.25, zero_shot_top1=0.5, zero_shot_top5=0.875),
    judged(60, 2.375, zero_shot_top1=0.75, zero_shot_top5=0.9375),
    row(70, skipped=2),
]


def make(run: Path, rows: list[dict[str, Any]], *, end: str = "", skipped: str = "") -> Path:
    """A folder as a run leaves it."""
    run.mkdir(parents=True, exist_ok=True)
    (run / "config.yaml").write_text(yaml.safe_dump(SETTINGS, sort_keys=False), encoding="utf-8")
    (run / "metrics.jsonl").write_text("".join(json.dumps(each) + "\n" for each in rows) + end, encoding="utf-8")
    if skipped:
        (run / "skipped.csv").write_text(skipped, encoding="utf-8", errors="surrogateescape")
    return run


class Reading(HTMLParser):
    """The texts of some elements of a page, in order, and all that is not text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.texts: dict[str, list[str]] = {}
        self.tags: set[str] = set()
        self._open: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.tags.add(tag)
        self._open.append(tag)
        self.texts.setdefault(tag, []).append("")

    def handle_endtag(self, tag: str) -> None:
        while self._open and self._open.pop() != tag:
            pass

    def handle_data(self, data: str) -> None:
        if self._open:
            self.texts[self._open[-1]][-1] += data


def read(run: Path) -> Reading:
    path = write_training_report(run, now=NOW)
    assert path == run / "report.html"
    return Reading(path.read_text(encoding="utf-8"))


def figures(page: Reading) -> dict[str, tuple[str, ...]]:
    """The rows of the table of figures by their names."""
    names = [text for text in page.texts["th"] if text]
    heads = 1 + sum(name == "Last" or name.startswith("Best") for name in names)
    columns, cells = heads - 1, page.texts["td"]
    return {name: tuple(cells[i * columns : (i + 1) * columns]) for i, name in enumerate(names[heads:])}


def test_figures_of_the_last_step_and_the_best(tmp_path: Path) -> None:
    page = read(make(tmp_path / "run", ROWS))
    assert page.texts["th"][:3] == ["Figure", "Last", "Best: lowest validation loss"]
    assert list(figures(page).items()) == [
        ("Step", ("70", "40")),
        ("Epoch", ("4", "2")),
        ("Loss", ("2.3", "2.6")),
        ("Validation loss", ("2.375", "2.25")),
        ("Validation recall@1, image to text", ("12.5%", "12.5%")),
        ("Validation recall@5, image to text", ("25.0%", "25.0%")),
        ("Validation recall@10, image to text", ("50.0%", "50.0%")),
        ("Validation recall@1, text to image", ("6.2%", "6.2%")),
        ("Validation recall@5, text to image", ("30.0%", "30.0%")),
        ("Validation recall@10, text to image", ("60.0%", "60.0%")),
        ("Zero-shot accuracy, top 1", ("75.0%", "50.0%")),
        ("Zero-shot accuracy, top 5", ("93.8%", "87.5%")),
        ("Validation images that could not be read", ("1", "1")),
        ("Learning rate", ("4.30e-04", "4.60e-04")),
        ("Logit scale", ("21", "18")),
        ("Norm of the gradient", ("1", "1")),
        ("Images a second", ("320", "320")),
        ("Time without a batch", ("12.5%", "12.5%")),
        ("Images that could not be read", ("2", "0")),
    ]


@pytest.mark.parametrize(
    ("rows", "best"),
    [
        ([], None),
        ([row(10)], None),
        ([judged(10, 2.0), judged(20, 2.0)], 10),
        ([judged(10, math.nan), judged(20, 3.0)], 20),
        ([row(10, zero_shot_top1=0.5), row(20, zero_shot_top1=0.75), row(30, zero_shot_top1=0.75)], 20),
        ([judged(10, 2.0, zero_shot_top1=0.1), judged(20, 3.0, zero_shot_top1=0.9)], 10),
    ],
)
def test_the_best_step(rows: list[dict[str, Any]], best: int | None) -> None:
    found = best_row(rows)
    assert (found and found[1]["step"]) == best


def test_settings_versions_and_the_time(tmp_path: Path) -> None:
    page = read(make(tmp_path / f"my {MARKUP} run".replace("/", ""), ROWS))
    settings = dict(zip(page.texts["dt"], page.texts["dd"], strict=True))
    assert {name: settings[name] for name in SETTINGS} == {
        "data": f"{MARKUP}.csv\ntwo\\nlines.csv\ncaf\\xe9.csv",
        "model": "{{style}}",
        "epochs": "3",
        "val": "not set",
        "verify": "yes",
        "augment": "not set",
        "lr": "0.0005",
    }
    assert {"python", "zeroshot-cli", "torch", "numpy"} < set(settings)
    assert page.texts["title"] == [f"my {MARKUP} run · zeroshot training"]
    assert "2026-03-04 05:06" in page.texts["p"]
    assert "img" not in page.tags
    assert len(page.texts["script"]) == 1  # of the colours


def test_skipped_images_are_named(tmp_path: Path) -> None:
    rows = "".join(f"{number}.png,the file is empty\n" for number in range(300))
    page = read(make(tmp_path, ROWS, skipped=f'path,error\n"a,{MARKUP}\ncaf\udce9.png",<b>bad</b>\n{rows}'))
    spans = page.texts["span"][5:]  # those before are in the header
    assert spans[:4] == [f"a,{MARKUP}\\ncaf\\xe9.png", "<b>bad</b>", "0.png", "the file is empty"]
    assert len(spans) == 2 * 200
    assert "and 101 more; skipped.csv lists them all" in page.texts["p"]
    assert page.tags.isdisjoint({"img", "b"})


def test_a_run_that_skipped_nothing_and_logged_nothing(tmp_path: Path) -> None:
    page = read(make(tmp_path, []))
    assert {"No step is logged yet.", "None so far."} < set(page.texts["p"])
    assert "figure" not in page.tags
    (tmp_path / "metrics.jsonl").unlink()
    assert "No step is logged yet." in read(tmp_path).texts["p"]


def test_charts_for_what_there_are_figures_for(tmp_path: Path) -> None:
    assert read(make(tmp_path, ROWS)).texts["figcaption"] == [
        "Loss",
        "Validation recall, image to text",
        "Validation recall, text to image",
        "Zero-shot accuracy, top 1",
        "Zero-shot accuracy, top 5",
        "Learning rate",
        "Logit scale, 1 ÷ temperature",
        "Norm of the gradient",
        "Images a second",
        "Time without a batch",
    ]
    assert len(read(make(tmp_path, [row(10)])).texts["figcaption"]) == 6
    assert "Loss" not in read(make(tmp_path, [row(10, loss=None)])).texts["figcaption"]


def test_lines_that_are_no_rows_are_passed_over(tmp_path: Path) -> None:
    file = tmp_path / "metrics.jsonl"
    lines = ['{"step": 1, "loss": 2}', "[]", "null", '"step"', '{"loss": 3}', '{"step": "x"}', "\x00", "", "{"]
    good = '{"step": 2, "loss": null, "note": "text", "on": true, "none": NaN}\n{"step": 3, "lo'
    file.write_bytes("\n".join([*lines, good]).encode() + b"\xff")
    first, second = read_rows(file)
    assert first == {"step": 1, "loss": 2}
    assert set(second) == {"step", "loss", "none"}
    assert math.isnan(second["loss"])


def test_no_run(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"holds no run: cannot read .*config.yaml: No such file"):
        write_training_report(tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("text", ["a: [", "- a", "just text", "", "a: !!python/object:os.system x", "\x00"])
def test_settings_that_are_none(tmp_path: Path, text: str) -> None:
    (tmp_path / "config.yaml").write_text(text)
    with pytest.raises(DataError, match=r"config.yaml .*--resume") as raised:
        write_training_report(tmp_path)
    assert "\n" not in str(raised.value)


def test_the_same_run_makes_the_same_bytes_whatever_the_user_has_set(tmp_path: Path) -> None:
    import matplotlib

    before = write_training_report(make(tmp_path, ROWS), now=NOW).read_bytes()
    with matplotlib.rc_context({"lines.linewidth": 9, "svg.fonttype": "path", "font.size": 30}):
        assert write_training_report(tmp_path, now=NOW).read_bytes() == before
        assert matplotlib.rcParams["lines.linewidth"] == 9
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config.yaml", "metrics.jsonl", "report.html"]


def test_a_full_disk_leaves_the_report_that_was_there(
    tmp_path: Path, file_size_limit: Callable[[int], AbstractContextManager[None]]
) -> None:
    before = write_training_report(make(tmp_path, ROWS), now=NOW).read_bytes()
    with file_size_limit(1000), pytest.raises(UsageError, match=r"^cannot write .*report.html: File too large"):
        write_training_report(tmp_path)
    assert (tmp_path / "report.html").read_bytes() == before
    assert len(list(tmp_path.iterdir())) == 3


def test_matplotlib_is_imported_for_drawing_alone() -> None:
    code = "import sys, zeroshot_cli.pages.training; sys.exit('matplotlib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_curves_have_the_points_of_their_keys() -> None:
    chart = Chart("Loss", {"training": "loss", "validation": "val_loss", "none": "nothing"})
    rows = read_as_rows(ROWS)
    curves = curves_of(chart, rows)
    assert list(curves) == ["training", "validation"]
    steps, values = curves["training"]
    assert (steps, values[1:]) == ([10, 20, 30, 40, 60, 70], pytest.approx([2.8, 2.7, 2.6, 2.4, 2.3]))
    assert math.isnan(values[0])
    assert curves["validation"] == ([20, 40, 60], [2.5, 2.25, 2.375])


def read_as_rows(rows: list[dict[str, Any]]) -> list[dict[str, float]]:
    return [{key: math.nan if value is None else value for key, value in each.items()} for each in rows]


def test_long_curves_are_thinned_to_means() -> None:
    points = [(float(step), step * 2.0 if step != 3 else math.nan) for step in range(1, 12)]
    steps, values = thinned(points, most=4)
    assert (steps, values) == ([3, 6, 9, 11], [3.0, 10.0, 16.0, 21.0])
    assert thinned(points[:3], most=4)[0] == [1, 2, 3]
    assert math.isnan(thinned([(1, math.nan), (2, math.inf)], most=1)[1][0])


def test_smoothed_values_are_means_of_what_is_around() -> None:
    values = smoothed([1.0, math.nan, 4.0, 7.0, math.inf])
    assert values == [1.0, 2.5, 5.5, 5.5, 7.0]
    assert smoothed([float(i) for i in range(200)])[100] == 100
    assert smoothed([0.0] * 100 + [1.0] * 100)[99:101] == pytest.approx([5 / 11, 6 / 11])


def test_a_chart_is_text_and_curves_in_the_colours_of_the_page() -> None:
    charts = charts_of(read_as_rows(ROWS))
    root = ET.fromstring(charts["Loss"])
    texts = {"".join(element.itertext()).strip() for element in root.iter("{http://www.w3.org/2000/svg}text")}
    assert {"training", "validation", "step"} < texts
    everything = "".join(charts.values())
    assert {"var(--first)", "var(--second)", "var(--third)", "var(--muted)", "var(--line)"} == set(
        re.findall(r"var\([^)]*\)", everything)
    )
    assert "#0101" not in everything
    assert "<style" not in everything
    ids = re.findall(r'\bid="([^"]*)"', everything)
    assert len(ids) == len(set(ids))
    assert set(re.findall(r'(?:url\(|href=")#([^)"]*)', everything)) <= set(ids)


@pytest.mark.parametrize(
    ("values", "low", "high"),
    [
        ([0.677, 0.648], 0.6125, 0.7125),  # 10 points around the middle
        ([0.2, 0.8, math.nan], 0.17, 0.83),  # a twentieth more at both ends
        ([0.99, 1.0], 0.945, 1.005),
        ([0.0], -0.005, 0.05),
        ([], -0.005, 1.005),
    ],
)
def test_a_small_fall_of_a_share_is_seen(values: list[float], low: float, high: float) -> None:
    assert share_limits(values) == pytest.approx((low, high))


def test_what_the_model_was_before_training_is_a_dashed_line() -> None:
    rows = [{"step": float(step), "zero_shot_top1": 0.5} for step in range(3)]
    chart = Chart("Any", {"": "zero_shot_top1"}, "share")
    assert [draw(chart, curves_of(chart, some)).count("stroke-dasharray") for some in (rows, rows[1:])] == [1, 0]


@pytest.mark.parametrize("count", [1, 2, 31, 5000])
@pytest.mark.parametrize("value", [0.0, 1e-30, 1e30])
def test_charts_of_few_and_many_points_that_are_all_equal(count: int, value: float) -> None:
    chart = Chart("Any", {"": "loss"}, smooth=True)
    rows = [{"step": float(step), "loss": value} for step in range(1, count + 1)]
    svg = draw(chart, curves_of(chart, rows))
    assert 'aria-label="Any by step"' in svg
    assert len(svg) < 200_000


Open = Callable[..., "Page"]


@pytest.fixture
def page(browser: "Browser", tmp_path: Path) -> Iterator[Open]:
    """Opens the report of a long run, and holds all that the page did which it should not."""
    rows = [judged(step, 3 - step / 4000) if step % 100 == 0 else row(step) for step in range(10, 3001, 10)]
    skipped = f'path,error\n"{MARKUP}{"x" * 3000}","<b>bad</b>"\n'
    report = write_training_report(make(tmp_path / f"run {'x' * 200}", rows, skipped=skipped))
    faults: list[str] = []

    def open_page(**context: Any) -> "Page":
        page = browser.new_page(**{"viewport": {"width": 1200, "height": 900}, **context})
        page.on("console", lambda message: faults.append(message.text))
        page.on("dialog", lambda dialog: (faults.append(dialog.message), dialog.dismiss()))
        page.on("request", lambda request: request.url in (report.as_uri(), "data:,") or faults.append(request.url))
        page.goto(report.as_uri())
        return page

    yield open_page
    for context in browser.contexts:
        context.close()
    assert faults == []


@pytest.mark.slow
@pytest.mark.parametrize(
    ("scheme", "text", "curve", "ground"),
    [
        ("light", "rgb(89, 98, 111)", "rgb(47, 91, 208)", "rgb(255, 255, 255)"),
        ("dark", "rgb(154, 165, 180)", "rgb(143, 171, 255)", "rgb(23, 27, 33)"),
    ],
)
def test_charts_in_light_and_dark(page: Open, scheme: str, text: str, curve: str, ground: str) -> None:
    charts = page(color_scheme=scheme).get_by_role("figure")
    assert charts.count() == 8
    first = charts.first
    assert first.evaluate("each => getComputedStyle(each).backgroundColor") == ground
    fills = first.locator("text").evaluate_all("all => [...new Set(all.map(one => getComputedStyle(one).fill))]")
    assert fills == [text]
    strokes = first.locator("path").evaluate_all("all => all.map(one => getComputedStyle(one).stroke)")
    assert curve in strokes
    assert first.get_by_role("img", name="Loss by step").bounding_box()["width"] > 300  # type: ignore[index]
    assert "system-ui" in first.locator("text").first.evaluate("one => getComputedStyle(one).fontFamily")


@pytest.mark.slow
@pytest.mark.parametrize("width", [320, 375, 800, 1200, 2000])
def test_nothing_is_wider_than_the_window(page: Open, width: int) -> None:
    opened = page(viewport={"width": width, "height": 700})
    assert opened.evaluate("document.documentElement.scrollWidth") <= width
    table, frame = (opened.locator(place).bounding_box() for place in (".figures table", ".figures"))
    assert table is not None
    assert frame is not None
    assert table["x"] + table["width"] <= frame["x"] + frame["width"]


@pytest.mark.slow
def test_texts_stay_texts_in_a_browser(page: Open) -> None:
    opened = page()
    opened.get_by_text("About this run").click()
    assert opened.get_by_text(f"{MARKUP}.csv").is_visible()
    assert opened.get_by_text("<b>bad</b>").is_visible()
    assert opened.locator("img, b").count() == 0
