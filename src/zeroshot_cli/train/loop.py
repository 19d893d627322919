"""The training loop: batches in; events, checkpoints and a model folder out."""

import math
import signal
import time
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from PIL import Image

from zeroshot_cli.clip.config import config_to_dict
from zeroshot_cli.clip.model import CLIP
from zeroshot_cli.errors import DataError, UsageError, ZeroshotError
from zeroshot_cli.images.augment import Augment
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
from zeroshot_cli.train.data import Batch, TrainBatches, TrainPlans, batches_of, decoding_of
from zeroshot_cli.train.distributed import check_processes, is_first_process, joined
from zeroshot_cli.train.events import Event, Finished, Saved, Started, Stepped
from zeroshot_cli.train.folder import RunFolder
from zeroshot_cli.train.learner import Done, Learner
from zeroshot_cli.train.schedule import Schedule
from zeroshot_cli.train.start import Prepared, prepare
from zeroshot_cli.train.validate import Accuracy, Validation, validate_pairs

BAD_STEPS = 3  # in a row without a finite loss and gradient: then the run ends
SPEED_WINDOW = 20  # steps over which images a second are measured


def train(config: TrainConfig, output: Path, *, resume: bool = False, dry_run: bool = False) -> Iterator[Event]:
    """Train a CLIP on pairs, leave it in `output`/model, and yield what happens; with `dry_run` end after Started.

    Under torchrun every process calls it, and the first one alone writes and yields. Raises UsageError for options that
    do not go together, a folder that holds another run or a loss that is not finite, DataError for pairs that cannot be
    trained on, KeyboardInterrupt after Ctrl-C or SIGTERM, when a checkpoint has been written.
    """
    check_processes(batch_size=config.batch_size, fsdp=config.fsdp, ema=config.ema is not None)
    events = _events(config, RunFolder(output), resume=resume, dry_run=dry_run)
    if is_first_process():
        yield from events
    else:
        deque(events, maxlen=0)


def _events(config: TrainConfig, folder: RunFolder, *, resume: bool, dry_run: bool) -> Iterator[Event]:
    if resume or not dry_run:
        folder.check(resume=resume)
    with joined(config.device) as (world, device):
        prepared = yield from prepare(config, checks=world.is_first)
        run = _Run(config, folder, prepared, Learner(config, prepared.start, world, device))
        if resume:
            run.resume()
        if world.is_first:
            yield run.started()
        if not dry_run:
            yield from run.go()


class _Run:
    """One run: what it is made of, and what changes from step to step."""

    def __init__(self, config: TrainConfig, folder: RunFolder, prepared: Prepared, learner: Learner) -> None:
        self.config, self.folder, self.prepared, self.learner = config, folder, prepared, learner
        self.world = learner.world
        if len(set(self.world.collected([prepared.fingerprint]))) > 1:
            raise DataError("the processes of this run do not see the same pairs; give all of them the same files")
        self.schedule = Schedule.of(config, pairs=len(prepared.pairs), peak=prepared.start.lr)
        self.speed = _Speed()
        self.step = self.bad_steps = 0
        self.val_loss: float | None = None  # of the weights as they are, where they were validated

    def identity(self) -> dict[str, Any]:
        """Return all that must be the same when the run is resumed."""
        return {
            **self.config.identity(),
            "lr": self.prepared.start.lr,
            "precision": self.learner.precision,
            "pairs": self.prepared.fingerprint,
            "architecture": config_to_dict(self.prepared.start.config),
        }

    def started(self) -> Started:
        """Return what is about to be done."""
        assert self.prepared.preflight is not None
        return Started(
            preflight=self.prepared.preflight,
            steps=self.schedule.steps,
            steps_per_epoch=self.schedule.steps_per_epoch,
            first_step=self.step,
            parameters=self.learner.parameters,
            device=str(self.learner.device),
            precision=self.learner.precision,
            lr=self.schedule.peak,
            processes=self.world.size,
            assumed=self.prepared.assumed,
        )

    def resume(self) -> None:
        """Load the newest checkpoint; a run that was killed before its first one starts again."""
        checkpoints = list_checkpoints(self.folder.checkpoints)
        if checkpoints:
            newest = checkpoints[-1]
            state = read_state(newest)
            check_same(state.config, self.identity(), where=self.folder.path)
            self.learner.load(newest)
            self.step = state.step
        if len(set(self.world.collected([self.step]))) > 1:
            raise UsageError(f"the processes of this run do not see the same {self.folder.path}; use a shared disk")

    def go(self) -> Iterator[Event]:
        """Make the steps that are left."""
        if self.world.is_first:
            self.folder.begin(self.config.to_dict(), step=self.step, assumed=self.prepared.assumed)
            self._skip(self.prepared.preflight.unreadable if self.prepared.preflight else ())
        last = None
        self.speed = _Speed()
        with _stop_on_signals() as stop:
            for batch in self._saved_on_error(self._batches()):
                self.speed.waited()
                done = self._step(batch, stop=stop.asked)
                last = self._report(done, stop)
                yield last
                stopped = done.stop or (stop.asked and self.world.size == 1)  # many end after the next step, together
                if stopped or self.schedule.is_saved(self.step):
                    with self.speed.paused():
                        self.save()
                        yield Saved()
                if stopped:
                    raise KeyboardInterrupt
        if last is None:  # the run was complete, and its model may have been removed
            self._save_model(self.learner.current())
            yield Saved()
        yield Finished(self.folder.model, last, self.folder.skipped)

    def _saved_on_error(self, batches: Iterator[Batch]) -> Iterator[Batch]:
        """Lose no step where the next batch cannot be read."""
        try:
            yield from batches
        except ZeroshotError:
            if self.step and self.world.size == 1:
                self.save()
            raise

    def _batches(self) -> Iterator[Batch]:
        config, pairs, preprocess = self.config, self.prepared.pairs, self.prepared.start.preprocess
        augment = Augment(
            preprocess.height_width,
            min_scale=config.min_scale,
            kinds=frozenset(config.augment),
            resample=Image.Resampling[preprocess.interpolation.value.upper()],
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
        dataset = TrainBatches(pairs, augment, seed=config.seed, decoding=decoding_of(config))
        return batches_of(dataset, plans, workers=config.workers)

    def _step(self, batch: Batch, *, stop: bool) -> Done:
        """Make one step of the optimizer. Raises UsageError after a few that were not finite."""
        lr = self.schedule.lr(self.step)
        self.step += 1
        done = self.learner.step(batch, lr=lr, number=self.step, stop=stop)
        if done.skipped:
            self._skip(self.world.collected(batch.skipped))
        self.bad_steps = 0 if done.is_finite else self.bad_steps + 1
        if self.bad_steps == BAD_STEPS:
            name, number = ("norm of the gradient", done.norm) if math.isfinite(done.loss) else ("loss", done.loss)
            raise self._diverged(f"the {name} is {number}, in {BAD_STEPS} steps up to {self.step}")
        self.speed.count(self.config.batch_size)
        return done

    def _diverged(self, what: str) -> UsageError:
        return UsageError(
            f"{what}; use a lower --lr than {self.schedule.peak:g}, a longer --warmup than {self.config.warmup:g} or "
            "--precision fp32 (the last checkpoint is from before)"
        )

    def _skip(self, images: Iterable[SkippedImage]) -> None:
        if self.world.is_first:
            self.folder.skip(images)

    def _report(self, done: Done, stop: "_Stop") -> Stepped:
        """Validate the model where that is due, and return what the step came to."""
        self.val_loss = None
        is_judged = self.schedule.is_judged(self.step)
        if is_judged and stop.asked and self.world.size == 1:
            self.save()  # whoever asks need not wait for validation
        validation, zero_shot = self._validate() if is_judged else (None, None)
        if validation is not None:
            self.val_loss = validation.loss
        report = Stepped(
            step=self.step,
            epoch=(self.step - 1) // self.schedule.steps_per_epoch + 1,
            loss=done.loss,
            lr=done.lr,
            logit_scale=self.learner.scale,
            grad_norm=done.norm,
            images_per_second=self.speed.images_per_second(),
            data_wait=self.speed.data_wait(),
            skipped=len(self.folder.skipped),
            validation=validation,
            zero_shot=zero_shot,
        )
        if self.world.is_first and (self.step % self.config.log_every == 0 or is_judged):
            self.folder.log(report.row())
        return report

    def _validate(self) -> tuple[Validation | None, Accuracy | None]:
        """Validate on the first process; the others help where they have shares of the model."""
        val, labelled, learner = self.prepared.val, self.prepared.labelled, self.learner
        validation = accuracy = None
        if val is None and labelled is None:
            return None, None
        with self.speed.paused():
            model = learner.current()
            if not self.world.is_first:
                return None, None
            try:
                model.to(learner.device).eval()
                if val is not None:
                    validation = validate_pairs(learner, model, val)
                if labelled is not None:
                    accuracy = labelled.accuracy(
                        model,
                        self.prepared.start,
                        device=learner.device,
                        precision=learner.precision,
                        workers=self.config.workers or 1,
                        batch_size=self.config.batch_size,
                    )
            except Exception:
                if self.world.size == 1:
                    self.save()
                raise
            finally:
                learner.train_mode()
        if validation is not None:
            self._skip(validation.skipped)
            if not math.isfinite(validation.loss):
                raise self._diverged(f"the validation loss is {validation.loss} after step {self.step}")
        return validation, accuracy

    def save(self) -> None:
        """Write a checkpoint and the model folder as they are now."""
        state = TrainState(self.step, self.step // self.schedule.steps_per_epoch, self.identity(), self.val_loss)
        tensors, current = self.learner.tensors(), self.learner.current()
        if self.world.is_first:
            with self.folder.writing():
                saved = save_checkpoint(self.folder.checkpoints, state, tensors, keep=self.config.keep)
                if saved == best_checkpoint(self.folder.checkpoints):
                    save_model(self.folder.best, current, self.prepared.start.config, self.prepared.start.preprocess)
        self._save_model(current)
        self.world.wait()

    def _save_model(self, current: CLIP) -> None:
        if self.world.is_first:
            model = self.learner.mixed(current) if self.step == self.schedule.steps else current
            with self.folder.writing():
                save_model(self.folder.model, model, self.prepared.start.config, self.prepared.start.preprocess)


class _Speed:
    """Images a second over the last steps, without the time that checkpoints and validation take."""

    def __init__(self) -> None:
        self._steps: deque[tuple[int, float, float]] = deque(maxlen=SPEED_WINDOW)
        self._since = time.perf_counter()
        self._waited = 0.0

    def waited(self) -> None:
        """Note that the batch is there."""
        self._waited = time.perf_counter() - self._since

    def count(self, images: int) -> None:
        """Note that the step is done."""
        now = time.perf_counter()
        self._steps.append((images, now - self._since, self._waited))
        self._since = now

    def images_per_second(self) -> float:
        return sum(images for images, _, _ in self._steps) / self._seconds()

    def data_wait(self) -> float:
        """Return the share of the time in which there was no batch."""
        return sum(waited for _, _, waited in self._steps) / self._seconds()

    def _seconds(self) -> float:
        return max(sum(seconds for _, seconds, _ in self._steps), 1e-9)

    @contextmanager
    def paused(self) -> Iterator[None]:
        began = time.perf_counter()
        try:
            yield
        finally:
            self._since += time.perf_counter() - began


@dataclass
class _Stop:
    """Whether the user has asked the run to end."""

    asked: bool = False


@contextmanager
def _stop_on_signals() -> Iterator[_Stop]:
    """Let Ctrl-C and SIGTERM end the run after the current step; a second Ctrl-C ends it at once.

    Only the main thread can do so; elsewhere nothing changes.
    """
    stop = _Stop()

    def ask(number: int, frame: FrameType | None) -> None:
        if stop.asked:
            raise KeyboardInterrupt
        stop.asked = True

    previous: dict[signal.Signals, Any] = {}
    try:
        for name in (signal.SIGINT, signal.SIGTERM):
            previous[name] = signal.signal(name, ask)
    except ValueError:  # not the main thread
        pass
    try:
        yield stop
    finally:
        for name, handler in previous.items():
            signal.signal(name, handler)
