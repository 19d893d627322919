"""What a model makes of labels and templates: texts it would truncate, labels it can hardly tell apart."""

import os
import warnings
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from torch import Tensor

from zeroshot_cli.clip.text import CBOW
from zeroshot_cli.clip.tokenizer import Tokenizer, TruncatedTextWarning
from zeroshot_cli.embed.prompt_ensemble import OnProgress, class_embeddings
from zeroshot_cli.embed.texts import TextCache
from zeroshot_cli.errors import UsageError
from zeroshot_cli.models.loaded import LoadedModel
from zeroshot_cli.words.faults import Fault, Kind, Placed, holds_templates, lint_labels, lint_templates
from zeroshot_cli.words.labels import Label
from zeroshot_cli.words.nodes import Text
from zeroshot_cli.words.prompts import BARE, Prompts, fill, prompts_for, read_prompts
from zeroshot_cli.words.textfiles import label_files, template_files

NEARLY_EQUAL = 0.999  # cosine; spellings of one word are below it, the same tokens at 1
_BLOCK = 1024


def lint(
    names: Sequence[str],
    model: LoadedModel | None,
    prompts: str | None = None,
    *,
    threshold: float = NEARLY_EQUAL,
    cache: TextCache | None = None,
    on_progress: OnProgress | None = None,
) -> list[Fault]:
    """Return the faults of label and template files or built-in sets, in the order of their lines.

    Labels are filled into `prompts`, by default those that `classify` would use, to find texts longer than the model's
    context; two labels whose embeddings have a cosine of at least `threshold` are a fault. Without a model neither is
    checked. Raises UsageError for a file or set that does not exist.
    """
    faults: list[Fault] = []
    for name in names:
        for path, templates in _files(name):
            if templates:
                found, usable = lint_templates(path)
                found += _long_templates(usable, model, str(path)) if model else ()
            else:
                filled = read_prompts(prompts or prompts_for(name))
                found, placed = lint_labels(path, filled)
                if model is not None:
                    found += _long_labels(placed, filled, model, str(path))
                    embeddings = _embed(placed, model, cache, on_progress)
                    found += _alike(placed, embeddings, model, str(path), threshold)
            faults += sorted(found, key=lambda fault: fault.line)
    return faults


def check_inputs(names: Sequence[str]) -> None:
    """Raise UsageError for a name that is neither a file nor a built-in set; needs no model."""
    for name in names:
        for path, _ in _files(name):
            if not os.path.isfile(path):  # noqa: PTH113 - a Path raises for a name that is too long
                raise UsageError(f"cannot read {name}: there is neither a file nor a built-in set of that name")


def _files(name: str) -> Iterator[tuple[Path, bool]]:
    """Yield the files that a name stands for and whether each has templates; a built-in name may be two."""
    if name in label_files():
        yield label_files()[name], False
    if name in template_files():
        yield template_files()[name], True
    if name not in label_files() and name not in template_files():
        yield Path(name), holds_templates(Path(name))


def _long_templates(templates: Sequence[Text], model: LoadedModel, file: str) -> Iterator[Fault]:
    for template in templates:
        lost = _lost_words(fill(template.text, ""), model)
        if lost:
            yield Fault(file, template.line, Kind.TOO_LONG, template.text, lost)


def _long_labels(placed: Sequence[Placed], prompts: Prompts, model: LoadedModel, file: str) -> Iterator[Fault]:
    """Yield at most one fault per label, for the longest of its prompts."""
    for each, texts in zip(placed, prompts.fill(each.label for each in placed), strict=True):
        lost = _lost_words(max(texts, key=lambda text: _count(text, model)), model)
        if lost:
            yield Fault(file, each.line, Kind.TOO_LONG, each.label.name, lost)


def _count(text: str, model: LoadedModel) -> int:
    """Return the number of tokens of a text, start and end included; 0 with a tokenizer that is not ours."""
    return len(model.tokenizer.encode(text)) + 2 if isinstance(model.tokenizer, Tokenizer) else 0


def _lost_words(text: str, model: LoadedModel) -> str:
    """Return a sentence about the words that are truncated, empty where none are."""
    if not isinstance(model.tokenizer, Tokenizer):
        return ""
    limit, count = model.tokenizer.context_length, _count(text, model)
    if count <= limit:
        return ""
    words = text.split()
    kept = bisect_right(range(1, len(words)), limit, key=lambda end: _count(" ".join(words[:end]), model))
    return f"has {count} tokens, but the model reads {limit}; it would lose: {' '.join(words[kept:])}"


def _embed(
    placed: Sequence[Placed], model: LoadedModel, cache: TextCache | None, on_progress: OnProgress | None
) -> Tensor:
    """Return the embeddings (labels, embedding) of the bare labels, or of their own whole prompts."""
    if not placed:
        return torch.zeros(0, 1)
    texts = BARE.fill(each.label for each in placed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", TruncatedTextWarning)  # already a fault
        return class_embeddings(model, texts, cache=cache, on_progress=on_progress)


def _alike(
    placed: Sequence[Placed], embeddings: Tensor, model: LoadedModel, file: str, threshold: float
) -> Iterator[Fault]:
    """Yield a fault for each label that is nearly identical to an earlier one: the nearest."""
    for index, cosine, nearest in _nearest_before(embeddings):
        if cosine < threshold:
            continue
        label, other = placed[index], placed[nearest]
        what = f"is nearly identical to {other.label.name!r} on line {other.line}: cosine {cosine:.4f}"
        kind = Kind.ALIKE
        if _differ_in_order_only(label.label, other.label, model):
            kind, what = Kind.WORD_ORDER, f"{what}; the text encoder of {model.name} ignores word order"
        yield Fault(file, label.line, kind, label.label.name, what)


def _nearest_before(embeddings: Tensor) -> Iterator[tuple[int, float, int]]:
    """Yield for each row but the first its index, its highest cosine with an earlier row, and that row."""
    for start in range(0, len(embeddings), _BLOCK):
        rows = embeddings[start : start + _BLOCK]
        cosines = rows @ embeddings[: start + len(rows)].T  # (rows, earlier)
        earlier = torch.ones_like(cosines).tril(start - 1).bool()
        values, indices = cosines.masked_fill(~earlier, -2).max(dim=1)
        pairs = zip(range(start, start + len(rows)), values.tolist(), indices.tolist(), strict=True)
        yield from (pair for pair in pairs if pair[0] > 0)


def _differ_in_order_only(label: Label, other: Label, model: LoadedModel) -> bool:
    tokenizer = model.tokenizer
    if not isinstance(tokenizer, Tokenizer) or not isinstance(getattr(model.model, "text", None), CBOW):
        return False
    one, two = ([tokenizer.encode(text) for text in _texts(each)] for each in (label, other))
    return one != two and [sorted(ids) for ids in one] == [sorted(ids) for ids in two]


def _texts(label: Label) -> tuple[str, ...]:
    return BARE.fill([label])[0]
