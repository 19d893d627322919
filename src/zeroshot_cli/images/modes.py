"""Any mode of Pillow as upright 8-bit RGB or RGBA; numpy, slow to import, is only for more than eight bits."""

from __future__ import annotations

from typing import TYPE_CHECKING

from PIL import Image

if TYPE_CHECKING:
    from collections.abc import Iterable

    import numpy as np

_BLOCK = 1 << 20  # pixels that are scaled at once

_ORIENTATION = 0x0112  # Exif 2.3, section 4.6.4
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_SIDES_SWAPPED = (5, 6, 7, 8)


def to_rgb(image: Image.Image) -> Image.Image:
    """Return an image of any Pillow mode as 8-bit RGB: what `keep_transparency` makes of it, laid on white."""
    image = keep_transparency(image)
    if image.mode == "RGB":
        return image
    on_white = Image.new("RGB", image.size, "white")
    on_white.paste(image, mask=image.getchannel("A"))
    return on_white


def keep_transparency(image: Image.Image) -> Image.Image:
    """Return an image of any Pillow mode as 8-bit RGBA where it has transparency, else as RGB; 16 bits scaled to 8.

    White is 65535 in 16 bits, as PNG has it; modes I and F do not say what white is: see `white_of`.
    """
    if image.mode.startswith("I;16") or image.mode in ("I", "F"):
        return _deep_gray(image)
    if not image.has_transparency_data:
        return image if image.mode == "RGB" else image.convert("RGB")
    if image.mode == "La":
        image = image.convert("LA")
    return image.convert("RGBA")


def upright(image: Image.Image, converted: Image.Image) -> Image.Image:
    """Return what an image was converted to, turned as the image's Exif says."""
    turn = _UPRIGHT.get(_orientation(image))
    return converted if turn is None else converted.transpose(turn)


def sides_swapped(image: Image.Image) -> bool:
    """Return whether turning an image upright swaps its width and height."""
    return _orientation(image) in _SIDES_SWAPPED


def _orientation(image: Image.Image) -> int:
    try:
        return int(image.getexif().get(_ORIENTATION, 1))
    except Exception:  # broken metadata is no reason to give up an image that can be seen
        return 1


def white_of(brightest: float, levels: Iterable[float]) -> float:
    """Return the level of white where nothing states it: the least usual one that no pixel exceeds, else `brightest`.

    `brightest` is that of the pixels that are finite.
    """
    return next((level for level in levels if brightest <= level), brightest)


def brightest_of(pixels: np.ndarray) -> float:
    """Return the brightest level that is finite, at least 0."""
    import numpy as np

    return float(pixels.max(initial=0, where=np.isfinite(pixels)))


def to_bytes(pixels: np.ndarray, white: float) -> np.ndarray:
    """Return levels from 0 to `white` as those from 0 to 255, rounded to the nearest; what is not a number is black."""
    import numpy as np

    scaled = pixels.astype(np.float32)
    np.nan_to_num(scaled, copy=False, posinf=np.inf, neginf=-np.inf)
    scaled.clip(0, white, out=scaled)
    scaled *= np.float32(255 / white) if white else 0
    return np.rint(scaled, out=scaled).astype(np.uint8)


def divided(image: Image.Image, alpha: np.ndarray) -> Image.Image:
    """Return the colours that were multiplied with alpha."""
    import numpy as np

    premultiplied = np.asarray(image).astype(np.uint16)
    divided = premultiplied * 255 // np.maximum(alpha, 1)[..., None]
    return Image.fromarray(divided.clip(0, 255).astype(np.uint8))


def _deep_gray(image: Image.Image) -> Image.Image:
    """Return gray from levels of more than 8 bits, a block of rows at a time."""
    import numpy as np

    rows = max(1, _BLOCK // image.width)
    blocks = [(top, min(top + rows, image.height)) for top in range(0, image.height, rows)]

    def pixels(top: int, bottom: int) -> np.ndarray:
        return np.asarray(image.crop((0, top, image.width, bottom)))

    levels: tuple[float, ...] = (1, 255, 65535) if image.mode == "F" else (255, 65535)
    if image.mode.startswith("I;16"):
        levels = (65535,)
    white = white_of(max(brightest_of(pixels(*block)) for block in blocks), levels)
    transparent = image.info.get("transparency")  # one level of those before the scaling
    result = Image.new("RGBA" if isinstance(transparent, int) else "RGB", image.size)
    for top, bottom in blocks:
        block = pixels(top, bottom)
        part = Image.fromarray(to_bytes(block, white)).convert("RGB")
        if isinstance(transparent, int):
            part.putalpha(Image.fromarray(np.where(block == transparent, 0, 255).astype(np.uint8)))
        result.paste(part, (0, top))
    return result
