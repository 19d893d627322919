"""`zeroshot eval`: how often a model is right, on data sets that others know and on your own."""

import os
import shlex
import sys
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, fields
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from zeroshot_cli.cli import completion
from zeroshot_cli.cli import options as o
from zeroshot_cli.cli.command import Panel, check_probability, check_seed, command, finish
from zeroshot_cli.cli.commands.build import ClassifierFile, LabelsFile, Templates
from zeroshot_cli.cli.list_options import SetsOptions, list_format
from zeroshot_cli.console.terminal import (
    ListFormat,
    ProgressBar,
    console_for,
    note,
    note_assumed,
    note_default,
    progress_bar,
)
from zeroshot_cli.errors import UsageError
from zeroshot_cli.models.default import DEFAULT_MODEL, MODEL_VARIABLE, choose
from zeroshot_cli.remote.address import shown_in

if TYPE_CHECKING:
    from zeroshot_cli.evaluation.run import Evaluation
    from zeroshot_cli.evaluation.sources import EvalSettings, Source

_NAMED = 20  # unreadable images that are named; the files list them all


class Task(StrEnum):
    """What is asked of the model."""

    AUTO = "auto"
    CLASSIFICATION = "classification"
    RETRIEVAL = "retrieval"


@dataclass(frozen=True, kw_only=True)
class _ModelsOptions:
    """The models to compare."""

    model: Annotated[
        tuple[str, ...],
        typer.Option(
            "--model",
            "-m",
            metavar="NAME|hf-hub:ORG/REPO|PATH",
            show_default=False,
            autocompletion=completion.models,
            rich_help_panel=Panel.MODEL,
            help="The model, or NAME:TAG with its weights; repeatable, to compare several. "
            # not the parser's own variable, which would split it at blanks
            f"Default: {DEFAULT_MODEL}; models use changes that. \\[env var: {MODEL_VARIABLE}]",
        ),
    ] = ()

    def models(self) -> tuple[str, ...]:
        """Return the models, or else the one that ZEROSHOT_MODEL names."""
        name = os.environ.get(MODEL_VARIABLE)
        return self.model or ((name,) if name else ())


@dataclass(frozen=True, kw_only=True)
class EvalOptions(
    o.BatchOptions, o.RuntimeOptions, _ModelsOptions, o.DecodingOptions, o.FolderOptions, o.MessageOptions, SetsOptions
):
    """The options of `zeroshot eval`."""

    datasets: Annotated[
        tuple[str, ...],
        typer.Argument(
            metavar="DATASET",
            show_default=False,
            autocompletion=completion.datasets,
            help="A name that --list shows, a folder of class folders, or a table with the columns image and label; "
            "several are compared.",
        ),
    ] = ()
    task: Annotated[
        Task,
        typer.Option(
            "--task",
            metavar="TASK",
            rich_help_panel=Panel.DATASET,
            help="classification, retrieval (of captions by images and of images by captions), or auto: as the data "
            "set suggests.",
        ),
    ] = Task.AUTO
    probe: Annotated[
        str | None,
        typer.Option(
            "--probe",
            metavar="TRAIN",
            show_default=False,
            rich_help_panel=Panel.DATASET,
            help="Train a linear probe on these labelled images, a folder or a table, and evaluate that.",
        ),
    ] = None
    data_dir: Annotated[
        Path | None,
        typer.Option(
            "--data-dir",
            metavar="DIR",
            envvar="ZEROSHOT_DATA_DIR",
            show_default=False,
            rich_help_panel=Panel.DATASET,
            help="The folder of named data sets, which are downloaded to it. Default: datasets in the cache folder.",
        ),
    ] = None
    image_column: Annotated[
        str | None,
        typer.Option(
            "--image-column",
            metavar="NAME",
            rich_help_panel=Panel.DATASET,
            help="The column of a table that has the path.",
        ),
    ] = None
    label_column: Annotated[
        str | None,
        typer.Option(
            "--label-column",
            "--caption-column",
            metavar="NAME",
            rich_help_panel=Panel.DATASET,
            help="The column that has the label, or the caption.",
        ),
    ] = None
    multi_label: Annotated[
        bool,
        typer.Option(
            "--multi-label",
            rich_help_panel=Panel.DATASET,
            help="Judge every label on its own: an image may have any number of labels, written as a|b, in several "
            "rows, or in columns of 0 and 1.",
        ),
    ] = False
    min_probability: Annotated[
        float | None,
        typer.Option(
            "--min-probability",
            callback=check_probability,
            metavar="X",
            show_default=False,
            rich_help_panel=Panel.DATASET,
            help="With --multi-label: the lowest probability at which a label counts as an answer. Default: 0.5.",
        ),
    ] = None
    only_present: Annotated[
        bool,
        typer.Option(
            "--only-present",
            rich_help_panel=Panel.LABELS,
            help="Choose among the labels that have images in the data set, not among all of --labels.",
        ),
    ] = False
    seed: Annotated[
        int,
        typer.Option(
            "--seed",
            metavar="N",
            callback=check_seed,
            rich_help_panel=Panel.DATASET,
            help="Random seed for the bootstrap and for the probe's validation split.",
        ),
    ] = 0
    labels: LabelsFile = None
    prompts: Annotated[
        tuple[str, ...],
        typer.Option(
            "--prompts",
            metavar="NAME|FILE",
            show_default=False,
            autocompletion=completion.templates,
            rich_help_panel=Panel.LABELS,
            help="The template set; repeatable, to compare several. "
            "Default: the data set's own, or else a small ensemble.",
        ),
    ] = ()
    template: Templates = ()
    classifier: ClassifierFile = None
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", metavar="FILE.json", rich_help_panel=Panel.OUTPUT, help="Write all figures as JSON."
        ),
    ] = None
    predictions: Annotated[
        Path | None,
        typer.Option(
            "--predictions",
            metavar="FILE",
            rich_help_panel=Panel.OUTPUT,
            help="Write a row for every image: .csv, .tsv, .jsonl or .parquet.",
        ),
    ] = None
    report: Annotated[
        Path | None,
        typer.Option(
            "--report",
            metavar="FILE.html",
            rich_help_panel=Panel.OUTPUT,
            help="Write a page with the confusion matrix, reliability, and the worst mistakes.",
        ),
    ] = None
    excel_safe: o.ExcelSafe = False
    overwrite: o.Overwrite = False
    precision: o.PrecisionOption = o.Precision.FP32


@command
def evaluate(options: EvalOptions) -> None:
    """Measure how often a model is right on labelled images, and how certain that figure is.

    The classes are those of the data set, unless --labels names them. Figures have 95 % intervals; with several data
    sets, models or template sets there is one table, with the differences between those that saw the same images.
    Images that cannot be read are listed and not counted.
    """
    from zeroshot_cli.evaluation.sources import EvalSettings, open_sources

    if options.list_sets:
        from zeroshot_cli.console.lists import print_known_sets

        print_known_sets(list_format(ListFormat.TABLE, options.as_json), every=options.all_sets)
        return
    if options.all_sets or options.as_json:
        raise UsageError(
            f"{'--all' if options.all_sets else '--json'} is for --list; figures as JSON: --output FILE.json"
        )
    if not options.datasets:
        raise UsageError("no data set to evaluate on; give a folder of class folders, or a name (zeroshot eval --list)")
    # What takes no time comes first: a mistake shows before anything is downloaded.
    options.check_cache()
    outputs = Outputs(options.output, options.predictions, options.report, excel_safe=options.excel_safe)
    outputs.check(overwrite=options.overwrite)
    own: dict[str, Any] = {
        "models": options.models(),
        "retrieval": None if options.task is Task.AUTO else options.task is Task.RETRIEVAL,
        "selection": options.selection(),
        "precision": options.precision.value,
        "batch_size": o.as_count(options.batch_size),
        "workers": o.as_count(options.workers),
        "command": shlex.join(["zeroshot", *map(shown_in, sys.argv[1:])]),
    }
    shared = {name: getattr(options, name) for name in (each.name for each in fields(EvalSettings)) if name not in own}
    settings = EvalSettings(**shared, **own)
    terminal = Terminal(quiet=options.quiet, verbose=options.verbose)
    if not settings.models and settings.classifier is None:
        note_default(choose(None, settings.pretrained), quiet=options.quiet)
    sources = open_sources(settings, terminal)
    outputs.check_sources(sources, max(1, len(settings.models)))

    from zeroshot_cli.evaluation.run import evaluate_all  # imports torch

    evaluations = evaluate_all(sources, settings, terminal)
    outputs.write(evaluations, settings, terminal)
    finish(any(each.result.skipped for each in evaluations), ignore_errors=options.ignore_errors)


@dataclass(frozen=True, slots=True)
class Terminal:
    """Shows on standard error what an evaluation says while it runs."""

    quiet: bool
    verbose: bool

    def note(self, text: str) -> None:
        """Print a sentence, unless --quiet."""
        note(text, quiet=self.quiet)

    def detail(self, text: str) -> None:
        """Print a sentence with --verbose."""
        note(text, quiet=self.quiet or not self.verbose)

    def assumed(self, notes: Sequence[str]) -> None:
        """Print what was assumed."""
        note_assumed(notes, quiet=self.quiet, verbose=self.verbose)

    def progress(self) -> AbstractContextManager[ProgressBar]:
        """Return a progress bar, which shows nothing with --quiet."""
        return progress_bar(quiet=self.quiet)


@dataclass(frozen=True, slots=True)
class Outputs:
    """The files to write; None for those that nobody asked for."""

    json: Path | None
    predictions: Path | None
    report: Path | None
    excel_safe: bool = False

    def check(self, *, overwrite: bool) -> None:
        """Raise UsageError, before any work, for a file that cannot be written."""
        from zeroshot_cli.evaluation.output import check_json_target, check_predictions_target

        if self.json is not None:
            check_json_target(self.json, overwrite=overwrite)
        if self.predictions is not None:
            check_predictions_target(self.predictions, overwrite=overwrite)
        if self.report is not None:
            from zeroshot_cli.pages.evaluation import check_html_target

            check_html_target(self.report, overwrite=overwrite)

    def check_sources(self, sources: "Sequence[Source]", models: int) -> None:
        """Raise UsageError, before any work, for predictions of several evaluations, or of captions."""
        from zeroshot_cli.datasets.captioned import CaptionedImages
        from zeroshot_cli.datasets.multilabel import MultiLabelImages

        if self.predictions is None:
            return
        count = models * sum(source.evaluations for source in sources)
        if count != 1:
            raise UsageError(
                f"--predictions {self.predictions} is for one model on one data set with one template set, not for "
                f"{count} evaluations; run them one by one, which the cache makes fast"
            )
        images = sources[0].images
        if isinstance(images, CaptionedImages):
            raise UsageError(
                f"--predictions {self.predictions} is for labels, and {images.name} has captions; omit --predictions"
            )
        if isinstance(images, MultiLabelImages):
            raise UsageError(
                f"--predictions {self.predictions} is for one label per image; omit it, and run zeroshot classify "
                "--multi-label for the labels of each image"
            )

    def write(self, evaluations: "Sequence[Evaluation]", settings: "EvalSettings", terminal: Terminal) -> None:
        """Write the files, then print the results: a pipe that closes early costs no file."""
        from zeroshot_cli.console.evaluation import print_comparison, print_eval
        from zeroshot_cli.evaluation.output import write_eval_json, write_predictions
        from zeroshot_cli.evaluation.run import compare_all

        comparisons = compare_all(evaluations)
        results = [each.result for each in evaluations]
        if self.json is not None:
            write_eval_json(results, comparisons, self.json)
        if self.predictions is not None and evaluations[0].answers is not None:
            model = ":".join(filter(None, (results[0].model, results[0].pretrained)))
            write_predictions(evaluations[0].answers, self.predictions, excel_safe=self.excel_safe, model=model)
        if self.report is not None:
            from zeroshot_cli.pages.evaluation import write_eval_html

            pairs = [(each.result, each.answers) for each in evaluations]
            write_eval_html(pairs, comparisons, self.report, thumbnails=_thumbnails(settings))
        _tell(evaluations, terminal)
        console = console_for(sys.stdout)
        if len(results) == 1:
            print_eval(results[0], console)
        else:
            print_comparison(results, comparisons, console)


def _tell(evaluations: "Sequence[Evaluation]", terminal: Terminal) -> None:
    """Name the images that could not be read, and metrics that are far from published ones."""
    skipped = list(dict.fromkeys(image for each in evaluations for image in each.result.skipped))
    for image in skipped[:_NAMED]:
        terminal.note(f"{image.path}: {image.reason}")
    if len(skipped) > _NAMED:
        terminal.note(f"and {len(skipped) - _NAMED} more; --predictions lists them all")
    for result in (each.result for each in evaluations):
        published = result.published
        if published is None or published.inside:
            continue
        low, high = result.intervals[published.metric]
        terminal.note(
            f"warning: {result.dataset}: {published.metric} of {result.model} is "
            f"{result.metrics[published.metric]:.2%}, and {published.source} has {published.value:.2%}, outside the "
            f"95 % interval of {low:.2%} to {high:.2%}; check weights, precision, prompts and data"
        )


def _thumbnails(settings: "EvalSettings") -> Callable[[Sequence[str]], Iterable[bytes | None]]:
    from zeroshot_cli.images.decoder_pool import auto_workers, thumbnails

    return partial(thumbnails, workers=settings.workers or auto_workers(), decoding=settings.decoding())
