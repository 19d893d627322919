"""Decode an image file to upright RGB; what cannot be decoded is refused with its reason.

Imports neither numpy nor torch, for processes that do nothing but decode start in a moment.
"""

# pathlib would change how a path is written, and "a/" is not "a".
# ruff: noqa: PTH114, PTH116

import logging
import os
import re
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import BinaryIO

from PIL import Image, UnidentifiedImageError, features

from zeroshot_cli.errors import UnreadableImage
from zeroshot_cli.images.filekinds import (
    HEAD_BYTES,
    is_cut_short,
    is_heic,
    not_a_picture,
    picture_format,
    reason_of,
    special_file,
    why_unidentified,
)
from zeroshot_cli.images.rgb import to_rgb

MAX_PIXELS = 178_956_970  # where Pillow itself refuses

ReduceTo = Callable[[int, int], tuple[int, int]]
"""(height, width) of an upright picture → the (height, width) that it will be resized to."""

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
_MAX_DETAIL = 100  # characters of what a decoder says

_PILLOW_WARNINGS = ("ignore", None, Warning, re.compile(r"PIL\.|pillow_heif"), 0)
_lock = threading.Lock()


class _Limit(threading.local):
    """The most pixels that the picture may have which this thread reads; None while it reads none."""

    pixels: int | None = None


_limit = _Limit()


def decode(path: str, *, reduce_to: ReduceTo | None = None, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """The first frame of an image file as upright RGB, transparency on white.

    With `reduce_to` a JPEG is decoded at the smallest scale (1, 1/2, 1/4 or 1/8) whose sides are at least twice those
    that it gives; None reads every pixel exactly. Only regular files are opened. Raises UnreadableImage with the
    reason.
    """
    with open_regular(path) as file:
        return read_image(file, reduce_to=reduce_to, max_pixels=max_pixels)


def open_regular(path: str) -> BinaryIO:
    """Open a regular file that is not empty; never waits, whatever takes its place meanwhile.

    Raises UnreadableImage with the reason.
    """
    try:
        _refuse_special(os.stat(path))  # first of all, for opening a device can do things
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
    file: BinaryIO, *, reduce_to: ReduceTo | None = None, max_pixels: int = MAX_PIXELS, as_stored: bool = False
) -> Image.Image:
    """`decode` for a file that is open already, at whatever position; it stays open.

    `as_stored` reads it as torchvision's image folders do, with which figures are published: the pixels as they lie in
    the file, whatever its Exif says of turning, and as Pillow makes RGB of them.
    """
    _tame_pillow()
    try:
        with _at_most(max_pixels):
            return _read(file, reduce_to, as_stored=as_stored)
    except UnreadableImage:
        raise
    except MemoryError:
        raise UnreadableImage("too large for the memory of this machine") from None
    except Exception as problem:  # damaged files make Pillow's plugins raise nearly anything
        raise UnreadableImage(_why(problem, file)) from problem


def single_threaded() -> None:
    """Decode AVIF with one thread, as all else is, in this process: for one of as many processes as there are cores."""
    try:
        from PIL import AvifImagePlugin
    except ImportError:  # Pillow before 11.3
        return
    AvifImagePlugin.DEFAULT_MAX_THREADS = 1


def _read(file: BinaryIO, reduce_to: ReduceTo | None, *, as_stored: bool) -> Image.Image:
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
    rgb = to_rgb(image)
    return rgb if turn is None else rgb.transpose(turn)


def _head(file: BinaryIO) -> bytes:
    file.seek(0)
    return file.read(HEAD_BYTES)


def _scale_down(image: Image.Image, reduce_to: ReduceTo) -> None:
    """Have a JPEG decoded smaller, which is much faster; Pillow picks the scale by sides that it must not go below."""
    swapped = _orientation(image) in _SIDES_SWAPPED
    height, width = reduce_to(*(image.size if swapped else image.size[::-1]))
    if swapped:
        height, width = width, height
    image.draft(None, (2 * max(1, width), 2 * max(1, height)))


def _orientation(image: Image.Image) -> int:
    try:
        return int(image.getexif().get(_ORIENTATION, 1))
    except Exception:  # broken metadata is no reason to give up a picture that can be seen
        return 1


def _why(problem: Exception, file: BinaryIO) -> str:
    """The reason for what reading this file raised."""
    if isinstance(problem, OSError) and problem.errno:
        return reason_of(problem)
    head = _head(file)
    if reason := not_a_picture(head):
        return reason
    text = " ".join(str(problem).split()) or type(problem).__name__
    if _TRUNCATED.search(text) or is_cut_short(file):
        return "the file is truncated"
    if isinstance(problem, UnidentifiedImageError):
        return _unsupported(head) or why_unidentified(head)
    detail = "".join(letter if letter.isprintable() else "?" for letter in text[:_MAX_DETAIL])
    return f"the image data is damaged ({detail})"


def _unsupported(head: bytes) -> str | None:
    """That this build of Pillow was made without the format, if so."""
    name = picture_format(head) or ""
    if name not in _OPTIONAL_FEATURES or features.check(_OPTIONAL_FEATURES[name]):
        return None
    return f"{name} needs another Pillow: pip install --upgrade --force-reinstall pillow"


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


_pillows_check = Image._decompression_bomb_check


def _check_pixels(size: tuple[int, int], **options: bool) -> None:
    """Pillow's own check with this thread's limit; every plugin calls it, also for the pictures inside containers.

    Pillow's MAX_IMAGE_PIXELS is one for all threads and cannot be set for one picture; it holds for everyone else.
    """
    if _limit.pixels is None:
        _pillows_check(size, **options)
    elif (pixels := max(1, size[0]) * max(1, size[1])) > _limit.pixels:
        raise UnreadableImage(f"{pixels:,} pixels, more than the limit of {_limit.pixels:,} (--max-pixels)")


@contextmanager
def _at_most(pixels: int) -> Iterator[None]:
    before, _limit.pixels = _limit.pixels, pixels
    try:
        yield
    finally:
        _limit.pixels = before


def _silence_libtiff() -> None:
    """Keep libtiff, whose warnings alone Pillow turns off, from printing errors; a library built in stays as it is."""
    try:
        import ctypes

        from PIL import _imaging

        ctypes.CDLL(_imaging.__file__).TIFFSetErrorHandler(None)
    except (ImportError, OSError, AttributeError):
        return


def _register_heic() -> None:
    """Have Pillow read HEIC; pillow-heif turns the pictures upright itself and says so in their Exif."""
    try:
        import pillow_heif
    except ImportError:
        raise UnreadableImage("HEIC needs an extra package: pip install 'zeroshot-cli[heic]'") from None
    with _lock:
        if "HEIF" not in Image.OPEN:
            pillow_heif.register_heif_opener(decode_threads=1)
