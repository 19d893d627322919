"""A model that is ready to encode: towers, preprocessing, tokenizer, device and precision together."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor
from torch.nn import functional as F

from zeroshot_cli.clip.config import CLIPConfig
from zeroshot_cli.clip.model import CLIP
from zeroshot_cli.clip.tokenizer import Tokenizer
from zeroshot_cli.preprocess import Preprocess
from zeroshot_cli.weights.device import DTYPES
from zeroshot_cli.weights.save import describe


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
        digest = hashlib.sha256(json.dumps(describe(self.config, self.preprocess.config)).encode())
        for key, tensor in sorted(self.model.state_dict().items()):
            digest.update(f"{key} {tensor.dtype} {list(tensor.shape)}".encode())
            digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
        return digest.hexdigest()
