"""Any mode of Pillow as 8-bit RGB."""

from typing import TYPE_CHECKING

from PIL import Image

if TYPE_CHECKING:
    import numpy as np


def to_rgb(image: Image.Image) -> Image.Image:
    """An image of any Pillow mode as 8-bit RGB, transparency on white, 16 bits scaled to 8.

    Modes I and F do not say what white is: it is the least of 1 (F only), 255 and 65535 that no pixel exceeds, else
    the brightest pixel that is finite.
    """
    if image.mode.startswith("I;16") or image.mode in ("I", "F"):
        return _deep_gray(image)
    if not image.has_transparency_data:
        return image if image.mode == "RGB" else image.convert("RGB")
    if image.mode == "La":
        image = image.convert("LA")
    rgba = image.convert("RGBA")
    on_white = Image.new("RGB", image.size, "white")
    on_white.paste(rgba, mask=rgba.getchannel("A"))
    return on_white


def _deep_gray(image: Image.Image) -> Image.Image:
    """Gray RGB from levels of more than 8 bits, rounded to the nearest of 256."""
    import numpy as np  # here, for most pictures do without it and it takes a while to import

    pixels = np.asarray(image)
    white = 65535.0
    if not image.mode.startswith("I;16"):
        pixels = np.nan_to_num(pixels.astype(np.float64), posinf=np.inf, neginf=-np.inf)
        white = _white_of(pixels, (1, 255, 65535) if image.mode == "F" else (255, 65535))
    levels = np.rint(pixels.clip(0, white) * (255 / white)).astype(np.uint8)
    levels[pixels == image.info.get("transparency")] = 255
    return Image.fromarray(levels).convert("RGB")


def _white_of(pixels: "np.ndarray", levels: tuple[int, ...]) -> float:
    import numpy as np

    brightest = float(pixels.max(initial=0, where=np.isfinite(pixels)))
    return next((float(level) for level in levels if brightest <= level), brightest)
