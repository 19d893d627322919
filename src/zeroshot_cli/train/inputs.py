"""A batch as the model and the loss take it.

b batch, s sequence
"""

import hashlib
import warnings
from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor

from zeroshot_cli.clip.tokenizer import Tokenizer, TruncatedTextWarning
from zeroshot_cli.images.preprocess import Preprocess, PreprocessConfig
from zeroshot_cli.train.data import Batch, Pixels

Chunk = tuple[Tensor, Tensor]  # images b3hw, tokens bs


class Inputs:
    """Batches to what the model takes, on its device."""

    def __init__(
        self, tokenizer: Tokenizer, preprocess: PreprocessConfig, device: torch.device, layout: torch.memory_format
    ) -> None:
        self.preprocess = Preprocess(preprocess)
        self.tokenizer, self.device, self.layout = tokenizer, device, layout

    def __call__(self, batch: Batch, rows: slice = slice(None)) -> Chunk:
        """The images and tokens of some rows."""
        return self.images(batch.pixels[rows]), trimmed(self.tokenizer, batch.captions[rows]).to(self.device)

    def images(self, pixels: Pixels) -> Tensor:
        """Normalise pixels (batch, height, width, 3), uint8, to (batch, 3, height, width), float32."""
        return self.preprocess.normalise(torch.from_numpy(pixels).to(self.device), self.layout)

    def chunks(self, batch: Batch, size: int | None) -> list[Callable[[], Chunk]]:
        """The batch in parts of `size` rows, each made when it is asked for."""
        rows = len(batch.captions)
        size = size or rows
        return [partial(self, batch, slice(start, start + size)) for start in range(0, rows, size)]


def trimmed(tokenizer: Tokenizer, captions: Sequence[str]) -> Tensor:
    """Tokens bs, s the longest text of the batch: exact, for nothing after the end of a text changes its embedding."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", TruncatedTextWarning)  # the run has counted them
        sequences = tokenizer.sequences(captions)
    longest = max(map(len, sequences))
    return torch.tensor([ids + [0] * (longest - len(ids)) for ids in sequences])


def pair_ids(batch: Batch) -> Tensor:
    """A number for each row's caption, whatever its case, and one for its image: b2."""
    rows = zip(batch.captions, batch.images, strict=True)
    return torch.tensor([[_number(caption.casefold()), _number(image)] for caption, image in rows]).view(-1, 2)


def same_pairs(ids: Tensor, others: Tensor) -> Tensor:
    """Which rows have the same caption or the same image: ids b2, others g2 -> bg, true where a row meets itself."""
    return (ids[:, None] == others).any(dim=-1)


def _number(text: str) -> int:
    """64 bits that are the same in every process: two of a million captions meet with a chance of one in 10⁷."""
    digest = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "little", signed=True)
