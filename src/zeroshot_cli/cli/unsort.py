"""`zeroshot unsort`: take back what classify --sort-into did."""

from pathlib import Path
from typing import Annotated

import typer

from zeroshot_cli.cli import options as o
from zeroshot_cli.console.terminal import note
from zeroshot_cli.errors import UnreadableImage

ManifestFile = Annotated[
    Path,
    typer.Argument(
        metavar="MANIFEST", show_default=False, help="The manifest.csv that --sort-into has written, or its folder."
    ),
]


def unsort(manifest: ManifestFile, quiet: o.Quiet = False, debug: o.Debug = False) -> None:
    """Undo classify --sort-into: move files back, remove copies and links.

    Nothing is overwritten, and nothing that has changed since is removed; what is left is named, with exit code 4.
    """
    from zeroshot_cli.filing.unsort import undo

    undone = undo(manifest)
    for item in undone.kept:
        note(f"{item.path}: {item.reason}")
    note(undone.sentence(), quiet=quiet)
    raise typer.Exit(UnreadableImage.exit_code if undone.kept else 0)
