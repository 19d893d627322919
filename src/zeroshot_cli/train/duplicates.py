"""Duplicate captions and images in a batch: rows that have one in common are not negatives of each other."""

import hashlib

import torch
from torch import Tensor

from zeroshot_cli.train.config import Loss
from zeroshot_cli.train.data import Batch


def pair_ids(batch: Batch) -> Tensor:
    """Return (batch, 2): a number for each row's caption, in any case, or its class, and one for its image."""
    rows = zip(batch.meanings or batch.captions, batch.images, strict=True)
    return torch.tensor([[_number(caption.casefold()), _number(image)] for caption, image in rows]).view(-1, 2)


def same_pairs(ids: Tensor, others: Tensor) -> Tensor:
    """Return (rows, others): whether a row has the caption or the image of another, which is then no negative of it.

    A row matches itself.
    """
    return (ids[:, None] == others).any(dim=-1)


def guessing(loss: Loss, ids: Tensor, others: Tensor) -> float:
    """Return the lowest mean loss of a model that tells no pair of a batch from another; `ids` are rows of `others`.

    A row with n negatives is one of n + 1: that costs log(n + 1), and as yes-or-no questions (n + 1) times the entropy
    of 1 in n + 1.
    """
    choices = 1 + (~same_pairs(ids, others)).sum(dim=1).double()
    cost = choices.log()
    if loss is Loss.SIGMOID:
        rest = choices - 1
        cost = cost + torch.where(rest > 0, rest * (choices / rest.clamp(min=1)).log(), 0.0)
    return float(cost.mean())


def _number(text: str) -> int:
    """Return 64 bits that are the same in every process: two of a million texts collide with a probability of 10⁻⁷."""
    digest = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "little", signed=True)
