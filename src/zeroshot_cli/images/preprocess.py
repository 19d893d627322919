"""Resize, crop and normalise images as the models were trained to see them: Pillow and torch only.

The arithmetic is that of open_clip's `image_transform(is_train=False)` (src/open_clip/transform.py) over
torchvision's PIL backend, to the bit. torch is imported where tensors are made, for decoding processes resize without.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeVar

from PIL import Image

from zeroshot_cli.errors import CheckpointError
from zeroshot_cli.images.modes import to_rgb
from zeroshot_cli.records import Fit

if TYPE_CHECKING:
    import torch

OPENAI_MEAN = (0.48145466, 0.4578275, 0.40821073)
OPENAI_STD = (0.26862954, 0.26130258, 0.27577711)

REDUCED_TO = 2  # times the model's size: what is left of a large image, on either side, at least
_MAX_GROWTH = 64  # an image that resized would hold more crops than this is cut out before it is resized


class Interpolation(enum.StrEnum):
    """The filter that an image is resized with."""

    BICUBIC = "bicubic"
    BILINEAR = "bilinear"


class ResizeMode(enum.StrEnum):
    """Which edge is fitted to the target: the shortest (then crop), the longest (then pad) or both (squash)."""

    SHORTEST = "shortest"
    LONGEST = "longest"
    SQUASH = "squash"


_RESAMPLING = {
    Interpolation.BICUBIC: Image.Resampling.BICUBIC,
    Interpolation.BILINEAR: Image.Resampling.BILINEAR,
}

_Choice = TypeVar("_Choice", bound=enum.StrEnum)


@dataclass(frozen=True, slots=True)
class PreprocessConfig:
    """How a model's images are prepared; `size` is an edge or (height, width), mean and std are for levels 0 to 1."""

    size: tuple[int, int] | int = 224
    mean: tuple[float, float, float] = OPENAI_MEAN
    std: tuple[float, float, float] = OPENAI_STD
    interpolation: Interpolation = Interpolation.BICUBIC
    resize_mode: ResizeMode = ResizeMode.SHORTEST
    fill_color: int = 0

    @property
    def height_width(self) -> tuple[int, int]:
        """The size of a prepared image."""
        return (self.size, self.size) if isinstance(self.size, int) else self.size

    def to_dict(self) -> dict[str, Any]:
        """Return open_clip's `preprocess_cfg`, ready for JSON."""
        return {
            "size": self.size if isinstance(self.size, int) else list(self.size),
            "mode": "RGB",
            "mean": list(self.mean),
            "std": list(self.std),
            "interpolation": self.interpolation.value,
            "resize_mode": self.resize_mode.value,
            "fill_color": self.fill_color,
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> PreprocessConfig:
        """Read open_clip's `preprocess_cfg`; what is missing or null has its default, as there.

        Raises CheckpointError for an invalid value.
        """
        given = {key: value for key, value in values.items() if value is not None}
        if given.get("mode", "RGB") != "RGB":
            raise _wrong("mode", given["mode"], "RGB")
        interpolation = given.get("interpolation", Interpolation.BICUBIC)
        if interpolation == "random":  # for training only; open_clip infers with bicubic
            interpolation = Interpolation.BICUBIC
        return cls(
            size=_size(given.get("size", 224)),
            mean=_channels("mean", given.get("mean", OPENAI_MEAN)),
            std=_channels("std", given.get("std", OPENAI_STD), positive=True),
            interpolation=_choice("interpolation", interpolation, Interpolation),
            resize_mode=_choice("resize_mode", given.get("resize_mode", ResizeMode.SHORTEST), ResizeMode),
            fill_color=_fill_color(given.get("fill_color", 0)),
        )


def _wrong(key: str, value: object, wanted: str) -> CheckpointError:
    return CheckpointError(f"preprocess_cfg: {key} is {value!r}; it must be {wanted}")


def _each(value: Any, count: int) -> list[Any]:
    """Return the items of a list, or one value `count` times."""
    return list(value) if isinstance(value, list | tuple) else [value] * count


def _is_pixels(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _size(value: Any) -> tuple[int, int] | int:
    edges = _each(value, 1)
    if len(edges) not in (1, 2) or not all(map(_is_pixels, edges)):
        raise _wrong("size", value, "a positive number of pixels, or a height and a width")
    return int(edges[0]) if len(edges) == 1 else (int(edges[0]), int(edges[1]))


def _channels(key: str, value: Any, *, positive: bool = False) -> tuple[float, float, float]:
    numbers = _each(value, 3)
    ok = len(numbers) == 3 and all(isinstance(number, int | float) and math.isfinite(number) for number in numbers)
    if not ok or (positive and min(numbers) <= 0):
        raise _wrong(key, value, f"three {'positive ' if positive else ''}numbers")
    return float(numbers[0]), float(numbers[1]), float(numbers[2])


def _choice(key: str, value: Any, kind: type[_Choice]) -> _Choice:
    try:
        return kind(value)
    except ValueError:
        raise _wrong(key, value, f"one of {', '.join(kind)}") from None


def _fill_color(value: Any) -> int:
    if value not in range(256):
        raise _wrong("fill_color", value, "a level from 0 to 255")
    return int(value)


class Preprocess:
    """Resizes and normalises images for one model; safe to use from several threads."""

    def __init__(self, config: PreprocessConfig) -> None:
        self.config = config
        self._on: dict[torch.device, tuple[torch.Tensor, torch.Tensor]] = {}  # a copy to a GPU would wait for it

    def __call__(self, image: Image.Image) -> torch.Tensor:
        """Return the normalised pixels (3, height, width) of an image, float32."""
        import torch

        resized = resize(image, self.config)
        pixels = torch.frombuffer(bytearray(resized.tobytes()), dtype=torch.uint8)
        return self.normalise(pixels.view(1, resized.height, resized.width, 3))[0]

    def normalise(self, pixels: torch.Tensor, layout: torch.memory_format | None = None) -> torch.Tensor:
        """Normalise resized pixels (batch, height, width, 3), uint8, to (batch, 3, height, width), float32.

        They stay on their device; `layout` is contiguous by default. All normalisation is done here.
        """
        import torch

        if pixels.device not in self._on:
            given = (torch.tensor(values)[:, None, None] for values in (self.config.mean, self.config.std))
            mean, std = (values.to(pixels.device) for values in given)
            self._on[pixels.device] = mean, std
        mean, std = self._on[pixels.device]
        images = pixels.permute(0, 3, 1, 2).to(torch.float32, memory_format=layout or torch.contiguous_format)
        return images.div_(255).sub_(mean).div_(std)


_MODES = {Fit.CROP: ResizeMode.SHORTEST, Fit.PAD: ResizeMode.LONGEST, Fit.SQUASH: ResizeMode.SQUASH}


def fitted(config: PreprocessConfig, fit: str | None) -> PreprocessConfig:
    """Return a configuration that fits images in another way; None is how the model was trained."""
    return config if fit is None else replace(config, resize_mode=_MODES[Fit(fit)])


def resize(image: Image.Image, config: PreprocessConfig, *, exact: bool = True) -> Image.Image:
    """Return an image as RGB of the model's size: resized, then cropped or padded around the centre.

    Unless `exact`, one of at least four times that size is first reduced to the means of blocks of its pixels, to no
    less than twice the size: a fifth of the time for 12 megapixels.
    """
    target = config.height_width
    image = to_rgb(image)
    height, width = resized_size(image.height, image.width, config)
    resample = _RESAMPLING[config.interpolation]
    if config.resize_mode is ResizeMode.SHORTEST and target[0] != target[1]:
        resample = Image.Resampling.BICUBIC  # open_clip does not pass the choice on to this case
    if height * width > _MAX_GROWTH * target[0] * target[1]:
        return _resized_centre(image, (height, width), target, resample)
    if (width, height) != image.size:
        image = image.resize((width, height), resample, reducing_gap=None if exact else REDUCED_TO)
    fill = config.fill_color if config.resize_mode is ResizeMode.LONGEST else 0
    return _centred(image, target, fill)


def resized_size(height: int, width: int, config: PreprocessConfig) -> tuple[int, int]:
    """Return (height, width) before the crop, rounded as open_clip does: down for a square target, else to nearest."""
    target, mode = config.height_width, config.resize_mode
    if mode is ResizeMode.SQUASH:
        return target
    if mode is ResizeMode.SHORTEST and target[0] == target[1]:
        edge, short = target[0], min(height, width)
        return (edge, int(edge * width / short)) if height <= width else (int(edge * height / short), edge)
    ratios = height / target[0], width / target[1]
    ratio = max(ratios) if mode is ResizeMode.LONGEST else min(ratios)
    return max(1, round(height / ratio)), max(1, round(width / ratio))  # a very thin image keeps one pixel


def _centred(image: Image.Image, target: tuple[int, int], fill: int) -> Image.Image:
    """Return the centre of `image` of size `target`, with a border of gray level `fill` where it is too small."""
    top, left = (_offset(have, want) for have, want in zip(reversed(image.size), target, strict=True))
    if top == left == 0 and image.size == (target[1], target[0]):
        return image
    canvas = Image.new("RGB", (target[1], target[0]), (fill, fill, fill))
    canvas.paste(image, (-left, -top))
    return canvas


def _offset(have: int, want: int) -> int:
    """Return where the crop starts: half to even as `round`, while a border's smaller half comes first."""
    return round((have - want) / 2) if have >= want else -((want - have) // 2)


def _resized_centre(
    image: Image.Image, size: tuple[int, int], target: tuple[int, int], resample: Image.Resampling
) -> Image.Image:
    """Return the centre crop of a very long image, resized on its own; whole it might not fit into memory."""
    box: list[float] = []
    for have, full, want in zip(reversed(image.size), size, target, strict=True):
        start = max(0, _offset(full, want))
        box += [start * have / full, min(have, (start + want) * have / full)]
    top, bottom, left, right = box
    return image.resize((target[1], target[0]), resample, box=(left, top, right, bottom))
