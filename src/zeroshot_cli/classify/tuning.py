"""What examples taught a classifier: one linear map, a temperature, and the probability that each label needs.

c classes, e embedding, m examples
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from zeroshot_cli.display import counted
from zeroshot_cli.documents import load_json

CALIBRATED = "calibrated"  # the method that leaves the scores as they are
_KEY = 8  # bytes of an image's SHA-256: two of a million images share them by a chance of 3e-8
_TENSORS = ("weights", "bias", "thresholds", "examples")


@dataclass(frozen=True, slots=True, eq=False)
class Tuning:
    """How a classifier departs from zero-shot: score = x · w + b, probability = softmax(score / `temperature`).

    `weights` (ce) take the place of the text embeddings, and `bias` (c,) is added; both are None where scores stay
    cosines. An image whose best label has less probability than its `thresholds` (c,) is unknown; over 1, even
    infinite, it always is. `examples` are the `key_of` of the images that it learned from, `figures` what
    `zeroshot tune` measured.
    """

    method: str
    temperature: float
    weights: Tensor | None = field(default=None, repr=False)
    bias: Tensor | None = field(default=None, repr=False)
    thresholds: Tensor | None = field(default=None, repr=False)
    examples: frozenset[bytes] = field(default=frozenset(), repr=False)
    figures: Mapping[str, Any] = field(default_factory=dict)

    @property
    def fingerprint(self) -> str:
        """A hash of all that answers depend on."""
        digest = hashlib.sha256(repr(self.temperature).encode())
        for tensor in (self.weights, self.bias, self.thresholds):
            digest.update(b"-" if tensor is None else tensor.double().numpy().tobytes())
        return digest.hexdigest()

    def sentence(self) -> str:
        """Return what a report says of it."""
        return f"{self.method}, {counted(len(self.examples), 'example')}"

    def tensors(self) -> dict[str, Tensor]:
        """Return the tensors of a classifier file."""
        keys = b"".join(sorted(self.examples))
        found = {
            "weights": self.weights,
            "bias": self.bias,
            "thresholds": self.thresholds,
            "examples": torch.frombuffer(bytearray(keys), dtype=torch.uint8).view(-1, _KEY) if keys else None,
        }
        return {name: tensor.contiguous() for name, tensor in found.items() if tensor is not None}

    def metadata(self) -> dict[str, str]:
        """Return the metadata of a classifier file, but for the temperature, which every file has."""
        return {"method": self.method, "figures": json.dumps(dict(self.figures), ensure_ascii=False, allow_nan=False)}


def key_of(content: bytes) -> bytes:
    """Return what stands for an image's content, given its SHA-256."""
    return content[:_KEY]


def read_tuning(metadata: Mapping[str, str], tensors: Mapping[str, Tensor], shape: Iterable[int]) -> Tuning:
    """Return the tuning of a classifier file whose embeddings have this shape (classes, embedding).

    Raises ValueError, KeyError or TypeError for what is damaged.
    """
    classes, width = shape
    weights, bias, thresholds, examples = map(tensors.get, _TENSORS)
    if (weights is None) != (bias is None):
        raise ValueError("weights without a bias" if bias is None else "a bias without weights")
    _check("weights", weights, (classes, width), torch.float32)
    _check("bias", bias, (classes,), torch.float32)
    _check("thresholds", thresholds, (classes,), torch.float64)
    if thresholds is not None and not bool((thresholds >= 0).all()):
        raise ValueError("thresholds under 0")
    if examples is not None:
        _check("examples", examples, (len(examples), _KEY), torch.uint8)
    figures = load_json(metadata["figures"])
    if not isinstance(figures, dict):
        raise TypeError(f"figures {figures!r}")
    keys = b"" if examples is None else examples.numpy().tobytes()
    return Tuning(
        method=metadata["method"],
        temperature=float(metadata["temperature"]),
        weights=weights,
        bias=bias,
        thresholds=thresholds,
        examples=frozenset(keys[start : start + _KEY] for start in range(0, len(keys), _KEY)),
        figures=figures,
    )


def _check(name: str, tensor: Tensor | None, shape: tuple[int, ...], dtype: torch.dtype) -> None:
    if tensor is None:
        return
    if tuple(tensor.shape) != shape or tensor.dtype != dtype:
        raise ValueError(f"{name} {tuple(tensor.shape)} of {tensor.dtype}, not {shape} of {dtype}")
    if not bool((tensor == tensor).all() if name == "thresholds" else torch.isfinite(tensor).all()):
        raise ValueError(f"{name} that are not finite numbers")
