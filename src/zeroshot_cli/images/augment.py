"""Augment training images: Pillow in, Pillow out, every draw from one `rng`."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import cast

from PIL import Image, ImageChops, ImageEnhance, ImageFilter

from zeroshot_cli.records import Augmentation

Colour = tuple[int, int, int]
Box = tuple[float, float, float, float]

WHITE: Colour = (255, 255, 255)
BLACK: Colour = (0, 0, 0)
SEEN = 20  # the opacity, 0-255, from which on a pixel counts as drawn: shadows end in less
EDGE = 50  # what FIND_EDGES gives, 0-255, where one area ends and the next begins
MIN_CONTRAST = 70  # in luminance, 0–255: an image nearer than this to its background is hard to see
ASPECT_RATIOS = (3 / 4, 4 / 3)


@dataclass(frozen=True, slots=True)
class Augment:
    """A random view of an image, in RGB and of one size.

    `size` is (height, width) in pixels, `min_scale` the smallest share of the area that a crop keeps. Transparency
    ends on white, or on a random background with Augmentation.BACKGROUND.
    """

    size: tuple[int, int]
    min_scale: float = 0.9
    kinds: frozenset[Augmentation] = frozenset()
    resample: Image.Resampling = Image.Resampling.BICUBIC

    def __call__(self, image: Image.Image, rng: Random) -> Image.Image:
        """Return a random view of an image."""
        height, width = self.size
        if image.mode == "RGBA":
            for kind, redraw in _ON_TRANSPARENT.items():
                if kind in self.kinds:
                    image = redraw(image, rng)
        image = self._on_background(image, rng)
        box = random_crop_box(image.size, rng, min_scale=self.min_scale)
        image = image.resize((width, height), self.resample, box=box, reducing_gap=3.0)
        for kind, change in _ON_PIXELS.items():
            if kind in self.kinds:
                image = change(image, rng)
        return image

    def _on_background(self, image: Image.Image, rng: Random) -> Image.Image:
        if image.mode != "RGBA":
            return image
        if Augmentation.BACKGROUND in self.kinds:
            return lay_on_background(image, rng)
        return lay_on(image, Image.new("RGB", image.size, WHITE))


def random_crop_box(size: tuple[int, int], rng: Random, *, min_scale: float) -> Box:
    """Draw the box (left, upper, right, lower) of a random resized crop of an image of `size` (width, height).

    Area in [min_scale, 1], aspect ratio log-uniform in [3/4, 4/3], ten tries, then the largest centred box within
    those ratios: as torchvision's RandomResizedCrop, which open_clip trains with.
    """
    width, height = size
    low, high = (math.log(ratio) for ratio in ASPECT_RATIOS)
    for _ in range(10):
        area = width * height * rng.uniform(min_scale, 1.0)
        ratio = math.exp(rng.uniform(low, high))
        w, h = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < w <= width and 0 < h <= height:
            left, upper = rng.randint(0, width - w), rng.randint(0, height - h)
            return (left, upper, left + w, upper + h)
    return _centred_box(width, height)


def _centred_box(width: int, height: int) -> Box:
    narrowest, widest = ASPECT_RATIOS
    w = min(width, max(1, round(height * widest)))
    h = min(height, max(1, round(width / narrowest)))
    left, upper = (width - w) // 2, (height - h) // 2
    return (left, upper, left + w, upper + h)


def place(image: Image.Image, rng: Random) -> Image.Image:
    """Trim an RGBA image and put it anywhere on a square, of which its longer side takes 60 to 100 %.

    Artists leave margins of their own, which a model should not learn.
    """
    image = trimmed(image)
    side = round(max(image.size) / rng.uniform(0.6, 1.0))
    corner = (rng.randint(0, side - image.width), rng.randint(0, side - image.height))
    square = Image.new("RGBA", (side, side))
    square.paste(image, corner)
    return square


def outline(image: Image.Image, rng: Random) -> Image.Image:
    """Draw a dark line around an RGBA image and along the edges within it, in half of cases.

    Some artists draw lines and others only areas. The line around is up to one part in thirty of the image wide.
    """
    if rng.random() < 0.5:
        return image
    dark = (rng.randint(0, 60), rng.randint(0, 60), rng.randint(0, 60))
    alpha = image.getchannel("A")
    around = alpha.filter(ImageFilter.BoxBlur(rng.uniform(0.5, 2.0) * max(image.size) / 60)).point(_is_seen)
    within = image.convert("L").filter(ImageFilter.FIND_EDGES).point(_is_edge)
    lines = Image.new("RGBA", image.size, dark)
    lines.putalpha(around)
    lines.alpha_composite(image)
    lines.paste(dark, mask=ImageChops.darker(within, alpha))
    return lines


def trimmed(image: Image.Image) -> Image.Image:
    """Cut the margins off an RGBA image in which nothing can be seen; an image that is all margin stays whole."""
    seen = image.getchannel("A").point(_is_seen).getbbox()
    return image.crop(seen) if seen else image


def lay_on(image: Image.Image, background: Image.Image) -> Image.Image:
    """Lay an RGBA image on an RGB background of the same size."""
    background.paste(image, mask=image.getchannel("A"))
    return background


def lay_on_background(image: Image.Image, rng: Random) -> Image.Image:
    """Lay an RGBA image on white, a plain colour or a soft gradient; it stands out from each."""
    subject = mean_colour(image)
    first = contrasting_colour(subject, rng)
    if rng.random() < 0.6:
        return lay_on(image, Image.new("RGB", image.size, first))
    corners = Image.new("RGB", (2, 2), first)
    for corner in ((1, 0), (0, 1), (1, 1)):
        corners.putpixel(corner, _near(first, contrasting_colour(subject, rng), rng))
    return lay_on(image, corners.resize(image.size, Image.Resampling.BILINEAR))


def _near(colour: Colour, other: Colour, rng: Random) -> Colour:
    """Go part of the way to another colour, if both are dark or both are light."""
    share = rng.uniform(0.0, 0.7) if (luminance(colour) > 127) == (luminance(other) > 127) else 0.0
    red, green, blue = (round(a + share * (b - a)) for a, b in zip(colour, other, strict=True))
    return red, green, blue


def contrasting_colour(subject: Colour, rng: Random) -> Colour:
    """Draw a background colour: white in a quarter of cases, else mostly light, never near `subject` in luminance."""
    dark = luminance(subject)
    if rng.random() < 0.25 and luminance(WHITE) - dark >= MIN_CONTRAST:
        return WHITE
    for _ in range(8):
        lowest = 150 if rng.random() < 0.8 else 0
        colour = (rng.randint(lowest, 255), rng.randint(lowest, 255), rng.randint(lowest, 255))
        if abs(luminance(colour) - dark) >= MIN_CONTRAST:
            return colour
    return WHITE if dark < 128 else BLACK


def mean_colour(image: Image.Image) -> Colour:
    """Return the mean colour of an RGBA image, each pixel weighted by its opacity; black where all is transparent."""
    mean = image.resize((1, 1), Image.Resampling.BOX)  # Pillow weights by alpha when it resizes
    return _pixel(mean, 0, 0)


def luminance(colour: Colour) -> float:
    """Return the luma of a colour, 0 to 255 (ITU-R BT.601, as Pillow's mode L)."""
    red, green, blue = colour
    return 0.299 * red + 0.587 * green + 0.114 * blue


def rotate(image: Image.Image, rng: Random, *, degrees: float = 12.0) -> Image.Image:
    """Rotate an image a little; the area that comes into view has the mean colour of its corners."""
    right, bottom = image.width - 1, image.height - 1
    corners = [_pixel(image, x, y) for x in (0, right) for y in (0, bottom)]
    red, green, blue = (sum(channel) // 4 for channel in zip(*corners, strict=True))
    return image.rotate(rng.uniform(-degrees, degrees), Image.Resampling.BILINEAR, fillcolor=(red, green, blue))


def _is_seen(opacity: int) -> int:
    return 255 if opacity >= SEEN else 0


def _is_edge(difference: int) -> int:
    return 255 if difference >= EDGE else 0


def _pixel(image: Image.Image, x: int, y: int) -> Colour:
    red, green, blue, *_ = cast(tuple[int, ...], image.getpixel((x, y)))
    return red, green, blue


def flip(image: Image.Image, rng: Random) -> Image.Image:
    """Mirror left and right, in half of cases."""
    return image.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if rng.random() < 0.5 else image


def jitter_colour(image: Image.Image, rng: Random, *, strength: float = 0.2) -> Image.Image:
    """Change brightness, contrast and saturation by up to `strength`."""
    for enhance in (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color):
        image = enhance(image).enhance(rng.uniform(1 - strength, 1 + strength))
    return image


def blur(image: Image.Image, rng: Random) -> Image.Image:
    """Blur one image in five, by up to one part in sixty of its width."""
    if rng.random() >= 0.2:
        return image
    return image.filter(ImageFilter.GaussianBlur(rng.uniform(0.2, 1.0) * image.width / 60))


def shrink(image: Image.Image, rng: Random) -> Image.Image:
    """Shrink one image in five to between 40 and 90 % of its size and enlarge it again, as small images look."""
    if rng.random() >= 0.2:
        return image
    share = rng.uniform(0.4, 0.9)
    small = (max(1, round(image.width * share)), max(1, round(image.height * share)))
    return image.resize(small, Image.Resampling.BILINEAR).resize(image.size, Image.Resampling.BICUBIC)


_ON_TRANSPARENT: dict[Augmentation, Callable[[Image.Image, Random], Image.Image]] = {
    Augmentation.PLACE: place,
    Augmentation.OUTLINE: outline,
}
_ON_PIXELS: dict[Augmentation, Callable[[Image.Image, Random], Image.Image]] = {
    Augmentation.FLIP: flip,
    Augmentation.ROTATE: rotate,
    Augmentation.COLOUR: jitter_colour,
    Augmentation.BLUR: blur,
    Augmentation.SMALL: shrink,
}
