"""The options of `zeroshot train`, each an annotation: its name, its panel in --help, its help."""

from pathlib import Path
from typing import Annotated, Any

import typer

from zeroshot_cli.records import Augmentation
from zeroshot_cli.train.config import Loss, TextEncoder

_DATA, _MODEL, _OPTIMISATION, _SEEING = "Data", "Model", "Optimisation", "Validation and reports"


def _option(name: str, help: str, *, panel: str | None = None, metavar: str | None = None, **more: Any) -> Any:
    return typer.Option(name, help=help, rich_help_panel=panel, metavar=metavar, **more)


Data = Annotated[
    list[str],
    _option(
        "--data",
        "The pairs: csv, tsv, jsonl, parquet, or WebDataset tars such as shard-{000..099}.tar; may be repeated.",
        panel=_DATA,
        metavar="FILE",
        show_default=False,
    ),
]
DataWeights = Annotated[
    list[float] | None,
    _option(
        "--data-weight",
        "How often a row of each --data is drawn, against the others; one for each of them, in order.",
        panel=_DATA,
        metavar="X",
        show_default=False,
    ),
]
Val = Annotated[str | None, _option("--val", "Pairs to validate on after each epoch.", panel=_DATA, metavar="FILE")]
ImageColumn = Annotated[str | None, _option("--image-column", "The image column's name.", panel=_DATA, metavar="NAME")]
CaptionColumn = Annotated[
    str | None, _option("--caption-column", "The caption column's name.", panel=_DATA, metavar="NAME")
]
Verify = Annotated[
    bool, _option("--verify", "Decode every image before the first step, not a sample of them.", panel=_DATA)
]
DryRun = Annotated[
    bool, _option("--dry-run", "Check data, model and options, say what would be done, and end.", panel=_DATA)
]
Augment = Annotated[
    list[Augmentation] | None,
    _option(
        "--augment",
        "Change the pictures at random; may be repeated. `place`, `outline` and `background` change transparent "
        "pictures only.",
        panel=_DATA,
        show_default=False,
    ),
]
MinScale = Annotated[
    float,
    _option("--min-scale", "The smallest share of its area that a picture is cropped to.", panel=_DATA, metavar="X"),
]

Model = Annotated[
    str,
    typer.Option(
        "--model",
        "-m",
        metavar="NAME|CONFIG.yaml|PATH",
        envvar="ZEROSHOT_MODEL",
        help="A preset or a configuration starts anew; tiny or a model folder brings its weights.",
        rich_help_panel=_MODEL,
    ),
]
TextTower = Annotated[TextEncoder | None, _option("--text-encoder", "The text tower of a new model.", panel=_MODEL)]
LockImage = Annotated[bool, _option("--lock-image", "Leave the image tower as it is.", panel=_MODEL)]
LockText = Annotated[bool, _option("--lock-text", "Leave the text tower as it is.", panel=_MODEL)]
GradCheckpointing = Annotated[
    bool,
    _option(
        "--grad-checkpointing",
        "Compute activations twice rather than keep them: less memory, a third slower.",
        panel=_MODEL,
    ),
]

LossOption = Annotated[
    Loss,
    _option("--loss", "clip: softmax over the batch; sigmoid: every pair on its own, as SigLIP.", panel=_OPTIMISATION),
]
Epochs = Annotated[int, _option("--epochs", "How often the pairs are gone through.", panel=_OPTIMISATION, metavar="N")]
BatchSize = Annotated[
    int,
    _option(
        "--batch-size",
        "Pairs a step, of all processes together: each is told from all others of its batch.",
        panel=_OPTIMISATION,
        metavar="N",
        envvar="ZEROSHOT_BATCH_SIZE",
    ),
]
ChunkSize = Annotated[
    int | None,
    _option(
        "--chunk-size",
        "How many pairs a process has in memory at once; the gradient is the whole batch's, but for batch norm.",
        panel=_OPTIMISATION,
        metavar="N",
    ),
]
LearningRate = Annotated[
    float | None,
    _option(
        "--lr",
        "The highest learning rate. Default: 5e-4 for a new model, 1e-5 with weights.",
        panel=_OPTIMISATION,
        metavar="X",
    ),
]
LayerDecay = Annotated[
    float | None,
    _option(
        "--layer-decay",
        "Each layer learns this much slower than the one above it, such as 0.75.",
        panel=_OPTIMISATION,
        metavar="X",
    ),
]
Warmup = Annotated[float, _option("--warmup", "The share of steps to warm up in.", panel=_OPTIMISATION, metavar="X")]
WeightDecay = Annotated[
    float,
    _option(
        "--weight-decay",
        "AdamW's weight decay; gains, biases and the temperature have none.",
        panel=_OPTIMISATION,
        metavar="X",
    ),
]
Ema = Annotated[
    float | None,
    _option(
        "--ema",
        "Keep a running average of the weights, such as 0.999, and save that.",
        panel=_OPTIMISATION,
        metavar="X",
    ),
]
WiseFt = Annotated[
    float | None,
    _option(
        "--wise-ft",
        "At the end mix the result with the weights that it came from: 0 is those, 1 the result.",
        panel=_OPTIMISATION,
        metavar="X",
    ),
]
Seed = Annotated[
    int,
    _option(
        "--seed",
        "Fixes a new model's weights, the order of the pairs and all random views.",
        panel=_OPTIMISATION,
        metavar="N",
    ),
]
Fsdp = Annotated[
    bool,
    _option("--fsdp", "Under torchrun: share weights and optimizer among the processes (FSDP2).", panel=_OPTIMISATION),
]

ZeroShot = Annotated[
    str | None,
    _option(
        "--zero-shot",
        "A folder of class folders: its accuracy is measured after each epoch.",
        panel=_SEEING,
        metavar="DIR",
    ),
]
Labels = Annotated[
    str | None,
    _option("--labels", "The labels of --zero-shot; else its folder names.", panel=_SEEING, metavar="NAME|FILE"),
]
Prompts = Annotated[
    str | None, _option("--prompts", "The templates for --zero-shot.", panel=_SEEING, metavar="NAME|FILE")
]
ReportTo = Annotated[
    list[str] | None,
    _option(
        "--report-to",
        "Where figures go besides metrics.jsonl: tensorboard, wandb; may be repeated.",
        panel=_SEEING,
        metavar="NAME",
        show_default=False,
    ),
]
LogEvery = Annotated[
    int, _option("--log-every", "Steps between two rows of metrics.jsonl.", panel=_SEEING, metavar="N")
]

Output = Annotated[
    Path, typer.Option("--output", "-o", metavar="DIR", help="The folder of the run; the model is in DIR/model.")
]
Resume = Annotated[
    bool, typer.Option("--resume", help="Go on with the run in the output folder, from its newest checkpoint.")
]
SaveEvery = Annotated[int, _option("--save-every", "Steps between checkpoints; 0: at the end of epochs.", metavar="N")]
Keep = Annotated[
    int,
    _option(
        "--keep", "How many of the newest checkpoints stay, besides that with the lowest validation loss.", metavar="N"
    ),
]
