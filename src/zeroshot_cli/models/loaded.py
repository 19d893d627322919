"""A model that is ready to encode: towers, preprocessing, tokenizer, device and precision together."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zeroshot_cli.clip.config import CLIPConfig
from zeroshot_cli.clip.model import CLIP
from zeroshot_cli.clip.tokenizer import Tokenizer
from zeroshot_cli.errors import UsageError
from zeroshot_cli.images.preprocess import Preprocess, PreprocessConfig
from zeroshot_cli.models.device import DTYPES, convert
from zeroshot_cli.models.fingerprints import key_of, note, recall
from zeroshot_cli.models.formats.open_clip import describe


class Tokenize(Protocol):
    """B texts -> token ids bs."""

    def __call__(self, texts: list[str]) -> Tensor: ...


@dataclass(frozen=True)
class LoadedModel:
    """A model that is ready to encode, on its device and in its precision.

    `model` has `encode_image` and `encode_text`: the bundled CLIP, or a model of open_clip. `config` is then a
    CLIPConfig, or the mapping that open_clip builds that model from, with all else that the model depends on.
    """

    name: str
    pretrained: str | None
    model: nn.Module
    config: CLIPConfig | Mapping[str, Any]
    preprocess: Preprocess
    tokenizer: Tokenize
    device: torch.device
    precision: str
    known_fingerprint: str | None = None
    weights_file: Path | None = None

    @property
    def embed_dim(self) -> int:
        return self.config.embed_dim if isinstance(self.config, CLIPConfig) else int(self.config["embed_dim"])

    @cached_property
    def logit_scale(self) -> float:
        """The learned inverse temperature."""
        scale = self.model.logit_scale
        assert isinstance(scale, Tensor)
        return float(scale.detach().float().exp())

    @cached_property
    def logit_bias(self) -> float | None:
        """What the sigmoid loss adds to every logit; None for a model that was trained with a softmax."""
        bias = self.model.logit_bias
        return float(bias.detach()) if isinstance(bias, Tensor) else None

    @torch.inference_mode()
    def encode_images(self, images: Tensor) -> Tensor:
        """Images b3hw, preprocessed, float32 -> be, normalised, float32, on the CPU."""
        images = images.to(self.device, DTYPES[self.precision], non_blocking=True)
        return F.normalize(_call(self.model, "encode_image", images).float(), dim=-1).cpu()

    @torch.inference_mode()
    def encode_pixels(self, pixels: Tensor) -> Tensor:
        """Pixels bhw3, uint8, resized -> be, normalised, float32, on the model's device; nothing waits for a GPU."""
        images = self.preprocess.normalise(pixels.to(self.device, non_blocking=True)).to(DTYPES[self.precision])
        return F.normalize(_call(self.model, "encode_image", images).float(), dim=-1)

    @torch.inference_mode()
    def encode_texts(self, texts: Sequence[str]) -> Tensor:
        """The embeddings of texts, one a row, of length 1, float32, on the CPU."""
        tokens = self.tokenizer(list(texts)).to(self.device)
        return F.normalize(_call(self.model, "encode_text", tokens).float(), dim=-1).cpu()

    @cached_property
    def fingerprint(self) -> str:
        """A SHA-256 of weights, configuration, preprocessing and tokenizer; the same in every precision."""
        return self.known_fingerprint or fingerprint_of(
            self.model, self.config, self.preprocess.config, file=self.weights_file
        )

    @property
    def counts_tokens(self) -> bool:
        """Whether the tokenizer is ours, which says how many tokens a text has."""
        return isinstance(self.tokenizer, Tokenizer)

    def bundled(self) -> tuple[CLIP, CLIPConfig, Tokenizer]:
        """The model, its configuration and its tokenizer. Raises UsageError for a model of open_clip."""
        parts = self.model, self.config, self.tokenizer
        if isinstance(parts[0], CLIP) and isinstance(parts[1], CLIPConfig) and isinstance(parts[2], Tokenizer):
            return parts[0], parts[1], parts[2]
        raise UsageError(
            f"--model {self.name}: this command takes CLIP's own ResNets and Vision Transformers only, "
            f"and this model comes from open_clip"
        )


def make_ready(
    *,
    name: str,
    pretrained: str | None,
    model: nn.Module,
    config: CLIPConfig | Mapping[str, Any],
    preprocess: PreprocessConfig,
    tokenizer: Tokenize,
    device: torch.device,
    precision: str,
    weights_file: Path | None = None,
) -> LoadedModel:
    """Move a model with its weights, float32 on the CPU, to `device` and convert it to `precision`, once.

    `weights_file`, where all the weights came from, spares hashing them again.
    """
    # The fingerprint is of the weights as they came, so it is taken before they are rounded.
    known = None if precision == "fp32" else fingerprint_of(model, config, preprocess, file=weights_file)
    return LoadedModel(
        name=name,
        pretrained=pretrained,
        model=convert(model.eval().requires_grad_(False), device=device, precision=precision),
        config=config,
        preprocess=Preprocess(preprocess),
        tokenizer=tokenizer,
        device=device,
        precision=precision,
        known_fingerprint=known,
        weights_file=weights_file,
    )


def fingerprint_of(
    model: nn.Module,
    config: CLIPConfig | Mapping[str, Any],
    preprocess: PreprocessConfig,
    *,
    file: Path | None = None,
) -> str:
    """A SHA-256 of every tensor of `model`, with its name, and of both configurations.

    With the `file` that all of `model` came from, it is computed once and remembered while the file stays as it is.
    """
    if isinstance(config, CLIPConfig):
        description = describe(config, preprocess)
    else:
        description = {"model_cfg": dict(config), "preprocess_cfg": preprocess.to_dict()}
    text = json.dumps(description, sort_keys=True)
    note_key = None if file is None else key_of(file, text)
    fingerprint = recall(note_key) if note_key else None
    if fingerprint is None:
        fingerprint = _hash_of(model, text)
        if note_key:
            note(note_key, fingerprint)
    return fingerprint


def _hash_of(model: nn.Module, description: str) -> str:
    digest = hashlib.sha256(description.encode())
    for key, tensor in sorted(model.state_dict().items()):
        digest.update(f"{key} {tensor.dtype} {list(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


def _call(model: nn.Module, method: str, batch: Tensor) -> Tensor:
    out: Tensor = getattr(model, method)(batch)
    return out
