"""`zeroshot tag` writes labels as keywords that photo programs read; `zeroshot untag` takes them out again."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from zeroshot_cli.cli import options as o
from zeroshot_cli.cli.command import Panel, check_probability, command, finish
from zeroshot_cli.console.terminal import note, print_rows, progress_bar
from zeroshot_cli.errors import UsageError
from zeroshot_cli.tagging.settings import SidecarName, TagSettings, near

if TYPE_CHECKING:
    from zeroshot_cli.tagging.tag import Tagged


@dataclass(frozen=True, kw_only=True)
class TagOptions:
    """Which labels become keywords, and where."""

    results: Annotated[
        tuple[Path, ...],
        typer.Argument(
            metavar="RESULTS...",
            show_default=False,
            help="What classify wrote, and corrections of it; of an image in several files the last counts.",
        ),
    ]
    top_k: Annotated[
        int | None,
        typer.Option(
            "--top-k",
            metavar="N",
            min=1,
            show_default=False,
            rich_help_panel=Panel.LABELS,
            help="The N best labels of an image. Default: 1; for a run with --multi-label, all.",
        ),
    ] = None
    min_probability: Annotated[
        float | None,
        typer.Option(
            "--min-probability",
            metavar="X",
            callback=check_probability,
            show_default=False,
            rich_help_panel=Panel.LABELS,
            help="Leave out labels with a lower probability.",
        ),
    ] = None
    parent: Annotated[
        str,
        typer.Option(
            "--parent",
            metavar="NAME[|NAME...]",
            show_default=False,
            rich_help_panel=Panel.LABELS,
            help="Put the keywords under these in the hierarchy, as 'zeroshot' or 'zeroshot|objects'.",
        ),
    ] = ""
    sidecar: Annotated[
        SidecarName,
        typer.Option(
            "--sidecar",
            rich_help_panel=Panel.OUTPUT,
            help="Call sidecars IMG_1.jpg.xmp (append) or IMG_1.xmp (replace); auto takes the one that exists.",
        ),
    ] = SidecarName.AUTO
    embed: Annotated[
        bool,
        typer.Option(
            "--embed",
            rich_help_panel=Panel.OUTPUT,
            help="Write into the images themselves, by exiftool; each is kept as IMG_1.jpg_original for untag.",
        ),
    ] = False
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run", "-n", rich_help_panel=Panel.OUTPUT, help="Print what would be written, and write nothing."
        ),
    ] = False
    quiet: o.Quiet = False
    debug: o.Debug = False

    def settings(self) -> TagSettings:
        """Return the options as the library takes them."""
        parent = tuple(name.strip() for name in self.parent.split("|")) if self.parent else ()
        if not all(parent):
            raise UsageError(f"--parent {self.parent!r} has a name without letters; write it as 'zeroshot|objects'")
        return TagSettings(self.top_k, self.min_probability, parent, self.sidecar, self.embed)


@command
def tag(options: TagOptions) -> None:
    """Write labels as keywords that photo programs read, into XMP sidecars beside the images.

    What sidecars have is kept, and without --embed images are not touched. Tag again to replace the keywords; untag
    takes them out.
    """
    from zeroshot_cli.tagging.tag import tag as write_keywords

    with progress_bar(quiet=options.quiet) as bar:
        counter = bar.counter("tagging", "sidecars")
        tagged = write_keywords(options.results, options.settings(), dry_run=options.dry_run, on_progress=counter)
    if options.dry_run:
        _print(tagged)
    for text in (*tagged.wanted.notes, *tagged.notes):
        note(text, quiet=options.quiet)
    failed = [*tagged.wanted.missing, *tagged.failed]
    for item in failed:
        note(f"{near(item.path)}: {item.reason}")
    note(tagged.sentence(dry_run=options.dry_run), quiet=options.quiet)
    finish(len(failed))


def _print(tagged: "Tagged") -> None:
    from zeroshot_cli.tagging.keywords import Field

    rows = [(near(path), action, "; ".join(texts.get(Field.HIERARCHY, ()))) for path, action, texts in tagged.changes]
    print_rows(("sidecar", "change", "keywords"), rows)


def untag(
    results: Annotated[
        Path,
        typer.Argument(
            metavar="RESULTS|RECORD",
            show_default=False,
            help="The first of the results that tag was given, or its record.",
        ),
    ],
    yes: Annotated[
        bool, typer.Option("--yes", "-y", help="Restore also in folders that you did not tag in on this machine.")
    ] = False,
    quiet: o.Quiet = False,
    debug: o.Debug = False,
) -> None:
    """Undo tag: restore sidecars and images to the byte, and remove the sidecars that it made.

    A file that another program changed since loses only the keywords that tag wrote.
    """
    from zeroshot_cli.tagging.untag import untag as take_out

    with progress_bar(quiet=quiet) as bar:
        undone = take_out(results, elsewhere=yes, on_progress=bar.counter("untagging", "sidecars"))
    for path in undone.edited:
        note(f"{near(path)} was changed by another program since; only our keywords are taken out", quiet=quiet)
    for item in undone.kept:
        note(f"{near(item.path)}: {item.reason}")
    note(undone.sentence(), quiet=quiet)
    finish(len(undone.kept))
