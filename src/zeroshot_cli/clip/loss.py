"""The losses that pull an image and its text together; duplicate captions of a batch are not negatives.

All are pure functions.

Where several processes make one batch, each scores its own rows against everyone's, and the mean of their losses is
the loss of the whole batch.

b rows scored here, g rows of the whole batch, e embedding
"""

import torch
from torch import Tensor
from torch.nn import functional as F


def clip_loss(
    image_features: Tensor,
    text_features: Tensor,
    logit_scale: Tensor,
    *,
    same: Tensor | None = None,
    all_images: Tensor | None = None,
    all_texts: Tensor | None = None,
    first: int = 0,
) -> Tensor:
    """Return the symmetric contrastive loss: the mean cross-entropy of the similarities over images and over texts.

    Features are be, normalised; `logit_scale` is the inverse temperature. `same` bg is true where two rows have the
    same caption: such rows are not each other's negatives. Of `all_images` and `all_texts` ge the rows scored here
    begin at `first`; without them the rows are the batch. Source: arXiv 2103.00020, figure 3.
    """
    all_images = image_features if all_images is None else all_images
    all_texts = text_features if all_texts is None else all_texts
    target = first + torch.arange(len(image_features), device=image_features.device)
    per_image = logit_scale * image_features @ all_texts.T  # bg
    per_text = logit_scale * text_features @ all_images.T  # bg
    if same is not None:
        others = same & ~_own(per_image, first)
        per_image, per_text = (logits.masked_fill(others, float("-inf")) for logits in (per_image, per_text))
    return (F.cross_entropy(per_image, target) + F.cross_entropy(per_text, target)) / 2


def sigmoid_loss(
    image_features: Tensor,
    text_features: Tensor,
    logit_scale: Tensor,
    logit_bias: Tensor,
    *,
    same: Tensor | None = None,
    all_images: Tensor | None = None,
    all_texts: Tensor | None = None,
    first: int = 0,
) -> Tensor:
    """Return the pairwise sigmoid loss, where every pair of the batch is a yes-or-no question.

    Arguments are those of `clip_loss`, but `all_images` is not used: the images scored here meet all texts, so each
    pair of the batch counts once. The sum over pairs is divided by b. Source: arXiv 2303.15343, algorithm 1.
    """
    all_texts = text_features if all_texts is None else all_texts
    logits = logit_scale * image_features @ all_texts.T + logit_bias  # bg
    own = _own(logits, first)
    losses = -F.logsigmoid(torch.where(own, logits, -logits))
    if same is not None:
        losses = losses.masked_fill(same & ~own, 0)
    return losses.sum() / len(logits)


def _own(logits: Tensor, first: int) -> Tensor:
    """Return where an image meets its own text, row i in column first + i: logits bg -> bg."""
    rows, columns = (torch.arange(n, device=logits.device) for n in logits.shape)
    return rows[:, None] + first == columns
