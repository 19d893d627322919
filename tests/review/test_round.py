"""A whole round: classify, correct by keyboard, train, look at what changed, and lose nothing when the power goes."""

import csv
import random
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from PIL import Image, ImageDraw
from reviewed import Reviewer, log_of

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = pytest.mark.slow

WORDS = {"dax": "red", "wug": "green", "fep": "blue", "blick": "gold"}  # words that no model knows, and what they mean
IMAGES, CORRECTED = 200, 30


def draw_words(folder: Path) -> None:
    """Shapes of a word's colour on grounds of any; the file name begins with the word."""
    folder.mkdir()
    chosen = random.Random(20)
    for number in range(IMAGES):
        word = list(WORDS)[number % len(WORDS)]
        image = Image.new("RGB", (64, 64), tuple(chosen.randrange(150, 256) for _ in range(3)))
        left, top = chosen.randrange(2, 14), chosen.randrange(2, 14)
        ImageDraw.Draw(image).ellipse((left, top, left + 46, top + 46), fill=WORDS[word])
        image.save(folder / f"{word}-{number}.png")


def classify(folder: Path, *arguments: str) -> dict[str, tuple[str, float]]:
    """The labels and probabilities that `zeroshot classify` gives the images."""
    command = [sys.executable, "-m", "zeroshot_cli", "classify", "in", "--output", *arguments, "--quiet"]
    subprocess.run(command, cwd=folder, check=True, timeout=300)
    with (folder / arguments[0]).open(newline="", encoding="utf-8") as file:
        return {row["path"]: (row["label"], float(row["probability"])) for row in csv.DictReader(file)}


def answers(page: "Page") -> dict[str, Any]:
    """All images as the page has them from the server, by path."""
    images = page.evaluate("fetch('api/images').then(answer => answer.json())")["images"]
    return {image["path"]: image for image in images}


def press_label(page: "Page") -> tuple[str, str]:
    """Give the active image the label that its name says, by a digit; return its path and the label."""
    path = str(page.locator(".card.active").get_attribute("title"))
    word = Path(path).name.partition("-")[0]
    page.locator("#current", has_text=path).wait_for()
    labels = page.locator("#top .name").all_text_contents()
    page.keyboard.press(str(labels.index(word) + 1))
    return path, word


def test_a_round(reviewer: Reviewer, tmp_path: Path) -> None:
    from playwright.sync_api import expect

    draw_words(tmp_path / "in")
    labels = [part for word in WORDS for part in ("--label", word)]
    before = classify(tmp_path, "results.csv", *labels, "--model", "tiny")
    assert len(before) == IMAGES

    address = reviewer.serve(tmp_path / "results.csv")
    page = reviewer.open(address)
    given = dict(press_label(page) for _ in range(CORRECTED))
    expect(page.locator("#train")).to_have_text(f"Train from {CORRECTED} corrections", timeout=30_000)
    assert len(given) == CORRECTED
    assert {path: label for path, label, *_ in log_of(tmp_path)} == given

    page.locator("#train").click()
    said = page.locator("#training-said")
    expect(said).to_contain_text(f"Trained from {CORRECTED} corrections. Accuracy:", timeout=60_000)
    after = answers(page)
    changed = {path for path, image in after.items() if image["label"] != before[path][0]}
    assert len(changed) > IMAGES / 4  # most were guesses
    right_before = sum(Path(path).name.startswith(label) for path, (label, _) in before.items())
    right_after = sum(Path(path).name.startswith(image["label"]) for path, image in after.items())
    assert right_after > 2 * right_before
    expect(said).to_contain_text(f"{len(changed)} answers of {IMAGES} changed")
    page.locator("#show-changed").click()
    expect(page.locator("#count")).to_have_text(f"{len(changed)} of {IMAGES} images")
    assert {text[:4] for text in page.locator(".card:not(.decided) .file").all_text_contents()} == {"was "}
    command = page.locator("#classifier").text_content()
    assert command == f"zeroshot classify FOLDER --classifier {tmp_path / 'corrections.classifier'}"
    page.close()

    page = reviewer.open(address)
    expect(page.locator("#decided")).to_have_text(f"{CORRECTED} of {IMAGES} decided")
    expect(page.locator("#training-said")).to_contain_text("Trained from 30 corrections.")
    for _ in range(8):
        page.keyboard.press("r")
    reviewer.kill()  # while decisions are under way
    page.keyboard.press("u")
    expect(page.get_by_role("alert")).to_contain_text("The server of this page has ended.")
    confirmed = page.locator(".card.decided").evaluate_all("all => all.map(card => card.title)")
    expect(page.locator(".card.pending")).to_have_count(0)
    page.close()
    reviewer.faults.clear()  # requests that nobody answered

    lines = log_of(tmp_path)
    assert {path: label for path, label, *_ in lines[:CORRECTED]} == given
    assert {*confirmed} <= {path for path, *_ in lines}
    page = reviewer.open(reviewer.serve(tmp_path / "results.csv"))
    decided = {path: image["decision"] for path, image in answers(page).items() if image["decision"]}
    assert {path: decision["label"] for path, decision in decided.items()} == {path: label for path, label, *_ in lines}
    page.keyboard.press("z")
    expect(page.locator("#status")).to_contain_text("Undone: ")

    again = classify(tmp_path, "again.csv", "--classifier", "corrections.classifier")
    assert {path: label for path, (label, _) in again.items()} == {
        path: image["label"] for path, image in after.items()
    }
    for path, (_, probability) in again.items():
        assert probability == pytest.approx(after[path]["probability"], abs=1e-5)
