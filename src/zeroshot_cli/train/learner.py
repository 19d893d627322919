"""The model that learns, with what belongs to it: optimizer, locked towers, averages of weights, other processes."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim.swa_utils import AveragedModel

from zeroshot_cli.clip.config import EfficientNetConfig, ResNetConfig
from zeroshot_cli.clip.lora import merged
from zeroshot_cli.clip.model import CLIP
from zeroshot_cli.models.precision import resolve_precision
from zeroshot_cli.pairs.read import Pairs
from zeroshot_cli.train.data import Batch, EvalBatches, batches_of, decoding_of, shuffled
from zeroshot_cli.train.distributed import World, clip_gradients, replicated, sharded, share_scalar_gradients
from zeroshot_cli.train.files.checkpoint import Tensors, load_checkpoint, module_tensors, tensors_of
from zeroshot_cli.train.optimizer import build_optimizer, set_learning_rate
from zeroshot_cli.train.schedule import Settled
from zeroshot_cli.train.start import Start, has_weights
from zeroshot_cli.train.step import Inputs, Objective, Teacher, Towers, backward, distil, guessing, pair_ids
from zeroshot_cli.train.validate import Validation, validate


@dataclass(frozen=True, slots=True)
class Done:
    """The result of a step, for all processes together; `stop` is whether one of them was asked to end.

    `guessing` is the loss of a model that has learned nothing, on the first process, `distil` how far the text tower is
    from its teacher.
    """

    loss: float
    norm: float
    lr: float
    stop: bool
    skipped: int
    guessing: float
    distil: float | None = None

    @property
    def is_finite(self) -> bool:
        """Whether loss and gradient are finite, so that the step was applied."""
        return math.isfinite(self.loss) and math.isfinite(self.norm)


class Learner:
    """One model in training; every process has one, and calls its methods as the others do."""

    def __init__(
        self,
        config: Settled,
        start: Start,
        world: World,
        device: torch.device,
        teacher: Teacher | None = None,
    ) -> None:
        self.config, self.start, self.world, self.device, self.teacher = config, start, world, device, teacher
        self.precision = resolve_precision(config.precision, device)
        # Channels last is twice as fast for convolutions.
        convolutional = isinstance(start.config.vision, ResNetConfig | EfficientNetConfig)
        layout = torch.channels_last if convolutional else torch.contiguous_format
        self.inputs = Inputs(start.tokenizer, start.preprocess, device, layout)
        self.model: CLIP = start.model.to(memory_format=layout)
        if not config.fsdp:
            self.model.to(device)
        self.parameters = sum(parameter.numel() for parameter in self.model.parameters())
        if config.grad_checkpointing:
            self.model.checkpoint_gradients()
        self.train_mode()
        self.origin = None
        if config.wise_ft is not None:
            self.origin = {name: tensor.clone() for name, tensor in merged(module_tensors(self.model)).items()}
        self._average = None if config.ema is None else average_of(self.model, config.ema)
        self.objective = Objective(config.loss, world, config.mask_similar)
        self.bf16 = self.precision == "bf16"
        self.towers = self._wrapped(Towers(self.model, bf16=self.bf16, encode=self._head()))
        self.trained = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
        self.optimizer = build_optimizer(
            self.model,
            start.config,
            lr=start.lr,
            weight_decay=config.weight_decay,
            layer_decay=config.layer_decay,
            one_by_one=config.fsdp,
        )

    def _wrapped(self, towers: Towers) -> nn.Module:
        if self.world.size == 1:
            return towers
        wrap = sharded if self.config.fsdp else replicated
        return wrap(towers, self.model, self.device)

    def _head(self) -> Callable[[Tensor], Tensor] | None:
        """Return what embeds features, where a run learns from these; None where it learns from images."""
        if self.config.views is None and self.config.rehearse is None:
            return None
        return _itself if self.config.lock_image else self.model.visual.project

    @torch.no_grad()
    def features(self, images: Tensor) -> Tensor:
        """Return what the locked part of the image tower makes of images, in float32."""
        visual = self.model.visual
        with torch.autocast(images.device.type, torch.bfloat16, enabled=self.bf16):
            features: Tensor = visual(images) if self.config.lock_image else visual.features(images)
        return features.float()

    @property
    def average(self) -> CLIP | None:
        """The averaged model, where there is one."""
        return None if self._average is None else cast(CLIP, self._average.module)

    @property
    def scale(self) -> float:
        """1 ÷ temperature."""
        return float(self.model.logit_scale.detach().exp())

    def step(self, batch: Batch, *, lr: float, number: int, stop: bool) -> Done:
        """Make step `number`, from 1; it changes nothing where loss or gradient are not finite."""
        set_learning_rate(self.optimizer, lr)
        self.optimizer.zero_grad(set_to_none=True)
        statistics = [buffer.clone() for buffer in self.model.buffers()]
        chunks = self.inputs.chunks(batch, self.config.chunk_size)
        taught = self._distil(number)
        seed = (self.config.seed * 1_000_003 + number) % 2**63 + self.world.rank
        value, same = backward(self.towers, self.objective, chunks, pair_ids(batch).to(self.device), seed=seed)
        if self.config.fsdp:
            share_scalar_gradients(self.model, self.world)
        norm = clip_gradients(self.trained, self.config.max_norm)
        together = torch.stack([value, value.new_tensor(stop), value.new_tensor(len(batch.skipped)), taught])
        loss, stops, skipped, distil = self.world.summed(together).tolist()
        done = Done(
            loss / self.world.size,
            norm,
            lr,
            stop=stops > 0,
            skipped=int(skipped),
            guessing=guessing(self.config.loss, same.negatives()),
            distil=None if self.teacher is None else distil / self.world.size,
        )
        if done.is_finite:
            self._apply(number)
        else:
            for buffer, before in zip(self.model.buffers(), statistics, strict=True):
                buffer.copy_(before)
        return done

    def _distil(self, number: int) -> Tensor:
        """Add the gradient of the teacher's texts of a step; return this process's loss, 0 without a teacher."""
        config = self.config
        if self.teacher is None:
            return torch.zeros((), device=self.device)
        lesson = self.teacher.lesson(config.batch_size, seed=config.seed, step=number, world=self.world)
        return distil(self.towers, self.inputs, lesson, weight=config.distil_weight, chunk_size=config.chunk_size)

    def _apply(self, number: int) -> None:
        self.optimizer.step()
        self.model.clamp_logit_scale()
        if self._average is not None:
            update_average(self._average, self.model, step=number)

    def train_mode(self) -> None:
        """Return to training mode; where the model came with weights, batch norm keeps the statistics that it has."""
        train_mode(self.model, batch_norm=self.config.train_batch_norm or not has_weights(self.config))

    def tensors(self) -> Tensors:
        """Return what a checkpoint keeps, on the first process; the others help where they have shares of it."""
        if not (self.world.is_first or self.config.fsdp):
            return {}
        return tensors_of(self.model, self.optimizer, self.average)

    def load(self, checkpoint: Path) -> None:
        """Load a checkpoint. Raises CheckpointError where it does not fit."""
        load_checkpoint(checkpoint, self.model, self.optimizer, self.average)

    def current(self) -> CLIP:
        """Return the model that is validated and saved: whole, on the first process.

        It is the average if there is one, and mixed with the first weights if `wise_ft` says so.
        """
        model = self.model if self.average is None else self.average
        if not self.config.fsdp and self.config.lora is None and self.origin is None:
            return model
        tensors = merged(module_tensors(model))  # with the help of all; the others have no use for a copy
        if not self.world.is_first:
            return model
        if self.origin is not None and self.config.wise_ft is not None:
            tensors = mix(tensors, self.origin, self.config.wise_ft)
        return self._copy(tensors)

    def _copy(self, tensors: dict[str, Tensor]) -> CLIP:
        """Return a model on the CPU."""
        model = CLIP(self.start.config)
        model.load_state_dict(tensors)
        return model


# locked towers


def _itself(features: Tensor) -> Tensor:
    return features


def train_mode(model: CLIP, *, batch_norm: bool = True) -> None:
    """Put a model in training mode, except for what is locked, and without `batch_norm` for every batch norm.

    A batch norm that is not in training mode applies and keeps its statistics; its gain and bias are trained.
    """
    model.train()
    if not batch_norm:
        for module in model.modules():
            if isinstance(module, _BatchNorm):
                module.eval()
    for part in (model.visual, *model.visual.children(), model.text):
        trained = [parameter.requires_grad for parameter in part.parameters()]
        if trained and not any(trained):
            part.eval()


# weights made of weights


def average_of(model: nn.Module, decay: float) -> AveragedModel:
    """Return a running average of a model's weights and batch-norm statistics, which starts at the model.

    The statistics of the last few batches belong to the weights of then, and do not fit averaged ones. Counts are
    copied. Early on the decay is (1 + step) / (10 + step), so that a short run forgets its random start.
    """

    def move(kept: list[Tensor], new: list[Tensor], step: Tensor | int) -> None:
        if kept[0].is_floating_point():
            torch._foreach_lerp_(kept, new, 1 - min(decay, (1 + int(step)) / (10 + int(step))))
        else:
            torch._foreach_copy_(kept, new)

    average = AveragedModel(model, multi_avg_fn=move, use_buffers=True)  # type: ignore[arg-type]
    average.module.eval().requires_grad_(False)
    return average


def update_average(average: AveragedModel, model: nn.Module, *, step: int) -> None:
    """Move an average towards the model after a step, counted from 1."""
    average.n_averaged.fill_(step)  # as it must be after a step that was skipped, and in a run that was resumed
    average.update_parameters(model)


@torch.no_grad()
def mix(tuned: Mapping[str, Tensor], start: Mapping[str, Tensor], alpha: float) -> dict[str, Tensor]:
    """Return (1 - alpha) · start + alpha · tuned for every weight and statistic, in float32; counts are `tuned`'s.

    The tensors are new, of the type and device of `tuned`; `start` has the same names. At 0 and 1 the result is one of
    the two to the bit. Source: WiSE-FT, arXiv 2109.01903, section 3.
    """
    return {name: _between(start[name], tensor, alpha) for name, tensor in tuned.items()}


def _between(start: Tensor, tuned: Tensor, alpha: float) -> Tensor:
    if not tuned.is_floating_point():
        return tuned.clone()
    return torch.lerp(start.to(tuned.device, torch.float32), tuned.float(), alpha).to(tuned.dtype)


def validate_pairs(learner: Learner, model: CLIP, val: Pairs) -> Validation:
    """Validate a model, which is in evaluation mode, on pairs."""
    config, preprocess = learner.config, learner.start.preprocess
    towers = Towers(model, bf16=learner.bf16)
    objective = Objective(config.loss)
    scale, bias = model.logit_scale.detach().exp(), model.logit_bias
    batches = batches_of(
        EvalBatches(val, preprocess, decoding=decoding_of(config)),
        shuffled(len(val), config.batch_size),
        workers=config.workers,
    )

    def embed(batch: Batch) -> tuple[Tensor, Tensor]:
        parts = [towers(*chunk())[:2] for chunk in learner.inputs.chunks(batch, config.chunk_size)]
        return torch.cat([images for images, _ in parts]), torch.cat([texts for _, texts in parts])

    def loss_of(images: Tensor, texts: Tensor, batch: Batch) -> Tensor:
        same = objective.same(texts, pair_ids(batch).to(learner.device))
        return objective.value((images, texts, scale, bias), same)

    return validate(batches, embed, loss_of)
