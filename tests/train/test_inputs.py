"""What becomes of a batch before the model and the loss see it."""

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional as F

from zeroshot_cli.clip import loss
from zeroshot_cli.clip.config import CBOWConfig, CLIPConfig, TextTransformerConfig, VisionTransformerConfig
from zeroshot_cli.clip.model import CLIP
from zeroshot_cli.images.preprocess import Preprocess, PreprocessConfig
from zeroshot_cli.models.tokenizers import tokenizer_for
from zeroshot_cli.train.data import Batch
from zeroshot_cli.train.step import Inputs, Same, pair_ids, same_pairs, trimmed

TEXTS = ["a photo of a cat", "cat", "", "two dogs, and 3 birds!"]


def test_pixels_are_normalised_as_for_classify() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (3, 8, 8, 3), dtype=np.uint8)
    config = PreprocessConfig(size=8)
    expected = torch.stack([Preprocess(config)(Image.fromarray(image)) for image in pixels])
    for layout in (torch.contiguous_format, torch.channels_last):
        tokenizer = tokenizer_for(vocab_size=900, context_length=40)
        ours = Inputs(tokenizer, config, torch.device("cpu"), layout).images(pixels)
        assert ours.is_contiguous(memory_format=layout)
        torch.testing.assert_close(ours, expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("text", ["transformer", "cbow"])
def test_trimmed_texts_have_the_same_embeddings(text: str) -> None:
    torch.manual_seed(0)
    sizes = {"width": 16, "context_length": 40, "vocab_size": 900}
    config = CLIPConfig(
        embed_dim=8,
        vision=VisionTransformerConfig(image_size=8, patch_size=8, width=16, layers=1, head_width=8),
        text=CBOWConfig(**sizes) if text == "cbow" else TextTransformerConfig(**sizes, heads=2, layers=2),
    )
    model, tokenizer = CLIP(config).eval(), tokenizer_for(vocab_size=900, context_length=40)
    short, whole = trimmed(tokenizer, TEXTS), tokenizer(TEXTS)
    assert short.shape[1] == max(len(ids) for ids in tokenizer.sequences(TEXTS)) < 40
    assert torch.equal(short, whole[:, : short.shape[1]])
    with torch.no_grad():
        torch.testing.assert_close(
            F.normalize(model.encode_text(short), dim=-1), F.normalize(model.encode_text(whole), dim=-1)
        )


def test_rows_with_one_caption_or_one_image_are_the_same() -> None:
    batch = Batch(np.zeros((4, 1, 1, 3), np.uint8), ("Cat", "dog", "cat", "pup"), ("1", "2", "3", "2"))
    ids = pair_ids(batch)
    assert same_pairs(ids, ids).int().tolist() == [[1, 0, 1, 0], [0, 1, 0, 1], [1, 0, 1, 0], [0, 1, 0, 1]]
    assert same_pairs(ids[1:2], ids).int().tolist() == [[0, 1, 0, 1]]


def test_negatives_are_counted_by_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """By hand: four rows here of six; texts at 0, 20, 90, 180, 185 and 270 degrees, alike over a cosine of 0.9."""
    monkeypatch.setattr(loss, "BLOCK", 13)  # two rows of six
    monkeypatch.setattr(loss, "LEAST_ROWS", 1)
    ids = torch.tensor([[1, 1], [2, 2], [3, 3], [4, 4], [5, 5], [6, 1]])
    angles = torch.deg2rad(torch.tensor([0.0, 20.0, 90.0, 180.0, 185.0, 270.0]))
    texts = torch.stack([angles.cos(), angles.sin()], dim=1)
    assert Same(ids, texts, slice(2, 6), None).negatives().tolist() == [5, 5, 5, 4]
    same = Same(ids, texts, slice(2, 6), 0.9)
    assert same.negatives().tolist() == [5, 4, 4, 4]
    assert same[1:3].int().tolist() == [[0, 0, 0, 1, 1, 0], [0, 0, 0, 1, 1, 0]]
    assert len(same[:]) == len(same) == 4


def test_chunks_are_the_batch_cut_into_pieces() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (5, 8, 8, 3), dtype=np.uint8)
    batch = Batch(pixels, ("a", "b", "c c c c", "d", "e"), ("1", "2", "3", "4", "5"))
    tokenizer = tokenizer_for(vocab_size=900, context_length=40)
    inputs = Inputs(tokenizer, PreprocessConfig(size=8), torch.device("cpu"), torch.contiguous_format)
    images, tokens = zip(*(chunk() for chunk in inputs.chunks(batch, 2)), strict=True)
    assert [len(part) for part in images] == [2, 2, 1]
    assert torch.equal(torch.cat(images), inputs(batch)[0])
    assert [part.shape[1] for part in tokens] == [3, 6, 3]  # each as wide as its longest text
    assert len(inputs.chunks(batch, None)) == 1
