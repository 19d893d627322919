"""A batch as the model and the loss take it.

b batch, s sequence
"""

import warnings
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from zeroshot_cli.clip.tokenizer import Tokenizer, TruncatedTextWarning
from zeroshot_cli.preprocess import PreprocessConfig
from zeroshot_cli.train.data import Batch, Pixels


class Normalise:
    """Pixels (b, h, w, 3) uint8 to what the model takes, b3hw float32, on its device."""

    def __init__(self, preprocess: PreprocessConfig, device: torch.device, layout: torch.memory_format) -> None:
        self.mean = 255 * torch.tensor(preprocess.mean, device=device)[:, None, None]
        self.std = 255 * torch.tensor(preprocess.std, device=device)[:, None, None]
        self.device, self.layout = device, layout

    def __call__(self, pixels: Pixels) -> Tensor:
        images = torch.from_numpy(pixels).to(self.device).permute(0, 3, 1, 2).float()
        return images.sub_(self.mean).div_(self.std).contiguous(memory_format=self.layout)


def trimmed(tokenizer: Tokenizer, captions: Sequence[str]) -> Tensor:
    """Tokens bs, s the longest text of the batch: exact, for nothing after the end of a text changes its embedding."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", TruncatedTextWarning)  # the run has counted them
        sequences = tokenizer.sequences(captions)
    longest = max(map(len, sequences))
    return torch.tensor([ids + [0] * (longest - len(ids)) for ids in sequences])


def too_long(tokenizer: Tokenizer, captions: Iterable[str]) -> list[str]:
    """The captions, each once, that lose their end: they have more tokens than the model reads."""
    room = tokenizer.context_length - 2  # start and end of text
    longer = (text for text in dict.fromkeys(captions) if len(text.encode("utf-8", "surrogatepass")) > room)
    return [text for text in longer if len(tokenizer.encode(text)) > room]  # a token has a byte or more


def same_pairs(batch: Batch) -> Tensor:
    """Which rows of a batch have the same caption, whatever its case, or the same image: bb, true on the diagonal."""
    captions, images = _numbered(caption.casefold() for caption in batch.captions), _numbered(batch.images)
    return (captions[:, None] == captions) | (images[:, None] == images)


def _numbered(texts: Iterable[str]) -> Tensor:
    numbers: dict[str, int] = {}
    return torch.tensor([numbers.setdefault(text, len(numbers)) for text in texts])
