"""fp32 and bf16: near each other, and no image's result depends on its neighbours."""

import math
from dataclasses import replace

import pytest
import torch
from ready_models import CPU, EFFICIENTNET, RESNET, VIT, images, ready
from torch import nn
from torch.nn import functional as F

from zeroshot_cli.clip.config import (
    CLIPConfig,
)
from zeroshot_cli.clip.model import CLIP
from zeroshot_cli.errors import UsageError
from zeroshot_cli.models import precision as precisions

TEXTS = ["a photo of a cat.", "", "naïve café 🚀", "very " * 60]


@pytest.mark.parametrize("config", [VIT, RESNET, EFFICIENTNET], ids=["ViT", "ResNet", "EfficientNet"])
@pytest.mark.parametrize("precision", ["bf16"])
def test_embeddings_stay_near_those_of_fp32(config: CLIPConfig, precision: str) -> None:
    exact, short = ready(config, "fp32"), ready(config, precision)
    for found, expected in (
        (short.encode_images(images(4)), exact.encode_images(images(4))),
        (short.encode_texts(TEXTS), exact.encode_texts(TEXTS)),
    ):
        assert found.dtype == torch.float32
        assert (found * expected).sum(dim=-1).min() > 0.999
    assert short.fingerprint == exact.fingerprint


@pytest.mark.parametrize("config", [VIT, EFFICIENTNET], ids=["ViT", "EfficientNet"])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_an_image_does_not_depend_on_its_neighbours(config: CLIPConfig, precision: str) -> None:
    model = ready(config, precision)
    batch = images(8)
    others = batch * torch.tensor([1.0, *[50.0] * 7]).view(8, 1, 1, 1)
    assert torch.equal(model.encode_images(batch)[0], model.encode_images(others)[0])
    assert not torch.equal(model.encode_images(batch)[1], model.encode_images(others)[1])


@pytest.mark.parametrize(
    ("precision", "flags", "expected"),
    [
        ("auto", {"avx2"}, "fp32"),
        ("auto", {"avx512_bf16"}, "bf16"),
        ("auto", {"amx_bf16"}, "bf16"),
        ("int8", {"avx2"}, "int8"),
        ("bf16", {"avx2"}, "bf16"),
    ],
)
def test_auto_is_bf16_where_the_processor_has_it(
    precision: str, flags: set[str], expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(precisions, "cpu_flags", lambda: flags)
    assert precisions.resolve_precision(precision, CPU) == expected


@pytest.mark.parametrize(
    ("precision", "where", "message"),
    [("fp16", "cpu", "needs a GPU"), ("int8", "cuda", "for the CPU"), ("fp8", "cpu", "unknown: use auto, fp32")],
)
def test_a_precision_that_the_device_lacks(precision: str, where: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        precisions.resolve_precision(precision, torch.device(where))


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_temperature_and_bias_are_the_same_in_every_precision(precision: str) -> None:
    model = CLIP(replace(VIT, init_logit_scale=math.log(32.35), init_logit_bias=-10.37))
    short = precisions.convert(model, device=CPU, precision=precision)
    for found, expected in ((short.logit_scale, math.log(32.35)), (short.logit_bias, -10.37)):
        assert isinstance(found, nn.Parameter)
        assert found.dtype == torch.float32
        assert torch.equal(found.detach(), torch.tensor(expected))


@pytest.mark.parametrize("config", [VIT, RESNET], ids=["vit", "resnet"])
def test_an_image_tower_in_half_precision_is_converted_when_it_is_first_used(config: CLIPConfig) -> None:
    model = ready(config, "bf16")
    assert {p.dtype for p in model.model.text.parameters()} == {torch.bfloat16}
    assert {p.dtype for p in model.model.visual.parameters()} == {torch.float32}
    pixels = torch.randint(0, 256, (4, 64, 64, 3), dtype=torch.uint8)
    first, second = model.encode_pixels(pixels), model.encode_pixels(pixels)
    assert {p.dtype for p in model.model.visual.parameters()} == {torch.bfloat16}
    assert torch.equal(first, second)
    eager = ready(config, "fp32")
    eager.model.to(torch.bfloat16)
    expected = F.normalize(eager.model.encode_image(eager.preprocess.normalise(pixels).bfloat16()).float(), dim=-1)
    assert torch.equal(first, expected)
    model.model.float().visual.requires_grad_(True)(torch.randn(1, 3, 64, 64)).sum().backward()  # no inference tensors


@pytest.mark.parametrize(
    ("config", "precision"),
    [(VIT, "fp32"), (EFFICIENTNET, "fp32"), (EFFICIENTNET, "bf16")],
    ids=["ViT", "EfficientNet", "EfficientNet in bf16"],
)
@pytest.mark.parametrize("threads", [1, 2, 3, 5, 7])
def test_an_images_place_in_the_batch_changes_no_bit(config: CLIPConfig, precision: str, threads: int) -> None:
    """In float32, where MKL rounds by place and alignment: a batch of 8, turned round by each number of rows."""
    model, before = ready(config, precision), torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        pixels = torch.randint(0, 256, (8, 64, 64, 3), dtype=torch.uint8)
        first = model.encode_pixels(pixels)
        for rows in range(1, 8):
            assert torch.equal(model.encode_pixels(pixels.roll(rows, 0)).roll(-rows, 0), first)
    finally:
        torch.set_num_threads(before)
