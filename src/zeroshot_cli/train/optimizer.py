"""AdamW as CLIP was trained with it, and the running average of the weights."""

import copy
from typing import TypeVar

import torch
from torch import nn
from torch.optim import AdamW

from zeroshot_cli.clip.config import CLIPConfig, ResNetConfig

Model = TypeVar("Model", bound=nn.Module)


def build_optimizer(model: nn.Module, config: CLIPConfig, *, lr: float, weight_decay: float) -> AdamW:
    """AdamW with the betas and epsilon of arXiv 2103.00020, table 18: one pair for ResNets, one for Transformers."""
    resnet = isinstance(config.vision, ResNetConfig)
    first = next(model.parameters())
    return AdamW(
        parameter_groups(model, weight_decay=weight_decay),
        lr=lr,
        betas=(0.9, 0.999) if resnet else (0.9, 0.98),
        eps=1e-8 if resnet else 1e-6,
        fused=first.device.type in {"cpu", "cuda"},
    )


def parameter_groups(model: nn.Module, *, weight_decay: float) -> list[dict[str, object]]:
    """Two groups: what has two dimensions or more decays; gains, biases and the temperature do not."""
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    return [
        {"params": [p for p in trained if p.ndim >= 2], "weight_decay": weight_decay},
        {"params": [p for p in trained if p.ndim < 2], "weight_decay": 0.0},
    ]


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
