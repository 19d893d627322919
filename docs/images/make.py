"""Make the images of README.md from real runs of `zeroshot` on the example images: `make images`.

terminal.svg is what the command draws on a terminal, which is a pseudo-terminal here; report.png is its HTML report as
Chromium shows it, which must be installed. Look at both afterwards: a program cannot tell whether they are good.

    python docs/images/make.py [terminal | report]
"""

import argparse
import os
import pty
import re
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
TERMINAL = "zeroshot classify examples/images/[a-c]* --labels examples/labels.txt"
WANTED = "apple", "pizza"  # of README's second recipe
REPORT = "zeroshot classify examples/images {} --background {} --output {}"
COLUMNS = 84
WIDTH, HEIGHT = 1080, 1130  # of the report's image
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("image", nargs="?", choices=("terminal", "report"), help="one of them only")
    only = parser.parse_args().image
    with tempfile.TemporaryDirectory() as folder:
        for name in [name for name in os.environ if name.startswith("ZEROSHOT_")]:
            del os.environ[name]
        os.environ["ZEROSHOT_CACHE_DIR"] = str(Path(folder) / "cache")
        os.environ["ZEROSHOT_CONFIG"] = str(Path(folder) / "config.yaml")  # where no model is the default but ours
        if only != "report":
            draw_terminal(TERMINAL)
        if only != "terminal":
            shoot_report(Path(folder))


def draw_terminal(command: str) -> None:
    """What stands on the screen after `command`: the line that was typed, results and the last line of stderr."""
    shown, notes = on_a_terminal(command)
    console = Console(record=True, width=COLUMNS, file=open(os.devnull, "w"), force_terminal=True)  # noqa: SIM115, PTH123
    console.print(Text.assemble(("$ ", "bold green"), command, "\n"))
    console.print(Text.from_ansi(shown.rstrip()))
    console.print(Text.from_ansi(notes.rstrip()))
    svg = console.export_svg(title="zeroshot", theme=MONOKAI, unique_id="zeroshot")
    svg = re.sub(r"@font-face \{.*?\}\n?", "", svg, flags=re.DOTALL)  # fonts from elsewhere, which a README cannot load
    (HERE / "terminal.svg").write_text("\n".join(line.rstrip() for line in svg.splitlines()) + "\n", encoding="utf-8")


def on_a_terminal(command: str) -> tuple[str, str]:
    """Run `command` with a terminal for stdout and a pipe for stderr, where no progress is drawn; return both."""
    ours, theirs = pty.openpty()
    ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 60, COLUMNS, 0, 0))
    environment = {**os.environ, "TERM": "xterm-256color", "COLUMNS": str(COLUMNS)}
    environment.pop("NO_COLOR", None)
    process = subprocess.Popen(
        arguments(command), stdout=theirs, stderr=subprocess.PIPE, cwd=ROOT, env=environment, text=True
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


def shoot_report(folder: Path) -> None:
    """The top of the report, in as many colours as a small PNG needs."""
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        sys.exit("report.png needs Chromium, which is not installed")
    report, shot = folder / "report.html", folder / "report.png"
    others = folder / "others.txt"
    labels = (ROOT / "examples/labels.txt").read_text(encoding="utf-8").split("\n")
    others.write_text("\n".join(label for label in labels if label not in WANTED), encoding="utf-8")
    wanted = " ".join(f"--label {label}" for label in WANTED)
    command = REPORT.format(wanted, shlex.quote(str(others)), shlex.quote(str(report)))
    subprocess.run(arguments(command), cwd=ROOT, check=True, capture_output=True)
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--virtual-time-budget=5000"]
    options += [f"--user-data-dir={folder / 'profile'}", f"--window-size={WIDTH},{HEIGHT}", f"--screenshot={shot}"]
    subprocess.run([browser, *options, report.as_uri()], check=True, capture_output=True)
    with Image.open(shot) as image:
        small = image.convert("RGB").quantize(192, dither=Image.Dither.NONE)
        small.save(HERE / "report.png", optimize=True)


def arguments(command: str) -> list[str]:
    """`command` as typed, by this environment's interpreter; a glob stays one, which `zeroshot` opens itself."""
    program, *rest = shlex.split(command)
    return [str(Path(sys.executable).with_name(program)), *rest]


if __name__ == "__main__":
    main()
