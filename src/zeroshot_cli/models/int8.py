"""Linear layers in 8-bit integers: a scale for every row of activations and every output channel of the weights.

A row's scale is its own, so an image's embedding does not depend on its neighbours; one scale for the whole batch, as
torch's dynamic quantisation has it, would tie them together.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from zeroshot_cli.clip.model import CLIP
from zeroshot_cli.clip.transformer import Attention, ResidualAttentionBlock, Transformer, take
from zeroshot_cli.errors import UsageError

_ZERO = 128  # the unsigned 8-bit number that stands for an activation of zero
_STEPS = 127  # from there to a row's largest magnitude


class Int8Linear(nn.Linear):
    """`nn.Linear` whose products are of integers; float32 in and out.

    `keep` leaves the float32 weights in place, for code that takes them from the layer and multiplies by itself.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None, *, keep: bool) -> None:
        nn.Module.__init__(self)
        self.out_features, self.in_features = weight.shape
        self.register_parameter("weight", nn.Parameter(weight, requires_grad=False) if keep else None)
        bias = weight.new_zeros(self.out_features) if bias is None else bias.detach().clone()
        self.bias = nn.Parameter(bias, requires_grad=False)
        self._packed = _packed(weight.detach())

    def forward(self, x: Tensor) -> Tensor:
        """Return `(…, outputs)` for `x` `(…, inputs)`."""
        rows = x.reshape(-1, self.in_features)
        low, high = torch.aminmax(rows, dim=1, keepdim=True)
        largest = torch.maximum(-low, high).clamp_(min=torch.finfo(torch.float32).tiny)
        # Every row now lies within -1 and 1, so the one scale that the kernel takes is each row's own.
        y = _multiply(rows / largest, self._packed)
        return torch.addcmul(self.bias, y, largest).view(*x.shape[:-1], self.out_features)


class Int8Attention(Attention):
    """`Attention` with integer products for queries, keys, values and the output.

    The last block of a tower asks for queries apart from keys and values; weights are packed the way they are used.
    """

    def __init__(self, attention: Attention, *, last: bool) -> None:
        nn.Module.__init__(self)
        self.heads, self.last = attention.heads, last
        weight, bias = attention.in_proj_weight, attention.in_proj_bias
        places = [weight.shape[1]] if last else []
        self.parts = nn.ModuleList(
            Int8Linear(w, b, keep=False)
            for w, b in zip(weight.tensor_split(places), bias.tensor_split(places), strict=True)
        )
        self.out_proj = attention.out_proj

    def project(self, x: Tensor, read: Tensor | None) -> tuple[Tensor, ...]:
        """Return queries, keys and values as `Attention.project` does."""
        if self.last and read is not None:
            return self.parts[0](take(x, read)), *self.parts[1](x).chunk(2, dim=-1)
        q, k, v = torch.cat([part(x) for part in self.parts], dim=-1).chunk(3, dim=-1)
        return q if read is None else take(q, read), k, v


def quantise(model: nn.Module) -> nn.Module:
    """Give `model`, in float32 on the CPU, integer linear layers in place of its own; it is changed in place.

    What multiplies by its weights itself (nn.MultiheadAttention of other families, convolutions, the final
    projections) stays in float32. So does the text tower of CLIP without VNNI: weights of 7 bits take more than a
    thousandth from its cosine, and its embeddings are cached. Raises UsageError on a processor that the kernel was not
    written for.
    """
    require_kernel()
    part = model.visual if isinstance(model, CLIP) and _weight_steps() < _STEPS else model
    for module in list(part.modules()):
        if isinstance(module, Transformer):
            for block in module.resblocks:
                assert isinstance(block, ResidualAttentionBlock)
                _share_gains(block.ln_1, block.attn.in_proj_weight)
                _share_gains(block.ln_2, block.mlp.c_fc.weight)
                block.attn = Int8Attention(block.attn, last=block is module.resblocks[-1])
    keep = not isinstance(model, CLIP)
    for module in list(part.modules()):
        for name, child in module.named_children():
            if type(child) is nn.Linear:  # a subclass may do something else
                setattr(module, name, Int8Linear(child.weight, child.bias, keep=keep))
    return model


def require_kernel() -> None:
    """Raise UsageError on a processor that the kernel was not written for."""
    if "fbgemm" not in _engines():
        raise UsageError("--precision int8 needs an x86 processor with AVX2: use --precision fp32 or bf16")


@torch.no_grad()
def _share_gains(norm: nn.LayerNorm, weight: Tensor) -> None:
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


@cache
def cpu_flags() -> frozenset[str]:
    """Return the instruction sets of the processor, as Linux spells them; empty elsewhere."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return frozenset()
    return next((frozenset(line.split()) for line in lines if line.startswith(("flags", "Features"))), frozenset())


def _engines() -> list[str]:
    return list(torch.backends.quantized.supported_engines)


def _packed(weight: Tensor) -> Any:
    """Return weights `(outputs, inputs)` as 8-bit integers, a scale a row, in the order that the kernel reads them."""
    scale = weight.abs().amax(dim=1).double().clamp_(min=torch.finfo(torch.float32).tiny) / _weight_steps()
    zero = torch.zeros(len(weight), dtype=torch.long)
    with _fbgemm(), warnings.catch_warnings():
        # The only kernel of torch that is fast without VNNI takes its weights as a tensor of the old quantised kind.
        warnings.filterwarnings("ignore", message=".*quantized tensor creation", category=UserWarning)
        quantised = torch.quantize_per_channel(weight.float(), scale, zero, 0, torch.qint8)
        return torch.ops.quantized.linear_prepack(quantised, None)


def _multiply(rows: Tensor, packed: Any) -> Tensor:
    """Return `(batch, outputs)`: rows `(batch, inputs)` within -1 and 1, rounded to 8 bits, times packed weights."""
    product = torch.ops.quantized.linear_with_input_q_dq_qweight_dq_output_fp32
    out: Tensor = product(rows, 1 / _STEPS, _ZERO, packed)
    return out


@cache
def _weight_steps() -> int:
    """Return the magnitude that a channel's largest weight gets.

    Without VNNI the processor adds two products in 16 bits, and 2 · 255 · 63 is what fits.
    """
    return 127 if "avx512_vnni" in cpu_flags() else 63


@contextmanager
def _fbgemm() -> Iterator[None]:
    before = torch.backends.quantized.engine
    torch.backends.quantized.engine = "fbgemm"
    try:
        yield
    finally:
        torch.backends.quantized.engine = before
