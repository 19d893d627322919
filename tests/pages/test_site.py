"""The site of docs/: it builds without a warning, works from file:// with search, asks no server, and fits a phone."""

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser

ROOT = Path(__file__).parents[2]
PAGES = ("index", "classify", "which-option", "tutorials/biologist")  # the home page, long help, wide tables, a folder
pytestmark = pytest.mark.slow


def build(folder: Path, config: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--config-file", config, "--site-dir", folder]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    done = build(folder, ROOT / "mkdocs.yml")
    assert done.returncode == 0, done.stderr
    return folder


def test_search_works_without_a_server_and_nothing_is_asked_of_one(site: Path, browser: "Browser") -> None:
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(f"{(site / 'index.html').as_uri()}?q=temperature")
    page.locator(".md-search-result__item", has_text="calibrate").first.wait_for(state="attached")
    assert {url.partition(":")[0] for url in asked} <= {"file", "data", "about"}
    page.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_pages_fit_a_phone(scheme: str, site: Path, browser: "Browser") -> None:
    page = browser.new_page(viewport={"width": 390, "height": 800}, color_scheme=scheme)
    for name in PAGES:
        page.goto((site / f"{name}.html").as_uri())
        assert page.evaluate("document.documentElement.scrollWidth") == 390, name
    page.close()
