"""The losses that pull an image and its text together. Pure functions.

b batch, e embedding
"""

import torch
from torch import Tensor
from torch.nn import functional as F


def clip_loss(
    image_features: Tensor, text_features: Tensor, logit_scale: Tensor, *, same: Tensor | None = None
) -> Tensor:
    """The symmetric contrastive loss: the mean of the cross-entropies over rows and columns of the similarities.

    image_features, text_features be, normalised; logit_scale the inverse temperature. same bb, true where two rows
    carry the same caption: such rows are not each other's negatives. Source: arXiv 2103.00020, figure 3.
    """
    logits = logit_scale * image_features @ text_features.T  # bb
    target = torch.arange(len(logits), device=logits.device)
    if same is not None:
        others = same & (target[:, None] != target)
        logits = logits.masked_fill(others, float("-inf"))
    return (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2


def sigmoid_loss(
    image_features: Tensor,
    text_features: Tensor,
    logit_scale: Tensor,
    logit_bias: Tensor,
    *,
    same: Tensor | None = None,
) -> Tensor:
    """The pairwise sigmoid loss: every pair of the batch is a yes-or-no question.

    Shapes as in `clip_loss`; the sum over all pairs, divided by the batch. Source: arXiv 2303.15343, algorithm 1.
    """
    logits = logit_scale * image_features @ text_features.T + logit_bias  # bb
    sign = 2 * torch.eye(len(logits), device=logits.device, dtype=logits.dtype) - 1
    losses = -F.logsigmoid(sign * logits)
    if same is not None:
        losses = losses.masked_fill(same & (sign < 0), 0)
    return losses.sum() / len(logits)
