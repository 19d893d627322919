"""Checkpoints that survive: a folder a step, written beside its name and then renamed.

checkpoints/step-00000500/model.safetensors      weights and buffers
                          optimizer.safetensors  "<parameter>.exp_avg", "<parameter>.exp_avg_sq", "<parameter>.step"
                          average.safetensors    the averaged weights, with --ema only
                          state.json             step, epoch, configuration, what the pairs were
"""

import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.optim import Optimizer

from zeroshot_cli.errors import CheckpointError, UsageError

KEEP = 2
_PREFIX = "step-"


@dataclass(frozen=True, slots=True)
class TrainState:
    """Where a run stands: steps done, and everything that must not change when it goes on."""

    step: int
    epoch: int
    config: dict[str, Any]

    def to_json(self) -> str:
        return json.dumps({"step": self.step, "epoch": self.epoch, "config": self.config}, indent=2)


def save_checkpoint(
    directory: Path,
    state: TrainState,
    model: nn.Module,
    optimizer: Optimizer,
    average: nn.Module | None = None,
) -> Path:
    """Write a checkpoint under `directory` and remove all but the newest two; returns its folder."""
    directory.mkdir(parents=True, exist_ok=True)
    target = directory / f"{_PREFIX}{state.step:08d}"
    temporary = directory / f".{target.name}.{os.getpid()}"
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir()
    try:
        save_file(_tensors(model), temporary / "model.safetensors")
        save_file(_optimizer_tensors(model, optimizer), temporary / "optimizer.safetensors")
        if average is not None:
            save_file(_tensors(average), temporary / "average.safetensors")
        (temporary / "state.json").write_text(state.to_json(), encoding="utf-8")
        shutil.rmtree(target, ignore_errors=True)
        temporary.rename(target)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    for old in list_checkpoints(directory)[:-KEEP]:
        shutil.rmtree(old)
    return target


def list_checkpoints(directory: Path) -> list[Path]:
    """The complete checkpoints under `directory`, oldest first."""
    return sorted(path for path in directory.glob(f"{_PREFIX}*") if (path / "state.json").is_file())


def read_state(checkpoint: Path) -> TrainState:
    """Read where a checkpoint stands. Raises CheckpointError when its state.json is not one."""
    file = checkpoint / "state.json"
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
        return TrainState(int(values["step"]), int(values["epoch"]), dict(values["config"]))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{file} cannot be read ({error}); remove this folder to go on before it") from None


def load_checkpoint(checkpoint: Path, model: nn.Module, optimizer: Optimizer, average: nn.Module | None = None) -> None:
    """Put a checkpoint's tensors into a model and its optimizer, to the bit; CheckpointError if they do not fit."""
    _load_module(checkpoint / "model.safetensors", model)
    _load_optimizer(checkpoint / "optimizer.safetensors", model, optimizer)
    if average is not None:
        _load_module(checkpoint / "average.safetensors", average)


def check_same(saved: Mapping[str, Any], now: Mapping[str, Any], *, where: Path) -> None:
    """Raise UsageError with the name of the first setting in which a run and its continuation differ."""
    for name in {**saved, **now}:
        before, after = saved.get(name), now.get(name)
        if before != after:
            raise UsageError(
                f"{where} was started with {name} {_shown(before)}, not {_shown(after)}; "
                "resume with the same settings or choose another --output"
            )


def _shown(value: object) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _tensors(module: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.detach().cpu().contiguous() for name, tensor in module.state_dict().items()}


def _optimizer_tensors(model: nn.Module, optimizer: Optimizer) -> dict[str, Tensor]:
    """The optimizer's tensors under the names of their parameters, so that no order of groups is relied on."""
    return {
        f"{name}.{key}": value.detach().cpu().contiguous()
        for name, parameter in model.named_parameters()
        for key, value in optimizer.state.get(parameter, {}).items()
    }


def _load_module(file: Path, module: nn.Module) -> None:
    try:
        module.load_state_dict(_read(file))
    except RuntimeError as error:
        raise CheckpointError(f"{file} does not fit this model: {' '.join(str(error).split())}") from None


def _load_optimizer(file: Path, model: nn.Module, optimizer: Optimizer) -> None:
    tensors = _read(file)
    parameters = dict(model.named_parameters())
    for full_name, tensor in tensors.items():
        name, _, key = full_name.rpartition(".")
        if name not in parameters:
            raise CheckpointError(f"{file} has a state for {name!r}, which this model does not have")
        parameter = parameters[name]
        counts_here = bool(optimizer.defaults.get("fused"))  # else the count of steps stays on the CPU
        device = parameter.device if counts_here else torch.device("cpu")
        optimizer.state[parameter][key] = tensor.to(device) if key == "step" else _like(tensor, parameter)


def _like(tensor: Tensor, parameter: Tensor) -> Tensor:
    """Bring a moment to its parameter's device and memory layout."""
    return torch.empty_like(parameter, dtype=tensor.dtype).copy_(tensor)


def _read(file: Path) -> dict[str, Tensor]:
    try:
        return load_file(file)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{file} cannot be read ({error}); remove its folder to go on before it") from None
