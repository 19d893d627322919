"""What the pages paste, by cog: output of real runs of `zeroshot`, which are made in this process, so torch loads once.

Runs have a folder of their own, where `examples` is the repository's and labelled.csv and pairs.csv list its images;
what they write stays there. Nothing of the user's settings or cache counts, and nothing is downloaded.
"""

import contextlib
import io
import os
import shlex
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import cog

ROOT = Path(__file__).resolve().parents[1]
FOLDER = tempfile.TemporaryDirectory(prefix="zeroshot-docs-", ignore_cleanup_errors=True)
SETTINGS = {
    "COLUMNS": "100",
    "LINES": "50",
    "TERM": "dumb",
    "NO_COLOR": "1",
    "HF_HUB_OFFLINE": "1",
    "ZEROSHOT_DEVICE": "cpu",
}


def show(command: str, *, lines: int | None = None, code: int = 0) -> None:
    """Paste a command and what it prints, errors and notes too, of a long list the first `lines`."""
    shown = run(command, code)
    if lines is not None and len(shown) > lines:
        shown = [*shown[:lines], "..."]
    if code:
        shown.append(f"$ echo $?\n{code}")
    _paste(f"$ {command}", *shown)


def show_help(command: str) -> None:
    """Paste the options of a command, of zeroshot itself where it is empty."""
    _paste(*run(f"zeroshot {command} --help"))


def show_measured(result: str, start: str | tuple[str, ...]) -> None:
    """Paste the lines that begin with `start` of a result in benchmarks/results, then when and how it was measured."""
    head, _, body = (ROOT / "benchmarks" / "results" / f"{result}.txt").read_text(encoding="utf-8").partition("\n\n")
    about = dict(line.split(": ", 1) for line in head.splitlines())
    cog.outl("\n".join(line for line in body.splitlines() if line.startswith(start)))
    cog.outl(f"\nMeasured on {about['date']}, {about['machine']}, by `{about['command']}`.")


def show_file(name: str) -> None:
    """Paste a file that a run wrote."""
    text = (Path(FOLDER.name) / name).read_text(encoding="utf-8")
    _paste(f"$ cat {name}", *text.rstrip().replace("\ufeff", "").splitlines())


def run(command: str, code: int = 0) -> list[str]:
    """Run a command line of zeroshot in its folder; return the lines that it prints.

    Where it does not end with `code` the page is wrong, or zeroshot is: nothing is pasted.
    """
    from zeroshot_cli.cli.app import run as run_zeroshot

    program, *arguments = shlex.split(command)
    if program != "zeroshot":
        raise ValueError(f"{command!r} is no command of zeroshot")
    printed = io.BytesIO()
    with _surroundings(), io.TextIOWrapper(printed, "utf-8", write_through=True) as stream:
        with contextlib.redirect_stdout(stream), contextlib.redirect_stderr(stream):
            ended = run_zeroshot(arguments)
        text = printed.getvalue().decode()
    if ended != code:
        raise ValueError(f"{command} ended with {ended}, not {code}: {text}")
    return [line.rstrip() for line in text.rstrip().splitlines()]


def _paste(*lines: str) -> None:
    cog.outl("\n".join(("```text", *lines, "```")))


@contextlib.contextmanager
def _surroundings() -> Iterator[None]:
    """The folder of the runs as the present one, and an environment in which they print the same everywhere."""
    folder = Path(FOLDER.name)
    _furnish(folder)
    before = dict(os.environ)
    for name in [name for name in before if name.startswith(("ZEROSHOT_", "HF_"))]:
        del os.environ[name]
    own = {"ZEROSHOT_CACHE_DIR": "cache", "ZEROSHOT_CONFIG": "config.yaml", "HF_HUB_CACHE": "hub"}
    os.environ.update(SETTINGS, **{name: str(folder / place) for name, place in own.items()})
    try:
        with contextlib.chdir(folder):
            yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def _furnish(folder: Path) -> None:
    if (folder / "examples").exists():
        return
    (folder / "examples").symlink_to(ROOT / "examples")
    (folder / "notes").mkdir()
    (folder / "notes" / "ideas.txt").write_text("none yet\n", encoding="utf-8")
    images = sorted((ROOT / "examples" / "images").iterdir())
    names = {f"examples/images/{image.name}": image.stem.replace("_", " ") for image in images}
    labelled = "".join(f"{path},{name}\n" for path, name in names.items())
    (folder / "labelled.csv").write_text("image,label\n" + labelled, encoding="utf-8")
    (folder / "pairs.csv").write_text("image,caption\n" + labelled, encoding="utf-8")


sys.dont_write_bytecode = True  # a folder of pages needs no __pycache__
