"""A model that is ready to encode: towers, preprocessing, tokenizer, device, precision and fingerprint together."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zeroshot_cli.clip.config import CLIPConfig
from zeroshot_cli.clip.model import CLIP
from zeroshot_cli.clip.tokenizer import Tokenizer
from zeroshot_cli.disk import cache_folder, read_own_notes, write_notes
from zeroshot_cli.documents import hash_of
from zeroshot_cli.errors import UsageError
from zeroshot_cli.images.preprocess import Preprocess, PreprocessConfig
from zeroshot_cli.models.engines.choose import AUTO, TORCH, computing, resolve_engine
from zeroshot_cli.models.engines.tower import attach
from zeroshot_cli.models.formats.numbers import check_finite
from zeroshot_cli.models.formats.open_clip import describe
from zeroshot_cli.models.precision import DTYPES, convert

_KEPT = 200  # fingerprints that are remembered


class Tokenize(Protocol):
    """What turns texts into token ids."""

    def __call__(self, texts: list[str]) -> Tensor:
        """Return token ids `(batch, context length)`."""


@dataclass(frozen=True)
class LoadedModel:
    """A model that is ready to encode, on its device and in its precision.

    `model` has `encode_image` and `encode_text`: the bundled CLIP, or a model of open_clip. `config` is then a
    CLIPConfig, or the mapping that open_clip builds that model from, with all else that the model depends on.
    """

    name: str
    pretrained: str | None
    model: nn.Module = field(repr=False)
    config: CLIPConfig | Mapping[str, Any] = field(repr=False)
    preprocess: Preprocess = field(repr=False)
    tokenizer: Tokenize = field(repr=False)
    device: torch.device
    precision: str
    known_fingerprint: str | None = None
    weights_file: Path | None = None
    notes: tuple[str, ...] = ()  # what was assumed in reading the weights
    engine: str = field(default=TORCH, repr=False)  # what runs the image tower

    @property
    def title(self) -> str:
        """Return name and weights in one: `ViT-B-32:openai`, or `tiny`, which has one set of weights."""
        return f"{self.name}:{self.pretrained}" if self.pretrained else self.name

    @property
    def embed_dim(self) -> int:
        """Return the length of an embedding."""
        return self.config.embed_dim if isinstance(self.config, CLIPConfig) else int(self.config["embed_dim"])

    @property
    def computing(self) -> str:
        """Return what the bits of an image's embedding depend on: the precision, and the engine unless it is torch."""
        return computing(self.precision, self.engine)

    @property
    def text_precision(self) -> str:
        """Return the precision of texts, which torch always encodes."""
        if self.engine == TORCH:
            return self.precision
        short = isinstance(self.model, CLIP) and next(self.model.text.parameters()).dtype == torch.bfloat16
        return "bf16" if short else "fp32"

    @property
    def _takes(self) -> torch.dtype:
        return DTYPES[self.precision] if self.engine == TORCH else torch.float32

    @cached_property
    def logit_scale(self) -> float:
        """Return the learned inverse temperature."""
        scale = self.model.logit_scale
        assert isinstance(scale, Tensor)
        return float(scale.detach().float().exp())

    @cached_property
    def logit_bias(self) -> float | None:
        """Return what the sigmoid loss adds to every logit; None for a model that was trained with a softmax."""
        bias = self.model.logit_bias
        return float(bias.detach()) if isinstance(bias, Tensor) else None

    @torch.inference_mode()
    def encode_images(self, images: Tensor) -> Tensor:
        """Return the embeddings `(batch, embedding)` of preprocessed images `(batch, 3, height, width)`, on the CPU.

        Both are float32; an embedding has length 1.
        """
        images = images.to(self.device, self._takes, non_blocking=True)
        return F.normalize(_call(self.model, "encode_image", images).float(), dim=-1).cpu()

    @torch.inference_mode()
    def encode_pixels(self, pixels: Tensor) -> Tensor:
        """Return the embeddings `(batch, embedding)` of resized uint8 pixels `(batch, height, width, 3)`.

        They are float32, of length 1, on the model's device; nothing waits for a GPU.
        """
        images = self.preprocess.normalise(pixels.to(self.device, non_blocking=True)).to(self._takes)
        return F.normalize(_call(self.model, "encode_image", images).float(), dim=-1)

    @torch.inference_mode()
    def encode_texts(self, texts: Sequence[str]) -> Tensor:
        """Return the embeddings `(batch, embedding)` of texts, float32, of length 1, on the CPU."""
        if isinstance(texts, str):  # whose letters would be the texts
            raise TypeError(f"texts are a list, and {texts!r} is one text; put it into brackets")
        tokens = self.tokenizer(list(texts)).to(self.device)
        return F.normalize(_call(self.model, "encode_text", tokens).float(), dim=-1).cpu()

    @cached_property
    def fingerprint(self) -> str:
        """Return a SHA-256 of weights, configuration, preprocessing and tokenizer; the same in every precision."""
        return self.known_fingerprint or fingerprint_of(
            self.model, self.config, self.preprocess.config, file=self.weights_file
        )

    @property
    def counts_tokens(self) -> bool:
        """Return whether the tokenizer is ours, which says how many tokens a text has."""
        return isinstance(self.tokenizer, Tokenizer)

    def describe(self) -> dict[str, Any]:
        """Return what the model is, ready for JSON: configuration, preprocessing and fingerprint."""
        return {
            "name": self.name,
            "pretrained": self.pretrained,
            **_description(self.config, self.preprocess.config),
            "parameters": sum(parameter.numel() for parameter in self.model.parameters()),
            "fingerprint": self.fingerprint,
        }

    def bundled(self) -> tuple[CLIP, CLIPConfig, Tokenizer]:
        """Return the model, its configuration and its tokenizer. Raises UsageError for a model of open_clip."""
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
    engine: str = AUTO,
) -> LoadedModel:
    """Move a model, float32 on the CPU, to `device`, convert it to `precision` and return it with all it needs.

    Its image tower is left to the `engine`.

    With `weights_file`, where all the weights came from, they are hashed only once.
    """
    # The fingerprint is of the weights as they came, so it is taken before they are rounded; NaN is found with it.
    known = fingerprint_of(model, config, preprocess, file=weights_file)
    engine = resolve_engine(engine, precision, device.type)
    model = convert(model.eval().requires_grad_(False), device=device, precision=precision, images=engine == TORCH)
    if engine != TORCH:
        attach(model, engine, precision, known)
    return LoadedModel(
        name=name,
        pretrained=pretrained,
        model=model,
        config=config,
        preprocess=Preprocess(preprocess),
        tokenizer=tokenizer,
        device=device,
        precision=precision,
        known_fingerprint=known,
        weights_file=weights_file,
        engine=engine,
    )


def fingerprint_of(
    model: nn.Module,
    config: CLIPConfig | Mapping[str, Any],
    preprocess: PreprocessConfig,
    *,
    file: Path | None = None,
) -> str:
    """Return a SHA-256 of every tensor of `model`, with its name, and of both configurations.

    With the `file` that all of `model` came from, it is remembered while the file stays as it is: hashing ViT-B-32
    takes half a second, ViT-bigG ten. Raises CheckpointError where a weight is NaN or infinite.
    """
    text = json.dumps(_description(config, preprocess), sort_keys=True)
    key = None if file is None else _note_key(file, text)
    notes = cache_folder() / "fingerprints.json"
    fingerprint = read_own_notes(notes).get(key) if key else None
    if not isinstance(fingerprint, str):
        check_finite(model, source=str(file or "the model"))
        fingerprint = _hash_of(model, text)
        if key:
            kept = {**read_own_notes(notes), key: fingerprint}
            write_notes(notes, dict(list(kept.items())[-_KEPT:]))
    return fingerprint


def _description(config: CLIPConfig | Mapping[str, Any], preprocess: PreprocessConfig) -> dict[str, Any]:
    """Return the content of `open_clip_config.json`."""
    if isinstance(config, CLIPConfig):
        return describe(config, preprocess)
    return {"model_cfg": dict(config), "preprocess_cfg": preprocess.to_dict()}


def _note_key(file: Path, description: str) -> str | None:
    """Return what a fingerprint depends on, without reading the weights; None for shards, one index to many files."""
    try:
        status = file.stat()
    except OSError:
        return None
    if file.suffix == ".json":
        return None
    parts = (str(file.resolve()), status.st_size, status.st_mtime_ns, status.st_ctime_ns, description)
    return hash_of(parts)


def _hash_of(model: nn.Module, description: str) -> str:
    digest = hashlib.sha256(description.encode())
    for key, tensor in sorted(model.state_dict().items()):
        digest.update(f"{key} {tensor.dtype} {list(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


def _call(model: nn.Module, method: str, batch: Tensor) -> Tensor:
    out: Tensor = getattr(model, method)(batch)
    return out
