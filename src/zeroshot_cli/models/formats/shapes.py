"""The shapes of weights → the configuration of their model: a preset where one fits, else what the shapes tell."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import replace

from torch import Tensor

from zeroshot_cli.clip.config import (
    CONTEXT_LENGTH,
    PRESETS,
    VOCAB_SIZE,
    CBOWConfig,
    CLIPConfig,
    EfficientNetConfig,
    ResNetConfig,
    TextTransformerConfig,
    VisionTransformerConfig,
)
from zeroshot_cli.errors import CheckpointError
from zeroshot_cli.models.formats.open_clip import foreign_tensors
from zeroshot_cli.models.formats.tensors import listed
from zeroshot_cli.models.tokenizers import SYMBOLS

HEAD_WIDTH = 64  # of all models of the paper; shapes do not tell it


def preset_of(config: CLIPConfig) -> str | None:
    """Return the name of the preset, without `-quickgelu`, whose weights have the shapes that `config` gives."""
    shapes = _without_heads(config)
    return next((name for name, preset in PRESETS.items() if _without_heads(preset) == shapes), None)


def _without_heads(config: CLIPConfig) -> tuple[object, ...]:
    """Return everything that shows in the shapes of weights."""
    vision, text = config.vision, config.text
    if isinstance(vision, EfficientNetConfig):
        return (config.embed_dim, vision, text)  # no preset is one
    hidden = int(vision.width * vision.mlp_ratio) if isinstance(vision, VisionTransformerConfig) else None
    patch = vision.patch_size if isinstance(vision, VisionTransformerConfig) else None
    depth = text.layers if isinstance(text, TextTransformerConfig) else None
    return (
        (config.embed_dim, vision.image_size, vision.width, vision.layers, hidden, patch),
        (text.width, depth, text.context_length, text.vocab_size),
    )


def config_of_shapes(state: Mapping[str, Tensor], *, source: str) -> CLIPConfig:
    """Return the configuration of `state`, under our names: a preset with these shapes, else 64 channels a head.

    The activation shows in no shape: `quick_gelu` is false. Raises CheckpointError where `state` is no CLIP of ours.
    """
    foreign = foreign_tensors(state)
    if foreign:
        raise CheckpointError(
            f"{source} is of a family that the bundled CLIP lacks ({listed(foreign[:2])}): name its model, "
            f"--model NAME --pretrained {source}"
        )
    if "visual.gated_head.class_embedding" in state:
        raise CheckpointError(
            f"{source} does not tell the size of its images and its gate: put the model's "
            f"open_clip_config.json beside it"
        )
    shapes = _Shapes(state, source)
    embed_dim = shapes.of("text.text_projection", 2)[1]
    vision = _resnet(shapes) if "visual.layer1.0.conv1.weight" in state else _vit(shapes)
    bias = 0.0 if "logit_bias" in state else None
    config = CLIPConfig(embed_dim=embed_dim, vision=vision, text=_text(shapes), init_logit_bias=bias)
    preset = preset_of(config)
    if preset is None:
        return config
    return replace(PRESETS[preset], quick_gelu=False, init_logit_bias=bias)


def _refuse_odd(width: int, source: str) -> None:
    if width % HEAD_WIDTH:
        raise CheckpointError(
            f"{source} does not tell how many heads its width of {width} is cut into: put the model's "
            f"open_clip_config.json beside it"
        )


class _Shapes:
    """Shapes by name; a name that is not there ends in one sentence that says what the file holds instead."""

    def __init__(self, state: Mapping[str, Tensor], source: str) -> None:
        self.state = state
        self.source = source

    def of(self, key: str, ndim: int) -> tuple[int, ...]:
        if key not in self.state:
            raise CheckpointError(f"{self.source} is not a CLIP: it lacks {key}, it has {listed(list(self.state))}")
        shape = tuple(self.state[key].shape)
        if len(shape) != ndim or 0 in shape:
            raise CheckpointError(f"{self.source} is not a CLIP: its {key} is {list(shape)}")
        return shape

    def count(self, pattern: str) -> int:
        """Return how many numbers the group of `pattern` takes at the start of names."""
        found = (re.match(pattern, key) for key in self.state)
        return len({match[1] for match in found if match})

    def side(self, key: str) -> int:
        """Return the edge of the square of places behind a class token."""
        places = self.of(key, 2)[0] - 1
        side = math.isqrt(places)
        if side == 0 or side * side != places:
            raise CheckpointError(f"{self.source} is not a CLIP of square images: its {key} has {places} places")
        return side


def _vit(shapes: _Shapes) -> VisionTransformerConfig:
    width, _, patch, _ = shapes.of("visual.conv1.weight", 4)
    _refuse_odd(width, shapes.source)
    hidden = shapes.of("visual.transformer.resblocks.0.mlp.c_fc.weight", 2)[0]
    return VisionTransformerConfig(
        image_size=patch * shapes.side("visual.positional_embedding"),
        patch_size=patch,
        width=width,
        layers=shapes.count(r"visual\.transformer\.resblocks\.(\d+)\."),
        head_width=HEAD_WIDTH,
        mlp_ratio=mlp_ratio(hidden, width),
    )


def mlp_ratio(hidden: int, width: int) -> float:
    """Return the ratio that, times `width` and rounded down, gives `hidden` again; every layout takes it from here."""
    ratio = hidden / width
    return ratio if int(width * ratio) == hidden else math.nextafter(ratio, math.inf)


def _resnet(shapes: _Shapes) -> ResNetConfig:
    one, two, three, four = (shapes.count(rf"visual\.layer{stage}\.(\d+)\.") for stage in (1, 2, 3, 4))
    width = shapes.of("visual.layer1.0.conv1.weight", 4)[0]
    _refuse_odd(32 * width, shapes.source)
    return ResNetConfig(
        image_size=32 * shapes.side("visual.attnpool.positional_embedding"),
        layers=(one, two, three, four),
        width=width,
        head_width=HEAD_WIDTH,
    )


def _text(shapes: _Shapes) -> TextTransformerConfig | CBOWConfig:
    vocab_size, width = shapes.of("text.token_embedding.weight", 2)
    if not SYMBOLS <= vocab_size <= VOCAB_SIZE:
        raise CheckpointError(
            f"{shapes.source} has {vocab_size} tokens and CLIP's tokenizer {SYMBOLS} to {VOCAB_SIZE}: put the model's "
            f"open_clip_config.json, which names its tokenizer, beside it"
        )
    layers = shapes.count(r"text\.transformer\.resblocks\.(\d+)\.")
    if not layers and "text.positional_embedding" not in shapes.state:
        hidden = shapes.of("text.mlp.c_fc.weight", 2)[0] if "text.mlp.c_fc.weight" in shapes.state else None
        return CBOWConfig(width=width, context_length=CONTEXT_LENGTH, vocab_size=vocab_size, hidden=hidden)
    _refuse_odd(width, shapes.source)
    return TextTransformerConfig(
        width=width,
        heads=max(1, width // HEAD_WIDTH),
        layers=layers,
        context_length=shapes.of("text.positional_embedding", 2)[0],
        vocab_size=vocab_size,
    )
