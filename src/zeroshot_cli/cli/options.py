"""The options that commands share, each defined once: its names, its environment variable, its help.

A command uses them as annotations: `def classify(model: Model = DEFAULT_MODEL, device: Device = "auto", ...)`.
"""

import re
import warnings
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from zeroshot_cli.report.files import Format

DEFAULT_MODEL = "ViT-B-32"  # with its default tag, laion2b_s34b_b79k
BUNDLED_MODEL = "tiny"  # the one model that needs no network
AUTO = "auto"
_DEVICE = re.compile(r"auto|cpu|mps|cuda(:\d+)?")


class Precision(StrEnum):
    """The number format that a model computes in; `auto` is the fastest that the device has and that is safe."""

    AUTO = "auto"
    FP32 = "fp32"
    BF16 = "bf16"
    FP16 = "fp16"
    INT8 = "int8"


def as_count(value: str) -> int | None:
    """Return the number that an `N|auto` option holds, None for auto."""
    return None if value == AUTO else int(value)


def _check_count(value: str) -> str:
    if value != AUTO and not (value.isascii() and value.isdigit() and int(value) > 0):
        raise typer.BadParameter(f"{value!r} is neither a whole number of at least 1 nor 'auto'")
    return value


def _check_device(value: str) -> str:
    if not _DEVICE.fullmatch(value):
        raise typer.BadParameter(f"{value!r} is not a device; use auto, cpu, cuda, cuda:N or mps")
    return value


def _hush(value: bool) -> bool:
    if value:
        warnings.simplefilter("ignore")  # app.run restores the filters
    return value


# What to classify

Images = Annotated[
    list[str],
    typer.Argument(
        metavar="IMAGES",
        show_default=False,
        help="Files, folders (searched to the bottom), globs, or - for paths on standard input.",
    ),
]
NullSeparated = Annotated[
    bool, typer.Option("-0", "--null", help="Paths on standard input end with NUL, as find -print0 writes them.")
]
LabelsFile = Annotated[
    Path | None,
    typer.Option(
        "--labels",
        metavar="FILE|NAME",
        help="The labels: a .txt, .yaml, .json or .csv file, or a built-in set such as imagenet (zeroshot prompts).",
    ),
]
LabelTexts = Annotated[
    list[str] | None,
    typer.Option("--label", metavar="TEXT", help="A label on the spot; once for each.", show_default=False),
]
PromptsName = Annotated[
    str | None,
    typer.Option(
        "--prompts",
        metavar="NAME|FILE",
        help="The template set; by default a built-in label set's own, else a small ensemble (zeroshot prompts).",
    ),
]
ClassifierFile = Annotated[
    Path | None,
    typer.Option(
        "--classifier",
        metavar="FILE",
        help="A file of zeroshot build, in place of labels and prompts; --model must be the one it was built with.",
    ),
]
TopK = Annotated[int, typer.Option("--top-k", metavar="N", min=1, help="How many labels to keep for each image.")]

# Results

Outputs = Annotated[
    list[Path] | None,
    typer.Option(
        "--output", "-o", metavar="FILE", help="Write a .csv, .tsv or .jsonl file; may be repeated.", show_default=False
    ),
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace output files that exist.")]
OutputFormat = Annotated[
    Format | None,
    typer.Option("--format", help="What standard output gets. Default: a table on a terminal, csv in a pipe."),
]
Cache = Annotated[
    bool,
    typer.Option("--cache/--no-cache", help="Keep the embeddings of texts, and use those of earlier runs."),
]
IgnoreErrors = Annotated[
    bool,
    typer.Option("--ignore-errors", help="Exit with 0, not 4, when some images could not be read."),
]
Quiet = Annotated[
    bool,
    typer.Option(
        "--quiet", "-q", envvar="ZEROSHOT_QUIET", callback=_hush, help="No progress, notes or warnings; errors only."
    ),
]
Verbose = Annotated[
    bool,
    typer.Option("--verbose", "-v", envvar="ZEROSHOT_VERBOSE", help="Say what is being used."),
]
Debug = Annotated[
    bool,
    typer.Option("--debug", envvar="ZEROSHOT_DEBUG", help="Show a traceback with an error."),
]

# The model and where it runs

_MODEL = typer.Option(
    "--model",
    "-m",
    metavar="NAME|hf-hub:ORG/REPO|PATH",
    envvar="ZEROSHOT_MODEL",
    help=f"The model; zeroshot models lists the names. Default: {DEFAULT_MODEL}.",
    show_default=False,
)
Model = Annotated[str, _MODEL]
ModelIfAny = Annotated[str | None, _MODEL]
Pretrained = Annotated[
    str | None,
    typer.Option(
        "--pretrained",
        metavar="TAG|PATH",
        envvar="ZEROSHOT_PRETRAINED",
        help="Which published weights of the model, or a checkpoint file.",
    ),
]
Offline = Annotated[
    bool,
    typer.Option("--offline", envvar="ZEROSHOT_OFFLINE", help="Use only what is on this machine."),
]
Device = Annotated[
    str,
    typer.Option(
        "--device",
        metavar="auto|cpu|cuda|cuda:N|mps",
        envvar="ZEROSHOT_DEVICE",
        callback=_check_device,
        help="Where the model runs.",
    ),
]
PrecisionOption = Annotated[
    Precision,
    typer.Option("--precision", envvar="ZEROSHOT_PRECISION", help="The numbers it computes in."),
]
BatchSize = Annotated[
    str,
    typer.Option(
        "--batch-size",
        metavar="N|auto",
        envvar="ZEROSHOT_BATCH_SIZE",
        callback=_check_count,
        help="How many images the model takes at once.",
    ),
]
Workers = Annotated[
    str,
    typer.Option(
        "--workers",
        metavar="N|auto",
        envvar="ZEROSHOT_WORKERS",
        callback=_check_count,
        help="How many images are decoded at once; auto is one a core.",
    ),
]
TrainWorkers = Annotated[
    str,
    typer.Option(
        "--workers",
        metavar="N|auto",
        envvar="ZEROSHOT_WORKERS",
        callback=_check_count,
        help="How many processes read images; auto is one for every two cores, at most 8.",
    ),
]
