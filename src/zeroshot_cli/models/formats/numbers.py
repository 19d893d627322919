"""Whether the numbers of weights can be right: finite, and a temperature that is stored as its logarithm."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from zeroshot_cli.errors import CheckpointError

_LARGEST_SCALE = 10.0  # of the logarithm: a trained CLIP has at most ln 100 = 4.6, SigLIP 4.8
_SMALLEST_SCALE = 0.5  # below, every label has nearly the same probability
_WAY_OUT = "take a checkpoint from before the training went wrong"


def check_scalars(state: Mapping[str, Tensor], *, source: str) -> tuple[str, ...]:
    """Return a warning where the temperature is hardly one.

    Raises CheckpointError where temperature or bias is not a finite number, or the temperature not a logarithm.
    """
    for key in ("logit_scale", "logit_bias"):
        if key in state and state[key].numel() == 1 and not math.isfinite(float(state[key])):
            raise CheckpointError(f"{source} is refused: its {key} is {float(state[key])}; {_WAY_OUT}")
    scale = float(state["logit_scale"]) if "logit_scale" in state and state["logit_scale"].numel() == 1 else 2.0
    if scale > _LARGEST_SCALE:
        raise CheckpointError(
            f"{source} is refused: its logit_scale is {scale:g}, which is the scale itself; files hold its natural "
            f"logarithm, so store {math.log(scale):.4f}"
        )
    if scale < _SMALLEST_SCALE:
        what = f"; if it is the temperature itself, store {-math.log(scale):.4f}" if scale > 0 else ""
        return (f"{source} has a logit_scale of {scale:g}, so all labels get nearly the same probability{what}",)
    return ()


def check_finite(model: nn.Module, *, source: str) -> None:
    """Raise CheckpointError with the name of a tensor of weights that has NaN or infinity in it."""
    weights = {name for name, _ in model.named_parameters()}
    for name, tensor in model.state_dict().items():
        if (name in weights or ".running_" in name) and tensor.is_floating_point() and tensor.numel():
            low, high = torch.aminmax(tensor.detach())
            if not (math.isfinite(low) and math.isfinite(high)):
                raise CheckpointError(f"{source} is refused: its tensor {name} holds NaN or infinity; {_WAY_OUT}")
