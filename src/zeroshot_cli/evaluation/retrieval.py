"""Retrieval: how often a model finds the right texts of images, and the right images of texts."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from zeroshot_cli.classify.scoring import cosines
from zeroshot_cli.datasets.captioned import CaptionedImages
from zeroshot_cli.embed.prompt_ensemble import OnProgress, class_embeddings
from zeroshot_cli.embed.texts import TextCache
from zeroshot_cli.errors import CheckpointError, DataError
from zeroshot_cli.evaluation.classification import Item, Pipeline
from zeroshot_cli.evaluation.metrics import Interval, wilson
from zeroshot_cli.models.loaded import LoadedModel
from zeroshot_cli.records import SkippedImage
from zeroshot_cli.words.labels import Label
from zeroshot_cli.words.prompts import Prompts

MAIN_METRIC = "image_to_text_recall@1"
RECALL_AT = (1, 5, 10)

_ROWS, _COLUMNS = 1024, 4096  # of the scores that are in memory at once
_PAIRS = 16_384  # whose embeddings are in memory at once


@dataclass(frozen=True, slots=True)
class RetrievalFigures:
    """Recall@1, 5 and 10 in both directions with their 95 % intervals, by name; images and texts to choose from.

    `image_to_text_recall@k` is the fraction of images that have one of their texts among the k nearest, and
    `text_to_image_recall@k` that of texts; CLIP_benchmark calls them text_retrieval_recall@k and
    image_retrieval_recall@k. `skipped` images could not be read, and take no part, nor do their texts.
    """

    metrics: dict[str, float]
    intervals: dict[str, Interval]
    images: int
    texts: int
    skipped: tuple[SkippedImage, ...] = ()


def evaluate_retrieval(
    model: LoadedModel,
    captioned: CaptionedImages,
    pipeline: Pipeline | None = None,
    *,
    template: Prompts | None = None,
    text_cache: TextCache | None = None,
    on_progress: OnProgress | None = None,
) -> RetrievalFigures:
    """Return how often a model finds the right texts of images, and the right images of texts.

    Texts are encoded as they are, or put into the templates of `template` and averaged. `on_progress` gets the number
    of texts done and of all texts. Of equal cosines the lower index is nearer. Raises DataError where no image can be
    read, CheckpointError for embeddings that are not finite.
    """
    items, images = (pipeline or Pipeline()).embed_all(model, captioned.items)
    read = _without_unread(captioned, items)
    prompts = template.fill(map(Label, read.texts)) if template else tuple((text,) for text in read.texts)
    texts = class_embeddings(model, prompts, cache=text_cache, on_progress=on_progress)
    if not texts.isfinite().all():
        raise CheckpointError(
            f"{model.name}: its text embeddings are not finite numbers; try --precision fp32 instead of "
            f"{model.precision}, or other weights"
        )
    found = retrieval(torch.from_numpy(images), texts, read.pairs)
    asked = {"image_to_text": len({image for image, _ in read.pairs}), "text_to_image": len({t for _, t in read.pairs})}
    metrics: dict[str, float] = {}
    intervals: dict[str, Interval] = {}
    for direction, recalls in (("image_to_text", found.image_to_text), ("text_to_image", found.text_to_image)):
        for k, recall in recalls.items():
            metrics[f"{direction}_recall@{k}"] = recall
            intervals[f"{direction}_recall@{k}"] = wilson(round(recall * asked[direction]), asked[direction])
    skipped = tuple(item for item in items if isinstance(item, SkippedImage))
    return RetrievalFigures(metrics, intervals, len(images), len(read.texts), skipped)


def _without_unread(captioned: CaptionedImages, items: Sequence[Item]) -> CaptionedImages:
    """Return the data set without images that could not be read, and without texts that no other image has."""
    image_of = {
        place: number for number, place in enumerate(i for i, item in enumerate(items) if isinstance(item, str))
    }
    if not any(image in image_of for image, _ in captioned.pairs):
        first = next((item for item in items if isinstance(item, SkippedImage)), None)
        why = f"; the first, {first.path}: {first.reason}" if first else ""
        raise DataError(f"{captioned.name}: none of its {len(captioned)} images with a caption can be read{why}")
    had = {text for _, text in captioned.pairs}
    have = {text for image, text in captioned.pairs if image in image_of}
    kept = [place for place in range(len(captioned.texts)) if place in have or place not in had]
    text_of = {place: number for number, place in enumerate(kept)}
    return CaptionedImages(
        captioned.name,
        tuple(item for item in items if isinstance(item, str)),
        tuple(captioned.texts[place] for place in kept),
        tuple((image_of[image], text_of[text]) for image, text in captioned.pairs if image in image_of),
    )


@dataclass(frozen=True, slots=True)
class Retrieval:
    """Recall@k by k: the fraction of images with a right text among the k nearest, and of texts with a right image.

    `images` and `texts` are how many there were to choose from.
    """

    image_to_text: dict[int, float]
    text_to_image: dict[int, float]
    images: int
    texts: int


@torch.no_grad()
def retrieval(
    images: Tensor, texts: Tensor, pairs: Sequence[tuple[int, int]], *, at: Sequence[int] = RECALL_AT
) -> Retrieval:
    """Return recall@k, for each k of `at`, of images and texts and the pairs of them that belong together.

    `images` (images, embedding) and `texts` (texts, embedding) are normalised and on the CPU. An image may have several
    texts and a text several images; one without a partner is never a query, but is in the way of others. Of equal
    cosines the lower index is nearer; NaN is nowhere near. A query counts once, whether one of its answers is near or
    all are, as in papers on CLIP and in LAION's CLIP_benchmark (clip_benchmark/metrics/zeroshot_retrieval.py).
    Raises ValueError for no pair, a pair that does not exist, or k under 1.
    """
    links = _checked(pairs, len(images), len(texts), at)
    scores = _scores_of(images, texts, links)
    best_texts = _best(scores, links, len(images))
    best_images = _best(scores, links.flip(1), len(texts))
    text_ranks, image_ranks = (torch.zeros(count, dtype=torch.long) for count in (len(images), len(texts)))
    for rows, columns, others in _blocks(images, texts, links):
        text_ranks[rows] += best_texts[rows].behind(others, columns)
        image_ranks[columns] += best_images[columns].behind(others.T, rows)
    return Retrieval(
        image_to_text=best_texts.recalls(text_ranks, at),
        text_to_image=best_images.recalls(image_ranks, at),
        images=len(images),
        texts=len(texts),
    )


@dataclass(frozen=True, slots=True)
class _Best:
    """The nearest right answer of each query: its cosine, -inf where there is none, and its index.

    `asked` is whether a query has an answer at all, near or not. All are (queries,).
    """

    scores: Tensor
    places: Tensor
    asked: Tensor

    def __getitem__(self, queries: slice) -> "_Best":
        return _Best(self.scores[queries], self.places[queries], self.asked[queries])

    def behind(self, others: Tensor, candidates: slice) -> Tensor:
        """Return how many wrong candidates, of cosines `others` (queries, candidates), are nearer than the answer."""
        own = self.scores[:, None]
        nearer = others > own
        equal = others == own
        if equal.any():
            nearer |= equal & (torch.arange(candidates.start, candidates.stop) < self.places[:, None])
        return nearer.sum(dim=1)

    def recalls(self, ranks: Tensor, at: Sequence[int]) -> dict[int, float]:
        """Return the fraction of asked queries whose answer has a rank under k; `ranks` are (queries,)."""
        found = self.scores.isfinite()
        return {k: float(((ranks < k) & found)[self.asked].double().mean()) for k in at}


def _checked(pairs: Sequence[tuple[int, int]], images: int, texts: int, at: Sequence[int]) -> Tensor:
    links = torch.from_numpy(np.array(pairs, dtype=np.int64).reshape(-1, 2))
    if not len(links):
        raise ValueError("no image and text belong together, so there is no figure")
    if links.min() < 0 or (links.amax(dim=0) >= torch.tensor([images, texts])).any():
        raise ValueError(f"pairs must be indices under {images} for images and under {texts} for texts")
    if min(at, default=1) < 1:
        raise ValueError(f"k must be 1 or more, not {min(at)}")
    return links


def _scores_of(images: Tensor, texts: Tensor, links: Tensor) -> Tensor:
    """Return the cosines (pairs,) of links (pairs, 2), summed and rounded as `cosines` does; -inf for NaN."""
    parts = []
    for part in _slices(len(links), _PAIRS):
        i, j = links[part].T
        parts.append((images[i].double() * texts[j].double()).sum(dim=1).float())
    scores = torch.cat(parts)
    return scores.where(scores.isfinite(), -torch.inf)


def _best(scores: Tensor, links: Tensor, queries: int) -> _Best:
    """Return the best answer of each query, the first of equal ones: scores (pairs,) of links from query to answer."""
    query, answer = links.T
    best = torch.full((queries,), -torch.inf).scatter_reduce(0, query, scores, "amax")
    first = answer.where(scores == best[query], torch.iinfo(torch.long).max)
    places = torch.zeros(queries, dtype=torch.long).scatter_reduce(0, query, first, "amin", include_self=False)
    asked = torch.zeros(queries, dtype=torch.bool).index_fill(0, query, True)
    return _Best(best, places, asked)


def _blocks(images: Tensor, texts: Tensor, links: Tensor) -> Iterator[tuple[slice, slice, Tensor]]:
    """Yield the cosines of all images with all texts, a block at a time, -inf for pairs that belong together."""
    for rows in _slices(len(images), _ROWS):
        near = links[_within(links[:, 0], rows)]
        for columns in _slices(len(texts), _COLUMNS):
            own = near[_within(near[:, 1], columns)]
            scores = torch.from_numpy(cosines(images[rows], texts[columns]))
            scores[own[:, 0] - rows.start, own[:, 1] - columns.start] = -torch.inf
            yield rows, columns, scores


def _slices(length: int, size: int) -> Iterator[slice]:
    for start in range(0, length, size):
        yield slice(start, min(start + size, length))


def _within(index: Tensor, part: slice) -> Tensor:
    within: Tensor = (index >= part.start) & (index < part.stop)
    return within
