"""`zeroshot train`: pairs of image and caption in, a run folder with a model out."""

from pathlib import Path
from typing import Annotated

import typer

from zeroshot_cli.cli import options
from zeroshot_cli.errors import UnreadableImage
from zeroshot_cli.train.config import Augmentation, Loss, TextEncoder, TrainConfig

_DATA = "Data"
_OPTIMISATION = "Optimisation"


def train(
    data: Annotated[
        list[Path],
        typer.Option(
            "--data",
            metavar="FILE",
            show_default=False,
            help="The pairs: a .csv or .tsv with an image and a caption column; may be repeated.",
            rich_help_panel=_DATA,
        ),
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="DIR", help="The folder of the run; the model is in DIR/model.")
    ] = Path("run"),
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with the run in the output folder, from its newest checkpoint.")
    ] = False,
    val: Annotated[
        Path | None,
        typer.Option("--val", metavar="FILE", help="Pairs to validate on after each epoch.", rich_help_panel=_DATA),
    ] = None,
    image_column: Annotated[
        str | None,
        typer.Option("--image-column", metavar="NAME", help="The image column's name.", rich_help_panel=_DATA),
    ] = None,
    caption_column: Annotated[
        str | None,
        typer.Option("--caption-column", metavar="NAME", help="The caption column's name.", rich_help_panel=_DATA),
    ] = None,
    augment: Annotated[
        list[Augmentation] | None,
        typer.Option(
            "--augment",
            show_default=False,
            help="Change the pictures at random; may be repeated. `background` is for transparent pictures.",
            rich_help_panel=_DATA,
        ),
    ] = None,
    min_scale: Annotated[
        float,
        typer.Option(
            "--min-scale",
            metavar="X",
            help="The smallest share of its area that a picture is cropped to.",
            rich_help_panel=_DATA,
        ),
    ] = 0.9,
    model: Annotated[
        str,
        typer.Option(
            "--model",
            "-m",
            metavar="NAME|CONFIG.yaml|PATH",
            envvar="ZEROSHOT_MODEL",
            help="A preset or a configuration starts anew; tiny or a model folder brings its weights.",
            rich_help_panel="Model",
        ),
    ] = options.BUNDLED_MODEL,
    pretrained: options.Pretrained = None,
    text_encoder: Annotated[
        TextEncoder | None,
        typer.Option("--text-encoder", help="The text tower of a new model.", rich_help_panel="Model"),
    ] = None,
    loss: Annotated[
        Loss,
        typer.Option(
            "--loss",
            help="clip: softmax over the batch; sigmoid: every pair on its own, as SigLIP.",
            rich_help_panel=_OPTIMISATION,
        ),
    ] = Loss.CLIP,
    epochs: Annotated[
        int,
        typer.Option("--epochs", metavar="N", help="How often every pair is seen.", rich_help_panel=_OPTIMISATION),
    ] = 32,
    batch_size: Annotated[
        int,
        typer.Option(
            "--batch-size",
            metavar="N",
            envvar="ZEROSHOT_BATCH_SIZE",
            help="Pairs a step: each is told from all others of its batch.",
            rich_help_panel=_OPTIMISATION,
        ),
    ] = 256,
    lr: Annotated[
        float | None,
        typer.Option(
            "--lr",
            metavar="X",
            help="The highest learning rate. Default: 5e-4 for a new model, 1e-5 with weights.",
            rich_help_panel=_OPTIMISATION,
        ),
    ] = None,
    warmup: Annotated[
        float,
        typer.Option("--warmup", metavar="X", help="The share of steps to warm up in.", rich_help_panel=_OPTIMISATION),
    ] = 0.05,
    weight_decay: Annotated[
        float,
        typer.Option(
            "--weight-decay",
            metavar="X",
            help="AdamW's weight decay; gains, biases and the temperature have none.",
            rich_help_panel=_OPTIMISATION,
        ),
    ] = 0.2,
    ema: Annotated[
        float | None,
        typer.Option(
            "--ema",
            metavar="X",
            help="Keep a running average of the weights, such as 0.999, and save that.",
            rich_help_panel=_OPTIMISATION,
        ),
    ] = None,
    seed: Annotated[
        int,
        typer.Option(
            "--seed",
            metavar="N",
            help="Fixes a new model's weights, the order of the pairs and all random views.",
            rich_help_panel=_OPTIMISATION,
        ),
    ] = 0,
    log_every: Annotated[
        int, typer.Option("--log-every", metavar="N", help="Steps between two rows of metrics.jsonl.")
    ] = 10,
    save_every: Annotated[
        int,
        typer.Option("--save-every", metavar="N", help="Steps between checkpoints; 0: at the end of epochs."),
    ] = 0,
    device: options.Device = options.AUTO,
    precision: options.PrecisionOption = options.Precision.AUTO,
    workers: options.TrainWorkers = options.AUTO,
    offline: options.Offline = False,
    ignore_errors: options.IgnoreErrors = False,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> None:
    """Train a CLIP on your own pairs of image and caption, anew or from weights."""
    config = TrainConfig(
        data=tuple(str(file) for file in data),
        val=None if val is None else str(val),
        image_column=image_column,
        caption_column=caption_column,
        augment=tuple(augment or ()),
        min_scale=min_scale,
        model=model,
        pretrained=pretrained,
        text_encoder=text_encoder,
        loss=loss,
        epochs=epochs,
        batch_size=batch_size,
        lr=lr,
        warmup=warmup,
        weight_decay=weight_decay,
        ema=ema,
        seed=seed,
        offline=offline,
        log_every=log_every,
        save_every=save_every,
        device=device,
        precision=str(precision),
        workers=options.as_count(workers) or _half_the_cores(),
    )
    skipped = _train(config, output, resume=resume, quiet=quiet)
    raise typer.Exit(UnreadableImage.exit_code if skipped and not ignore_errors else 0)


def _half_the_cores() -> int:
    from zeroshot_cli.encode.images import auto_workers

    return min(8, max(1, auto_workers() // 2))


def _train(config: TrainConfig, output: Path, *, resume: bool, quiet: bool) -> int:
    """Train; return how many images could not be read."""
    from zeroshot_cli.report.training import TrainingView
    from zeroshot_cli.train import loop

    with TrainingView(quiet=quiet) as view:
        result = loop.train(config, output, resume=resume, on_start=view.started, on_step=view.stepped)
    view.finished(result)
    return len(result.skipped)
