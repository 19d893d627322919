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
from contextlib import suppress
from contextvars import ContextVar
from dataclasses import dataclass
from functools import partial
from typing import BinaryIO

from PIL import Image, UnidentifiedImageError, features

from zeroshot_cli.errors import UnreadableImage, UsageError
from zeroshot_cli.images import memory, rescue
from zeroshot_cli.images.file_kinds import (
    HEAD_BYTES,
    image_format,
    is_cut_short,
    is_heic,
    is_jxl,
    not_an_image,
    raw_kind,
    reason_of,
    special_file,
    why_unidentified,
)
from zeroshot_cli.images.formats import extras, jpeg, tiff
from zeroshot_cli.images.modes import keep_transparency, sides_swapped, to_rgb, upright
from zeroshot_cli.records import Fit, Truncated

MAX_PIXELS = 178_956_970  # where Pillow itself refuses
DEFAULT_TIMEOUT = 60.0  # seconds for one image

ReduceTo = Callable[[int, int], tuple[int, int]]
"""(height, width) of an upright image → the (height, width) that it will be resized to."""

# Read without waiting for a pipe's other end, and without making a terminal that of this process.
_OPEN_FLAGS = os.O_RDONLY | sum(getattr(os, name, 0) for name in ("O_NONBLOCK", "O_NOCTTY", "O_CLOEXEC", "O_BINARY"))

# Formats that Pillow knows by name only, or hands to a program or to Windows.
_REFUSED_FORMATS = {
    "EPS": "PostScript, not an image",
    "WMF": "a Windows metafile; convert it to PNG first",
    "MPEG": "a video (MPEG), not an image; make images of it first (ffmpeg -i VIDEO %04d.png)",
    "BUFR": "weather data (BUFR), not an image",
    "GRIB": "weather data (GRIB), not an image",
    "HDF5": "an HDF5 file, not an image",
}
_OPTIONAL_FEATURES = {"AVIF": "avif", "WebP": "webp", "JPEG 2000": "jpg_2000"}  # format → part of Pillow
_TRUNCATED = re.compile(r"truncated|reached eof|end of file|not enough image data|only got \d", re.IGNORECASE)
_UNSUPPORTED = re.compile(r"unsupported|not (yet )?supported|not implemented", re.IGNORECASE)
_MAX_DETAIL = 100  # characters of a decoder's message

_PILLOW_WARNINGS = ("ignore", None, Warning, re.compile(r"PIL\.|pillow_heif"), 0)
_lock = threading.Lock()

FIRST, MIDDLE, EACH = "first", "middle", "each"


@dataclass(frozen=True, slots=True)
class Decoding:
    """How image files become pixels.

    Unless `exact`, an image of at least four times the model's size is reduced first, a JPEG as it is decoded.
    An image of more than `max_pixels` is refused, and so is one that takes longer than `timeout` seconds. `as_stored`
    reads data sets as the reference does: every pixel, Exif orientation ignored, transparency dropped. `truncated` says
    what becomes of an image that lacks pixels. `frames` is the frame of an animation, or the page of a file, that is
    read: "first", "middle", a number from 0, or "each", where a path may end with `#` and the number. `fit` is by
    default how the model was trained, and `allow_private` where redirects of addresses may lead.
    """

    exact: bool = True
    as_stored: bool = False
    max_pixels: int = MAX_PIXELS
    timeout: float = DEFAULT_TIMEOUT
    truncated: str = str(Truncated.SKIP)
    frames: str = FIRST
    fit: str | None = None
    allow_private: bool = False

    def __post_init__(self) -> None:
        is_frame = self.frames in (FIRST, MIDDLE, EACH) or (self.frames.isascii() and self.frames.isdecimal())
        if not is_frame or self.truncated not in list(Truncated) or self.fit not in (None, *Fit):
            raise UsageError(f"no images are read by {self}; correct truncated, frames or fit")

    @property
    def mode(self) -> str:
        """What an embedding depends on, the limit included: an image cached under a higher limit is still refused.

        What is not as by default is added at the end, so that a cache of an earlier version still has the others. A
        truncated image is not cached. What earlier versions called "draft" reduced JPEGs alone.
        """
        how = "as stored" if self.as_stored else "exact" if self.exact else "reduced"
        frames = "" if self.frames in (FIRST, EACH) else f", frame {self.frames}"
        return f"{how}, at most {self.max_pixels} pixels{frames}" + (f", fit {self.fit}" if self.fit else "")


EXACTLY = Decoding()


def decode(
    path: str, how: Decoding = EXACTLY, *, reduce_to: ReduceTo | None = None, keep_alpha: bool = False
) -> Image.Image:
    """Return an image file as upright RGB, with transparency on white or, by `keep_alpha`, as RGBA.

    With `reduce_to` a JPEG is decoded at the smallest scale (1, 1/2, 1/4 or 1/8) whose sides are at least twice the
    size that it returns; None reads every pixel. Only regular files are opened. Raises UnreadableImage.
    """
    with open_regular(path) as file:
        return read_image(file, how, reduce_to=reduce_to, keep_alpha=keep_alpha)


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
    file: BinaryIO, how: Decoding = EXACTLY, *, reduce_to: ReduceTo | None = None, keep_alpha: bool = False
) -> Image.Image:
    """Decode a file that is open already, at whatever position, as `decode` does; it stays open.

    Its `info` has a NOTE where something of it is missing. `as_stored` reads it as torchvision's image folders do, with
    which figures are published: pixels as they lie in the file, whatever its Exif orientation, converted by Pillow.
    """
    _tame_pillow()
    before = _max_pixels.set(how.max_pixels)
    read = partial(_read, how=how, keep_alpha=keep_alpha)
    try:
        return read(file, reduce_to=reduce_to)
    except UnreadableImage:
        raise
    except MemoryError:
        raise UnreadableImage(memory.too_large()) from None
    except Exception as problem:  # damaged files make Pillow's plugins raise nearly anything
        return _rescued(problem, file, partial(read, reduce_to=reduce_to), partial(read, reduce_to=None), how)
    finally:
        _max_pixels.reset(before)


def read_given(image: Image.Image, how: Decoding = EXACTLY) -> Image.Image:
    """Return a Pillow image as `read_image` returns its file, at the frame that it is at; raises UnreadableImage."""
    _tame_pillow()
    before = _max_pixels.set(how.max_pixels)
    try:
        _check_pixels(image.size)
        image.load()
        return _converted(image, how)
    except UnreadableImage:
        raise
    except MemoryError:
        raise UnreadableImage(memory.too_large()) from None
    except Exception as problem:
        raise UnreadableImage(_damaged(" ".join(str(problem).split()) or type(problem).__name__)) from problem
    finally:
        _max_pixels.reset(before)


def count_frames(file: BinaryIO, how: Decoding = EXACTLY) -> int:
    """Return how many frames or pages a file has; raises UnreadableImage."""
    _tame_pillow()
    before = _max_pixels.set(how.max_pixels)
    try:
        head = _head(file)
        if image_format(head) == "TIFF":
            return len(tiff.images(file))
        _register_plugins(head)
        if raw_kind(head):
            return 1
        with Image.open(file) as image:
            return int(getattr(image, "n_frames", 1))
    except UnreadableImage:
        raise
    except Exception as problem:
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


def _read(file: BinaryIO, *, reduce_to: ReduceTo | None, how: Decoding, keep_alpha: bool) -> Image.Image:
    head = _head(file)
    if not head:
        raise UnreadableImage("the file is empty")
    image = _not_by_pillow_alone(file, head, how)
    if image is None:
        image = Image.open(file)
        if reason := _REFUSED_FORMATS.get(image.format or ""):
            raise UnreadableImage(reason)
        _choose_frame(image, how.frames)
        if reduce_to and image.format in ("JPEG", "MPO"):
            _scale_down(image, reduce_to)
        image.load()
    return _converted(image, how, keep_alpha=keep_alpha)


def _converted(image: Image.Image, how: Decoding, *, keep_alpha: bool = False) -> Image.Image:
    if how.as_stored:
        return image.convert("RGB")
    return upright(image, keep_transparency(image) if keep_alpha else to_rgb(image))


def _not_by_pillow_alone(file: BinaryIO, head: bytes, how: Decoding) -> Image.Image | None:
    """Return an image that Pillow does not read, or not right; None where it does, perhaps by a plugin added here."""
    _register_plugins(head)
    if kind := raw_kind(head):
        return extras.preview(file, kind)
    if image_format(head) == "TIFF":
        _silence_libtiff()
        if not how.as_stored:
            index = None if how.frames in (FIRST, EACH) else partial(_index, how.frames)
            return tiff.read(file, index, _check_pixels)
    return None


def _register_plugins(head: bytes) -> None:
    if is_heic(head):
        extras.register_heic()
    elif is_jxl(head):
        extras.register_jxl()


def _choose_frame(image: Image.Image, frames: str) -> None:
    if frames not in (FIRST, EACH) and (index := _index(frames, getattr(image, "n_frames", 1))):
        image.seek(index)


def _index(frames: str, count: int) -> int:
    """Return which of `count` frames is meant; a still image has one, whatever is asked for."""
    if frames in (FIRST, EACH) or count == 1:
        return 0
    index = count // 2 if frames == MIDDLE else int(frames)
    if index >= count:
        raise UnreadableImage(f"no frame {index}: it has {count}, counted from 0 (--frames)")
    return index


def _head(file: BinaryIO) -> bytes:
    file.seek(0)
    return file.read(HEAD_BYTES)


def _scale_down(image: Image.Image, reduce_to: ReduceTo) -> None:
    """Have a JPEG decoded smaller, which is much faster; Pillow picks a scale that is not below these sides."""
    swapped = sides_swapped(image)
    height, width = reduce_to(*(image.size if swapped else image.size[::-1]))
    if swapped:
        height, width = width, height
    image.draft(None, (2 * max(1, width), 2 * max(1, height)))


def _rescued(
    problem: Exception,
    file: BinaryIO,
    read: Callable[[BinaryIO], Image.Image],
    read_whole: Callable[[BinaryIO], Image.Image],
    how: Decoding,
) -> Image.Image:
    """Read a file that failed in another way, where there is one; else raise UnreadableImage with the reason."""
    lenient = how.truncated == Truncated.READ
    with suppress(Exception):
        if image_format(_head(file)) == "JPEG":
            image = rescue.jpeg_without_end(file, read, read_whole, lenient=lenient)
        else:
            image = rescue.leniently(file, read) if lenient else None
        if image is not None:
            return image
    raise UnreadableImage(_why(problem, file)) from problem


def _why(problem: Exception, file: BinaryIO) -> str:
    """Return the reason for an exception that reading this file raised."""
    if isinstance(problem, OSError) and problem.errno:
        return reason_of(problem)
    head = _head(file)
    if reason := not_an_image(head) or memory.why_failed(file):
        return reason
    if reason := _unsupported_kind(file, head):
        return reason
    text = " ".join(str(problem).split()) or type(problem).__name__
    if _TRUNCATED.search(text) or is_cut_short(file):
        return "the file is truncated"
    if isinstance(problem, UnidentifiedImageError):
        return _unsupported(head) or why_unidentified(head)
    return _damaged(text)


def _damaged(text: str) -> str:
    detail = "".join(letter if letter.isprintable() else "?" for letter in text[:_MAX_DETAIL])
    if _UNSUPPORTED.search(text):
        return f"a kind of file that cannot be read ({detail}); convert it to PNG first"
    return f"the image data is damaged ({detail})"


def _unsupported_kind(file: BinaryIO, head: bytes) -> str | None:
    """Return what an image is that is whole and of a kind that cannot be read."""
    name = image_format(head)
    if name == "TIFF":
        return tiff.why_unreadable(file)
    if name == "JPEG":
        file.seek(0)
        return jpeg.why_unreadable(file.read())
    return None


def _unsupported(head: bytes) -> str | None:
    """Return a reason where this build of Pillow lacks the format."""
    name = image_format(head) or ""
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
