"""Small models of each kind with weights as trained ones have them, and images for them."""

from collections.abc import Callable

import torch
from torch import nn

from zeroshot_cli.clip.config import (
    CLIPConfig,
    EfficientNetConfig,
    ResNetConfig,
    TextTransformerConfig,
    VisionTransformerConfig,
)
from zeroshot_cli.clip.model import CLIP
from zeroshot_cli.models.formats.open_clip import default_preprocess
from zeroshot_cli.models.loaded import LoadedModel, make_ready
from zeroshot_cli.models.tokenizers import tokenizer_of

CPU = torch.device("cpu")
TEXT = TextTransformerConfig(width=64, heads=2, layers=2, vocab_size=1000, context_length=150)
VIT = CLIPConfig(
    embed_dim=64,
    vision=VisionTransformerConfig(image_size=64, patch_size=16, width=128, layers=4),
    text=TEXT,
    quick_gelu=True,
)
RESNET = CLIPConfig(embed_dim=64, vision=ResNetConfig(image_size=64, layers=(1, 1, 1, 1), width=16), text=TEXT)
EFFICIENTNET = CLIPConfig(
    embed_dim=64, vision=EfficientNetConfig(image_size=64, hidden=64, gate=1.0, width_multiplier=0.5), text=TEXT
)


def randomise(model: nn.Module) -> nn.Module:
    """Gains, biases and statistics random too, some channels three times the others, as in trained models."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for key, tensor in model.state_dict().items():
            if not tensor.is_floating_point() or key == "logit_scale":
                continue
            noise = torch.randn(tensor.shape, generator=generator)
            if tensor.ndim < 2:
                tensor.copy_(1 + 0.2 * noise if key.endswith(("weight", "running_var")) else 0.2 * noise)
                if "ln_" in key and key.endswith("weight"):
                    tensor[::50] *= 3
            else:
                fan_in = tensor.shape[-1] if "embedding" in key else tensor[0].numel()
                tensor.copy_(noise * fan_in**-0.5)
    return model


def ready(
    config: CLIPConfig,
    precision: str = "fp32",
    seeded: Callable[[nn.Module], nn.Module] = randomise,
    *,
    engine: str = "auto",
) -> LoadedModel:
    """The same model each time, ready to encode."""
    torch.manual_seed(0)
    return make_ready(
        name="small",
        pretrained=None,
        model=seeded(CLIP(config)),
        config=config,
        preprocess=default_preprocess(config),
        tokenizer=tokenizer_of(config),
        device=CPU,
        precision=precision,
        engine=engine,
    )


def images(count: int, size: int = 64) -> torch.Tensor:
    return torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(1))
