"""What makes the model fast and its results on a CPU exact to the bit: activations, attention, gradient checkpointing.

The architecture (`transformer`, `vit`, `resnet`, `text`) says what is computed; this file says how. On a CPU an image's
embedding must not depend on its place in the batch, so that cached, resumed and uninterrupted runs agree.

b batch, h heads, q queries, s sequence, d channels of a head
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint

_SHARE = 32_768  # elements: the fewest that a thread gets of an elementwise operation (ATen's GRAIN_SIZE)
_STEP = 64  # elements: the most that a CPU's vector instructions take at once


_textbook = False


@contextmanager
def textbook() -> Iterator[None]:
    """Compute by the plain formulas meanwhile, which other programs know; results differ in the last bits."""
    global _textbook
    _textbook = True
    try:
        yield
    finally:
        _textbook = False


def is_textbook() -> bool:
    """Return whether the plain formulas are asked for."""
    return _textbook


def gelu(x: Tensor) -> Tensor:
    """Return x · Φ(x). Without gradients x is overwritten, which makes ViT-B-32 5 % faster."""
    return F.gelu(x) if torch.is_grad_enabled() or _textbook else _overwrite(x, torch.ops.aten.gelu_)


def quick_gelu(x: Tensor) -> Tensor:
    """Return x · sigmoid(1.702 x), OpenAI's approximation of GELU. Without gradients x is overwritten."""
    if torch.is_grad_enabled() or _textbook:
        return x * torch.sigmoid(1.702 * x)
    return _overwrite(x, lambda part: part.mul_((1.702 * part).sigmoid_()))


def _overwrite(x: Tensor, activation: Callable[[Tensor], object]) -> Tensor:
    """Apply an in-place activation to x.

    Threads get equal shares of x, and torch computes what a share has beyond whole vectors by another formula, whose
    last bit may differ. So on a CPU the shares are made of whole vectors.
    """
    if x.device.type != "cpu" or not x.is_contiguous():
        activation(x)
        return x
    flat = x.view(-1)
    whole = _whole_shares(flat.numel(), torch.get_num_threads())
    for part in (flat[:whole], flat[whole:]):
        activation(part)
    return x


def _whole_shares(elements: int, threads: int) -> int:
    """Return the most of `elements` that threads can share in whole vectors."""
    shares = 0
    while shares != (shares := max(1, min(threads, -(-elements // _SHARE)))):
        elements -= elements % (_STEP * shares)
    return elements


def attention(q: Tensor, k: Tensor, v: Tensor, *, causal: bool = False, visible: Tensor | None = None) -> Tensor:
    """Return softmax(q · k / √d) · v: queries bhqd, keys and values bhsd -> bhqd.

    A query sees the keys for which `visible` is true, of a shape that broadcasts to bhqs, or with `causal` those up to
    its own position, else all.
    """
    if q.device.type == "cpu" and q.dtype == torch.bfloat16 and q.requires_grad:
        # In float32 the gradient takes a third of the time, and is more accurate.
        with torch.autocast("cpu", enabled=False):
            return attention(q.float(), k.float(), v.float(), causal=causal, visible=visible).to(q.dtype)
    if q.device.type == "cpu" and q.dtype == torch.float32 and q.shape[2] == 1 and not _textbook:
        return _attend_once(q, k, v, visible)
    return F.scaled_dot_product_attention(q, k, v, attn_mask=visible, is_causal=causal)


def _attend_once(q: Tensor, k: Tensor, v: Tensor, visible: Tensor | None) -> Tensor:
    """Return the attention of one query, by sums instead of matrix products.

    MKL rounds the product with a single row by where in memory it lies, which depends on the place in the batch.
    """
    scores: Tensor = (q * k).sum(dim=-1) * q.shape[-1] ** -0.5  # bhs
    if visible is not None:
        scores = scores.masked_fill(~visible[..., 0, :], float("-inf"))
    weights = scores.softmax(dim=-1)[..., None]  # bhs1
    return (weights * v).sum(dim=2, keepdim=True)


def recomputed(part: Callable[..., Tensor], x: Tensor, **arguments: object) -> Tensor:
    """Return part(x, **arguments), keeping only x for the gradient and computing the rest again (arXiv 1604.06174).

    The gradient is the same to the bit. `part` is a module or a method of one, and draws no random numbers.
    """
    if not torch.is_grad_enabled():
        return part(x, **arguments)
    module: Any = getattr(part, "__self__", part)
    out: Tensor = checkpoint(
        partial(part, **arguments),
        x,
        use_reentrant=False,
        preserve_rng_state=False,
        context_fn=lambda: (nullcontext(), frozen_averages(module)),
    )
    return out


@contextmanager
def frozen_averages(module: nn.Module) -> Iterator[None]:
    """Let batch norms see a batch for the second time without moving their running averages."""
    norms = [norm for norm in module.modules() if isinstance(norm, _BatchNorm)]
    statistics = [(norm, name, buffer) for norm in norms for name, buffer in norm.named_buffers(recurse=False)]
    for norm, name, buffer in statistics:
        setattr(norm, name, buffer.clone())
    try:
        yield
    finally:
        for norm, name, buffer in statistics:
            setattr(norm, name, buffer)
