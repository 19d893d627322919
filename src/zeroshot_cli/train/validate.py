"""What a model makes of pairs that it is not trained on."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from zeroshot_cli.errors import DataError
from zeroshot_cli.records import SkippedImage
from zeroshot_cli.train.data import Batch


@dataclass(frozen=True, slots=True)
class Validation:
    """Loss and retrieval on the validation pairs; `recall_at_1` is the share of images nearest to their own caption.

    `skipped` are the images that could not be read and take no part.
    """

    loss: float
    recall_at_1: float
    skipped: tuple[SkippedImage, ...] = ()


Embed = Callable[[Batch], tuple[Tensor, Tensor]]
LossOf = Callable[[Tensor, Tensor, Batch], Tensor]


@torch.no_grad()
def validate(batches: Iterable[Batch], embed: Embed, loss_of: LossOf) -> Validation:
    """Embed all batches, then score them: the mean loss over batches, weighed by rows, and recall@1 over all rows.

    Raises DataError where no image can be read.
    """
    images: list[Tensor] = []
    texts: list[Tensor] = []
    captions: list[str] = []
    losses: list[float] = []
    skipped: list[SkippedImage] = []
    for batch in batches:
        skipped.extend(batch.skipped)
        if not batch.captions:
            continue
        image_features, text_features = embed(batch)
        losses.append(float(loss_of(image_features, text_features, batch)) * len(batch.captions))
        images.append(image_features.float().cpu())
        texts.append(text_features.float().cpu())
        captions.extend(batch.captions)
    if not captions:
        first = f" (the first, {skipped[0].path}: {skipped[0].reason})" if skipped else ""
        raise DataError(f"none of the {len(skipped)} images to validate on can be read{first}; check --val")
    recall = recall_at_1(torch.cat(images), torch.cat(texts), captions)
    return Validation(sum(losses) / len(captions), recall, tuple(skipped))


def recall_at_1(image_features: Tensor, text_features: Tensor, captions: Sequence[str]) -> float:
    """Share of images whose nearest text, among all different captions, is their own: features ne, normalised."""
    first_row: dict[str, int] = {}
    for row, caption in enumerate(captions):
        first_row.setdefault(caption, row)
    column = {caption: column for column, caption in enumerate(first_row)}
    own = torch.tensor([column[caption] for caption in captions])
    texts = text_features[list(first_row.values())]
    nearest = torch.cat([(chunk @ texts.T).argmax(dim=1) for chunk in torch.split(image_features, 1024)])
    return float((nearest == own).float().mean())
