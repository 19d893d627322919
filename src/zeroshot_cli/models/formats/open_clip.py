"""Write a model in open_clip's layout: `open_clip_config.json` and the weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from zeroshot_cli.clip.config import CLIPConfig, config_to_dict
from zeroshot_cli.clip.model import CLIP
from zeroshot_cli.images.preprocess import PreprocessConfig
from zeroshot_cli.models.formats.openai import to_disk

CONFIG_FILE = "open_clip_config.json"
WEIGHTS_FILE = "open_clip_model.safetensors"


def save_model(
    directory: Path,
    model: CLIP,
    config: CLIPConfig,
    preprocess: PreprocessConfig,
    *,
    dtype: torch.dtype | None = None,
) -> None:
    """Write `open_clip_config.json` and the weights, each to a temporary name first; open_clip reads both.

    `dtype` converts the weights, to make the file smaller; counts stay whole numbers.
    """
    directory.mkdir(parents=True, exist_ok=True)
    state = {key: _converted(tensor, dtype) for key, tensor in to_disk(model.state_dict()).items()}
    partial = directory / (WEIGHTS_FILE + ".partial")
    save_file(state, partial, metadata={"format": "pt"})
    partial.replace(directory / WEIGHTS_FILE)
    partial = directory / (CONFIG_FILE + ".partial")
    partial.write_text(json.dumps(describe(config, preprocess), indent=2) + "\n")
    partial.replace(directory / CONFIG_FILE)


def _converted(tensor: torch.Tensor, dtype: torch.dtype | None) -> torch.Tensor:
    return tensor.detach().to("cpu", dtype if tensor.is_floating_point() else None).contiguous()


def describe(config: CLIPConfig, preprocess: PreprocessConfig) -> dict[str, Any]:
    """The content of `open_clip_config.json`."""
    return {"model_cfg": config_to_dict(config), "preprocess_cfg": preprocess.to_dict()}
