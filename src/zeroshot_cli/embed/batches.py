"""Put images into batches of one shape, padded with black rows, and give them to the model.

With one shape an image's embedding does not depend on its neighbours, so cached, resumed and uninterrupted runs agree
to the bit.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from zeroshot_cli.clip.efficientnet import EfficientNet
from zeroshot_cli.clip.resnet import ModifiedResNet
from zeroshot_cli.models.loaded import LoadedModel

_AUTO_BATCH = {"cpu": 32, "cuda": 128, "mps": 32}
_CONVOLUTIONS = {ModifiedResNet: 16, EfficientNet: 8}  # on the CPU: their activations are large, and leave the cache
_EFFICIENTNET_FP32 = 4  # as fast as 8, in 50 MB less


def auto_batch_size(images: int | None, model: LoadedModel) -> int:
    """Return the batch size that `--batch-size auto` stands for: 32 on a CPU, 128 on CUDA.

    On a CPU it is 16 for ResNets, 8 for EfficientNets, and 4 for EfficientNets in float32.

    Batches are padded to one shape, so three images at 32 would cost ten times their worth: a known number of images
    gives the next power of two, where that is less. None is an unknown number.
    """
    most = _AUTO_BATCH.get(model.device.type, 32)
    if model.device.type == "cpu":
        tower = getattr(model.model, "visual", None)
        most = _CONVOLUTIONS.get(type(tower), most)
        if isinstance(tower, EfficientNet) and model.precision == "fp32":
            most = _EFFICIENTNET_FP32
    return most if images is None else min(most, 1 << max(images - 1, 0).bit_length())


def padded_rows(batch_size: int) -> int:
    """Return the rows of a batch: 1, 4, or a multiple of 8, which matrix products treat all alike.

    With other numbers of rows MKL rounds the last ones differently from the first, so an image's embedding would depend
    on its place.
    """
    return batch_size if batch_size == 1 else 4 if batch_size <= 4 else -(-batch_size // 8) * 8


class PaddedBatches:
    """A model, and the one shape of batch that it gets: `size` images in `rows` rows."""

    def __init__(self, model: LoadedModel, size: int) -> None:
        self.model, self.size, self.rows = model, size, padded_rows(size)
        self._pinned = model.device.type == "cuda" and torch.cuda.is_available()

    def start(self, images: Sequence[bytes]) -> Callable[[], Tensor] | None:
        """Give the model the pixels of at most `size` images; None where there is none.

        Return what waits for the embeddings (rows, embedding), which begin with those of the images.
        """
        if not images:
            return None
        shape = (self.rows, *self.model.preprocess.config.height_width, 3)
        batch = torch.zeros(shape, dtype=torch.uint8, pin_memory=self._pinned)
        for row, pixels in zip(batch, images, strict=False):
            row.copy_(torch.frombuffer(bytearray(pixels), dtype=torch.uint8).view(row.shape))
        embeddings = self.model.encode_pixels(batch)
        return _copied(embeddings) if self._pinned else embeddings.cpu


def _copied(embeddings: Tensor) -> Callable[[], Tensor]:
    """Start to copy embeddings from the GPU; return what waits for this copy, and for nothing after it."""
    host = torch.empty(embeddings.shape, pin_memory=True)
    host.copy_(embeddings, non_blocking=True)
    done = torch.cuda.Event()  # type: ignore[no-untyped-call]
    done.record()

    def wait() -> Tensor:
        done.synchronize()
        return host

    return wait
