"""`zeroshot classify` labels images with words of your own; `zeroshot unsort` undoes its --sort-into."""

import os
import re
import shlex
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from zeroshot_cli.cli import options as o
from zeroshot_cli.cli.classify_options import ClassifyOptions
from zeroshot_cli.cli.classify_run import ClassifyRun
from zeroshot_cli.cli.command import command, finish
from zeroshot_cli.cli.commands.build import Classes, no_labels, read_classes
from zeroshot_cli.cli.output_folder import keep_on_disk, part_images
from zeroshot_cli.console.terminal import note, note_assumed
from zeroshot_cli.disk import similar_path
from zeroshot_cli.display import counted
from zeroshot_cli.errors import DataError, UsageError
from zeroshot_cli.filing.manifest import SortMode
from zeroshot_cli.images.find import Keep, in_memory
from zeroshot_cli.records import assumed_of
from zeroshot_cli.results.formats import OutputEncoding

if TYPE_CHECKING:
    from zeroshot_cli.classify.classifier import Adapting
    from zeroshot_cli.classify.rejection import Rules
    from zeroshot_cli.images.find import FoundImages
    from zeroshot_cli.results.run_record import RunRecord

_EXAMPLE_WORDS = ("cat", "dog")
_LONGEST_EXAMPLE = 200  # characters; a shell makes a thousand paths of photos/*
_WORD = re.compile(r"[^\W_][^\W_ -]*([ -][^\W_ -]+)*")  # not a path, a glob or an option


@command
def classify(options: ClassifyOptions, context: typer.Context) -> None:
    """Label images with words of your own.

    Every image is one row, N rows with --top-k N; an image that could not be read is a row with the reason.
    """
    # What takes no time comes first: a mistake shows before the model is loaded.
    _check_label_among_images(context.find_root().obj or (), options.images)
    if options.labels is None and not options.label and options.classifier is None:
        raise UsageError(no_labels(_with_labels(context.find_root().obj or (), options.images)))
    classes = read_classes(options, options.classifier, options.background)
    rules = classes.rules(options.thresholds(), multi_label=options.multi_label, level=options.level)
    corrected = _corrected(options, classes)
    folder = options.folder()
    options = options.with_outputs_here()
    _check_outputs(options)
    options.check_cache()
    options.check_engine(parts=folder is not None)
    _check_adapt(options, classes, rules)
    earlier = _earlier_run(options)
    part = part_images(options.task_images, earlier) if folder else None
    with ExitStack() as scratch:
        done = earlier is not None and earlier.complete
        cluster = None if done else scratch.enter_context(options.cluster(part))
        keep = keep_on_disk(folder, scratch) if folder else in_memory
        found = _find(options, keep, finished=done)
        tried = found.count  # by all shards, so that their batches are those of one run
        _check_adapt(options, classes, rules, tried)
        found, share = options.share(found, always=folder is not None)
        if options.sort_into is not None:
            from zeroshot_cli.filing.sort import check_on_disk, check_sorted_before

            check_on_disk(found.paths())
            check_sorted_before(options.sort_into, found.paths(), classes.answers)

        if done and earlier is not None and not earlier.has_done(len(found.items)):
            cluster = scratch.enter_context(options.cluster(part))
        model, there = options.load_for(cluster, *classes.model(options.model, options.pretrained), len(found.items))

        from zeroshot_cli.embed.batches import auto_batch_size

        size = o.as_count(options.batch_size) or (earlier and earlier.resolved.get("batch_size"))
        size = size or auto_batch_size(tried, there)
        setting = f"{model.title} on {there.device} in {there.computing}, batches of {size}"
        what = f"{counted(len(found.items), 'image')}, {counted(len(classes.labels), 'label')}"
        note(f"{setting}; {what}, prompts {classes.prompts.name}", quiet=options.quiet or not options.verbose)
        options.say_share(share)
        if doubt := classes.doubt(rules):
            note(doubt, quiet=options.quiet)
        classifier = classes.classifier(model, cache=options.cache, quiet=options.quiet)
        classifier.background = classifier.background_of(rules)
        classifier.model, classifier.corrected = there, corrected
        assumed = assumed_of(found.assumed, classes.assumed, model.notes)
        run = ClassifyRun(classifier, classes, rules, options, size, assumed, _adapting(options), share, cluster, part)
        with run.open_outputs(found) as outputs, run.resumable():
            for text in outputs.notes:
                note(text, quiet=options.quiet)
            note_assumed(run.assumed, quiet=options.quiet, verbose=options.verbose)
            counts = run.deliver(outputs, found)
            unfiled = run.finish(outputs, counts)
        options.send_outputs()
        run.say_the_end(found, outputs, counts)
    finish(unfiled or (counts.unreadable and not options.ignore_errors))


def unsort(
    manifest: Annotated[
        Path,
        typer.Argument(
            metavar="MANIFEST", show_default=False, help="The manifest.csv that --sort-into wrote, or its folder."
        ),
    ],
    yes: Annotated[
        bool,
        typer.Option("--yes", "-y", help="Restore also to folders that you did not sort from on this machine."),
    ] = False,
    quiet: o.Quiet = False,
    debug: o.Debug = False,
) -> None:
    """Undo classify --sort-into: move files back, remove copies and links.

    Files that have changed since are kept, and nothing is overwritten; what is left is named, with exit code 4.
    """
    from zeroshot_cli.filing.unsort import undo

    undone = undo(manifest, elsewhere=yes)
    for item in undone.kept:
        note(f"{item.path}: {item.reason}")
    note(undone.sentence(), quiet=quiet)
    finish(len(undone.kept))


# Before the model is loaded


def _check_label_among_images(arguments: Sequence[str], images: Sequence[str]) -> None:
    """Raise UsageError for the second word of `--label cat dog`, which would be an image that is not there."""
    for option, label, word in zip(arguments, arguments[1:], arguments[2:], strict=False):
        if option == "--label" and word in images and _WORD.fullmatch(word) and not os.path.exists(word):  # noqa: PTH110
            both = shlex.join(["--label", label, "--label", word])
            raise UsageError(f"there is no image or folder {word!r}; for two labels, write {both}")


def _with_labels(arguments: Sequence[str], images: Sequence[str]) -> str:
    """Return the user's own command line with labels added; words among the images that are not files become labels.

    The example names FOLDER instead where no image is left, where a word stands elsewhere too, and where it is long.
    """
    words = [image for image in images if _WORD.fullmatch(image) and not os.path.exists(image)]  # noqa: PTH110
    if len(images) == 1:
        words = []
    files = [image for image in images if Path(image).suffix.lower() in (".txt", ".csv", ".yaml", ".json")]
    if len(files) == 1 and len(images) > 1 and arguments.count(files[0]) == 1:
        place = arguments.index(files[0])
        return shlex.join(["zeroshot", *arguments[:place], "--labels", *arguments[place:]])
    options = [part for word in dict.fromkeys(words or _EXAMPLE_WORDS) for part in ("--label", word)]
    kept = [argument for argument in arguments if argument not in words]
    end = kept.index("--") if "--" in kept else len(kept)
    example = shlex.join(["zeroshot", *kept[:end], *options, *kept[end:]])
    clear = len(words) < len(images) and all(arguments.count(word) == words.count(word) for word in words)
    own = clear and len(example) <= _LONGEST_EXAMPLE
    return example if own else f"zeroshot classify FOLDER {shlex.join(options)}"


def _check_outputs(options: ClassifyOptions) -> None:
    """Raise now what would fail after an hour's work."""
    from zeroshot_cli.filing.sort import check_sort_into
    from zeroshot_cli.results.shards.parts import check_folder
    from zeroshot_cli.results.targets import check_outputs

    if options.sort_into is None and options.sort_mode is not SortMode.COPY:
        raise UsageError(f"--sort-mode {options.sort_mode} needs --sort-into DIR; add it")
    if (folder := options.folder()) is not None:
        check_folder(folder, overwrite=options.overwrite, resume=options.resume)
    else:
        check_outputs(options.targets(), overwrite=options.overwrite, resume=options.resume)
    extensions = {path.suffix.lower() for path in options.targets().paths}
    if options.thumbnails and ".xlsx" not in extensions:
        raise UsageError("--thumbnails shows the images in an .xlsx file; add --output FILE.xlsx")
    tables = extensions | {options.summary.suffix.lower() if options.summary else ""}
    if options.output_encoding is not OutputEncoding.UTF_8 and tables.isdisjoint((".csv", ".tsv")):
        raise UsageError(f"--output-encoding {options.output_encoding} is for .csv and .tsv files; name one of these")
    if options.sort_into is not None and options.shard is not None:
        raise UsageError("--sort-into files all images of a run, and --shard has some of them; omit one of them")
    if options.sort_into is not None and options.frames == "each":
        raise UsageError("--sort-into files images, and --frames each labels their frames; omit one of them")
    if options.sort_into is not None:
        check_sort_into(options.sort_into, options.sort_mode, every_label=options.multi_label)


def _corrected(options: ClassifyOptions, classes: Classes) -> dict[str, str]:
    """Return the labels that people gave images; UsageError where images may have several."""
    if options.corrections is None:
        return {}
    if options.multi_label:
        raise UsageError("--corrections has one label for each image, and --multi-label several; omit one of them")
    if not options.corrections.is_file():
        way_out = similar_path(str(options.corrections)) or "zeroshot review makes one"
        raise UsageError(f"--corrections {options.corrections}: there is no such file; {way_out}")
    from zeroshot_cli.datasets.examples import read_corrections

    return read_corrections(options.corrections, classes.labels)


def _check_adapt(options: ClassifyOptions, classes: Classes, rules: "Rules", images: int | None = None) -> None:
    """Raise UsageError where --adapt makes no sense, once for the options and once for the number of images."""
    if not options.adapt:
        return
    from zeroshot_cli.classify.adapt import check_adapting

    if options.shard is not None:
        raise UsageError("--adapt looks at all images together, and --shard only at some of them; omit one of them")
    if options.resume:
        raise UsageError("--adapt looks at all images together, and --resume only at those left; omit one of them")
    tuning = None if classes.saved is None else classes.saved.tuning
    check_adapting(classes.labels.names, rules, tuning=tuning, images=images)


def _adapting(options: ClassifyOptions) -> "Adapting | None":
    from zeroshot_cli.classify.classifier import Adapting

    return Adapting() if options.adapt else None


def _earlier_run(options: ClassifyOptions) -> "RunRecord | None":
    """Return the record of the run to resume."""
    from zeroshot_cli.results.shards.parts import earlier_record
    from zeroshot_cli.results.targets import earlier_run

    if not options.resume:
        return None
    folder = options.folder()
    return earlier_run(options.targets()) if folder is None else earlier_record(folder)


def _find(options: ClassifyOptions, keep: Keep, *, finished: bool) -> "FoundImages":
    """Return the images; none where an earlier run has done them all, and perhaps moved them since."""
    from zeroshot_cli.images.find import FoundImages, find_images

    stdin, selection = getattr(sys.stdin, "buffer", None), options.selection(options.sort_into)
    try:
        found = find_images(options.images, stdin=stdin, null_separated=options.null, selection=selection, keep=keep)
        return options.with_frames(found)
    except (DataError, UsageError):
        if not finished:
            raise
        return FoundImages(keep([()]))
