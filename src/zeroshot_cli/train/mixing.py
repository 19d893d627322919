"""Weights made of weights: the running average, and the mixture of a fine-tuned model with what it came from."""

import copy
from collections.abc import Iterator, Mapping
from typing import TypeVar

import torch
from torch import Tensor, nn

Model = TypeVar("Model", bound=nn.Module)


def average_of(model: Model) -> Model:
    """A copy that starts where the model is, for `update_average`."""
    return copy.deepcopy(model).eval().requires_grad_(False)


@torch.no_grad()
def update_average(average: nn.Module, model: nn.Module, *, decay: float, step: int) -> None:
    """Move each averaged weight and batch-norm statistic towards the model's; counts are taken over.

    The statistics of the last few batches belong to the weights of then, and do not fit averaged ones. `step` counts
    from 1; early on the decay is (1 + step) / (10 + step), so that a short run forgets its random start.
    """
    decay = min(decay, (1 + step) / (10 + step))
    pairs = list(zip(_tensors(average), _tensors(model), strict=True))
    moving = [(kept, new) for kept, new in pairs if kept.is_floating_point()]
    torch._foreach_lerp_([kept for kept, _ in moving], [new for _, new in moving], 1 - decay)
    for kept, new in pairs:
        if not kept.is_floating_point():
            kept.copy_(new)


def _tensors(module: nn.Module) -> Iterator[Tensor]:
    yield from (parameter.detach() for parameter in module.parameters())
    yield from module.buffers()


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
