"""Classifier files: class embeddings with everything they came from, as one safetensors file.

The tensor `embeddings` is (classes, embedding), float32, normalised. All metadata are strings: `labels` and `templates`
are JSON lists, `synonyms`, `class_prompts` and, where labels have groups, `groups` lists of one list per label,
`thresholds` and `versions` JSON mappings. The probability of a class is softmax(cosine / `temperature`). A tuned
classifier has the tensors and metadata of `Tuning` too, and a format of its own, so that a version that would pass over
them refuses the file.
"""

# Path.is_file raises OSError where a name is too long or a folder is locked; opening the file names the reason.
# ruff: noqa: PTH113

import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from zeroshot_cli.classify.tuning import Tuning, read_tuning
from zeroshot_cli.disk import similar_path, write_file
from zeroshot_cli.documents import load_json
from zeroshot_cli.errors import CheckpointError, LabelsError, UsageError
from zeroshot_cli.words.groups import check_groups, checked_path
from zeroshot_cli.words.labels import Label, Labels
from zeroshot_cli.words.prompts import Prompts, checked_text

FORMAT, TUNED = "zeroshot-classifier-1", "zeroshot-classifier-2"
EXTENSIONS = (".safetensors", ".classifier")
THRESHOLDS = ("min_score", "min_probability", "min_margin")


@dataclass(frozen=True, slots=True)
class SavedClassifier:
    """The content of a classifier file; `source` names it in errors.

    `thresholds` are what an image must reach, as given to `zeroshot build`; `tuning` is what examples taught it.
    """

    source: str
    labels: Labels
    prompts: Prompts
    embeddings: Tensor = field(repr=False)
    model: str
    pretrained: str | None
    precision: str
    fingerprint: str
    temperature: float
    thresholds: Mapping[str, float] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    tuning: Tuning | None = None


def check_name(path: Path) -> None:
    """Raise UsageError for a file whose extension is not that of a classifier."""
    if path.suffix.lower() not in EXTENSIONS:
        way_out = f"give a name ending in {' or '.join(EXTENSIONS)}, as in pets.classifier"
        raise UsageError(f"cannot write {path}: a classifier file is safetensors; {way_out}")


def write_classifier(saved: SavedClassifier, path: Path) -> None:
    """Write the file at once: `path` is never incomplete. Raises UsageError where that fails."""
    metadata = {
        "format": FORMAT if saved.tuning is None else TUNED,
        "labels": _json(saved.labels.names),
        "synonyms": _json([label.synonyms for label in saved.labels]),
        "class_prompts": _json([label.prompts for label in saved.labels]),
        "prompts": saved.prompts.name,
        "templates": _json(saved.prompts.templates),
        "model": saved.model,
        "pretrained": saved.pretrained or "",
        "precision": saved.precision,
        "fingerprint": saved.fingerprint,
        "temperature": repr(saved.temperature),
        "thresholds": _json(dict(saved.thresholds)),
        "versions": _json(dict(saved.versions)),
    }
    if saved.labels.grouped:
        metadata["groups"] = _json(saved.labels.groups)
    tensors = {"embeddings": saved.embeddings.contiguous()}
    if saved.tuning is not None:
        tensors, metadata = tensors | saved.tuning.tensors(), metadata | saved.tuning.metadata()
    write_file(path, save(tensors, metadata))


def read_classifier(path: str | os.PathLike[str]) -> SavedClassifier:
    """Read a classifier file.

    Raises UsageError where there is none, CheckpointError where it is damaged or something else.
    """
    if not os.path.isfile(path):
        way_out = similar_path(os.fspath(path)) or "write one with zeroshot build"
        raise UsageError(f"there is no classifier file {path}; {way_out}")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (it is not a mapping)
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path} is not a classifier file, or is damaged ({error}); build it again") from error
    if metadata.get("format") not in (FORMAT, TUNED):
        found = metadata.get("format", "none")
        raise CheckpointError(f"{path} is not a classifier file: its format is {found}, not {FORMAT}")
    try:
        saved = _parse(metadata, tensors["embeddings"], str(path))
        _check_embeddings(saved)
        if metadata["format"] == TUNED:
            saved = replace(saved, tuning=read_tuning(metadata, tensors, saved.embeddings.shape))
    except (KeyError, ValueError, TypeError, AttributeError) as error:  # JSON of other types
        raise CheckpointError(f"{path} is a damaged classifier file ({error!r}); build it again") from error
    return saved


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)


def _parse(metadata: Mapping[str, str], embeddings: Tensor, source: str) -> SavedClassifier:
    names, synonyms, class_prompts = (load_json(metadata[key]) for key in ("labels", "synonyms", "class_prompts"))
    groups = load_json(metadata["groups"]) if "groups" in metadata else [[]] * len(names)
    labels = tuple(
        Label(name, _texts(others, "a synonym"), _texts(prompts, "a prompt"), group=_texts(group, "a group"))
        for name, others, prompts, group in zip(_texts(names, "a label"), synonyms, class_prompts, groups, strict=True)
    )
    _check_groups(labels)
    thresholds = {name: float(value) for name, value in load_json(metadata["thresholds"]).items()}
    if not set(thresholds) <= set(THRESHOLDS) or not all(-1 <= value <= 1 for value in thresholds.values()):
        raise ValueError(f"thresholds {thresholds}")
    templates = _texts(load_json(metadata["templates"]), "a template")
    temperature = float(metadata["temperature"])
    if not (math.isfinite(temperature) and temperature > 0):
        raise ValueError(f"temperature {temperature}")
    versions = load_json(metadata["versions"])
    if not isinstance(versions, dict):
        raise TypeError(f"versions {versions!r}")
    return SavedClassifier(
        source=source,
        labels=Labels(labels),
        prompts=Prompts(metadata["prompts"], "", source, templates),
        embeddings=embeddings,
        model=metadata["model"],
        pretrained=metadata["pretrained"] or None,
        precision=metadata["precision"],
        fingerprint=metadata["fingerprint"],
        temperature=temperature,
        thresholds=thresholds,
        versions=versions,
    )


def _check_groups(labels: Sequence[Label]) -> None:
    """Raise ValueError or TypeError where groups are not what a label file may have."""
    try:
        for label in labels:
            if label.group != checked_path(label.group, "groups"):
                raise ValueError(f"group {label.group}")
        check_groups((label.name, label.group, "groups") for label in labels)
    except LabelsError as error:
        raise ValueError(str(error)) from None


def _texts(values: object, what: str) -> tuple[str, ...]:
    """Return a list of texts; raises ValueError or TypeError where one is blank, far too long or no text at all."""
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        raise TypeError(f"{what} is not a text")
    try:
        for value in values:
            checked_text(value, what, CheckpointError)
    except CheckpointError as error:
        raise ValueError(str(error)) from None
    return tuple(values)


def _check_embeddings(saved: SavedClassifier) -> None:
    labels, embeddings = len(saved.labels), saved.embeddings
    if not labels or embeddings.dtype != torch.float32 or embeddings.ndim != 2 or len(embeddings) != labels:
        shape = f"{labels} labels and embeddings {tuple(embeddings.shape)} of {embeddings.dtype}"
        raise CheckpointError(f"{saved.source} is a damaged classifier file ({shape}); build it again")
    if not torch.isfinite(embeddings).all():
        raise CheckpointError(f"{saved.source} holds embeddings that are not finite numbers; build it again")
