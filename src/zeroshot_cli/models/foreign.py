"""Model families that the bundled CLIP does not have, through open_clip: SigLIP, EVA, ConvNeXt, CoCa.

open_clip builds the model and maps old layouts of its weights; files are read and checked like all others.
"""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from zeroshot_cli.clip.config import LARGEST, MOST_LAYERS
from zeroshot_cli.errors import CheckpointError, UsageError
from zeroshot_cli.images.preprocess import PreprocessConfig
from zeroshot_cli.models.engines.choose import AUTO
from zeroshot_cli.models.formats.open_clip import ForeignModel, read_document
from zeroshot_cli.models.formats.tensors import load_into
from zeroshot_cli.models.loaded import LoadedModel, make_ready
from zeroshot_cli.models.tokenizers import (
    Fetch,
    fetched,
    first_line,
    foreign_tokenizer,
    import_open_clip,
    is_one_model,
    needs_transformers,
    require_transformers,
)

_RANDOM = {torch.Tensor.normal_, torch.Tensor.uniform_, torch.Tensor.erfinv_}


def load_foreign(
    name: str,
    foreign: ForeignModel,
    state: Mapping[str, Tensor],
    *,
    pretrained: str | None,
    device: torch.device,
    precision: str,
    fetch: Fetch | None = None,
    image_size: int | None = None,
    engine: str = AUTO,
) -> LoadedModel:
    """Return a model of open_clip with the weights `state`, for images of `image_size` pixels if that is given.

    A tokenizer that is not CLIP's comes from the folder of the weights if it holds one, else from `fetch`, which
    returns the folder of a hub repository. Raises CheckpointError for a configuration that open_clip cannot build or
    weights that do not fit it, UsageError where an optional package is missing, and UnavailableError for a tokenizer
    that is not to be had.
    """
    document, source, folder = foreign.config, str(foreign.weights), foreign.weights.parent
    model_cfg = copy.deepcopy(dict(document.get("model_cfg", document)))
    given: Mapping[str, Any] = (document.get("preprocess_cfg") or {}) if "model_cfg" in document else {}
    if not isinstance(given, Mapping):
        raise CheckpointError(f"{source}: its preprocess_cfg is {given!r} and not a mapping")
    text_cfg = model_cfg.get("text_cfg")
    if not isinstance(text_cfg, dict) or not isinstance(model_cfg.get("vision_cfg"), dict):
        raise CheckpointError(f"{source}: its configuration lacks a vision_cfg or a text_cfg")
    _refuse_absurd(source, model_cfg)
    tokenizer, tokenizer_hash = foreign_tokenizer(name, text_cfg, folder, fetch)
    own_tower = not model_cfg["vision_cfg"].get("timm_model_name")  # timm's are resized once they have weights
    if image_size is not None and own_tower:
        model_cfg["vision_cfg"]["image_size"] = image_size
    model = _build(name, model_cfg, folder, fetch)
    load_into(model, _converted(model, state), source=source)
    if image_size is not None and not own_tower:
        _resize(model, image_size, source)
    return make_ready(
        name=name,
        pretrained=pretrained,
        model=model,
        config={**_sized(document.get("model_cfg", document), image_size), **_hashes(tokenizer_hash, text_cfg)},
        preprocess=PreprocessConfig.from_dict(
            {**given, "size": image_size or getattr(model.visual, "image_size", 224)}
        ),
        tokenizer=tokenizer,
        device=device,
        precision=precision,
        engine=engine,
    )


def _sized(model_cfg: Mapping[str, Any], image_size: int | None) -> dict[str, Any]:
    """Return the configuration with another image size, so that the fingerprint follows it."""
    if image_size is None:
        return dict(model_cfg)
    return {**model_cfg, "vision_cfg": {**model_cfg["vision_cfg"], "image_size": image_size}}


def _resize(model: nn.Module, image_size: int, source: str) -> None:
    """Let an image tower of timm take another size, as open_clip does. Raises UsageError where it cannot."""
    tower: Any = model.visual
    try:
        tower.set_input_size(image_size)
        with torch.inference_mode():
            tower(torch.zeros(1, 3, image_size, image_size))
    except Exception as error:  # each of timm's towers has its own way to refuse
        raise UsageError(
            f"--image-size {image_size}: {source} does not take it ({first_line(error)}); omit --image-size"
        ) from error


def _refuse_absurd(source: str, settings: Mapping[str, Any]) -> None:
    """Raise CheckpointError for numbers that would take all memory or all time before anything else refuses them."""
    for key, value in settings.items():
        if isinstance(value, Mapping):
            _refuse_absurd(source, value)
        for number in value if isinstance(value, list) else [value]:
            most = MOST_LAYERS if key == "layers" else LARGEST
            if isinstance(number, int | float) and not abs(number) <= most:
                raise CheckpointError(f"{source}: its configuration has {key} {number!r}, which cannot be meant")


def _build(name: str, model_cfg: dict[str, Any], folder: Path, fetch: Fetch | None) -> nn.Module:
    """Return open_clip's module, its weights not yet set; the class is chosen as open_clip's `create_model` does."""
    open_clip = import_open_clip()
    custom_text = model_cfg.pop("custom_text", False)
    vision_cfg, text_cfg = model_cfg["vision_cfg"], model_cfg["text_cfg"]
    if vision_cfg.get("timm_model_name"):
        if ":" in str(vision_cfg["timm_model_name"]):  # hf-hub: and local-dir: would fetch and build another model
            raise CheckpointError(f"{name} is refused: its timm_model_name is {vision_cfg['timm_model_name']!r}")
        vision_cfg["timm_model_pretrained"] = False
    if text_cfg.get("hf_model_name"):
        text_cfg["hf_model_pretrained"] = False
        text_cfg["hf_model_name"] = str(_text_tower_folder(name, text_cfg["hf_model_name"], folder, fetch))
        custom_text = True
    kind = open_clip.CLIP
    if custom_text:
        kind = open_clip.CoCa if "multimodal_cfg" in model_cfg else open_clip.CustomTextCLIP
    try:
        with _WithoutRandomNumbers():
            model: nn.Module = kind(**model_cfg)
    except ImportError as error:
        raise needs_transformers(name) from error
    except Exception as error:  # a configuration is data: whatever it breaks in open_clip or timm is its own fault
        raise CheckpointError(f"{name}: open_clip cannot build this model: {first_line(error)}") from error
    return model


def _converted(model: nn.Module, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return `state` under the names and shapes of `model`, as open_clip's `load_checkpoint` maps older files."""
    from open_clip.convert import convert_state_dict
    from open_clip.model import convert_to_custom_text_state_dict, resize_pos_embed, resize_text_pos_embed

    tensors = {key.removeprefix("module."): tensor for key, tensor in state.items()}
    tensors = dict(convert_state_dict(model, tensors))
    if "positional_embedding" in tensors and not hasattr(model, "positional_embedding"):
        tensors = convert_to_custom_text_state_dict(tensors)
    with suppress(AssertionError, RuntimeError, AttributeError):  # what cannot be interpolated is then named
        resize_pos_embed(tensors, model)
        resize_text_pos_embed(tensors, model)
    expected = model.state_dict()
    for key in ("logit_scale", "logit_bias"):
        if key in tensors and key in expected and tensors[key].numel() == 1:
            tensors[key] = tensors[key].reshape(expected[key].shape)
    if "logit_bias" in expected:
        tensors.setdefault("logit_bias", torch.zeros_like(expected["logit_bias"]))
    leftover = "text.transformer.embeddings.position_ids"  # written by transformers before 4.31
    return {key: tensor for key, tensor in tensors.items() if key in expected or key != leftover}


def _text_tower_folder(name: str, repo: str, folder: Path, fetch: Fetch | None) -> Path:
    """Return a folder with the config.json of Transformers that describes the text tower."""
    require_transformers(name)
    if is_one_model(folder) and _is_text_tower(folder):
        return folder
    where = fetched(name, repo, "text tower", fetch)
    if not _is_text_tower(where):  # for an unknown kind, Transformers would offer to run code of that folder
        raise CheckpointError(f"{name}: its text tower, {repo}, is of no kind that open_clip builds")
    return where


def _is_text_tower(folder: Path) -> bool:
    try:
        kind = read_document(folder / "config.json").get("model_type")
    except CheckpointError:
        return False
    return isinstance(kind, str) and kind in import_open_clip().hf_configs.arch_dict


def _hashes(tokenizer: str | None, text_cfg: Mapping[str, Any]) -> dict[str, Any]:
    """Return hashes of what is not part of the configuration and decides how texts are encoded."""
    if not text_cfg.get("hf_model_name"):
        return {"tokenizer_sha256": tokenizer}
    tower = (Path(text_cfg["hf_model_name"]) / "config.json").read_bytes()
    return {"tokenizer_sha256": tokenizer, "text_tower_sha256": hashlib.sha256(tower).hexdigest()}


class _WithoutRandomNumbers(TorchFunctionMode):
    """Omits the random numbers of new weights, which are overwritten and take seconds for a large model.

    Everything else is built for real. torch.device("meta") would lose tensors that are not part of a state dict.
    """

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        return args[0] if func in _RANDOM else func(*args, **(kwargs or {}))
