"""A new model with random weights, to be trained."""

import os
from dataclasses import replace
from pathlib import Path

import torch

from zeroshot_cli.clip.config import PRESETS, CBOWConfig, CLIPConfig
from zeroshot_cli.clip.model import CLIP
from zeroshot_cli.clip.tokenizer import Tokenizer
from zeroshot_cli.errors import UsageError
from zeroshot_cli.images.preprocess import PreprocessConfig
from zeroshot_cli.models.formats.open_clip import default_preprocess, read_config
from zeroshot_cli.models.tokenizers import tokenizer_of


def new_model(
    name_or_yaml: str, *, text_encoder: str | None = None, seed: int = 0
) -> tuple[CLIP, CLIPConfig, PreprocessConfig, Tokenizer]:
    """Return a model with random weights under `seed`, from a preset's name or a YAML file of open_clip's `model_cfg`.

    `text_encoder` replaces the text tower: `transformer` or `cbow`. Raises UsageError or CheckpointError.
    """
    config, preprocess = _new_config(name_or_yaml)
    if text_encoder == "cbow" and not isinstance(config.text, CBOWConfig):
        text = config.text
        cbow = CBOWConfig(width=text.width, context_length=text.context_length, vocab_size=text.vocab_size)
        config = replace(config, text=cbow)
    elif text_encoder == "transformer" and isinstance(config.text, CBOWConfig):
        raise UsageError(f"--text-encoder transformer: {name_or_yaml} describes a CBOW only; add heads and layers")
    torch.manual_seed(seed)
    return CLIP(config), config, preprocess, tokenizer_of(config)


def _new_config(name_or_yaml: str) -> tuple[CLIPConfig, PreprocessConfig]:
    if name_or_yaml in PRESETS:
        return PRESETS[name_or_yaml], default_preprocess(PRESETS[name_or_yaml])
    path = Path(name_or_yaml)
    if path.suffix in {".yaml", ".yml", ".json"} and os.path.isfile(path):  # noqa: PTH113
        return read_config(path)
    raise UsageError(f"--model {name_or_yaml!r} is neither a preset nor a YAML file: see zeroshot models list")
