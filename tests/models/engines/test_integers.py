"""Layers of 8-bit integers: what they compute, and that they are what engines get."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from zeroshot_cli.models.engines import integers
from zeroshot_cli.models.engines.integers import Int8Conv, Int8Linear, share_gains

pytest.importorskip("torch.ao.quantization.fx._decomposed")


@pytest.mark.parametrize("flags", [set[str](), {"avx512_vnni"}, {"avx_vnni"}])
def test_a_linear_layer_is_what_the_rounded_numbers_give(flags: set[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(integers, "cpu_flags", lambda: flags)
    monkeypatch.setattr(integers, "weight_steps", integers.weight_steps.__wrapped__)
    generator = torch.Generator().manual_seed(0)
    x, weight, bias = (torch.randn(*shape, generator=generator) for shape in ((5, 7, 96), (40, 96), (40,)))
    x *= torch.logspace(-3, 3, 35).view(5, 7, 1)
    x[0, 0] = 0
    steps = 127 if flags else 63
    row, column = x.abs().amax(-1, keepdim=True).clamp(min=1e-30) / 127, weight.abs().amax(-1, keepdim=True) / steps
    products = (x / row).round().double() @ (weight / column).round().double().T
    expected = (products * row * column.T + bias).float()
    found = Int8Linear(weight, bias)(x)
    # A number that lies half-way between two integers may go either way: one step of 127 in one of 96 products.
    torch.testing.assert_close(found - bias, expected - bias, atol=1e-9, rtol=5e-3)
    assert ((found - expected).abs() < 1e-5 * x.abs().amax(-1, keepdim=True) + 1e-5).float().mean() > 0.99


def test_a_convolution_has_a_scale_for_every_image() -> None:
    generator = torch.Generator().manual_seed(0)
    conv = nn.Conv2d(8, 12, 3, stride=2, padding=1)
    x = torch.randn(4, 8, 9, 9, generator=generator) * torch.tensor([1e-3, 1.0, 1e3, 0.0]).view(4, 1, 1, 1)
    with torch.no_grad():
        found, expected = Int8Conv(conv)(x), conv(x)
        size = F.conv2d(x, conv.weight, None, 2, 1).abs().amax(dim=(1, 2, 3), keepdim=True)
    assert ((found - expected).abs() <= 0.02 * size + 1e-6).all()
    assert not torch.equal(found[:3], expected[:3])


def test_sharing_gains_changes_nothing_but_their_place() -> None:
    norm, linear = nn.LayerNorm(64), nn.Linear(64, 32)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        norm.weight.copy_(1 + 0.2 * torch.randn(64, generator=generator))
        norm.bias.copy_(0.2 * torch.randn(64, generator=generator))
    norm.weight.requires_grad_(False)[5] = 100
    x = torch.randn(3, 64, generator=torch.Generator().manual_seed(2))
    with torch.inference_mode():
        before = linear(norm(x))
        share_gains(norm, linear.weight)
        torch.testing.assert_close(linear(norm(x)), before, rtol=1e-4, atol=1e-4)
        assert norm.weight[5] < 50
