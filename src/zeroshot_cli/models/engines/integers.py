"""An image tower whose linear layers and convolutions multiply 8-bit integers, for an engine that has kernels for them.

Activations are divided by their largest magnitude, of a row before a linear layer and of an image before a convolution,
so one fixed scale serves all, nothing has to be calibrated, and no image changes another's embedding. In ONNX that is
QuantizeLinear and DequantizeLinear around each product, which engines replace by products of integers.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zeroshot_cli.clip.resnet import ModifiedResNet
from zeroshot_cli.clip.transformer import Attention, ResidualAttentionBlock, Transformer, take
from zeroshot_cli.clip.vit import VisionTransformer

_STEPS = 127  # from zero to a row's largest magnitude
_TINY = torch.finfo(torch.float32).tiny


class _Int8Weights(nn.Module):
    """Weights as 8-bit integers, with a scale for each of their first dimension, and the bias in float32.

    The weights stay in float32 beside them for models that take them from the layer and multiply by themselves.
    """

    values: Tensor
    scale: Tensor
    zero: Tensor
    bias: Tensor

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        super().__init__()
        self.weight = weight
        weight = weight.detach().float()
        scale = weight.flatten(1).abs().amax(dim=1).clamp(min=_TINY) / weight_steps()
        shape = (-1, *[1] * (weight.ndim - 1))
        self.register_buffer("values", (weight / scale.view(shape)).round().to(torch.int8))
        self.register_buffer("scale", scale)
        self.register_buffer("zero", torch.zeros(len(weight), dtype=torch.int64))
        self.register_buffer("bias", weight.new_zeros(len(weight)) if bias is None else bias.detach().float())

    def multiply(self, x: Tensor, over: tuple[int, ...], product: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
        """Return the product of x and the weights; numbers along the dimensions `over` share a scale."""
        ops = torch.ops.quantized_decomposed
        largest = x.abs().amax(dim=over, keepdim=True).clamp(min=_TINY)
        given = (1 / _STEPS, 0, -_STEPS - 1, _STEPS, torch.int8)
        x = ops.dequantize_per_tensor(ops.quantize_per_tensor(x * (1 / largest), *given), *given)
        weight = ops.dequantize_per_channel(self.values, self.scale, self.zero, 0, -_STEPS - 1, _STEPS, torch.int8)
        return product(x, weight) * largest


class Int8Linear(_Int8Weights):
    """`nn.Linear` whose products are of integers; float32 in and out."""

    def forward(self, x: Tensor) -> Tensor:
        """Return `(…, outputs)` for `x` `(…, inputs)`."""
        return self.multiply(x, (-1,), F.linear) + self.bias


class Int8Conv(_Int8Weights):
    """`nn.Conv2d` whose products are of integers; float32 in and out."""

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__(conv.weight, conv.bias)
        self.stride, self.padding, self.groups = conv.stride, conv.padding, conv.groups

    def forward(self, x: Tensor) -> Tensor:
        """Compute bchw -> b c' h' w'."""

        def product(pixels: Tensor, weight: Tensor) -> Tensor:
            return F.conv2d(pixels, weight, None, self.stride, self.padding, groups=self.groups)

        return self.multiply(x, (1, 2, 3), product) + self.bias[:, None, None]


class _Int8Patches(nn.Module):
    """The convolution of a Vision Transformer, whose patches do not overlap: a linear layer for each patch."""

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__()
        self.side = conv.kernel_size[0]
        self.linear = Int8Linear(conv.weight.flatten(1), conv.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Compute b3hw -> bd h/side w/side."""
        side = self.side
        rows, columns = x.shape[2] // side, x.shape[3] // side
        x = x[:, :, : rows * side, : columns * side].reshape(-1, x.shape[1], rows, side, columns, side)
        patches = x.permute(0, 2, 4, 1, 3, 5).flatten(3)  # b rows columns 3·side·side
        out: Tensor = self.linear(patches).permute(0, 3, 1, 2)
        return out


class _Int8Attention(Attention):
    """`Attention` with integer products, one each for queries, keys, values and the output.

    Three products take no longer than one of three times the width, and nothing has to be split after them.
    """

    def __init__(self, attention: Attention) -> None:
        nn.Module.__init__(self)
        self.heads, self.out_proj = attention.heads, attention.out_proj
        weights, biases = attention.in_proj_weight.chunk(3), attention.in_proj_bias.chunk(3)
        self.parts = nn.ModuleList(map(Int8Linear, weights, biases))

    def project(self, x: Tensor, read: Tensor | None) -> tuple[Tensor, ...]:
        """Return queries, keys and values as `Attention.project` does."""
        queries, keys, values = self.parts
        return queries(x if read is None else take(x, read)), keys(x), values(x)


def quantise(tower: nn.Module) -> None:
    """Give an image tower in float32 layers of integers in place of its own; it is changed in place.

    The convolutions of an EfficientNet stay in float32: with so few weights to each product, a scale an image takes
    more than a thousandth from the cosine. What multiplies by its weights itself stays too.
    """
    from torch.ao.quantization.fx import _decomposed  # noqa: F401  defines the operators, before an exporter starts

    for module in list(tower.modules()):
        if isinstance(module, Transformer):
            for block in module.resblocks:
                assert isinstance(block, ResidualAttentionBlock)
                share_gains(block.ln_1, block.attn.in_proj_weight)
                share_gains(block.ln_2, block.mlp.c_fc.weight)
                block.attn = _Int8Attention(block.attn)
    if isinstance(tower, ModifiedResNet):
        _fold_norms(tower)
    if isinstance(tower, VisionTransformer):
        tower.add_module("conv1", _Int8Patches(tower.conv1))
    for module in list(tower.modules()):
        for name, child in module.named_children():
            if type(child) is nn.Linear:  # a subclass may do something else
                setattr(module, name, Int8Linear(child.weight, child.bias))
            elif isinstance(tower, ModifiedResNet) and type(child) is nn.Conv2d:
                setattr(module, name, Int8Conv(child))


@torch.no_grad()
def share_gains(norm: nn.LayerNorm, weight: Tensor) -> None:
    """Move half of each channel's gain from a layer norm into the weights that read it; both change in place.

    The product stays the same, but a few channels with large gains no longer take the whole scale of a row
    (arXiv 2209.13325; the even split is that of arXiv 2211.10438, section 4).
    """
    # Three deviations and the offset bound what the norm puts out, without any data.
    reach = 3 * norm.weight.abs() + norm.bias.abs()
    share = (reach.clamp(min=1e-5) / weight.abs().amax(dim=0).clamp(min=1e-5)).sqrt()
    norm.weight.div_(share)
    norm.bias.div_(share)
    weight.mul_(share)


def _fold_norms(tower: nn.Module) -> None:
    """Fold the batch norm after each convolution of a ResNet into its weights, which then have one scale together."""
    for module in list(tower.modules()):
        names = [name for name, child in module.named_children() if isinstance(child, nn.Conv2d)]
        for name in names:
            after = name.replace("conv", "bn") if name.startswith("conv") else str(int(name) + 1)
            conv, norm = getattr(module, name), getattr(module, after)
            setattr(module, name, nn.utils.fuse_conv_bn_eval(conv, norm))
            setattr(module, after, nn.Identity())


@cache
def cpu_flags() -> frozenset[str]:
    """Return the instruction sets of the processor, as Linux spells them; empty elsewhere."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return frozenset()
    return next((frozenset(line.split()) for line in lines if line.startswith(("flags", "Features"))), frozenset())


@cache
def weight_steps() -> int:
    """Return the magnitude that a channel's largest weight gets.

    Without VNNI a processor adds two products in 16 bits, and 2 · 255 · 63 is what fits.
    """
    return _STEPS if cpu_flags() & {"avx512_vnni", "avx_vnni"} else 63
