"""CLIP: two towers that learn one embedding space (arXiv 2103.00020).

b batch, s sequence, e embedding
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zeroshot_cli.clip.config import CBOWConfig, ResNetConfig, TextTransformerConfig, VisionTransformerConfig
from zeroshot_cli.clip.resnet import EXPANSION, ModifiedResNet
from zeroshot_cli.clip.text import CBOW, TextTransformer
from zeroshot_cli.clip.transformer import Transformer
from zeroshot_cli.clip.vit import VisionTransformer

MAX_LOGIT_SCALE = math.log(100)  # arXiv 2103.00020, section 2.5


class CLIP(nn.Module):
    """An image encoder, a text encoder and a learned temperature.

    `logit_scale` is the logarithm of 1 ÷ temperature; `logit_bias` is there for the sigmoid loss only.
    """

    def __init__(
        self,
        *,
        vision: VisionTransformerConfig | ResNetConfig,
        text: TextTransformerConfig | CBOWConfig,
        embed_dim: int,
        quick_gelu: bool,
        init_logit_scale: float,
        init_logit_bias: float | None,
    ) -> None:
        super().__init__()
        self.visual = _image_tower(vision, embed_dim, quick_gelu)
        self.text = _text_tower(text, embed_dim, quick_gelu)
        self.logit_scale = nn.Parameter(torch.tensor(init_logit_scale))
        self.logit_bias = None if init_logit_bias is None else nn.Parameter(torch.tensor(init_logit_bias))

    def encode_image(self, images: Tensor) -> Tensor:
        """Images b3hw, preprocessed -> be, not normalised."""
        out: Tensor = self.visual(images)
        return out

    def encode_text(self, tokens: Tensor) -> Tensor:
        """Tokens bs -> be, not normalised."""
        out: Tensor = self.text(tokens)
        return out

    def forward(self, images: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Images b3hw, tokens bs -> both embeddings be, normalised, float32 also under autocast; 1 ÷ temperature."""
        image_features = F.normalize(self.encode_image(images).float(), dim=-1)
        text_features = F.normalize(self.encode_text(tokens).float(), dim=-1)
        return image_features, text_features, self.logit_scale.exp()

    def checkpoint_gradients(self) -> None:
        """Keep less for the gradient in training, and compute it again: the same gradient, with a third more work."""
        for module in self.modules():
            if isinstance(module, Transformer | ModifiedResNet):
                module.checkpointing = True

    @torch.no_grad()
    def clamp_logit_scale(self) -> None:
        """Keep the inverse temperature at or under 100; called after every step of training."""
        self.logit_scale.clamp_(max=MAX_LOGIT_SCALE)


def _image_tower(
    config: VisionTransformerConfig | ResNetConfig, embed_dim: int, quick_gelu: bool
) -> VisionTransformer | ModifiedResNet:
    if isinstance(config, ResNetConfig):
        return ModifiedResNet(
            image_size=config.image_size,
            layers=config.layers,
            width=config.width,
            heads=config.width * 8 * EXPANSION // config.head_width,
            embed_dim=embed_dim,
        )
    return VisionTransformer(
        image_size=config.image_size,
        patch_size=config.patch_size,
        width=config.width,
        layers=config.layers,
        heads=config.width // config.head_width,
        mlp_ratio=config.mlp_ratio,
        embed_dim=embed_dim,
        quick_gelu=quick_gelu,
    )


def _text_tower(config: TextTransformerConfig | CBOWConfig, embed_dim: int, quick_gelu: bool) -> TextTransformer | CBOW:
    if isinstance(config, CBOWConfig):
        return CBOW(
            context_length=config.context_length,
            vocab_size=config.vocab_size,
            width=config.width,
            embed_dim=embed_dim,
        )
    return TextTransformer(
        context_length=config.context_length,
        vocab_size=config.vocab_size,
        width=config.width,
        heads=config.heads,
        layers=config.layers,
        embed_dim=embed_dim,
        quick_gelu=quick_gelu,
    )
