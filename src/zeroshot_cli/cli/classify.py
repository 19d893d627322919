"""`zeroshot classify`: label images with words of your own."""

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import typer

from zeroshot_cli.cli import options as o
from zeroshot_cli.cli.classes import read_classes
from zeroshot_cli.report.console import ProgressBar, TableWriter, console_for, note, progress_bar
from zeroshot_cli.report.deliver import counted, deliver
from zeroshot_cli.report.files import FileWriter, Format, Sink, check_outputs, open_writer


def classify(
    images: o.Images,
    labels: o.LabelsFile = None,
    label: o.LabelTexts = None,
    prompts: o.PromptsName = None,
    classifier: o.ClassifierFile = None,
    top_k: o.TopK = 1,
    null: o.NullSeparated = False,
    output: o.Outputs = None,
    overwrite: o.Overwrite = False,
    form: o.OutputFormat = None,
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
    from zeroshot_cli.images import find_images

    # What takes no time comes first: a mistake shows before the model is loaded.
    classes = read_classes(labels, label or [], prompts, classifier)
    if classes.saved is not None and classes.saved.thresholds:
        note(f"{classifier}: its rejection thresholds are not applied yet; every image gets a label", quiet=quiet)
    check_outputs(output or [], overwrite=overwrite)
    found = find_images(images, stdin=getattr(sys.stdin, "buffer", None), null_separated=null)

    from zeroshot_cli.encode.images import auto_batch_size
    from zeroshot_cli.weights.load import load

    name, weights = classes.model(model, pretrained)
    loaded = load(name, weights, device=device, precision=precision.value, offline=offline)
    size = o.as_count(batch_size) or auto_batch_size(sum(isinstance(item, str) for item in found.items))
    setting = f"{loaded.name} on {loaded.device} in {loaded.precision}, batches of {size}"
    job = (
        f"{counted(len(found.items), 'image')}, {counted(len(classes.labels), 'label')}, prompts {classes.prompts.name}"
    )
    note(f"{setting}; {job}", quiet=quiet or not verbose)
    chooser = classes.classifier(loaded, cache=cache, quiet=quiet)
    results = chooser.predict(found.items, top_k=top_k, batch_size=size, workers=o.as_count(workers))
    with _sinks(output or [], form or _default_format(), overwrite=overwrite, ranks=top_k > 1, quiet=quiet) as (
        sinks,
        bar,
    ):
        counts = deliver(bar.track(results, len(found.items), "classifying"), sinks, ignored=found.ignored)
    note(counts.sentence(), quiet=quiet)
    raise typer.Exit(counts.exit_code(ignore_errors=ignore_errors))


def _default_format() -> Format:
    return Format.TABLE if sys.stdout.isatty() else Format.CSV


@contextmanager
def _sinks(
    outputs: Sequence[Path], form: Format, *, overwrite: bool, ranks: bool, quiet: bool
) -> Iterator[tuple[list[Sink], ProgressBar]]:
    """Open the files and standard output, and close them whatever happens; rows on a terminal need no progress bar."""
    rows_on_terminal = form is not Format.TABLE and sys.stdout.isatty()
    with ExitStack() as stack:
        sinks: list[Sink] = [*_open_all(outputs, overwrite=overwrite)]
        for sink in sinks:
            stack.callback(sink.close)
        # Tables are completed after the bar is gone, so standard output is closed last and the bar is closed first.
        bar_stack = ExitStack()
        bar = bar_stack.enter_context(progress_bar(quiet=quiet or rows_on_terminal))
        sinks.append(_stdout(form, bar, ranks=ranks))
        stack.callback(sinks[-1].close)
        stack.push(bar_stack)
        yield sinks, bar


def _open_all(outputs: Sequence[Path], *, overwrite: bool) -> list[FileWriter]:
    """Open every file or none: where one cannot be opened, those made before it are removed."""
    with ExitStack() as undo:
        writers = []
        for path in outputs:
            if not os.path.lexists(path):
                undo.callback(path.unlink, missing_ok=True)
            writers.append(open_writer(path, overwrite=overwrite))
            undo.callback(writers[-1].close)  # before the file is removed
        undo.pop_all()
    return writers


def _stdout(form: Format, bar: ProgressBar, *, ranks: bool) -> Sink:
    if form is Format.TABLE:
        return TableWriter(console_for(sys.stdout), ranks=ranks, paused=bar.paused)
    return open_writer(sys.stdout.buffer, form)
