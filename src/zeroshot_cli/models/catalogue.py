"""The list of models: every one by name, what is known of it, and whether it is on this machine."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from zeroshot_cli.documents import load_json
from zeroshot_cli.errors import ConfigError, UsageError
from zeroshot_cli.models.default import choose
from zeroshot_cli.models.download import cached_model
from zeroshot_cli.models.registry import (
    BUNDLED,
    CONFIG_FILE,
    WEIGHTS_FILES,
    Published,
    bundled_folder,
    canonical_name,
    default_tag,
    figures,
    find_published,
    model_config,
    open_clip_config,
    published,
    tags_of,
    with_preprocess,
)


@dataclass(frozen=True, slots=True)
class Entry:
    """One model with one set of weights: `parameters` in millions, `file_bytes` of the file on this machine.

    `imagenet` and `imagenet_v2` are top-1 as fractions, from open_clip's table. `used` marks the model of commands
    without --model.
    """

    name: str
    pretrained: str | None = None
    default: bool = True
    parameters: float | None = None
    image_size: int | None = None
    path: Path | None = None
    file_bytes: int | None = None
    imagenet: float | None = None
    imagenet_v2: float | None = None
    used: bool = False

    @property
    def estimated_bytes(self) -> int | None:
        """Return the bytes of the download if its numbers are float32, as in the usual file."""
        return None if self.parameters is None else round(self.parameters * 1e6) * 4


def list_models(text: str = "") -> list[Entry]:
    """Return the models whose name or tag holds `text` in any case, bundled ones first; no network is used."""
    wanted = text.casefold().replace("/", "-")
    entries = [*map(_bundled, BUNDLED), *map(_entry, published().values())]
    used = _used()
    return [
        replace(entry, used=(entry.name, entry.pretrained) == used)
        for entry in entries
        if wanted in f"{entry.name}:{entry.pretrained or ''}".casefold()
    ]


def _used() -> tuple[str, str | None] | None:
    """Return name and tag of the model of commands without --model; None where it is not one of the list."""
    try:
        chosen = choose()
        name = canonical_name(chosen.name)
        return (name, None) if name in BUNDLED else (name, find_published(name, chosen.pretrained).tag)
    except (UsageError, ConfigError):  # doctor tells of a config file that is wrong
        return None


def describe_published(name: str, tag: str | None = None) -> dict[str, Any]:
    """Return what a published or preset model is, ready for JSON: configuration, preprocessing, origin and figures.

    Raises UsageError for an unknown name or tag.
    """
    name = canonical_name(name)
    if tag is None and not tags_of(name):
        return {"name": name, **with_preprocess(model_config(name), {})}
    found = find_published(name, tag)
    entry = _entry(found)
    return {
        "name": found.model,
        "pretrained": found.tag,
        "default": entry.default,
        "repository": found.repo,
        "file": found.filename,
        "on_this_machine": str(entry.path) if entry.path else None,
        **open_clip_config(found),
        "published": {
            "parameters_millions": entry.parameters,
            "imagenet_top1": entry.imagenet,
            "imagenet_v2_top1": entry.imagenet_v2,
        },
    }


def _entry(found: Published) -> Entry:
    path, known = cached_model(found), figures(found.model, found.tag)
    return Entry(
        name=found.model,
        pretrained=found.tag,
        default=found.tag == default_tag(found.model),
        parameters=known.parameters,
        image_size=_image_size(model_config(found.model)),
        path=path,
        file_bytes=path.stat().st_size if path else None,
        imagenet=known.imagenet,
        imagenet_v2=known.imagenet_v2,
    )


def _bundled(name: str) -> Entry:
    folder = bundled_folder(name)
    weights = folder / WEIGHTS_FILES[0]
    if not weights.is_file():
        return Entry(name)
    config = load_json((folder / CONFIG_FILE).read_text(encoding="utf-8"))
    return Entry(
        name=name,
        parameters=_parameters(weights),
        image_size=_image_size(config["model_cfg"]),
        path=weights,
        file_bytes=weights.stat().st_size,
    )


def _parameters(weights: Path) -> float:
    """Return millions of values in a safetensors file, from its header alone: torch takes seconds."""
    with weights.open("rb") as file:
        header: dict[str, Any] = load_json(file.read(int.from_bytes(file.read(8), "little")))
    shapes: list[list[int]] = [tensor["shape"] for key, tensor in header.items() if key != "__metadata__"]
    return sum(map(math.prod, shapes)) / 1e6


def _image_size(config: Mapping[str, Any]) -> int | None:
    size = config.get("vision_cfg", {}).get("image_size")
    return int(size[0] if isinstance(size, list) else size) if size else None
