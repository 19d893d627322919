"""Make the images of README.md and docs/ from real runs of `zeroshot` on the example images: `make images`.

terminal.png is what the command draws on a terminal, which is a pseudo-terminal here, below the photographs that it
labels; report.png is an HTML report, evaluation.png that of `zeroshot eval`, search.png the page of `zeroshot search`,
and review-light.png and review-dark.png the page of `zeroshot review` after a few keys, as Chromium shows them, which
must be installed. Look at all of them afterwards: a program cannot tell whether they are good.

    python docs/images/make.py [terminal | report | evaluation | search | review]
"""

import argparse
import os
import pty
import shlex
import shutil
import struct
import subprocess
import sys
import tempfile
import termios
from fcntl import ioctl
from pathlib import Path

from PIL import Image
from rich.console import Console
from rich.terminal_theme import MONOKAI
from rich.text import Text

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
TERMINAL = "zeroshot classify photos --labels labels.txt"
# README's second recipe
REPORT = "zeroshot classify examples/images --labels examples/wanted.yaml --level 1 --background auto --output {}"
EVALUATION = "zeroshot eval ./examples --model tiny --report {}"
SEARCH = "zeroshot search 'a boat on the sea' examples/images --top 12 --output {}"
CLASSIFY = "zeroshot classify examples/images {} --output {}"
REVIEW = "zeroshot review {} --no-browser"
KINDS = "an animal", "a plant", "food", "a building", "a vehicle", "a thing of the house", "the sky"
RIGHT = ""
DECISIONS = "thing", "food", "thing", RIGHT, "vehicle", RIGHT  # of the first images; what is typed of another label
COLUMNS = 72
TERMINAL_SIZE = 960, 580
REPORT_SIZE, EVALUATION_SIZE, SEARCH_SIZE = (1080, 822), (1280, 1180), (1100, 640)
PHOTOGRAPH = 320  # the longer side of the photographs among the examples; drawings are smaller
TERMINAL_PAGE = """<style>
  body {{ margin: 0; background: #f4f5f7 }}
  div {{ display: grid; grid-template-columns: repeat({}, 1fr); gap: 6px; margin: 0 0 8px }}
  img {{ width: 100%; aspect-ratio: 1; object-fit: cover; border-radius: 6px }}
  svg {{ display: block; width: 100% }}
</style><div>{}</div>{}"""
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "image", nargs="?", choices=("terminal", "report", "evaluation", "search", "review"), help="one of them only"
    )
    only = parser.parse_args().image
    with tempfile.TemporaryDirectory() as folder:
        for name in [name for name in os.environ if name.startswith("ZEROSHOT_")]:
            del os.environ[name]
        os.environ["ZEROSHOT_CACHE_DIR"] = str(Path(folder) / "cache")
        os.environ["ZEROSHOT_CONFIG"] = str(Path(folder) / "config.yaml")  # where no model is the default but ours
        if only in (None, "terminal"):
            draw_terminal(Path(folder))
        if only in (None, "report"):
            shoot("report", REPORT, REPORT_SIZE, Path(folder), cwd=ROOT)
        if only in (None, "evaluation"):
            shoot_evaluation(Path(folder))
        if only in (None, "search"):
            shoot("search", SEARCH, SEARCH_SIZE, Path(folder), cwd=ROOT)
        if only in (None, "review"):
            shoot_review(Path(folder))


def draw_terminal(folder: Path) -> None:
    """The photographs among the examples, and below them the line that was typed, results and the end of stderr."""
    photos = folder / "photos"
    photos.mkdir()
    for image in sorted((ROOT / "examples/images").glob("*.jpg")):
        with Image.open(image) as opened:
            if max(opened.size) == PHOTOGRAPH:
                shutil.copy(image, photos)
    shutil.copy(ROOT / "examples/labels.txt", folder)
    shown, notes = on_a_terminal(TERMINAL, folder)
    console = Console(record=True, width=COLUMNS, file=open(os.devnull, "w"), force_terminal=True)  # noqa: SIM115, PTH123
    console.print(Text.assemble(("$ ", "bold green"), TERMINAL, "\n"))
    console.print(Text.from_ansi(shown.rstrip()))
    console.print(Text.from_ansi(notes.rstrip()))
    screen = console.export_svg(title="zeroshot", theme=MONOKAI, unique_id="zeroshot")
    strip = "".join(f'<img src="{photo.as_uri()}">' for photo in sorted(photos.iterdir()))
    (folder / "terminal.html").write_text(
        TERMINAL_PAGE.format(len(list(photos.iterdir())), strip, screen), encoding="utf-8"
    )
    save_screen("terminal", TERMINAL_SIZE, folder)


def on_a_terminal(command: str, folder: Path) -> tuple[str, str]:
    """Run `command` with a terminal for stdout and a pipe for stderr, where no progress is drawn; return both."""
    ours, theirs = pty.openpty()
    ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 60, COLUMNS, 0, 0))
    environment = {**os.environ, "TERM": "xterm-256color", "COLUMNS": str(COLUMNS)}
    environment.pop("NO_COLOR", None)
    process = subprocess.Popen(
        arguments(command), stdout=theirs, stderr=subprocess.PIPE, cwd=folder, env=environment, text=True
    )
    os.close(theirs)
    shown = b""
    while True:
        try:
            shown += (block := os.read(ours, 65536))
        except OSError:  # how Linux says that the other end is closed
            break
        if not block:
            break
    notes = process.communicate()[1]
    if process.returncode:
        sys.exit(notes)
    return shown.decode().replace("\r\n", "\n"), notes


def shoot_evaluation(folder: Path) -> None:
    """The examples in class folders, and the smallest model, since the other one makes too few mistakes."""
    images = folder / "examples"
    for image in (ROOT / "examples/images").iterdir():
        named = images / image.stem.replace("_", " ")
        named.mkdir(parents=True)
        shutil.copy(image, named)
    shoot("evaluation", EVALUATION, EVALUATION_SIZE, folder, cwd=folder)


def shoot(name: str, command: str, size: tuple[int, int], folder: Path, *, cwd: Path) -> None:
    """The top of the page that `command` writes, in as many colours as a small PNG needs."""
    page = folder / f"{name}.html"
    subprocess.run(arguments(command.format(shlex.quote(str(page)))), cwd=cwd, check=True, capture_output=True)
    save_screen(name, size, folder)


def save_screen(name: str, size: tuple[int, int], folder: Path) -> None:
    """The top of a page in `folder`."""
    page, shot = folder / f"{name}.html", folder / f"{name}.png"
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--virtual-time-budget=5000"]
    options += [f"--user-data-dir={folder / 'profile'}", f"--window-size={size[0]},{size[1]}", f"--screenshot={shot}"]
    subprocess.run([chromium(), *options, page.as_uri()], check=True, capture_output=True)
    save_small(shot, f"{name}.png")


def shoot_review(folder: Path) -> None:
    """The page of review, in light and dark, after some decisions and with some images selected."""
    from playwright.sync_api import sync_playwright

    answers, shot = folder / "answers.csv", folder / "review.png"
    kinds = " ".join(f"--label {shlex.quote(kind)}" for kind in KINDS)
    subprocess.run(arguments(CLASSIFY.format(kinds, answers)), cwd=ROOT, check=True, capture_output=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium(), args=["--no-sandbox", "--disable-gpu"])
        for scheme in ("light", "dark"):
            server = subprocess.Popen(
                arguments(REVIEW.format(answers.name)),
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                cwd=folder,
                text=True,
            )
            page = browser.new_page(viewport={"width": 1080, "height": 746}, color_scheme=scheme)
            page.goto(server.stdout.readline().strip())
            page.locator(".card.active").wait_for()
            for typed in DECISIONS:
                page.keyboard.press("l" if typed else "r")
                if typed:
                    page.keyboard.type(typed)
                    page.keyboard.press("Enter")
            page.keyboard.press("Shift+ArrowRight")
            page.wait_for_timeout(2000)  # thumbnails
            page.screenshot(path=shot)
            save_small(shot, f"review-{scheme}.png")
            server.kill()
            server.wait()
            (folder / "corrections.csv").unlink()


def chromium() -> str:
    """Return the path of Chromium, without which there are no images of pages."""
    if found := next(filter(None, map(shutil.which, BROWSERS)), None):
        return found
    sys.exit("images of pages need Chromium, which is not installed")


def save_small(shot: Path, name: str) -> None:
    """Write an image in as many colours as a small PNG needs."""
    with Image.open(shot) as image:
        image.convert("RGB").quantize(256, dither=Image.Dither.NONE).save(HERE / name, optimize=True)


def arguments(command: str) -> list[str]:
    """`command` as typed, by this environment's interpreter; a glob stays one, which `zeroshot` opens itself."""
    program, *rest = shlex.split(command)
    return [str(Path(sys.executable).with_name(program)), *rest]


if __name__ == "__main__":
    main()
