"""`zeroshot review` in a process of its own, and its page in Chromium."""

import csv
import os
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from PIL import Image

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

Answer = tuple[str, Sequence[tuple[str, float]]]  # a path, and labels with their probabilities, the best first


def write_results(path: Path, answers: Iterable[Answer]) -> Path:
    """Write what `classify --top-k` would."""
    with path.open("w", newline="", encoding="utf-8", errors="surrogateescape") as file:
        rows = csv.writer(file)
        rows.writerow(("path", "rank", "label", "score", "probability", "error"))
        for image, labels in answers:
            for rank, (label, probability) in enumerate(labels, 1):
                rows.writerow((image, rank, label, 0.2, probability, ""))
    return path


def draw(path: Path, colour: str, size: tuple[int, int] = (60, 40)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour).save(path)
    return path


class Reviewer:
    """Starts servers, opens their pages, and holds what pages did that they should not."""

    def __init__(self, browser: "Browser", folder: Path) -> None:
        self.browser = browser
        self.folder = folder
        self.servers: list[subprocess.Popen[str]] = []
        self.faults: list[str] = []

    def serve(self, results: Path, **environment: str) -> str:
        """Start `zeroshot review`, and return the address that it prints."""
        command = [sys.executable, "-m", "zeroshot_cli", "review", str(results), "--no-browser"]
        server = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=self.folder,
            env={**os.environ, **environment},
        )
        self.servers.append(server)
        assert server.stdout is not None
        address = server.stdout.readline().strip()
        if not address.startswith("http"):
            raise AssertionError(server.communicate(timeout=30)[1])
        return address

    def kill(self) -> None:
        """End the last server as a power cut would."""
        self.servers[-1].kill()
        self.servers[-1].communicate(timeout=30)

    def open(self, address: str, **context: Any) -> "Page":
        page = self.browser.new_page(**{"viewport": {"width": 1200, "height": 800}, **context})
        page.set_default_timeout(15_000)
        page.on("console", lambda message: self.faults.append(f"console: {message.text}"))
        page.on("pageerror", lambda error: self.faults.append(f"error: {error}"))
        page.on("dialog", lambda dialog: (self.faults.append(f"dialog: {dialog.message}"), dialog.dismiss()))
        page.on("request", lambda request: self._requested(request.url, address))
        page.goto(address)
        page.locator(".card.active").wait_for()
        return page

    def _requested(self, url: str, address: str) -> None:
        if not url.startswith(address):
            self.faults.append(f"request: {url}")

    def close(self) -> None:
        for context in self.browser.contexts:
            context.close()
        for server in self.servers:
            server.kill()
            server.communicate(timeout=30)


@pytest.fixture
def reviewer(browser: "Browser", tmp_path: Path) -> Iterator[Reviewer]:
    from playwright.sync_api import expect

    expect.set_options(timeout=15_000)  # a machine that does other things answers late
    reviewer = Reviewer(browser, tmp_path)
    yield reviewer
    reviewer.close()
    assert reviewer.faults == [], reviewer.faults


def log_of(folder: Path) -> list[tuple[str, str, str, str]]:
    """The lines of corrections.csv: path, label, was, decision."""
    with (folder / "corrections.csv").open(newline="", encoding="utf-8", errors="surrogateescape") as file:
        return [(row["path"], row["label"], row["was"], row["decision"]) for row in csv.DictReader(file)]
