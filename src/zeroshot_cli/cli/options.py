"""The options that commands share, one by one and in groups.

A command's options are one frozen dataclass that inherits the groups it needs. A field says everything about its
option: `field: Annotated[type, typer.Option(names, environment variable, panel, help)] = default`.
"""

import logging
import warnings
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from zeroshot_cli.cli import completion
from zeroshot_cli.cli.address_options import AllowPrivate
from zeroshot_cli.cli.command import AUTO, Panel, check_batch_size, check_device, check_frames, check_workers
from zeroshot_cli.console.terminal import note_default, passing_note
from zeroshot_cli.models.default import DEFAULT_MODEL, MODEL_VARIABLE, PRETRAINED_VARIABLE, choose
from zeroshot_cli.records import Fit, Truncated

if TYPE_CHECKING:
    from zeroshot_cli.images.decode import Decoding
    from zeroshot_cli.images.find import FoundImages
    from zeroshot_cli.images.selection import Selection
    from zeroshot_cli.models.loaded import LoadedModel

DISTRIBUTION = "zeroshot-cli"  # what pip calls the package
DEVICE_VARIABLE, PRECISION_VARIABLE = "ZEROSHOT_DEVICE", "ZEROSHOT_PRECISION"
_MOST_SECONDS = 86_400.0  # of decoding one image: a day


class Precision(StrEnum):
    """The numeric precision of a model; `auto` is the fastest that is safe on the device."""

    AUTO = "auto"
    FP32 = "fp32"
    BF16 = "bf16"
    FP16 = "fp16"
    INT8 = "int8"


def as_count(value: str) -> int | None:
    """Return the number that an `N|auto` option holds, None for auto."""
    return None if value == AUTO else int(value)


def _silence(value: bool) -> bool:
    if value:
        warnings.simplefilter("ignore")  # app.run restores the filters, and the level
        logging.getLogger("zeroshot_cli").setLevel(logging.ERROR)
    return value


Overwrite = Annotated[
    bool, typer.Option("--overwrite", rich_help_panel=Panel.OUTPUT, help="Replace existing output files.")
]
ExcelSafe = Annotated[
    bool,
    typer.Option(
        "--excel-safe",
        rich_help_panel=Panel.OUTPUT,
        help="In csv and tsv, put a quote before text that Excel would take for a formula.",
    ),
]
IgnoreErrors = Annotated[
    bool,
    typer.Option(
        "--ignore-errors",
        rich_help_panel=Panel.IMAGES,
        help="Exit with 0, not 4, when some images could not be read.",
    ),
]
Pretrained = Annotated[
    str | None,
    typer.Option(
        "--pretrained",
        metavar="TAG|PATH",
        envvar=PRETRAINED_VARIABLE,
        autocompletion=completion.tags,
        rich_help_panel=Panel.MODEL,
        help="Which published weights of the model to use, or a checkpoint file.",
    ),
]
Offline = Annotated[
    bool,
    typer.Option(
        "--offline", envvar="ZEROSHOT_OFFLINE", rich_help_panel=Panel.MODEL, help="Use only what is on this machine."
    ),
]
Device = Annotated[
    str,
    typer.Option(
        "--device",
        metavar="auto|cpu|cuda|cuda:N|mps",
        envvar=DEVICE_VARIABLE,
        callback=check_device,
        autocompletion=completion.devices,
        rich_help_panel=Panel.MACHINE,
        help="Where the model runs.",
    ),
]
PrecisionOption = Annotated[
    Precision,
    typer.Option(
        "--precision", envvar=PRECISION_VARIABLE, rich_help_panel=Panel.MACHINE, help="The numeric precision."
    ),
]
Quiet = Annotated[
    bool,
    typer.Option(
        "--quiet",
        "-q",
        envvar="ZEROSHOT_QUIET",
        callback=_silence,
        rich_help_panel=Panel.MESSAGES,
        help="Show errors only: no progress, notes or warnings.",
    ),
]
Debug = Annotated[
    bool,
    typer.Option(
        "--debug", envvar="ZEROSHOT_DEBUG", rich_help_panel=Panel.MESSAGES, help="Show a traceback with an error."
    ),
]


def workers_option(help: str) -> Any:
    """Return --workers; what one of them does depends on the command."""
    return typer.Option(
        "--workers",
        metavar="N|auto",
        envvar="ZEROSHOT_WORKERS",
        callback=check_workers,
        rich_help_panel=Panel.MACHINE,
        help=help,
    )


@dataclass(frozen=True, kw_only=True)
class MessageOptions:
    """What is said on standard error."""

    quiet: Quiet = False
    verbose: Annotated[
        bool,
        typer.Option(
            "--verbose",
            "-v",
            envvar="ZEROSHOT_VERBOSE",
            rich_help_panel=Panel.MESSAGES,
            help="Say what is being used, and all that was assumed.",
        ),
    ] = False
    debug: Debug = False


@dataclass(frozen=True, kw_only=True)
class LimitOptions:
    """What is too much of one image, and whether images that cannot be read matter."""

    max_pixels: Annotated[
        int | None,
        typer.Option(
            "--max-pixels",
            metavar="N",
            min=1,
            show_default=False,
            rich_help_panel=Panel.IMAGES,
            help="Refuse larger images. Default: 178956970, the size above which Pillow refuses them.",
        ),
    ] = None
    decode_timeout: Annotated[
        float | None,
        typer.Option(
            "--decode-timeout",
            metavar="SECONDS",
            min=0.1,
            max=_MOST_SECONDS,
            show_default=False,
            rich_help_panel=Panel.IMAGES,
            help="Give up on an image that takes longer to decode. Default: 60.",
        ),
    ] = None
    truncated: Annotated[
        Truncated,
        typer.Option(
            "--truncated",
            rich_help_panel=Panel.IMAGES,
            help="What to do with an image that is cut off: read what is there, with a note, or skip it as unreadable.",
        ),
    ] = Truncated.SKIP
    ignore_errors: IgnoreErrors = False


@dataclass(frozen=True, kw_only=True)
class DecodingOptions(LimitOptions):
    """How image files are read. `exact_decode` is an option only where a command makes it one."""

    exact_decode: bool = True
    frames: Annotated[
        str,
        typer.Option(
            "--frames",
            metavar="first|middle|N|each",
            callback=check_frames,
            rich_help_panel=Panel.IMAGES,
            help="Which frame of an animation, or page of a file, to read. N counts from 0; with each, every frame "
            "is an image of its own, PATH#N.",
        ),
    ] = "first"
    fit: Annotated[
        Fit | None,
        typer.Option(
            "--fit",
            show_default=False,
            rich_help_panel=Panel.IMAGES,
            help="How an image is brought to the model's shape: crop its centre, pad it with borders, or squash it. "
            "Default: as the model was trained, usually crop.",
        ),
    ] = None
    allow_private: AllowPrivate = False

    def decoding(self) -> "Decoding":
        """Return how files become pixels."""
        from zeroshot_cli.images.decode import Decoding

        given = {"max_pixels": self.max_pixels, "timeout": self.decode_timeout}
        limits: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
        kinds = {"truncated": str(self.truncated), "frames": self.frames, "fit": self.fit and str(self.fit)}
        private = self.allow_private
        return Decoding(exact=self.exact_decode, allow_private=private, **kinds, **limits)  # type: ignore[arg-type]

    def reading(self) -> dict[str, str | None]:
        """Return how images are read, on which a run depends, by option; None for each at its default."""
        defaults = DecodingOptions()
        named = {name: getattr(self, name) for name in ("truncated", "frames", "fit")}
        return {name: None if value == getattr(defaults, name) else str(value) for name, value in named.items()}


@dataclass(frozen=True, kw_only=True)
class FolderOptions:
    """Which files of a folder are taken."""

    all_files: Annotated[
        bool,
        typer.Option(
            "--all-files",
            rich_help_panel=Panel.IMAGES,
            help="Take hidden and system files and folders too, such as @eaDir, .thumbnails and trash.",
        ),
    ] = False
    exclude: Annotated[
        tuple[str, ...],
        typer.Option(
            "--exclude",
            metavar="GLOB",
            show_default=False,
            rich_help_panel=Panel.IMAGES,
            help="Leave out files and folders with this name, or with this path if it contains a slash; repeatable.",
        ),
    ] = ()

    def selection(self, outside: Path | None = None) -> "Selection":
        """Return what is taken of folders; `outside` is not searched."""
        from zeroshot_cli.images.selection import Selection

        return Selection(all_files=self.all_files, exclude=self.exclude, outside=outside)


@dataclass(frozen=True, kw_only=True)
class PixelOptions(DecodingOptions, FolderOptions):
    """How the user's own images are read."""

    exact_decode: Annotated[
        bool,
        typer.Option(
            "--exact-decode",
            rich_help_panel=Panel.IMAGES,
            help="Decode every pixel of large images, rather than at a smaller scale: slower.",
        ),
    ] = False


@dataclass(frozen=True, kw_only=True)
class ImageOptions(PixelOptions):
    """How the user's own images are named and read. It needs the `workers` of BatchOptions."""

    null: Annotated[
        bool,
        typer.Option(
            "-0",
            "--null",
            rich_help_panel=Panel.IMAGES,
            help="Paths on standard input end with NUL, as find -print0 writes them.",
        ),
    ] = False

    def with_frames(self, found: "FoundImages") -> "FoundImages":
        """Return what was found, with every frame as an image of its own where the options say so."""
        if self.frames != "each":
            return found
        from zeroshot_cli.images.decoder_pool import auto_workers, each_frame

        workers = as_count(getattr(self, "workers", AUTO)) or auto_workers()
        return found.with_items(each_frame(found.items, workers=workers, decoding=self.decoding()))


@dataclass(frozen=True, kw_only=True)
class _Model:
    """The one model of a command."""

    model: Annotated[
        str | None,
        typer.Option(
            "--model",
            "-m",
            metavar="NAME|hf-hub:ORG/REPO|PATH",
            envvar=MODEL_VARIABLE,
            autocompletion=completion.models,
            show_default=False,
            rich_help_panel=Panel.MODEL,
            help=f"The model (see zeroshot models recommend). Default: {DEFAULT_MODEL}; models use changes that.",
        ),
    ] = None


@dataclass(frozen=True, kw_only=True)
class RuntimeOptions:
    """Which weights to use, where the model runs, and whether embeddings are kept."""

    pretrained: Pretrained = None
    image_size: Annotated[
        int | None,
        typer.Option(
            "--image-size",
            metavar="PIXELS",
            envvar="ZEROSHOT_IMAGE_SIZE",
            min=1,
            show_default=False,
            rich_help_panel=Panel.MODEL,
            help="Use the model at another image size; its position embeddings are interpolated, as in open_clip.",
        ),
    ] = None
    offline: Offline = False
    device: Device = AUTO
    precision: PrecisionOption = Precision.AUTO
    cache: Annotated[
        bool,
        typer.Option(
            "--cache/--no-cache",
            rich_help_panel=Panel.MACHINE,
            help="Keep embeddings, and reuse those of earlier runs (see zeroshot cache).",
        ),
    ] = True

    def load(self, name: str | None, pretrained: str | None) -> "LoadedModel":
        """Load a model as the options say, without a name the default one."""
        chosen, quiet = choose(name, pretrained), getattr(self, "quiet", False)
        note_default(chosen, quiet=quiet)
        with chosen.explained(), passing_note(f"loading {chosen.name} …", quiet=quiet):
            from zeroshot_cli.models.download import fetch_ahead

            fetch_ahead(chosen.name, chosen.pretrained, offline=self.offline)
            from zeroshot_cli.models.load import load  # torch, and a hub that is silent should be heard of before

            at = {"device": self.device, "precision": self.precision.value, "engine": getattr(self, "runner", AUTO)}
            return load(chosen.name, chosen.pretrained, offline=self.offline, image_size=self.image_size, **at)

    def check_cache(self) -> None:
        """Raise UsageError now if ZEROSHOT_CACHE_SIZE is not a size."""
        if self.cache:
            from zeroshot_cli.embed.cache_store import size_limit

            size_limit()


@dataclass(frozen=True, kw_only=True)
class ModelOptions(RuntimeOptions, _Model):
    """A model, and how it runs."""


@dataclass(frozen=True, kw_only=True)
class BatchOptions:
    """How many images are worked on at once."""

    batch_size: Annotated[
        str,
        typer.Option(
            "--batch-size",
            metavar="N|auto",
            envvar="ZEROSHOT_BATCH_SIZE",
            callback=check_batch_size,
            rich_help_panel=Panel.MACHINE,
            help="How many images the model takes at once.",
        ),
    ] = AUTO
    workers: Annotated[str, workers_option("How many images are decoded at once; auto is one per core.")] = AUTO
