"""Validation figures by hand."""

import numpy as np
import pytest
import torch
from torch import Tensor

from zeroshot_cli.errors import DataError
from zeroshot_cli.records import SkippedImage
from zeroshot_cli.train.data import Batch
from zeroshot_cli.train.validate import Validation, recall_at_1, validate

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


def test_unreadable_images_are_named_and_all_of_them_are_an_error() -> None:
    bad = SkippedImage("bad.png", "the file is empty")
    none_left = Batch(np.empty((0, 1, 1, 3), np.uint8), (), (), (bad,))
    features = EAST[None]
    result = validate([none_left, batch("a")], lambda b: (features, features), lambda i, t, b: torch.tensor(1.0))
    assert result == Validation(1.0, 1.0, (bad,))
    with pytest.raises(DataError, match=r"none of the 1 images .*bad\.png: the file is empty.*--val"):
        validate([none_left], lambda b: (features, features), lambda i, t, b: EAST)
