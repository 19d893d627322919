"""The model that learns, with all that belongs to it: optimizer, running average, the other processes."""

import math
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from zeroshot_cli.clip.config import ResNetConfig
from zeroshot_cli.clip.model import CLIP
from zeroshot_cli.train.checkpoint import Tensors, load_checkpoint, module_tensors, tensors_of
from zeroshot_cli.train.config import TrainConfig
from zeroshot_cli.train.data import Batch
from zeroshot_cli.train.distributed import World, clip_gradients, replicated, sharded, share_scalar_gradients
from zeroshot_cli.train.inputs import Inputs, pair_ids
from zeroshot_cli.train.lock import lock, train_mode
from zeroshot_cli.train.mixing import average_of, mix, update_average
from zeroshot_cli.train.optimizer import build_optimizer, set_learning_rate
from zeroshot_cli.train.start import Start
from zeroshot_cli.train.step import Objective, Towers, backward


@dataclass(frozen=True, slots=True)
class Done:
    """What a step came to, for all processes together; `stop` is whether one of them was asked to end."""

    loss: float
    norm: float
    lr: float
    stop: bool
    skipped: int

    @property
    def is_finite(self) -> bool:
        return math.isfinite(self.loss) and math.isfinite(self.norm)


class Learner:
    """One model in training; every process has one, and calls its methods as the others do."""

    def __init__(self, config: TrainConfig, start: Start, world: World, device: torch.device, precision: str) -> None:
        self.config, self.start, self.world, self.device = config, start, world, device
        # Twice as fast for convolutions.
        layout = torch.channels_last if isinstance(start.config.vision, ResNetConfig) else torch.contiguous_format
        self.inputs = Inputs(start.tokenizer, start.preprocess, device, layout)
        self.model: CLIP = start.model.to(memory_format=layout)
        if not config.fsdp:
            self.model.to(device)
        self.parameters = sum(parameter.numel() for parameter in self.model.parameters())
        lock(self.model, image=config.lock_image, text=config.lock_text)
        if config.grad_checkpointing:
            self.model.checkpoint_gradients()
        train_mode(self.model)
        self.origin = None
        if config.wise_ft is not None:
            self.origin = {name: tensor.clone() for name, tensor in module_tensors(self.model).items()}
        self.average = average_of(self.model) if config.ema is not None else None
        self.objective = Objective(config.loss, world)
        self.towers = self._wrapped(Towers(self.model, bf16=precision == "bf16"))
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
        return (
            sharded(towers, self.model, self.device)
            if self.config.fsdp
            else replicated(towers, self.model, self.device)
        )

    @property
    def scale(self) -> float:
        """1 ÷ temperature."""
        return float(self.model.logit_scale.detach().exp())

    def step(self, batch: Batch, *, lr: float, number: int, stop: bool) -> Done:
        """Step `number`, from 1; it changes nothing where loss or gradient are no finite numbers."""
        set_learning_rate(self.optimizer, lr)
        self.optimizer.zero_grad(set_to_none=True)
        statistics = [buffer.clone() for buffer in self.model.buffers()]
        chunks = self.inputs.chunks(batch, self.config.chunk_size)
        value = backward(self.towers, self.objective, chunks, pair_ids(batch).to(self.device))
        if self.config.fsdp:
            share_scalar_gradients(self.model, self.world)
        norm = clip_gradients(self.trained, self.config.max_norm)
        together = torch.stack([value, value.new_tensor(stop), value.new_tensor(len(batch.skipped))])
        loss, stops, skipped = self.world.summed(together).tolist()
        done = Done(loss / self.world.size, norm, lr, stop=stops > 0, skipped=int(skipped))
        if done.is_finite:
            self._apply(number)
        else:
            for buffer, before in zip(self.model.buffers(), statistics, strict=True):
                buffer.copy_(before)
        return done

    def _apply(self, number: int) -> None:
        self.optimizer.step()
        self.model.clamp_logit_scale()
        if self.average is not None and self.config.ema is not None:
            update_average(self.average, self.model, decay=self.config.ema, step=number)

    def go_on(self) -> None:
        """Be in training mode again."""
        train_mode(self.model)

    def tensors(self) -> Tensors:
        """All that a checkpoint keeps, on the first process; the others help where they have shares of it."""
        if not (self.world.is_first or self.config.fsdp):
            return {}
        return tensors_of(self.model, self.optimizer, self.average)

    def load(self, checkpoint: Path) -> None:
        """Take up a checkpoint. Raises CheckpointError where it does not fit."""
        load_checkpoint(checkpoint, self.model, self.optimizer, self.average)

    def current(self) -> CLIP:
        """The model as it is judged and saved: the average where there is one, and whole, on the first process."""
        if self.config.fsdp:
            tensors = module_tensors(self.model)  # with the help of all; the others have no use for a copy
            return self._copy(tensors) if self.world.is_first else self.model
        return self.model if self.average is None else self.average

    def mixed(self, model: CLIP) -> CLIP:
        """The model that a run ends with, on the first process: mixed with its first weights, where that is wanted."""
        if self.origin is None or self.config.wise_ft is None:
            return model
        return self._copy(mix(module_tensors(model), self.origin, self.config.wise_ft))

    def _copy(self, tensors: dict[str, Tensor]) -> CLIP:
        """A model on the CPU."""
        model: CLIP = CLIP(self.start.config)
        model.load_state_dict(tensors)
        return model
