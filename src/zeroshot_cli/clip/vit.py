"""The Vision Transformer (arXiv 2010.11929), with CLIP's extra layer norm before the blocks.

b batch, s sequence (class token, then patches), d width, e embedding
"""

import torch
from torch import Tensor, nn

from zeroshot_cli.clip.config import VisionTransformerConfig
from zeroshot_cli.clip.transformer import Transformer


class VisionTransformer(nn.Module):
    """Images to embeddings, read at the class token."""

    HEAD = ("ln_post", "proj")

    def __init__(self, config: VisionTransformerConfig, embed_dim: int, *, quick_gelu: bool) -> None:
        super().__init__()
        width, patch = config.width, config.patch_size
        length = 1 + (config.image_size // patch) ** 2
        std = width**-0.5
        self.conv1 = nn.Conv2d(3, width, kernel_size=patch, stride=patch, bias=False)
        self.class_embedding = nn.Parameter(nn.init.normal_(torch.empty(width), std=std))
        self.positional_embedding = nn.Parameter(nn.init.normal_(torch.empty(length, width), std=std))
        self.ln_pre = nn.LayerNorm(width)
        self.transformer = Transformer(
            width, config.heads, config.layers, mlp_ratio=config.mlp_ratio, quick_gelu=quick_gelu
        )
        self.ln_post = nn.LayerNorm(width)
        self.proj = nn.Parameter(nn.init.normal_(torch.empty(width, embed_dim), std=std))

    def forward(self, images: Tensor) -> Tensor:
        """Embed preprocessed images: b3hw -> be, not normalised."""
        return self.project(self.features(images))

    def features(self, images: Tensor) -> Tensor:
        """Return the class token of preprocessed images after the last block: b3hw -> bd."""
        x = self.conv1(images).flatten(2).transpose(1, 2)  # b3hw -> bdhw -> bsd
        class_token = self.class_embedding.expand(x.shape[0], 1, -1).to(x.dtype)
        x = torch.cat([class_token, x], dim=1) + self.positional_embedding.to(x.dtype)
        first = torch.zeros(x.shape[0], 1, dtype=torch.long, device=x.device)
        out: Tensor = self.transformer(self.ln_pre(x), first).squeeze(1)  # bsd -> b1d -> bd
        return out

    def project(self, features: Tensor) -> Tensor:
        """Embed features by the head: bd -> be."""
        out: Tensor = self.ln_post(features) @ self.proj
        return out
