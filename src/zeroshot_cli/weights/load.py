"""`load(name or path)`: weights, preprocessing, tokenizer and fingerprint as one model."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
import yaml
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn import functional as F

from zeroshot_cli.clip.config import PRESETS, CBOWConfig, CLIPConfig, config_from_dict, config_to_dict
from zeroshot_cli.clip.model import CLIP
from zeroshot_cli.clip.tokenizer import Tokenizer
from zeroshot_cli.errors import CheckpointError, UnavailableError, UsageError
from zeroshot_cli.preprocess import OPENAI_MEAN, OPENAI_STD, Preprocess, PreprocessConfig
from zeroshot_cli.weights.device import DTYPES, resolve_device, resolve_precision
from zeroshot_cli.weights.formats import from_disk, load_into, to_disk
from zeroshot_cli.weights.registry import BUNDLED, bundled_folder
from zeroshot_cli.weights.vocabulary import tokenizer_for

CONFIG_FILE = "open_clip_config.json"
WEIGHTS_FILE = "open_clip_model.safetensors"


@dataclass(frozen=True)
class LoadedModel:
    """A model that is ready to encode, on its device and in its precision."""

    name: str
    pretrained: str | None
    model: CLIP
    config: CLIPConfig
    preprocess: Preprocess
    tokenizer: Tokenizer
    device: torch.device
    precision: str

    @property
    def embed_dim(self) -> int:
        return self.config.embed_dim

    @property
    def logit_scale(self) -> float:
        """The learned inverse temperature."""
        return float(self.model.logit_scale.float().exp())

    @torch.inference_mode()
    def encode_images(self, images: Tensor) -> Tensor:
        """Images b3hw, preprocessed, float32 -> be, normalised, float32, on the CPU."""
        images = images.to(self.device, DTYPES[self.precision], non_blocking=True)
        return F.normalize(self.model.encode_image(images).float(), dim=-1).cpu()

    @torch.inference_mode()
    def encode_texts(self, texts: Sequence[str]) -> Tensor:
        """B texts -> be, normalised, float32, on the CPU."""
        tokens = self.tokenizer(texts).to(self.device)
        return F.normalize(self.model.encode_text(tokens).float(), dim=-1).cpu()

    @cached_property
    def fingerprint(self) -> str:
        """A SHA-256 of weights, configuration, preprocessing and tokenizer."""
        digest = hashlib.sha256(json.dumps(_describe(self.config, self.preprocess.config)).encode())
        for key, tensor in sorted(self.model.state_dict().items()):
            digest.update(f"{key} {tensor.dtype} {list(tensor.shape)}".encode())
            digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
        return digest.hexdigest()


def load(
    name_or_path: str,
    pretrained: str | None = None,
    *,
    device: str = "auto",
    precision: str = "auto",
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
        tokenizer=_tokenizer(config),
        device=where,
        precision=chosen,
    )


def new_model(
    name_or_yaml: str, *, text_encoder: str | None = None, seed: int = 0
) -> tuple[CLIP, CLIPConfig, PreprocessConfig, Tokenizer]:
    """A model with random weights under `seed`, from a preset's name or a YAML file of open_clip's `model_cfg`.

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
    return config.build(), config, preprocess, _tokenizer(config)


def save_model(
    directory: Path,
    model: CLIP,
    config: CLIPConfig,
    preprocess: PreprocessConfig,
    *,
    dtype: torch.dtype | None = None,
) -> None:
    """Write `open_clip_config.json` and the weights, each to a temporary name first; open_clip reads both.

    `dtype` converts the weights, to make the file smaller.
    """
    directory.mkdir(parents=True, exist_ok=True)
    state = {key: tensor.detach().to("cpu", dtype).contiguous() for key, tensor in to_disk(model.state_dict()).items()}
    partial = directory / (WEIGHTS_FILE + ".partial")
    save_file(state, partial, metadata={"format": "pt"})
    partial.replace(directory / WEIGHTS_FILE)
    partial = directory / (CONFIG_FILE + ".partial")
    partial.write_text(json.dumps(_describe(config, preprocess), indent=2) + "\n")
    partial.replace(directory / CONFIG_FILE)


def read_tensors(path: Path) -> Mapping[str, Tensor]:
    """The state dict in a safetensors file or in a pickle that holds nothing but tensors.

    Raises CheckpointError where the file is anything else.
    """
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (SafetensorError, OSError, RuntimeError, EOFError, ValueError) as error:
        raise CheckpointError(f"{path} is not a checkpoint that can be read: {error}") from error
    except Exception as error:  # torch.load raises pickle.UnpicklingError with advice that would be dangerous
        raise CheckpointError(f"{path} is refused: it is not a file of tensors alone") from error
    state = state.get("state_dict", state) if isinstance(state, dict) else state
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise CheckpointError(f"{path} is not a checkpoint: it holds no state dict of tensors")
    return state


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
        return config, _default_preprocess(config), Path(pretrained)
    if path.is_dir():
        return _folder(path)
    if path.is_file():
        if not (path.parent / CONFIG_FILE).is_file():
            raise CheckpointError(
                f"{path} has no {CONFIG_FILE} beside it: name its model, --model NAME --pretrained {path}"
            )
        return *_read_config(path.parent / CONFIG_FILE), path
    raise UsageError(f"--model {name!r} is neither a known model nor a file or folder: see zeroshot models list")


def _folder(path: Path) -> tuple[CLIPConfig, PreprocessConfig, Path]:
    folder = path if (path / CONFIG_FILE).is_file() else path / "model"
    if not (folder / CONFIG_FILE).is_file():
        raise CheckpointError(f"{path} is not a model folder: it has no {CONFIG_FILE}")
    return *_read_config(folder / CONFIG_FILE), folder / WEIGHTS_FILE


def _read_config(path: Path) -> tuple[CLIPConfig, PreprocessConfig]:
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
        tokenizer_for(vocab_size=config.text.vocab_size, context_length=config.text.context_length)
        given: dict[str, Any] = document.get("preprocess_cfg", {}) if "model_cfg" in document else {}
        preprocess = PreprocessConfig.from_dict({"size": config.vision.image_size, **given})
    except ValueError as error:
        raise CheckpointError(f"{path} is not a model configuration: {error}") from error
    return config, preprocess


def _new_config(name_or_yaml: str) -> tuple[CLIPConfig, PreprocessConfig]:
    if name_or_yaml in PRESETS:
        return PRESETS[name_or_yaml], _default_preprocess(PRESETS[name_or_yaml])
    path = Path(name_or_yaml)
    if path.suffix in {".yaml", ".yml", ".json"} and path.is_file():
        return _read_config(path)
    raise UsageError(f"--model {name_or_yaml!r} is neither a preset nor a YAML file: see zeroshot models list")


def _default_preprocess(config: CLIPConfig) -> PreprocessConfig:
    return PreprocessConfig(size=config.vision.image_size, mean=OPENAI_MEAN, std=OPENAI_STD)


def _tokenizer(config: CLIPConfig) -> Tokenizer:
    return tokenizer_for(vocab_size=config.text.vocab_size, context_length=config.text.context_length)


def _describe(config: CLIPConfig, preprocess: PreprocessConfig) -> dict[str, Any]:
    return {"model_cfg": config_to_dict(config), "preprocess_cfg": preprocess.to_dict()}
