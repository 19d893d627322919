"""The layout of Hugging Face Transformers' `CLIPModel` ⇄ ours: names, configuration, image processor.

Source: transformers models/clip/modeling_clip.py and configuration_clip.py, whose defaults stand in `_TEXT` and
`_VISION` because older files leave out what equals them.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any

import torch
from torch import Tensor

from zeroshot_cli.clip.config import (
    PRESETS,
    VOCAB_SIZE,
    CLIPConfig,
    TextTransformerConfig,
    VisionTransformerConfig,
    config_from_dict,
    config_to_dict,
)
from zeroshot_cli.errors import CheckpointError
from zeroshot_cli.images.preprocess import Interpolation, PreprocessConfig, ResizeMode
from zeroshot_cli.models.formats.shapes import mlp_ratio, preset_of

_TEXT: dict[str, Any] = {
    "vocab_size": VOCAB_SIZE, "hidden_size": 512, "intermediate_size": 2048, "num_hidden_layers": 12,
    "num_attention_heads": 8, "max_position_embeddings": 77, "hidden_act": "quick_gelu", "layer_norm_eps": 1e-5,
}  # fmt: skip
_VISION: dict[str, Any] = {
    "hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12,
    "image_size": 224, "patch_size": 32, "num_channels": 3, "hidden_act": "quick_gelu", "layer_norm_eps": 1e-5,
}  # fmt: skip
_ACTIVATIONS = {"quick_gelu": True, "gelu": False}
_RESAMPLE = {3: Interpolation.BICUBIC, 2: Interpolation.BILINEAR}  # Pillow's numbers

_TOWERS = {"text_model.": "text.", "vision_model.": "visual."}
_OUTSIDE = {
    "logit_scale": "logit_scale",
    "visual_projection.weight": "visual.proj",
    "text_projection.weight": "text.text_projection",
    "text_model.embeddings.token_embedding.weight": "text.token_embedding.weight",
    "text_model.embeddings.position_embedding.weight": "text.positional_embedding",
    "text_model.final_layer_norm.weight": "text.ln_final.weight",
    "text_model.final_layer_norm.bias": "text.ln_final.bias",
    "vision_model.embeddings.class_embedding": "visual.class_embedding",
    "vision_model.embeddings.patch_embedding.weight": "visual.conv1.weight",
    "vision_model.embeddings.position_embedding.weight": "visual.positional_embedding",
    "vision_model.pre_layrnorm.weight": "visual.ln_pre.weight",  # the spelling is theirs
    "vision_model.pre_layrnorm.bias": "visual.ln_pre.bias",
    "vision_model.post_layernorm.weight": "visual.ln_post.weight",
    "vision_model.post_layernorm.bias": "visual.ln_post.bias",
}
_INSIDE = {
    "layer_norm1": "ln_1",
    "layer_norm2": "ln_2",
    "mlp.fc1": "mlp.c_fc",
    "mlp.fc2": "mlp.c_proj",
    "self_attn.out_proj": "attn.out_proj",
}
_THEIR_BLOCK = re.compile(r"(text_model\.|vision_model\.)encoder\.layers\.(\d+)\.(.+)\.(weight|bias)")
_OUR_BLOCK = re.compile(r"(text\.|visual\.)transformer\.resblocks\.(\d+)\.(.+?)[._](weight|bias)")
_QKV = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj")


def is_transformers(state: Mapping[str, Tensor]) -> bool:
    """Return whether the names are those of a model of Transformers."""
    return any(key.startswith(tuple(_TOWERS)) for key in state)


def from_transformers(state: Mapping[str, Tensor], *, source: str) -> dict[str, Tensor]:
    """Return a state dict of `CLIPModel` under our names, queries, keys and values joined.

    A name that is not CLIP's is kept. Raises CheckpointError for a query, key or value without the other two.
    """
    ours: dict[str, Tensor] = {}
    for key, tensor in state.items():
        block = _THEIR_BLOCK.fullmatch(key)
        if key.endswith(".position_ids"):
            continue
        if block and block[3] in _QKV:
            name = f"{_TOWERS[block[1]]}transformer.resblocks.{block[2]}.attn.in_proj_{block[4]}"
            if name not in ours:
                ours[name] = _joined(state, key, block[3], source)
        elif block and block[3] in _INSIDE:
            ours[f"{_TOWERS[block[1]]}transformer.resblocks.{block[2]}.{_INSIDE[block[3]]}.{block[4]}"] = tensor
        else:
            name = _OUTSIDE.get(key, key)
            transposed = key.endswith("_projection.weight") and tensor.ndim == 2
            ours[name] = tensor.T if transposed else tensor
    if "logit_scale" in ours and ours["logit_scale"].numel() == 1:
        ours["logit_scale"] = ours["logit_scale"].reshape(())
    return ours


def _joined(state: Mapping[str, Tensor], key: str, part: str, source: str) -> Tensor:
    names = [key.replace(part, other) for other in _QKV]
    missing = [name for name in names if name not in state]
    if missing:
        raise CheckpointError(f"{source} does not fit its model configuration: it lacks: {', '.join(missing)}")
    parts = [state[name] for name in names]
    if len({part.shape for part in parts}) > 1:
        shapes = ", ".join(f"{name} {list(part.shape)}" for name, part in zip(names, parts, strict=True))
        raise CheckpointError(f"{source} has tensors of the wrong shape: {shapes} should be alike")
    return torch.cat(parts)


def to_transformers(state: Mapping[str, Tensor], config: CLIPConfig) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return our state dict and configuration as those of `CLIPModel`: its state dict and its `config.json`.

    Raises CheckpointError for a model that `CLIPModel` does not have.
    """
    document = _config_json(config)
    outside = {name: key for key, name in _OUTSIDE.items()}
    inside = {name: key for key, name in _INSIDE.items()}
    towers = {name: key for key, name in _TOWERS.items()}
    theirs: dict[str, Tensor] = {}
    for key, tensor in state.items():
        block = _OUR_BLOCK.fullmatch(key)
        if block is None:
            name = outside[key]
            theirs[name] = tensor.T.contiguous() if name.endswith("_projection.weight") else tensor
            continue
        prefix = f"{towers[block[1]]}encoder.layers.{block[2]}."
        if block[3] == "attn.in_proj":
            chunks = zip(_QKV, tensor.chunk(3), strict=True)
            theirs |= {f"{prefix}{part}.{block[4]}": chunk.contiguous() for part, chunk in chunks}
        else:
            theirs[f"{prefix}{inside[block[3]]}.{block[4]}"] = tensor
    return theirs, document


def _config_json(config: CLIPConfig) -> dict[str, Any]:
    vision, text = config.vision, config.text
    if not isinstance(vision, VisionTransformerConfig) or not isinstance(text, TextTransformerConfig):
        raise CheckpointError(
            "Transformers' CLIPModel has no ResNet, EfficientNet or CBOW: use --layout open_clip for a ResNet"
        )
    if config.init_logit_bias is not None:
        raise CheckpointError("Transformers' CLIPModel has no logit bias: use --layout open_clip")
    if text.vocab_size != VOCAB_SIZE:
        raise CheckpointError(f"Transformers' CLIPModel has CLIP's full vocabulary, and not {text.vocab_size} tokens")
    activation = "quick_gelu" if config.quick_gelu else "gelu"
    shared = {"hidden_act": activation, "layer_norm_eps": 1e-5, "projection_dim": config.embed_dim}
    return {
        "architectures": ["CLIPModel"],
        "model_type": "clip",
        "projection_dim": config.embed_dim,
        "logit_scale_init_value": config.init_logit_scale,
        "text_config": {
            **shared,
            "model_type": "clip_text_model",
            "vocab_size": text.vocab_size,
            "hidden_size": text.width,
            "intermediate_size": 4 * text.width,
            "num_hidden_layers": text.layers,
            "num_attention_heads": text.heads,
            "max_position_embeddings": text.context_length,
            "pad_token_id": VOCAB_SIZE - 1,
            "bos_token_id": VOCAB_SIZE - 2,
            "eos_token_id": VOCAB_SIZE - 1,
        },
        "vision_config": {
            **shared,
            "model_type": "clip_vision_model",
            "hidden_size": vision.width,
            "intermediate_size": int(vision.width * vision.mlp_ratio),
            "num_hidden_layers": vision.layers,
            "num_attention_heads": vision.width // vision.head_width,
            "image_size": vision.image_size,
            "patch_size": vision.patch_size,
            "num_channels": 3,
        },
    }


def config_of_transformers(document: Mapping[str, Any], *, source: str) -> CLIPConfig:
    """Return the model that a `config.json` of `CLIPModel` describes; CheckpointError where it is another."""
    if document.get("model_type") != "clip":
        raise CheckpointError(
            f"{source} is of Transformers' model type {document.get('model_type')!r}, and only 'clip' is read in that "
            f"layout: see zeroshot models list for the same model in open_clip's"
        )
    try:
        text, vision = _tower(document, "text", _TEXT), _tower(document, "vision", _VISION)
        _refuse_others(text, vision, source)
        config = CLIPConfig(
            embed_dim=int(document.get("projection_dim", 512)),
            vision=VisionTransformerConfig(
                image_size=int(vision["image_size"]),
                patch_size=int(vision["patch_size"]),
                width=vision["hidden_size"],
                layers=int(vision["num_hidden_layers"]),
                head_width=vision["hidden_size"] // vision["num_attention_heads"],
                mlp_ratio=mlp_ratio(vision["intermediate_size"], vision["hidden_size"]),
            ),
            text=TextTransformerConfig(
                width=int(text["hidden_size"]),
                heads=int(text["num_attention_heads"]),
                layers=int(text["num_hidden_layers"]),
                context_length=int(text["max_position_embeddings"]),
                vocab_size=int(text["vocab_size"]),
            ),
            quick_gelu=_ACTIVATIONS[text["hidden_act"]],
        )
        config = config_from_dict(config_to_dict(config))  # which refuses numbers that cannot be
    except (ArithmeticError, AttributeError, TypeError, ValueError) as error:
        raise CheckpointError(f"{source} is not a model configuration: {error}") from error
    preset = PRESETS.get(preset_of(config) or "")
    if preset is None or asdict(preset.vision)["head_width"] != vision["hidden_size"] // vision["num_attention_heads"]:
        return config
    return replace(config, vision=preset.vision)  # the same model has one ratio, and so one fingerprint, in any layout


def _tower(document: Mapping[str, Any], kind: str, defaults: Mapping[str, Any]) -> dict[str, Any]:
    """Return a tower's settings; where both spellings are there, Transformers lets the `_dict` win."""
    given: dict[str, Any] = {**defaults, **(document.get(f"{kind}_config") or {})}
    return given | (document.get(f"{kind}_config_dict") or {})


def _refuse_others(text: Mapping[str, Any], vision: Mapping[str, Any], source: str) -> None:
    """Raise CheckpointError for settings that our towers lack, which would give wrong answers."""
    problems = {
        "text_config.vocab_size": text["vocab_size"] != VOCAB_SIZE,
        "text_config.intermediate_size": text["intermediate_size"] != 4 * text["hidden_size"],
        "text_config.hidden_act": text["hidden_act"] not in _ACTIVATIONS,
        "vision_config.hidden_act": vision["hidden_act"] != text["hidden_act"],
        "text_config.layer_norm_eps": text["layer_norm_eps"] != 1e-5,
        "vision_config.layer_norm_eps": vision["layer_norm_eps"] != 1e-5,
        "vision_config.num_channels": vision["num_channels"] != 3,
        "vision_config.image_size": not isinstance(vision["image_size"], int),
        "vision_config.patch_size": not isinstance(vision["patch_size"], int),
    }
    for name, wrong in problems.items():
        if wrong:
            tower, key = name.split(".")
            value = (text if tower == "text_config" else vision)[key]
            raise CheckpointError(f"{source} describes a model that cannot be built here: its {name} is {value!r}")


def preprocess_of_transformers(
    document: Mapping[str, Any], *, image_size: int, source: str
) -> tuple[PreprocessConfig, tuple[str, ...]]:
    """Return the preprocessing in a `preprocessor_config.json` or `processor_config.json`, and what is not followed."""
    inner = document.get("image_processor")
    given = inner if isinstance(inner, Mapping) else document
    resize, crop = given.get("size", image_size), given.get("crop_size", image_size)
    wanted = _edges(crop) if given.get("do_center_crop", True) else _edges(resize)
    squash = isinstance(resize, Mapping) and "shortest_edge" not in resize
    resample = given.get("resample", 3)
    if wanted is None or not isinstance(resample, int) or resample not in _RESAMPLE:
        raise CheckpointError(f"{source} asks for a resize that is not known: {resize!r}, resample {resample!r}")
    normalise = given.get("do_normalize", True)
    values = {
        "size": wanted,
        "mean": given.get("image_mean") if normalise else 0,
        "std": given.get("image_std") if normalise else 1,
        "interpolation": _RESAMPLE[resample],
        "resize_mode": ResizeMode.SQUASH if squash else ResizeMode.SHORTEST,
    }
    warnings = []
    if _edges(resize) != wanted:
        warnings.append(f"{source} resizes to {resize} before it crops to {crop}; here both are {wanted}")
    return PreprocessConfig.from_dict(values), (*warnings, *_not_followed(given, source))


def _not_followed(given: Mapping[str, Any], source: str) -> list[str]:
    """Sentences about what an image processor asks for, or leaves to its kind, and does not get here."""
    factor = given.get("rescale_factor", 1 / 255)
    followed = {
        "do_resize": given.get("do_resize", True) is not False,
        "do_rescale": given.get("do_rescale", True) is not False,
        "rescale_factor": isinstance(factor, int | float) and math.isclose(factor, 1 / 255, rel_tol=1e-4),
    }
    warnings = [
        f"{source} has {key} {given[key]!r}, which is not followed: images are resized, and pixels divided by 255"
        for key, fine in followed.items()
        if not fine
    ]
    kind = given.get("image_processor_type", given.get("feature_extractor_type", "CLIP"))
    missing = [key for key in ("image_mean", "image_std") if given.get(key) is None]
    if missing and given.get("do_normalize", True) and not str(kind).startswith("CLIP"):
        warnings.append(f"{source} is of a {kind} and lacks {' and '.join(missing)}: CLIP's own are assumed")
    return warnings


def _edges(size: Any) -> int | list[int] | None:
    """Return an edge, or height and width where they differ; None for what is neither."""
    if not isinstance(size, Mapping):
        return size if isinstance(size, int) else None
    if "shortest_edge" in size:
        return _edges(size["shortest_edge"])
    height, width = size.get("height"), size.get("width")
    if not isinstance(height, int) or not isinstance(width, int):
        return None
    return height if height == width else [height, width]


def processor_json(preprocess: PreprocessConfig) -> dict[str, Any]:
    """Return a `preprocessor_config.json`. Raises CheckpointError for preprocessing that Transformers does not have."""
    height, width = preprocess.height_width
    if preprocess.resize_mode is ResizeMode.LONGEST or (
        preprocess.resize_mode is ResizeMode.SHORTEST and height != width
    ):
        raise CheckpointError("Transformers' image processor has no such resize: use --layout open_clip")
    squash = preprocess.resize_mode is ResizeMode.SQUASH
    both = {"height": height, "width": width}
    numbers = {interpolation: number for number, interpolation in _RESAMPLE.items()}
    return {
        "image_processor_type": "CLIPImageProcessor",
        "do_convert_rgb": True,
        "do_resize": True,
        "size": both if squash else {"shortest_edge": height},
        "resample": numbers[preprocess.interpolation],
        "do_center_crop": not squash,
        "crop_size": both,
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": list(preprocess.mean),
        "image_std": list(preprocess.std),
    }
