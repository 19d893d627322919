"""A loaded model written in the layout of open_clip or of Transformers, or as ONNX."""

from __future__ import annotations

import json
import secrets
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

from zeroshot_cli.clip.config import VOCAB_SIZE, CBOWConfig, CLIPConfig, EfficientNetConfig
from zeroshot_cli.disk import finished_folder, replacing, write_file, writing
from zeroshot_cli.errors import CheckpointError, UsageError

if TYPE_CHECKING:
    from zeroshot_cli.models.loaded import LoadedModel


class Layout(StrEnum):
    """The program that reads an exported folder."""

    OPEN_CLIP = "open_clip"
    TRANSFORMERS = "transformers"
    ONNX = "onnx"


def export_model(loaded: LoadedModel, directory: Path, *, layout: Layout) -> str:
    """Write a bundled CLIP to `directory`: for open_clip, for Transformers' CLIPModel with its tokenizer, or as ONNX.

    Returns what was checked. Raises UsageError for a model of another family, CheckpointError for one that the other
    program does not have.
    """
    from safetensors.torch import save_file  # the command line needs Layout without torch

    from zeroshot_cli.models.formats.open_clip import save_model
    from zeroshot_cli.models.formats.transformers import processor_json, to_transformers
    from zeroshot_cli.models.tokenizers import transformers_files

    model, config, tokenizer = loaded.bundled()
    preprocess = loaded.preprocess.config
    if layout is Layout.ONNX:
        from zeroshot_cli.models.engines.onnx import write_folder

        with writing(str(directory)):
            directory.parent.mkdir(parents=True, exist_ok=True)
            if directory.is_dir():
                if any(directory.iterdir()):
                    raise UsageError(f"--to {directory} holds something already: name another folder")
                directory.rmdir()
            with finished_folder(directory, directory.with_name(f".{secrets.token_hex(8)}")) as unfinished:
                least = write_folder(loaded, unfinished)
        return f"; its least cosine to the model is {least:.6f}"
    _refuse_own(loaded.name, config, layout)
    if layout is Layout.OPEN_CLIP:
        save_model(directory, model, config, preprocess)
        return ""
    state, document = to_transformers(model.state_dict(), config)
    processor = processor_json(preprocess)
    directory.mkdir(parents=True, exist_ok=True)
    with replacing(directory / "model.safetensors") as unfinished:
        save_file({key: tensor.contiguous() for key, tensor in state.items()}, unfinished, metadata={"format": "pt"})
    for name, text in transformers_files(tokenizer).items():
        write_file(directory / name, text)
    for name, content in (("preprocessor_config.json", processor), ("config.json", document)):
        write_file(directory / name, json.dumps(content, indent=2) + "\n")
    return ""


def _refuse_own(name: str, config: CLIPConfig, layout: Layout) -> None:
    """Raise CheckpointError for what only the bundled CLIP has."""
    reason = None
    if isinstance(config.text, CBOWConfig):
        reason = "its text encoder is a bag of words (CBOW), which only zeroshot has"
    elif isinstance(config.vision, EfficientNetConfig):
        reason = "its image encoder is an EfficientNet with a gated head, which only zeroshot has"
    elif config.text.vocab_size != VOCAB_SIZE:
        reason = f"its vocabulary is cut to {config.text.vocab_size} tokens, and {layout} has all {VOCAB_SIZE}"
    if reason:
        raise CheckpointError(f"{name} cannot be exported for {layout}: {reason}; load it with --model {name}")
