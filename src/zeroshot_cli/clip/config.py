"""What a CLIP is made of: small frozen dataclasses, their form in JSON, and the published presets."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

VOCAB_SIZE = 49408  # 256 bytes, the same 256 ending a word, 48,894 merges, start and end of text
CONTEXT_LENGTH = 77
LARGEST = 1_000_000  # a larger size of anything is a mistake
MOST_LAYERS = 1000
_REQUIRED: Any = object()


def _check_divides(name: str, value: int, of: str, divisor: int) -> None:
    if value % divisor:
        raise ValueError(f"{name} is {value}; it must be a multiple of {of}, {divisor}")


@dataclass(frozen=True, slots=True, kw_only=True)
class VisionTransformerConfig:
    """A Vision Transformer; sizes in pixels, `head_width` in channels per head."""

    image_size: int
    patch_size: int
    width: int
    layers: int
    head_width: int = 64
    mlp_ratio: float = 4.0

    def __post_init__(self) -> None:
        """Raise ValueError for sizes that do not fit together."""
        _check_divides("vision_cfg.width", self.width, "head_width", self.head_width)
        if self.patch_size > self.image_size:
            raise ValueError(
                f"vision_cfg.patch_size is {self.patch_size}; it must be at most image_size, {self.image_size}"
            )

    @property
    def heads(self) -> int:
        """The number of attention heads."""
        return self.width // self.head_width


@dataclass(frozen=True, slots=True, kw_only=True)
class ResNetConfig:
    """A modified ResNet with attention pooling; `layers` counts the blocks of its four stages.

    What is pooled is 32 times as wide as the first stage.
    """

    image_size: int
    layers: tuple[int, int, int, int]
    width: int
    head_width: int = 64

    def __post_init__(self) -> None:
        """Raise ValueError for sizes that do not fit together."""
        _check_divides("32 times vision_cfg.width", 32 * self.width, "head_width", self.head_width)
        if self.image_size % 32:
            raise ValueError(f"vision_cfg.image_size is {self.image_size}; a ResNet needs a multiple of 32")

    @property
    def heads(self) -> int:
        """The number of attention heads."""
        return 32 * self.width // self.head_width


@dataclass(frozen=True, slots=True, kw_only=True)
class EfficientNetConfig:
    """An EfficientNet-Lite with a gated head: Lite0 has multipliers of 1 and 1, Lite1 1 and 1.1, Lite2 1.1 and 1.2.

    `classes` is what its classifier tells apart, `hidden` the width of the head's MLP, `gate` how loud that MLP is,
    `dropout` the probability that training drops one of its inputs.
    """

    image_size: int
    hidden: int
    gate: float
    width_multiplier: float = 1.0
    depth_multiplier: float = 1.0
    classes: int = 1000
    dropout: float = 0.0

    def __post_init__(self) -> None:
        """Raise ValueError for factors that make no model."""
        for name in ("width_multiplier", "depth_multiplier"):
            value = getattr(self, name)
            if not 0 < value <= 10:
                raise ValueError(f"vision_cfg.{name} is {value}; it must be more than 0 and at most 10")
        if not 0 <= self.gate <= 100:
            raise ValueError(f"vision_cfg.gate is {self.gate}; it must be from 0 to 100")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"vision_cfg.dropout is {self.dropout}; it must be at least 0 and under 1")


VisionConfig = VisionTransformerConfig | ResNetConfig | EfficientNetConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class TextTransformerConfig:
    """A causal text Transformer that is read at the end-of-text token."""

    width: int
    heads: int
    layers: int
    context_length: int = CONTEXT_LENGTH
    vocab_size: int = VOCAB_SIZE

    def __post_init__(self) -> None:
        """Raise ValueError for a width that is not a multiple of the number of heads."""
        _check_divides("text_cfg.width", self.width, "heads", self.heads)


@dataclass(frozen=True, slots=True, kw_only=True)
class CBOWConfig:
    """A continuous bag of words: the mean of the token embeddings up to the end of the text.

    `hidden` is the width of an MLP beside its projection; without it there is none.
    """

    width: int
    context_length: int = CONTEXT_LENGTH
    vocab_size: int = VOCAB_SIZE
    hidden: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CLIPConfig:
    """Two towers and one embedding space.

    `quick_gelu` is the activation that OpenAI trained with. `init_logit_scale` is the logarithm of 1 ÷ temperature.
    `init_logit_bias` gives the model a bias, for the sigmoid loss.
    """

    embed_dim: int
    vision: VisionConfig
    text: TextTransformerConfig | CBOWConfig
    quick_gelu: bool = False
    init_logit_scale: float = math.log(1 / 0.07)
    init_logit_bias: float | None = None


def config_to_dict(config: CLIPConfig) -> dict[str, Any]:
    """Return `config` as open_clip's `model_cfg`; towers that open_clip lacks are named by an `encoder`."""
    vision_cfg, text_cfg = asdict(config.vision), asdict(config.text)
    if isinstance(config.vision, ResNetConfig):
        vision_cfg |= {"layers": list(config.vision.layers), "patch_size": None}
    if isinstance(config.vision, EfficientNetConfig):
        vision_cfg["encoder"] = "efficientnet-lite"
    if isinstance(config.text, CBOWConfig):
        text_cfg["encoder"] = "cbow"
        if config.text.hidden is None:
            del text_cfg["hidden"]
    model_cfg: dict[str, Any] = {"embed_dim": config.embed_dim, "vision_cfg": vision_cfg, "text_cfg": text_cfg}
    if config.quick_gelu:
        model_cfg["quick_gelu"] = True
    if config.init_logit_bias is not None:
        model_cfg["init_logit_bias"] = config.init_logit_bias
    return model_cfg


def config_from_dict(model_cfg: Mapping[str, Any]) -> CLIPConfig:
    """Return the config of a `model_cfg`, the inverse of `config_to_dict`.

    Raises ValueError with the name of a setting that is missing, unknown or of the wrong type. An unknown setting is
    never ignored, since the weights would then give wrong answers.
    """
    settings = _Settings("model_cfg", model_cfg)
    config = CLIPConfig(
        embed_dim=settings.take("embed_dim", int),
        vision=_vision_from_dict(_Settings("vision_cfg", settings.take("vision_cfg", dict))),
        text=_text_from_dict(_Settings("text_cfg", settings.take("text_cfg", dict))),
        quick_gelu=settings.take("quick_gelu", bool, False),
        init_logit_scale=settings.take("init_logit_scale", float, math.log(1 / 0.07)),
        init_logit_bias=settings.take("init_logit_bias", float, None),
    )
    settings.take("custom_text", bool, False)  # describes the file, not the model
    settings.refuse_rest()
    return config


class _Settings:
    """A mapping read key by key; each error names the setting that is missing, of the wrong type or left over."""

    def __init__(self, name: str, values: Any) -> None:
        if not isinstance(values, Mapping):
            raise ValueError(f"{name} must be a mapping, not {values!r}")
        self.name = name
        self.rest = dict(values)

    def take(self, key: str, kind: type | tuple[type, ...], default: Any = _REQUIRED) -> Any:
        value = self.rest.pop(key, None)
        if value is None:
            if default is _REQUIRED:
                raise ValueError(f"{self.name} lacks {key!r}")
            return default
        if kind is float and isinstance(value, int) and not isinstance(value, bool):
            value = float(value)
        wrong_kind = not isinstance(value, kind) or (kind is not bool and isinstance(value, bool))
        if wrong_kind or (kind is int and not 0 < value <= LARGEST) or (kind is float and not math.isfinite(value)):
            raise ValueError(f"{self.name}.{key} cannot be {value!r}")
        return value

    def refuse_rest(self) -> None:
        unknown = [key for key, value in self.rest.items() if value is not None]
        if unknown:
            raise ValueError(f"{self.name} has a setting that this CLIP does not know: {unknown[0]!r}")


def _vision_from_dict(settings: _Settings) -> VisionConfig:
    encoder = settings.take("encoder", str, None)
    if encoder == "efficientnet-lite":
        return _efficientnet_from_dict(settings)
    if encoder is not None:
        raise ValueError(f"vision_cfg.encoder is 'efficientnet-lite' or omitted, not {encoder!r}")
    layers = settings.take("layers", (int, list, tuple))
    sizes = {key: settings.take(key, int) for key in ("image_size", "width")}
    sizes["head_width"] = settings.take("head_width", int, 64)
    patch_size, mlp_ratio = settings.take("patch_size", int, None), settings.take("mlp_ratio", float, None)
    settings.refuse_rest()
    if isinstance(layers, int):
        if patch_size is None:
            raise ValueError("vision_cfg lacks 'patch_size'")
        if mlp_ratio is not None and not 0 < mlp_ratio <= 100:
            raise ValueError(f"vision_cfg.mlp_ratio cannot be {mlp_ratio!r}")
        _check_depth("vision_cfg", layers)
        ratio = 4.0 if mlp_ratio is None else mlp_ratio
        return VisionTransformerConfig(**sizes, patch_size=patch_size, layers=layers, mlp_ratio=ratio)
    if len(layers) != 4 or not all(isinstance(n, int) and 0 < n <= MOST_LAYERS for n in layers):
        raise ValueError(f"vision_cfg.layers must be one number or four, not {layers!r}")
    for name, value in (("patch_size", patch_size), ("mlp_ratio", mlp_ratio)):
        if value is not None:
            raise ValueError(f"vision_cfg.{name} is {value}; a ResNet has none, omit it")
    return ResNetConfig(**sizes, layers=(layers[0], layers[1], layers[2], layers[3]))


def _efficientnet_from_dict(settings: _Settings) -> EfficientNetConfig:
    sizes = {key: settings.take(key, int) for key in ("image_size", "hidden")}
    sizes["classes"] = settings.take("classes", int, 1000)
    factors = {key: settings.take(key, float, 1.0) for key in ("width_multiplier", "depth_multiplier")}
    gate, dropout = settings.take("gate", float), settings.take("dropout", float, 0.0)
    settings.refuse_rest()
    return EfficientNetConfig(**sizes, **factors, gate=gate, dropout=dropout)


def _check_depth(tower: str, layers: int) -> None:
    if not 0 < layers <= MOST_LAYERS:
        raise ValueError(f"{tower}.layers cannot be {layers!r}")


def _text_from_dict(settings: _Settings) -> TextTransformerConfig | CBOWConfig:
    encoder = settings.take("encoder", str, "transformer")
    sizes: dict[str, Any] = {
        "width": settings.take("width", int),
        "context_length": settings.take("context_length", int, CONTEXT_LENGTH),
        "vocab_size": settings.take("vocab_size", int, VOCAB_SIZE),
    }
    if encoder not in ("cbow", "transformer"):
        raise ValueError(f"text_cfg.encoder is 'transformer' or 'cbow', not {encoder!r}")
    if encoder == "transformer":
        sizes |= {"heads": settings.take("heads", int), "layers": settings.take("layers", int)}
        _check_depth("text_cfg", sizes["layers"])
    else:
        sizes["hidden"] = settings.take("hidden", int, None)
    settings.refuse_rest()
    return CBOWConfig(**sizes) if encoder == "cbow" else TextTransformerConfig(**sizes)


def _vit(*sizes: int, embed: int, text_layers: int = 12, **options: Any) -> CLIPConfig:
    image_size, patch_size, width, layers = sizes
    vision = VisionTransformerConfig(
        image_size=image_size, patch_size=patch_size, width=width, layers=layers, **options
    )
    return CLIPConfig(embed_dim=embed, vision=vision, text=_text(embed, text_layers))


def _resnet(image_size: int, layers: tuple[int, int, int, int], width: int, *, embed: int, text: int) -> CLIPConfig:
    vision = ResNetConfig(image_size=image_size, layers=layers, width=width)
    return CLIPConfig(embed_dim=embed, vision=vision, text=_text(text, 12))


def _text(width: int, layers: int) -> TextTransformerConfig:
    return TextTransformerConfig(width=width, heads=width // 64, layers=layers)


# Image size, patch size or blocks, width, layers: tables 18 to 20 of arXiv 2103.00020; the larger Vision Transformers
# are from open_clip's model_configs.
_BASE = {
    "RN50": _resnet(224, (3, 4, 6, 3), 64, embed=1024, text=512),
    "RN101": _resnet(224, (3, 4, 23, 3), 64, embed=512, text=512),
    "RN50x4": _resnet(288, (4, 6, 10, 6), 80, embed=640, text=640),
    "RN50x16": _resnet(384, (6, 8, 18, 8), 96, embed=768, text=768),
    "RN50x64": _resnet(448, (3, 15, 36, 10), 128, embed=1024, text=1024),
    "ViT-B-32": _vit(224, 32, 768, 12, embed=512),
    "ViT-B-32-256": _vit(256, 32, 768, 12, embed=512),
    "ViT-B-16": _vit(224, 16, 768, 12, embed=512),
    "ViT-B-16-plus-240": _vit(240, 16, 896, 12, embed=640),
    "ViT-L-14": _vit(224, 14, 1024, 24, embed=768),
    "ViT-L-14-336": _vit(336, 14, 1024, 24, embed=768),
    "ViT-H-14": _vit(224, 14, 1280, 32, embed=1024, text_layers=24, head_width=80),
    "ViT-H-14-378": _vit(378, 14, 1280, 32, embed=1024, text_layers=24, head_width=80),
    "ViT-g-14": _vit(224, 14, 1408, 40, embed=1024, text_layers=24, head_width=88, mlp_ratio=4.3637),
    "ViT-bigG-14": _vit(224, 14, 1664, 48, embed=1280, text_layers=32, head_width=104, mlp_ratio=4.9231),
}

PRESETS: dict[str, CLIPConfig] = {
    name + suffix: replace(config, quick_gelu=bool(suffix))
    for name, config in _BASE.items()
    for suffix in ("", "-quickgelu")
}
