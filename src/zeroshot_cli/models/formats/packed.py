"""Weights as 8-bit integers on disk, a scale for each row (an output channel) beside them as `NAME.scale`.

In memory they are float32 again. Short rows, as of depthwise kernels, are float16: they are few, and rounded to 8 bits
they cost an EfficientNet most of what is lost (mean cosine of an image's embedding 0.989 in place of 0.998). What has
fewer than two dimensions (biases, gains, statistics, the temperature) is small and stays float32.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from zeroshot_cli.errors import CheckpointError

_SCALE = ".scale"
_STEPS = 127  # from zero to a row's largest magnitude
_SHORT = 32  # numbers in a row


def pack(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return `state` with its matrices and kernels as integers, each followed by its scales; a row of zeros has 0.

    Raises ValueError where a tensor of the model already has the name of a scale.
    """
    packed: dict[str, Tensor] = {}
    for name, tensor in state.items():
        if not tensor.is_floating_point():
            packed[name] = tensor
        elif tensor.ndim < 2:
            packed[name] = tensor.float()
        elif tensor[0].numel() < _SHORT:
            packed[name] = tensor.half()
        elif name + _SCALE in state:
            raise ValueError(f"{name} cannot be packed: the model has a {name}{_SCALE} of its own")
        else:
            rows = tensor.float()
            scale = rows.flatten(1).abs().amax(dim=1) / _STEPS
            divisor = _by_row(scale.where(scale > 0, 1.0), rows)
            packed[name] = (rows / divisor).round().clamp(-_STEPS, _STEPS).to(torch.int8)
            packed[name + _SCALE] = scale
    return packed


def unpacked(state: Mapping[str, Tensor], path: Path) -> dict[str, Tensor]:
    """Return `state`, read from `path`, with floats in place of integers that have scales, and without these scales.

    A tensor whose name merely ends in `.scale` stays. Raises CheckpointError for scales of another shape or type.
    """
    plain = dict(state)
    for name, tensor in state.items():
        if tensor.dtype != torch.int8 or tensor.ndim < 2 or name + _SCALE not in state:
            continue  # without scales they are refused as all other quantised weights are
        scale = plain.pop(name + _SCALE)
        if scale.dtype != torch.float32 or scale.shape != tensor.shape[:1]:
            kind = str(scale.dtype).removeprefix("torch.")
            raise CheckpointError(
                f"{path} is refused: its {name}{_SCALE} is {kind} {list(scale.shape)} and not float32 "
                f"[{len(tensor)}], a number for each row of {name}; write or download the file again"
            )
        plain[name] = tensor.float().mul_(_by_row(scale, tensor))  # one copy, not two
    return plain


def _by_row(scale: Tensor, rows: Tensor) -> Tensor:
    return scale.view(-1, *[1] * (rows.ndim - 1))
