"""EfficientNet-Lite against the package efficientnet-lite-pytorch; its gated head against a calculation by hand."""

import math
from dataclasses import replace
from types import ModuleType
from typing import Any

import pytest
import torch
from scripts import script_module

from zeroshot_cli.clip.config import CBOWConfig, CLIPConfig, EfficientNetConfig, config_from_dict, config_to_dict
from zeroshot_cli.clip.efficientnet import ConvNorm, EfficientNet, GatedHead
from zeroshot_cli.clip.loss import clip_loss
from zeroshot_cli.clip.model import CLIP

LITE = {0: (1.0, 1.0, 224), 1: (1.0, 1.1, 240), 2: (1.1, 1.2, 260)}
SMALL = CLIPConfig(
    embed_dim=8,
    vision=EfficientNetConfig(
        image_size=32, hidden=16, gate=0.5, width_multiplier=0.25, depth_multiplier=0.5, classes=10
    ),
    text=CBOWConfig(width=8, context_length=12, vocab_size=600),
)


@pytest.fixture(scope="module")
def tower() -> ModuleType:
    return script_module("recipes/small/tower.py")


def reference(lite: int, image_size: int) -> Any:
    from efficientnet_lite_pytorch import EfficientNet as Theirs

    return Theirs.from_name(f"efficientnet-lite{lite}", image_size=image_size)


def randomised(model: Any) -> Any:
    """Gains, offsets and statistics random too, near those that keep activations within ReLU6's six."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            if tensor.ndim == 1:
                noise = torch.rand(tensor.shape, generator=generator)
                tensor.copy_(0.5 + noise if name.endswith(("weight", "running_var")) else noise - 0.5)
            elif tensor.ndim > 1:
                noise = torch.randn(tensor.shape, generator=generator)
                tensor.copy_(noise * tensor[0].numel() ** -0.5)
    return model


def ours(lite: int, size: int, state: dict[str, torch.Tensor]) -> EfficientNet:
    width, depth, _ = LITE[lite]
    config = EfficientNetConfig(image_size=size, hidden=4, gate=1.0, width_multiplier=width, depth_multiplier=depth)
    model = EfficientNet(config, embed_dim=4)
    missing, unknown = model.load_state_dict(state, strict=False)
    assert {name.partition(".")[0] for name in missing} == {"gated_head"}
    assert not unknown
    return model.eval()


@pytest.mark.parametrize("size", [224, 193])
def test_lite0_with_its_weights_equals_the_reference(tower: ModuleType, size: int) -> None:
    file = tower.weights_file()
    theirs, model = reference(0, size).eval(), ours(0, size, tower.tower_weights(file))
    theirs.load_state_dict(torch.load(file, weights_only=True))
    images = torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        expected = theirs(images)
        assert expected.abs().max() > 1
        torch.testing.assert_close(model.classifier(model.features(images)), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("lite", LITE)
@pytest.mark.parametrize("size", [None, 97], ids=["its own size", "97"])
def test_random_weights_equal_the_reference(tower: ModuleType, lite: int, size: int | None) -> None:
    size = size or LITE[lite][2]
    theirs = randomised(reference(lite, size)).eval()
    model = ours(lite, size, tower.renamed(theirs.state_dict()))
    images = torch.randn(1, 3, size, size, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        expected = theirs(images)
        torch.testing.assert_close(model.classifier(model.features(images)), expected, atol=1e-5, rtol=1e-5)


def test_training_equals_the_reference(tower: ModuleType) -> None:
    """With batch statistics, which then move the running ones; the reference drops blocks unless told not to."""
    theirs = randomised(reference(0, 64)).train()
    theirs._global_params = theirs._global_params._replace(drop_connect_rate=0)
    model = ours(0, 64, tower.renamed(theirs.state_dict())).train()
    images = torch.randn(4, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected = theirs._avg_pooling(theirs.extract_features(images)).flatten(1)
        torch.testing.assert_close(model.features(images), expected, atol=1e-4, rtol=1e-4)
    for name, tensor in tower.renamed(theirs.state_dict()).items():
        torch.testing.assert_close(model.state_dict()[name], tensor, atol=1e-5, rtol=1e-5)


def test_evaluation_folds_the_norm() -> None:
    layer = randomised(ConvNorm(4, 6, 3, stride=2)).eval()
    x = torch.randn(2, 4, 9, 8, generator=torch.Generator().manual_seed(1))
    padded = torch.nn.functional.pad(x, (0, 1, 1, 1))  # eight columns are even, nine rows odd
    expected = layer.norm(torch.nn.functional.conv2d(padded, layer.conv.weight, stride=2)).clamp(0, 6)
    torch.testing.assert_close(layer(x), expected, atol=1e-6, rtol=1e-5)
    assert expected.shape == (2, 6, 5, 4)
    names = set(layer.state_dict())
    layer.fold()
    torch.testing.assert_close(layer(x), expected, atol=1e-6, rtol=1e-5)
    assert names - set(layer.state_dict()) >= {"norm.running_var", "norm.weight"}
    layer.fold()  # does nothing more


def test_a_folded_tower_equals_the_unfolded(tower: ModuleType) -> None:
    model = ours(0, 97, tower.renamed(randomised(reference(0, 97)).state_dict()))
    images = torch.randn(2, 3, 97, 97, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        for module in model.modules():  # batch norms that use running statistics, and are not folded
            if isinstance(module, ConvNorm):
                module.training = True
        unfolded = model.features(images)
        model.eval()
        torch.testing.assert_close(model.features(images), unfolded, atol=1e-5, rtol=1e-5)
        model.fold()
        torch.testing.assert_close(model.features(images), unfolded, atol=1e-5, rtol=1e-5)


def test_the_gate_by_hand() -> None:
    """Logits of ln 3 and 0 are 3/4 and 1/4: z = 3/4 · E₀ + 1/4 · E₁ + 1/4 · G · x."""
    config = EfficientNetConfig(image_size=32, hidden=1, gate=0.5, classes=2)
    head = GatedHead(config, embed_dim=2).eval()
    features = torch.zeros(1, 1280)
    features[0, 7] = 5.0
    with torch.no_grad():
        head.class_embedding.copy_(torch.tensor([[1.0, 0.0], [0.0, 1.0]]))
        head.mean[7], head.deviation[7] = 2.0, 1.5  # s = (5 - 2) / 1.5 = 2
        head.c_fc.weight.zero_()
        head.c_fc.weight[0, 7], head.c_fc.bias[0] = 1.0, -1.0  # 2 - 1 = 1, whose GELU is Φ(1)
        head.c_proj.weight.copy_(torch.tensor([[8.0], [-16.0]]))
        found = head(features, torch.tensor([[math.log(3), 0.0]]))
    phi = 0.5 * (1 + math.erf(2**-0.5))
    expected = torch.tensor([[0.75 + phi, 0.25 - 2 * phi]])
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-6)


def test_a_new_heads_mlp_says_nothing() -> None:
    head = GatedHead(EfficientNetConfig(image_size=32, hidden=3, gate=1.0, classes=2), embed_dim=4)
    found = head(torch.rand(1, 1280), torch.zeros(1, 2))
    torch.testing.assert_close(found, head.class_embedding.mean(dim=0, keepdim=True))


def test_dropout_is_for_training_only() -> None:
    head = GatedHead(EfficientNetConfig(image_size=32, hidden=3, gate=1.0, classes=2, dropout=0.5), embed_dim=4)
    torch.nn.init.normal_(head.c_proj.weight)
    features, logits = torch.rand(2, 1280), torch.zeros(2, 2)
    without = GatedHead(EfficientNetConfig(image_size=32, hidden=3, gate=1.0, classes=2), embed_dim=4)
    without.load_state_dict(head.state_dict())
    assert torch.equal(head.eval()(features, logits), without.eval()(features, logits))
    assert not torch.equal(head.train()(features, logits), without.train()(features, logits))


def test_it_trains_from_nothing() -> None:
    torch.manual_seed(0)
    model = CLIP(SMALL).train()
    images, tokens = torch.randn(8, 3, 32, 32), torch.randint(0, 590, (8, 12))
    tokens[:, -1] = 599
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    losses = []
    for _ in range(12):
        loss = clip_loss(*model(images, tokens))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.7 * losses[0]


def test_the_configuration_as_json() -> None:
    model_cfg = config_to_dict(SMALL)
    assert model_cfg["vision_cfg"] == {
        "encoder": "efficientnet-lite",
        "image_size": 32,
        "hidden": 16,
        "gate": 0.5,
        "width_multiplier": 0.25,
        "depth_multiplier": 0.5,
        "classes": 10,
        "dropout": 0.0,
    }
    assert config_from_dict(model_cfg) == SMALL
    shortest = {"encoder": "efficientnet-lite", "image_size": 224, "hidden": 4, "gate": 1}
    lite0 = EfficientNetConfig(image_size=224, hidden=4, gate=1.0, classes=1000)
    assert config_from_dict(model_cfg | {"vision_cfg": shortest}) == replace(SMALL, vision=lite0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"encoder": "efficientnet"}, "vision_cfg.encoder is 'efficientnet-lite' or omitted, not 'efficientnet'"),
        ({"encoder": 3}, "vision_cfg.encoder cannot be 3"),
        ({"hidden": None}, "vision_cfg lacks 'hidden'"),
        ({"hidden": 0}, "vision_cfg.hidden cannot be 0"),
        ({"gate": None}, "vision_cfg lacks 'gate'"),
        ({"gate": -0.5}, "vision_cfg.gate is -0.5; it must be from 0 to 100"),
        ({"gate": float("nan")}, "vision_cfg.gate cannot be nan"),
        ({"gate": True}, "vision_cfg.gate cannot be True"),
        ({"width_multiplier": 0}, "vision_cfg.width_multiplier is 0.0; it must be more than 0 and at most 10"),
        ({"depth_multiplier": 11}, "vision_cfg.depth_multiplier is 11.0; it must be more than 0"),
        ({"dropout": 1.0}, "vision_cfg.dropout is 1.0; it must be at least 0 and under 1"),
        ({"classes": 2.5}, "vision_cfg.classes cannot be 2.5"),
        ({"layers": 12}, "vision_cfg has a setting that this CLIP does not know: 'layers'"),
        ({"encoder": None}, "vision_cfg lacks 'layers'"),
    ],
)
def test_wrong_settings_are_named(change: dict[str, Any], message: str) -> None:
    model_cfg = config_to_dict(SMALL)
    with pytest.raises(ValueError, match=message):
        config_from_dict(model_cfg | {"vision_cfg": model_cfg["vision_cfg"] | change})
