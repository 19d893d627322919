"""AdamW as CLIP was trained with it, and learning rates that decrease with depth."""

import re

from torch import nn
from torch.optim import AdamW, Optimizer

from zeroshot_cli.clip.config import CLIPConfig, EfficientNetConfig, ResNetConfig

_BLOCK = re.compile(r"\.(?:res)?blocks\.(\d+)\.")
_STAGE = re.compile(r"\.layer(\d)\.")
_HEAD = re.compile(r"^text\.mlp\.|\.(ln_post|proj|attnpool|ln_final|text_projection|last|classifier|gated_head)\b")


def build_optimizer(
    model: nn.Module,
    config: CLIPConfig,
    *,
    lr: float,
    weight_decay: float,
    layer_decay: float | None = None,
    one_by_one: bool = False,
) -> AdamW:
    """Return AdamW with the betas and epsilon of arXiv 2103.00020, table 18, for convolutions or for Transformers.

    `one_by_one` is for parameters of which some are in shares: a step over several at once refuses the mixture.
    """
    convolutional = isinstance(config.vision, ResNetConfig | EfficientNetConfig)
    groups = parameter_groups(model, weight_decay=weight_decay, layer_decay=layer_decay)
    first = next(model.parameters())
    optimizer = AdamW(
        groups,
        lr=lr,
        betas=(0.9, 0.999) if convolutional else (0.9, 0.98),
        eps=1e-8 if convolutional else 1e-6,
        foreach=False if one_by_one else None,
        fused=not one_by_one and first.device.type in {"cpu", "cuda"},
    )
    set_learning_rate(optimizer, lr)
    return optimizer


def parameter_groups(
    model: nn.Module, *, weight_decay: float, layer_decay: float | None = None
) -> list[dict[str, object]]:
    """Return what is trained, grouped by its share of the learning rate ("scale") and by whether it decays.

    What has two or more dimensions decays; gains, biases and the temperature do not. Without `layer_decay` there are
    two groups, in this order; with it, two for each scale.
    """
    scales = learning_rate_scales([name for name, _ in model.named_parameters()], layer_decay=layer_decay)
    groups: dict[tuple[float, bool], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            groups.setdefault((scales[name], parameter.ndim < 2), []).append(parameter)
    return [
        {"params": groups[scale, kept], "weight_decay": 0.0 if kept else weight_decay, "scale": scale}
        for scale, kept in sorted(groups)
    ]


def learning_rate_scales(names: list[str], *, layer_decay: float | None) -> dict[str, float]:
    """Return the share of the learning rate that each parameter gets, by its name.

    decay^(L + 1 - depth) in a tower of L blocks (or the four stages of a ResNet): embeddings and stem have depth 0,
    blocks 1 to L, what comes after them L + 1. Temperature and bias belong to no tower and get all of it.
    Source: arXiv 2106.08254 (BEiT), section 3.2 and optim_factory.py; for two towers, EVA-CLIP (arXiv 2303.15389).
    """
    if layer_decay is None:
        return dict.fromkeys(names, 1.0)
    blocks: dict[str, int] = {}
    for name in names:
        tower = name.partition(".")[0]
        blocks[tower] = max(blocks.get(tower, 0), _block(name))
    return {name: layer_decay ** _from_the_top(name, blocks[name.partition(".")[0]]) for name in names}


def _from_the_top(name: str, blocks: int) -> int:
    """Return how many layers a parameter is below the last one of its tower, which has so many blocks."""
    in_no_tower = "." not in name
    if in_no_tower or _HEAD.search(name):
        return 0
    return blocks + 1 - _block(name)


def _block(name: str) -> int:
    """Return the block of a tower that a parameter belongs to, from 1; 0 for none."""
    if match := _BLOCK.search(name):
        return int(match[1]) + 1
    return int(match[1]) if (match := _STAGE.search(name)) else 0


def set_learning_rate(optimizer: Optimizer, lr: float) -> None:
    """Give every group its share of the learning rate."""
    for group in optimizer.param_groups:
        group["lr"] = lr * group["scale"]
