"""The settings of a training run: options, defaults, help and checks at once, without torch."""

from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Annotated, Any

import typer

from zeroshot_cli.records import Augmentation, Loss, TextEncoder
from zeroshot_cli.train.ranges import check_ranges

START_MODEL = "small"  # without --model: docs/train.md has what it was compared with


def _option(panel: str, name: str, help: str, metavar: str | None = None, **more: Any) -> Any:
    return typer.Option(name, help=help, metavar=metavar, rich_help_panel=panel, **more)


def _several(panel: str, name: str, help: str, metavar: str) -> Any:
    return _option(panel, name, help, metavar, show_default=False)


# Panels of `zeroshot train --help`
_DATA, _MODEL, _OPTIMISATION, _OUTPUT = "Data", "Model", "Optimisation", "Output"
_VALIDATION = "Validation and reports"


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainConfig:
    """The settings of a run, which are also its options: a resumed run must have the same, except MAY_CHANGE.

    Fields that are not Annotated have no option here: the command line sets them by options that other commands share.
    """

    data: Annotated[
        tuple[str, ...],
        _several(
            _DATA,
            "--data",
            "The pairs: csv, tsv, json, jsonl, parquet, WebDataset tars such as shard-{000..099}.tar, or a folder of "
            "images with text files or in class folders; repeatable.",
            "FILE|DIR",
        ),
    ] = ()
    data_weights: Annotated[
        tuple[float, ...],
        _several(
            _DATA,
            "--data-weight",
            "How often to draw a row of each --data relative to the others; once per --data, in order.",
            "X",
        ),
    ] = ()
    val: Annotated[
        tuple[str, ...],
        _several(
            _DATA, "--val", "Pairs to validate on, before the first step and after each epoch; repeatable.", "FILE|DIR"
        ),
    ] = ()
    image_column: Annotated[str | None, _option(_DATA, "--image-column", "The name of the image column.", "NAME")] = (
        None
    )
    caption_column: Annotated[
        str | None, _option(_DATA, "--caption-column", "The name of the caption column.", "NAME")
    ] = None
    label_column: Annotated[
        str | None, _option(_DATA, "--label-column", "The name of a column of classes, in place of captions.", "NAME")
    ] = None
    image_root: Annotated[
        str | None,
        _option(
            _DATA,
            "--image-root",
            "The folder that image paths are relative to. Default: that of the file, or an images folder next to it.",
            "DIR",
        ),
    ] = None
    all_files: Annotated[
        bool, _option(_DATA, "--all-files", "In folders, take hidden and system files too, such as @eaDir.")
    ] = False
    exclude: Annotated[
        tuple[str, ...],
        _several(
            _DATA,
            "--exclude",
            "In folders, leave out files and folders with this name, or this path if it contains a slash; repeatable.",
            "GLOB",
        ),
    ] = ()
    verify: Annotated[
        bool, _option(_DATA, "--verify", "Decode every image before the first step, not just a sample.")
    ] = False
    augment: Annotated[
        tuple[Augmentation, ...],
        _several(
            _DATA,
            "--augment",
            "Change images at random; repeatable: flip, rotate, colour, blur, small, and for transparent images place, "
            "outline, background.",
            "KIND",
        ),
    ] = ()
    min_scale: Annotated[
        float, _option(_DATA, "--min-scale", "The smallest fraction of an image's area that a crop keeps.", "X")
    ] = 0.9

    model: Annotated[
        str,
        typer.Option(
            "--model",
            "-m",
            metavar="NAME|CONFIG.yaml|PATH",
            envvar="ZEROSHOT_MODEL",
            rich_help_panel=_MODEL,
            help="A preset or a configuration file for a new model; small, tiny or a model folder to start from its "
            "weights.",
        ),
    ] = START_MODEL
    pretrained: str | None = None
    text_encoder: Annotated[TextEncoder | None, _option(_MODEL, "--text-encoder", "The text tower of a new model.")] = (
        None
    )
    lock_image: Annotated[bool, _option(_MODEL, "--lock-image", "Do not train the image tower.")] = False
    lock_trunk: Annotated[
        bool, _option(_MODEL, "--lock-trunk", "Of the image tower, train only the head that leads to the embedding.")
    ] = False
    views: Annotated[
        int | None,
        _option(
            _MODEL,
            "--views",
            "Encode each image only once in each of N random views, which epochs take in turn; needs --lock-image or "
            "--lock-trunk.",
            "N",
        ),
    ] = None
    rehearse: Annotated[
        str | None,
        _option(
            _MODEL,
            "--rehearse",
            "The labels of the image tower's own classifier, in its order: with --lock-trunk, each batch gets made-up "
            "features of its classes too, so that the head does not forget them.",
            "NAME|FILE",
        ),
    ] = None
    rehearse_share: Annotated[
        float, _option(_MODEL, "--rehearse-share", "The share of such features in a batch.", "X")
    ] = 0.3
    lock_text: Annotated[bool, _option(_MODEL, "--lock-text", "Do not train the text tower.")] = False
    lora: Annotated[
        int | None,
        _option(_MODEL, "--lora", "Low-rank adaptation: train matrices of this rank, added to the weights.", "RANK"),
    ] = None
    train_batch_norm: Annotated[
        bool,
        _option(
            _MODEL, "--train-batch-norm", "When starting from weights, let the statistics of batch norm move, too."
        ),
    ] = False
    grad_checkpointing: Annotated[
        bool,
        _option(
            _MODEL,
            "--grad-checkpointing",
            "Recompute activations instead of storing them: less memory, a third slower.",
        ),
    ] = False

    loss: Annotated[
        Loss,
        _option(_OPTIMISATION, "--loss", "clip: softmax over the batch; sigmoid: each pair on its own, as in SigLIP."),
    ] = Loss.CLIP
    mask_similar: Annotated[
        float | None,
        _option(
            _OPTIMISATION,
            "--mask-similar",
            "Rows whose texts are to the text tower more alike than this cosine are not negatives of each other.",
            "X",
        ),
    ] = None
    distil_text: Annotated[
        str | None,
        _option(
            _OPTIMISATION,
            "--distil-text",
            "Texts with a teacher's embeddings, as zeroshot embed writes them, that the text tower learns too.",
            "FILE",
        ),
    ] = None
    distil_weight: Annotated[
        float,
        _option(_OPTIMISATION, "--distil-weight", "How much the teacher's mean 1 - cosine adds to the loss.", "X"),
    ] = 3.0
    epochs: Annotated[
        int | None,
        _option(
            _OPTIMISATION,
            "--epochs",
            "Passes over the data. Default: 32, but 10 of up to 5,000 pairs from weights.",
            "N",
        ),
    ] = None
    batch_size: Annotated[
        int | None,
        _option(
            _OPTIMISATION,
            "--batch-size",
            "Pairs per step, over all processes: each pair is contrasted with the rest of its batch. Default: 256, "
            "but a sixth of fewer than 1,536 pairs.",
            "N",
            envvar="ZEROSHOT_BATCH_SIZE",
        ),
    ] = None
    chunk_size: Annotated[
        int | None,
        _option(
            _OPTIMISATION,
            "--chunk-size",
            "Pairs that a process has in memory at once; except in batch norm, the gradient is the whole batch's.",
            "N",
        ),
    ] = None
    lr: Annotated[
        float | None,
        _option(
            _OPTIMISATION,
            "--lr",
            "The peak learning rate. Default: 5e-4 for a new model, 1500 ÷ its parameters from weights, at most 5e-4.",
            "X",
        ),
    ] = None
    layer_decay: Annotated[
        float | None,
        _option(
            _OPTIMISATION,
            "--layer-decay",
            "Multiply the learning rate by this for each layer further down, for example 0.75.",
            "X",
        ),
    ] = None
    warmup: Annotated[float, _option(_OPTIMISATION, "--warmup", "The fraction of steps to warm up over.", "X")] = 0.05
    weight_decay: Annotated[
        float,
        _option(
            _OPTIMISATION, "--weight-decay", "Weight decay of AdamW; gains, biases and the temperature have none.", "X"
        ),
    ] = 0.2
    max_norm: float = 1.0
    ema: Annotated[
        float | None,
        _option(
            _OPTIMISATION,
            "--ema",
            "Keep an exponential moving average of the weights with this decay, such as 0.999, and save it.",
            "X",
        ),
    ] = None
    wise_ft: Annotated[
        float | None,
        _option(
            _OPTIMISATION,
            "--wise-ft",
            "Validate and save a mixture of initial weights (0) and trained ones (1). Default: 0.5 of under 300 pairs.",
            "X",
        ),
    ] = None
    seed: Annotated[
        int,
        _option(_OPTIMISATION, "--seed", "Random seed for new weights, the order of pairs, and augmentation.", "N"),
    ] = 0
    fsdp: Annotated[
        bool,
        _option(_OPTIMISATION, "--fsdp", "Under torchrun: shard weights and optimizer across processes (FSDP2)."),
    ] = False

    zero_shot: Annotated[
        str | None,
        _option(
            _VALIDATION,
            "--zero-shot",
            "Class folders or a table of labels to measure accuracy on, before the first step and after each epoch.",
            "DIR|FILE",
        ),
    ] = None
    labels: Annotated[
        str | None,
        _option(
            _VALIDATION,
            "--labels",
            "The labels of class folders and tables, in --zero-shot or --data. Default: the names that these have.",
            "NAME|FILE",
        ),
    ] = None
    prompts: Annotated[
        str | None,
        _option(_VALIDATION, "--prompts", "The templates for labels, in --zero-shot or --data.", "NAME|FILE"),
    ] = None
    patience: Annotated[
        int | None,
        _option(
            _VALIDATION, "--patience", "Stop after N validations in a row without a better model. Default: never.", "N"
        ),
    ] = None
    template: Annotated[
        tuple[str, ...],
        _several(
            _VALIDATION,
            "--template",
            "A template for labels, such as 'a photo of a {}.'; repeatable, in place of --prompts.",
            "TEXT",
        ),
    ] = ()
    report_to: Annotated[
        tuple[str, ...],
        _several(
            _VALIDATION,
            "--report-to",
            "Where to log figures besides metrics.jsonl: tensorboard, wandb; repeatable.",
            "NAME",
        ),
    ] = ()
    log_every: Annotated[int, _option(_VALIDATION, "--log-every", "Steps between two rows of metrics.jsonl.", "N")] = 10

    save_every: Annotated[
        int, _option(_OUTPUT, "--save-every", "Steps between checkpoints; 0: at the end of epochs.", "N")
    ] = 0  # short epochs share a checkpoint
    keep: Annotated[
        int,
        _option(
            _OUTPUT,
            "--keep",
            "How many of the newest checkpoints to keep, besides the one with the lowest validation loss.",
            "N",
        ),
    ] = 2

    precision: str = "auto"
    device: str = "auto"
    workers: int = 0
    offline: bool = False
    max_pixels: int | None = None  # None is classify's limit, as for the next
    decode_timeout: float | None = None
    allow_private: bool = False
    truncated: str = "skip"

    def __post_init__(self) -> None:
        """Raise UsageError for a value out of range, with its option and the range."""
        check_ranges(self)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, as config.yaml has them."""
        return {name: _plain(value) for name, value in asdict(self).items()}

    def identity(self) -> dict[str, Any]:
        """Return the settings that a resumed run must share with its beginning."""
        return {name: value for name, value in self.to_dict().items() if name not in MAY_CHANGE}


# The rows themselves are compared, wherever their files are; the others do not affect the weights.
MAY_CHANGE = frozenset(
    {"data", "data_weights", "val", "offline", "device", "workers", "log_every", "save_every", "verify", "keep"}
    | {"zero_shot", "labels", "prompts", "report_to", "fsdp", "decode_timeout", "image_root", "patience"}
    | {"all_files", "exclude", "template", "allow_private"}
)


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_plain(each) for each in value]
    return str(value) if isinstance(value, StrEnum) else value
