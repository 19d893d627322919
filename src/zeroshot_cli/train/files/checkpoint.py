"""Checkpoints that survive a kill: a folder per step, written beside its name and then renamed.

checkpoints/step-00000500/model.safetensors      weights and buffers
                          optimizer.safetensors  "<parameter>.exp_avg", "<parameter>.exp_avg_sq", "<parameter>.step"
                          average.safetensors    the averaged weights, with --ema only
                          state.json             step, epoch, configuration, what the pairs were, validation loss

The learning rate and the order of the data are functions of the step, an image's random view is one of seed, epoch and
row, and nothing draws from a global random state: so this is all that a resumed run needs to be the same to the bit.
"""

import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.optim import Optimizer

from zeroshot_cli.documents import load_json
from zeroshot_cli.errors import CheckpointError, UsageError
from zeroshot_cli.train.config import TrainConfig
from zeroshot_cli.train.distributed import put, whole
from zeroshot_cli.train.schedule import badness

_PREFIX = "step-"
_STATE = ("exp_avg", "exp_avg_sq", "step")  # of AdamW, for each parameter
# What runs did before these were settings, where that is not the default.
_EARLIER: dict[str, Any] = {"train_batch_norm": True}


@dataclass(frozen=True, slots=True)
class TrainState:
    """Where a run stands: steps done, all that must be the same when it is resumed, and how good the model is."""

    step: int
    epoch: int
    config: dict[str, Any]
    val_loss: float | None = None
    zero_shot_top1: float | None = None

    @property
    def is_judged(self) -> bool:
        """Whether the model was validated at this step."""
        return self.val_loss is not None or self.zero_shot_top1 is not None

    def to_json(self) -> str:
        """Return the fields as a JSON object."""
        return json.dumps(asdict(self), indent=2)


Tensors = dict[str, dict[str, Tensor]]  # by file, then by name


def tensors_of(model: nn.Module, optimizer: Optimizer, average: nn.Module | None = None) -> Tensors:
    """Return what a checkpoint holds, on the CPU; every process of a run calls it, for each may have a share."""
    tensors = {"model": module_tensors(model), "optimizer": _optimizer_tensors(model, optimizer)}
    return tensors if average is None else {**tensors, "average": module_tensors(average)}


def save_checkpoint(directory: Path, state: TrainState, tensors: Tensors, *, keep: int) -> Path:
    """Write a checkpoint under `directory`, and remove all but the `keep` newest and the best; returns its folder.

    The others are removed only when it is written: on a full disk they stay.
    """
    directory.mkdir(parents=True, exist_ok=True)
    target = directory / f"{_PREFIX}{state.step:08d}"
    temporary = directory / f".{target.name}.{os.getpid()}"
    _remove_unfinished(directory)
    temporary.mkdir()
    try:
        for name, some in tensors.items():
            save_file(some, temporary / f"{name}.safetensors")
        (temporary / "state.json").write_text(state.to_json(), encoding="utf-8")
        _settle(temporary)
        shutil.rmtree(target, ignore_errors=True)
        temporary.rename(target)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    best = best_checkpoint(directory)
    for old in list_checkpoints(directory)[:-keep]:
        if old != best:
            shutil.rmtree(old)
    return target


def _settle(folder: Path) -> None:
    """Wait until the files of a folder are on disk: older checkpoints are removed when this one has its name."""
    for file in folder.iterdir():
        with file.open("rb") as opened:
            os.fsync(opened.fileno())


def _remove_unfinished(directory: Path) -> None:
    """Remove unfinished checkpoints of a run that was killed."""
    for path in directory.glob(f".{_PREFIX}*"):
        shutil.rmtree(path, ignore_errors=True)


def best_checkpoint(directory: Path) -> Path | None:
    """Return the checkpoint with the lowest validation loss, else the best zero-shot accuracy; None if none has any.

    Of equal ones it is the older.
    """
    states = [(state, path) for path in list_checkpoints(directory) if (state := _state_of(path))]
    known = [(badness(asdict(state)), path) for state, path in states if state.is_judged]
    return min(known)[1] if known else None


def _state_of(checkpoint: Path) -> TrainState | None:
    try:
        return read_state(checkpoint)
    except CheckpointError:
        return None


def list_checkpoints(directory: Path) -> list[Path]:
    """Return the complete checkpoints under `directory`, oldest first."""
    return sorted(path for path in directory.glob(f"{_PREFIX}*") if (path / "state.json").is_file())


def newest_checkpoint(directory: Path) -> tuple[Path, TrainState] | None:
    """Return the checkpoint with most steps and its state, None where there is none. Raises CheckpointError."""
    found = list_checkpoints(directory)
    return (found[-1], read_state(found[-1])) if found else None


def read_state(checkpoint: Path) -> TrainState:
    """Read the state of a checkpoint. Raises CheckpointError if its state.json cannot be read."""
    file = checkpoint / "state.json"
    try:
        values = load_json(file.read_text(encoding="utf-8"))
        if not isinstance(values, dict) or not isinstance(values["config"], dict):
            raise TypeError("it holds no settings by name")
        judged = (None if values.get(key) is None else float(values[key]) for key in ("val_loss", "zero_shot_top1"))
        return TrainState(int(values["step"]), int(values["epoch"]), values["config"], *judged)
    except KeyError as error:
        raise _unreadable(file, f"it has no {error}") from None
    except (OSError, ValueError, TypeError, OverflowError, RecursionError) as error:
        raise _unreadable(file, error) from None


def _unreadable(file: Path, why: object) -> CheckpointError:
    text = str(why)
    text = text if len(text) <= 200 else f"{text[:199]}…"
    return CheckpointError(f"{file} cannot be read ({text}); remove its folder to resume from another")


def load_checkpoint(checkpoint: Path, model: nn.Module, optimizer: Optimizer, average: nn.Module | None = None) -> None:
    """Load a checkpoint's tensors into a model and its optimizer. Raises CheckpointError if they do not fit."""
    _load_module(checkpoint / "model.safetensors", model)
    _load_optimizer(checkpoint / "optimizer.safetensors", model, optimizer)
    if average is not None:
        _load_module(checkpoint / "average.safetensors", average)


def as_begun(config: TrainConfig, checkpoints: Path) -> TrainConfig:
    """Return the settings of a run that is resumed, with the learning rate and mixture that it began with.

    Other versions choose another; what an earlier one did that was no setting yet is as it was. Raises CheckpointError.
    """
    if (newest := newest_checkpoint(checkpoints)) is None:
        return config
    begun = newest[1].config
    rate = begun.get("lr")
    lr = float(rate) if config.lr is None and isinstance(rate, int | float) else config.lr
    mixture = begun.get("wise_ft") if config.wise_ft is None else config.wise_ft
    earlier = {name: value for name, value in _EARLIER.items() if name not in begun}
    return replace(config, lr=lr, wise_ft=1.0 if mixture is None else mixture, **earlier)


def check_same(saved: Mapping[str, Any], now: Mapping[str, Any], *, where: Path) -> None:
    """Raise UsageError with the name of the first setting that differs when a run is resumed.

    A setting that the run was started without is newer than the run: its default is what the run had, but for _EARLIER.
    """
    defaults = TrainConfig().to_dict() | _EARLIER
    for name in {**saved, **now}:
        before, after = saved.get(name), now.get(name)
        if before != after and (name in saved or after != defaults.get(name)):
            raise UsageError(
                f"{where} was started with {name} {_shown(before)}, not {_shown(after)}; "
                "resume with the same settings, or start another run from its model with "
                f"--model {where} --output {where}-2"
            )


def _shown(value: object) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else text[:57] + "..."


def module_tensors(module: nn.Module) -> dict[str, Tensor]:
    """Return a module's weights and buffers, whole and on the CPU; every process of a run calls it."""
    return {name: _kept(tensor) for name, tensor in module.state_dict().items()}


def _kept(tensor: Tensor) -> Tensor:
    return whole(tensor.detach()).cpu().contiguous()


def _optimizer_tensors(model: nn.Module, optimizer: Optimizer) -> dict[str, Tensor]:
    """Return the optimizer's tensors under the names of their parameters, whatever the order of its groups."""
    return {
        f"{name}.{key}": _kept(value)
        for name, parameter in model.named_parameters()
        for key, value in optimizer.state.get(parameter, {}).items()
    }


def _load_module(file: Path, module: nn.Module) -> None:
    tensors, here = _read(file), module.state_dict()
    shapes = [{name: tuple(tensor.shape) for name, tensor in some.items()} for some in (tensors, here)]
    odd = [name for name in {**tensors, **here} if shapes[0].get(name) != shapes[1].get(name)]
    if odd:
        raise CheckpointError(f"{file} does not fit this model: they differ in {odd[0]}; choose another --output")
    for name, tensor in here.items():
        put(tensors[name], tensor)


def _load_optimizer(file: Path, model: nn.Module, optimizer: Optimizer) -> None:
    """Load the moments and the count of steps of each parameter; all of those that learn have them, or none has."""
    tensors = _read(file)
    parameters = dict(model.named_parameters())
    learning = {id(each) for group in optimizer.param_groups for each in group["params"]}
    if tensors and (
        lacking := [
            f"{name}.{key}"
            for name, each in parameters.items()
            if id(each) in learning
            for key in _STATE
            if f"{name}.{key}" not in tensors
        ]
    ):
        raise _unreadable(file, f"it has no {lacking[0]}")
    for full_name, tensor in tensors.items():
        name, _, key = full_name.rpartition(".")
        parameter = parameters.get(name)
        if parameter is None or key not in _STATE:
            raise CheckpointError(f"{file} has a state for {full_name!r}, which this model does not have")
        shape = () if key == "step" else tuple(parameter.shape)
        if tuple(tensor.shape) != shape or not tensor.is_floating_point():
            has = f"{full_name} is {tensor.dtype} of shape {list(tensor.shape)}"
            raise _unreadable(file, f"{has}, expected floating-point numbers of shape {list(shape)}")
        counts_here = bool(optimizer.defaults.get("fused"))  # else the count of steps stays on the CPU
        device = parameter.device if counts_here else torch.device("cpu")
        optimizer.state[parameter][key] = tensor.to(device) if key == "step" else _like(tensor, parameter)


def _like(tensor: Tensor, parameter: Tensor) -> Tensor:
    """Bring a moment to its parameter's device and memory layout."""
    moment = torch.empty_like(parameter.detach(), dtype=tensor.dtype)
    put(tensor, moment)
    return moment


def _read(file: Path) -> dict[str, Tensor]:
    try:
        return load_file(file)
    except (OSError, SafetensorError) as error:
        raise _unreadable(file, error) from None
