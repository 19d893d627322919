"""The losses against numpy transcriptions of their papers' pseudocode."""

import numpy as np
import numpy.typing as npt
import pytest
import torch
from scipy.special import log_softmax

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
