"""Class embeddings: the mean of a class's normalised prompt embeddings, normalised again.

A causal text tower sees only what stands before a token, so what many prompts begin with is computed once, and nothing
is padded (see `trees`). All other towers get batches of texts as they are.

An embedding depends on what else is encoded with it: by 1e-7 in float32, by 1e-3 in lower precisions. So below float32
the cache keeps the embeddings of a whole call, by all its prompts, and a call that differs in one of them is computed
anew: what is cached is what would have been computed.

b batch, e embedding, c classes, p prompts
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice

import torch
from torch import Tensor
from torch.nn import functional as F

from zeroshot_cli.clip.model import CLIP
from zeroshot_cli.clip.text import TextTransformer, ancestors, end_of_text
from zeroshot_cli.clip.tokenizer import Tokenizer
from zeroshot_cli.embed.text_cache import TextCache
from zeroshot_cli.embed.trees import trees
from zeroshot_cli.models.loaded import LoadedModel

WINDOW = 16_384  # prompts in memory at once; they share beginnings, and the cache keeps what is done, window by window
_PLAIN_BATCH = 256
_CLASS = "\0class "  # what a class's entry in the cache begins with, and no prompt that means anything
TREE = {"cpu": 256, "cuda": 1024}  # tokens: each is compared with each, which costs little while they are few

OnProgress = Callable[[int, int], None]


def class_embeddings(
    model: LoadedModel,
    prompts: Sequence[Sequence[str]],
    *,
    on_progress: OnProgress | None = None,
    cache: TextCache | None = None,
) -> Tensor:
    """One embedding a class from its prompts; c classes -> ce, normalised, float32.

    A prompt that occurs twice is encoded once and counts twice. `on_progress` gets the number of different prompts that
    are done and of all. What `cache` knows, a class or a prompt, is not encoded. ValueError for a class without a
    prompt, or no class. Source: arXiv 2103.00020, section 3.1.4, prompt ensembling in embedding space.
    """
    if not prompts or not all(prompts):
        raise ValueError("every class needs a prompt, and there must be a class")
    if cache is None:
        return _ensembled(model, prompts, on_progress or _nobody, None)
    exact = model.precision == "fp32"
    names = _names(prompts) if exact else _names_in_company(prompts)
    known, embeddings = cache.get(model, names)
    if not exact and len(known) < len(prompts):
        known = []
    _warn_of_long(model, dict.fromkeys(text for index in known for text in prompts[index]))
    missing = sorted(set(range(len(prompts))) - set(known))
    if not missing:
        return embeddings
    wanted = [prompts[index] for index in missing]
    fresh = _ensembled(model, wanted, on_progress or _nobody, cache if exact else None)
    cache.put(model, [names[index] for index in missing], fresh)
    return _merged(len(prompts), (known, embeddings), (missing, fresh))


def _names(prompts: Sequence[Sequence[str]]) -> list[str]:
    return [_CLASS + json.dumps(list(texts)) for texts in prompts]


def _names_in_company(prompts: Sequence[Sequence[str]]) -> list[str]:
    """A name for each class that depends on its place and on all prompts of the call."""
    call = hashlib.sha256(json.dumps([list(texts) for texts in prompts]).encode()).hexdigest()
    return [f"{_CLASS}{index} of {call}" for index in range(len(prompts))]


def _warn_of_long(model: LoadedModel, known: Iterable[str]) -> None:
    """Tokenise what may be too long, so that a text from the cache is warned of as one that is encoded."""
    limit = getattr(getattr(model, "tokenizer", None), "context_length", None)
    if limit is None:
        return
    doubtful = [text for text in known if len(text.encode("utf-8", "surrogatepass")) > limit - 2]
    if doubtful:
        model.tokenizer(doubtful)


def _ensembled(
    model: LoadedModel, prompts: Sequence[Sequence[str]], on_progress: OnProgress, cache: TextCache | None
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


def embed_texts(
    model: LoadedModel, texts: Sequence[str], *, on_encoded: Callable[[int], None] = lambda count: None
) -> Tensor:
    """Different texts, p of them -> pe, normalised, float32, on the CPU; `on_encoded` gets how many more are done."""
    tower = getattr(getattr(model, "model", None), "text", None)
    if isinstance(tower, TextTransformer) and isinstance(model.tokenizer, Tokenizer):
        return _embed_sharing(model, tower, model.tokenizer.sequences(texts), on_encoded)
    return _embed_plainly(model, texts, on_encoded)


def _embedded(
    model: LoadedModel, texts: list[str], on_progress: OnProgress, cache: TextCache | None
) -> Iterator[tuple[Sequence[str], Tensor]]:
    """Yield the texts and their embeddings pe, a window at a time, from the cache or the model."""
    done = 0

    def count(more: int) -> None:
        nonlocal done
        done += more
        on_progress(done, len(texts))

    waiting = iter(texts)
    while window := list(islice(waiting, WINDOW)):
        if cache is None:
            yield window, embed_texts(model, window, on_encoded=count)
        else:
            yield window, _embed_unknown(model, window, count, cache)


def _embed_unknown(model: LoadedModel, texts: list[str], on_encoded: Callable[[int], None], cache: TextCache) -> Tensor:
    known, embeddings = cache.get(model, texts)
    if known:
        on_encoded(len(known))
        _warn_of_long(model, (texts[place] for place in known))
    missing = sorted(set(range(len(texts))) - set(known))
    if not missing:
        return embeddings
    unknown = [texts[place] for place in missing]
    fresh = embed_texts(model, unknown, on_encoded=on_encoded)
    cache.put(model, unknown, fresh)
    return _merged(len(texts), (known, embeddings), (missing, fresh))


def _merged(count: int, *parts: tuple[list[int], Tensor]) -> Tensor:
    """Rows from several places, put where they belong."""
    merged = torch.empty(count, parts[-1][1].shape[1])
    for places, rows in parts:
        if places:
            merged[places] = rows
    return merged


@torch.inference_mode()
def _embed_sharing(
    model: LoadedModel, tower: TextTransformer, sequences: list[list[int]], on_encoded: Callable[[int], None]
) -> Tensor:
    owners: dict[tuple[int, ...], list[int]] = {}  # texts may differ and be the same to the model
    for owner, ids in enumerate(sequences):
        owners.setdefault(tuple(ids[: ids.index(tower.eot_id) + 1]), []).append(owner)
    different = list(owners)
    embeddings = torch.empty(len(sequences), tower.text_projection.shape[1])
    for tree in trees(different, most=TREE.get(model.device.type, TREE["cuda"])):
        tokens, positions, parents = torch.tensor([tree.tokens, tree.positions, tree.parents], device=model.device)
        ends = torch.tensor([tree.ends], device=model.device)
        visible = ancestors(parents).to(model.device)
        encoded = _normalised(tower(tokens[None], positions=positions, visible=visible, ends=ends))
        places = [(owner, row) for row, index in enumerate(tree.sequences) for owner in owners[different[index]]]
        to, of = torch.tensor(places).T
        embeddings[to] = encoded[of]
        on_encoded(len(places))
    return embeddings


def _embed_plainly(model: LoadedModel, texts: Sequence[str], on_encoded: Callable[[int], None]) -> Tensor:
    parts = []
    for start in range(0, len(texts), _PLAIN_BATCH):
        parts.append(_encode_plainly(model, list(texts[start : start + _PLAIN_BATCH])))
        on_encoded(len(parts[-1]))
    return torch.cat(parts)


@torch.inference_mode()
def _encode_plainly(model: LoadedModel, texts: list[str]) -> Tensor:
    if not isinstance(getattr(model, "model", None), CLIP):
        return model.encode_texts(texts)
    clip, _, tokenizer = model.bundled()
    tokens = tokenizer(texts)
    longest = 1 + int(end_of_text(tokens, clip.text.eot_id).max())
    return _normalised(clip.encode_text(tokens[:, :longest].to(model.device)))  # nothing behind the end counts


def _normalised(embeddings: Tensor) -> Tensor:
    return F.normalize(embeddings.float(), dim=-1).cpu()


def _nobody(done: int, total: int) -> None:
    """Nobody watches."""
