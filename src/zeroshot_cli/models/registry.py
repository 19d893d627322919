"""The registry of models: names and tags, what is published where, its configuration and figures.

The list is open_clip's own, read from the installed package; the published figures stand in `published.csv`.
"""

import builtins
import csv
import importlib
import importlib.util
import os
import re
import sys
import types
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType
from typing import Any

from zeroshot_cli.clip.config import PRESETS, config_to_dict
from zeroshot_cli.disk import similar_path
from zeroshot_cli.documents import load_json
from zeroshot_cli.errors import UsageError

BUNDLED = ("small", "tiny")
CONFIG_FILE = "open_clip_config.json"
WEIGHTS_FILES = (  # in the order of preference, open_clip's own names first
    "open_clip_model.safetensors",
    "open_clip_pytorch_model.bin",
    "model.safetensors",
    "pytorch_model.bin",
)
DEFAULT_TAGS = {"ViT-B-32": "laion2b_s34b_b79k"}  # better known than the model's best; the rest take their best

_QUICKGELU = "-quickgelu"
_ADVICE = "zeroshot models list shows what there is"
_REPOSITORY = re.compile(r"[\w.-]+/[\w.-]+")
_SIZE = "params (M)"
_PREPROCESS = ("mean", "std", "interpolation", "resize_mode")
_PRIVATE = "_zeroshot_open_clip"  # open_clip's folder under this name: importing the package itself takes seconds
_SLOW = ("huggingface_hub", "safetensors")


@dataclass(frozen=True, slots=True)
class Published:
    """Weights that open_clip publishes: `repo` on the hub, `filename` where it is not open_clip's usual one.

    `url` is where they were first published, `sha256` (whole, or its first digits) the hash of the file there.
    """

    model: str
    tag: str
    repo: str
    filename: str | None
    url: str | None
    sha256: str | None
    preprocess: dict[str, Any]
    quick_gelu: bool

    @property
    def preset(self) -> str:
        """Return the name of the configuration of the training; OpenAI's `ViT-B-32` has QuickGELU."""
        return self.model + _QUICKGELU if self.quick_gelu and not self.model.endswith(_QUICKGELU) else self.model

    @property
    def name(self) -> str:
        """Return what the user types for it: `ViT-B-32:openai`."""
        return f"{self.model}:{self.tag}"


@dataclass(frozen=True, slots=True)
class Figures:
    """What open_clip's tables say: millions of parameters, and top-1 accuracy as a fraction."""

    parameters: float | None = None
    imagenet: float | None = None
    imagenet_v2: float | None = None


def bundled_folder(name: str) -> Path:
    """Return the folder of a model that comes with the package."""
    return Path(__file__).parent / "bundled" / name


@lru_cache
def published() -> Mapping[tuple[str, str], Published]:
    """Return every pair of model and tag that the installed open_clip publishes."""
    theirs = _open_clip_pretrained()
    pairs: list[tuple[str, str]] = theirs.list_pretrained()
    return MappingProxyType(
        {(model, tag): _published(model, tag, theirs.get_pretrained_cfg(model, tag)) for model, tag in pairs}
    )


def find_published(model: str, tag: str | None = None) -> Published:
    """Return the weights that a user means, in any spelling; without a tag the model's default.

    Raises UsageError with the nearest name for one that is not known.
    """
    model = canonical_name(model)
    if tag is None or not tags_of(model):
        return published()[model, default_tag(model)]
    found = published().get((model, _clean_tag(tag)))
    if found is None:
        raise UsageError(f"{model} has no weights {tag!r}: {_advice(_clean_tag(tag), tags_of(model))}")
    return found


def split_name(name: str, tag: str | None) -> tuple[str, str | None]:
    """Return name and tag of `ViT-B-32:openai`; a path or a repository of the hub has no tag in it.

    Raises UsageError where a tag is given twice.
    """
    model, colon, in_name = name.partition(":")
    if not colon or model == "hf-hub" or os.path.exists(name):  # noqa: PTH110 - a Path raises for a long name
        return name, tag
    if tag is not None:
        raise UsageError(f"{name} names its weights already: omit {tag}")
    return model, in_name


def tags_of(model: str) -> tuple[str, ...]:
    """Return the tags of a model, in open_clip's order."""
    return tuple(tag for name, tag in published() if name == model)


def is_file_of_own(model: str, pretrained: str) -> bool:
    """Return whether --pretrained means a file or folder: a tag of the model goes before one of that name.

    Raises UsageError where it can be neither.
    """
    if _clean_tag(pretrained) in tags_of(model):
        return False
    if os.path.exists(pretrained):  # noqa: PTH110  Path.exists raises OSError where a name is too long
        return True
    if os.sep in pretrained or Path(pretrained).suffix in {".pt", ".pth", ".bin", ".safetensors"}:
        way_out = similar_path(pretrained) or f"name one that exists, or a tag of {model}"
        raise UsageError(f"--pretrained {pretrained}: there is no such file; {way_out}")
    return False


def default_tag(model: str) -> str:
    """Return the tag that a model's name alone stands for: the best on ImageNet of those with a published figure.

    Raises UsageError where no weights of the model are published.
    """
    if model in DEFAULT_TAGS:
        return DEFAULT_TAGS[model]
    tags = tags_of(model)
    if not tags:
        raise UsageError(f"no weights of {model} are published: name a file with --pretrained PATH")
    return max(tags, key=lambda tag: figures(model, tag).imagenet or 0.0)  # of equals the first


def canonical_name(name: str) -> str:
    """Return a model's name as the registry spells it: `ViT-B/32` is ViT-B-32, `ViT-L/14@336px` ViT-L-14-336.

    Raises UsageError with the nearest name for one that is not known.
    """
    names = known_names()
    wanted = name.replace("/", "-").replace("@", "-").removesuffix("px")
    if wanted in names:
        return wanted
    folded = {known.casefold(): known for known in names}
    if wanted.casefold() in folded:
        return folded[wanted.casefold()]
    if _REPOSITORY.fullmatch(name) and not any(each.startswith(name.partition("/")[0].casefold()) for each in folded):
        raise UsageError(f"there is no model {name!r}; for a repository of the hub, write hf-hub:{name}")
    raise UsageError(f"there is no model {name!r}: {_advice(wanted, names)}")


@lru_cache
def known_names() -> tuple[str, ...]:
    """Return every name that --model takes: bundled models, published ones, and presets without published weights."""
    return tuple(dict.fromkeys((*BUNDLED, *(model for model, _ in published()), *PRESETS)))


def published_row(model: str, tag: str) -> Mapping[str, str]:
    """Return the row of `published.csv` for a pair, figures by column; empty where it has none.

    The table has the same weights under the name with and without `-quickgelu`, and low figures where the activation
    was not the one of the training: ours is that of the training, so its row comes first.
    """
    found = published().get((model, tag))
    names = (found.preset if found else model, model, _sibling(model))
    return next((_table()[name, tag] for name in names if (name, tag) in _table()), {})


def figures(model: str, tag: str) -> Figures:
    """Return the published figures of a pair; what is not in the table is None."""
    row = published_row(model, tag)
    size, imagenet, v2 = (float(row[key]) if row.get(key) else None for key in (_SIZE, "ImageNet 1k", "ImageNet v2"))
    return Figures(size or _sizes().get(model) or _sizes().get(_sibling(model)), imagenet, v2)


def model_config(model: str) -> dict[str, Any]:
    """Return the `model_cfg` of a preset, or of another model that open_clip knows by name.

    Raises UsageError for a name without one.
    """
    if model in PRESETS:
        return config_to_dict(PRESETS[model])
    for name in (model, model.removesuffix(_QUICKGELU)):
        folder = open_clip_folder() / "model_configs"
        path = folder / f"{name}.json"
        if path.parent == folder and path.is_file():
            config: dict[str, Any] = load_json(path.read_text(encoding="utf-8"))
            return config | {"quick_gelu": True} if model.endswith(_QUICKGELU) else config
    raise UsageError(f"there is no configuration of {model!r}; zeroshot models lists the names")


def open_clip_config(found: Published) -> dict[str, Any]:
    """Return the `open_clip_config.json` of published weights, with their own activation and preprocessing."""
    return with_preprocess(model_config(found.preset), found.preprocess)


def with_preprocess(config: dict[str, Any], preprocess: Mapping[str, Any]) -> dict[str, Any]:
    """Return the document of `open_clip_config.json`: `config` as its `model_cfg`, and `preprocess` completed."""
    from zeroshot_cli.images.preprocess import PreprocessConfig  # imports torch, which the list has no time for

    size = config["vision_cfg"].get("image_size", 224)
    return {"model_cfg": config, "preprocess_cfg": PreprocessConfig.from_dict({"size": size, **preprocess}).to_dict()}


def by_hash(sha256: str) -> Published | None:
    """Return the weights whose file has that SHA-256, where the hash or its first digits were published."""
    return next((entry for entry in published().values() if entry.sha256 and sha256.startswith(entry.sha256)), None)


def shared_preprocess(preset: str) -> dict[str, Any] | None:
    """Return the preprocessing of all weights that were trained with a configuration; None where they differ.

    Empty where there are no such weights.
    """
    found = [entry.preprocess for entry in published().values() if entry.preset == preset]
    if not found:
        return {}
    return found[0] if all(other == found[0] for other in found) else None


def _published(model: str, tag: str, entry: Mapping[str, Any]) -> Published:
    organisation, name, filename = (*entry["hf_hub"].split("/", 2), "")[:3]
    return Published(
        model=model,
        tag=tag,
        repo=f"{organisation}/{name}",
        filename=filename or None,
        url=entry["url"] or None,
        sha256=_hash_in_url(entry["url"]),
        preprocess={key: entry[key] for key in _PREPROCESS},
        quick_gelu=bool(entry.get("quick_gelu", False)) or model.endswith(_QUICKGELU),
    )


def _hash_in_url(url: str) -> str | None:
    """OpenAI's addresses hold the SHA-256 as a folder, open_clip's releases its first digits in the file name."""
    if "openaipublic" in url:
        return url.split("/")[-2]
    return Path(url).stem.rpartition("-")[2] if "mlfoundations" in url else None


def _sibling(model: str) -> str:
    return model.removesuffix(_QUICKGELU) if model.endswith(_QUICKGELU) else model + _QUICKGELU


def _clean_tag(tag: str) -> str:
    return tag.lower().replace("-", "_")


def _advice(wanted: str, known: Iterable[str]) -> str:
    """Return the nearest of the known names, or where to find them."""
    folded = {name.casefold(): name for name in known}
    near = get_close_matches(wanted.casefold(), folded, n=3, cutoff=0.6)
    if near:
        return f"did you mean {' or '.join(folded[name] for name in near)}?"
    if any(wanted.casefold() in name for name in folded):
        return f"zeroshot models list --model {wanted} shows those whose name has it"
    return _ADVICE


@lru_cache
def _table() -> dict[tuple[str, str], dict[str, str]]:
    path = Path(__file__).with_name("published.csv")
    with path.open(encoding="utf-8", newline="") as file:
        rows = csv.DictReader(line for line in file if not line.startswith("#"))
        return {(row["name"], row["pretrained"]): row for row in rows}


@lru_cache
def _sizes() -> dict[str, float]:
    """Return millions of parameters by model: they do not depend on the tag."""
    return {model: float(row[_SIZE]) for (model, _), row in _table().items() if row[_SIZE]}


@lru_cache
def open_clip_folder() -> Path:
    """Return the folder of the installed open_clip package, without importing it."""
    spec = importlib.util.find_spec("open_clip")
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError(
            "open_clip_torch is not installed, which lists published weights and CLIP's vocabulary"
        )
    return Path(spec.submodule_search_locations[0])


def _open_clip_pretrained() -> types.ModuleType:
    """Return open_clip's `pretrained.py`, run without the package around it, whose import takes seconds.

    It does without huggingface_hub and safetensors, and they are withheld from this module only: hiding them in
    `sys.modules` would fail other threads. A test compares what it lists with open_clip itself.
    """
    folder = open_clip_folder()
    package = types.ModuleType(_PRIVATE)
    package.__path__ = [str(folder)]
    sys.modules[_PRIVATE] = package  # so that the module's own relative imports are found
    spec = importlib.util.spec_from_file_location(f"{_PRIVATE}.pretrained", folder / "pretrained.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    vars(module)["__builtins__"] = vars(builtins) | {"__import__": _import_but_slow}
    spec.loader.exec_module(module)
    return module


def _import_but_slow(name: str, *args: Any, **kwargs: Any) -> Any:
    if name.partition(".")[0] in _SLOW:
        raise ImportError(name)
    return builtins.__import__(name, *args, **kwargs)
