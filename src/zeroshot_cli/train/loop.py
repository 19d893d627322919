"""The training loop: batches in, steps, checkpoints and a model folder out.

b batch, s sequence, e embedding
"""

# pathlib's questions raise OSError where a name is too long or a folder is locked; opening names the reason.
# ruff: noqa: PTH110, PTH112

import json
import math
import os
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
import yaml
from PIL import Image
from safetensors import SafetensorError
from torch import Tensor, nn

from zeroshot_cli.clip.config import ResNetConfig, config_to_dict
from zeroshot_cli.clip.loss import clip_loss, sigmoid_loss
from zeroshot_cli.clip.model import CLIP
from zeroshot_cli.clip.tokenizer import TruncatedTextWarning
from zeroshot_cli.errors import DataError, UsageError
from zeroshot_cli.preprocess import Preprocess
from zeroshot_cli.records import SkippedImage
from zeroshot_cli.train.augment import Augment
from zeroshot_cli.train.checkpoint import (
    TrainState,
    check_same,
    list_checkpoints,
    load_checkpoint,
    read_state,
    save_checkpoint,
)
from zeroshot_cli.train.config import Loss, TrainConfig
from zeroshot_cli.train.data import Batch, EvalBatches, TrainBatches, TrainPlans, batches_of, in_order
from zeroshot_cli.train.inputs import Normalise, same_pairs, too_long, trimmed
from zeroshot_cli.train.interrupt import stop_on_signals
from zeroshot_cli.train.metrics import RunInfo, Speed, StepReport, TrainResult, cut_metrics, write_text
from zeroshot_cli.train.optimizer import average_of, build_optimizer, update_average
from zeroshot_cli.train.pairs import Pairs, read_pairs
from zeroshot_cli.train.schedule import learning_rate, warmup_steps
from zeroshot_cli.train.skipped import Skipped
from zeroshot_cli.train.start import Start, start_from
from zeroshot_cli.train.validate import Validation, validate
from zeroshot_cli.weights.device import resolve_device, resolve_precision
from zeroshot_cli.weights.save import save_model

MIN_SAVE_STEPS = 100  # a checkpoint every epoch, but short epochs share one


def train(
    config: TrainConfig,
    output: Path,
    *,
    resume: bool = False,
    on_start: Callable[[RunInfo], None] = lambda info: None,
    on_step: Callable[[StepReport], None] = lambda report: None,
) -> TrainResult:
    """Train a CLIP on pairs and leave it in `output`/model.

    Raises UsageError for options that do not go together or a folder that holds another run, DataError for pairs
    that cannot be trained on, KeyboardInterrupt after Ctrl-C or SIGTERM, when a checkpoint has been written.
    """
    _check_output(output, resume=resume)
    paths = [Path(file) for file in config.data]
    read = partial(read_pairs, image_column=config.image_column, caption_column=config.caption_column)
    pairs = read(paths)
    val = read([Path(config.val)], option="--val") if config.val is not None else None
    if len(pairs) < config.batch_size:
        raise DataError(
            f"{', '.join(config.data)}: {len(pairs)} usable pairs do not fill one batch of {config.batch_size}; "
            f"use --batch-size {max(2, len(pairs))} or less, or more pairs"
        )
    run = _Run(config, output, pairs, val, start_from(config))
    run.warn_of_long_captions()
    if resume:
        run.resume()
    on_start(run.info())
    return run.go(on_step)


def _check_output(output: Path, *, resume: bool) -> None:
    with _writing(output), suppress(FileNotFoundError, NotADirectoryError):
        os.lstat(output)  # a name too long, a locked folder
    has_run = os.path.exists(output / "config.yaml")
    if resume and not has_run:
        raise UsageError(f"{output} holds no run to resume; leave out --resume to start one")
    if has_run and not resume:
        raise UsageError(f"{output} already holds a run; add --resume to go on with it or choose another --output")
    if os.path.exists(output) and not os.path.isdir(output):
        raise UsageError(f"{output} is a file; --output names the folder of the run")


@dataclass
class _Run:
    """One run: everything that changes from step to step, and where it is written."""

    config: TrainConfig
    output: Path
    pairs: Pairs
    val: Pairs | None
    start: Start
    step: int = 0

    def __post_init__(self) -> None:
        config, start = self.config, self.start
        self.device = resolve_device(config.device)
        self.precision = resolve_precision(config.precision, self.device)
        self.layout = torch.contiguous_format
        if isinstance(start.config.vision, ResNetConfig):
            self.layout = torch.channels_last  # twice as fast for convolutions
        self.model: CLIP = start.model.to(self.device, memory_format=self.layout).train()  # type: ignore[call-overload]
        self.average = average_of(self.model) if config.ema is not None else None
        self.optimizer = build_optimizer(self.model, start.config, lr=start.lr, weight_decay=config.weight_decay)
        self.steps_per_epoch = len(self.pairs) // config.batch_size
        self.steps = config.epochs * self.steps_per_epoch
        self.warmup = warmup_steps(self.steps, config.warmup)
        self.save_every = config.save_every or epochs_of_at_least(MIN_SAVE_STEPS, self.steps_per_epoch)
        self.to_input = Normalise(start.preprocess, self.device, self.layout)
        self.speed = Speed()
        self.skipped = Skipped(self.output / "skipped.csv")

    def info(self) -> RunInfo:
        return RunInfo(
            pairs=self.pairs,
            steps=self.steps,
            steps_per_epoch=self.steps_per_epoch,
            first_step=self.step,
            parameters=sum(parameter.numel() for parameter in self.model.parameters()),
            device=str(self.device),
            precision=self.precision,
            lr=self.start.lr,
        )

    def warn_of_long_captions(self) -> None:
        cut = too_long(self.start.tokenizer, self.pairs.captions)
        if cut:
            limit = self.start.tokenizer.context_length
            warnings.warn(
                f"{len(cut):,} captions have more tokens than the {limit} that the model reads and lose their end, "
                f"the first begins {cut[0][:60]!r}",
                TruncatedTextWarning,
                stacklevel=3,
            )

    def identity(self) -> dict[str, Any]:
        """All that must be the same when the run goes on."""
        return {
            **self.config.identity(),
            "lr": self.start.lr,
            "precision": self.precision,
            "pairs": self.pairs.fingerprint(),
            "architecture": config_to_dict(self.start.config),
        }

    def resume(self) -> None:
        """Take up the newest checkpoint; a run that was killed before its first one begins again."""
        checkpoints = list_checkpoints(self.output / "checkpoints")
        if checkpoints:
            newest = checkpoints[-1]
            state = read_state(newest)
            check_same(state.config, self.identity(), where=self.output)
            load_checkpoint(newest, self.model, self.optimizer, self.average)
            self.step = state.step
        cut_metrics(self.output / "metrics.jsonl", self.step)
        self.skipped.recall()

    def go(self, on_step: Callable[[StepReport], None]) -> TrainResult:
        """Make the steps that are left."""
        with _writing(self.output):
            self.output.mkdir(parents=True, exist_ok=True)
            write_text(self.output / "config.yaml", yaml.safe_dump(self.config.to_dict(), sort_keys=False))
        report = None
        self.speed = Speed()
        with stop_on_signals() as stop:
            for batch in self._batches():
                report = self._report(self._step(batch))
                on_step(report)
                self._log(report)
                if stop.asked or self.step % self.save_every == 0 or self.step == self.steps:
                    self.save()
                if stop.asked:
                    raise KeyboardInterrupt
        if report is None:  # the run was complete, and its model may have been removed
            self._save_model()
        return TrainResult(self.output / "model", report, self.skipped.images())

    def _batches(self) -> Iterator[Batch]:
        config = self.config
        augment = Augment(
            self.start.preprocess.height_width,
            min_scale=config.min_scale,
            kinds=frozenset(config.augment),
            resample=Image.Resampling[self.start.preprocess.interpolation.value.upper()],
        )
        plans = TrainPlans(
            len(self.pairs),
            batch_size=config.batch_size,
            epochs=config.epochs,
            seed=config.seed,
            first_step=self.step,
        )
        return batches_of(TrainBatches(self.pairs, augment, seed=config.seed), plans, workers=config.workers)

    def _step(self, batch: Batch) -> float:
        """One step of the optimizer; returns the loss."""
        lr = learning_rate(self.step, total=self.steps, warmup=self.warmup, peak=self.start.lr)
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        self._note_skipped(batch.skipped)
        images, texts = self._embed(self.model, batch)
        loss = self._loss(self.model, images, texts, batch)
        value = float(loss.detach())
        self._check_finite("loss", value, self.step + 1)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        norm = nn.utils.clip_grad_norm_(self.model.parameters(), self.config.max_norm)
        self._check_finite("norm of the gradient", float(norm), self.step + 1)
        self.optimizer.step()
        self.model.clamp_logit_scale()
        self.step += 1
        if self.average is not None and self.config.ema is not None:
            update_average(self.average, self.model, decay=self.config.ema, step=self.step)
        self.speed.count(len(batch.captions))
        return value

    def _check_finite(self, name: str, value: float, step: int) -> None:
        if not math.isfinite(value):
            raise UsageError(
                f"the {name} is {value} at step {step}; use a lower --lr than {self.start.lr:g} or "
                "--precision fp32 (the last checkpoint is from before)"
            )

    def _note_skipped(self, images: Iterable[SkippedImage]) -> None:
        with _writing(self.output):
            self.skipped.add(images)

    def _embed(self, model: CLIP, batch: Batch) -> tuple[Tensor, Tensor]:
        """Both normalised embeddings of a batch, be, in float32."""
        images = self.to_input(batch.pixels)
        tokens = trimmed(self.start.tokenizer, batch.captions).to(self.device)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bf16"):
            image_features, text_features, _ = model(images, tokens)
        return image_features.float(), text_features.float()

    def _loss(self, model: CLIP, images: Tensor, texts: Tensor, batch: Batch) -> Tensor:
        scale, same = model.logit_scale.exp(), same_pairs(batch).to(self.device)
        if self.config.loss is Loss.SIGMOID:
            assert model.logit_bias is not None  # start_from has seen to it
            return sigmoid_loss(images, texts, scale, model.logit_bias, same=same)
        return clip_loss(images, texts, scale, same=same)

    def _report(self, loss: float) -> StepReport:
        ends_epoch = self.step % self.steps_per_epoch == 0
        validation = self._validate(self.val) if ends_epoch and self.val is not None else None
        return StepReport(
            step=self.step,
            epoch=(self.step - 1) // self.steps_per_epoch + 1,
            loss=loss,
            lr=float(self.optimizer.param_groups[0]["lr"]),
            logit_scale=float(self.model.logit_scale.detach().exp()),
            images_per_second=self.speed.images_per_second(),
            skipped=len(self.skipped),
            validation=validation,
        )

    def _validate(self, val: Pairs) -> Validation:
        model = self.average if self.average is not None else self.model
        model.eval()
        dataset = EvalBatches(val, Preprocess(self.start.preprocess))
        batches = batches_of(dataset, in_order(len(val), self.config.batch_size), workers=self.config.workers)
        with self.speed.paused():
            validation = validate(
                batches,
                lambda batch: self._embed(model, batch),
                lambda images, texts, batch: self._loss(model, images, texts, batch),
            )
        self.model.train()
        self._check_finite("validation loss", validation.loss, self.step)
        self._note_skipped(validation.skipped)
        return validation

    def _log(self, report: StepReport) -> None:
        if self.step % self.config.log_every == 0 or self.step % self.steps_per_epoch == 0:
            with _writing(self.output), (self.output / "metrics.jsonl").open("a", encoding="utf-8") as metrics:
                metrics.write(json.dumps(report.row(), allow_nan=False) + "\n")

    def save(self) -> None:
        """Write a checkpoint and the model folder as they are now."""
        state = TrainState(self.step, self.step // self.steps_per_epoch, self.identity())
        with self.speed.paused(), _writing(self.output):
            save_checkpoint(self.output / "checkpoints", state, self.model, self.optimizer, self.average)
            self._save_model()

    def _save_model(self) -> None:
        model = self.average if self.average is not None else self.model
        save_model(self.output / "model", model, self.start.config, self.start.preprocess)


def epochs_of_at_least(steps: int, steps_per_epoch: int) -> int:
    """The steps of the fewest whole epochs that make at least `steps`."""
    return steps_per_epoch * math.ceil(steps / steps_per_epoch)


@contextmanager
def _writing(output: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, SafetensorError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UsageError(
            f"{output} cannot be written: {reason}; make room or choose another --output (--resume goes on "
            "from the newest complete checkpoint)"
        ) from error
