"""The losses that pull an image and its text together; duplicate captions of a batch are not negatives.

All are pure functions.

Where several processes make one batch, each scores its own rows against everyone's, and the mean of their losses is
the loss of the whole batch.

A batch of g pairs has g² logits. They are computed block by block of rows, each with its share of the gradient, and
forgotten: what is in memory grows with g, not with its square.

b rows scored here, r rows of a block, g rows of the whole batch, e embedding
"""

from collections.abc import Callable, Iterator, Sequence
from functools import reduce
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

BLOCK = 2**20  # logits in memory at once: 4 MB in float32, which caches hold
LEAST_ROWS = 64  # of a block: each reads all keys


class Rows(Protocol):
    """A mask bg, or what makes it a few rows at a time."""

    def __getitem__(self, rows: slice, /) -> Tensor:
        """Return some rows, rg."""


def clip_loss(
    image_features: Tensor,
    text_features: Tensor,
    logit_scale: Tensor,
    *,
    same: Rows | None = None,
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
    per_image = _mean(_softmax, (image_features, all_texts, logit_scale), same, first)
    per_text = _mean(_softmax, (text_features, all_images, logit_scale), same, first)
    return (per_image + per_text) / 2


def sigmoid_loss(
    image_features: Tensor,
    text_features: Tensor,
    logit_scale: Tensor,
    logit_bias: Tensor,
    *,
    same: Rows | None = None,
    all_images: Tensor | None = None,
    all_texts: Tensor | None = None,
    first: int = 0,
) -> Tensor:
    """Return the pairwise sigmoid loss, where every pair of the batch is a yes-or-no question.

    Arguments are those of `clip_loss`, but `all_images` is not used: the images scored here meet all texts, so each
    pair of the batch counts once. The sum over pairs is divided by b. Source: arXiv 2303.15343, algorithm 1.
    """
    all_texts = text_features if all_texts is None else all_texts
    return _mean(_sigmoid, (image_features, all_texts, logit_scale, logit_bias), same, first)


def row_blocks(rows: int, columns: int) -> Iterator[slice]:
    """Yield slices of rows that have BLOCK entries between them, but LEAST_ROWS where that has more."""
    size = max(LEAST_ROWS, BLOCK // max(1, columns))
    yield from (slice(start, min(start + size, rows)) for start in range(0, rows, size))


# A block's logits rg and the view r of each row's own: return the sum of its loss, put its gradient in their place.
# A logit of -inf is no negative: it adds nothing to either.
Score = Callable[[Tensor, Tensor], Tensor]


def _softmax(logits: Tensor, own: Tensor) -> Tensor:
    total = logits.logsumexp(dim=1)
    loss = (total - own).sum()
    logits.sub_(total[:, None]).exp_()
    own.sub_(1)
    return loss


def _sigmoid(logits: Tensor, own: Tensor) -> Tensor:
    own.neg_()
    loss = F.softplus(logits, threshold=40).sum()  # over 40 it is the logit, to the last digit of float64
    logits.sigmoid_()
    own.neg_()
    return loss


def _mean(score: Score, given: Sequence[Tensor], same: Rows | None, first: int) -> Tensor:
    """Return the mean loss of queries be against keys ge, in float32 at least, also under autocast.

    `given` are both, then 1 ÷ temperature, and the bias if there is one.
    """
    queries, _, scale, *bias = given
    given = (*given, *([] if bias else [torch.zeros_like(scale)]))
    if not torch.is_grad_enabled():  # else the gradient would be computed for a temperature that wants one
        given = tuple(tensor.detach() for tensor in given)
    dtype = reduce(torch.promote_types, (tensor.dtype for tensor in given), torch.float32)
    with torch.autocast(queries.device.type, enabled=False):
        total: Tensor = _Blocks.apply(score, same, first, *(tensor.to(dtype) for tensor in given))
    return total / len(queries)


class _Blocks(torch.autograd.Function):
    """The sum of a loss over blocks of rows; its gradient is computed along with it, from the same logits."""

    @staticmethod
    def forward(ctx: Any, score: Score, same: Rows | None, first: int, *given: Tensor) -> Tensor:
        queries, keys, scale, bias = given
        total = torch.zeros_like(scale)
        gradients = [torch.zeros_like(tensor) for tensor in given] if any(ctx.needs_input_grad) else []
        for rows in row_blocks(len(queries), len(keys)):
            scaled = scale * queries[rows]
            logits = torch.addmm(bias, scaled, keys.T)  # rg
            own = logits.diagonal(first + rows.start)
            if same is not None:
                kept = own.clone()
                logits.masked_fill_(same[rows], float("-inf"))
                own.copy_(kept)
            total += score(logits, own)
            if gradients:
                for_scaled = logits @ keys
                gradients[0][rows] = scale * for_scaled
                gradients[1].addmm_(logits.T, scaled)
                gradients[2] += (for_scaled * queries[rows]).sum()
                gradients[3] += logits.sum()
        ctx.save_for_backward(*gradients)
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        return None, None, None, *(gradient * saved for saved in ctx.saved_tensors)
