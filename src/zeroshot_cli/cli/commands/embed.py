"""`zeroshot embed`: embeddings of images or texts as a file, or of images as a folder of parts."""

import json
import os
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from zeroshot_cli.cli import options as o
from zeroshot_cli.cli.address_options import OutputsElsewhere
from zeroshot_cli.cli.command import Panel, command, finish
from zeroshot_cli.cli.embed_sources import Images, Texts, source_of
from zeroshot_cli.cli.engine_options import Engine, EngineOptions, OnRay
from zeroshot_cli.cli.output_folder import OutputPath, folder_among, output_path, part_images
from zeroshot_cli.cli.shard_options import ShardOptions
from zeroshot_cli.console.terminal import note, note_assumed, progress_bar
from zeroshot_cli.display import counted
from zeroshot_cli.errors import UsageError
from zeroshot_cli.records import Counts, assumed_of, versions
from zeroshot_cli.results.run_record import RunRecord
from zeroshot_cli.results.shards.parts import check_folder, earlier_record

if TYPE_CHECKING:
    from zeroshot_cli.embed.embeddings_file import EmbeddingsFile, Row
    from zeroshot_cli.models.loaded import LoadedModel
    from zeroshot_cli.results.shards.manifest import Manifest
    from zeroshot_cli.results.shards.parts import PartSink


@dataclass(frozen=True, kw_only=True)
class EmbedOptions(EngineOptions, ShardOptions, OutputsElsewhere, o.MessageOptions):
    """The options of `zeroshot embed`."""

    images: Annotated[
        tuple[str, ...],
        typer.Argument(
            metavar="IMAGES",
            show_default=False,
            help="Files, folders (searched recursively), globs, addresses, WebDataset tars, or - for paths on standard "
            "input.",
        ),
    ] = ()
    texts: Annotated[
        Path | None,
        typer.Option(
            "--texts",
            metavar="FILE",
            rich_help_panel=Panel.DATA,
            help="Instead of images: a file with one text a line, a table, or - for standard input.",
        ),
    ] = None
    text_column: Annotated[
        str | None,
        typer.Option(
            "--text-column",
            metavar="NAME",
            rich_help_panel=Panel.DATA,
            help="The column of --texts to embed, in a CSV, JSONL or Parquet file. Default: caption, title, text, or "
            "the only one.",
        ),
    ] = None
    output: Annotated[
        OutputPath,
        typer.Option(
            "--output",
            "-o",
            parser=output_path,
            metavar="FILE|DIR/",
            show_default=False,
            rich_help_panel=Panel.OUTPUT,
            help="The .parquet, .npz or .safetensors file to write; a folder gets a Parquet file for every 512 images.",
        ),
    ]
    overwrite: o.Overwrite = False
    resume: Annotated[
        bool,
        typer.Option(
            "--resume",
            rich_help_panel=Panel.OUTPUT,
            help="Resume the run that wrote this folder; start one if there was none.",
        ),
    ] = False


@command
def embed(options: EmbedOptions) -> None:
    """Write the embeddings of images, or of texts, to a file: normalised, float32, with what they were made from.

    An image that could not be read is in the file with the reason. The file appears only when it is complete.
    """
    with ExitStack() as scratch:  # holds the images of tars while they are embedded
        unreadable = _embed(options, scratch)
    finish(unreadable, ignore_errors=options.ignore_errors)


def _embed(options: EmbedOptions, scratch: ExitStack) -> int:
    """Write the file; return how many images could not be read."""
    from zeroshot_cli.embed.embeddings_file import EmbeddingsFile, check_embeddings_file, check_room, compared

    # What takes no time comes first: a mistake shows before the model is loaded.
    folder = folder_among([options.output], {"--texts": options.texts})
    options = options.with_outputs_here()
    earlier = None
    if folder is not None:
        check_folder(folder, overwrite=options.overwrite, resume=options.resume)
        earlier = earlier_record(folder) if options.resume else None
    elif options.resume:
        raise UsageError("--resume needs --output DIR/, a folder of parts; a file appears only when it is complete")
    else:
        check_embeddings_file(options.output, overwrite=options.overwrite)
    options.check_engine(parts=folder is not None)
    if options.texts is not None and options.engine is Engine.RAY:
        raise UsageError(f"--engine ray is for images, and --texts {options.texts} names texts; omit it")
    part = part_images(options.task_images, earlier) if folder else None
    done = earlier is not None and earlier.complete
    cluster = None if done else scratch.enter_context(options.cluster(part))
    source = source_of(options, scratch, folder)
    if folder is None:
        check_room(options.output, source.names)
    if done and earlier is not None and not earlier.has_done(len(source.items)):
        cluster = scratch.enter_context(options.cluster(part))

    _, model = options.load_for(cluster, options.model, options.pretrained, len(source.items))

    from zeroshot_cli.embed.batches import auto_batch_size

    quiet = options.quiet
    # Counted as classify does: with the same batches, cached embeddings serve both.
    size = o.as_count(options.batch_size) or (earlier and earlier.resolved.get("batch_size"))
    size = size or auto_batch_size(source.tried, model)
    what = counted(len(source.items), source.noun)
    note(f"{model.title} on {model.device} in {model.computing}; {what}", quiet=quiet or not options.verbose)
    options.say_share(source.share)
    note_assumed(assumed_of(source.assumed, model.notes), quiet=quiet, verbose=options.verbose)
    about = _about(model) | source.about(model, size)
    if isinstance(source, Images) and folder is not None:
        resolved = {"batch_size": size, "part_images": part, "folder": os.getcwd()}  # noqa: PTH109
        record = RunRecord(settings=compared(about), resolved=resolved, versions=versions("pillow"))
        unreadable = _fill(folder, source, record, model, about, cluster)
    else:
        rows = source.rows(model, size, cluster)
        file = EmbeddingsFile(
            options.output, source.subject, width=model.embed_dim, about=about, overwrite=options.overwrite
        )
        with file, progress_bar(quiet=quiet) as bar, closing(rows):  # whatever happens, the decoders end now
            count = bar.counter(
                "embedding", f"{source.noun}s", status=None if cluster is None else cluster.engine.status
            )
            unreadable = _write(file, rows, len(source.items), count)
    options.send_outputs()
    wrote = options.shown_output(options.output)
    for text in (*source.warnings, f"wrote {wrote}: {_sentence(source, unreadable, model)}"):
        note(text, quiet=quiet)
    return unreadable


def _fill(
    folder: Path,
    source: Images,
    record: RunRecord,
    model: "LoadedModel",
    about: Mapping[str, str],
    cluster: OnRay | None,
) -> int:
    """Fill a folder with parts; return how many of all images could not be read."""
    from zeroshot_cli.embed.parts import EmbeddingParts
    from zeroshot_cli.remote.address import shown_address
    from zeroshot_cli.results.shards.parts import PartSink, open_parts

    def shown(path: str) -> str:
        return source.shown(shown_address(path))

    how = {"overwrite": source.options.overwrite, "resume": source.options.resume}
    with open_parts(folder, record, cast("Manifest", source.items), shown=shown, **how) as outputs:
        for text in outputs.notes:
            note(text, quiet=source.options.quiet)
        rest = replace(source, items=outputs.remaining(source.items))
        parts, size = EmbeddingParts(folder.absolute(), model.embed_dim, about), int(outputs.resolved["batch_size"])
        counts = outputs.kept
        with progress_bar(quiet=source.options.quiet) as bar, ExitStack() as ending:
            count = bar.counter("embedding", "images", status=None if cluster is None else cluster.engine.status)
            if cluster is not None and not source.tars:
                filled = ending.enter_context(closing(cluster.filled(parts, model, rest.items, size)))
                for part in filled:
                    counts = counts.with_counts(part)
                    count(counts.images - outputs.kept.images, len(rest.items))
            else:
                rows = ending.enter_context(closing(rest.rows(model, size, cluster)))
                unreadable = _write(PartSink(outputs.missing, parts), rows, len(rest.items), count)
                counts = counts.with_counts(Counts(len(rest.items) - unreadable, unreadable))
        outputs.finish(counts)
    return counts.unreadable


def _write(
    file: "EmbeddingsFile | PartSink",
    blocks: "Iterable[list[Row]]",
    total: int,
    on_progress: Callable[[int, int], None],
) -> int:
    """Write all rows; return how many have no embedding."""
    done = unreadable = 0
    for block in blocks:
        file.write(block)
        done += len(block)
        unreadable += sum(reason is not None for _, _, reason in block)
        on_progress(done, total)
    return unreadable


def _about(model: "LoadedModel") -> dict[str, str]:
    return {
        "model": model.name,
        "pretrained": model.pretrained or "",
        "fingerprint": model.fingerprint,
        "precision": model.computing,
        "device": model.device.type,
        "versions": json.dumps(versions("pillow")),
    }


def _sentence(source: Images | Texts, unreadable: int, model: "LoadedModel") -> str:
    parts = [f"{counted(len(source.items) - unreadable, 'embedding')} of {model.embed_dim} numbers"]
    if unreadable:
        parts.append(f"{counted(unreadable, source.noun)} could not be read")
    return f"{', '.join(parts)}, model {model.title}."
