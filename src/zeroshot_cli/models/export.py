"""A loaded model in words, and in the layout of another program."""

import json
from pathlib import Path
from typing import Any

from safetensors.torch import save_file

from zeroshot_cli.clip.config import CLIPConfig
from zeroshot_cli.models.formats.open_clip import describe, save_model
from zeroshot_cli.models.formats.transformers import processor_json, to_transformers
from zeroshot_cli.models.layouts import Layout
from zeroshot_cli.models.loaded import LoadedModel


def describe_loaded(loaded: LoadedModel) -> dict[str, Any]:
    """What a loaded model is, ready for JSON: configuration, preprocessing and fingerprint."""
    preprocess = loaded.preprocess.config
    if isinstance(loaded.config, CLIPConfig):
        description = describe(loaded.config, preprocess)
    else:
        description = {"model_cfg": dict(loaded.config), "preprocess_cfg": preprocess.to_dict()}
    return {
        "name": loaded.name,
        "pretrained": loaded.pretrained,
        **description,
        "parameters": sum(parameter.numel() for parameter in loaded.model.parameters()),
        "fingerprint": loaded.fingerprint,
    }


def export_model(loaded: LoadedModel, directory: Path, *, layout: Layout) -> None:
    """Write a bundled CLIP to `directory`: for open_clip, or for CLIPModel and CLIPImageProcessor of Transformers.

    Raises UsageError for a model of another family, CheckpointError for one that Transformers does not have.
    """
    model, config, _ = loaded.bundled()
    preprocess = loaded.preprocess.config
    if layout is Layout.OPEN_CLIP:
        save_model(directory, model, config, preprocess)
        return
    state, document = to_transformers(model.state_dict(), config)
    processor = processor_json(preprocess)
    directory.mkdir(parents=True, exist_ok=True)
    partial = directory / "model.safetensors.partial"
    save_file({key: tensor.contiguous() for key, tensor in state.items()}, partial, metadata={"format": "pt"})
    partial.replace(directory / "model.safetensors")
    for name, content in (("preprocessor_config.json", processor), ("config.json", document)):
        partial = directory / f"{name}.partial"
        partial.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
        partial.replace(directory / name)
