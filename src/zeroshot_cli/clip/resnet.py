"""The modified ResNet of CLIP (arXiv 2103.00020, section 2.4): ResNet-D stem, anti-aliased strides, attention pooling.

b batch, c channels, s sequence (mean, then places), d width, e embedding
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zeroshot_cli.clip.config import ResNetConfig
from zeroshot_cli.clip.kernels import recomputed

EXPANSION = 4


class Bottleneck(nn.Module):
    """1×1, 3×3, 1×1; a stride is an average pool, so that it does not alias."""

    def __init__(self, in_channels: int, channels: int, stride: int) -> None:
        super().__init__()
        out_channels = channels * EXPANSION
        self.conv1 = nn.Conv2d(in_channels, channels, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.avgpool = nn.AvgPool2d(stride) if stride > 1 else nn.Identity()
        self.conv3 = nn.Conv2d(channels, out_channels, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(out_channels)
        self.downsample: nn.Module = nn.Identity()
        if stride > 1 or in_channels != out_channels:
            # Numbered as in the published weights: "-1" has no parameters.
            self.downsample = nn.Sequential()
            self.downsample.add_module("-1", nn.AvgPool2d(stride))
            self.downsample.add_module("0", nn.Conv2d(in_channels, out_channels, 1, bias=False))
            self.downsample.add_module("1", nn.BatchNorm2d(out_channels))
        nn.init.zeros_(self.bn3.weight)  # a fresh block is the identity

    def forward(self, x: Tensor) -> Tensor:
        """Compute bchw -> b c' h/stride w/stride."""
        y = F.relu(self.bn1(self.conv1(x)))
        y = F.relu(self.bn2(self.conv2(y)))
        y = self.bn3(self.conv3(self.avgpool(y)))
        return F.relu(y + self.downsample(x))


class AttentionPool(nn.Module):
    """Attention with one query, the mean of all places, over the mean and all places."""

    def __init__(self, side: int, width: int, heads: int, embed_dim: int) -> None:
        super().__init__()
        self.heads = heads
        self.positional_embedding = nn.Parameter(nn.init.normal_(torch.empty(1 + side**2, width), std=width**-0.5))
        self.k_proj = nn.Linear(width, width)
        self.q_proj = nn.Linear(width, width)
        self.v_proj = nn.Linear(width, width)
        self.c_proj = nn.Linear(width, embed_dim)
        for layer in (self.q_proj, self.k_proj, self.v_proj, self.c_proj):
            nn.init.normal_(layer.weight, std=width**-0.5)

    def forward(self, x: Tensor) -> Tensor:
        """Pool bdhw -> be."""
        x = x.flatten(2).transpose(1, 2)  # bdhw -> bsd
        x = torch.cat([x.mean(dim=1, keepdim=True), x], dim=1)
        x = x + self.positional_embedding.to(x.dtype)
        q, k, v = self.q_proj(x[:, :1]), self.k_proj(x), self.v_proj(x)
        q, k, v = (t.view(*t.shape[:2], self.heads, -1).transpose(1, 2) for t in (q, k, v))  # bsd -> bhs(d/h)
        x = F.scaled_dot_product_attention(q, k, v)  # bh1(d/h)
        out: Tensor = self.c_proj(x.transpose(1, 2).flatten(1))  # bd -> be
        return out


class ModifiedResNet(nn.Module):
    """Images to embeddings, pooled by attention.

    With `checkpointing` the stem and each block keep only their input for the gradient and are computed twice.
    """

    HEAD = ("attnpool",)

    def __init__(self, config: ResNetConfig, embed_dim: int) -> None:
        super().__init__()
        self.checkpointing = False
        width, layers = config.width, config.layers
        self.conv1 = nn.Conv2d(3, width // 2, 3, stride=2, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width // 2)
        self.conv2 = nn.Conv2d(width // 2, width // 2, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width // 2)
        self.conv3 = nn.Conv2d(width // 2, width, 3, padding=1, bias=False)
        self.bn3 = nn.BatchNorm2d(width)
        self.avgpool = nn.AvgPool2d(2)
        self.layer1 = _stage(width, width, layers[0], stride=1)
        self.layer2 = _stage(width * EXPANSION, width * 2, layers[1], stride=2)
        self.layer3 = _stage(width * 2 * EXPANSION, width * 4, layers[2], stride=2)
        self.layer4 = _stage(width * 4 * EXPANSION, width * 8, layers[3], stride=2)
        self.attnpool = AttentionPool(config.image_size // 32, 32 * width, config.heads, embed_dim)

    def forward(self, images: Tensor) -> Tensor:
        """Embed preprocessed images: b3hw -> be, not normalised."""
        return self.project(self.features(images))

    def features(self, images: Tensor) -> Tensor:
        """Return the features of preprocessed images, before they are pooled: b3hw -> bd h/32 w/32."""
        x = images
        # The stem gives h/4 w/4, the stages h/4, h/8, h/16 and h/32.
        for part in (self._stem, *self.layer1, *self.layer2, *self.layer3, *self.layer4):
            x = recomputed(part, x) if self.checkpointing else part(x)
        return x

    def project(self, features: Tensor) -> Tensor:
        """Embed features by the head: bd h/32 w/32 -> be."""
        out: Tensor = self.attnpool(features)
        return out

    def _stem(self, images: Tensor) -> Tensor:
        x = F.relu(self.bn1(self.conv1(images)))  # b3hw -> bc h/2 w/2
        x = F.relu(self.bn2(self.conv2(x)))
        x = F.relu(self.bn3(self.conv3(x)))
        out: Tensor = self.avgpool(x)  # h/4
        return out


def _stage(in_channels: int, channels: int, blocks: int, *, stride: int) -> nn.Sequential:
    first = Bottleneck(in_channels, channels, stride)
    return nn.Sequential(first, *(Bottleneck(channels * EXPANSION, channels, 1) for _ in range(blocks - 1)))
