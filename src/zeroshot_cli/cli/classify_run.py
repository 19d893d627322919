"""A run of `zeroshot classify`: what its answers depend on, where they go, and what it ends with."""

import os
import shlex
import sys
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from functools import partial
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from zeroshot_cli.cli import options as o
from zeroshot_cli.cli.classify_options import ClassifyOptions
from zeroshot_cli.cli.commands.build import Classes
from zeroshot_cli.console.counts import print_counts
from zeroshot_cli.console.results_table import SHOWN_ROWS, TableWriter
from zeroshot_cli.console.terminal import ProgressBar, console_for, note, progress_bar
from zeroshot_cli.display import counted
from zeroshot_cli.documents import hash_of
from zeroshot_cli.records import SEPARATOR, Counts, Result, SkippedImage, versions
from zeroshot_cli.results.formats import (
    GROUP,
    Extension,
    Format,
    OutputEncoding,
    Sink,
    deliver,
    extension_of,
    stream_writer,
)
from zeroshot_cli.results.shards.parts import ResultParts
from zeroshot_cli.results.summary import Tally
from zeroshot_cli.results.xlsx import MOST_THUMBNAILS, Thumbnails, write_xlsx

if TYPE_CHECKING:
    from zeroshot_cli.classify.classifier import Adapting, Classifier
    from zeroshot_cli.classify.rejection import Rules
    from zeroshot_cli.cli.engine_options import OnRay
    from zeroshot_cli.images.find import FoundImages
    from zeroshot_cli.results.outputs import Outputs
    from zeroshot_cli.results.run_record import RunRecord
    from zeroshot_cli.results.shards.manifest import Manifest
    from zeroshot_cli.results.shards.parts import Chosen, PartOutputs
    from zeroshot_cli.results.shards.shard import Share

Results = Callable[[], Iterator[Result]]
SHOWN_IN_REPORT = 5  # labels per image in an HTML report, whatever --top-k keeps


@dataclass(frozen=True)
class ClassifyRun:
    """A classifier with everything that its answers depend on, and where they go."""

    classifier: "Classifier"
    classes: Classes
    rules: "Rules"
    options: ClassifyOptions
    batch_size: int
    assumed: tuple[str, ...]
    adapting: "Adapting | None" = None
    share: "Share | None" = None
    cluster: "OnRay | None" = None
    part_images: int | None = None  # where the output is a folder

    @property
    def adapted(self) -> tuple[str, ...]:
        """What a look at all images together has changed, as a sentence; nothing without --adapt."""
        if self.adapting is None:
            return ()
        return (f"--adapt changed {self.adapting.changed} of {counted(self.adapting.images, 'answer')}",)

    def corrected(self, paths: Iterable[str]) -> tuple[str, ...]:
        """Return how many of the images have the label that people gave them, as a sentence."""
        if self.options.corrections is None:
            return ()
        known = self.classifier.corrected
        count = sum(os.path.abspath(path) in known for path in paths)  # noqa: PTH100
        return (f"{counted(count, 'answer')} from {self.options.corrections}, which has {len(known)}",)

    def settings(self) -> dict[str, Any]:
        """Return what `--resume` compares, in the order in which a difference is reported."""
        model, classes, background = self.classifier.model, self.classes, self.classes.background
        tuning = self.classifier.tuning
        return {
            "model": model.name,
            "pretrained": model.pretrained,
            "labels": list(classes.labels.names),
            "groups": [SEPARATOR.join(group) for group in classes.labels.groups] if classes.labels.grouped else None,
            "prompts": classes.prompts.name,
            "background": classes.behind,
            "top_k": self.options.top_k,
            **asdict(self.rules),
            "precision": model.computing,
            "device": model.device.type,
            "batch_size": self.options.batch_size,
            "exact_decode": self.options.exact_decode,
            "decoding": None if self.options.exact_decode else "reduced",  # earlier versions reduced JPEGs alone
            "excel_safe": self.options.excel_safe or None,  # None, as in records that lack it
            "output_encoding": None if self.options.output_encoding is OutputEncoding.UTF_8 else "utf-8-sig",
            "thumbnails": self.options.thumbnails or None,
            "max_pixels": self.options.decoding().max_pixels,
            **self.options.reading(),
            "texts of the labels": hash_of(classes.prompts.fill(classes.labels)),
            "texts of the background": hash_of([] if background is None else classes.prompts.fill(background)),
            "weights": model.fingerprint,
            "tuning": tuning and tuning.fingerprint,
            "adapt": self.options.adapt or None,
            "corrections": hash_of(sorted(self.classifier.corrected.items())) if self.options.corrections else None,
            **(self.share.settings() if self.share else {}),
        }

    def open_outputs(self, found: "FoundImages") -> "AbstractContextManager[Outputs | PartOutputs]":
        """Open the output files, all or none, or the folder."""
        from zeroshot_cli.results.outputs import open_outputs
        from zeroshot_cli.results.run_record import RunRecord

        options = self.options
        settings = {**self.settings(), "sort_mode": options.sort_mode if options.sort_into else None}
        resolved = {"batch_size": self.batch_size, "folder": os.getcwd(), "image_size": options.image_size}  # noqa: PTH109
        resolved |= self.classes.described()
        record = RunRecord(settings=settings, resolved=resolved, versions=versions("pillow"), assumed=self.assumed)
        if (folder := options.folder()) is not None:
            return self._open_parts(folder, record, found)
        targets, paths = options.targets(), found.paths()
        return open_outputs(targets, record, expected=paths, overwrite=options.overwrite, resume=options.resume)

    @contextmanager
    def _open_parts(self, folder: Path, record: "RunRecord", found: "FoundImages") -> "Iterator[PartOutputs]":
        from zeroshot_cli.remote.address import shown_address
        from zeroshot_cli.results.shards.parts import PartSink, ResultParts, open_parts

        options, items = self.options, cast("Manifest", found.items)
        record = replace(record, resolved={**record.resolved, "part_images": self.part_images})
        how = {"overwrite": options.overwrite, "resume": options.resume}
        with open_parts(folder, record, items, shown=shown_address, **how) as outputs:
            outputs.tally = Tally(every_label=self.rules.multi_label)
            outputs.sinks = [PartSink(outputs.missing, ResultParts(folder.absolute(), outputs.more))]
            yield outputs

    def deliver(self, outputs: "Outputs | PartOutputs", found: "FoundImages") -> Counts:
        """Classify what is still to do, into files and standard output; return the counts of all images."""
        options, items = self.options, outputs.remaining(found.items)
        if (folder := options.folder()) is not None and self.cluster is not None:
            return self._fill(ResultParts(folder.absolute(), outputs.more), items, outputs.kept, self.cluster)
        blocks = self._blocks(items)
        status = None if self.cluster is None else self.cluster.engine.status
        ranks = self.rules.multi_label or (options.top_k or 1) > 1
        form = options.form or (Format.TABLE if sys.stdout.isatty() else Format.CSV)
        show = (
            self._progress if options.folder() else partial(_standard_output, form, options, outputs.more, ranks=ranks)
        )
        with closing(blocks), show() as (bar, out):
            if self.adapting is None:
                blocks_shown: Iterable[list[Result]] = bar.track(
                    blocks, len(items), "classifying", images=len, status=status
                )
            else:
                self.adapting.track = lambda encoded: bar.track(
                    encoded, len(items), "encoding", images=len, status=status
                )
                self.adapting.on_progress = bar.counter("adapting", "images")
                blocks_shown = blocks
            return deliver(blocks_shown, [*outputs.sinks, outputs.tally, *out], before=outputs.kept)

    def _fill(self, parts: ResultParts, items: Sequence[str | SkippedImage], kept: Counts, cluster: "OnRay") -> Counts:
        """Let the actors of a cluster write parts; return the counts of all images."""
        classifier = self.classifier.without_model()
        filled = cluster.filled(
            parts,
            self.classifier.model,
            items,
            self.batch_size,
            classifier=classifier,
            **self._how(),
        )
        counts, images = kept, attrgetter("images")
        with closing(filled), progress_bar(quiet=self.options.quiet) as bar:
            for part in bar.track(filled, len(items), "classifying", images=images, status=cluster.engine.status):
                counts = counts.with_counts(part)
        return counts

    @contextmanager
    def _progress(self) -> Iterator[tuple[ProgressBar, list[Sink]]]:
        """Yield a progress bar, and no sink for standard output."""
        with progress_bar(quiet=self.options.quiet) as bar:
            yield bar, []

    def _blocks(self, items: "Sequence[str | SkippedImage] | Chosen") -> Generator[list[Result]]:
        """Return what gives the results of the images, in lists."""
        from zeroshot_cli.embed.image_cache import ImageCache

        options = self.options
        how = self._how()
        if self.cluster is not None:
            return self.cluster.labelled(self.classifier, items, self.batch_size, **how)
        return self.classifier.predict_blocks(
            items,
            batch_size=self.batch_size,
            workers=o.as_count(options.workers),
            cache=ImageCache() if options.cache else None,
            decoding=options.decoding(),
            **how,
        )

    def _how(self) -> dict[str, Any]:
        """Return what is asked of every image."""
        in_report = any(extension_of(path) is Extension.HTML for path in self.options.targets().paths)
        return {
            "top_k": self.options.top_k,
            "shown": SHOWN_IN_REPORT if in_report else 0,
            "rules": self.rules,
            "adapting": self.adapting,
        }

    def say_the_end(self, found: "FoundImages", outputs: "Outputs | PartOutputs", counts: Counts) -> None:
        """Print the counts, what was left out and the files written on standard error."""
        if self.options.quiet:
            return
        if outputs.tally.images == counts.images:
            print_counts(outputs.tally)
        wrote = [f"wrote {', '.join(map(self.options.shown_output, outputs.written))}"] if outputs.written else []
        total = f"{counts.sentence().removesuffix('.')}, model {self.classifier.model.title}."
        warnings = (*found.warnings, *self._doubt(counts))
        for text in (*warnings, *self.adapted, *self.corrected(found.paths()), *wrote, total):
            note(text)

    def _doubt(self, counts: Counts) -> tuple[str, ...]:
        """Return a warning where a background rejected most images, as a sentence."""
        if self.classes.behind is None or 2 * counts.unknown <= counts.classified:
            return ()
        way_out = (
            "name what else there is with --background FILE, or say what images look like with --prompts"
            if self.classes.mined
            else "look at some of them: its labels may be too near to yours"
        )
        share = f"{counts.unknown} of {counted(counts.classified, 'image')}"
        return (f"warning: with this background, {share} are unknown; if that is too many, {way_out}",)

    @contextmanager
    def resumable(self) -> Iterator[None]:
        """Say, where Ctrl-C ends the run, how it continues; one without a file, or with --adapt, starts over."""
        try:
            yield
        except KeyboardInterrupt:
            options = self.options
            if (options.folder() is not None or options.targets().anchor is not None) and not options.adapt:
                instead = " in place of --overwrite" * options.overwrite
                note(f"what is done is kept; the same command with --resume{instead} continues", quiet=options.quiet)
            raise

    def finish(self, outputs: "Outputs | PartOutputs", counts: Counts) -> int:
        """Make the reports and sort the images; return how many could not be filed."""
        unfiled = 0

        def sort(folder: Path, results: Results) -> None:
            nonlocal unfiled
            unfiled = self._sort(folder, results, counts.classified)

        def html(path: Path, results: Results) -> None:
            from zeroshot_cli.pages.classification import write_html

            with self._thumbnails(path, counts.classified) as thumbnails:
                write_html(path, results, about=self._about(outputs.assumed), thumbnails=thumbnails)

        def xlsx(path: Path, results: Results) -> None:
            total = min(counts.classified, MOST_THUMBNAILS)
            with self._thumbnails(path, total) as thumbnails:
                drawn = thumbnails if self.options.thumbnails else None
                for text in write_xlsx(path, results, more=outputs.more, thumbnails=drawn):
                    note(text, quiet=self.options.quiet)

        outputs.finish(counts, html=html, xlsx=xlsx, sort=sort)
        return unfiled

    @contextmanager
    def _thumbnails(self, path: Path, total: int) -> Iterator[Thumbnails]:
        """Give a function that draws small images for the file at `path`, under a progress bar."""
        from zeroshot_cli.images.decoder_pool import auto_workers, thumbnails

        workers, decoding = o.as_count(self.options.workers) or auto_workers(), self.options.decoding()
        with progress_bar(quiet=self.options.quiet) as bar:
            yield lambda paths: bar.track(
                thumbnails(paths, workers=workers, decoding=decoding), total, f"drawing {path.name}"
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
            "corrections": str(self.options.corrections or ""),
            "tuned": "" if self.classifier.tuning is None else self.classifier.tuning.sentence(),
            "adapt": ", ".join(self.adapted).removeprefix("--adapt "),
            "rejection": ", ".join(f"{name} {value}" for name, value in rules.items()),
            "computed on": f"{model.device.type} in {model.computing}, batches of {self.batch_size}",
            "decoding": "every pixel" if self.options.exact_decode else "large images at a smaller scale",
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
                labels=self.classes.answers,
                on_progress=lambda number: count(number, total),
            )
        for item in done.failed:
            note(f"{item.path}: {item.reason}", quiet=self.options.quiet)
        undo = f"; zeroshot unsort {shlex.quote(str(folder))} undoes it."
        note(done.sentence(folder).removesuffix(".") + undo, quiet=self.options.quiet)
        return len(done.failed)


@contextmanager
def _standard_output(
    form: Format, options: ClassifyOptions, more: Sequence[str], *, ranks: bool
) -> Iterator[tuple[ProgressBar, list[Sink]]]:
    """Yield a progress bar and the sink of standard output, with `more` columns; rows on a terminal need no bar."""
    rows_on_terminal = form is not Format.TABLE and sys.stdout.isatty()
    with ExitStack() as stack:
        bar_stack = ExitStack()
        bar = bar_stack.enter_context(progress_bar(quiet=options.quiet or rows_on_terminal))
        sink: Sink
        if form is Format.TABLE:
            cut = options.form is None  # --format table asks for all rows
            most = SHOWN_ROWS if cut and sys.stdout.isatty() else sys.maxsize
            console, grouped = console_for(sys.stdout), GROUP in more
            sink = table = TableWriter(console, ranks=ranks, grouped=grouped, most=most, paused=bar.paused)
            stack.callback(table.close)  # after the bar is gone
        else:
            sink = stream_writer(sys.stdout.buffer, form, more=more, excel_safe=options.excel_safe)
        stack.push(bar_stack)
        yield bar, [sink]
