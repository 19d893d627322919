"""Which parameters decay, and the running average, by hand."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from zeroshot_cli.clip.config import (
    CBOWConfig,
    CLIPConfig,
    ResNetConfig,
    TextTransformerConfig,
    VisionTransformerConfig,
)
from zeroshot_cli.train.optimizer import average_of, build_optimizer, parameter_groups, update_average

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
    model = VIT.build()
    decaying, others = parameter_groups(model, weight_decay=0.2)
    assert names_of(model, decaying["params"]) == DECAYING
    rest = names_of(model, others["params"])
    assert rest == {name for name, _ in model.named_parameters()} - DECAYING
    assert {"logit_scale", "logit_bias", "visual.class_embedding", "visual.ln_post.weight"} <= rest
    assert (decaying["weight_decay"], others["weight_decay"]) == (0.2, 0.0)


def test_batch_norm_does_not_decay() -> None:
    model = RESNET.build()
    decaying, others = parameter_groups(model, weight_decay=0.1)
    assert not any("bn" in name or name.endswith("bias") for name in names_of(model, decaying["params"]))
    assert any("bn1.weight" in name for name in names_of(model, others["params"]))


def test_frozen_parameters_are_left_out() -> None:
    model = VIT.build()
    model.visual.requires_grad_(False)
    groups = parameter_groups(model, weight_decay=0.1)
    named = {name for group in groups for name in names_of(model, group["params"])}
    assert named == {name for name, _ in model.named_parameters() if not name.startswith("visual.")}


@pytest.mark.parametrize(("config", "betas", "eps"), [(VIT, (0.9, 0.98), 1e-6), (RESNET, (0.9, 0.999), 1e-8)])
def test_adam_is_set_as_in_table_18(config: CLIPConfig, betas: tuple[float, float], eps: float) -> None:
    optimizer = build_optimizer(config.build(), config, lr=1e-3, weight_decay=0.2)
    assert (optimizer.defaults["betas"], optimizer.defaults["eps"], optimizer.defaults["lr"]) == (betas, eps, 1e-3)


def test_average_by_hand() -> None:
    model = nn.Sequential(nn.Linear(1, 1, bias=False), nn.BatchNorm1d(1))
    weight, mean = model.get_parameter("0.weight"), model.get_buffer("1.running_mean")
    nn.init.constant_(weight, 1.0)
    average = average_of(model)
    nn.init.constant_(weight, 2.0)
    mean.fill_(7.0)
    update_average(average, model, decay=0.9, step=1)  # early: the decay is 2/11
    assert float(average.get_parameter("0.weight")) == pytest.approx(2 / 11 * 1 + 9 / 11 * 2)
    assert float(average.get_buffer("1.running_mean")) == 7.0
    nn.init.constant_(average.get_parameter("0.weight"), 1.0)
    update_average(average, model, decay=0.9, step=1000)
    assert float(average.get_parameter("0.weight")) == pytest.approx(1.1)


def test_the_average_is_a_copy_that_is_not_trained() -> None:
    model = nn.Linear(2, 2)
    average = average_of(model)
    with torch.no_grad():
        model.weight.zero_()
    assert average.weight.any()
    assert not average.training
    assert not any(parameter.requires_grad for parameter in average.parameters())
