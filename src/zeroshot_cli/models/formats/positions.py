"""Position embeddings for another image size or context length, interpolated as open_clip does when it loads them.

As `resize_pos_embed` and `resize_text_pos_embed` in open_clip's `model.py`: bicubic with antialiasing over the grid of
patches, linear over the tokens.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor
from torch.nn import functional as F

from zeroshot_cli.clip.config import CLIPConfig, EfficientNetConfig, ResNetConfig, TextTransformerConfig, VisionConfig
from zeroshot_cli.errors import UsageError

LARGEST_IMAGE = 2048  # pixels; attention over more patches than this makes takes minutes an image
_TEXT = "text.positional_embedding"


def with_image_size(config: CLIPConfig, size: int, *, source: str) -> CLIPConfig:
    """Return the configuration for square images of `size` pixels. Raises UsageError where the tower cannot."""
    vision = config.vision
    step = _step(vision)
    least = 32 if isinstance(vision, EfficientNetConfig) else step  # its last stage has 1/32 of the pixels
    if not least <= size <= LARGEST_IMAGE:
        raise UsageError(f"--image-size {size}: {source} takes {least} to {LARGEST_IMAGE} pixels")
    if size % step:
        low, high = size // step * step, (size // step + 1) * step
        raise UsageError(f"--image-size {size}: {source} takes multiples of {step} pixels, such as {low} or {high}")
    return replace(config, vision=replace(vision, image_size=size))


def fit_positions(
    state: Mapping[str, Tensor], config: CLIPConfig, *, source: str
) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """Return `state`, under our names, with as many positions as `config` has, and sentences about what was changed.

    What cannot be interpolated, such as another width, is left for `check_fits` to name.
    """
    fitted, told = dict(state), []
    step, side = _step(config.vision), int(config.vision.image_size) // _step(config.vision)
    resnet = isinstance(config.vision, ResNetConfig)
    key = "visual.attnpool.positional_embedding" if resnet else "visual.positional_embedding"
    old = _side(state.get(key))
    if old and old != side:
        fitted[key] = _resized_grid(state[key].float(), old, side)
        told.append(
            f"{source} has positions for images of {old * step} pixels, which are interpolated to "
            f"{config.vision.image_size}"
        )
    length = config.text.context_length if isinstance(config.text, TextTransformerConfig) else 0
    texts = state.get(_TEXT)
    if length and texts is not None and texts.ndim == 2 and 0 < len(texts) != length:
        fitted[_TEXT] = _resized_line(texts.float(), length)
        told.append(f"{source} has positions for texts of {len(texts)} tokens, which are interpolated to {length}")
    return fitted, tuple(told)


def _step(vision: VisionConfig) -> int:
    """Return the pixels between two positions; an EfficientNet has none, and takes every size."""
    if isinstance(vision, EfficientNetConfig):
        return 1
    return 32 if isinstance(vision, ResNetConfig) else vision.patch_size


def _side(positions: Tensor | None) -> int:
    """Return the edge of the grid behind the class token; 0 where there is no square one."""
    if positions is None or positions.ndim != 2:
        return 0
    side = math.isqrt(max(len(positions) - 1, 0))
    return side if side * side == len(positions) - 1 else 0


def _resized_grid(positions: Tensor, old: int, side: int) -> Tensor:
    """Return positions `(1 + side², width)` for `(1 + old², width)`; that of the class token stays."""
    first, grid = positions[:1], positions[1:]
    grid = grid.reshape(1, old, old, -1).permute(0, 3, 1, 2)
    grid = F.interpolate(grid, size=(side, side), mode="bicubic", antialias=True, align_corners=False)
    return torch.cat([first, grid.permute(0, 2, 3, 1).reshape(side * side, -1)])


def _resized_line(positions: Tensor, length: int) -> Tensor:
    """Return positions `(length, width)` for any number of them."""
    line = positions.T[None]
    return F.interpolate(line, size=length, mode="linear", align_corners=False)[0].T.contiguous()
