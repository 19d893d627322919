"""`zeroshot train`: pairs of image and caption in, a run folder with a model out."""

import warnings
from contextlib import ExitStack
from pathlib import Path

import typer

from zeroshot_cli.cli import options
from zeroshot_cli.cli import train_options as o
from zeroshot_cli.errors import UnreadableImage
from zeroshot_cli.train.config import Loss, TrainConfig


def train(
    data: o.Data,
    output: o.Output = Path("run"),
    resume: o.Resume = False,
    dry_run: o.DryRun = False,
    data_weight: o.DataWeights = None,
    val: o.Val = None,
    image_column: o.ImageColumn = None,
    caption_column: o.CaptionColumn = None,
    verify: o.Verify = False,
    augment: o.Augment = None,
    min_scale: o.MinScale = 0.9,
    model: o.Model = options.BUNDLED_MODEL,
    pretrained: options.Pretrained = None,
    text_encoder: o.TextTower = None,
    lock_image: o.LockImage = False,
    lock_text: o.LockText = False,
    grad_checkpointing: o.GradCheckpointing = False,
    loss: o.LossOption = Loss.CLIP,
    epochs: o.Epochs = 32,
    batch_size: o.BatchSize = 256,
    chunk_size: o.ChunkSize = None,
    lr: o.LearningRate = None,
    layer_decay: o.LayerDecay = None,
    warmup: o.Warmup = 0.05,
    weight_decay: o.WeightDecay = 0.2,
    ema: o.Ema = None,
    wise_ft: o.WiseFt = None,
    seed: o.Seed = 0,
    fsdp: o.Fsdp = False,
    zero_shot: o.ZeroShot = None,
    labels: o.Labels = None,
    prompts: o.Prompts = None,
    report_to: o.ReportTo = None,
    log_every: o.LogEvery = 10,
    save_every: o.SaveEvery = 0,
    keep: o.Keep = 2,
    device: options.Device = options.AUTO,
    precision: options.PrecisionOption = options.Precision.AUTO,
    workers: options.TrainWorkers = options.AUTO,
    max_pixels: options.MaxPixels = None,
    decode_timeout: options.DecodeTimeout = None,
    offline: options.Offline = False,
    ignore_errors: options.IgnoreErrors = False,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> None:
    """Train a CLIP on your own pairs of image and caption, anew or from weights.

    Under torchrun (torchrun --nproc-per-node N -m zeroshot_cli train ...) it uses every process.
    """
    config = TrainConfig(
        data=tuple(data),
        data_weights=tuple(data_weight or ()),
        val=val,
        image_column=image_column,
        caption_column=caption_column,
        verify=verify,
        augment=tuple(augment or ()),
        min_scale=min_scale,
        model=model,
        pretrained=pretrained,
        text_encoder=text_encoder,
        lock_image=lock_image,
        lock_text=lock_text,
        grad_checkpointing=grad_checkpointing,
        loss=loss,
        epochs=epochs,
        batch_size=batch_size,
        chunk_size=chunk_size,
        lr=lr,
        layer_decay=layer_decay,
        warmup=warmup,
        weight_decay=weight_decay,
        ema=ema,
        wise_ft=wise_ft,
        seed=seed,
        fsdp=fsdp,
        zero_shot=zero_shot,
        labels=labels,
        prompts=prompts,
        report_to=tuple(report_to or ()),
        log_every=log_every,
        save_every=save_every,
        keep=keep,
        max_pixels=max_pixels,
        decode_timeout=decode_timeout,
        offline=offline,
        device=device,
        precision=str(precision),
        workers=options.as_count(workers) or _half_the_cores(),
    )
    skipped = _train(config, output, resume=resume, dry_run=dry_run, quiet=quiet)
    raise typer.Exit(UnreadableImage.exit_code if skipped and not ignore_errors else 0)


def _half_the_cores() -> int:
    """Half of this process's share of the cores; the other half trains."""
    from zeroshot_cli.images.decoder_pool import auto_workers
    from zeroshot_cli.train.distributed import processes_here

    return min(8, max(1, auto_workers() // 2 // processes_here()))


def _train(config: TrainConfig, output: Path, *, resume: bool, dry_run: bool, quiet: bool) -> int:
    """Train; return how many images could not be read."""
    from zeroshot_cli.console.training import TrainingView
    from zeroshot_cli.pages.training import write_training_report
    from zeroshot_cli.train import loop
    from zeroshot_cli.train.distributed import is_first_process, processes_here
    from zeroshot_cli.train.events import Checked, Finished, Saved, Started, Stepped
    from zeroshot_cli.train.trackers import check_trackers, open_trackers

    check_trackers(config.report_to)
    finished, tracker = None, None
    with ExitStack() as stack:
        view = stack.enter_context(TrainingView(quiet=quiet or not is_first_process()))
        for event in loop.train(config, output, resume=resume, dry_run=dry_run):
            match event:
                case Checked():
                    view.checked(event)
                case Started():
                    view.started(event)
                    if not dry_run:
                        opening = open_trackers(config.report_to, output, config.to_dict(), first_step=event.first_step)
                        tracker = stack.enter_context(opening)
                case Stepped():
                    view.stepped(event)
                    if tracker is not None:
                        tracker.log(event)
                case Saved():
                    try:
                        write_training_report(output)
                    except Exception as error:  # the run is worth more than its report
                        warnings.warn(f"report.html is not written: {error}", stacklevel=2)
                case Finished():
                    finished = event
    if finished is None:
        return 0
    view.finished(finished)
    return 0 if processes_here() > 1 else len(finished.skipped)  # torchrun would take a failure and start it again
