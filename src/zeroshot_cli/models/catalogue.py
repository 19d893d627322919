"""What there is to choose from: every model by name, what is known of it, and whether it is on this machine."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

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

_BYTES_A_PARAMETER = 4  # the usual file is float32


@dataclass(frozen=True, slots=True)
class Entry:
    """One model with one set of weights: `parameters` in millions, `file_bytes` of the file on this machine.

    `imagenet` and `imagenet_v2` are top-1 as fractions, from open_clip's table.
    """

    name: str
    pretrained: str | None
    default: bool
    parameters: float | None
    image_size: int | None
    path: Path | None
    file_bytes: int | None
    imagenet: float | None
    imagenet_v2: float | None

    @property
    def estimated_bytes(self) -> int | None:
        """Return what the download takes if its numbers are float32."""
        return None if self.parameters is None else round(self.parameters * 1e6) * _BYTES_A_PARAMETER


def list_models(text: str = "") -> list[Entry]:
    """Return the models whose name or tag holds `text` in any case, bundled ones first; no network is used."""
    wanted = text.casefold().replace("/", "-")
    entries = [*map(_bundled, BUNDLED), *map(_entry, published().values())]
    return [entry for entry in entries if wanted in f"{entry.name}:{entry.pretrained or ''}".casefold()]


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
    weights = bundled_folder(name) / WEIGHTS_FILES[0]
    config = json.loads((weights.parent / CONFIG_FILE).read_text(encoding="utf-8")) if weights.is_file() else {}
    return Entry(
        name=name,
        pretrained=None,
        default=True,
        parameters=sum(_sizes(weights)) / 1e6 if weights.is_file() else None,
        image_size=_image_size(config.get("model_cfg", {})),
        path=weights if weights.is_file() else None,
        file_bytes=weights.stat().st_size if weights.is_file() else None,
        imagenet=None,
        imagenet_v2=None,
    )


def _sizes(weights: Path) -> Iterator[int]:
    """Return the number of values in each tensor of a safetensors file, from its header alone: torch takes seconds."""
    with weights.open("rb") as file:
        header: dict[str, Any] = json.loads(file.read(int.from_bytes(file.read(8), "little")))
    for name, tensor in header.items():
        if name != "__metadata__":
            count = 1
            for edge in tensor["shape"]:
                count *= edge
            yield count


def _image_size(config: Mapping[str, Any]) -> int | None:
    size = config.get("vision_cfg", {}).get("image_size")
    return int(size[0] if isinstance(size, list) else size) if size else None
