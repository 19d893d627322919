"""EfficientNet-Lite: EfficientNet (arXiv 1905.11946) without squeeze-and-excitation, with ReLU6 and a fixed stem.

As in TensorFlow's `efficientnet_lite_builder.py`; above it stands a head of our own, which leads from the features and
the classes of ImageNet to embeddings.

b batch, c channels, f features, k classes of the classifier, e embedding
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zeroshot_cli.clip.config import EfficientNetConfig
from zeroshot_cli.clip.kernels import gelu, is_textbook, recomputed

STEM = 32  # channels; like the features, the same at every width
FEATURES = 1280
# Blocks, size of the kernel, stride, expansion and channels of each stage (arXiv 1905.11946, table 1).
STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)


class ConvNorm(nn.Module):
    """A convolution with TensorFlow's padding, a batch norm, and ReLU6 unless it is `linear`.

    In evaluation mode the norm is folded into the convolution's weights as they are used, which takes a pass over all
    pixels less; a model that will only be asked may `fold` them once.
    """

    def __init__(
        self, channels: int, out: int, kernel: int = 1, *, stride: int = 1, groups: int = 1, linear: bool = False
    ) -> None:
        super().__init__()
        self.linear = linear
        self.conv = nn.Conv2d(channels, out, kernel, stride, padding=kernel // 2, groups=groups, bias=False)
        self.norm: nn.BatchNorm2d | None = nn.BatchNorm2d(out, eps=1e-3, momentum=0.01)
        nn.init.normal_(self.conv.weight, std=math.sqrt(2 / (kernel**2 * out // groups)))

    def forward(self, x: Tensor) -> Tensor:
        """Compute bchw -> b c' h/stride w/stride, rounded up."""
        conv = self.conv
        weight, bias, norm = conv.weight, conv.bias, self.norm
        if norm is not None and not self.training:
            (weight, bias), norm = _folded(conv, norm), None
        padding = conv.padding
        if conv.stride[0] > 1:
            # Before an even edge TensorFlow pads one pixel less; an empty tap moves the kernel there without copying x.
            across, down = 1 - x.shape[-1] % 2, 1 - x.shape[-2] % 2
            if is_textbook():
                edge = conv.kernel_size[0] // 2
                x, padding = F.pad(x, (edge - across, edge, edge - down, edge)), (0, 0)
            else:
                weight = F.pad(weight, (across, 0, down, 0))
        x = F.conv2d(x, weight, bias, conv.stride, padding, groups=conv.groups)
        x = x if norm is None else norm(x)
        return x if self.linear else F.relu6(x, inplace=True)

    def fold(self) -> None:
        """Fold the norm for good, before the weights are rounded: that is more exact than to round both."""
        if self.norm is not None:
            weight, bias = _folded(self.conv, self.norm)
            self.conv.weight, self.conv.bias = (nn.Parameter(t.detach(), requires_grad=False) for t in (weight, bias))
            self.norm = None


class InvertedBottleneck(nn.Module):
    """1×1 to more channels, a convolution of each channel by itself, 1×1 to fewer; `x +` where the shape stays."""

    def __init__(self, channels: int, out: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        self.residual = stride == 1 and channels == out
        wide = channels * expansion
        self.expand: nn.Module = nn.Identity() if expansion == 1 else ConvNorm(channels, wide)
        self.depthwise = ConvNorm(wide, wide, kernel, stride=stride, groups=wide)
        self.project = ConvNorm(wide, out, linear=True)

    def forward(self, x: Tensor) -> Tensor:
        """Compute bchw -> b c' h/stride w/stride."""
        y: Tensor = self.project(self.depthwise(self.expand(x)))
        return x + y if self.residual else y


class GatedHead(nn.Module):
    """An embedding for each class of the classifier, and an MLP that speaks as far as the classifier is unsure.

    So tuning the MLP for other images leaves those alone that the classifier knows.
    """

    def __init__(self, config: EfficientNetConfig, embed_dim: int) -> None:
        super().__init__()
        self.gate = config.gate
        self.dropout = nn.Dropout(config.dropout)
        self.class_embedding = nn.Parameter(torch.empty(config.classes, embed_dim))
        self.mean: Tensor
        self.deviation: Tensor
        self.register_buffer("mean", torch.zeros(FEATURES))
        self.register_buffer("deviation", torch.ones(FEATURES))
        self.c_fc = nn.Linear(FEATURES, config.hidden)
        self.c_proj = nn.Linear(config.hidden, embed_dim)
        nn.init.normal_(self.class_embedding, std=embed_dim**-0.5)
        nn.init.zeros_(self.c_proj.weight)
        nn.init.zeros_(self.c_proj.bias)

    def forward(self, features: Tensor, logits: Tensor) -> Tensor:
        """Embed bf and their logits bk -> be: p · E + (1 - max p) · G · x."""
        p = logits.float().softmax(dim=-1)
        unsure = 1 - p.amax(dim=-1, keepdim=True)  # b1
        x = self.dropout((features - self.mean) / self.deviation)
        x = self.c_proj(self.dropout(gelu(self.c_fc(x))))  # bf -> be
        out: Tensor = p.to(x.dtype) @ self.class_embedding.to(x.dtype) + unsure * self.gate * x
        return out


class EfficientNet(nn.Module):
    """Images to embeddings, by the pooled features and the classes of a classifier.

    With `checkpointing` the stem, each block and the last convolution keep only their input for the gradient and are
    computed twice.
    """

    HEAD = ("gated_head",)

    def __init__(self, config: EfficientNetConfig, embed_dim: int) -> None:
        super().__init__()
        self.checkpointing = False
        self.stem = ConvNorm(3, STEM, 3, stride=2)
        self.blocks = nn.ModuleList()
        channels = STEM
        for stage in STAGES:
            repeats, kernel, stride, expansion, out = stage
            out = _rounded(out * config.width_multiplier)
            if stage not in (STAGES[0], STAGES[-1]):
                repeats = math.ceil(repeats * config.depth_multiplier)
            for block in range(repeats):
                self.blocks.append(InvertedBottleneck(channels, out, kernel, 1 if block else stride, expansion))
                channels = out
        self.last = ConvNorm(channels, FEATURES)
        self.classifier = nn.Linear(FEATURES, config.classes)
        self.gated_head = GatedHead(config, embed_dim)

    def forward(self, images: Tensor) -> Tensor:
        """Embed preprocessed images: b3hw -> be, not normalised."""
        return self.project(self.features(images))

    def project(self, features: Tensor) -> Tensor:
        """Embed pooled features by the classifier, which is of the trunk, and the head: bf -> be."""
        out: Tensor = self.gated_head(features, self.classifier(features))
        return out

    def features(self, images: Tensor) -> Tensor:
        """Return the pooled features of preprocessed images: b3hw -> bf."""
        x = images
        if x.device.type == "cpu":  # there twice as fast
            x = x.contiguous(memory_format=torch.channels_last)
        # The stem gives h/2 w/2, the stages h/2, h/4, h/8, h/16, h/16, h/32 and h/32.
        for part in (self.stem, *self.blocks, self.last):
            x = recomputed(part, x) if self.checkpointing else part(x)
        return x.mean(dim=(2, 3))

    def fold(self) -> None:
        """Fold all batch norms for good; the weights then have other names, and the model no longer trains."""
        for module in self.modules():
            if isinstance(module, ConvNorm):
                module.fold()


def _folded(conv: nn.Conv2d, norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """Return weight and bias of the convolution that computes both."""
    assert norm.running_mean is not None
    assert norm.running_var is not None
    scale = norm.weight * (norm.running_var + norm.eps).rsqrt()
    return conv.weight * scale[:, None, None, None], norm.bias - norm.running_mean * scale


def _rounded(channels: float) -> int:
    """Return the nearest multiple of 8, but not less than 90 % of `channels`."""
    nearest = max(8, int(channels + 4) // 8 * 8)
    return nearest if nearest >= 0.9 * channels else nearest + 8
