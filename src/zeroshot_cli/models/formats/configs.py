"""Model configurations from files and presets: what to build, how to preprocess, how to tokenise."""

import json
from pathlib import Path
from typing import Any

import yaml

from zeroshot_cli.clip.config import CLIPConfig, config_from_dict
from zeroshot_cli.clip.tokenizer import Tokenizer
from zeroshot_cli.errors import CheckpointError
from zeroshot_cli.images.preprocess import OPENAI_MEAN, OPENAI_STD, PreprocessConfig
from zeroshot_cli.models.vocabulary import check_vocabulary, tokenizer_for


def read_config(path: Path) -> tuple[CLIPConfig, PreprocessConfig]:
    """The model and its preprocessing from `open_clip_config.json` or a YAML file of the same form."""
    try:
        text = path.read_text(encoding="utf-8")
        document = json.loads(text) if path.suffix == ".json" else yaml.safe_load(text)
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise CheckpointError(f"{path} is not a model configuration: {error}") from error
    if not isinstance(document, dict):
        raise CheckpointError(f"{path} is not a model configuration: it holds no mapping")
    try:
        config = config_from_dict(document.get("model_cfg", document))
        check_vocabulary(config.text.vocab_size)
        given: dict[str, Any] = (document.get("preprocess_cfg") or {}) if "model_cfg" in document else {}
        if not isinstance(given, dict):
            raise CheckpointError(f"{path} is not a model configuration: its preprocess_cfg is {given!r}")
        preprocess = PreprocessConfig.from_dict({"size": config.vision.image_size, **given})
    except ValueError as error:
        raise CheckpointError(f"{path} is not a model configuration: {error}") from error
    return config, preprocess


def default_preprocess(config: CLIPConfig) -> PreprocessConfig:
    """OpenAI's preprocessing at the size of the model."""
    return PreprocessConfig(size=config.vision.image_size, mean=OPENAI_MEAN, std=OPENAI_STD)


def tokenizer_of(config: CLIPConfig) -> Tokenizer:
    """The tokenizer of the model's vocabulary and context length."""
    return tokenizer_for(vocab_size=config.text.vocab_size, context_length=config.text.context_length)
