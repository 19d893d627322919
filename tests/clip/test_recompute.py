"""Gradient checkpointing: the same gradient, the same batch-norm statistics, less memory."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from zeroshot_cli.clip.config import (
    CBOWConfig,
    CLIPConfig,
    EfficientNetConfig,
    ResNetConfig,
    TextTransformerConfig,
    VisionTransformerConfig,
)
from zeroshot_cli.clip.loss import clip_loss
from zeroshot_cli.clip.model import CLIP

TEXT = TextTransformerConfig(width=32, heads=2, layers=3, context_length=12, vocab_size=600)
VIT = CLIPConfig(
    embed_dim=16,
    vision=VisionTransformerConfig(image_size=32, patch_size=8, width=32, layers=3, head_width=16),
    text=TEXT,
)
RESNET = replace(VIT, vision=ResNetConfig(image_size=32, layers=(1, 2, 1, 1), width=8, head_width=32))
EFFICIENTNET = replace(VIT, vision=EfficientNetConfig(image_size=32, hidden=8, gate=1.0, width_multiplier=0.25))
CONFIGS = {
    "ViT": VIT,
    "ViT with QuickGELU": replace(VIT, quick_gelu=True),
    "ResNet": RESNET,
    "EfficientNet": EFFICIENTNET,
    "CBOW": replace(VIT, text=CBOWConfig(width=32, context_length=12, vocab_size=600)),
}


def _inputs() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    tokens = torch.randint(0, 590, (4, 12), generator=generator)
    tokens[torch.arange(4), torch.tensor([3, 11, 5, 7])] = 599
    return torch.randn(4, 3, 32, 32, generator=generator), tokens


def _built(config: CLIPConfig) -> CLIP:
    torch.manual_seed(0)
    model = CLIP(config).train()
    for name, parameter in model.named_parameters():
        if name.endswith(("bn3.weight", "gated_head.c_proj.weight")):  # zero in a fresh model: nothing would flow
            torch.nn.init.ones_(parameter)
    return model


def _trained(config: CLIPConfig, *, checkpointing: bool, bf16: bool = False) -> dict[str, Tensor]:
    """Loss, gradients and buffers after the backward pass of one batch."""
    model = _built(config)
    if checkpointing:
        model.checkpoint_gradients()
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        loss = clip_loss(*model(*_inputs()))
    loss.backward()
    gradients = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    return {**gradients, **dict(model.named_buffers()), "loss": loss.detach()}


@pytest.mark.parametrize("bf16", [False, True])
@pytest.mark.parametrize("name", CONFIGS)
def test_gradients_and_statistics_are_the_same(name: str, bf16: bool) -> None:
    """Running averages have moved once: they equal those of a model that computes each block once."""
    plain = _trained(CONFIGS[name], checkpointing=False, bf16=bf16)
    found = _trained(CONFIGS[name], checkpointing=True, bf16=bf16)
    assert found.keys() == plain.keys()
    for key, tensor in plain.items():
        torch.testing.assert_close(found[key], tensor, atol=1e-6, rtol=1e-6, msg=lambda text, key=key: f"{key}: {text}")


def test_batch_norm_has_counted_once_and_counts_on() -> None:
    model = _built(RESNET)
    model.checkpoint_gradients()
    for _ in range(2):
        clip_loss(*model(*_inputs())).backward()
    assert {int(count) for name, count in model.named_buffers() if name.endswith("num_batches_tracked")} == {2}


class _Kept:
    """Counts what autograd keeps for the gradient, but for parameters, in elements."""

    def __init__(self, model: CLIP) -> None:
        self.parameters = {parameter.data_ptr() for parameter in model.parameters()}
        self.elements: dict[int, int] = {}

    def __call__(self, tensor: Tensor) -> Tensor:
        if tensor.data_ptr() not in self.parameters:
            self.elements[tensor.data_ptr()] = tensor.numel()
        return tensor


def _elements_kept(model: CLIP, images: Tensor) -> int:
    kept = _Kept(model)
    with torch.autograd.graph.saved_tensors_hooks(kept, lambda tensor: tensor):
        out = model.encode_image(images)
    assert out.requires_grad
    return sum(kept.elements.values())


@pytest.mark.parametrize("config", [VIT, RESNET, EFFICIENTNET], ids=["ViT", "ResNet", "EfficientNet"])
def test_less_is_kept(config: CLIPConfig) -> None:
    model, images = _built(config), _inputs()[0]
    plain = _elements_kept(model, images)
    model.checkpoint_gradients()
    assert _elements_kept(model, images) < plain / 3


def test_without_gradients_nothing_is_computed_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*args: Any, **kwargs: Any) -> None:
        raise AssertionError

    model = _built(VIT).eval()
    with torch.no_grad():
        expected = model.encode_image(_inputs()[0])
    model.checkpoint_gradients()
    monkeypatch.setattr("zeroshot_cli.clip.kernels.checkpoint", refused)
    with torch.no_grad():
        assert torch.equal(model.encode_image(_inputs()[0]), expected)
    with torch.inference_mode():
        assert torch.equal(model.encode_image(_inputs()[0]), expected)


def test_a_locked_tower_may_be_checkpointed() -> None:
    model = _built(RESNET)
    model.visual.requires_grad_(False).eval()
    model.checkpoint_gradients()
    before = {name: buffer.clone() for name, buffer in model.named_buffers()}
    clip_loss(*model(*_inputs())).backward()
    assert model.text.text_projection.grad is not None
    assert all(torch.equal(buffer, before[name]) for name, buffer in model.named_buffers())
