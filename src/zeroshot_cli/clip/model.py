"""CLIP: two towers that learn one embedding space (arXiv 2103.00020).

b batch, s sequence, e embedding
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zeroshot_cli.clip.config import CBOWConfig, CLIPConfig, EfficientNetConfig, ResNetConfig
from zeroshot_cli.clip.efficientnet import EfficientNet
from zeroshot_cli.clip.resnet import ModifiedResNet
from zeroshot_cli.clip.text import CBOW, TextTransformer
from zeroshot_cli.clip.transformer import Transformer
from zeroshot_cli.clip.vit import VisionTransformer

MAX_LOGIT_SCALE = math.log(100)  # arXiv 2103.00020, section 2.5


class CLIP(nn.Module):
    """An image encoder, a text encoder and a learned temperature, with weights from torch's global random state.

    `logit_scale` is the logarithm of 1 ÷ temperature; only the sigmoid loss needs a `logit_bias`.
    """

    visual: VisionTransformer | ModifiedResNet | EfficientNet
    text: TextTransformer | CBOW

    def __init__(self, config: CLIPConfig) -> None:
        super().__init__()
        embed_dim, bias = config.embed_dim, config.init_logit_bias
        if isinstance(config.vision, ResNetConfig):
            self.visual = ModifiedResNet(config.vision, embed_dim)
        elif isinstance(config.vision, EfficientNetConfig):
            self.visual = EfficientNet(config.vision, embed_dim)
        else:
            self.visual = VisionTransformer(config.vision, embed_dim, quick_gelu=config.quick_gelu)
        if isinstance(config.text, CBOWConfig):
            self.text = CBOW(config.text, embed_dim)
        else:
            self.text = TextTransformer(config.text, embed_dim, quick_gelu=config.quick_gelu)
        self.logit_scale = nn.Parameter(torch.tensor(config.init_logit_scale))
        self.logit_bias = None if bias is None else nn.Parameter(torch.tensor(bias))

    def encode_image(self, images: Tensor) -> Tensor:
        """Embed preprocessed images: b3hw -> be, not normalised."""
        out: Tensor = self.visual(images)
        return out

    def encode_text(self, tokens: Tensor) -> Tensor:
        """Embed texts: tokens bs -> be, not normalised."""
        out: Tensor = self.text(tokens)
        return out

    def forward(
        self, images: Tensor, tokens: Tensor, encode: Callable[[Tensor], Tensor] | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Embed images b3hw and tokens bs -> be each, normalised, float32 even under autocast; and 1 ÷ temperature.

        `encode` takes the place of `encode_image`, for features such as `visual.features` gives.
        """
        image_features = F.normalize((encode or self.encode_image)(images).float(), dim=-1)
        text_features = F.normalize(self.encode_text(tokens).float(), dim=-1)
        return image_features, text_features, self.logit_scale.exp()

    def checkpoint_gradients(self) -> None:
        """Save memory in training: keep less for the gradient and compute it again, with a third more work."""
        for module in self.modules():
            if isinstance(module, Transformer | ModifiedResNet | EfficientNet):
                module.checkpointing = True

    @torch.no_grad()
    def clamp_logit_scale(self) -> None:
        """Keep the inverse temperature at or below 100; called after every step of training."""
        self.logit_scale.clamp_(max=MAX_LOGIT_SCALE)
