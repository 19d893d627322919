"""The list of models, for people and for programs."""

import json
from collections.abc import Sequence

from zeroshot_cli.console.terminal import print_rows
from zeroshot_cli.display import size_text
from zeroshot_cli.models.catalogue import Entry

_COLUMNS = ("name", "pretrained", "default", "params (M)", "pixels", "download", "ImageNet", "ImageNet-V2", "here")


def print_models(entries: Sequence[Entry], *, as_json: bool) -> None:
    """Print the list on standard output: a row a model, or one JSON list."""
    if as_json:
        print(json.dumps([_object(entry) for entry in entries], indent=2))
    else:
        print_rows(_COLUMNS, [_row(entry) for entry in entries])


def _row(entry: Entry) -> tuple[str, ...]:
    return (
        entry.name,
        entry.pretrained or "",
        "*" if entry.default else "",
        f"{entry.parameters:.1f}" if entry.parameters else "",
        str(entry.image_size or ""),
        _download(entry),
        _percent(entry.imagenet),
        _percent(entry.imagenet_v2),
        "yes" if entry.path else "",
    )


def _download(entry: Entry) -> str:
    """The size of the file that is here, else about what it would be; a bundled model needs no download."""
    if entry.pretrained is None:
        return "none"
    if entry.file_bytes:
        return size_text(entry.file_bytes)
    return f"~{size_text(entry.estimated_bytes)}" if entry.estimated_bytes else ""


def _percent(fraction: float | None) -> str:
    return "" if fraction is None else f"{fraction:.2%}"


def _object(entry: Entry) -> dict[str, object]:
    return {
        "name": entry.name,
        "pretrained": entry.pretrained,
        "default": entry.default,
        "parameters_millions": entry.parameters,
        "image_size": entry.image_size,
        "file_bytes": entry.file_bytes,
        "estimated_bytes": entry.estimated_bytes,
        "imagenet_top1": entry.imagenet,
        "imagenet_v2_top1": entry.imagenet_v2,
        "on_this_machine": str(entry.path) if entry.path else None,
    }
