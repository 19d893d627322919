"""open_clip models with every parameter and buffer randomised, as the reference."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn


def randomise(model: nn.Module, seed: int = 0) -> nn.Module:
    """Random weights, gains, biases and batch-norm statistics, of a size that keeps activations near one."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            if not tensor.is_floating_point() or name.endswith(("attn_mask", "logit_scale", "logit_bias")):
                continue
            noise = torch.randn(tensor.shape, generator=generator)
            if name.endswith("running_var"):
                tensor.copy_(0.5 + noise.abs())
            elif tensor.ndim < 2:
                centre = 1.0 if name.endswith("weight") else 0.0
                tensor.copy_(centre + 0.2 * noise)
            else:
                fan_in = tensor[0].numel() if "embedding" not in name else tensor.shape[-1]
                tensor.copy_(noise * fan_in**-0.5)
    return model.eval()


@pytest.fixture(scope="session")
def open_clip_model() -> Callable[..., Any]:
    """`open_clip_model(**model_cfg)` is open_clip's CLIP of that configuration, randomised."""
    from open_clip.model import CLIP

    def build(**model_cfg: Any) -> Any:
        return randomise(CLIP(**model_cfg))

    return build
