import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from zeroshot_cli.errors import UsageError
from zeroshot_cli.evaluation.answers import Answers
from zeroshot_cli.evaluation.compare import Comparison
from zeroshot_cli.evaluation.metrics import figures
from zeroshot_cli.pages.answered import worst_mistakes
from zeroshot_cli.pages.evaluation import check_html_target, write_eval_html
from zeroshot_cli.records import EvalResult, PublishedFigure, SkippedImage

NASTY = "<img src=x onerror=alert(1)>"
NOW = datetime(2026, 1, 2, 3, 4)
WEBP = b"RIFF\0\0\0\0WEBP"


def answers_of(classes: int, images: int, seed: int = 0) -> Answers:
    """Right in about two thirds of cases; confidences and classes drawn."""
    rng = np.random.default_rng(seed)
    targets = rng.integers(0, classes, images)
    ranks = np.where(rng.random(images) < 0.66, 0, 1)
    given = np.where(ranks == 0, targets, (targets + rng.integers(1, classes, images)) % classes)
    best = np.stack([given, np.where(ranks == 0, (targets + 1) % classes, targets)], axis=1)
    sure = rng.uniform(0.5, 1, images)
    probabilities = np.stack([sure, (1 - sure) * 0.9], axis=1)
    return Answers(
        labels=(NASTY, *(f"class {number}" for number in range(1, classes))),
        items=tuple(f"set/{target}/{place}\udcff.jpg" for place, target in enumerate(targets)),
        item_targets=targets,
        targets=targets,
        ranks=ranks,
        best=best,
        scores=probabilities.astype(np.float32),
        probabilities=probabilities,
        true_scores=np.zeros(images, dtype=np.float32),
        log_likelihoods=np.log(np.where(ranks == 0, probabilities[:, 0], probabilities[:, 1])),
    )


def result_of(answers: Answers, **changes: Any) -> EvalResult:
    found = figures(answers)
    result = EvalResult(
        dataset="some & birds",
        n=len(answers.targets),
        model="tiny",
        pretrained=None,
        prompts="photo",
        metrics=found.metrics,
        intervals=found.intervals,
        per_class=found.per_class,
        confused=found.confused,
        command="zeroshot eval birds --labels '<b>'",
    )
    return replace(result, **changes)


def thumbnails(paths: Sequence[str]) -> Iterator[bytes | None]:
    yield from (None if number % 2 else WEBP for number, _ in enumerate(paths))


def write(
    path: Path, *evaluations: tuple[EvalResult, Answers | None], comparisons: Iterable[tuple[int, int, Comparison]] = ()
) -> str:
    write_eval_html(evaluations, list(comparisons), path, thumbnails=thumbnails, now=NOW)
    return path.read_text(encoding="utf-8")


def data_in(page: str, number: int = 0) -> dict[str, Any]:
    found = re.search(rf'id="evaluation-{number}">(.*?)</script>', page)
    assert found
    data: dict[str, Any] = json.loads(found[1])
    return data


def test_the_matrix_is_that_of_scikit_learn(tmp_path: Path) -> None:
    from sklearn.metrics import confusion_matrix

    answers = answers_of(7, 300)
    data = data_in(write(tmp_path / "r.html", (result_of(answers), answers)))
    matrix = np.zeros((7, 7), dtype=int)
    for row, column, count, images in data["cells"]:
        matrix[row, column] = count
        assert len(images) == count
    np.testing.assert_array_equal(matrix, confusion_matrix(answers.targets, answers.best[:, 0], labels=range(7)))
    assert data["counts"] == np.bincount(answers.targets, minlength=7).tolist()
    assert data["labels"][0] == NASTY


def test_figures_stand_with_their_intervals_and_the_published_one(tmp_path: Path) -> None:
    answers = answers_of(4, 100)
    result = result_of(answers)
    low, high = result.intervals["top1"]
    published = PublishedFigure("top1", 0.99, "a <paper>", result.metrics["top1"] - 0.99, False)
    page = write(tmp_path / "r.html", (replace(result, published=published), answers))
    assert f"<td>{result.metrics['top1']:.2%}</td><td>{low:.2%} to {high:.2%}</td><td>99.00%</td>" in page
    assert "Published top-1: 99.00% (a &lt;paper&gt;), outside our 95 % interval; ours differs by " in page
    assert f"differs by {100 * result.metrics['top1'] - 99:.2f} points." in page
    assert "2026-01-02 03:04" in page


def test_nothing_in_a_name_becomes_markup(tmp_path: Path) -> None:
    answers = answers_of(3, 60)
    page = write(tmp_path / "r.html", (result_of(answers), answers))
    assert "<img src=x" not in page
    assert "<b>" not in page
    assert page.count("<article") == page.count("</article>") == 1
    assert "some &amp; birds" in page
    page.encode("utf-8")  # no lone surrogate is left


def test_mistakes_are_the_most_confident_first(tmp_path: Path) -> None:
    answers = answers_of(5, 400)
    worst = worst_mistakes(answers, 10)
    wrong = sorted((-answers.confidences[place], place) for place in np.flatnonzero(~answers.right))
    assert worst == [place for _, place in wrong[:10]]
    page = write(tmp_path / "r.html", (result_of(answers), answers))
    shown = page[: page.index('id="evaluation-0"')]
    assert shown.count("data:image/webp") == 30  # every other one of sixty has an image
    assert shown.count("no preview") == 30
    assert f"{answers.confidences[worst[0]]:.1%}" in page


def test_all_right_has_no_mistakes(tmp_path: Path) -> None:
    answers = answers_of(3, 30)
    right = replace(
        answers, ranks=np.zeros(30, dtype=np.int64), best=np.stack([answers.targets, (answers.targets + 1) % 3], axis=1)
    )
    assert "There are none." in write(tmp_path / "r.html", (result_of(right), right))


def test_several_are_compared_and_captions_have_a_summary_only(tmp_path: Path) -> None:
    first, second = answers_of(3, 50), answers_of(3, 50, seed=1)
    recalls = {"image_to_text_recall@1": 0.25}
    retrieval = EvalResult("pairs", 9, "tiny", None, None, recalls, {"image_to_text_recall@1": (0.1, 0.5)}, texts=45)
    pair = Comparison(n=50, first_only=4, second_only=9, difference=-0.1, interval=(-0.2, 0.05), p=0.2668)
    page = write(
        tmp_path / "r.html",
        (result_of(first), first),
        (result_of(second), second),
        (replace(retrieval, task="retrieval"), None),
        comparisons=[(0, 1, pair)],
    )
    assert page.count("<article") == 3
    assert page.count("<canvas") == 2
    assert "<td>-10.00</td><td>-20.00 to +5.00</td><td>4</td><td>9</td><td>50</td><td>0.27</td>" in page
    assert "<td>45</td>" in page
    assert data_in(page, 1)["labels"][1] == "class 1"
    labelled, captioned = re.findall(r"<thead>(.*?)</thead>", page)[:2]
    assert "top-1" in labelled
    assert "recall@1" not in labelled
    assert "image to text recall@1" in captioned
    for number in (1, 2, 3):
        assert f'<a href="#number-{number}">' in page
        assert f'<article id="number-{number}"' in page


def test_the_best_of_a_data_set_is_marked(tmp_path: Path) -> None:
    answers = answers_of(3, 50)
    result = result_of(answers)
    better = replace(result, metrics={**result.metrics, "top1": 0.999, "ece": 0.001})
    page = write(tmp_path / "r.html", (result, answers), (better, answers))
    best = re.findall(r'<span class="best">(.*?)</span>', page)
    assert {"99.90%", "0.10%"} <= set(best)  # the lowest calibration error is the best one
    assert f"{result.metrics['top1']:.2%}" not in best


def test_images_that_could_not_be_read_are_named(tmp_path: Path) -> None:
    answers = answers_of(3, 50)
    skipped = tuple(SkippedImage(f"{number}/<i>\udcff.jpg", "the file is empty") for number in range(203))
    page = write(tmp_path / "r.html", (result_of(answers, skipped=skipped), answers))
    assert page.count("the file is empty") == 200
    assert "and 3 more" in page
    assert "0/&lt;i&gt;\\xff.jpg" in page
    assert "could not be read" not in write(tmp_path / "s.html", (result_of(answers), answers))


def test_settings_that_are_not_there_have_no_row(tmp_path: Path) -> None:
    answers = answers_of(3, 50)
    page = write(tmp_path / "r.html", (result_of(answers, pretrained=None, prompts=None), answers))
    assert "<dt>Weights</dt>" not in page
    assert "<dd>None</dd>" not in page
    assert "zeroshot eval birds --labels &#x27;&lt;b&gt;&#x27;" in page


@pytest.mark.parametrize("name", ["r.htm", "r", "there.html", "none/r.html"])
def test_what_cannot_be_the_report_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "there.html").write_text("mine")
    with pytest.raises(UsageError):
        check_html_target(tmp_path / name, overwrite=False)
    assert (tmp_path / "there.html").read_text() == "mine"


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize(("classes", "images"), [(3, 60), (1000, 10_000)])
def test_in_a_browser(tmp_path: Path, scheme: str, classes: int, images: int) -> None:
    from playwright.sync_api import sync_playwright

    answers = answers_of(classes, images)
    write(tmp_path / "r.html", (result_of(answers), answers))
    said: list[str] = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium(), args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 390, "height": 800}, color_scheme=scheme)
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("dialog", lambda dialog: said.append("alert"))
        page.goto((tmp_path / "r.html").as_uri())
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        rows = page.locator(".classes li")
        assert rows.count() == classes
        page.get_by_label("Filter classes").fill("ONERROR")
        assert rows.count() == 1
        assert NASTY in rows.first.inner_text()
        page.get_by_label("Filter classes").fill("")
        page.get_by_label("Order of the list").select_option("index")
        assert NASTY in rows.first.inner_text()
        if classes == 3:
            canvas, cells = page.locator("canvas"), data_in((tmp_path / "r.html").read_text())["cells"]
            count = next(n for row, column, n, _ in cells if (row, column) == (1, 1))
            side = canvas.bounding_box()["width"]
            canvas.hover(position={"x": side * (0.26 + 0.74 / 2), "y": side * (0.26 + 0.74 / 2)})  # names take a part
            assert page.locator(".tip").inner_text() == f"class 1: {count} of {np.sum(answers.targets == 1)} right"
        else:
            before = page.evaluate("document.querySelector('canvas').toDataURL()")
            page.get_by_role("button", name="Zoom in").click()
            assert page.evaluate("document.querySelector('canvas').toDataURL()") != before
        browser.close()
    assert said == []


@pytest.mark.slow
def test_the_matrix_is_ordered_and_lets_the_page_scroll(tmp_path: Path) -> None:
    from playwright.sync_api import sync_playwright

    answers = answers_of(4, 4)
    given = np.array([3, 1, 2, 0])  # 0 and 3 are confused, so they come to stand together
    targets, ranks = np.arange(4), np.array([1, 0, 0, 1])
    best = np.stack([given, (given + 1) % 4], axis=1)
    answers = replace(answers, item_targets=targets, targets=targets, ranks=ranks, best=best)
    write(tmp_path / "r.html", (result_of(answers), answers))
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium(), args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 900, "height": 600})
        page.goto((tmp_path / "r.html").as_uri())
        assert tips(page) == ["class 1 taken for class 2: 0 of 1", f"class 3 taken for {NASTY}: 1 of 1"]
        page.get_by_label("Order of the matrix").select_option("alike")
        assert tips(page) == ["class 3 taken for class 1: 0 of 1", f"class 2 taken for {NASTY}: 0 of 1"]  # 0, 3, 1, 2
        page.locator("canvas").hover()
        before = page.evaluate("scrollY")
        page.mouse.wheel(0, 200)
        page.wait_for_timeout(300)
        assert page.evaluate("scrollY") > before
        browser.close()


def tips(page: Any) -> list[str]:
    """What the matrix of four says of its second row and third column, and of its last row and first column."""
    canvas, found = page.locator("canvas"), []
    side = canvas.bounding_box()["width"]
    for row, column in ((1, 2), (3, 0)):
        x, y = (side * (0.26 + 0.74 * (place + 0.5) / 4) for place in (column, row))
        canvas.hover(position={"x": x, "y": y})
        found.append(page.locator(".tip").inner_text())
    return found


def chromium() -> str:
    import shutil

    found = shutil.which("chromium") or shutil.which("google-chrome")
    assert found, "the browser tests need Chromium"
    return found
