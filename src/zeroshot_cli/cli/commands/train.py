"""`zeroshot train`: pairs of image and caption in, a run folder with a model out."""

import warnings
from contextlib import ExitStack
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Annotated

import typer

from zeroshot_cli.cli import options as o
from zeroshot_cli.cli.address_options import AllowPrivate
from zeroshot_cli.cli.command import AUTO, Panel, command, finish
from zeroshot_cli.errors import DataError, UsageError
from zeroshot_cli.train.config import MAY_CHANGE, TrainConfig


@dataclass(frozen=True, kw_only=True)
class RunOptions(o.LimitOptions, o.MessageOptions):
    """The options of `zeroshot train` besides its configuration."""

    output: Annotated[
        Path,
        typer.Option(
            "--output",
            "-o",
            metavar="DIR",
            rich_help_panel=Panel.OUTPUT,
            help="The folder of the run; the model will be in DIR/model.",
        ),
    ] = Path("run")
    resume: Annotated[
        bool,
        typer.Option(
            "--resume",
            rich_help_panel=Panel.OUTPUT,
            help="Resume the run in the output folder from its newest checkpoint, with its own options, or begin it "
            "where there is none; --epochs N extends a complete run.",
        ),
    ] = False
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run",
            rich_help_panel=Panel.DATA,
            help="Check data, model and options, say what would be done, and exit.",
        ),
    ] = False
    allow_private: AllowPrivate = False
    pretrained: o.Pretrained = None
    offline: o.Offline = False
    device: o.Device = AUTO
    precision: o.PrecisionOption = o.Precision.AUTO
    workers: Annotated[
        str, o.workers_option("How many processes read images; auto is one for every two cores, at most 8.")
    ] = AUTO


@command
def train(context: typer.Context, config: TrainConfig, run: RunOptions) -> None:
    """Train a CLIP on your own pairs of image and caption, from scratch or from weights.

    Under torchrun (torchrun --nproc-per-node N -m zeroshot_cli train ...) it uses every process.
    """
    config = replace(
        config,
        pretrained=run.pretrained,
        offline=run.offline,
        device=run.device,
        precision=str(run.precision),
        workers=o.as_count(run.workers) or _half_the_cores(),
        max_pixels=run.max_pixels,
        decode_timeout=run.decode_timeout,
        truncated=str(run.truncated),
        allow_private=run.allow_private,
    )
    if run.resume:
        config = _resumed(context, config, run.output)
    skipped = _train(config, run)
    finish(skipped, ignore_errors=run.ignore_errors)


def _resumed(context: typer.Context, config: TrainConfig, output: Path) -> TrainConfig:
    """Return the options of the run in a folder, except for those on the command line and those of this machine.

    Of the environment, what a resumed run may change holds, such as the device, and not the model of other commands.
    """
    from zeroshot_cli.train.distributed import is_first_process
    from zeroshot_cli.train.files.folder import config_from, read_settings

    if not is_first_process():  # the settings of the first one hold for all
        return config
    sources = {name: source.name for name in context.params if (source := context.get_parameter_source(name))}
    given = {name for name, source in sources.items() if source == "COMMANDLINE"} | {"workers", "offline"}
    given |= {name for name, source in sources.items() if source == "ENVIRONMENT"} & MAY_CHANGE
    file = output / "config.yaml"
    if not file.exists():
        if not config.data:
            raise UsageError(
                f"{output} holds no run, and --data is missing to begin one; check --output, or add --data pairs.csv"
            )
        return config
    try:
        saved = config_from(read_settings(output))
    except UsageError as error:
        raise DataError(f"{file}: {error}; --resume with all options of the run writes it again") from None
    except DataError:
        if "data" not in given:
            raise
        return config  # it is written again
    kept = {field.name: getattr(saved, field.name) for field in fields(saved) if field.name not in given}
    return replace(config, **kept)


def _half_the_cores() -> int:
    """Half of this process's share of the cores; the other half trains."""
    from zeroshot_cli.images.decoder_pool import auto_workers
    from zeroshot_cli.train.distributed import processes_here

    return min(8, max(1, auto_workers() // 2 // processes_here()))


def _train(config: TrainConfig, run: RunOptions) -> int:
    """Train; return how many images could not be read."""
    from zeroshot_cli.console.training import TrainingView
    from zeroshot_cli.pages.training import write_training_report
    from zeroshot_cli.train import loop
    from zeroshot_cli.train.distributed import is_first_process, is_under_torchrun
    from zeroshot_cli.train.features import Encoded
    from zeroshot_cli.train.files.folder import Before, Finished, Saved, Started, Stepped
    from zeroshot_cli.train.files.trackers import check_trackers, open_trackers
    from zeroshot_cli.train.preflight import Checked

    check_trackers(config.report_to)
    output, finished, tracker = run.output, None, None
    with ExitStack() as stack:
        view = stack.enter_context(TrainingView(quiet=run.quiet or not is_first_process(), verbose=run.verbose))
        for event in loop.train(config, output, resume=run.resume, dry_run=run.dry_run):
            match event:
                case Checked():
                    view.checked(event)
                case Started():
                    view.started(event)
                    if not run.dry_run:
                        settings = {**config.to_dict(), **event.chosen}
                        opening = open_trackers(config.report_to, output, settings, first_step=event.first_step)
                        tracker = stack.enter_context(opening)
                case Before():
                    view.before(event)
                    if tracker is not None:
                        tracker.log(event)
                case Encoded():
                    view.encoded(event)
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
    return 0 if is_under_torchrun() else len(finished.skipped)  # torchrun would take a failure and start it again
