"""The Transformer that both towers share.

b batch, s sequence, r positions read, d width, h heads
"""

from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zeroshot_cli.clip.kernels import attention, gelu, quick_gelu, recomputed


class Attention(nn.Module):
    """Multi-head self-attention, with the parameter names of nn.MultiheadAttention."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.in_proj_weight = nn.Parameter(nn.init.xavier_uniform_(torch.empty(3 * width, width)))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * width))
        self.out_proj = nn.Linear(width, width)
        nn.init.zeros_(self.out_proj.bias)

    def forward(
        self, x: Tensor, *, causal: bool = False, visible: Tensor | None = None, read: Tensor | None = None
    ) -> Tensor:
        """Attend: bsd -> bsd, or with `read` br -> brd, at these positions only.

        Position i sees all positions; with `causal` those up to i; with `visible` ss those where visible[i] is true.
        """
        projected = self.project(x, read)
        q, k, v = (t.view(*t.shape[:2], self.heads, -1).transpose(1, 2) for t in projected)  # bsd -> bhs(d/h)
        if read is not None and causal:
            causal, visible = False, (torch.arange(x.shape[1], device=x.device) <= read[..., None])[:, None]  # b1rs
        elif read is not None and visible is not None:
            visible = visible[read][:, None]  # ss -> brs -> b1rs, for every head
        x = attention(q, k, v, causal=causal, visible=visible)
        out: Tensor = self.out_proj(x.transpose(1, 2).flatten(2))  # bhs(d/h) -> bsd
        return out

    def project(self, x: Tensor, read: Tensor | None) -> tuple[Tensor, ...]:
        """Return queries, keys and values, bsd each; with `read` br the queries of these positions, brd."""
        if read is None:
            return F.linear(x, self.in_proj_weight, self.in_proj_bias).chunk(3, dim=-1)
        d = x.shape[-1]
        q = F.linear(take(x, read), self.in_proj_weight[:d], self.in_proj_bias[:d])
        return q, *F.linear(x, self.in_proj_weight[d:], self.in_proj_bias[d:]).chunk(2, dim=-1)


class MLP(nn.Module):
    """Two linear layers around the activation, to `out` channels; without it to as many as there were."""

    def __init__(self, width: int, hidden: int, *, quick: bool, out: int | None = None) -> None:
        super().__init__()
        self.c_fc = nn.Linear(width, hidden)
        self.act = quick_gelu if quick else gelu
        self.c_proj = nn.Linear(hidden, out or width)

    def forward(self, x: Tensor) -> Tensor:
        """Compute the last dimension, d -> d or `out`."""
        out: Tensor = self.c_proj(self.act(self.c_fc(x)))
        return out


class ResidualAttentionBlock(nn.Module):
    """A pre-norm residual block: attention, then the MLP."""

    def __init__(self, width: int, heads: int, hidden: int, *, quick: bool) -> None:
        super().__init__()
        self.ln_1 = nn.LayerNorm(width)
        self.attn = Attention(width, heads)
        self.ln_2 = nn.LayerNorm(width)
        self.mlp = MLP(width, hidden, quick=quick)

    def forward(
        self, x: Tensor, *, causal: bool = False, visible: Tensor | None = None, read: Tensor | None = None
    ) -> Tensor:
        """Compute bsd -> bsd, or with `read` br -> brd; arguments as in `Attention`."""
        attended = self.attn(self.ln_1(x), causal=causal, visible=visible, read=read)
        x = (x if read is None else take(x, read)) + attended
        out: Tensor = x + self.mlp(self.ln_2(x))
        return out


class Transformer(nn.Module):
    """A stack of residual blocks that is read at some positions; the last block computes no others.

    With `checkpointing` a block keeps only its input for the gradient and is computed twice.
    """

    def __init__(
        self, width: int, heads: int, layers: int, *, mlp_ratio: float = 4.0, quick_gelu: bool = False
    ) -> None:
        super().__init__()
        self.checkpointing = False
        hidden = int(width * mlp_ratio)
        self.resblocks = nn.ModuleList(
            ResidualAttentionBlock(width, heads, hidden, quick=quick_gelu) for _ in range(layers)
        )

    def forward(self, x: Tensor, read: Tensor, *, causal: bool = False, visible: Tensor | None = None) -> Tensor:
        """Compute bsd, positions br -> brd; arguments as in `Attention`."""
        *blocks, last = (partial(recomputed, block) if self.checkpointing else block for block in self.resblocks)
        for block in blocks:
            x = block(x, causal=causal, visible=visible)
        out: Tensor = last(x, causal=causal, visible=visible, read=read)
        return out

    def start_as_gpt2(self) -> None:
        """Draw weights as CLIP's text tower does: residual branches are smaller in deeper stacks.

        CLIP's image tower keeps torch's own initial weights. Source: openai/CLIP model.py, initialize_parameters.
        """
        for block in self.resblocks:
            assert isinstance(block, ResidualAttentionBlock)
            width = block.attn.out_proj.in_features
            residual_std = width**-0.5 * (2 * len(self.resblocks)) ** -0.5
            nn.init.normal_(block.attn.in_proj_weight, std=width**-0.5)
            nn.init.normal_(block.attn.out_proj.weight, std=residual_std)
            nn.init.normal_(block.mlp.c_fc.weight, std=(2 * width) ** -0.5)
            nn.init.normal_(block.mlp.c_proj.weight, std=residual_std)


def take(x: Tensor, read: Tensor) -> Tensor:
    """Return what stands at some positions: bsd, br -> brd."""
    return x.gather(1, read[..., None].expand(-1, -1, x.shape[-1]))
