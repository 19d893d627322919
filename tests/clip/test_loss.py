"""The losses against numpy transcriptions of their papers' pseudocode, and against open_clip's."""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest
import torch
from scipy.special import log_softmax
from torch import Tensor

from zeroshot_cli.clip import loss
from zeroshot_cli.clip.loss import clip_loss, sigmoid_loss

Array = npt.NDArray[np.float64]


def _features(n: int, e: int) -> tuple[Array, Array]:
    rng = np.random.default_rng(0)
    image, text = rng.normal(size=(n, e)), rng.normal(size=(n, e))
    return image / np.linalg.norm(image, axis=1, keepdims=True), text / np.linalg.norm(text, axis=1, keepdims=True)


@pytest.mark.parametrize("temperature", [0.0, np.log(1 / 0.07), np.log(100)])
def test_clip_loss_equals_the_papers_pseudocode(temperature: float) -> None:
    """arXiv 2103.00020, figure 3: I_e, T_e, t -> (loss_i + loss_t) / 2."""
    image, text = _features(16, 8)
    logits = image @ text.T * np.exp(temperature)
    labels = np.arange(16)
    loss_i = -log_softmax(logits, axis=0)[labels, labels].mean()
    loss_t = -log_softmax(logits, axis=1)[labels, labels].mean()

    ours = clip_loss(torch.tensor(image), torch.tensor(text), torch.tensor(temperature).exp())
    assert float(ours) == pytest.approx((loss_i + loss_t) / 2, abs=1e-6)


def test_rows_with_the_same_caption_are_not_negatives() -> None:
    """By hand: with rows 0 and 1 alike, row 0 competes with rows 0 and 2 only."""
    image, text = _features(3, 4)
    same = np.array([[1, 1, 0], [1, 1, 0], [0, 0, 1]], dtype=bool)
    logits = image @ text.T * 10
    kept = [[0, 2], [1, 2], [0, 1, 2]]
    rows = [np.log(np.exp(logits[i, kept[i]]).sum()) - logits[i, i] for i in range(3)]
    columns = [np.log(np.exp(logits[kept[i], i]).sum()) - logits[i, i] for i in range(3)]

    ours = clip_loss(torch.tensor(image), torch.tensor(text), torch.tensor(10.0), same=torch.tensor(same))
    assert float(ours) == pytest.approx((np.mean(rows) + np.mean(columns)) / 2, abs=1e-6)


def test_sigmoid_loss_equals_the_papers_pseudocode() -> None:
    """arXiv 2303.15343, algorithm 1: -sum(log_sigmoid(labels * logits)) / n."""
    image, text = _features(12, 6)
    logits = image @ text.T * 10 - 10
    signs = 2 * np.eye(12) - 1
    expected = np.log1p(np.exp(-signs * logits)).sum() / 12

    ours = sigmoid_loss(torch.tensor(image), torch.tensor(text), torch.tensor(10.0), torch.tensor(-10.0))
    assert float(ours) == pytest.approx(expected, abs=1e-6)


def test_sigmoid_loss_equals_open_clips() -> None:
    from open_clip.loss import SigLipLoss

    image, text = (torch.tensor(x, dtype=torch.float32) for x in _features(12, 6))
    scale, bias = torch.tensor(10.0), torch.tensor(-10.0)
    expected = SigLipLoss()(image, text, scale, bias)
    assert float(sigmoid_loss(image, text, scale, bias)) == pytest.approx(float(expected), abs=1e-6)


def test_clip_loss_equals_open_clips() -> None:
    from open_clip.loss import ClipLoss

    image, text = (torch.tensor(x, dtype=torch.float32) for x in _features(12, 6))
    scale = torch.tensor(30.0)
    expected = ClipLoss()(image, text, scale)
    assert float(clip_loss(image, text, scale)) == pytest.approx(float(expected), abs=1e-6)


# A loss of the whole batch from both kinds of features, or of one share of its rows when it is told which.
Scored = Callable[..., Tensor]
LOSSES: dict[str, Scored] = {
    "clip": lambda image, text, **share: clip_loss(image, text, torch.tensor(20.0), **share),
    "sigmoid": lambda image, text, **share: sigmoid_loss(image, text, torch.tensor(10.0), torch.tensor(-5.0), **share),
}


def _open_clips(name: str, image: Tensor, text: Tensor) -> Tensor:
    from open_clip.loss import ClipLoss, SigLipLoss

    criterion = ClipLoss() if name == "clip" else SigLipLoss()
    arguments = [torch.tensor(20.0)] if name == "clip" else [torch.tensor(10.0), torch.tensor(-5.0)]
    value: Tensor = criterion(image, text, *arguments)
    return value


def _value_and_gradients(score: Scored, *features: Array) -> tuple[Tensor, ...]:
    leaves = [torch.tensor(x, requires_grad=True) for x in features]
    value = score(*leaves)
    return value.detach(), *torch.autograd.grad(value, leaves)


def _mean_of_shares(name: str, shares: int, same: Tensor | None = None) -> Scored:
    def score(image: Tensor, text: Tensor) -> Tensor:
        size = len(image) // shares
        losses = []
        for first in range(0, len(image), size):
            own = slice(first, first + size)
            share = {"all_images": image, "all_texts": text, "first": first}
            masked = {} if same is None else {"same": same[own]}
            losses.append(LOSSES[name](image[own], text[own], **share, **masked))
        return torch.stack(losses).mean()

    return score


@pytest.mark.parametrize("shares", [1, 2, 3, 12])
@pytest.mark.parametrize("name", LOSSES)
def test_the_mean_of_shares_is_open_clips_loss_of_the_whole(name: str, shares: int) -> None:
    features = _features(12, 6)
    expected = _value_and_gradients(lambda image, text: _open_clips(name, image, text), *features)
    found = _value_and_gradients(_mean_of_shares(name, shares), *features)
    torch.testing.assert_close(found, expected, atol=1e-9, rtol=1e-7)


@pytest.mark.parametrize("shares", [2, 6])
@pytest.mark.parametrize("name", LOSSES)
def test_shares_leave_out_the_same_pairs_as_the_whole(name: str, shares: int) -> None:
    """Rows 0 and 7 lie in different shares, rows 1 and 2 are in one of two and in different ones of six."""
    features = _features(12, 6)
    same = torch.eye(12, dtype=torch.bool)
    same[0, 7] = same[7, 0] = same[1, 2] = same[2, 1] = True
    whole = _value_and_gradients(lambda image, text: LOSSES[name](image, text, same=same), *features)
    found = _value_and_gradients(_mean_of_shares(name, shares, same), *features)
    torch.testing.assert_close(found, whole, atol=1e-9, rtol=1e-7)
    without = _value_and_gradients(LOSSES[name], *features)
    assert abs(float(without[0] - whole[0])) > 1e-4


def test_a_pair_that_is_left_out_of_the_sigmoid_loss_by_hand() -> None:
    image, text = _features(3, 4)
    same = np.array([[1, 1, 0], [1, 1, 0], [0, 0, 1]], dtype=bool)
    logits = image @ text.T * 10 - 2
    signs = 2 * np.eye(3) - 1
    losses = np.log1p(np.exp(-signs * logits))
    kept = [(0, 0), (0, 2), (1, 1), (1, 2), (2, 0), (2, 1), (2, 2)]
    expected = sum(losses[i, j] for i, j in kept) / 3
    scale, bias = torch.tensor(10.0), torch.tensor(-2.0)
    ours = sigmoid_loss(torch.tensor(image), torch.tensor(text), scale, bias, same=torch.tensor(same))
    assert float(ours) == pytest.approx(expected, abs=1e-6)


# blocks of rows: 12 rows of 12 columns, in blocks of 5, 5 and 2 rows, of 1, and all at once
BLOCKS = (60, 1, 2**20)


@pytest.mark.parametrize("block", BLOCKS)
@pytest.mark.parametrize("name", LOSSES)
def test_gradients_of_blocks_are_the_slopes(name: str, block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Finite differences, for features, temperature and bias, where rows of a share are not each other's negatives."""
    monkeypatch.setattr(loss, "BLOCK", block)
    monkeypatch.setattr(loss, "LEAST_ROWS", 1)
    images, texts = (torch.tensor(x) for x in _features(12, 3))
    same = torch.eye(12, dtype=torch.bool)[3:10]
    same[0, 7] = same[4, 3] = same[1, 2] = True

    def score(images: Tensor, texts: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
        share = {"same": same, "all_images": images, "all_texts": texts, "first": 3}
        own = images[3:10], texts[3:10], scale
        return clip_loss(*own, **share) if name == "clip" else sigmoid_loss(*own, bias, **share)

    scalars = torch.tensor(5.0, dtype=torch.float64), torch.tensor(-2.0, dtype=torch.float64)
    assert torch.autograd.gradcheck(score, [x.requires_grad_() for x in (images, texts, *scalars)])


@pytest.mark.parametrize("block", BLOCKS)
@pytest.mark.parametrize("name", LOSSES)
def test_blocks_have_open_clips_loss_and_gradients(name: str, block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    from open_clip.loss import ClipLoss, SigLipLoss

    monkeypatch.setattr(loss, "BLOCK", block)
    monkeypatch.setattr(loss, "LEAST_ROWS", 1)
    features = [torch.tensor(x, dtype=torch.float32) for x in _features(12, 6)]
    leaves = [x.requires_grad_() for x in (*features, torch.tensor(10.0), torch.tensor(-10.0))]
    leaves = leaves[:3] if name == "clip" else leaves
    ours, theirs = (clip_loss, ClipLoss()) if name == "clip" else (sigmoid_loss, SigLipLoss())
    found, expected = ours(*leaves), theirs(*leaves)  # type: ignore[arg-type]
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-6)
    for one, other in zip(torch.autograd.grad(found, leaves), torch.autograd.grad(expected, leaves), strict=True):
        torch.testing.assert_close(one, other, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("name", LOSSES)
def test_autocast_and_half_precision_score_in_float32(name: str) -> None:
    """bf16 has 8 bits: logits of it would be off by 0.05. What is given in it is exact from there on."""
    features = [torch.tensor(x, dtype=torch.float32) for x in _features(12, 6)]
    with torch.autocast("cpu", torch.bfloat16):
        found = LOSSES[name](*features)
    assert torch.equal(found, LOSSES[name](*features))
    short = [x.bfloat16() for x in features]
    assert torch.equal(LOSSES[name](*short), LOSSES[name](*(x.float() for x in short)))
    leaves = [x.requires_grad_() for x in short]
    assert {x.dtype for x in torch.autograd.grad(LOSSES[name](*leaves), leaves)} == {torch.bfloat16}


def test_large_logits_are_exact() -> None:
    """By hand: an image that meets its text at +100 and another's at -100 costs nothing; the other way round, 100."""
    images, scale, bias = torch.eye(2), torch.tensor(200.0), torch.tensor(-100.0)
    assert float(sigmoid_loss(images, images, scale, bias)) == pytest.approx(0, abs=1e-40)
    assert float(sigmoid_loss(images, images.flip(0), scale, bias)) == 200


@pytest.mark.parametrize(("rows", "columns"), [(0, 3), (7, 2), (7, 3), (7, 7), (7, 100)])
def test_blocks_cover_each_row_once(rows: int, columns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loss, "BLOCK", 7)
    monkeypatch.setattr(loss, "LEAST_ROWS", 1)
    blocks = [list(range(rows))[block] for block in loss.row_blocks(rows, columns)]
    assert [row for block in blocks for row in block] == list(range(rows))
    assert all(len(block) * columns <= 7 or len(block) == 1 for block in blocks)
    monkeypatch.setattr(loss, "LEAST_ROWS", 5)
    assert all(len(range(rows)[block]) in (5, rows % 5) for block in loss.row_blocks(rows, max(columns, 2)))
