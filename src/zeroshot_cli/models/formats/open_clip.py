"""OpenAI's and open_clip's layout ⇄ ours: names of weights, `open_clip_config.json`, and a folder that holds both.

On disk a model keeps CLIP's own names, with the text tower at the top level; in memory that tower is `text`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from zeroshot_cli.clip.config import CLIPConfig, config_from_dict, config_to_dict
from zeroshot_cli.clip.model import CLIP
from zeroshot_cli.disk import open_plain, replacing, write_file
from zeroshot_cli.documents import MAX_DEPTH, load_json, load_yaml
from zeroshot_cli.errors import CheckpointError
from zeroshot_cli.images.preprocess import OPENAI_MEAN, OPENAI_STD, PreprocessConfig
from zeroshot_cli.models.formats.packed import pack
from zeroshot_cli.models.registry import CONFIG_FILE, WEIGHTS_FILES
from zeroshot_cli.models.tokenizers import check_vocabulary

_TEXT = ("token_embedding.", "positional_embedding", "transformer.", "ln_final.", "mlp.", "text_projection")
_NOT_WEIGHTS = {"input_resolution", "context_length", "vocab_size", "attn_mask", "text.attn_mask"}
_SCALARS = ("logit_scale", "logit_bias")
_MOST_TEXT = 16 << 20  # bytes of a configuration

# Names that only models of other families have: timm's image towers, Transformers' text towers, CoCa's decoder,
# layer scale, pooling by attention, and a bias at the projection of the text.
_FOREIGN_TENSORS = (
    "visual.trunk.", "visual.head.", "visual.attn_pool", "visual.patch_embed.", "text.transformer.embeddings.",
    "text.transformer.encoder.", "text.proj.", "text.text_projection.", "text.cls_emb", "text_decoder.",
    "image_encoder.", "text_encoder.",
)  # fmt: skip

# The settings of open_clip's CLIPVisionCfg, CLIPTextCfg and models (src/open_clip/model.py) that our model lacks,
# with the values at which it is the same model. `...` is any value: it matters in training or in open_clip only.
_VISION = {
    "ls_init_value": (None,), "patch_dropout": ..., "attentional_pool": (False, None, ""), "attn_pooler_queries": ...,
    "attn_pooler_heads": ..., "no_ln_pre": (False,), "pos_embed_type": ("learnable",),
    "final_ln_after_pool": (False,), "pool_type": ("tok",), "output_tokens": (False,), "act_kwargs": (None, {}),
    "norm_kwargs": (None, {}), "block_type": (None, "default"), "qk_norm": (False,), "scaled_cosine_attn": (False,),
    "scale_heads": (False,), "scale_attn_inner": (False,), "scale_attn": (False,), "scale_fc": (False,),
    "timm_model_name": (None,), "timm_model_pretrained": ..., "timm_pool": ..., "timm_proj": ...,
    "timm_proj_bias": ..., "timm_drop": ..., "timm_drop_path": ..., "global_average_pool": (False,),
    "input_patchnorm": (False,),
}  # fmt: skip
_TEXT_SETTINGS = {
    "hf_tokenizer_name": (None, ""), "tokenizer_mode": (None, "clean"), "tokenizer_kwargs": (None, {}),
    "mlp_ratio": (4.0,), "ls_init_value": (None,), "embed_cls": (False,), "pad_id": ..., "eos_id": ...,
    "no_causal_mask": (False,), "final_ln_after_pool": (False,), "pool_type": ("argmax",), "proj_bias": (False,),
    "proj_type": ("linear",), "output_tokens": (False,), "act_kwargs": (None, {}), "norm_kwargs": (None, {}),
    "block_type": (None, "default"), "qk_norm": (False,), "scaled_cosine_attn": (False,), "scale_heads": (False,),
    "scale_attn_inner": (False,), "scale_attn": (False,), "scale_fc": (False,), "hf_model_name": (None, ""),
    "hf_model_pretrained": ..., "hf_proj_type": ..., "hf_pooler_type": ..., "bert_tokenizer": (False,),
}  # fmt: skip
_MODEL: dict[str, Any] = {
    "multimodal_cfg": (None,),
    "nonscalar_logit_scale": ...,
    "cast_dtype": ...,
    "custom_text": ...,
}


class ForeignModel(CheckpointError):
    """A model of open_clip that the bundled CLIP cannot build; `config` is its `open_clip_config.json`."""

    def __init__(self, message: str, *, config: Mapping[str, Any], weights: Path) -> None:
        super().__init__(message)
        self.config = dict(config)
        self.weights = weights


# Writing


def save_model(
    directory: Path,
    model: CLIP,
    config: CLIPConfig,
    preprocess: PreprocessConfig,
    *,
    dtype: torch.dtype | None = None,
) -> None:
    """Write `open_clip_config.json` and the weights, each to a temporary name first; open_clip reads both.

    `dtype` converts the weights, to make the file smaller; counts stay whole numbers. `torch.int8` keeps a scale for
    each row of a matrix and leaves all else in float32 (`packed.py`); open_clip does not read that.
    """
    directory.mkdir(parents=True, exist_ok=True)
    state = {key: tensor.detach().cpu() for key, tensor in to_disk(model.state_dict()).items()}
    if dtype == torch.int8:
        state = pack(state)
    elif dtype is not None:
        state = {key: tensor.to(dtype) if tensor.is_floating_point() else tensor for key, tensor in state.items()}
    state = {key: tensor.contiguous() for key, tensor in state.items()}
    with replacing(directory / WEIGHTS_FILES[0]) as unfinished:
        save_file(state, unfinished, metadata={"format": "pt"})
    write_file(directory / CONFIG_FILE, json.dumps(describe(config, preprocess), indent=2) + "\n")


def describe(config: CLIPConfig, preprocess: PreprocessConfig) -> dict[str, Any]:
    """Return the content of `open_clip_config.json`."""
    return {"model_cfg": config_to_dict(config), "preprocess_cfg": preprocess.to_dict()}


# Configurations


def default_preprocess(config: CLIPConfig) -> PreprocessConfig:
    """Return OpenAI's preprocessing at the size of the model."""
    return PreprocessConfig(size=config.vision.image_size, mean=OPENAI_MEAN, std=OPENAI_STD)


def read_config(path: Path) -> tuple[CLIPConfig, PreprocessConfig]:
    """Return the model and its preprocessing from `open_clip_config.json` or a YAML file of the same form.

    Raises CheckpointError for what is not a configuration, or has settings that the bundled CLIP lacks.
    """
    return parse_config(read_document(path), path)


def read_document(path: Path) -> dict[str, Any]:
    """Return the mapping in a JSON or YAML file. Raises CheckpointError where there is none."""
    try:
        with open_plain(path) as file:
            data = file.read(_MOST_TEXT + 1)
        if len(data) > _MOST_TEXT:
            raise ValueError(f"it has more than {_MOST_TEXT >> 20} MiB")
        text = data.decode("utf-8-sig")
        document = load_json(text) if path.suffix == ".json" else load_yaml(text)
        _check_depth(document)
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path} is not a model configuration: {_short(error)}") from error
    return dict(_mapping(document, path))


def _check_depth(document: Any) -> None:
    """Raise ValueError for lists and mappings that are nested too deeply for what reads them."""
    level = [document] if isinstance(document, dict | list) else []
    for _ in range(MAX_DEPTH):
        inner = (value.values() if isinstance(value, dict) else value for value in level)
        level = [value for values in inner for value in values if isinstance(value, dict | list)]
        if not level:
            return
    raise ValueError("its lists and mappings are nested too deeply")


def _short(error: Exception) -> str:
    """Return an error's text on one line, at most 200 characters of it."""
    text = " ".join(str(error).split())
    return text if len(text) <= 200 else text[:199] + "…"


def parse_config(
    document: Mapping[str, Any], path: Path, *, weights: Path | None = None
) -> tuple[CLIPConfig, PreprocessConfig]:
    """Return the model and its preprocessing from the content of `path`.

    Where it describes `weights` of a model that the bundled CLIP lacks, raise ForeignModel; else CheckpointError.
    """
    model_cfg = _mapping(document.get("model_cfg", document), path, "model_cfg")
    if weights is not None:
        model_cfg, foreign = own_settings(model_cfg)
        if foreign:
            reason = f"{path} describes a model that the bundled CLIP lacks: {', '.join(foreign)}"
            raise ForeignModel(reason, config=document, weights=weights)
    try:
        config = config_from_dict(model_cfg)
        check_vocabulary(config.text.vocab_size)
        given = _mapping(
            (document.get("preprocess_cfg") or {}) if "model_cfg" in document else {}, path, "preprocess_cfg"
        )
        size = given.get("size") or config.vision.image_size
        return config, PreprocessConfig.from_dict({**given, "size": size})
    except (ValueError, ArithmeticError) as error:
        raise CheckpointError(f"{path} is not a model configuration: {_short(error)}") from error


def own_settings(model_cfg: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Return open_clip's `model_cfg` without the settings that say nothing new, and those that make it another model.

    A setting that open_clip does not know either is kept, so that `config_from_dict` refuses it by name.
    """
    foreign: list[str] = []
    model = _own("model_cfg", model_cfg, _MODEL, foreign)
    for name, known in (("vision_cfg", _VISION), ("text_cfg", _TEXT_SETTINGS)):
        if isinstance(model.get(name), Mapping):
            model[name] = _own(name, model[name], known, foreign)
    return model, foreign


def _own(name: str, settings: Mapping[str, Any], known: Mapping[str, Any], foreign: list[str]) -> dict[str, Any]:
    for key, value in settings.items():
        allowed = known.get(key, ...)
        if allowed is not ... and value not in allowed:
            foreign.append(f"{name}.{key}")
    own = {key: value for key, value in settings.items() if key not in known}
    size = own.get("image_size")
    if isinstance(size, list | tuple) and len(size) == 2:
        own["image_size"] = size[0]
        if size[0] != size[1]:
            foreign.append(f"{name}.image_size")
    return own


def _mapping(value: Any, path: Path, name: str = "content") -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise CheckpointError(f"{path} is not a model configuration: its {name} is {str(value)[:40]}, not a mapping")
    return value


# Names of weights


def from_disk(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return a state dict of OpenAI or open_clip under our names, without DistributedDataParallel's `module.`."""
    state = {key.removeprefix("module."): tensor for key, tensor in state.items()}
    return {
        "text." + key if key.startswith(_TEXT) else key: _scalar(key, tensor)
        for key, tensor in state.items()
        if key not in _NOT_WEIGHTS
    }


def _scalar(key: str, tensor: Tensor) -> Tensor:
    return tensor.reshape(()) if key in _SCALARS and tensor.numel() == 1 else tensor


def to_disk(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return our state dict under CLIP's own names."""
    return {key.removeprefix("text."): tensor for key, tensor in state.items()}


def foreign_tensors(state: Mapping[str, Tensor]) -> list[str]:
    """Return the names in a state dict, ours, that only models of other families have."""
    return [key for key in state if key.startswith(_FOREIGN_TENSORS) or ".ls_1." in key]
