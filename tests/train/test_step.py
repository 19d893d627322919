"""The gradient in chunks and of several processes, against that of the whole batch in one."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from scripts import script_module
from torch.nn import functional as F

from zeroshot_cli.clip.config import CBOWConfig, CLIPConfig, EfficientNetConfig
from zeroshot_cli.clip.loss import clip_loss
from zeroshot_cli.clip.model import CLIP
from zeroshot_cli.records import Loss
from zeroshot_cli.train.step import Objective, Towers, backward, pair_ids, same_pairs

SCRIPT = Path(__file__).with_name("gradients.py")


script = script_module("tests/train/gradients.py")


def _assert_same(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    """Equal to 1e-5 of the largest number of each tensor, or of 0.01 where all are small."""
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        tolerance = 1e-5 * max(float(tensor.detach().abs().max()), 0.01)
        assert float((found[name] - tensor.detach()).abs().max()) <= tolerance, name


@pytest.mark.parametrize("kind", ["vit", "resnet"])
def test_the_gradient_is_that_of_autograd_through_the_loss(kind: str) -> None:
    """Written out: softmax over rows and columns, without the pairs that share a caption or an image."""
    model, batch, inputs = script.model_of(kind), script.batch_of(kind), script.inputs_of(kind)
    images, texts, scale = model(*inputs(batch))
    logits = scale * images @ texts.T
    same = torch.eye(12, dtype=torch.bool)
    same[0, 7] = same[7, 0] = same[1, 2] = same[2, 1] = True
    assert torch.equal(same_pairs(pair_ids(batch), pair_ids(batch)), same)
    logits = logits.masked_fill(same & ~torch.eye(12, dtype=torch.bool), -1e9)
    rows = torch.arange(12)
    loss = (F.cross_entropy(logits, rows) + F.cross_entropy(logits.T, rows)) / 2
    loss.backward()
    found = script.gradients(kind, Loss.CLIP, None)
    torch.testing.assert_close(found["loss"], loss.detach(), atol=1e-6, rtol=0)
    expected = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    _assert_same({name: found[name] for name in expected}, expected)


@pytest.mark.parametrize("taught", [False, True])
@pytest.mark.parametrize("size", [1, 5, 11])
@pytest.mark.parametrize("loss", list(Loss))
def test_the_gradient_in_chunks_is_that_of_the_whole(loss: Loss, size: int, taught: bool) -> None:
    _assert_same(script.gradients("vit", loss, size, taught=taught), script.gradients("vit", loss, None, taught=taught))


@pytest.mark.parametrize("loss", list(Loss))
def test_a_teacher_and_a_mask_are_in_the_gradient(loss: Loss) -> None:
    """Written out: similar texts are no negatives, and three times the mean of 1 - cosine is added."""
    model, batch, inputs = script.model_of("vit"), script.batch_of("vit"), script.inputs_of("vit")
    images, texts, scale = model(*inputs(batch))
    own = torch.eye(12, dtype=torch.bool)
    same = own.clone()
    same[0, 7] = same[7, 0] = same[1, 2] = same[2, 1] = True
    named = int(same.sum())
    for row in range(12):
        for other in range(12):
            same[row, other] |= float(texts[row].detach() @ texts[other].detach()) > script.SIMILAR
    assert named < int(same.sum()) < 144, "some are masked for their similarity"
    logits = scale * images @ texts.T
    if loss is Loss.CLIP:
        rows, logits = torch.arange(12), logits.masked_fill(same & ~own, -1e9)
        contrastive = (F.cross_entropy(logits, rows) + F.cross_entropy(logits.T, rows)) / 2
    else:
        signs = torch.where(own, 1.0, -1.0)
        losses = torch.log1p(torch.exp(-signs * (logits + model.logit_bias)))
        contrastive = losses[own | ~same].sum() / 12
    teacher = script.teacher_of("vit")
    places = np.random.default_rng([0, 1, 1]).choice(15, 12, replace=False)
    tokens = inputs.tokens([teacher.texts[place] for place in places])
    cosines = F.cosine_similarity(model.encode_text(tokens), teacher.embeddings[places])
    distilled = 1 - cosines.mean()
    (contrastive + 3 * distilled).backward()
    found = script.gradients("vit", loss, None, taught=True)
    torch.testing.assert_close(found["loss"], contrastive.detach(), atol=1e-6, rtol=0)
    torch.testing.assert_close(found["distilled"], distilled.detach(), atol=1e-6, rtol=0)
    assert float(found["masked"]) == pytest.approx(int(same.sum()) / 144)
    expected = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    _assert_same({name: found[name] for name in expected}, expected)


def test_batch_norm_counts_each_chunk_once() -> None:
    """By hand: three chunks move the running averages three times, as three batches would."""
    model, batch, inputs = script.model_of("resnet"), script.batch_of("resnet"), script.inputs_of("resnet")
    for rows in (slice(0, 4), slice(4, 8), slice(8, 12)):
        model(*inputs(batch, rows))
    found = script.gradients("resnet", Loss.CLIP, 4)
    for name, buffer in model.named_buffers():
        torch.testing.assert_close(found[name], buffer)


@pytest.mark.slow
def test_two_processes_are_as_one(tmp_path: Path) -> None:
    """Loss, gradients, their norm, and what clipping leaves of them; with whole models and with shares of one."""
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--standalone"]
    ended = subprocess.run([*torchrun, str(SCRIPT), str(tmp_path)], capture_output=True, text=True, timeout=300)
    assert ended.returncode == 0, ended.stderr
    for name, (loss, _, _, taught) in script.CASES.items():
        _assert_same(load_file(tmp_path / f"{name}.safetensors"), script.gradients("vit", loss, None, taught=taught))


def test_dropout_drops_the_same_in_both_passes_over_a_chunked_batch() -> None:
    """Autograd through one pass, whose masks the seed gives, has the gradient of two."""
    torch.manual_seed(0)
    vision = EfficientNetConfig(
        image_size=32, hidden=16, gate=0.5, width_multiplier=0.25, depth_multiplier=0.5, classes=10, dropout=0.3
    )
    model = CLIP(CLIPConfig(embed_dim=8, vision=vision, text=CBOWConfig(width=8, vocab_size=600))).train()
    torch.nn.init.normal_(model.visual.gated_head.c_proj.weight)  # type: ignore[union-attr]
    images, tokens = torch.randn(6, 3, 32, 32), torch.randint(0, 590, (6, 5))
    tokens[:, -1] = 599
    chunks = [lambda: (images[:3], tokens[:3]), lambda: (images[3:], tokens[3:])]
    ids = torch.arange(12).view(6, 2)
    backward(Towers(model, bf16=False), Objective(Loss.CLIP), chunks, ids, seed=7)
    found = {name: parameter.grad.clone() for name, parameter in model.named_parameters() if parameter.grad is not None}
    model.zero_grad()
    torch.manual_seed(7)
    parts = [model(*chunk()) for chunk in chunks]
    clip_loss(torch.cat([part[0] for part in parts]), torch.cat([part[1] for part in parts]), parts[0][2]).backward()
    head = {name for name in found if "gated_head" in name}
    assert len(head) == 5
    _assert_same(
        {name: found[name] for name in head},
        {
            name: parameter.grad
            for name, parameter in model.named_parameters()
            if name in head and parameter.grad is not None
        },
    )
