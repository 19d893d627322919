"""fp32, bf16 and int8: near each other, and no image's result depends on its neighbours."""

import math
import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from zeroshot_cli.clip.config import (
    CLIPConfig,
    EfficientNetConfig,
    ResNetConfig,
    TextTransformerConfig,
    VisionTransformerConfig,
)
from zeroshot_cli.clip.model import CLIP
from zeroshot_cli.errors import UsageError
from zeroshot_cli.models import int8
from zeroshot_cli.models import precision as precisions
from zeroshot_cli.models.formats.open_clip import default_preprocess
from zeroshot_cli.models.int8 import Int8Linear
from zeroshot_cli.models.loaded import LoadedModel, make_ready
from zeroshot_cli.models.tokenizers import tokenizer_of

CPU = torch.device("cpu")
TEXTS = ["a photo of a cat.", "", "naïve café 🚀", "very " * 60]
TEXT = TextTransformerConfig(width=64, heads=2, layers=2, vocab_size=1000, context_length=150)
VIT = CLIPConfig(
    embed_dim=64,
    vision=VisionTransformerConfig(image_size=64, patch_size=16, width=128, layers=4),
    text=TEXT,
    quick_gelu=True,
)
RESNET = CLIPConfig(embed_dim=64, vision=ResNetConfig(image_size=64, layers=(1, 1, 1, 1), width=16), text=TEXT)


EFFICIENTNET = CLIPConfig(
    embed_dim=64, vision=EfficientNetConfig(image_size=64, hidden=64, gate=1.0, width_multiplier=0.5), text=TEXT
)


def randomise(model: nn.Module) -> nn.Module:
    """Gains, biases and statistics random too, some channels three times the others, as in trained models."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for key, tensor in model.state_dict().items():
            if not tensor.is_floating_point() or key == "logit_scale":
                continue
            noise = torch.randn(tensor.shape, generator=generator)
            if tensor.ndim < 2:
                tensor.copy_(1 + 0.2 * noise if key.endswith(("weight", "running_var")) else 0.2 * noise)
                if "ln_" in key and key.endswith("weight"):
                    tensor[::50] *= 3
            else:
                fan_in = tensor.shape[-1] if "embedding" in key else tensor[0].numel()
                tensor.copy_(noise * fan_in**-0.5)
    return model


def load(config: CLIPConfig, precision: str, seeded: Callable[[nn.Module], nn.Module] = randomise) -> LoadedModel:
    torch.manual_seed(0)
    return make_ready(
        name="small",
        pretrained=None,
        model=seeded(CLIP(config)),
        config=config,
        preprocess=default_preprocess(config),
        tokenizer=tokenizer_of(config),
        device=CPU,
        precision=precision,
    )


def images(count: int, size: int = 64) -> torch.Tensor:
    return torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(1))


# Weights of 8 bits are right only where the processor has VNNI; weights of 7 bits are right everywhere.
PROCESSORS = [frozenset[str](), int8.cpu_flags()] if "avx512_vnni" in int8.cpu_flags() else [frozenset[str]()]


@pytest.fixture(params=PROCESSORS, ids=["without VNNI", "with VNNI"][: len(PROCESSORS)])
def either_processor(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(int8, "cpu_flags", lambda: request.param)
    int8._weight_steps.cache_clear()
    yield
    int8._weight_steps.cache_clear()


@pytest.mark.parametrize("config", [VIT, RESNET, EFFICIENTNET], ids=["ViT", "ResNet", "EfficientNet"])
@pytest.mark.parametrize("precision", ["bf16", "int8"])
def test_embeddings_stay_near_those_of_fp32(config: CLIPConfig, precision: str) -> None:
    exact, short = load(config, "fp32"), load(config, precision)
    for found, expected in (
        (short.encode_images(images(4)), exact.encode_images(images(4))),
        (short.encode_texts(TEXTS), exact.encode_texts(TEXTS)),
    ):
        assert found.dtype == torch.float32
        assert (found * expected).sum(dim=-1).min() > 0.999
    assert short.fingerprint == exact.fingerprint


@pytest.mark.usefixtures("either_processor")
def test_a_linear_layer_in_int8_is_what_the_rounded_numbers_give() -> None:
    generator = torch.Generator().manual_seed(0)
    x, weight, bias = (torch.randn(*shape, generator=generator) for shape in ((5, 7, 96), (40, 96), (40,)))
    x *= torch.logspace(-3, 3, 35).view(5, 7, 1)
    x[0, 0] = 0
    steps = int8._weight_steps()
    row, column = x.abs().amax(-1, keepdim=True).clamp(min=1e-30) / 127, weight.abs().amax(-1, keepdim=True) / steps
    integers = (x / row).round().double() @ (weight / column).round().double().T
    expected = (integers * row * column.T + bias).float()
    found = Int8Linear(weight, bias, keep=False)(x)
    # A number that lies half-way between two integers may go either way: one step of 127 in one of 96 products.
    torch.testing.assert_close(found - bias, expected - bias, atol=1e-9, rtol=5e-3)
    assert ((found - expected).abs() < 1e-5 * x.abs().amax(-1, keepdim=True) + 1e-5).float().mean() > 0.99


@pytest.mark.usefixtures("either_processor")
def test_the_largest_numbers_do_not_overflow() -> None:
    x, weight = torch.ones(4, 256), torch.ones(8, 256)
    found = Int8Linear(weight, None, keep=False)(torch.cat([x, -x]))
    torch.testing.assert_close(found, torch.cat([x, -x]) @ weight.T, rtol=1e-5, atol=0)


@pytest.mark.parametrize("config", [VIT, EFFICIENTNET], ids=["ViT", "EfficientNet"])
@pytest.mark.parametrize("precision", ["fp32", "bf16", "int8"])
def test_an_image_does_not_depend_on_its_neighbours(config: CLIPConfig, precision: str) -> None:
    model = load(config, precision)
    batch = images(8)
    others = batch * torch.tensor([1.0, *[50.0] * 7]).view(8, 1, 1, 1)
    assert torch.equal(model.encode_images(batch)[0], model.encode_images(others)[0])
    assert not torch.equal(model.encode_images(batch)[1], model.encode_images(others)[1])


def test_sharing_gains_changes_nothing_but_their_place() -> None:
    norm, linear = nn.LayerNorm(64), nn.Linear(64, 32)
    randomise(norm)
    norm.weight.requires_grad_(False)[5] = 100
    x = torch.randn(3, 64, generator=torch.Generator().manual_seed(2))
    with torch.inference_mode():
        before = linear(norm(x))
        int8._share_gains(norm, linear.weight)
        torch.testing.assert_close(linear(norm(x)), before, rtol=1e-4, atol=1e-4)
        assert norm.weight[5] < 50


def test_int8_weights_take_a_quarter_of_the_memory() -> None:
    model = load(VIT, "int8").model
    kept = {key for key, tensor in model.state_dict().items() if tensor.ndim == 2 and "resblocks" in key}
    assert not [key for key in kept if key.startswith("visual.")]
    assert bool(kept) == ("avx512_vnni" not in int8.cpu_flags())  # without VNNI the text tower keeps its own


def test_quantising_says_nothing_about_torch(recwarn: pytest.WarningsRecorder) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        engine = torch.backends.quantized.engine
        layer = Int8Linear(torch.ones(8, 8), None, keep=True)
        assert torch.equal(layer.weight, torch.ones(8, 8))
        assert torch.backends.quantized.engine == engine
    assert not recwarn.list


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


@pytest.mark.parametrize("precision", ["bf16", "fp16", "int8"])
def test_temperature_and_bias_are_the_same_in_every_precision(precision: str) -> None:
    model = CLIP(replace(VIT, init_logit_scale=math.log(32.35), init_logit_bias=-10.37))
    short = precisions.convert(model, device=CPU, precision=precision)
    for found, expected in ((short.logit_scale, math.log(32.35)), (short.logit_bias, -10.37)):
        assert isinstance(found, nn.Parameter)
        assert found.dtype == torch.float32
        assert torch.equal(found.detach(), torch.tensor(expected))


def test_int8_needs_its_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(int8, "_engines", lambda: ["none", "qnnpack"])
    with pytest.raises(UsageError, match="x86"):  # before anything is loaded
        precisions.resolve_precision("int8", CPU)
    with pytest.raises(UsageError, match="x86"):
        load(VIT, "int8")


@pytest.mark.slow
def test_int8_on_a_model_of_the_real_size() -> None:
    config = CLIPConfig(
        embed_dim=512,
        vision=VisionTransformerConfig(image_size=224, patch_size=32, width=768, layers=12),
        text=TextTransformerConfig(width=512, heads=8, layers=12, vocab_size=2000),
    )
    batch = images(2, 224)
    for seeded in (_fresh, randomise):  # as it is made; and with every branch at full strength and outliers besides
        exact, short = load(config, "fp32", seeded), load(config, "int8", seeded)
        assert F.cosine_similarity(exact.encode_images(batch), short.encode_images(batch)).min() > 0.999
        assert F.cosine_similarity(exact.encode_texts(TEXTS), short.encode_texts(TEXTS)).min() > 0.999


def _fresh(model: nn.Module) -> nn.Module:
    return model


@pytest.mark.parametrize("config", [VIT, RESNET], ids=["vit", "resnet"])
def test_an_image_tower_in_half_precision_is_converted_when_it_is_first_used(config: CLIPConfig) -> None:
    model = load(config, "bf16")
    assert {p.dtype for p in model.model.text.parameters()} == {torch.bfloat16}
    assert {p.dtype for p in model.model.visual.parameters()} == {torch.float32}
    pixels = torch.randint(0, 256, (4, 64, 64, 3), dtype=torch.uint8)
    first, second = model.encode_pixels(pixels), model.encode_pixels(pixels)
    assert {p.dtype for p in model.model.visual.parameters()} == {torch.bfloat16}
    assert torch.equal(first, second)
    eager = load(config, "fp32")
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
    model, before = load(config, precision), torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        pixels = torch.randint(0, 256, (8, 64, 64, 3), dtype=torch.uint8)
        first = model.encode_pixels(pixels)
        for rows in range(1, 8):
            assert torch.equal(model.encode_pixels(pixels.roll(rows, 0)).roll(-rows, 0), first)
    finally:
        torch.set_num_threads(before)
