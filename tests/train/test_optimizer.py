"""Which parameters decay, and what share of the learning rate each has, by hand."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from zeroshot_cli.clip.config import (
    CBOWConfig,
    CLIPConfig,
    EfficientNetConfig,
    ResNetConfig,
    TextTransformerConfig,
    VisionTransformerConfig,
)
from zeroshot_cli.clip.model import CLIP
from zeroshot_cli.train.optimizer import build_optimizer, learning_rate_scales, parameter_groups, set_learning_rate

VIT = CLIPConfig(
    embed_dim=16,
    vision=VisionTransformerConfig(image_size=16, patch_size=8, width=16, layers=1, head_width=8),
    text=TextTransformerConfig(width=16, heads=2, layers=1, context_length=8, vocab_size=600),
    init_logit_bias=-10.0,
)
RESNET = replace(
    VIT,
    vision=ResNetConfig(image_size=32, layers=(1, 1, 1, 1), width=8, head_width=32),
    text=CBOWConfig(width=16, context_length=8, vocab_size=600),
)
# What a reader of the paper would let decay in the ViT: weights of convolutions, matrices and embeddings.
DECAYING = {
    "visual.conv1.weight",
    "visual.positional_embedding",
    "visual.proj",
    "visual.transformer.resblocks.0.attn.in_proj_weight",
    "visual.transformer.resblocks.0.attn.out_proj.weight",
    "visual.transformer.resblocks.0.mlp.c_fc.weight",
    "visual.transformer.resblocks.0.mlp.c_proj.weight",
    "text.token_embedding.weight",
    "text.positional_embedding",
    "text.text_projection",
    "text.transformer.resblocks.0.attn.in_proj_weight",
    "text.transformer.resblocks.0.attn.out_proj.weight",
    "text.transformer.resblocks.0.mlp.c_fc.weight",
    "text.transformer.resblocks.0.mlp.c_proj.weight",
}


def names_of(model: nn.Module, parameters: object) -> set[str]:
    wanted = {id(parameter) for parameter in parameters}  # type: ignore[attr-defined]
    return {name for name, parameter in model.named_parameters() if id(parameter) in wanted}


def test_gains_biases_and_temperature_do_not_decay() -> None:
    model = CLIP(VIT)
    decaying, others = parameter_groups(model, weight_decay=0.2)
    assert names_of(model, decaying["params"]) == DECAYING
    rest = names_of(model, others["params"])
    assert rest == {name for name, _ in model.named_parameters()} - DECAYING
    assert {"logit_scale", "logit_bias", "visual.class_embedding", "visual.ln_post.weight"} <= rest
    assert (decaying["weight_decay"], others["weight_decay"]) == (0.2, 0.0)


def test_batch_norm_does_not_decay() -> None:
    model = CLIP(RESNET)
    decaying, others = parameter_groups(model, weight_decay=0.1)
    assert not any("bn" in name or name.endswith("bias") for name in names_of(model, decaying["params"]))
    assert any("bn1.weight" in name for name in names_of(model, others["params"]))


def test_frozen_parameters_are_left_out() -> None:
    model = CLIP(VIT)
    model.visual.requires_grad_(False)
    groups = parameter_groups(model, weight_decay=0.1)
    named = {name for group in groups for name in names_of(model, group["params"])}
    assert named == {name for name, _ in model.named_parameters() if not name.startswith("visual.")}


@pytest.mark.parametrize(("config", "betas", "eps"), [(VIT, (0.9, 0.98), 1e-6), (RESNET, (0.9, 0.999), 1e-8)])
def test_adam_is_set_as_in_table_18(config: CLIPConfig, betas: tuple[float, float], eps: float) -> None:
    optimizer = build_optimizer(CLIP(config), config, lr=1e-3, weight_decay=0.2)
    assert (optimizer.defaults["betas"], optimizer.defaults["eps"], optimizer.defaults["lr"]) == (betas, eps, 1e-3)


# By hand for two blocks a tower and a decay of 0.5: what lies under two blocks and the last norm has 0.5³.
VIT_SCALES = {
    "logit_scale": 1.0,
    "logit_bias": 1.0,
    "visual.class_embedding": 0.125,
    "visual.positional_embedding": 0.125,
    "visual.conv1.weight": 0.125,
    "visual.ln_pre.bias": 0.125,
    "visual.transformer.resblocks.0.ln_1.weight": 0.25,
    "visual.transformer.resblocks.0.mlp.c_proj.weight": 0.25,
    "visual.transformer.resblocks.1.attn.in_proj_weight": 0.5,
    "visual.transformer.resblocks.1.attn.out_proj.bias": 0.5,
    "visual.ln_post.weight": 1.0,
    "visual.proj": 1.0,
    "text.token_embedding.weight": 0.125,
    "text.positional_embedding": 0.125,
    "text.transformer.resblocks.0.attn.in_proj_bias": 0.25,
    "text.transformer.resblocks.1.mlp.c_proj.weight": 0.5,
    "text.ln_final.bias": 1.0,
    "text.text_projection": 1.0,
}
# A ResNet has four stages, however many blocks they have; CBOW has none.
RESNET_SCALES = {
    "visual.conv1.weight": 0.5**5,
    "visual.bn3.bias": 0.5**5,
    "visual.layer1.0.conv1.weight": 0.5**4,
    "visual.layer1.0.downsample.0.weight": 0.5**4,
    "visual.layer2.0.bn2.weight": 0.5**3,
    "visual.layer3.0.conv3.weight": 0.25,
    "visual.layer4.0.bn3.weight": 0.5,
    "visual.attnpool.positional_embedding": 1.0,
    "visual.attnpool.q_proj.weight": 1.0,
    "visual.attnpool.c_proj.bias": 1.0,
    "text.token_embedding.weight": 0.5,
    "text.ln_final.weight": 1.0,
    "text.text_projection": 1.0,
    "logit_scale": 1.0,
}
# Seven stages at half the depth have 1 + 1 + 1 + 2 + 2 + 2 + 1 blocks.
EFFICIENTNET = replace(
    RESNET, vision=EfficientNetConfig(image_size=32, hidden=4, gate=1.0, width_multiplier=0.25, depth_multiplier=0.5)
)
EFFICIENTNET_SCALES = {
    "visual.stem.conv.weight": 0.5**11,
    **{f"visual.blocks.{block}.project.norm.weight": 0.5 ** (10 - block) for block in range(10)},
    "visual.last.conv.weight": 1.0,
    "visual.classifier.bias": 1.0,
    "visual.gated_head.class_embedding": 1.0,
    "visual.gated_head.c_fc.weight": 1.0,
    "text.token_embedding.weight": 0.5,
}
# The MLP of a CBOW comes after its embeddings, as its projection does; it is no block of the tower.
HIDDEN = replace(RESNET, text=CBOWConfig(width=16, context_length=8, vocab_size=600, hidden=4))
HIDDEN_SCALES = RESNET_SCALES | {
    f"text.mlp.{name}": 1.0 for name in ("c_fc.weight", "c_fc.bias", "c_proj.weight", "c_proj.bias")
}
DEEPER = replace(VIT, vision=replace(VIT.vision, layers=2), text=replace(VIT.text, layers=2))


@pytest.mark.parametrize(
    ("config", "expected"),
    [(DEEPER, VIT_SCALES), (RESNET, RESNET_SCALES), (EFFICIENTNET, EFFICIENTNET_SCALES), (HIDDEN, HIDDEN_SCALES)],
)
def test_the_learning_rate_falls_with_the_depth(config: CLIPConfig, expected: dict[str, float]) -> None:
    names = [name for name, _ in CLIP(config).named_parameters()]
    scales = learning_rate_scales(names, layer_decay=0.5)
    assert scales.keys() == set(names)
    assert {name: scales[name] for name in expected} == expected
    assert set(scales.values()) == set(expected.values())


def test_towers_of_different_depth_have_each_their_own_scale() -> None:
    """Both begin with the top, so that the deeper one has the smaller share at its bottom."""
    config = replace(DEEPER, text=replace(VIT.text, layers=11))
    scales = learning_rate_scales([name for name, _ in CLIP(config).named_parameters()], layer_decay=0.5)
    assert scales["visual.conv1.weight"] == 0.5**3
    assert scales["text.positional_embedding"] == 0.5**12
    assert scales["text.transformer.resblocks.10.ln_1.weight"] == 0.5
    assert scales["text.transformer.resblocks.1.ln_1.weight"] == 0.5**10


def test_a_locked_tower_changes_nothing_for_the_other() -> None:
    model = CLIP(DEEPER)
    model.text.requires_grad_(False)
    groups = parameter_groups(model, weight_decay=0.1, layer_decay=0.5)
    found = {name: group["scale"] for group in groups for name in names_of(model, group["params"])}
    expected = {name: scale for name, scale in VIT_SCALES.items() if not name.startswith("text.")}
    assert {name: found[name] for name in expected} == expected
    assert not any(name.startswith("text.") for name in found)


def test_each_scale_decays_and_does_not() -> None:
    model = CLIP(DEEPER)
    groups = parameter_groups(model, weight_decay=0.2, layer_decay=0.5)
    kinds = [(group["scale"], group["weight_decay"]) for group in groups]
    assert sorted(kinds) == sorted((scale, decay) for scale in (0.125, 0.25, 0.5, 1.0) for decay in (0.2, 0.0))
    decaying = {n for g in groups if g["weight_decay"] for n in names_of(model, g["params"])}
    assert {name for name in decaying if ".resblocks.1." not in name} == DECAYING
    assert sum(len(names_of(model, group["params"])) for group in groups) == len(list(model.parameters()))


def test_a_layer_decay_of_one_is_none() -> None:
    groups = parameter_groups(CLIP(DEEPER), weight_decay=0.2, layer_decay=1.0)
    assert [group["scale"] for group in groups] == [1.0, 1.0]


def test_a_learning_rate_is_shared_out() -> None:
    model = CLIP(DEEPER)
    optimizer = build_optimizer(model, DEEPER, lr=1e-3, weight_decay=0.0, layer_decay=0.5)

    def rates() -> dict[str, float]:
        return {name: g["lr"] for g in optimizer.param_groups for name in names_of(model, g["params"])}

    assert {name: rates()[name] for name in VIT_SCALES} == {name: 1e-3 * s for name, s in VIT_SCALES.items()}
    set_learning_rate(optimizer, 4e-3)
    assert rates()["visual.conv1.weight"] == 5e-4
    assert rates()["logit_scale"] == 4e-3


@pytest.mark.parametrize("one_by_one", [False, True])
def test_a_first_step_by_hand(one_by_one: bool) -> None:
    """Adam's first step is the learning rate in the direction of the gradient; decay takes lr x decay of the weight."""
    model = CLIP(DEEPER)
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    optimizer = build_optimizer(model, DEEPER, lr=0.0, weight_decay=0.2, layer_decay=0.5, one_by_one=one_by_one)
    set_learning_rate(optimizer, 0.01)
    for parameter in model.parameters():
        parameter.grad = torch.full_like(parameter, -3.0)
    optimizer.step()
    for name, scale in VIT_SCALES.items():
        kept = 1 - 0.01 * scale * 0.2 if before[name].ndim >= 2 else 1.0
        expected = before[name] * kept + 0.01 * scale
        torch.testing.assert_close(model.get_parameter(name).detach(), expected, atol=1e-6, rtol=1e-5)
