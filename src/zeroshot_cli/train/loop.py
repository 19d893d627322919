"""The training loop: batches in; events, checkpoints and a model folder out."""

import math
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from zeroshot_cli.clip.config import config_to_dict
from zeroshot_cli.clip.model import CLIP
from zeroshot_cli.errors import DataError, UsageError, ZeroshotError
from zeroshot_cli.images.augment import Augment
from zeroshot_cli.models.formats.open_clip import save_model
from zeroshot_cli.records import SkippedImage
from zeroshot_cli.train.config import TrainConfig
from zeroshot_cli.train.data import Batch, TrainBatches, TrainPlans, batches_of, decoding_of, readers_named
from zeroshot_cli.train.distributed import Stop, check_processes, is_first_process, stop_on_signals
from zeroshot_cli.train.features import Encoded, Rehearsal, Views, remove_views
from zeroshot_cli.train.files.checkpoint import TrainState, best_checkpoint, check_same, save_checkpoint
from zeroshot_cli.train.files.folder import Before, Finished, RunFolder, Saved, Started, Stepped
from zeroshot_cli.train.files.resume import begun_or_new, check_seen, newest_of_all
from zeroshot_cli.train.joining import joined
from zeroshot_cli.train.learner import Done, Learner, validate_pairs
from zeroshot_cli.train.preflight import Checked
from zeroshot_cli.train.schedule import Course, Schedule, Speed, verdict
from zeroshot_cli.train.start import Prepared, prepare
from zeroshot_cli.train.validate import Accuracy, Validation

_CHOSEN = ("epochs", "batch_size", "lr", "wise_ft")  # where they are left open
BAD_STEPS = 3  # in a row without a finite loss and gradient: then the run ends

Event = Checked | Started | Before | Encoded | Stepped | Saved | Finished


def train(config: TrainConfig, output: Path, *, resume: bool = False, dry_run: bool = False) -> Iterator[Event]:
    """Train a CLIP on pairs, leave it in `output`/model, and yield what happens; with `dry_run` end after Started.

    Under torchrun every process calls it, and the first one alone writes and yields. Raises UsageError for options that
    do not go together, a folder that holds another run or a loss that is not finite, DataError for pairs that cannot be
    trained on, KeyboardInterrupt after Ctrl-C or SIGTERM, when a checkpoint has been written.
    """
    events = _events(config, RunFolder(output), resume=resume, dry_run=dry_run)
    if is_first_process():
        yield from events
    else:
        deque(events, maxlen=0)


def _events(config: TrainConfig, folder: RunFolder, *, resume: bool, dry_run: bool) -> Iterator[Event]:
    with readers_named(), joined(config.device) as (world, device):
        config = begun_or_new(config, folder, world, resume=resume, writes=not dry_run)
        alone = [f"--{name}" for name in ("views", "rehearse") if getattr(config, name) is not None]
        check_processes(batch_size=config.batch_size or 0, fsdp=config.fsdp, ema=config.ema is not None, alone=alone)
        prepared = yield from prepare(config, checks=world.is_first, processes=world.size)
        world.wait()
        learner = Learner(prepared.config, prepared.start, world, device, prepared.teacher)
        run = _Run(folder, prepared, learner, left_open=[name for name in _CHOSEN if getattr(config, name) is None])
        if resume:
            run.resume()
        if world.is_first:
            yield run.started()
        if not dry_run:
            try:
                yield from run.go(resume=resume)
            finally:
                folder.end()


class _Run:
    """One run: what it is made of, and what changes from step to step."""

    def __init__(
        self, folder: RunFolder, prepared: Prepared, learner: Learner, *, left_open: Sequence[str] = ()
    ) -> None:
        self.config, self.folder, self.prepared, self.learner = prepared.config, folder, prepared, learner
        self.left_open = left_open
        self.world = learner.world
        self.taught = prepared.teacher and prepared.teacher.fingerprint
        if len(set(self.world.collected([(prepared.fingerprint, self.taught)]))) > 1:
            raise DataError("the processes of this run do not see the same pairs; give all of them the same files")
        self.schedule = Schedule.of(self.config, pairs=len(prepared.pairs), peak=prepared.start.lr)
        labels = prepared.rehearsed
        self.rehearsal = None if labels is None else Rehearsal(learner, labels)
        self.speed = Speed()
        self.step = self.bad_steps = 0
        self.judged: dict[str, Any] = {}  # what validation has found of the weights as they are
        self.course = Course()
        self.losses: deque[tuple[float, float]] = deque(maxlen=max(1, self.schedule.steps // 4))

    def identity(self) -> dict[str, Any]:
        """Return all that must be the same when the run is resumed."""
        return {
            **self.config.identity(),
            "lr": self.prepared.start.lr,
            "precision": self.learner.precision,
            "pairs": self.prepared.fingerprint,
            "rehearse": self.rehearsal and self.rehearsal.fingerprint,
            "distil_text": self.taught,
            "distil_weight": self.taught and self.config.distil_weight,
            "architecture": config_to_dict(self.prepared.start.config),
        }

    def started(self) -> Started:
        """Return what is about to be done."""
        assert self.prepared.preflight is not None
        settings = self.config.to_dict() | {"lr": self.schedule.peak}
        return Started(
            preflight=self.prepared.preflight,
            origin=self.prepared.start.origin,
            steps=self.schedule.steps,
            steps_per_epoch=self.schedule.steps_per_epoch,
            first_step=self.step,
            parameters=self.learner.parameters,
            trained=sum(parameter.numel() for parameter in self.learner.trained),
            device=str(self.learner.device),
            precision=self.learner.precision,
            lr=self.schedule.peak,
            processes=self.world.size,
            assumed=self.prepared.assumed,
            chosen={name: settings[name] for name in self.left_open if settings[name] is not None},
        )

    def resume(self) -> None:
        """Load the newest checkpoint; a run that has none, because it was killed before or is not there, begins."""
        if (newest := newest_of_all(self.folder, self.world)) is not None:
            path, state = newest
            self.step = state.step
            self.course = Course(self.folder.judged(self.step))
            check_same(self._extended(state), self.identity(), where=self.folder.path)
            self.learner.load(path)

    def _extended(self, state: TrainState) -> dict[str, Any]:
        """Return the settings of a run that is resumed, with more epochs now if all of those it had are done."""
        before, now = state.config.get("epochs"), self.config.epochs
        if not isinstance(before, int) or before >= now:
            return state.config
        extended = {**state.config, "epochs": now}
        is_over = state.step >= before * self.schedule.steps_per_epoch or self._is_enough()
        if not is_over:
            check_same(extended, self.identity(), where=self.folder.path)  # other batches have other steps
            raise UsageError(
                f"{self.folder.path} has not done all of its {before} epochs; resume it without --epochs first, then "
                f"with --epochs {now}"
            )
        return extended

    def _is_enough(self) -> bool:
        """Return whether the model has not become better for as long as `patience` says."""
        return self.config.patience is not None and self.course.since_best >= self.config.patience

    def go(self, *, resume: bool) -> Iterator[Event]:
        """Make the steps that are left."""
        if self.world.is_first:
            assumed = self.prepared.assumed
            self.folder.begin(self.config.to_dict(), step=self.step, resume=resume, assumed=assumed)
            self._skip(self.prepared.pairs.skipped)
            self._skip(self.prepared.preflight.unreadable if self.prepared.preflight else ())
        if resume:
            self.world.wait()
            check_seen(self.folder.settings, self.folder, self.world)
        last = None
        is_enough = self._agreed(self._is_enough())
        with stop_on_signals() as stop:
            if not self.step:
                yield from self._before()
            is_over = is_enough or self.step >= self.schedule.steps
            dataset = self._dataset()
            if self.config.views is not None and not is_over:
                yield from self._encode(dataset, stop)
            self.speed = Speed()
            for batch in self._saved_on_error(() if is_over else self._batches(dataset)):
                self.speed.waited()
                done = self._step(batch, stop=stop.asked)
                last = self._report(done, stop)
                yield last
                stopped = done.stop or (stop.asked and self.world.size == 1)  # many end after the next step, together
                is_best, is_enough = self._news()
                if stopped or is_best or is_enough or self.schedule.is_saved(self.step):
                    with self.speed.paused():
                        self.save()
                        yield Saved()
                if stopped:
                    raise KeyboardInterrupt
                if is_enough:
                    break
        if last is None:  # the run was complete, and its models may have been removed
            self._save_again()
            yield Saved()
        if self.world.is_first:
            remove_views(self.folder)
        yield Finished(self.folder.model, last, self.folder.skipped, tuple(self._verdict(last, is_enough)))

    def _before(self) -> Iterator[Event]:
        """Judge the model before its first step."""
        validation, zero_shot = self._validate()
        if validation is not None or zero_shot is not None:
            event = Before(validation, zero_shot)
            self.course.rows.append(event.row())
            self.folder.log(event.row())
            yield event

    def _news(self) -> tuple[bool, bool]:
        """Return whether the model is the best so far, and whether it has not become better for long enough."""
        if not self.schedule.is_judged(self.step):
            return False, False
        best = self.course.best
        is_best = best is not None and best["step"] == self.step
        return self._agreed(is_best), self._agreed(self._is_enough()) and self.step < self.schedule.steps

    def _agreed(self, value: bool) -> bool:
        """Return what the first process found, which alone validates."""
        return self.world.collected([value])[0]

    def _verdict(self, last: Stepped | None, is_enough: bool) -> Iterator[str]:
        best, folder = self.course.best, self.folder
        if is_enough and best is not None:
            yield (
                f"stopped early after step {self.step:,}: no validation since step {best['step']:,} found a better "
                f"model; that one is in {folder.model}, the last one in {folder.last}"
            )
        elif last is None:
            yield (
                f"all {self.config.epochs:,} epochs were done; --resume --epochs N extends the run, and --model "
                f"{folder.path} --output {folder.path}-2 starts another from its model"
            )
        elif best is not None and best["step"] < self.step:
            yield f"the best model, after step {best['step']:,}, is in {folder.model}, the last one in {folder.last}"
        for warning in verdict(self.course, self.losses, self.config, lr=self.schedule.peak):
            yield f"warning: {warning}"

    def _saved_on_error(self, batches: Iterable[Batch]) -> Iterator[Batch]:
        """Lose no step where the next batch cannot be read."""
        try:
            yield from batches
        except ZeroshotError:
            if self.step and self.world.size == 1:
                self.save()
            raise

    def _encode(self, dataset: TrainBatches, stop: Stop) -> Iterator[Encoded]:
        """Have the dataset give features of views that were encoded before, in place of pixels."""
        views = Views(self.learner, self.prepared.pairs, self.folder)
        for event in views.encode(dataset, workers=self.config.workers):
            yield event
            if stop.asked:
                raise KeyboardInterrupt
        dataset.find = views.find

    def _dataset(self) -> TrainBatches:
        config, preprocess = self.config, self.prepared.start.preprocess
        augment = Augment(
            preprocess.height_width,
            min_scale=config.min_scale,
            kinds=frozenset(config.augment),
            resample=Image.Resampling[preprocess.interpolation.value.upper()],
        )
        return TrainBatches(self.prepared.pairs, augment, seed=config.seed, decoding=decoding_of(config))

    def _batches(self, dataset: TrainBatches) -> Iterator[Batch]:
        config = self.config
        plans = TrainPlans(
            self.prepared.pairs.sources,
            batch_size=config.batch_size,
            epochs=config.epochs,
            seed=config.seed,
            first_step=self.step,
            rank=self.world.rank,
            world=self.world.size,
        )
        return batches_of(dataset, plans, workers=0 if dataset.find else config.workers)

    def _step(self, batch: Batch, *, stop: bool) -> Done:
        """Make one step of the optimizer. Raises UsageError after a few that were not finite."""
        lr = self.schedule.lr(self.step)
        self.step += 1
        if self.rehearsal is not None:
            batch = self.rehearsal.joined(batch, step=self.step)
        done = self.learner.step(batch, lr=lr, number=self.step, stop=stop)
        if done.skipped:
            self._skip(self.world.collected(batch.skipped))
        self.bad_steps = 0 if done.is_finite else self.bad_steps + 1
        if self.bad_steps == BAD_STEPS:
            name, number = ("norm of the gradient", done.norm) if math.isfinite(done.loss) else ("loss", done.loss)
            raise self._diverged(f"the {name} is {number}, in {BAD_STEPS} steps up to {self.step}")
        if done.is_finite:
            self.losses.append((done.loss, done.guessing))
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

    def _report(self, done: Done, stop: Stop) -> Stepped:
        """Validate the model where that is due, and return what the step came to."""
        self.judged = {}
        is_judged = self.schedule.is_judged(self.step)
        if is_judged and stop.asked and self.world.size == 1:
            self.save()  # whoever asks need not wait for validation
        validation, zero_shot = self._validate() if is_judged else (None, None)
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
            distil=done.distil,
        )
        row = report.row()
        if validation is not None or zero_shot is not None:
            self.judged = {key: row[key] for key in ("val_loss", "zero_shot_top1") if key in row}
            self.course.rows.append(row)
        if self.world.is_first and (self.step % self.config.log_every == 0 or is_judged):
            self.folder.log(row)
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
                self.world.wait()
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
                if self.step and self.world.size == 1:
                    self.save()
                raise
            finally:
                learner.train_mode()
        if validation is not None:
            self._skip(validation.skipped)
            if not math.isfinite(validation.loss):
                if not self.step:
                    raise UsageError(f"the validation loss is {validation.loss} before the first step; check --model")
                raise self._diverged(f"the validation loss is {validation.loss} after step {self.step}")
        self.world.wait()
        return validation, accuracy

    def save(self) -> None:
        """Write a checkpoint, and the model if none was better; if one was, as the last model, beside the best."""
        state = TrainState(self.step, self.step // self.schedule.steps_per_epoch, self.identity(), **self.judged)
        tensors, current = self.learner.tensors(), self.learner.current()
        if self.world.is_first:
            with self.folder.writing():
                saved = save_checkpoint(self.folder.checkpoints, state, tensors, keep=self.config.keep)
            best = best_checkpoint(self.folder.checkpoints)
            if best in (None, saved):
                self._save_model(self.folder.model, current)
            if best is not None:
                self._save_model(self.folder.last, current)
        self.world.wait()

    def _save_again(self) -> None:
        """Write the models of a run that is complete; afterwards the learner has the best one."""
        best = best_checkpoint(self.folder.checkpoints)
        if best is not None:
            self._save_model(self.folder.last, self.learner.current())
            self.learner.load(best)
        self._save_model(self.folder.model, self.learner.current())

    def _save_model(self, folder: Path, model: CLIP) -> None:
        if self.world.is_first:
            with self.folder.writing():
                save_model(folder, model, self.prepared.start.config, self.prepared.start.preprocess)
