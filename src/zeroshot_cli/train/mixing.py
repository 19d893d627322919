"""Weights made of weights: the running average, and the mixture of a fine-tuned model with what it came from."""

import copy
from collections.abc import Mapping
from typing import TypeVar

import torch
from torch import Tensor, nn

Model = TypeVar("Model", bound=nn.Module)


def average_of(model: Model) -> Model:
    """A copy that starts where the model is, for `update_average`."""
    return copy.deepcopy(model).eval().requires_grad_(False)


@torch.no_grad()
def update_average(average: nn.Module, model: nn.Module, *, decay: float, step: int) -> None:
    """Move each averaged weight towards the model's; batch-norm statistics are taken over as they are.

    `step` counts from 1; early on the decay is (1 + step) / (10 + step), so that a short run forgets its random start.
    """
    decay = min(decay, (1 + step) / (10 + step))
    averaged = [parameter.detach() for parameter in average.parameters()]
    current = [parameter.detach() for parameter in model.parameters()]
    torch._foreach_lerp_(averaged, current, 1 - decay)
    for kept, buffer in zip(average.buffers(), model.buffers(), strict=True):
        kept.copy_(buffer)


@torch.no_grad()
def mix(tuned: Mapping[str, Tensor], start: Mapping[str, Tensor], alpha: float) -> dict[str, Tensor]:
    """(1 - alpha) · start + alpha · tuned for every weight and statistic, in float32; counts are the tuned model's.

    New tensors of the kind and device of `tuned`; `start` has the same names. At 0 and 1 it is one of the two to the
    bit. Source: WiSE-FT, arXiv 2109.01903, section 3.
    """
    return {name: _between(start[name], tensor, alpha) for name, tensor in tuned.items()}


def _between(start: Tensor, tuned: Tensor, alpha: float) -> Tensor:
    if not tuned.is_floating_point():
        return tuned.clone()
    return torch.lerp(start.to(tuned.device, torch.float32), tuned.float(), alpha).to(tuned.dtype)
