"""Locked towers stay as they are."""

import re
from dataclasses import replace

import pytest
import torch

from zeroshot_cli.clip.config import CBOWConfig, CLIPConfig, EfficientNetConfig, ResNetConfig, VisionTransformerConfig
from zeroshot_cli.clip.loss import clip_loss
from zeroshot_cli.clip.model import CLIP
from zeroshot_cli.errors import UsageError
from zeroshot_cli.train.config import TrainConfig
from zeroshot_cli.train.learner import train_mode
from zeroshot_cli.train.optimizer import build_optimizer
from zeroshot_cli.train.start import check_locks, lock

CONFIG = CLIPConfig(
    embed_dim=16,
    vision=ResNetConfig(image_size=32, layers=(1, 1, 1, 1), width=8, head_width=32),
    text=CBOWConfig(width=16, context_length=8, vocab_size=600),
)


@pytest.mark.parametrize("locked", ["visual", "text"])
def test_a_step_changes_the_other_tower_and_the_temperature_only(locked: str) -> None:
    torch.manual_seed(0)
    model = CLIP(CONFIG)
    lock(model, image=locked == "visual", text=locked == "text")
    train_mode(model)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    _step(model)
    changed = {name for name, tensor in model.state_dict().items() if not torch.equal(tensor, before[name])}
    assert changed
    assert not any(name.startswith(f"{locked}.") for name in changed)
    other = {"visual": "text", "text": "visual"}[locked]
    assert {f"{other}.ln_final.weight", f"{other}.bn1.running_mean"} & changed
    assert "logit_scale" in changed


def _step(model: CLIP) -> None:
    optimizer = build_optimizer(model, CONFIG, lr=0.1, weight_decay=0.2)
    _backward(model)
    optimizer.step()


def _backward(model: CLIP) -> None:
    tokens = torch.tensor([[598, 1, 599], [598, 2, 599], [598, 3, 599]])
    clip_loss(*model(torch.randn(3, 3, 32, 32), tokens)).backward()


def test_the_projection_belongs_to_its_tower() -> None:
    model = CLIP(replace(CONFIG, init_logit_bias=-10.0))
    lock(model, image=True, text=False)
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert trained == {
        "text.token_embedding.weight",
        "text.ln_final.weight",
        "text.ln_final.bias",
        "text.text_projection",
        "logit_scale",
        "logit_bias",
    }


def test_a_locked_tower_is_never_in_training_mode() -> None:
    model = CLIP(CONFIG).eval()
    lock(model, image=True, text=False)
    train_mode(model)
    assert not any(module.training for module in model.visual.modules())
    assert all(module.training for module in (model, *model.text.modules()))
    model.eval()
    train_mode(model)
    assert not any(module.training for module in model.visual.modules())


def test_without_locks_all_is_trained() -> None:
    model = CLIP(CONFIG).eval()
    lock(model, image=False, text=False)
    train_mode(model)
    assert all(module.training for module in model.modules())
    assert all(parameter.requires_grad for parameter in model.parameters())


VISION = {
    "attnpool": CONFIG.vision,
    "gated_head": EfficientNetConfig(image_size=32, hidden=8, gate=0.5, width_multiplier=0.1, classes=5),
    "ln_post|proj": VisionTransformerConfig(image_size=32, patch_size=16, width=16, layers=1, head_width=8),
}


@pytest.mark.parametrize("head", VISION)
def test_a_locked_trunk_leaves_the_head(head: str) -> None:
    torch.manual_seed(0)
    config = replace(CONFIG, vision=VISION[head])
    model = CLIP(config)
    lock(model, trunk=True)
    train_mode(model)
    before = {name: tensor.clone() for name, tensor in model.visual.state_dict().items()}
    optimizer = build_optimizer(model, config, lr=0.1, weight_decay=0.2)
    for _ in range(2):  # a linear map that is zero at first gives the one below it no gradient
        optimizer.zero_grad()
        _backward(model)
        optimizer.step()
    changed = {name for name, tensor in model.visual.state_dict().items() if not torch.equal(tensor, before[name])}
    trained = {name for name, parameter in model.visual.named_parameters() if parameter.requires_grad}
    assert changed == trained == {name for name in before if re.match(rf"({head})\b(?!.*(mean|deviation))", name)}
    assert model.text.training
    images = torch.randn(2, 3, 32, 32)
    model.eval()
    features = model.visual.features(images)
    assert not features.requires_grad
    assert torch.equal(model.visual.project(features), model.visual(images))


@pytest.mark.parametrize(
    ("locks", "has_weights", "message"),
    [
        ({"image", "text"}, True, "--lock-image and --lock-text leave only the temperature to train"),
        ({"image", "text"}, False, "--lock-image and --lock-text leave only the temperature to train"),
        ({"image", "trunk"}, True, "--lock-image locks the head too, which --lock-trunk trains"),
        ({"image"}, False, "--lock-image keeps a tower as it is, and a new model's is random"),
        ({"trunk"}, False, "--lock-trunk keeps a tower as it is, and a new model's is random"),
        ({"text"}, False, "--lock-text keeps a tower as it is, and a new model's is random"),
    ],
)
def test_locks_that_make_no_sense_are_refused(locks: set[str], has_weights: bool, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        check_locks(_locks(locks), has_weights)


@pytest.mark.parametrize(
    ("locks", "has_weights"),
    [({"image"}, True), ({"text"}, True), ({"trunk"}, True), ({"trunk", "text"}, True), (set(), True), (set(), False)],
)
def test_locks_that_make_sense_are_not(locks: set[str], has_weights: bool) -> None:
    check_locks(_locks(locks), has_weights)


def _locks(names: set[str]) -> TrainConfig:
    return TrainConfig(**{f"lock_{name}": True for name in names})  # type: ignore[arg-type]
