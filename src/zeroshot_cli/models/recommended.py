"""A few models that are worth having: how good, how large, how fast, and for what."""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zeroshot_cli.clip.config import PRESETS
from zeroshot_cli.documents import load_yaml
from zeroshot_cli.models.catalogue import Entry, list_models
from zeroshot_cli.models.registry import BUNDLED, find_published

_BATCH, _SECONDS = 4, 2.0  # of a measurement, which has at least one batch


@dataclass(frozen=True, slots=True)
class Recommended:
    """A model of the list: top-1 on ImageNet as a fraction with its `source`, and GFLOP of one image."""

    entry: Entry
    imagenet: float | None
    source: str
    gflops: float
    purpose: str

    @property
    def is_measurable(self) -> bool:
        """Return whether the bundled CLIP builds it, so that its speed can be measured without a download."""
        return self.entry.name in BUNDLED or find_published(self.entry.name).preset in PRESETS


def recommended() -> tuple[Recommended, ...]:
    """Return the models worth having, from small to large; no network is used."""
    entries = {entry.name: entry for entry in list_models() if entry.default}
    return tuple(_recommended(entries[row["name"]], row) for row in _document()["models"])


def sources() -> dict[str, str]:
    """Return where each source of a figure is."""
    return dict(_document()["sources"])


def _document() -> dict[str, Any]:
    document: dict[str, Any] = load_yaml(Path(__file__).with_suffix(".yaml").read_text(encoding="utf-8"))
    return document


def _recommended(entry: Entry, row: dict[str, Any]) -> Recommended:
    published = row.get("imagenet", entry.imagenet)
    source = "" if published is None else row.get("source", "open_clip")
    return Recommended(entry, published, source, row["gflops"], row["purpose"])


def measure(models: tuple[Recommended, ...], *, device: str, precision: str) -> Iterator[float | None]:
    """Yield the images a second of each model's image encoder here, with random weights; None for those of open_clip.

    A model of the package has its own weights. Decoding is not counted. Raises UsageError for device and precision.
    """
    for model in models:
        yield _images_per_second(model.entry.name, device, precision) if model.is_measurable else None


def _images_per_second(name: str, device: str, precision: str) -> float:
    import torch

    from zeroshot_cli.models.load import load, new_model
    from zeroshot_cli.models.loaded import make_ready
    from zeroshot_cli.models.precision import resolve_device, resolve_precision

    where = resolve_device(device)
    precision = resolve_precision(precision, where)
    if name in BUNDLED:
        loaded = load(name, device=device, precision=precision)
    else:
        model, config, preprocess, tokenizer = new_model(find_published(name).preset)
        loaded = make_ready(
            name=name,
            pretrained=None,
            model=model,
            config=config,
            preprocess=preprocess,
            tokenizer=tokenizer,
            device=where,
            precision=precision,
        )
    images = torch.rand(_BATCH, 3, *loaded.preprocess.config.height_width)
    encode = loaded.encode_images
    with torch.inference_mode():
        encode(images)  # what the first batch alone takes
        done, start = 0, time.perf_counter()
        while done == 0 or time.perf_counter() - start < _SECONDS:
            encode(images)
            done += _BATCH
    return done / (time.perf_counter() - start)
