"""`zeroshot eval`: how often a model is right, on data sets that others know and on your own."""

import os
import shlex
import sys
from dataclasses import dataclass, fields
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from zeroshot_cli.cli import completion
from zeroshot_cli.cli import options as o
from zeroshot_cli.errors import UsageError


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
            rich_help_panel=o.Panel.MODEL,
            help=f"The model, or NAME:TAG with its weights; repeatable, to compare several. Default: {o.DEFAULT_MODEL}."
            f" \\[env var: {o.MODEL_VARIABLE}]",  # not the parser's own, which would split it at blanks
        ),
    ] = ()

    def models(self) -> tuple[str, ...]:
        """Return the models, or else the one that ZEROSHOT_MODEL names."""
        name = os.environ.get(o.MODEL_VARIABLE)
        return self.model or ((name,) if name else ())


@dataclass(frozen=True, kw_only=True)
class EvalOptions(o.BatchOptions, o.RuntimeOptions, _ModelsOptions, o.DecodingOptions, o.MessageOptions):
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
    list_sets: Annotated[
        bool,
        typer.Option("--list", rich_help_panel=o.Panel.DATASET, help="List the data sets that have a name, and exit."),
    ] = False
    task: Annotated[
        Task,
        typer.Option(
            "--task",
            rich_help_panel=o.Panel.DATASET,
            help="retrieval: find the captions of images and the images of captions.",
        ),
    ] = Task.AUTO
    probe: Annotated[
        str | None,
        typer.Option(
            "--probe",
            metavar="TRAIN",
            show_default=False,
            rich_help_panel=o.Panel.DATASET,
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
            rich_help_panel=o.Panel.DATASET,
            help="The folder of named data sets, which are downloaded to it. Default: datasets in the cache folder.",
        ),
    ] = None
    image_column: Annotated[
        str | None,
        typer.Option(
            "--image-column",
            metavar="NAME",
            rich_help_panel=o.Panel.DATASET,
            help="The column of a table that has the path.",
        ),
    ] = None
    label_column: Annotated[
        str | None,
        typer.Option(
            "--label-column",
            "--caption-column",
            metavar="NAME",
            rich_help_panel=o.Panel.DATASET,
            help="The column that has the label, or the caption.",
        ),
    ] = None
    seed: Annotated[
        int,
        typer.Option(
            "--seed",
            min=0,
            max=2**32 - 1,
            rich_help_panel=o.Panel.DATASET,
            help="Random seed for the bootstrap and for the probe's validation split.",
        ),
    ] = 0
    labels: o.LabelsFile = None
    prompts: Annotated[
        tuple[str, ...],
        typer.Option(
            "--prompts",
            metavar="NAME|FILE",
            show_default=False,
            autocompletion=completion.templates,
            rich_help_panel=o.Panel.LABELS,
            help="The template set; repeatable, to compare several. "
            "Default: the data set's own, or else a small ensemble.",
        ),
    ] = ()
    classifier: o.ClassifierFile = None
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", metavar="FILE.json", rich_help_panel=o.Panel.OUTPUT, help="Write all figures as JSON."
        ),
    ] = None
    predictions: Annotated[
        Path | None,
        typer.Option(
            "--predictions",
            metavar="FILE",
            rich_help_panel=o.Panel.OUTPUT,
            help="Write a row for every image: .csv, .tsv, .jsonl or .parquet.",
        ),
    ] = None
    report: Annotated[
        Path | None,
        typer.Option(
            "--report",
            metavar="FILE.html",
            rich_help_panel=o.Panel.OUTPUT,
            help="Write a page with the confusion matrix, reliability, and the worst mistakes.",
        ),
    ] = None
    overwrite: o.Overwrite = False
    precision: o.PrecisionOption = o.Precision.FP32


@o.command
def evaluate(options: EvalOptions) -> None:
    """Measure how often a model is right on labelled images, and how certain that figure is.

    The classes are those of the data set, unless --labels names them. Figures have 95 % intervals; with several data
    sets, models or template sets there is one table, with the differences between those that saw the same images.
    Images that cannot be read are listed and not counted.
    """
    from zeroshot_cli.cli.eval_outputs import Outputs, Terminal
    from zeroshot_cli.evaluation.sources import EvalSettings, open_sources

    if options.list_sets:
        from zeroshot_cli.console.lists import print_known_sets

        print_known_sets()
        return
    if not options.datasets:
        raise UsageError("no data set to evaluate on; give a folder of class folders, or a name (zeroshot eval --list)")
    # What takes no time comes first: a mistake shows before anything is downloaded.
    options.check_cache()
    outputs = Outputs(options.output, options.predictions, options.report)
    outputs.check(overwrite=options.overwrite)
    shared: dict[str, Any] = {each.name: getattr(options, each.name, None) for each in fields(EvalSettings)}
    shared |= {
        "default_model": o.DEFAULT_MODEL,
        "models": options.models(),
        "retrieval": None if options.task is Task.AUTO else options.task is Task.RETRIEVAL,
        "precision": options.precision.value,
        "batch_size": o.as_count(options.batch_size),
        "workers": o.as_count(options.workers),
        "command": shlex.join(["zeroshot", *sys.argv[1:]]),
    }
    settings = EvalSettings(**shared)
    terminal = Terminal(quiet=options.quiet, verbose=options.verbose)
    sources = open_sources(settings, terminal)
    outputs.check_sources(sources, max(1, len(settings.models)))

    from zeroshot_cli.evaluation.run import evaluate_all  # imports torch

    evaluations = evaluate_all(sources, settings, terminal)
    outputs.write(evaluations, settings, terminal)
    o.finish(any(each.result.skipped for each in evaluations), ignore_errors=options.ignore_errors)
