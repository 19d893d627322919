"""`zeroshot classify` labels images with words of your own; `zeroshot unsort` undoes its --sort-into."""

import hashlib
import json
import os
import re
import shlex
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from zeroshot_cli.cli import options as o
from zeroshot_cli.cli.classify_options import ClassifyOptions
from zeroshot_cli.cli.command import command, finish
from zeroshot_cli.cli.commands.build import Classes, no_labels, read_classes
from zeroshot_cli.console.terminal import ProgressBar, TableWriter, console_for, note, note_assumed, progress_bar
from zeroshot_cli.display import counted
from zeroshot_cli.errors import DataError, UsageError
from zeroshot_cli.filing.manifest import SortMode
from zeroshot_cli.records import Counts, Result, assumed_of, versions
from zeroshot_cli.results.formats import Extension, Format, Sink, deliver, extension_of, stream_writer

if TYPE_CHECKING:
    from zeroshot_cli.classify.classifier import Adapting, Classifier
    from zeroshot_cli.classify.rejection import Rules
    from zeroshot_cli.images.find import FoundImages
    from zeroshot_cli.results.outputs import Outputs
    from zeroshot_cli.results.run_record import RunRecord
    from zeroshot_cli.results.targets import Targets

Results = Callable[[], Iterator[Result]]
SHOWN_IN_REPORT = 5  # labels per image in an HTML report, whatever --top-k keeps

_EXAMPLE_WORDS = ("cat", "dog")
_LONGEST_EXAMPLE = 200  # characters; a shell makes a thousand paths of photos/*
_WORD = re.compile(r"[^\W_][^\W_ -]*([ -][^\W_ -]+)*")  # not a path, a glob or an option


@command
def classify(options: ClassifyOptions, context: typer.Context) -> None:
    """Label images with words of your own.

    Every image is one row, N rows with --top-k N; an image that could not be read is a row with the reason.
    """
    # What takes no time comes first: a mistake shows before the model is loaded.
    if options.labels is None and not options.label and options.classifier is None:
        raise UsageError(no_labels(_with_labels(context.find_root().obj or (), options.images)))
    classes = read_classes(options, options.classifier, options.background)
    rules = classes.rules(options.thresholds(), multi_label=options.multi_label)
    _check_outputs(options)
    options.check_cache()
    _check_adapt(options, classes, rules)
    earlier = _earlier_run(options)
    found = _find(options, finished=earlier is not None and earlier.complete)
    _check_adapt(options, classes, rules, found.count)
    if options.sort_into is not None:
        from zeroshot_cli.filing.sort import check_sorted_before

        check_sorted_before(options.sort_into, found.paths(), options.sort_mode, classes.labels.names)

    from zeroshot_cli.embed.batches import auto_batch_size

    model = options.load(*classes.model(options.model, options.pretrained))
    size = o.as_count(options.batch_size) or (earlier and earlier.resolved.get("batch_size"))
    size = size or auto_batch_size(found.count, model)
    setting = f"{model.title} on {model.device} in {model.precision}, batches of {size}"
    what = f"{counted(len(found.items), 'image')}, {counted(len(classes.labels), 'label')}"
    note(f"{setting}; {what}, prompts {classes.prompts.name}", quiet=options.quiet or not options.verbose)
    if doubt := classes.doubt(rules):
        note(doubt, quiet=options.quiet)
    classifier = classes.classifier(model, cache=options.cache, quiet=options.quiet)
    assumed = assumed_of(found.assumed, classes.assumed, model.notes)
    run = _Run(classifier, classes, rules, options, size, assumed, _adapting(options))
    with run.open_outputs(found) as outputs:
        for text in outputs.notes:
            note(text, quiet=options.quiet)
        note_assumed(run.assumed, quiet=options.quiet, verbose=options.verbose)
        counts = run.deliver(outputs, found)
        unfiled = run.finish(outputs, counts)
    for text in (*found.warnings, *run.adapted, f"{counts.sentence().removesuffix('.')}, model {model.title}."):
        note(text, quiet=options.quiet)
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


def _with_labels(arguments: Sequence[str], images: Sequence[str]) -> str:
    """Return the user's own command line with labels added; words among the images that are not files become labels.

    The example names FOLDER instead where no image is left, where a word stands elsewhere too, and where it is long.
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


def _check_outputs(options: ClassifyOptions) -> None:
    """Raise now what would fail after an hour's work."""
    from zeroshot_cli.filing.sort import check_sort_into
    from zeroshot_cli.results.targets import check_outputs

    if options.sort_into is None and options.sort_mode is not SortMode.COPY:
        raise UsageError(f"--sort-mode {options.sort_mode} needs --sort-into DIR; add it")
    check_outputs(_targets(options), overwrite=options.overwrite, resume=options.resume)
    if options.sort_into is not None and options.frames == "each":
        raise UsageError("--sort-into files images, and --frames each labels their frames; omit one of them")
    if options.sort_into is not None:
        check_sort_into(options.sort_into, options.sort_mode, every_label=options.multi_label)


def _check_adapt(options: ClassifyOptions, classes: Classes, rules: "Rules", images: int | None = None) -> None:
    """Raise UsageError where --adapt makes no sense, once for the options and once for the number of images."""
    if not options.adapt:
        return
    from zeroshot_cli.classify.adapt import check_adapting

    if options.resume:
        raise UsageError("--adapt looks at all images together, and --resume only at those left; omit one of them")
    tuning = None if classes.saved is None else classes.saved.tuning
    check_adapting(classes.labels.names, rules, tuning=tuning, images=images)


def _adapting(options: ClassifyOptions) -> "Adapting | None":
    from zeroshot_cli.classify.classifier import Adapting

    return Adapting() if options.adapt else None


def _earlier_run(options: ClassifyOptions) -> "RunRecord | None":
    """Return the record of the run to resume."""
    from zeroshot_cli.results.targets import earlier_run

    return earlier_run(_targets(options)) if options.resume else None


def _targets(options: ClassifyOptions) -> "Targets":
    """Return the outputs; a folder to sort into is known by its manifest."""
    from zeroshot_cli.filing.manifest import MANIFEST
    from zeroshot_cli.results.targets import Targets

    return Targets(options.output, None if options.sort_into is None else options.sort_into / MANIFEST)


def _find(options: ClassifyOptions, *, finished: bool) -> "FoundImages":
    """Return the images; none where an earlier run has done them all, and perhaps moved them since."""
    from zeroshot_cli.images.find import FoundImages, find_images

    stdin, selection = getattr(sys.stdin, "buffer", None), options.selection(options.sort_into)
    try:
        found = find_images(options.images, stdin=stdin, null_separated=options.null, selection=selection)
        return options.with_frames(found)
    except (DataError, UsageError):
        if not finished:
            raise
        return FoundImages(())


@dataclass(frozen=True)
class _Run:
    """A classifier with everything that its answers depend on, and where they go."""

    classifier: "Classifier"
    classes: Classes
    rules: "Rules"
    options: ClassifyOptions
    batch_size: int
    assumed: tuple[str, ...]
    adapting: "Adapting | None" = None

    @property
    def adapted(self) -> tuple[str, ...]:
        """What a look at all images together has changed, as a sentence; nothing without --adapt."""
        if self.adapting is None:
            return ()
        return (f"--adapt changed {self.adapting.changed} of {counted(self.adapting.images, 'answer')}",)

    def settings(self) -> dict[str, Any]:
        """Return what `--resume` compares, in the order in which a difference is reported."""
        model, classes, background = self.classifier.model, self.classes, self.classes.background
        tuning = self.classifier.tuning
        return {
            "model": model.name,
            "pretrained": model.pretrained,
            "labels": list(classes.labels.names),
            "prompts": classes.prompts.name,
            "background": classes.behind,
            "top_k": self.options.top_k,
            **asdict(self.rules),
            "precision": model.precision,
            "device": model.device.type,
            "batch_size": self.options.batch_size,
            "exact_decode": self.options.exact_decode,
            "excel_safe": self.options.excel_safe or None,  # None, as in records that lack it
            "max_pixels": self.options.decoding().max_pixels,
            **self.options.reading(),
            "texts of the labels": _hash(classes.prompts.fill(classes.labels)),
            "texts of the background": _hash([] if background is None else classes.prompts.fill(background)),
            "weights": model.fingerprint,
            "tuning": tuning and tuning.fingerprint,
            "adapt": self.options.adapt or None,
        }

    def open_outputs(self, found: "FoundImages") -> "AbstractContextManager[Outputs]":
        """Open the output files, all or none."""
        from zeroshot_cli.results.outputs import open_outputs
        from zeroshot_cli.results.run_record import RunRecord

        options = self.options
        settings = {**self.settings(), "sort_mode": options.sort_mode if options.sort_into else None}
        resolved = {"batch_size": self.batch_size}
        record = RunRecord(settings=settings, resolved=resolved, versions=versions("pillow"), assumed=self.assumed)
        targets, paths = _targets(options), found.paths()
        return open_outputs(targets, record, expected=paths, overwrite=options.overwrite, resume=options.resume)

    def deliver(self, outputs: "Outputs", found: "FoundImages") -> Counts:
        """Classify what is still to do, into files and standard output; return the counts of all images."""
        from zeroshot_cli.embed.image_cache import ImageCache

        options, items = self.options, outputs.remaining(found.items)
        in_report = any(extension_of(path) is Extension.HTML for path in options.output)
        blocks = self.classifier.predict_blocks(
            items,
            top_k=options.top_k,
            shown=SHOWN_IN_REPORT if in_report else 0,
            rules=self.rules,
            batch_size=self.batch_size,
            workers=o.as_count(options.workers),
            cache=ImageCache() if options.cache else None,
            decoding=options.decoding(),
            adapting=self.adapting,
        )
        ranks = self.rules.multi_label or (options.top_k or 1) > 1
        form = options.form or (Format.TABLE if sys.stdout.isatty() else Format.CSV)
        with closing(blocks), _standard_output(form, options, ranks=ranks) as (bar, out):
            if self.adapting is None:
                blocks_shown: Iterable[list[Result]] = bar.track(blocks, len(items), "classifying", images=len)
            else:
                self.adapting.track = lambda encoded: bar.track(encoded, len(items), "encoding", images=len)
                self.adapting.on_progress = bar.counter("adapting", "images")
                blocks_shown = blocks
            return deliver(blocks_shown, [*outputs.sinks, out], before=outputs.kept)

    def finish(self, outputs: "Outputs", counts: Counts) -> int:
        """Make the reports and sort the images; return how many could not be filed."""
        unfiled = 0

        def sort(folder: Path, results: Results) -> None:
            nonlocal unfiled
            unfiled = self._sort(folder, results, counts.classified)

        def html(path: Path, results: Results) -> None:
            self._write_report(path, results, counts.classified, outputs.assumed)

        outputs.finish(counts, html=html, sort=sort)
        return unfiled

    def _write_report(self, path: Path, results: Results, total: int, assumed: Sequence[str]) -> None:
        from zeroshot_cli.images.decoder_pool import auto_workers, thumbnails
        from zeroshot_cli.pages.classification import write_html

        workers, decoding = o.as_count(self.options.workers) or auto_workers(), self.options.decoding()
        with progress_bar(quiet=self.options.quiet) as bar:
            write_html(
                path,
                results,
                about=self._about(assumed),
                thumbnails=lambda paths: bar.track(
                    thumbnails(paths, workers=workers, decoding=decoding), total, f"drawing {path.name}"
                ),
            )

    def _about(self, assumed: Sequence[str]) -> list[tuple[str, str]]:
        """Return what a report says of the run."""
        model, classes = self.classifier.model, self.classes
        rules = {name: value for name, value in asdict(self.rules).items() if value}
        rows = {
            "date": datetime.now().astimezone().isoformat(sep=" ", timespec="seconds"),
            "model": model.name,
            "pretrained": model.pretrained or "",
            "fingerprint of the weights": model.fingerprint,
            "labels": ", ".join(classes.labels.names),
            "prompts": f"{classes.prompts.name}\n" + "\n".join(classes.prompts.templates),
            "background": ", ".join(classes.behind or ()),
            "tuned": "" if self.classifier.tuning is None else self.classifier.tuning.sentence(),
            "adapt": ", ".join(self.adapted).removeprefix("--adapt "),
            "rejection": ", ".join(f"{name} {value}" for name, value in rules.items()),
            "computed on": f"{model.device.type} in {model.precision}, batches of {self.batch_size}",
            "decoding": "every pixel" if self.options.exact_decode else "large JPEGs at a smaller scale",
            **{name: value for name, value in self.options.reading().items() if value},
            "assumed": "\n".join(assumed),
            "versions": ", ".join(f"{name} {number}" for name, number in versions("pillow").items()),
        }
        return [(name, value) for name, value in rows.items() if value]

    def _sort(self, folder: Path, results: Results, total: int) -> int:
        from zeroshot_cli.filing.sort import sort_into

        with progress_bar(quiet=self.options.quiet) as bar:
            count = bar.counter("sorting", "images")
            done = sort_into(
                folder,
                results,
                self.options.sort_mode,
                every_label=self.rules.multi_label,
                labels=self.classes.labels.names,
                on_progress=lambda number: count(number, total),
            )
        for item in done.failed:
            note(f"{item.path}: {item.reason}", quiet=self.options.quiet)
        note(done.sentence(folder), quiet=self.options.quiet)
        return len(done.failed)


def _hash(texts: Sequence[Sequence[str]]) -> str:
    return hashlib.sha256(json.dumps([list(some) for some in texts]).encode()).hexdigest()


@contextmanager
def _standard_output(form: Format, options: ClassifyOptions, *, ranks: bool) -> Iterator[tuple[ProgressBar, Sink]]:
    """Yield a progress bar and the sink of standard output; rows on a terminal need no bar."""
    rows_on_terminal = form is not Format.TABLE and sys.stdout.isatty()
    with ExitStack() as stack:
        bar_stack = ExitStack()
        bar = bar_stack.enter_context(progress_bar(quiet=options.quiet or rows_on_terminal))
        sink: Sink
        if form is Format.TABLE:
            sink = table = TableWriter(console_for(sys.stdout), ranks=ranks, paused=bar.paused)
            stack.callback(table.close)  # after the bar is gone
        else:
            noted = options.reading()["truncated"] is not None
            sink = stream_writer(sys.stdout.buffer, form, noted=noted, excel_safe=options.excel_safe)
        stack.push(bar_stack)
        yield bar, sink
