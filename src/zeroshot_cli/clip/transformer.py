"""The Transformer that both towers share.

b batch, s sequence, d width, h heads, n tokens of a tree, m of them read
"""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zeroshot_cli.clip.recompute import recomputed

_SHARE = 32_768  # elements: a thread gets no fewer of an elementwise operation (ATen's GRAIN_SIZE)
_STEP = 64  # elements that its vectors take at once, at most


class GELU(nn.Module):
    """x · Φ(x). Without gradients the input is overwritten: nothing else holds it, and ViT-B-32 is 5 % faster so."""

    def forward(self, x: Tensor) -> Tensor:
        return F.gelu(x) if torch.is_grad_enabled() else _overwritten(x, torch.ops.aten.gelu_)


class QuickGELU(nn.Module):
    """x · sigmoid(1.702 x), the approximation of GELU that OpenAI's weights were trained with; in place as GELU."""

    def forward(self, x: Tensor) -> Tensor:
        if torch.is_grad_enabled():
            return x * torch.sigmoid(1.702 * x)
        return _overwritten(x, lambda part: part.mul_((1.702 * part).sigmoid_()))


def _overwritten(x: Tensor, activation: Callable[[Tensor], object]) -> Tensor:
    """X after the activation, in place.

    Threads get equal shares of x, and what a share has beyond whole vectors is computed by another formula, whose last
    bit may differ: so on the CPU the shares are made whole, and an image's embedding does not depend on its place.
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
    """The most of `elements` that threads share in whole vectors."""
    shares = 0
    while shares != (shares := max(1, min(threads, -(-elements // _SHARE)))):
        elements -= elements % (_STEP * shares)
    return elements


class Attention(nn.Module):
    """Multi-head self-attention, with the parameter names of nn.MultiheadAttention.

    Keys and values come from every position; queries may come from some positions only.
    """

    def __init__(self, *, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.in_proj_weight = nn.Parameter(nn.init.xavier_uniform_(torch.empty(3 * width, width)))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * width))
        self.out_proj = nn.Linear(width, width)
        nn.init.zeros_(self.out_proj.bias)

    def forward(self, x: Tensor, *, causal: bool, position: Tensor | None = None) -> Tensor:
        """X bsd -> bsd; with position b, b1d: only what stands there."""
        if position is None:
            return self._attend(*self._queries_keys_values(x), causal=causal)
        q, k, v = self._queries(_take(x, position)), *self._keys_values(x)  # b1d, bsd, bsd
        places = torch.arange(x.shape[1], device=x.device)
        visible = (places <= position[:, None])[:, None, None, :] if causal else None  # b11s, for every head
        return self._attend(q, k, v, visible=visible)

    def in_tree(self, x: Tensor, visible: Tensor, ends: Tensor | None = None) -> Tensor:
        """X 1nd, each of which sees what visible nn says -> 1nd; with ends m, 1md: only what stands there."""
        if ends is None:
            return self._attend(*self._queries_keys_values(x), visible=visible)
        return self._attend(self._queries(x[:, ends]), *self._keys_values(x), visible=visible[ends])

    def _queries_keys_values(self, x: Tensor) -> tuple[Tensor, ...]:
        return F.linear(x, self.in_proj_weight, self.in_proj_bias).chunk(3, dim=-1)

    def _queries(self, x: Tensor) -> Tensor:
        d = x.shape[-1]
        return F.linear(x, self.in_proj_weight[:d], self.in_proj_bias[:d])

    def _keys_values(self, x: Tensor) -> tuple[Tensor, ...]:
        d = x.shape[-1]
        return F.linear(x, self.in_proj_weight[d:], self.in_proj_bias[d:]).chunk(2, dim=-1)

    def _attend(
        self, q: Tensor, k: Tensor, v: Tensor, *, causal: bool = False, visible: Tensor | None = None
    ) -> Tensor:
        q, k, v = (t.view(*t.shape[:2], self.heads, -1).transpose(1, 2) for t in (q, k, v))  # bsd -> bhs(d/h)
        learns_in_bf16 = q.requires_grad and q.dtype == torch.bfloat16 and q.device.type == "cpu"
        x = (_in_float32 if learns_in_bf16 else _attended)(q, k, v, causal=causal, visible=visible)
        out: Tensor = self.out_proj(x.transpose(1, 2).flatten(2))  # bhs(d/h) -> bsd
        return out


def _attended(q: Tensor, k: Tensor, v: Tensor, *, causal: bool, visible: Tensor | None) -> Tensor:
    if q.shape[2] == 1 and q.dtype == torch.float32 and q.device.type == "cpu":
        return _attend_once(q, k, v, visible)
    return F.scaled_dot_product_attention(q, k, v, attn_mask=visible, is_causal=causal)


def _in_float32(q: Tensor, k: Tensor, v: Tensor, *, causal: bool, visible: Tensor | None) -> Tensor:
    """Attention of bfloat16 in float32: on the CPU its gradient takes a third of the time, and is nearer the truth."""
    with torch.autocast("cpu", enabled=False):
        return _attended(q.float(), k.float(), v.float(), causal=causal, visible=visible).to(q.dtype)


def _attend_once(q: Tensor, k: Tensor, v: Tensor, visible: Tensor | None) -> Tensor:
    """One query bh1d over keys and values bhsd -> bh1d; visible as for it, true where it may look.

    Sums, not matrix products: MKL rounds the product with a single row by where in memory it lies, and an image's
    embedding would depend on its place in the batch.
    """
    scores: Tensor = (q * k).sum(dim=-1) * q.shape[-1] ** -0.5  # bhs
    if visible is not None:
        scores = scores.masked_fill(~visible[..., 0, :], float("-inf"))
    weights = scores.softmax(dim=-1)[..., None]  # bhs1
    return (weights * v).sum(dim=2, keepdim=True)


class MLP(nn.Module):
    """Two linear layers around the activation."""

    def __init__(self, *, width: int, hidden: int, activation: nn.Module) -> None:
        super().__init__()
        self.c_fc = nn.Linear(width, hidden)
        self.act = activation
        self.c_proj = nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.c_proj(self.act(self.c_fc(x)))
        return out


class ResidualAttentionBlock(nn.Module):
    """Pre-norm residual block: attention, then the MLP."""

    def __init__(self, *, width: int, heads: int, hidden: int, activation: nn.Module) -> None:
        super().__init__()
        self.ln_1 = nn.LayerNorm(width)
        self.attn = Attention(width=width, heads=heads)
        self.ln_2 = nn.LayerNorm(width)
        self.mlp = MLP(width=width, hidden=hidden, activation=activation)

    def forward(self, x: Tensor, *, causal: bool, position: Tensor | None = None) -> Tensor:
        """X bsd -> bsd; with position b, b1d: only what stands there."""
        residual = x if position is None else _take(x, position)
        return self._add(residual, self.attn(self.ln_1(x), causal=causal, position=position))

    def in_tree(self, x: Tensor, visible: Tensor, ends: Tensor | None = None) -> Tensor:
        """X 1nd, each of which sees what visible nn says -> 1nd; with ends m, 1md: only what stands there."""
        return self._add(x if ends is None else x[:, ends], self.attn.in_tree(self.ln_1(x), visible, ends))

    def _add(self, residual: Tensor, attended: Tensor) -> Tensor:
        x = residual + attended
        out: Tensor = x + self.mlp(self.ln_2(x))
        return out


class Transformer(nn.Module):
    """A stack of residual blocks that is read at one position of each sequence.

    The last block computes that position only; the result is the same. With `checkpointing` a block keeps its input
    only for the gradient, and is computed twice.
    """

    def __init__(
        self, *, width: int, heads: int, layers: int, mlp_ratio: float = 4.0, quick_gelu: bool = False
    ) -> None:
        super().__init__()
        self.checkpointing = False
        hidden = int(width * mlp_ratio)
        self.resblocks = nn.ModuleList(
            ResidualAttentionBlock(
                width=width,
                heads=heads,
                hidden=hidden,
                activation=QuickGELU() if quick_gelu else GELU(),
            )
            for _ in range(layers)
        )

    def forward(self, x: Tensor, position: Tensor, *, causal: bool) -> Tensor:
        """X bsd, position b -> bd."""
        *blocks, last = self.resblocks
        for block in blocks:
            x = self._through(block, x, causal=causal)
        return self._through(last, x, causal=causal, position=position).squeeze(1)  # bsd -> b1d -> bd

    def _through(self, block: nn.Module, x: Tensor, *, causal: bool, position: Tensor | None = None) -> Tensor:
        call = partial(block, causal=causal, position=position)
        return recomputed(call, x) if self.checkpointing else call(x)

    def in_tree(self, x: Tensor, visible: Tensor, ends: Tensor) -> Tensor:
        """X nd, each of which sees what visible nn says -> md: what stands at ends m."""
        x = x[None]
        *blocks, last = [block for block in self.resblocks if isinstance(block, ResidualAttentionBlock)]
        for block in blocks:
            x = block.in_tree(x, visible)
        return last.in_tree(x, visible, ends).squeeze(0)

    def start_as_gpt2(self) -> None:
        """Draw weights as CLIP's text tower has them at first: residual branches are smaller in deeper stacks.

        CLIP's image tower keeps what torch gives it. Source: openai/CLIP model.py, initialize_parameters.
        """
        for block in self.resblocks:
            assert isinstance(block, ResidualAttentionBlock)
            width = block.attn.out_proj.in_features
            residual_std = width**-0.5 * (2 * len(self.resblocks)) ** -0.5
            nn.init.normal_(block.attn.in_proj_weight, std=width**-0.5)
            nn.init.normal_(block.attn.out_proj.weight, std=residual_std)
            nn.init.normal_(block.mlp.c_fc.weight, std=(2 * width) ** -0.5)
            nn.init.normal_(block.mlp.c_proj.weight, std=residual_std)


def _take(x: Tensor, position: Tensor) -> Tensor:
    index = position[:, None, None].expand(-1, 1, x.shape[-1])
    return x.gather(1, index)  # bsd -> b1d
