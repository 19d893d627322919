"""Retrieval: how often a right text is among the k nearest of an image, and a right image among those of a text.

Legend: n images, m texts, e embedding, p pairs that belong together; q queries, c candidates, in either direction.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from zeroshot_cli.classify.scoring import cosines

RECALL_AT = (1, 5, 10)

_ROWS, _COLUMNS = 1024, 4096  # of the scores that are in memory at once
_PAIRS = 16_384  # whose embeddings are


@dataclass(frozen=True, slots=True)
class Retrieval:
    """Recall@k by k: the share of images with a right text among the k nearest, and of texts with a right image.

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
    """Images ne and texts me, normalised, on the CPU, and which of them belong together -> recall@k for each k of `at`.

    An image may have several texts and a text several images; one that has none is never asked for, but is in the way
    of others. Of equal cosines the lower index is nearer, and one that is no number is nowhere near. A query counts
    once, whether one of its answers is near or all are: the recall of papers on CLIP, and of LAION's CLIP_benchmark
    (clip_benchmark/metrics/zeroshot_retrieval.py). ValueError for no pair, a pair that is not there, a k under 1.
    """
    links = _checked(pairs, len(images), len(texts), at)  # p2
    scores = _scores_of(images, texts, links)  # p
    best_texts = _best(scores, links, len(images))
    best_images = _best(scores, links.flip(1), len(texts))
    text_ranks, image_ranks = (torch.zeros(count, dtype=torch.long) for count in (len(images), len(texts)))  # n, m
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
    """The nearest right answer of each of q queries: its cosine, -inf where there is none, and its index.

    `asked` is whether a query has an answer at all, near or not.
    """

    scores: Tensor
    places: Tensor
    asked: Tensor

    def __getitem__(self, queries: slice) -> "_Best":
        return _Best(self.scores[queries], self.places[queries], self.asked[queries])

    def behind(self, others: Tensor, candidates: slice) -> Tensor:
        """How many of some candidates, wrong ones with cosines qc, are nearer than the answer -> q."""
        own = self.scores[:, None]  # q1
        nearer = others > own
        equal = others == own
        if equal.any():
            nearer |= equal & (torch.arange(candidates.start, candidates.stop) < self.places[:, None])
        return nearer.sum(dim=1)

    def recalls(self, ranks: Tensor, at: Sequence[int]) -> dict[int, float]:
        """The share of queries, of those that are asked, whose answer has a place under k; ranks q."""
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
    """The cosines of pairs, summed and rounded as `cosines` does: links p2 -> p; -inf for what is no number."""
    parts = []
    for part in _slices(len(links), _PAIRS):
        i, j = links[part].T
        parts.append((images[i].double() * texts[j].double()).sum(dim=1).float())
    scores = torch.cat(parts)
    return scores.where(scores.isfinite(), -torch.inf)


def _best(scores: Tensor, links: Tensor, queries: int) -> _Best:
    """The best answer of each query, the first of equal ones: scores p of the links p2 from query to answer."""
    query, answer = links.T
    best = torch.full((queries,), -torch.inf).scatter_reduce(0, query, scores, "amax")
    first = answer.where(scores == best[query], torch.iinfo(torch.long).max)
    places = torch.zeros(queries, dtype=torch.long).scatter_reduce(0, query, first, "amin", include_self=False)
    asked = torch.zeros(queries, dtype=torch.bool).index_fill(0, query, True)
    return _Best(best, places, asked)


def _blocks(images: Tensor, texts: Tensor, links: Tensor) -> Iterator[tuple[slice, slice, Tensor]]:
    """Yield the cosines of all images with all texts, a part at a time, -inf for those that belong together."""
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
