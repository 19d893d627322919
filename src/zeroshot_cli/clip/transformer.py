"""The Transformer that both towers share.

b batch, s sequence, d width, h heads
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class QuickGELU(nn.Module):
    """x · sigmoid(1.702 x), the approximation of GELU that OpenAI's weights were trained with."""

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(1.702 * x)


class Attention(nn.Module):
    """Multi-head self-attention, with the parameter names of nn.MultiheadAttention.

    Keys and values come from every position; queries may come from some positions only.
    """

    def __init__(self, *, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.in_proj_weight = nn.Parameter(torch.empty(3 * width, width))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * width))
        self.out_proj = nn.Linear(width, width)

    def forward(self, x: Tensor, *, causal: bool, position: Tensor | None = None) -> Tensor:
        """X bsd -> bsd; with position b, b1d: only what stands there."""
        if position is None:
            q, k, v = F.linear(x, self.in_proj_weight, self.in_proj_bias).chunk(3, dim=-1)
            return self._attend(q, k, v, causal=causal)
        d = x.shape[-1]
        q = F.linear(_take(x, position), self.in_proj_weight[:d], self.in_proj_bias[:d])  # b1d
        k, v = F.linear(x, self.in_proj_weight[d:], self.in_proj_bias[d:]).chunk(2, dim=-1)  # bsd
        places = torch.arange(x.shape[1], device=x.device)
        visible = (places <= position[:, None])[:, None, None, :] if causal else None  # b11s, for every head
        return self._attend(q, k, v, visible=visible)

    def _attend(
        self, q: Tensor, k: Tensor, v: Tensor, *, causal: bool = False, visible: Tensor | None = None
    ) -> Tensor:
        q, k, v = (t.view(*t.shape[:2], self.heads, -1).transpose(1, 2) for t in (q, k, v))  # bsd -> bhs(d/h)
        x = F.scaled_dot_product_attention(q, k, v, attn_mask=visible, is_causal=causal)
        out: Tensor = self.out_proj(x.transpose(1, 2).flatten(2))  # bhs(d/h) -> bsd
        return out


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
        x = residual + self.attn(self.ln_1(x), causal=causal, position=position)
        out: Tensor = x + self.mlp(self.ln_2(x))
        return out


class Transformer(nn.Module):
    """A stack of residual blocks that is read at one position of each sequence.

    The last block computes that position only; the result is the same.
    """

    def __init__(
        self, *, width: int, heads: int, layers: int, mlp_ratio: float = 4.0, quick_gelu: bool = False
    ) -> None:
        super().__init__()
        hidden = int(width * mlp_ratio)
        self.resblocks = nn.ModuleList(
            ResidualAttentionBlock(
                width=width,
                heads=heads,
                hidden=hidden,
                activation=QuickGELU() if quick_gelu else nn.GELU(),
            )
            for _ in range(layers)
        )
        self._init_weights(width, layers)

    def forward(self, x: Tensor, position: Tensor, *, causal: bool) -> Tensor:
        """X bsd, position b -> bd."""
        *blocks, last = self.resblocks
        for block in blocks:
            x = block(x, causal=causal)
        out: Tensor = last(x, causal=causal, position=position)  # bsd -> b1d
        return out.squeeze(1)

    def _init_weights(self, width: int, layers: int) -> None:
        # Residual branches start smaller in deeper stacks, as in GPT-2 (openai/CLIP model.py initialize_parameters).
        residual_std = width**-0.5 * (2 * layers) ** -0.5
        for block in self.resblocks:
            assert isinstance(block, ResidualAttentionBlock)
            nn.init.normal_(block.attn.in_proj_weight, std=width**-0.5)
            nn.init.normal_(block.attn.out_proj.weight, std=residual_std)
            nn.init.normal_(block.mlp.c_fc.weight, std=(2 * width) ** -0.5)
            nn.init.normal_(block.mlp.c_proj.weight, std=residual_std)
            for layer in (block.attn.out_proj, block.mlp.c_fc, block.mlp.c_proj):
                nn.init.zeros_(layer.bias)


def _take(x: Tensor, position: Tensor) -> Tensor:
    index = position[:, None, None].expand(-1, 1, x.shape[-1])
    return x.gather(1, index)  # bsd -> b1d
