"""`zeroshot review` opens a page on which the answers of a run are corrected by hand."""

import shlex
import sys
import threading
import webbrowser
from contextlib import closing
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from zeroshot_cli.cli import options as o
from zeroshot_cli.cli.command import Panel, command
from zeroshot_cli.console.terminal import note, progress_bar
from zeroshot_cli.display import counted
from zeroshot_cli.errors import UsageError

if TYPE_CHECKING:
    from zeroshot_cli.review.corrections import Corrections
    from zeroshot_cli.review.run import Run


@dataclass(frozen=True, kw_only=True)
class ReviewOptions:
    """The options of `zeroshot review`."""

    results: Annotated[
        Path,
        typer.Argument(
            metavar="RESULTS",
            show_default=False,
            help="What classify --output wrote (.csv, .tsv, .jsonl, .parquet), a folder of --sort-into, or the record "
            "of a run (.run.json).",
        ),
    ]
    corrections: Annotated[
        Path | None,
        typer.Option(
            "--corrections",
            metavar="FILE",
            show_default=False,
            rich_help_panel=Panel.OUTPUT,
            help="Where decisions are kept. Default: corrections.csv beside the results.",
        ),
    ] = None
    follow_links: Annotated[
        bool,
        typer.Option(
            "--follow-links",
            rich_help_panel=Panel.IMAGES,
            help="Show images that a link leads to from the folders of the run to others.",
        ),
    ] = False
    port: Annotated[
        int | None,
        typer.Option(
            "--port",
            metavar="N",
            min=1,
            max=65535,
            show_default=False,
            rich_help_panel=Panel.MACHINE,
            help="The port on 127.0.0.1. Default: a free one.",
        ),
    ] = None
    browser: Annotated[
        bool,
        typer.Option("--browser/--no-browser", rich_help_panel=Panel.MACHINE, help="Open the page in the browser."),
    ] = True
    quiet: o.Quiet = False
    debug: o.Debug = False


def check_extra() -> None:
    """Raise UsageError if a package of the extra is missing."""
    if missing := [name for name in ("starlette", "uvicorn") if find_spec(name) is None]:
        raise UsageError(f"zeroshot review needs {' and '.join(missing)}: pip install 'zeroshot-cli[review]'")


@command
def review(options: ReviewOptions) -> None:
    """Correct the answers of a run by hand, on a page in your browser, and train a classifier from that.

    The page is on this machine alone, and nothing is uploaded. Every decision is a line in corrections.csv at once, so
    you may close the page, or end this with Ctrl-C, at any time and continue later.
    """
    from zeroshot_cli.review.run import read_run

    check_extra()
    run = read_run(options.results)
    from zeroshot_cli.review.answers import decoding_of, scorer_of
    from zeroshot_cli.review.corrections import Corrections, log_beside
    from zeroshot_cli.review.pictures import Pictures
    from zeroshot_cli.review.server import listen, serve
    from zeroshot_cli.review.session import Review

    log = Corrections(options.corrections or log_beside(run.source))
    with closing(log), listen(options.port) as listening:
        scorer, why_not = scorer_of(run)
        if scorer is not None and any(image.probability is None for image in run.images):
            with progress_bar(quiet=options.quiet) as bar:  # a sorted folder has labels alone
                scorer.encode(run.images, bar.counter("encoding", "images"))
        session = Review(run, log, scorer, why_not)

        def on_start(address: str, once: str) -> None:
            print(address)
            sys.stdout.flush()
            _say(options, run, log, why_not)
            if options.browser:
                # A text browser waits for the page, whose server begins after this.
                threading.Thread(target=webbrowser.open, args=(once,), daemon=True).start()

        with closing(Pictures(run, decoding_of(run), follow_links=options.follow_links)) as pictures:
            serve(session, pictures, listening, on_start)


def _say(options: ReviewOptions, run: "Run", log: "Corrections", why_not: str) -> None:
    done = sum(log.of(image.path) is not None for image in run.images)
    decided = f", {done} of them decided" if done else ""
    notes = [f"{counted(len(run.images), 'image')}{decided}; decisions go to {log.path}"]
    if run.missing:
        notes.append(f"warning: {counted(run.missing, 'image')} no longer there, not shown")
    if why_not:
        notes.append(f"no classifier can be trained: {why_not}")
    notes.append(f"Ctrl-C ends it; next: zeroshot tune {shlex.quote(str(log.path))} -o my.classifier")
    for text in notes:
        note(text, quiet=options.quiet)
