"""`zeroshot eval`: how often a model is right, on data sets that others know and on your own."""

import shlex
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from zeroshot_cli.cli import options as o
from zeroshot_cli.errors import UnreadableImage, UsageError

_OUTPUT, _DATA = "Output", "The data set"


class Task(StrEnum):
    """What is asked of the model."""

    AUTO = "auto"
    CLASSIFICATION = "classification"
    RETRIEVAL = "retrieval"


Datasets = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="DATASET",
        show_default=False,
        help="A name that --list shows, a folder of class folders, or a table with the columns image and label; "
        "several are compared.",
    ),
]
Models = Annotated[
    list[str] | None,
    typer.Option(
        "--model",
        "-m",
        metavar="NAME|hf-hub:ORG/REPO|PATH",
        help=f"The model, NAME:TAG with its weights; repeat it to compare several. Default: {o.DEFAULT_MODEL}. "
        f"[env var: {o.MODEL_VARIABLE}]",  # not the parser's own, which would split it at blanks
        show_default=False,
    ),
]
PromptSets = Annotated[
    list[str] | None,
    typer.Option(
        "--prompts",
        metavar="NAME|FILE",
        show_default=False,
        help="The template set; repeat it to compare several. Default: the data set's own, else a small ensemble.",
    ),
]
TaskOption = Annotated[
    Task,
    typer.Option(
        "--task", rich_help_panel=_DATA, help="retrieval: find the captions of images and the images of captions."
    ),
]
Probe = Annotated[
    str | None,
    typer.Option(
        "--probe",
        metavar="TRAIN",
        rich_help_panel=_DATA,
        show_default=False,
        help="Train a linear probe on these labelled images, a folder or a table, and evaluate that.",
    ),
]
DataDir = Annotated[
    Path | None,
    typer.Option(
        "--data-dir",
        metavar="DIR",
        envvar="ZEROSHOT_DATA_DIR",
        rich_help_panel=_DATA,
        show_default=False,
        help="Where data sets with a name are kept, or lie. Default: datasets in the cache's folder.",
    ),
]
ImageColumn = Annotated[
    str | None,
    typer.Option("--image-column", metavar="NAME", rich_help_panel=_DATA, help="The column of a table with the path."),
]
LabelColumn = Annotated[
    str | None,
    typer.Option(
        "--label-column",
        "--caption-column",
        metavar="NAME",
        rich_help_panel=_DATA,
        help="The column with the label, or the caption.",
    ),
]
JsonOutput = Annotated[
    Path | None,
    typer.Option("--output", "-o", metavar="FILE.json", help="Write all figures as JSON.", rich_help_panel=_OUTPUT),
]
PredictionsOutput = Annotated[
    Path | None,
    typer.Option(
        "--predictions",
        metavar="FILE",
        rich_help_panel=_OUTPUT,
        help="Write a row for every image: .csv, .tsv, .jsonl or .parquet.",
    ),
]
ReportOutput = Annotated[
    Path | None,
    typer.Option(
        "--report",
        metavar="FILE.html",
        rich_help_panel=_OUTPUT,
        help="Write a page with the confusion matrix, reliability, and the worst mistakes.",
    ),
]
Seed = Annotated[
    int, typer.Option("--seed", min=0, max=2**32 - 1, help="Of the bootstrap, and of the probe's validation split.")
]
ListSets = Annotated[bool, typer.Option("--list", help="List the data sets that have a name, and end.")]


def evaluate(
    datasets: Datasets = None,
    list_sets: ListSets = False,
    labels: o.LabelsFile = None,
    prompts: PromptSets = None,
    classifier: o.ClassifierFile = None,
    task: TaskOption = Task.AUTO,
    probe: Probe = None,
    data_dir: DataDir = None,
    image_column: ImageColumn = None,
    label_column: LabelColumn = None,
    output: JsonOutput = None,
    predictions: PredictionsOutput = None,
    report: ReportOutput = None,
    seed: Seed = 0,
    max_pixels: o.MaxPixels = None,
    decode_timeout: o.DecodeTimeout = None,
    overwrite: o.Overwrite = False,
    ignore_errors: o.IgnoreErrors = False,
    cache: o.Cache = True,
    quiet: o.Quiet = False,
    verbose: o.Verbose = False,
    debug: o.Debug = False,
    model: Models = None,
    pretrained: o.Pretrained = None,
    offline: o.Offline = False,
    device: o.Device = o.AUTO,
    precision: o.PrecisionOption = o.Precision.FP32,
    batch_size: o.BatchSize = o.AUTO,
    workers: o.Workers = o.AUTO,
) -> None:
    """Say how often a model is right on labelled images, and how sure one may be of that.

    The classes are those of the data set, unless --labels gives them. Figures have 95 % intervals; with several data
    sets, models or template sets there is one table, with the differences between those that saw the same images.
    Images that cannot be read are listed and not counted.
    """
    from zeroshot_cli.cli.eval_outputs import Outputs, Terminal
    from zeroshot_cli.evaluation.sources import EvalSettings, open_sources

    if list_sets:
        from zeroshot_cli.console.lists import print_known_sets

        print_known_sets()
        return
    if not datasets:
        raise UsageError("no data set to evaluate on; give a folder of class folders, or a name (zeroshot eval --list)")
    # What takes no time comes first: a mistake shows before anything is downloaded.
    o.check_cache(cache)
    outputs = Outputs(output, predictions, report)
    outputs.check(overwrite=overwrite)
    settings = EvalSettings(
        datasets=tuple(datasets),
        default_model=o.DEFAULT_MODEL,
        models=tuple(model or o.model_from_environment()),
        pretrained=pretrained,
        labels=labels,
        prompts=tuple(prompts or ()),
        classifier=classifier,
        retrieval=None if task is Task.AUTO else task is Task.RETRIEVAL,
        probe=probe,
        data_dir=data_dir,
        image_column=image_column,
        label_column=label_column,
        max_pixels=max_pixels,
        decode_timeout=decode_timeout,
        device=device,
        precision=precision.value,
        offline=offline,
        batch_size=o.as_count(batch_size),
        workers=o.as_count(workers),
        cache=cache,
        seed=seed,
        command=shlex.join(["zeroshot", *sys.argv[1:]]),
    )
    terminal = Terminal(quiet=quiet, verbose=verbose)
    sources = open_sources(settings, terminal)
    outputs.check_sources(sources, max(1, len(settings.models)))

    from zeroshot_cli.evaluation.run import evaluate_all  # imports torch

    evaluations = evaluate_all(sources, settings, terminal)
    outputs.write(evaluations, settings, terminal)
    skipped = any(each.result.skipped for each in evaluations)
    raise typer.Exit(UnreadableImage.exit_code if skipped and not ignore_errors else 0)
