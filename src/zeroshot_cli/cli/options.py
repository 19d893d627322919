"""The options that commands share, each defined once: its names, its environment variable, its help.

A command uses them as annotations: `def classify(model: Model = DEFAULT_MODEL, device: Device = "auto", ...)`.
"""

import logging
import os
import re
import warnings
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from zeroshot_cli.filing.manifest import SortMode
from zeroshot_cli.results.formats import Format

if TYPE_CHECKING:
    from zeroshot_cli.images.decode import Decoding

DISTRIBUTION = "zeroshot-cli"  # what pip calls the package
DEFAULT_MODEL = "ViT-B-32"  # with its default tag, laion2b_s34b_b79k
BUNDLED_MODEL = "tiny"  # the one model that needs no network
AUTO = "auto"
MODEL_VARIABLE, PRETRAINED_VARIABLE = "ZEROSHOT_MODEL", "ZEROSHOT_PRETRAINED"
DEVICE_VARIABLE, PRECISION_VARIABLE = "ZEROSHOT_DEVICE", "ZEROSHOT_PRECISION"
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


def model_from_environment() -> list[str]:
    """Return the model that ZEROSHOT_MODEL names, if it does, for an option that may be repeated."""
    name = os.environ.get(MODEL_VARIABLE)
    return [name] if name else []


def decoding(*, exact: bool, max_pixels: int | None, timeout: float | None) -> "Decoding":
    """Return how files become pixels, by the options given."""
    from zeroshot_cli.images.decode import Decoding

    given = {"max_pixels": max_pixels, "timeout": timeout}
    return Decoding(exact=exact, **{name: value for name, value in given.items() if value is not None})  # type: ignore[arg-type]


def check_cache(cache: bool) -> None:
    """Raise UsageError now where ZEROSHOT_CACHE_SIZE is no size."""
    from zeroshot_cli.embed.cache_store import size_limit

    if cache:
        size_limit()


def _check_count(value: str) -> str:
    if value != AUTO and not (value.isascii() and value.isdigit() and int(value) > 0):
        raise typer.BadParameter(f"{value!r} is neither a whole number of at least 1 nor 'auto'")
    return value


def check_device(value: str) -> str:
    """Raise BadParameter where --device cannot be that."""
    if not _DEVICE.fullmatch(value):
        raise typer.BadParameter(f"{value!r} is not a device; use auto, cpu, cuda, cuda:N or mps")
    return value


def _check_cosine(value: float | None) -> float | None:
    return _within(value, -1, "a cosine")


def _check_probability(value: float | None) -> float | None:
    return _within(value, 0, "a probability")


def _within(value: float | None, least: int, what: str) -> float | None:
    if value is not None and not least <= value <= 1:  # nor is NaN
        raise typer.BadParameter(f"{value} is not {what}; give a number from {least} to 1")
    return value


def _hush(value: bool) -> bool:
    if value:
        warnings.simplefilter("ignore")  # app.run restores the filters, and the level
        logging.getLogger("zeroshot_cli").setLevel(logging.ERROR)
    return value


# What to classify

_IMAGES = typer.Argument(
    metavar="IMAGES",
    show_default=False,
    help="Files, folders (searched to the bottom), globs, or - for paths on standard input.",
)
Images = Annotated[list[str], _IMAGES]
ImagesIfAny = Annotated[list[str] | None, _IMAGES]
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
TopK = Annotated[
    int | None,
    typer.Option(
        "--top-k",
        metavar="N",
        min=1,
        help="How many labels to keep for each image, at most. Default: 1, with --multi-label all that fit.",
        show_default=False,
    ),
]

# When an image has no label, or several

MinScore = Annotated[
    float | None,
    typer.Option(
        "--min-score",
        metavar="X",
        callback=_check_cosine,
        help="An image is unknown when its best cosine is lower.",
    ),
]
MinProbability = Annotated[
    float | None,
    typer.Option(
        "--min-probability",
        metavar="X",
        callback=_check_probability,
        help="The same for the probability of its best label; with --multi-label, of each label that it keeps (0.5).",
    ),
]
MinMargin = Annotated[
    float | None,
    typer.Option(
        "--min-margin",
        metavar="X",
        callback=_check_cosine,
        help="The same for its lead in cosine over the second label.",
    ),
]
Background = Annotated[
    Path | None,
    typer.Option(
        "--background",
        metavar="FILE",
        help="An image is unknown when a label of this file is nearer; they take no part in the probabilities.",
    ),
]
MultiLabel = Annotated[
    bool, typer.Option("--multi-label", help="Judge every label on its own: an image may have several.")
]

# How files are read

ExactDecode = Annotated[
    bool,
    typer.Option("--exact-decode", help="Read every pixel of large JPEGs, not a smaller scale of them: slower."),
]
MaxPixels = Annotated[
    int | None,
    typer.Option(
        "--max-pixels",
        metavar="N",
        min=1,
        help="Refuse larger pictures. Default: 178956970, where Pillow begins to doubt them.",
        show_default=False,
    ),
]
DecodeTimeout = Annotated[
    float | None,
    typer.Option(
        "--decode-timeout",
        metavar="SECONDS",
        min=0.1,
        help="Give up a picture that takes longer to decode. Default: 60.",
        show_default=False,
    ),
]

# Results

Outputs = Annotated[
    list[Path] | None,
    typer.Option(
        "--output",
        "-o",
        metavar="FILE",
        help="Write a .csv, .tsv, .jsonl, .parquet or .html file; may be repeated.",
        show_default=False,
    ),
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace output files that exist.")]
Resume = Annotated[
    bool,
    typer.Option("--resume", help="Go on where a run with these outputs stopped; begin where there was none."),
]
SortInto = Annotated[
    Path | None,
    typer.Option("--sort-into", metavar="DIR", help="File every image under its label; zeroshot unsort undoes it."),
]
SortModeOption = Annotated[SortMode, typer.Option("--sort-mode", help="How images get there.")]
OutputFormat = Annotated[
    Format | None,
    typer.Option("--format", help="What standard output gets. Default: a table on a terminal, csv in a pipe."),
]
Cache = Annotated[
    bool,
    typer.Option("--cache/--no-cache", help="Keep embeddings, and use those of earlier runs (zeroshot cache)."),
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
    envvar=MODEL_VARIABLE,
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
        envvar=PRETRAINED_VARIABLE,
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
        envvar=DEVICE_VARIABLE,
        callback=check_device,
        help="Where the model runs.",
    ),
]
PrecisionOption = Annotated[
    Precision,
    typer.Option("--precision", envvar=PRECISION_VARIABLE, help="The numbers it computes in."),
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
