"""`zeroshot merge` joins what the shards of a run have written into one file."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from zeroshot_cli.cli import options as o
from zeroshot_cli.cli.command import Panel, command
from zeroshot_cli.console.terminal import note, progress_bar
from zeroshot_cli.display import counted
from zeroshot_cli.errors import UsageError
from zeroshot_cli.remote.address import mistyped, shown_address


@dataclass(frozen=True, kw_only=True)
class MergeOptions:
    """The options of `zeroshot merge`."""

    inputs: Annotated[
        tuple[Path, ...],
        typer.Argument(
            metavar="FILES",
            show_default=False,
            help="What each shard wrote, of classify or of embed, in any order; or a folder of parts.",
        ),
    ]
    output: Annotated[
        Path,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE",
            show_default=False,
            rich_help_panel=Panel.OUTPUT,
            help="The file to write: results in the format that the shards have, embeddings as .parquet, .npz or "
            ".safetensors.",
        ),
    ]
    overwrite: o.Overwrite = False
    quiet: o.Quiet = False
    debug: o.Debug = False


@command
def merge(options: MergeOptions) -> None:
    """Join the outputs of all shards of a run into one file, as the run would have written it by itself.

    Nothing is written unless every shard is there once, complete, and of the same images and settings.
    """
    output = options.output
    if address := next(filter(None, map(mistyped, map(str, (*options.inputs, output)))), None):  # Path takes a slash
        raise UsageError(
            f"{shown_address(address)}: merge reads and writes files on disk; copy those of the shards there, with "
            "their .run.json"
        )
    arguments = {"overwrite": options.overwrite}
    with progress_bar(quiet=options.quiet) as bar:
        count = bar.counter("merging", "images")
        if _are_embeddings(options.inputs):
            from zeroshot_cli.embed.merge import merge_embeddings

            file = merge_embeddings(options.inputs, output, on_progress=count, **arguments)
            images, unreadable = file.readable + file.unreadable, file.unreadable
        else:
            from zeroshot_cli.results.shards.merge import merge_results

            counts = merge_results(options.inputs, output, on_progress=count, **arguments).counts
            images, unreadable = (counts.images, counts.unreadable) if counts else (0, 0)
    shards = f" of {counted(len(options.inputs), 'shard')}" if len(options.inputs) > 1 else ""
    unread = f", {unreadable} of them could not be read" if unreadable else ""
    note(f"wrote {output}: {counted(images, 'image')}{shards}{unread}.", quiet=options.quiet)


def _are_embeddings(inputs: tuple[Path, ...]) -> bool:
    """Return whether the files hold embeddings, by their extension and, of Parquet, their columns."""
    kinds = {path: _is_embeddings(path) for path in inputs}
    if len(set(kinds.values())) > 1:
        one = next(path for path, is_embeddings in kinds.items() if is_embeddings)
        other = next(path for path, is_embeddings in kinds.items() if not is_embeddings)
        raise UsageError(f"{one} holds embeddings, and {other} does not; merge the files of one run")
    return any(kinds.values())


def _is_embeddings(path: Path) -> bool:
    if path.is_dir():
        from zeroshot_cli.results.shards.parts import earlier_record

        record = earlier_record(path)
        return record is not None and "format" in record.settings
    if path.suffix.lower() != ".parquet" or not path.is_file():
        return path.suffix.lower() in (".npz", ".safetensors")
    from zeroshot_cli.results.parquet import column_names

    return "embedding" in column_names(path)
