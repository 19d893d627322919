"""The training loop: batches in, steps, checkpoints and a model folder out."""

import math
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import torch
from PIL import Image

from zeroshot_cli.clip.config import config_to_dict
from zeroshot_cli.clip.model import CLIP
from zeroshot_cli.errors import DataError, UsageError, ZeroshotError
from zeroshot_cli.images.augment import Augment
from zeroshot_cli.models.device import resolve_precision
from zeroshot_cli.models.formats.open_clip import save_model
from zeroshot_cli.records import SkippedImage
from zeroshot_cli.train.checkpoint import (
    TrainState,
    best_checkpoint,
    check_same,
    list_checkpoints,
    read_state,
    save_checkpoint,
)
from zeroshot_cli.train.config import TrainConfig
from zeroshot_cli.train.data import Batch, TrainBatches, TrainPlans, batches_of
from zeroshot_cli.train.distributed import World, check_processes, joined
from zeroshot_cli.train.folder import RunFolder
from zeroshot_cli.train.interrupt import Stop, stop_on_signals
from zeroshot_cli.train.judge import Judge
from zeroshot_cli.train.learner import Done, Learner
from zeroshot_cli.train.metrics import RunInfo, Speed, StepReport, TrainResult
from zeroshot_cli.train.prepare import Prepared, prepare
from zeroshot_cli.train.schedule import learning_rate, warmup_steps
from zeroshot_cli.train.skipped import Skipped
from zeroshot_cli.train.validate import Validation
from zeroshot_cli.train.zero_shot import Accuracy

MIN_SAVE_STEPS = 100  # a checkpoint every epoch, but short epochs share one
BAD_STEPS = 3  # in a row without a finite loss and gradient: then the run ends


def train(
    config: TrainConfig,
    output: Path,
    *,
    resume: bool = False,
    dry_run: bool = False,
    on_check: Callable[[int, int], None] = lambda done, total: None,
    on_start: Callable[[RunInfo], None] = lambda info: None,
    on_step: Callable[[StepReport], None] = lambda report: None,
    on_save: Callable[[], None] = lambda: None,
) -> TrainResult | None:
    """Train a CLIP on pairs and leave it in `output`/model; with `dry_run` end before the first step, with None.

    Under torchrun every process calls it; the first one writes and calls the callbacks: `on_check` while images are
    looked at, `on_start` with what will be done, `on_step`, `on_save` when a checkpoint is on disk. Raises UsageError
    for options that do not go together, a folder that holds another run or a loss that is no finite number, DataError
    for pairs that cannot be trained on, KeyboardInterrupt after Ctrl-C or SIGTERM, when a checkpoint has been written.
    """
    check_processes(batch_size=config.batch_size, fsdp=config.fsdp, ema=config.ema is not None)
    folder = RunFolder(output)
    if resume or not dry_run:
        folder.check(resume=resume)
    with joined(config.device) as (world, device):
        run = _Run(config, folder, world, device, prepare(config, checks=world.is_first, on_check=on_check))
        if resume:
            run.resume()
        if world.is_first:
            on_start(run.info())
        if dry_run:
            return None
        return run.go(on_step, on_save) if world.is_first else run.go(lambda report: None, lambda: None)


class _Run:
    """One run: everything that changes from step to step, and where it is written."""

    def __init__(
        self, config: TrainConfig, folder: RunFolder, world: World, device: torch.device, prepared: Prepared
    ) -> None:
        self.config, self.folder, self.world, self.device, self.prepared = config, folder, world, device, prepared
        self.start = prepared.start
        fingerprint = prepared.pairs.fingerprint()
        if len(set(world.collected([fingerprint]))) > 1:
            raise DataError("the processes of this run do not see the same pairs; give all of them the same files")
        self.precision = resolve_precision(config.precision, device)
        self.learner = Learner(config, self.start, world, device, self.precision)
        self.judge = Judge(config, prepared, self.learner.inputs, device, self.precision)
        self.steps_per_epoch = len(prepared.pairs) // config.batch_size
        self.steps = config.epochs * self.steps_per_epoch
        self.warmup = warmup_steps(self.steps, config.warmup)
        self.save_every = config.save_every or epochs_of_at_least(MIN_SAVE_STEPS, self.steps_per_epoch)
        self.identity = {  # all that must be the same when the run goes on
            **config.identity(),
            "lr": self.start.lr,
            "precision": self.precision,
            "pairs": fingerprint,
            "architecture": config_to_dict(self.start.config),
        }
        self.speed = Speed()
        self.skipped = Skipped(folder.skipped)
        self.step = self.bad_steps = 0
        self.val_loss: float | None = None  # of the weights as they are, where they were validated

    def info(self) -> RunInfo:
        """What is about to be done."""
        assert self.prepared.preflight is not None
        return RunInfo(
            preflight=self.prepared.preflight,
            steps=self.steps,
            steps_per_epoch=self.steps_per_epoch,
            first_step=self.step,
            parameters=self.learner.parameters,
            device=str(self.device),
            precision=self.precision,
            lr=self.start.lr,
            processes=self.world.size,
        )

    def resume(self) -> None:
        """Take up the newest checkpoint; a run that was killed before its first one begins again."""
        checkpoints = list_checkpoints(self.folder.checkpoints)
        if checkpoints:
            newest = checkpoints[-1]
            state = read_state(newest)
            check_same(state.config, self.identity, where=self.folder.path)
            self.learner.load(newest)
            self.step = state.step
        if len(set(self.world.collected([self.step]))) > 1:
            raise UsageError(f"the processes of this run do not see the same {self.folder.path}; use a shared disk")

    def go(self, on_step: Callable[[StepReport], None], on_save: Callable[[], None]) -> TrainResult:
        """Make the steps that are left."""
        if self.world.is_first:
            self.folder.begin(self.config.to_dict())
            self.folder.cut(self.step)
            self.skipped.recall()
            self._note_skipped(self.prepared.preflight.unreadable if self.prepared.preflight else ())
        report = None
        self.speed = Speed()
        with stop_on_signals() as stop:
            for batch in self._saved_on_error(self._batches()):
                self.speed.waited()
                done = self._step(batch, stop=stop.asked)
                report = self._report(done, stop)
                on_step(report)
                stopped = done.stop or (stop.asked and self.world.size == 1)  # many end after the next step, together
                if stopped or self.step % self.save_every == 0 or self.step == self.steps:
                    with self.speed.paused():
                        self.save()
                        on_save()
                if stopped:
                    raise KeyboardInterrupt
        if report is None:  # the run was complete, and its model may have been removed
            self._save_model(self.learner.current())
            on_save()
        return TrainResult(self.folder.model, report, self.skipped.images())

    def _saved_on_error(self, batches: Iterator[Batch]) -> Iterator[Batch]:
        """Lose nothing where the next batch cannot be had."""
        try:
            yield from batches
        except ZeroshotError:
            if self.step and self.world.size == 1:
                self.save()
            raise

    def _batches(self) -> Iterator[Batch]:
        config, pairs = self.config, self.prepared.pairs
        augment = Augment(
            self.start.preprocess.height_width,
            min_scale=config.min_scale,
            kinds=frozenset(config.augment),
            resample=Image.Resampling[self.start.preprocess.interpolation.value.upper()],
        )
        plans = TrainPlans(
            pairs.sources,
            batch_size=config.batch_size,
            epochs=config.epochs,
            seed=config.seed,
            first_step=self.step,
            rank=self.world.rank,
            world=self.world.size,
        )
        return batches_of(TrainBatches(pairs, augment, seed=config.seed), plans, workers=config.workers)

    def _step(self, batch: Batch, *, stop: bool) -> Done:
        """One step of the optimizer. UsageError after a few that came to nothing."""
        lr = learning_rate(self.step, total=self.steps, warmup=self.warmup, peak=self.start.lr)
        self.step += 1
        done = self.learner.step(batch, lr=lr, number=self.step, stop=stop)
        if done.skipped:
            self._note_skipped(self.world.collected(batch.skipped))
        self.bad_steps = 0 if done.is_finite else self.bad_steps + 1
        if self.bad_steps == BAD_STEPS:
            name, number = ("norm of the gradient", done.norm) if math.isfinite(done.loss) else ("loss", done.loss)
            raise self._diverged(f"the {name} is {number}, in {BAD_STEPS} steps up to {self.step}")
        self.speed.count(self.config.batch_size)
        return done

    def _diverged(self, what: str) -> UsageError:
        return UsageError(
            f"{what}; use a lower --lr than {self.start.lr:g}, a longer --warmup than {self.config.warmup:g} or "
            "--precision fp32 (the last checkpoint is from before)"
        )

    def _note_skipped(self, images: Iterable[SkippedImage]) -> None:
        if self.world.is_first:
            with self.folder.writing():
                self.skipped.add(images)

    def _report(self, done: Done, stop: Stop) -> StepReport:
        ends_epoch = self.step % self.steps_per_epoch == 0
        self.val_loss = None
        is_judged = ends_epoch or self.step % self.save_every == 0
        if is_judged and stop.asked and self.world.size == 1:
            self.save()  # who asks may not wait for the judgement
        validation, zero_shot = self._judged() if is_judged else (None, None)
        if validation is not None:
            self.val_loss = validation.loss
        report = StepReport(
            step=self.step,
            epoch=(self.step - 1) // self.steps_per_epoch + 1,
            loss=done.loss,
            lr=done.lr,
            logit_scale=self.learner.scale,
            grad_norm=done.norm,
            images_per_second=self.speed.images_per_second(),
            data_wait=self.speed.data_wait(),
            skipped=len(self.skipped),
            validation=validation,
            zero_shot=zero_shot,
        )
        if self.world.is_first and (self.step % self.config.log_every == 0 or is_judged):
            self.folder.log(report.row())
        return report

    def _judged(self) -> tuple[Validation | None, Accuracy | None]:
        """What the model is worth, by the first process; the others have to help it where they have shares of it."""
        if not self.judge.is_needed:
            return None, None
        with self.speed.paused():
            model = self.learner.current()
            if not self.world.is_first:
                return None, None
            try:
                validation, zero_shot = self.judge.judge(model)
            except Exception:
                if self.world.size == 1:
                    self.save()
                raise
            finally:
                self.learner.go_on()
        if validation is not None:
            self._note_skipped(validation.skipped)
            if not math.isfinite(validation.loss):
                raise self._diverged(f"the validation loss is {validation.loss} after step {self.step}")
        return validation, zero_shot

    def save(self) -> None:
        """Write a checkpoint and the model folder as they are now."""
        state = TrainState(self.step, self.step // self.steps_per_epoch, self.identity, self.val_loss)
        tensors, current = self.learner.tensors(), self.learner.current()
        if self.world.is_first:
            with self.folder.writing():
                saved = save_checkpoint(self.folder.checkpoints, state, tensors, keep=self.config.keep)
                if saved == best_checkpoint(self.folder.checkpoints):
                    save_model(self.folder.best, current, self.start.config, self.start.preprocess)
        self._save_model(current)
        self.world.wait()

    def _save_model(self, current: CLIP) -> None:
        if self.world.is_first:
            model = self.learner.mixed(current) if self.step == self.steps else current
            with self.folder.writing():
                save_model(self.folder.model, model, self.start.config, self.start.preprocess)


def epochs_of_at_least(steps: int, steps_per_epoch: int) -> int:
    """The steps of the fewest whole epochs that make at least `steps`."""
    return steps_per_epoch * math.ceil(steps / steps_per_epoch)
