"""Attention in bfloat16 on the CPU: in float32 where it learns, as it comes where it does not."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from zeroshot_cli.clip.transformer import Attention

WIDTH, HEADS, LENGTH = 32, 4, 9


def _attention() -> Attention:
    """In bfloat16, and without the last projection's part in it."""
    torch.manual_seed(0)
    attention = Attention(WIDTH, HEADS)
    torch.nn.init.normal_(attention.in_proj_weight, std=0.4)
    torch.nn.init.eye_(attention.out_proj.weight)
    torch.nn.init.zeros_(attention.out_proj.bias)
    return attention.bfloat16()


def _in_float64(attention: Attention, x: Tensor, *, causal: bool) -> Tensor:
    """Written out: softmax(q k / sqrt(d)) v of the same queries, keys and values."""
    rounded = F.linear(x, attention.in_proj_weight, attention.in_proj_bias)
    q, k, v = (t.view(3, LENGTH, HEADS, -1).transpose(1, 2).double() for t in rounded.chunk(3, dim=-1))
    scores = q @ k.transpose(-1, -2) / (WIDTH / HEADS) ** 0.5
    if causal:
        scores = scores.masked_fill(torch.ones(LENGTH, LENGTH).triu(1).bool(), float("-inf"))
    return (scores.softmax(dim=-1) @ v).transpose(1, 2).flatten(2)


@pytest.mark.parametrize("causal", [False, True])
def test_what_learns_is_right_to_the_last_bit_but_one(causal: bool) -> None:
    attention, x = _attention(), torch.randn(3, LENGTH, WIDTH).bfloat16()
    found, expected = attention(x, causal=causal), _in_float64(attention, x, causal=causal)
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found.double(), expected, atol=1e-5, rtol=2**-8)

    weight = torch.randn(3, LENGTH, WIDTH).bfloat16()
    (gradient,) = torch.autograd.grad(found, attention.in_proj_bias, weight)
    (truth,) = torch.autograd.grad(expected, attention.in_proj_bias, weight.double())
    torch.testing.assert_close(gradient, truth, atol=0.02 * float(truth.abs().max()), rtol=0)


@pytest.mark.parametrize("read", [None, torch.tensor([[0], [4], [8]])])
def test_autocast_is_no_different(read: Tensor | None) -> None:
    """Autocast would round the queries, keys and values of attention again."""
    attention, x = _attention(), torch.randn(3, LENGTH, WIDTH).bfloat16()
    expected = attention(x, causal=True, read=read)
    with torch.autocast("cpu", torch.bfloat16):
        found = attention.float()(x.float(), causal=True, read=read)
    assert torch.equal(found, expected)


def test_without_gradients_bfloat16_stays_as_it_is() -> None:
    attention, x = _attention(), torch.randn(3, LENGTH, WIDTH).bfloat16()
    rounded = F.linear(x, attention.in_proj_weight, attention.in_proj_bias)
    q, k, v = (t.view(3, LENGTH, HEADS, -1).transpose(1, 2) for t in rounded.chunk(3, dim=-1))
    expected = attention.out_proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))
    with torch.no_grad():
        assert torch.equal(attention(x, causal=False), expected)
