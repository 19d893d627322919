"""CLIP's own layout of weights and open_clip's configurations ⇄ ours.

On disk a model keeps CLIP's own names, with the text tower at the top level; in memory that tower is `text`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zeroshot_cli.errors import CheckpointError

if TYPE_CHECKING:
    from torch import Tensor, nn

_TEXT = ("token_embedding.", "positional_embedding", "transformer.", "ln_final.", "text_projection")
_NOT_WEIGHTS = {"input_resolution", "context_length", "vocab_size", "attn_mask", "text.attn_mask"}
_SCALARS = ("logit_scale", "logit_bias")

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


def from_disk(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A state dict of OpenAI or open_clip under our names; `module.` of DistributedDataParallel is dropped."""
    state = {key.removeprefix("module."): tensor for key, tensor in state.items()}
    return {
        "text." + key if key.startswith(_TEXT) else key: _scalar(key, tensor)
        for key, tensor in state.items()
        if key not in _NOT_WEIGHTS
    }


def _scalar(key: str, tensor: Tensor) -> Tensor:
    return tensor.reshape(()) if key in _SCALARS and tensor.numel() == 1 else tensor


def to_disk(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Our state dict under CLIP's own names."""
    return {key.removeprefix("text."): tensor for key, tensor in state.items()}


def foreign_tensors(state: Mapping[str, Tensor]) -> list[str]:
    """The names in a state dict, ours, that tell of a model of another family."""
    return [key for key in state if key.startswith(_FOREIGN_TENSORS) or ".ls_1." in key]


def own_settings(model_cfg: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """open_clip's `model_cfg` without the settings that say nothing new, and those that make it another model.

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


def check_fits(model: nn.Module, state: Mapping[str, Tensor], *, source: str) -> None:
    """Compare `state`, under our names, with the tensors of `model`, which may be on the meta device.

    Raises CheckpointError with up to five names where tensors are missing, left over or of another shape.
    """
    expected = model.state_dict()
    wrong = [
        f"{key} is {list(state[key].shape)} and not {list(tensor.shape)}"
        for key, tensor in expected.items()
        if key in state and state[key].shape != tensor.shape
    ]
    problems = (
        ("lacks", [key for key in expected if key not in state and not key.endswith("num_batches_tracked")]),
        ("has unknown tensors", [key for key in state if key not in expected]),
        ("has tensors of the wrong shape", wrong),
    )
    for problem, names in problems:
        if names:
            raise CheckpointError(f"{source} does not fit its model configuration: it {problem}: {listed(names)}")


def load_into(model: nn.Module, state: Mapping[str, Tensor], *, source: str) -> None:
    """Copy `state`, under our names, into `model`; raises what `check_fits` raises."""
    check_fits(model, state, source=source)
    model.load_state_dict(state, strict=False)


def listed(names: list[str]) -> str:
    """Up to five names, and how many more there are."""
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return ", ".join(names[:5]) + more
