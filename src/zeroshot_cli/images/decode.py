"""Decode an image file to upright RGB; a file that cannot be decoded is refused with a reason.

Imports neither numpy nor torch, so that a process that does nothing but decode starts in a moment.
"""

# pathlib would change how a path is written, and "a/" is not "a".
# ruff: noqa: PTH114, PTH116

from __future__ import annotations

import logging
import os
import re
import threading
import warnings
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO

from PIL import Image, UnidentifiedImageError, features

from zeroshot_cli.errors import UnreadableImage
from zeroshot_cli.images.file_kinds import (
    HEAD_BYTES,
    image_format,
    is_cut_short,
    is_heic,
    not_an_image,
    reason_of,
    special_file,
    why_unidentified,
)

if TYPE_CHECKING:
    import numpy as np

MAX_PIXELS = 178_956_970  # where Pillow itself refuses
DEFAULT_TIMEOUT = 60.0  # seconds for one image

ReduceTo = Callable[[int, int], tuple[int, int]]
"""(height, width) of an upright image → the (height, width) that it will be resized to."""

# Read without waiting for a pipe's other end, and without making a terminal that of this process.
_OPEN_FLAGS = os.O_RDONLY | sum(getattr(os, name, 0) for name in ("O_NONBLOCK", "O_NOCTTY", "O_CLOEXEC", "O_BINARY"))

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

# Formats that Pillow knows by name only, or hands to a program or to Windows.
_REFUSED_FORMATS = {
    "EPS": "PostScript, not an image",
    "WMF": "a Windows metafile; convert it to PNG first",
    "MPEG": "a video (MPEG), not an image",
    "BUFR": "weather data (BUFR), not an image",
    "GRIB": "weather data (GRIB), not an image",
    "HDF5": "an HDF5 file, not an image",
}
_OPTIONAL_FEATURES = {"AVIF": "avif", "WebP": "webp", "JPEG 2000": "jpg_2000"}  # format → part of Pillow
_TRUNCATED = re.compile(r"truncated|reached eof|end of file|not enough image data|only got \d", re.IGNORECASE)
_MAX_DETAIL = 100  # characters of a decoder's message

_PILLOW_WARNINGS = ("ignore", None, Warning, re.compile(r"PIL\.|pillow_heif"), 0)
_lock = threading.Lock()


@dataclass(frozen=True, slots=True)
class Decoding:
    """How image files become pixels.

    `exact` reads every pixel; otherwise a JPEG of at least four times the model's size is decoded at a smaller scale.
    An image of more than `max_pixels` is refused, and so is one that takes longer than `timeout` seconds. `as_stored`
    reads data sets as the reference does: every pixel, Exif orientation ignored, transparency dropped.
    """

    exact: bool = True
    as_stored: bool = False
    max_pixels: int = MAX_PIXELS
    timeout: float = DEFAULT_TIMEOUT

    @property
    def mode(self) -> str:
        """What an embedding depends on, the limit included: an image cached under a higher limit is still refused."""
        how = "as stored" if self.as_stored else "exact" if self.exact else "draft"
        return f"{how}, at most {self.max_pixels} pixels"


EXACTLY = Decoding()


def decode(
    path: str, *, reduce_to: ReduceTo | None = None, max_pixels: int = MAX_PIXELS, keep_alpha: bool = False
) -> Image.Image:
    """Return the first frame of an image file as upright RGB, with transparency on white or, by `keep_alpha`, as RGBA.

    With `reduce_to` a JPEG is decoded at the smallest scale (1, 1/2, 1/4 or 1/8) whose sides are at least twice the
    size that it returns; None reads every pixel. Only regular files are opened. Raises UnreadableImage.
    """
    with open_regular(path) as file:
        return read_image(file, reduce_to=reduce_to, max_pixels=max_pixels, keep_alpha=keep_alpha)


def open_regular(path: str) -> BinaryIO:
    """Open a regular file that is not empty; never waits, whatever takes its place meanwhile.

    Raises UnreadableImage.
    """
    try:
        _refuse_special(os.stat(path))  # before it is opened, for opening a device can do things
        descriptor = os.open(path, _OPEN_FLAGS)
    except ValueError:  # a NUL in the path
        raise UnreadableImage("no such file") from None
    except FileNotFoundError:
        raise UnreadableImage("a dangling link" if os.path.islink(path) else "no such file") from None
    except OSError as problem:
        raise UnreadableImage(reason_of(problem)) from None
    try:
        _refuse_special(os.fstat(descriptor))
        return os.fdopen(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def _refuse_special(status: os.stat_result) -> None:
    if reason := special_file(status.st_mode):
        raise UnreadableImage(reason)
    if status.st_size == 0:
        raise UnreadableImage("the file is empty")


def read_image(
    file: BinaryIO,
    *,
    reduce_to: ReduceTo | None = None,
    max_pixels: int = MAX_PIXELS,
    as_stored: bool = False,
    keep_alpha: bool = False,
) -> Image.Image:
    """Decode a file that is open already, at whatever position, as `decode` does; it stays open.

    `as_stored` reads it as torchvision's image folders do, with which figures are published: pixels as they lie in the
    file, whatever its Exif orientation, converted to RGB by Pillow.
    """
    _tame_pillow()
    before = _max_pixels.set(max_pixels)
    try:
        return _read(file, reduce_to, as_stored=as_stored, keep_alpha=keep_alpha)
    except UnreadableImage:
        raise
    except MemoryError:
        raise UnreadableImage("too large for the memory of this machine") from None
    except Exception as problem:  # damaged files make Pillow's plugins raise nearly anything
        raise UnreadableImage(_why(problem, file)) from problem
    finally:
        _max_pixels.reset(before)


def single_threaded() -> None:
    """Decode AVIF with one thread in this process, which is one of as many as there are cores."""
    try:
        from PIL import AvifImagePlugin
    except ImportError:  # Pillow before 11.3
        return
    AvifImagePlugin.DEFAULT_MAX_THREADS = 1


def _read(file: BinaryIO, reduce_to: ReduceTo | None, *, as_stored: bool, keep_alpha: bool) -> Image.Image:
    head = _head(file)
    if not head:
        raise UnreadableImage("the file is empty")
    if is_heic(head):
        _register_heic()
    image = Image.open(file)
    if reason := _REFUSED_FORMATS.get(image.format or ""):
        raise UnreadableImage(reason)
    if image.format == "TIFF":
        _silence_libtiff()
    if reduce_to and image.format in ("JPEG", "MPO"):
        _scale_down(image, reduce_to)
    image.load()
    if as_stored:
        return image.convert("RGB")
    turn = _UPRIGHT.get(_orientation(image))
    converted = keep_transparency(image) if keep_alpha else to_rgb(image)
    return converted if turn is None else converted.transpose(turn)


def _head(file: BinaryIO) -> bytes:
    file.seek(0)
    return file.read(HEAD_BYTES)


def _scale_down(image: Image.Image, reduce_to: ReduceTo) -> None:
    """Have a JPEG decoded smaller, which is much faster; Pillow picks a scale that is not below these sides."""
    swapped = _orientation(image) in _SIDES_SWAPPED
    height, width = reduce_to(*(image.size if swapped else image.size[::-1]))
    if swapped:
        height, width = width, height
    image.draft(None, (2 * max(1, width), 2 * max(1, height)))


def _orientation(image: Image.Image) -> int:
    try:
        return int(image.getexif().get(_ORIENTATION, 1))
    except Exception:  # broken metadata is no reason to give up an image that can be seen
        return 1


def _why(problem: Exception, file: BinaryIO) -> str:
    """Return the reason for an exception that reading this file raised."""
    if isinstance(problem, OSError) and problem.errno:
        return reason_of(problem)
    head = _head(file)
    if reason := not_an_image(head):
        return reason
    text = " ".join(str(problem).split()) or type(problem).__name__
    if _TRUNCATED.search(text) or is_cut_short(file):
        return "the file is truncated"
    if isinstance(problem, UnidentifiedImageError):
        return _unsupported(head) or why_unidentified(head)
    detail = "".join(letter if letter.isprintable() else "?" for letter in text[:_MAX_DETAIL])
    return f"the image data is damaged ({detail})"


def _unsupported(head: bytes) -> str | None:
    """Return a reason where this build of Pillow lacks the format."""
    name = image_format(head) or ""
    if name not in _OPTIONAL_FEATURES or features.check(_OPTIONAL_FEATURES[name]):
        return None
    return f"{name} needs another Pillow: pip install --upgrade --force-reinstall pillow"


# any mode of Pillow as RGB


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

    Modes I and F do not say what white is: it is the least of 1 (F only), 255 and 65535 that no pixel exceeds, else
    the brightest pixel that is finite.
    """
    if image.mode.startswith("I;16") or image.mode in ("I", "F"):
        return _deep_gray(image)
    if not image.has_transparency_data:
        return image if image.mode == "RGB" else image.convert("RGB")
    if image.mode == "La":
        image = image.convert("LA")
    return image.convert("RGBA")


def _deep_gray(image: Image.Image) -> Image.Image:
    """Return gray from levels of more than 8 bits, rounded to the nearest of 256."""
    import numpy as np  # here, for most images do without it and it takes a while to import

    pixels = np.asarray(image)
    white = 65535.0
    if not image.mode.startswith("I;16"):
        pixels = np.nan_to_num(pixels.astype(np.float64), posinf=np.inf, neginf=-np.inf)
        white = _white_of(pixels, (1, 255, 65535) if image.mode == "F" else (255, 65535))
    gray = Image.fromarray(np.rint(pixels.clip(0, white) * (255 / white)).astype(np.uint8)).convert("RGB")
    transparent = image.info.get("transparency")  # one level of those before the scaling
    if isinstance(transparent, int):
        gray.putalpha(Image.fromarray(np.where(pixels == transparent, 0, 255).astype(np.uint8)))
    return gray


def _white_of(pixels: np.ndarray, levels: tuple[int, ...]) -> float:
    import numpy as np

    brightest = float(pixels.max(initial=0, where=np.isfinite(pixels)))
    return next((float(level) for level in levels if brightest <= level), brightest)


# what Pillow is told, once a process


def _tame_pillow() -> None:
    """Keep Pillow from printing and warning (size, Exif, metadata), and have it ask `_check_pixels` about sizes.

    The filter stays: restoring filters, as catch_warnings does, is not safe while other threads decode.
    """
    with _lock:
        if _PILLOW_WARNINGS not in warnings.filters:
            warnings.filterwarnings("ignore", module=_PILLOW_WARNINGS[3].pattern)
        logger = logging.getLogger("PIL")
        if not logger.handlers:
            logger.addHandler(logging.NullHandler())  # else an error goes to stderr where logging is not set up
        vars(Image)["_decompression_bomb_check"] = _check_pixels


_max_pixels: ContextVar[int | None] = ContextVar("max_pixels", default=None)  # a thread's; None while it reads none
_pillows_check = Image._decompression_bomb_check


def _check_pixels(size: tuple[int, int], **options: bool) -> None:
    """Do as Pillow's own check with this thread's limit; every plugin calls it, also for images inside containers.

    Pillow's MAX_IMAGE_PIXELS is one for all threads and cannot be set for one image; it holds for everyone else.
    """
    limit = _max_pixels.get()
    if limit is None:
        _pillows_check(size, **options)
    elif (pixels := max(1, size[0]) * max(1, size[1])) > limit:
        raise UnreadableImage(f"{pixels:,} pixels, more than the limit of {limit:,} (--max-pixels)")


def _silence_libtiff() -> None:
    """Keep libtiff from printing errors (Pillow turns off its warnings only); a library built in stays as it is."""
    try:
        import ctypes

        from PIL import _imaging

        ctypes.CDLL(_imaging.__file__).TIFFSetErrorHandler(None)
    except (ImportError, OSError, AttributeError):
        return


def _register_heic() -> None:
    """Have Pillow read HEIC; pillow-heif turns images upright itself and resets their Exif."""
    try:
        import pillow_heif
    except ImportError:
        raise UnreadableImage("HEIC needs an extra package: pip install 'zeroshot-cli[heic]'") from None
    with _lock:
        if "HEIF" not in Image.OPEN:
            pillow_heif.register_heif_opener(decode_threads=1)
