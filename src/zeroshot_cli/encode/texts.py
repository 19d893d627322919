"""Class embeddings: the mean of a class's normalised prompt embeddings, normalised again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

    from zeroshot_cli.weights.loaded import LoadedModel


def class_embeddings(model: LoadedModel, prompts: Sequence[Sequence[str]], *, batch_size: int = 256) -> Tensor:
    """One embedding a class from its prompts; c classes -> ce, normalised, float32.

    Source: arXiv 2103.00020, section 3.1.4, prompt ensembling in embedding space.
    """
    import torch
    from torch.nn import functional as F

    texts = [text for prompts_of_class in prompts for text in prompts_of_class]
    embeddings = torch.cat(
        [model.encode_texts(texts[start : start + batch_size]) for start in range(0, len(texts), batch_size)]
    )
    sizes = [len(texts_of_class) for texts_of_class in prompts]
    means = [rows.mean(dim=0) for rows in embeddings.split_with_sizes(sizes)]
    return F.normalize(torch.stack(means), dim=-1)
