"""Validation figures by hand."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from zeroshot_cli.train.data import Batch
from zeroshot_cli.train.validate import recall_at_1, validate

EAST, NORTH, WEST = torch.eye(3).unbind()


def batch(*captions: str) -> Batch:
    return Batch(np.zeros((len(captions), 1, 1, 3), np.uint8), captions, captions)


def test_recall_by_hand() -> None:
    images = torch.stack([EAST, NORTH, NORTH, WEST])
    texts = torch.stack([EAST, NORTH, WEST, WEST])
    assert (
        recall_at_1(images, texts, ["e", "n", "w", "w2"]) == 0.5
    )  # the third looks north; the fourth ties, w is first


def test_equal_captions_are_one() -> None:
    images = torch.stack([EAST, EAST, NORTH])
    texts = torch.stack([EAST, EAST, EAST])
    assert recall_at_1(images, texts, ["e", "e", "e"]) == 1.0


def test_losses_are_weighed_by_their_rows() -> None:
    losses = {("a", "b", "c"): 1.0, ("d",): 5.0}

    def embed(batch: Batch) -> tuple[Tensor, Tensor]:
        features = torch.stack([EAST] * len(batch.captions))
        return features, features

    result = validate(
        [batch("a", "b", "c"), batch(), batch("d")], embed, lambda i, t, b: torch.tensor(losses[b.captions])
    )
    assert result.loss == pytest.approx((3 * 1.0 + 5.0) / 4)
    assert result.recall_at_1 == 0.25  # all look alike, and the first caption wins


def test_nothing_to_validate_is_no_number() -> None:
    assert math.isnan(validate([batch()], lambda b: (EAST, EAST), lambda i, t, b: EAST).recall_at_1)
