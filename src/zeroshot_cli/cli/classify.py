"""`zeroshot classify`: label images with words of your own."""

import os
import re
import shlex
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from typing import TYPE_CHECKING

import typer

from zeroshot_cli.cli import options as o
from zeroshot_cli.cli.classes import no_labels, read_classes
from zeroshot_cli.cli.classify_run import Places, Run
from zeroshot_cli.console.terminal import ProgressBar, TableWriter, console_for, note, progress_bar
from zeroshot_cli.display import counted
from zeroshot_cli.errors import DataError, UnreadableImage, UsageError
from zeroshot_cli.filing.manifest import SortMode
from zeroshot_cli.records import Counts
from zeroshot_cli.results.formats import Format, Sink, deliver, open_writer

if TYPE_CHECKING:
    from zeroshot_cli.images.find import FoundImages
    from zeroshot_cli.results.outputs import Outputs


_EXAMPLE_WORDS = ("cat", "dog")
_LONGEST_EXAMPLE = 200  # characters; a shell makes a thousand paths of photos/*
_WORD = re.compile(r"[^\W_][^\W_ -]*([ -][^\W_ -]+)*")  # no path, no glob, no option


def classify(
    context: typer.Context,
    images: o.Images,
    labels: o.LabelsFile = None,
    label: o.LabelTexts = None,
    prompts: o.PromptsName = None,
    classifier: o.ClassifierFile = None,
    top_k: o.TopK = None,
    multi_label: o.MultiLabel = False,
    min_score: o.MinScore = None,
    min_probability: o.MinProbability = None,
    min_margin: o.MinMargin = None,
    background: o.Background = None,
    null: o.NullSeparated = False,
    output: o.Outputs = None,
    overwrite: o.Overwrite = False,
    resume: o.Resume = False,
    form: o.OutputFormat = None,
    sort_into: o.SortInto = None,
    sort_mode: o.SortModeOption = SortMode.COPY,
    exact_decode: o.ExactDecode = False,
    max_pixels: o.MaxPixels = None,
    decode_timeout: o.DecodeTimeout = None,
    ignore_errors: o.IgnoreErrors = False,
    cache: o.Cache = True,
    quiet: o.Quiet = False,
    verbose: o.Verbose = False,
    debug: o.Debug = False,
    model: o.ModelIfAny = None,
    pretrained: o.Pretrained = None,
    offline: o.Offline = False,
    device: o.Device = o.AUTO,
    precision: o.PrecisionOption = o.Precision.AUTO,
    batch_size: o.BatchSize = o.AUTO,
    workers: o.Workers = o.AUTO,
) -> None:
    """Label images with words of your own.

    Every image is one row (with --top-k N, N rows); one that could not be read is a row with its reason.
    """
    # What takes no time comes first: a mistake shows before the model is loaded.
    if labels is None and not label and classifier is None:
        raise UsageError(no_labels(_with_labels(context.find_root().obj or (), images)))
    classes = read_classes(labels, label or [], prompts, classifier, background)
    rules = classes.rules(min_score, min_probability, min_margin, multi_label=multi_label)
    places = Places(tuple(output or ()), sort_into, sort_mode, overwrite=overwrite, resume=resume)
    places.check(every_label=multi_label)
    o.check_cache(cache)
    earlier = places.earlier()
    found = _find(images, null=null, places=places, finished=earlier is not None and earlier.complete)

    from zeroshot_cli.embed.batches import auto_batch_size
    from zeroshot_cli.models.load import load

    name, weights = classes.model(model, pretrained)
    loaded = load(name, weights, device=device, precision=precision.value, offline=offline)
    size = (
        o.as_count(batch_size)
        or (earlier and earlier.resolved.get("batch_size"))
        or auto_batch_size(found.count, loaded)
    )
    what = f"{counted(len(found.items), 'image')}, {counted(len(classes.labels), 'label')}"
    setting = f"{loaded.name} on {loaded.device} in {loaded.precision}, batches of {size}"
    note(f"{setting}; {what}, prompts {classes.prompts.name}", quiet=quiet or not verbose)
    run = Run(
        classes.classifier(loaded, cache=cache, quiet=quiet),
        classes,
        rules,
        top_k=top_k,
        decoding=o.decoding(exact=exact_decode, max_pixels=max_pixels, timeout=decode_timeout),
        batch_size=size,
        batch_size_given=batch_size,
        workers=o.as_count(workers),
        cache=cache,
    )
    with places.open(run, found) as outputs:
        for text in outputs.notes:
            note(text, quiet=quiet)
        counts = _deliver(run, outputs, found, form or _default_format(), shown=places.shown, quiet=quiet)
        unfiled = places.finish(run, outputs, counts, quiet=quiet)
    note(counts.sentence(), quiet=quiet)
    raise typer.Exit(counts.exit_code(ignore_errors=ignore_errors) or (UnreadableImage.exit_code if unfiled else 0))


def _with_labels(arguments: Sequence[str], images: Sequence[str]) -> str:
    """Return the user's own command line with labels added; words among the images that are no files become these.

    It names any folder where no image is left, where a word stands elsewhere too, and where it would be long.
    """
    words = [image for image in images if _WORD.fullmatch(image) and not os.path.exists(image)]  # noqa: PTH110
    if len(images) == 1:
        words = []
    options = [part for word in dict.fromkeys(words or _EXAMPLE_WORDS) for part in ("--label", word)]
    kept = [argument for argument in arguments if argument not in words]
    end = kept.index("--") if "--" in kept else len(kept)
    example = shlex.join(["zeroshot", *kept[:end], *options, *kept[end:]])
    clear = len(words) < len(images) and all(arguments.count(word) == words.count(word) for word in words)
    own = clear and len(example) <= _LONGEST_EXAMPLE
    return example if own else f"zeroshot classify FOLDER {shlex.join(options)}"


def _find(images: list[str], *, null: bool, places: Places, finished: bool) -> "FoundImages":
    """Return the images; none where an earlier run has done them all, and perhaps moved them since."""
    from zeroshot_cli.images.find import FoundImages, find_images

    stdin = getattr(sys.stdin, "buffer", None)
    try:
        return find_images(images, stdin=stdin, null_separated=null, exclude=places.sort_into)
    except DataError:
        if not finished:
            raise
        return FoundImages((), 0)


def _deliver(run: Run, outputs: "Outputs", found: "FoundImages", form: Format, *, shown: int, quiet: bool) -> Counts:
    """Classify what is still to do, into files and standard output; return the counts of all images."""
    items = outputs.remaining(found.items)
    with closing(run.blocks(items, shown=shown)) as blocks, _standard_output(run, form, quiet=quiet) as (bar, out):
        tracked = bar.track(blocks, len(items), "classifying", images=len)
        return deliver(tracked, [*outputs.sinks, out], ignored=found.ignored, before=outputs.kept)


def _default_format() -> Format:
    return Format.TABLE if sys.stdout.isatty() else Format.CSV


@contextmanager
def _standard_output(run: Run, form: Format, *, quiet: bool) -> Iterator[tuple[ProgressBar, Sink]]:
    """Give a progress bar and the sink of standard output; rows on a terminal need no bar."""
    rows_on_terminal = form is not Format.TABLE and sys.stdout.isatty()
    with ExitStack() as stack:
        bar_stack = ExitStack()
        bar = bar_stack.enter_context(progress_bar(quiet=quiet or rows_on_terminal))
        sink: Sink
        if form is Format.TABLE:
            sink = TableWriter(console_for(sys.stdout), ranks=run.ranks, paused=bar.paused)
        else:
            sink = open_writer(sys.stdout.buffer, form)
        # Tables are completed after the bar is gone.
        stack.callback(sink.close)
        stack.push(bar_stack)
        yield bar, sink
