"""Average the prompts of a class: the mean of its normalised prompt embeddings, normalised again.

An embedding depends on what else is encoded with it: by 1e-7 in float32, by 1e-3 in lower precisions. So below float32
the cache keeps the embeddings of a whole call, by all its prompts, and a call that differs in one of them is computed
anew: what is cached is what would have been computed.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import islice

import torch
from torch import Tensor
from torch.nn import functional as F

from zeroshot_cli.documents import hash_of
from zeroshot_cli.embed.texts import WINDOW, TextCache, embed_texts, one_warning, warn_of_long
from zeroshot_cli.models.loaded import LoadedModel

_CLASS = "\0class "  # what a class's entry in the cache begins with, and no prompt that means anything

OnProgress = Callable[[int, int], None]


def class_embeddings(
    model: LoadedModel,
    prompts: Sequence[Sequence[str]],
    *,
    on_progress: OnProgress | None = None,
    cache: TextCache | None = None,
) -> Tensor:
    """Return one embedding a class from its prompts: (classes, embedding), normalised, float32.

    A prompt that occurs twice is encoded once and counts twice. `on_progress` gets how many different prompts are done
    and how many there are. What `cache` knows, a class or a prompt, is not encoded. ValueError for a class without a
    prompt, or no class. Source: arXiv 2103.00020, section 3.1.4, prompt ensembling in embedding space.
    """
    if not prompts or not all(prompts):
        raise ValueError("every class needs a prompt, and there must be a class")
    with one_warning():
        return _class_embeddings(model, prompts, on_progress, cache)


def _class_embeddings(
    model: LoadedModel, prompts: Sequence[Sequence[str]], on_progress: OnProgress | None, cache: TextCache | None
) -> Tensor:
    if cache is None:
        return _ensembled(model, prompts, on_progress, None)
    exact = model.text_precision == "fp32"

    def on_known(places: list[int]) -> None:
        warn_of_long(model, list(dict.fromkeys(text for place in places for text in prompts[place])))

    def encode(places: list[int]) -> Tensor:
        return _ensembled(model, [prompts[place] for place in places], on_progress, cache if exact else None)

    names = _names(prompts) if exact else _names_in_company(prompts)
    return cache.complete(model, names, encode, on_known=on_known, together=not exact)


def _names(prompts: Sequence[Sequence[str]]) -> list[str]:
    return [_CLASS + json.dumps(list(texts)) for texts in prompts]


def _names_in_company(prompts: Sequence[Sequence[str]]) -> list[str]:
    """Return a name for each class that depends on its place and on all prompts of the call."""
    call = hash_of([list(texts) for texts in prompts])
    return [f"{_CLASS}{index} of {call}" for index in range(len(prompts))]


def _ensembled(
    model: LoadedModel, prompts: Sequence[Sequence[str]], on_progress: OnProgress | None, cache: TextCache | None
) -> Tensor:
    classes_of: dict[str, list[int]] = {}
    for index, texts in enumerate(prompts):
        for text in texts:
            classes_of.setdefault(text, []).append(index)
    sums: Tensor | None = None
    for texts, embeddings in _embedded(model, list(classes_of), on_progress, cache):
        rows = torch.tensor([row for row, text in enumerate(texts) for _ in classes_of[text]])
        classes = torch.tensor([index for text in texts for index in classes_of[text]])
        sums = torch.zeros(len(prompts), embeddings.shape[1]) if sums is None else sums
        sums.index_add_(0, classes, embeddings[rows])  # the mean but for its length, which is lost in the next line
    assert sums is not None
    return F.normalize(sums, dim=-1)


def _embedded(
    model: LoadedModel, texts: list[str], on_progress: OnProgress | None, cache: TextCache | None
) -> Iterator[tuple[list[str], Tensor]]:
    """Yield the texts and their embeddings, a window at a time, from the cache or the model."""
    done = 0

    def count(more: int) -> None:
        nonlocal done
        done += more
        if on_progress is not None:
            on_progress(done, len(texts))

    waiting = iter(texts)
    while window := list(islice(waiting, WINDOW)):
        embed = embed_texts if cache is None else partial(_embed_unknown, cache)
        yield window, embed(model, window, on_encoded=count)


def _embed_unknown(
    cache: TextCache, model: LoadedModel, texts: list[str], *, on_encoded: Callable[[int], None]
) -> Tensor:
    def on_known(places: list[int]) -> None:
        if places:
            on_encoded(len(places))
            warn_of_long(model, [texts[place] for place in places])

    def encode(places: list[int]) -> Tensor:
        return embed_texts(model, [texts[place] for place in places], on_encoded=on_encoded)

    return cache.complete(model, texts, encode, on_known=on_known)
