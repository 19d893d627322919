"""What a model makes of pairs that it is not trained on."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from zeroshot_cli.errors import DataError
from zeroshot_cli.evaluation.retrieval import Retrieval, retrieval
from zeroshot_cli.records import SkippedImage
from zeroshot_cli.train.data import Batch


@dataclass(frozen=True, slots=True)
class Validation:
    """Loss and retrieval on the validation pairs; `skipped` are the images that could not be read, and take no part."""

    loss: float
    retrieval: Retrieval
    skipped: tuple[SkippedImage, ...] = ()


Embed = Callable[[Batch], tuple[Tensor, Tensor]]
LossOf = Callable[[Tensor, Tensor, Batch], Tensor]


@torch.no_grad()
def validate(batches: Iterable[Batch], embed: Embed, loss_of: LossOf) -> Validation:
    """Embed all batches, then score them: the mean loss over batches, weighed by rows, and retrieval over all rows.

    Rows of one image, or of captions that differ in case alone, are one image or text with several answers. Raises
    DataError where no image can be read.
    """
    images, texts = _Distinct(), _Distinct()
    pairs: list[tuple[int, int]] = []
    losses: list[float] = []
    skipped: dict[SkippedImage, None] = {}
    for batch in batches:
        skipped |= dict.fromkeys(batch.skipped)
        if not batch.captions:
            continue
        image_features, text_features = embed(batch)
        losses.append(float(loss_of(image_features, text_features, batch)) * len(batch.captions))
        own_images = images.add(batch.images, image_features)
        own_texts = texts.add([caption.casefold() for caption in batch.captions], text_features)
        pairs.extend(zip(own_images, own_texts, strict=True))
    if not pairs:
        raise _none_left(tuple(skipped))
    found = retrieval(images.features(), texts.features(), pairs)
    return Validation(sum(losses) / len(pairs), found, tuple(skipped))


@dataclass(slots=True)
class _Distinct:
    """The embeddings of different images or texts, in the order in which they come."""

    numbers: dict[str, int] = field(default_factory=dict)
    parts: list[Tensor] = field(default_factory=list)

    def add(self, keys: Sequence[str], features: Tensor) -> list[int]:
        """Keep the rows be of keys that are new; return the number of each key."""
        new = []
        for row, key in enumerate(keys):
            if key not in self.numbers:
                self.numbers[key] = len(self.numbers)
                new.append(row)
        self.parts.append(features[new].float().cpu())
        return [self.numbers[key] for key in keys]

    def features(self) -> Tensor:
        return torch.cat(self.parts)


def _none_left(skipped: Sequence[SkippedImage]) -> DataError:
    first = f" (the first, {skipped[0].path}: {skipped[0].reason})" if skipped else ""
    return DataError(f"none of the {len(skipped)} images to validate on can be read{first}; check --val")
