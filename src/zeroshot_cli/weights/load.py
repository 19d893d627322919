"""`load(name or path)`: weights, preprocessing, tokenizer and fingerprint as one model."""

from __future__ import annotations

from pathlib import Path

import torch

from zeroshot_cli.clip.config import PRESETS, CLIPConfig
from zeroshot_cli.errors import CheckpointError, UnavailableError, UsageError
from zeroshot_cli.preprocess import Preprocess, PreprocessConfig
from zeroshot_cli.weights.configs import default_preprocess, read_config, tokenizer_of
from zeroshot_cli.weights.device import DTYPES, resolve_device, resolve_precision
from zeroshot_cli.weights.formats import from_disk, load_into
from zeroshot_cli.weights.loaded import LoadedModel
from zeroshot_cli.weights.reading import read_tensors
from zeroshot_cli.weights.registry import BUNDLED, bundled_folder
from zeroshot_cli.weights.save import CONFIG_FILE, WEIGHTS_FILE


def load(
    name_or_path: str,
    pretrained: str | None = None,
    *,
    device: str = "auto",
    precision: str = "auto",
    offline: bool = False,
) -> LoadedModel:
    """Load a bundled model by name, a preset with a file of weights, or a folder that `zeroshot train` wrote.

    Raises UsageError for an unknown name or option, CheckpointError for a file that is wrong, and UnavailableError
    for weights that are not on this machine.
    """
    where = resolve_device(device)
    chosen = resolve_precision(precision, where)
    config, preprocess, weights = _find(name_or_path, pretrained)
    with torch.device("meta"):
        model = config.build()
    model.to_empty(device="cpu")
    load_into(model, from_disk(read_tensors(weights)), source=str(weights))
    model.eval().requires_grad_(False).to(where, DTYPES[chosen])
    return LoadedModel(
        name=name_or_path,
        pretrained=pretrained,
        model=model,
        config=config,
        preprocess=Preprocess(preprocess),
        tokenizer=tokenizer_of(config),
        device=where,
        precision=chosen,
    )


def _find(name: str, pretrained: str | None) -> tuple[CLIPConfig, PreprocessConfig, Path]:
    """The configuration, the preprocessing and the file of weights that the options mean."""
    if name in BUNDLED:
        return _folder(bundled_folder(name))
    path = Path(name)
    if name in PRESETS:
        config = PRESETS[name]
        if pretrained is None or not Path(pretrained).is_file():
            raise UnavailableError(
                f"the weights {pretrained or 'of ' + name} are not on this machine: give a file with "
                f"--pretrained PATH, or use --model tiny, which needs no network"
            )
        return config, default_preprocess(config), Path(pretrained)
    if path.is_dir():
        return _folder(path)
    if path.is_file():
        if not (path.parent / CONFIG_FILE).is_file():
            raise CheckpointError(
                f"{path} has no {CONFIG_FILE} beside it: name its model, --model NAME --pretrained {path}"
            )
        return *read_config(path.parent / CONFIG_FILE), path
    raise UsageError(f"--model {name!r} is neither a known model nor a file or folder: see zeroshot models list")


def _folder(path: Path) -> tuple[CLIPConfig, PreprocessConfig, Path]:
    folder = path if (path / CONFIG_FILE).is_file() else path / "model"
    if not (folder / CONFIG_FILE).is_file():
        raise CheckpointError(f"{path} is not a model folder: it has no {CONFIG_FILE}")
    return *read_config(folder / CONFIG_FILE), folder / WEIGHTS_FILE
