"""Low-rank adaptation, against plain torch and numpy: what is adapted, its value and gradient, and how it is merged."""

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from zeroshot_cli.clip.config import (
    CBOWConfig,
    CLIPConfig,
    EfficientNetConfig,
    ResNetConfig,
    TextTransformerConfig,
    VisionTransformerConfig,
)
from zeroshot_cli.clip.lora import adapt, merged
from zeroshot_cli.clip.loss import clip_loss
from zeroshot_cli.clip.model import CLIP

VIT = CLIPConfig(
    embed_dim=12,
    vision=VisionTransformerConfig(image_size=32, patch_size=16, width=16, layers=2, head_width=8),
    text=TextTransformerConfig(width=24, heads=2, layers=2, context_length=8, vocab_size=600),
    init_logit_bias=-1.0,
)
RESNET = replace(
    VIT,
    vision=ResNetConfig(image_size=32, layers=(1, 1, 1, 1), width=8, head_width=32),
    text=CBOWConfig(width=24, context_length=8, vocab_size=600),
)
EFFICIENTNET = replace(
    VIT,
    vision=EfficientNetConfig(image_size=32, hidden=16, gate=0.5, width_multiplier=0.1, classes=5),
    text=CBOWConfig(width=24, context_length=8, vocab_size=600, hidden=16),
)
MODELS = {"vit": VIT, "resnet": RESNET, "efficientnet": EFFICIENTNET}
BLOCK = {"attn.in_proj_weight", "attn.out_proj.weight"}
ADAPTED = {  # by model: the weights that change, by hand
    "vit": {
        f"{tower}.transformer.resblocks.{block}.{weight}"
        for tower in ("visual", "text")
        for block in (0, 1)
        for weight in BLOCK
    },
    "resnet": {f"visual.attnpool.{each}_proj.weight" for each in "qkvc"} | {"text.text_projection"},
    "efficientnet": {"visual.gated_head.c_fc.weight", "visual.gated_head.c_proj.weight"}
    | {"text.text_projection", "text.mlp.c_fc.weight", "text.mlp.c_proj.weight"},
}
TOKENS = torch.tensor([[598, 1, 599], [598, 2, 599], [598, 3, 599]])


def model_of(kind: str) -> CLIP:
    """A model none of whose weights is zero, as of one that was trained."""
    torch.manual_seed(0)
    model = CLIP(MODELS[kind]).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.05 * torch.randn(parameter.shape)
    return model


def embedded(model: CLIP) -> torch.Tensor:
    images = torch.rand(3, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    return torch.cat(model(images, TOKENS)[:2])


def trained(model: CLIP, steps: int = 3) -> CLIP:
    """Some steps at a rate at which all that can move does."""
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=0.05)
    for _ in range(steps):
        optimizer.zero_grad()
        embeddings = embedded(model)
        clip_loss(embeddings[:3], embeddings[3:], model.logit_scale.exp()).backward()
        optimizer.step()
    return model


@pytest.mark.parametrize("kind", MODELS)
def test_at_first_nothing_is_another(kind: str) -> None:
    plain, model = model_of(kind), model_of(kind)
    adapt(model, rank=2, seed=0)
    assert torch.equal(embedded(model), embedded(plain))
    for name, tensor in merged(model.state_dict()).items():
        assert torch.equal(tensor, plain.state_dict()[name]), name


@pytest.mark.parametrize("rank", [1, 3])
@pytest.mark.parametrize("kind", MODELS)
def test_what_was_learned_is_merged_and_has_its_rank(kind: str, rank: int) -> None:
    """numpy's SVD says the rank; queries, keys and values have it each."""
    before, model = model_of(kind).state_dict(), model_of(kind)
    adapt(model, rank=rank, seed=0)
    after = merged(trained(model).state_dict())
    assert after.keys() == before.keys()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed == ADAPTED[kind] | {"logit_scale"}
    for name in ADAPTED[kind]:
        parts = 3 if name.endswith("in_proj_weight") else 1
        for difference in np.split((after[name] - before[name]).double().numpy(), parts):
            values = np.linalg.svd(difference, compute_uv=False)
            assert values[rank - 1] > 1e-4 * values[0], name
            assert (values[rank:] < 1e-5 * values[0]).all(), name
    plain = CLIP(MODELS[kind]).eval()
    plain.load_state_dict(after)
    assert not torch.allclose(embedded(model), embedded(model_of(kind)), atol=1e-2)
    torch.testing.assert_close(embedded(plain), embedded(model), atol=1e-5, rtol=0)


def test_value_and_gradient_are_those_of_the_paper() -> None:
    """Attention written out, h = W x + B A x / √r for queries, keys, values and output, and autograd through that."""
    model = model_of("vit")
    adapt(model, rank=2, seed=3)
    attention = model.visual.transformer.resblocks[0].attn
    weights = {name: tensor.detach().clone() for name, tensor in attention.state_dict().items()}
    draw = torch.Generator().manual_seed(2)
    b = {
        "in_proj_weight": torch.randn(3, 16, 2, generator=draw),
        "out_proj.weight": torch.randn(1, 16, 2, generator=draw),
    }
    a = {}
    for name in b:
        module, weight = (attention, name) if name == "in_proj_weight" else (attention.out_proj, "weight")
        factors = getattr(module.parametrizations, weight)[0]  # type: ignore[union-attr,index]
        factors.b.data.copy_(b[name])
        a[name] = factors.a.detach().clone()
        assert float(a[name].abs().max()) <= 16**-0.5
    x = torch.randn(2, 5, 16, generator=draw)
    attention(x).square().sum().backward()

    leaves = [each.requires_grad_() for name in b for each in (a[name], b[name])]

    def linear(x: torch.Tensor, layer: str, part: int, bias: torch.Tensor) -> torch.Tensor:
        stored = "parametrizations.in_proj_weight" if layer == "in_proj_weight" else "out_proj.parametrizations.weight"
        rows = slice(16 * part, 16 * part + 16)
        adapted = (x @ a[layer][part].T) @ b[layer][part].T / 2**0.5
        return x @ weights[f"{stored}.original"][rows].T + bias[rows] + adapted

    q, k, v = (linear(x, "in_proj_weight", part, weights["in_proj_bias"]).view(2, 5, 2, 8) for part in range(3))
    scores = torch.einsum("bqhd,bkhd->bhqk", q, k) / 8**0.5
    mixed = torch.einsum("bhqk,bkhd->bqhd", scores.softmax(dim=-1), v).reshape(2, 5, 16)
    out = linear(mixed, "out_proj.weight", 0, weights["out_proj.bias"])
    torch.testing.assert_close(attention(x), out, atol=1e-5, rtol=1e-5)
    out.square().sum().backward()
    found = [p.grad for p in attention.parameters() if p.requires_grad]
    assert len(found) == len(leaves) == 4
    for leaf in leaves:
        assert leaf.grad is not None
        assert any(
            f is not None and f.shape == leaf.shape and torch.allclose(f, leaf.grad, rtol=1e-4, atol=1e-4)
            for f in found
        )


def test_the_seed_gives_the_first_matrices() -> None:
    states = []
    for seed in (0, 0, 1):
        model = model_of("vit")
        adapt(model, rank=2, seed=seed)
        states.append({name: tensor for name, tensor in model.state_dict().items() if name.endswith(".0.a")})
    assert len(states[0]) == 8
    for name, tensor in states[0].items():
        assert torch.equal(tensor, states[1][name])
        assert not torch.equal(tensor, states[2][name])


@pytest.mark.parametrize(
    ("kind", "locked", "expected"),
    [
        ("vit", "visual", {name for name in ADAPTED["vit"] if name.startswith("text.")}),
        ("vit", "trunk", {name for name in ADAPTED["vit"] if name.startswith("text.")} | {"visual.proj"}),
        ("resnet", "trunk", ADAPTED["resnet"]),
        ("resnet", "text", {name for name in ADAPTED["resnet"] if name.startswith("visual.")}),
        ("efficientnet", "trunk", ADAPTED["efficientnet"]),
    ],
)
def test_what_is_locked_is_not_adapted(kind: str, locked: str, expected: set[str]) -> None:
    before, model = model_of(kind).state_dict(), model_of(kind)
    for name, parameter in model.named_parameters():
        in_trunk = name.startswith("visual.") and name.split(".")[1] not in model.visual.HEAD
        parameter.requires_grad_(not (name.startswith(f"{locked}.") or (locked == "trunk" and in_trunk)))
    adapt(model, rank=2, seed=0)
    after = merged(trained(model).state_dict())
    assert {name for name in before if not torch.equal(before[name], after[name])} == expected | {"logit_scale"}


@pytest.mark.parametrize(("kind", "smallest"), [("vit", 16), ("resnet", 12), ("efficientnet", 12)])
def test_a_rank_that_a_matrix_cannot_have_is_refused(kind: str, smallest: int) -> None:
    model = model_of(kind)
    with pytest.raises(ValueError, match=rf"a matrix of \d+ × \d+ has no rank of {smallest + 1}$"):
        adapt(model, rank=smallest + 1, seed=0)
    assert all(parameter.requires_grad for parameter in model.parameters())
    adapt(model, rank=smallest, seed=0)


def test_a_copy_learns_by_itself() -> None:
    """As the running average of the weights does, which is a copy."""
    model = model_of("vit")
    adapt(model, rank=2, seed=0)
    before, copied = embedded(model), copy.deepcopy(model)
    trained(model)
    assert torch.equal(embedded(copied), before)


def test_in_bf16_a_weight_is_rounded_when_it_is_used() -> None:
    """As that of the merged model is: to the bit the same."""
    model = model_of("vit")
    adapt(model, rank=2, seed=0)
    plain = CLIP(VIT).eval()
    plain.load_state_dict(merged(trained(model).state_dict()))
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(embedded(model), embedded(plain))


def test_what_was_never_adapted_is_merged_as_it_is() -> None:
    tensors = model_of("resnet").state_dict()
    assert merged(tensors).keys() == tensors.keys()
    assert all(merged(tensors)[name] is tensor for name, tensor in tensors.items())


def test_a_sum_by_hand() -> None:
    """Of rank 1, with B of twos and an input of ones: each output gets twice the sum of A."""
    model = model_of("resnet")
    adapt(model, rank=1, seed=0)
    layer = model.visual.attnpool.q_proj  # type: ignore[union-attr]
    factors = layer.parametrizations.weight  # type: ignore[union-attr]
    factors[0].b.data.fill_(2.0)  # type: ignore[index]
    x = torch.ones(1, layer.weight.shape[1])
    expected = F.linear(x, factors.original, layer.bias) + 2.0 * factors[0].a.sum()  # type: ignore[index]
    torch.testing.assert_close(layer(x), expected, atol=1e-4, rtol=1e-5)
