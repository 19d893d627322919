"""A loaded model written in the layout of open_clip or of Transformers."""

from __future__ import annotations

import json
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

from zeroshot_cli.disk import replacing, write_file

if TYPE_CHECKING:
    from zeroshot_cli.models.loaded import LoadedModel


class Layout(StrEnum):
    """The program that reads an exported folder."""

    OPEN_CLIP = "open_clip"
    TRANSFORMERS = "transformers"


def export_model(loaded: LoadedModel, directory: Path, *, layout: Layout) -> None:
    """Write a bundled CLIP to `directory`: for open_clip, or for CLIPModel and CLIPImageProcessor of Transformers.

    Raises UsageError for a model of another family, CheckpointError for one that Transformers does not have.
    """
    from safetensors.torch import save_file  # the command line needs Layout without torch

    from zeroshot_cli.models.formats.open_clip import save_model
    from zeroshot_cli.models.formats.transformers import processor_json, to_transformers

    model, config, _ = loaded.bundled()
    preprocess = loaded.preprocess.config
    if layout is Layout.OPEN_CLIP:
        save_model(directory, model, config, preprocess)
        return
    state, document = to_transformers(model.state_dict(), config)
    processor = processor_json(preprocess)
    directory.mkdir(parents=True, exist_ok=True)
    with replacing(directory / "model.safetensors") as unfinished:
        save_file({key: tensor.contiguous() for key, tensor in state.items()}, unfinished, metadata={"format": "pt"})
    for name, content in (("preprocessor_config.json", processor), ("config.json", document)):
        write_file(directory / name, json.dumps(content, indent=2) + "\n")
