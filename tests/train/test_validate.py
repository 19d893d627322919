"""Validation figures by hand."""

import numpy as np
import pytest
import torch
from torch import Tensor

from zeroshot_cli.errors import DataError
from zeroshot_cli.evaluation.retrieval import Retrieval
from zeroshot_cli.records import SkippedImage
from zeroshot_cli.train.data import Batch
from zeroshot_cli.train.validate import Validation, validate

EAST, NORTH, WEST = torch.eye(3).unbind()
WHERE = {"e": EAST, "n": NORTH, "w": WEST}  # by the first letter of a caption or an image


def batch(*captions: str, images: tuple[str, ...] | None = None, skipped: tuple[SkippedImage, ...] = ()) -> Batch:
    return Batch(np.zeros((len(captions), 1, 1, 3), np.uint8), captions, images or captions, skipped)


def embed(batch: Batch) -> tuple[Tensor, Tensor]:
    """Images and captions look where their first letter says."""
    images, captions = ([WHERE[name[0].lower()] for name in names] for names in (batch.images, batch.captions))
    return torch.stack(images), torch.stack(captions)


def loss_one(images: Tensor, texts: Tensor, batch: Batch) -> Tensor:
    return torch.tensor(1.0)


def test_recall_by_hand() -> None:
    """The third image looks north and its caption west; the fourth looks west, where that caption is the first."""
    pairs = batch("e", "n", "w", "w2", images=("east", "north", "north 2", "west"))
    result = validate([pairs], embed, loss_one)
    assert result.retrieval.image_to_text == {1: 0.5, 5: 1.0, 10: 1.0}
    assert result.retrieval.image_to_text[1] == 0.5
    # From w and w2 the image that looks west is the nearest, and w2's own; the caption w has it before north 2.
    assert result.retrieval.text_to_image == {1: 0.75, 5: 1.0, 10: 1.0}


def test_equal_captions_and_images_are_one_whatever_their_batch() -> None:
    batches = [batch("e", "E", images=("e1", "e2")), batch("n", images=("e1",)), batch("e", images=("n1",))]
    result = validate(batches, embed, loss_one)
    assert (result.retrieval.images, result.retrieval.texts) == (3, 2)
    # e1 and e2 find e, n1 finds n and not e; e finds e1, and n, which is e1's too, finds n1.
    assert result.retrieval.image_to_text[1] == pytest.approx(2 / 3)
    assert result.retrieval.text_to_image[1] == 0.5


def test_a_caption_of_another_case_is_the_same_and_another_space_is_not() -> None:
    assert validate([batch("eins", "EINS", images=("e1", "e2"))], embed, loss_one).retrieval.texts == 1
    assert validate([batch("e x", "e  x", images=("e1", "e2"))], embed, loss_one).retrieval.texts == 2


def test_losses_are_weighed_by_their_rows() -> None:
    losses = {("a", "b", "c"): 1.0, ("d",): 5.0}

    def alike(batch: Batch) -> tuple[Tensor, Tensor]:
        features = torch.stack([EAST] * len(batch.captions))
        return features, features

    result = validate(
        [batch("a", "b", "c"), batch(), batch("d")], alike, lambda i, t, b: torch.tensor(losses[b.captions])
    )
    assert result.loss == pytest.approx((3 * 1.0 + 5.0) / 4)
    assert result.retrieval.image_to_text[1] == 0.25  # all look alike, and the first caption wins


def test_unreadable_images_are_named_once_and_all_of_them_are_an_error() -> None:
    bad, worse = SkippedImage("bad.png", "the file is empty"), SkippedImage("<img>\n.png", "no picture")
    none_left = batch(skipped=(bad, worse, bad))
    result = validate([none_left, batch("e", skipped=(bad,))], embed, loss_one)
    assert result == Validation(
        1.0, Retrieval(dict.fromkeys((1, 5, 10), 1.0), {1: 1.0, 5: 1.0, 10: 1.0}, 1, 1), (bad, worse)
    )
    with pytest.raises(DataError, match=r"none of the 2 images .*bad\.png: the file is empty.*--val"):
        validate([none_left], embed, loss_one)
    with pytest.raises(DataError, match=r"none of the 0 images to validate on can be read; check --val"):
        validate([], embed, loss_one)


def test_a_loss_that_is_no_number_comes_back() -> None:
    """The run ends with advice of its own then."""

    def nan(batch: Batch) -> tuple[Tensor, Tensor]:
        features = torch.full((len(batch.captions), 3), torch.nan)
        return features, features

    result = validate([batch("e", "n")], nan, lambda i, t, b: i.sum())
    assert np.isnan(result.loss)
    assert result.retrieval.image_to_text[1] == 0.0


def test_nothing_keeps_a_graph() -> None:
    weight = torch.ones(3, requires_grad=True)

    def tracked(batch: Batch) -> tuple[Tensor, Tensor]:
        images, texts = embed(batch)
        features = images * weight
        assert not features.requires_grad
        return features, texts

    assert validate([batch("e", "n")], tracked, loss_one).retrieval.image_to_text[1] == 1.0
