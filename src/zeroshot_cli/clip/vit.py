"""The Vision Transformer (arXiv 2010.11929), with CLIP's extra layer norm before the blocks.

b batch, s sequence (class token, then patches), d width, e embedding
"""

import torch
from torch import Tensor, nn

from zeroshot_cli.clip.transformer import Transformer


class VisionTransformer(nn.Module):
    """Images to embeddings, read at the class token."""

    def __init__(
        self,
        *,
        image_size: int,
        patch_size: int,
        width: int,
        layers: int,
        heads: int,
        mlp_ratio: float,
        embed_dim: int,
        quick_gelu: bool,
    ) -> None:
        super().__init__()
        patches = (image_size // patch_size) ** 2
        std = width**-0.5
        self.conv1 = nn.Conv2d(3, width, kernel_size=patch_size, stride=patch_size, bias=False)
        self.class_embedding = nn.Parameter(nn.init.normal_(torch.empty(width), std=std))
        self.positional_embedding = nn.Parameter(nn.init.normal_(torch.empty(1 + patches, width), std=std))
        self.ln_pre = nn.LayerNorm(width)
        self.transformer = Transformer(
            width=width, heads=heads, layers=layers, mlp_ratio=mlp_ratio, quick_gelu=quick_gelu
        )
        self.ln_post = nn.LayerNorm(width)
        self.proj = nn.Parameter(nn.init.normal_(torch.empty(width, embed_dim), std=std))

    def forward(self, images: Tensor) -> Tensor:
        """Images b3hw, normalised -> be, not normalised."""
        x = self.conv1(images).flatten(2).transpose(1, 2)  # b3hw -> bdhw -> bsd
        class_token = self.class_embedding.expand(x.shape[0], 1, -1).to(x.dtype)
        x = torch.cat([class_token, x], dim=1) + self.positional_embedding.to(x.dtype)
        x = self.ln_pre(x)
        first = torch.zeros(x.shape[0], dtype=torch.long, device=x.device)
        x = self.transformer(x, first, causal=False)  # bsd -> bd
        out: Tensor = self.ln_post(x) @ self.proj  # bd -> be
        return out
