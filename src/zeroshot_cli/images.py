"""Find image files and decode them to RGB; every input ends as pixels or with a reason."""

# pathlib would change how a path is written, and results carry it as it was given.
# ruff: noqa: PTH109, PTH110, PTH112, PTH114, PTH116, PTH118, PTH122, PTH123, PTH207

import errno
import glob
import heapq
import os
import re
import stat
import sys
import threading
import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import BinaryIO

import numpy as np
from PIL import Image, UnidentifiedImageError

from zeroshot_cli.errors import DataError, UnreadableImage
from zeroshot_cli.records import SkippedImage

_SUFFIXES = (
    ".avif .bmp .dib .gif .heic .heif .ico .j2k .jfif .jp2 .jpe .jpeg .jpg "
    ".pbm .pgm .png .pnm .ppm .tga .tif .tiff .webp"
)
IMAGE_SUFFIXES = frozenset(_SUFFIXES.split())

_SPECIAL_FILES = (
    (stat.S_ISDIR, "a folder, not a file"),
    (stat.S_ISFIFO, "a pipe, not a file"),
    (stat.S_ISSOCK, "a socket, not a file"),
    (stat.S_ISCHR, "a device, not a file"),
    (stat.S_ISBLK, "a device, not a file"),
)
_REASONS = {
    errno.ENOENT: "no such file",
    errno.ENOTDIR: "no such file",
    errno.EACCES: "permission denied",
    errno.EPERM: "permission denied",
    errno.ELOOP: "a link that leads back to itself",
    errno.ENAMETOOLONG: "the path is too long",
}

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
_PILLOW_WARNINGS = ("ignore", None, Warning, re.compile(r"PIL\."), 0)
_warnings_lock = threading.Lock()


@dataclass(frozen=True, slots=True)
class FoundImages:
    """What the inputs name, each path once; `ignored` counts files of folders without an image suffix."""

    items: tuple[str | SkippedImage, ...]
    ignored: int


def find_images(inputs: Sequence[str], *, stdin: BinaryIO | None = None, null_separated: bool = False) -> FoundImages:
    """The images that files, folders (recursive), globs and `-` (paths on stdin) name.

    Input order, folders sorted by path; what is missing or cannot be listed is a SkippedImage. Bytes of a path
    that are not UTF-8 are lone surrogates. Raises DataError when there is no image at all.
    """
    found: dict[PurePath, str | SkippedImage] = {}
    here, ignored = os.getcwd(), 0
    for given in _named(inputs, stdin, null_separated):
        items: Iterable[str | SkippedImage] = [given]
        if isinstance(given, str) and os.path.isdir(given):
            items, passed_over = _images_below(given)
            ignored += passed_over
        for item in items:
            found.setdefault(PurePath(here, _path_of(item)), item)  # "a.jpg" and "./a.jpg" are one
    if not found:
        others = f" among {ignored} other files" if ignored else ""
        named = ", ".join(inputs) or "an empty list of inputs"
        raise DataError(f"no image found in {named}{others}; give image files, or a folder that has some")
    return FoundImages(tuple(found.values()), ignored)


def _path_of(item: str | SkippedImage) -> str:
    return item if isinstance(item, str) else item.path


def _named(inputs: Sequence[str], stdin: BinaryIO | None, null_separated: bool) -> Iterator[str | SkippedImage]:
    """The paths that the inputs stand for, folders still whole."""
    for given in inputs:
        if given == "-":
            paths = _listed_on(stdin or sys.stdin.buffer, null_separated)
            yield from (path if _exists(path) else SkippedImage(path, "no such file") for path in paths)
        elif _exists(given):
            yield given
        elif glob.has_magic(given):
            found = _matches(given)
            yield from found
            if not found:
                yield SkippedImage(given, "no file matches this pattern")
        else:
            yield SkippedImage(given, "no such file")


def _exists(path: str) -> bool:
    """Whether there is something of this name, be it a dangling link or behind a locked folder."""
    try:
        os.lstat(path)
    except (FileNotFoundError, NotADirectoryError, ValueError):  # ValueError: a NUL in the path
        return False
    except OSError:
        return True
    return True


def _listed_on(stream: BinaryIO, null_separated: bool) -> Iterator[str]:
    for raw in stream.read().split(b"\0" if null_separated else b"\n"):
        path = os.fsdecode(raw)
        if not null_separated and path.endswith("\r") and not _exists(path):
            path = path[:-1]  # the list was written on Windows
        if path:
            yield path


def _matches(pattern: str) -> list[str]:
    """The sorted matches of a glob; `**` takes each folder once, where the standard library's runs in circles."""
    parts = pattern.split("/")
    if "**" not in parts:
        return sorted(glob.glob(pattern))
    cut = parts.index("**")
    head, tail = "/".join(parts[:cut]), "/".join(parts[cut + 1 :])
    roots = glob.glob(head) if head else ["/" if cut else "."]
    folders = [folder for root in roots if os.path.isdir(root) for folder, _ in _folders_below(root)]
    patterns = [os.path.join(glob.escape(folder), tail) for folder in folders]
    found = {path for one in patterns for path in _matches(one)} if tail else set(folders)
    return sorted(path if cut else path.removeprefix("./") for path in found)


def _images_below(root: str) -> tuple[list[str | SkippedImage], int]:
    """The images in a folder and its folders, sorted by path, and how many other files there are."""
    items: list[str | SkippedImage] = []
    ignored = 0
    for folder, content in _folders_below(root):
        if isinstance(content, OSError):
            items.append(SkippedImage(folder, _reason(content)))
            continue
        images = [entry.path for entry in content if _may_be_image(entry)]
        items += images
        ignored += len(content) - len(images)
    return sorted(items, key=_path_of), ignored


def _may_be_image(entry: os.DirEntry[str]) -> bool:
    suffix = os.path.splitext(entry.name)[1].lower()
    # A dangling link without a suffix may have led to a folder of images: it must not vanish in silence.
    return suffix in IMAGE_SUFFIXES or (not suffix and entry.is_symlink() and not os.path.exists(entry.path))


def _folders_below(root: str) -> Iterator[tuple[str, list[os.DirEntry[str]] | OSError]]:
    """A folder and those below it with their files, or the error that listing one gave.

    Every folder comes once, so loops end. Links to folders wait until all others are done: a picture goes by
    its own path, not by one through a link.
    """
    folders, links = [root], list[str]()
    seen: set[tuple[int, int]] = set()
    while folders or links:
        folder = folders.pop() if folders else heapq.heappop(links)
        try:
            status = os.stat(folder)
            if (status.st_dev, status.st_ino) in seen:
                continue
            seen.add((status.st_dev, status.st_ino))
            with os.scandir(folder) as listing:
                entries = list(listing)
        except OSError as problem:
            yield folder, problem
            continue
        files = []
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                folders.append(entry.path)
            elif _links_to_folder(entry):
                heapq.heappush(links, entry.path)
            else:
                files.append(entry)
        yield folder, files


def _links_to_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_symlink() and entry.is_dir()
    except OSError:  # it leads into a locked folder, or in a circle
        return False


def decode(path: str) -> Image.Image:
    """The first frame of an image file as upright RGB, transparency on white, every pixel read exactly.

    Only regular files are opened. Raises UnreadableImage with the reason. (JPEG draft mode is left alone: its
    scaling changes pixels.)
    """
    _refuse_unless_file(path)
    _silence_pillow()
    try:
        with open(path, "rb") as file:
            return _read(Image.open(file))
    except UnreadableImage:
        raise
    except MemoryError:
        raise UnreadableImage("too large for the memory of this machine") from None
    except Image.DecompressionBombError:
        raise UnreadableImage(f"more than {2 * (Image.MAX_IMAGE_PIXELS or 0):,} pixels") from None
    except UnidentifiedImageError:
        raise UnreadableImage("not an image that Pillow can read") from None
    except Exception as problem:  # damaged files make Pillow's plugins raise nearly anything
        raise UnreadableImage(_reason(problem)) from problem


def _refuse_unless_file(path: str) -> None:
    try:
        status = os.stat(path)
    except ValueError:  # a NUL in the path
        raise UnreadableImage("no such file") from None
    except FileNotFoundError:
        raise UnreadableImage("a dangling link" if os.path.islink(path) else "no such file") from None
    except OSError as problem:
        raise UnreadableImage(_reason(problem)) from None
    for is_special, reason in _SPECIAL_FILES:
        if is_special(status.st_mode):
            raise UnreadableImage(reason)
    if status.st_size == 0:
        raise UnreadableImage("the file is empty")


def _silence_pillow() -> None:
    """Keep what Pillow would warn about a file (size, Exif, metadata) from stderr, and from ending a strict run.

    The filter stays: restoring filters, as catch_warnings does, is not safe while other threads decode.
    """
    with _warnings_lock:
        if _PILLOW_WARNINGS not in warnings.filters:
            warnings.filterwarnings("ignore", module=_PILLOW_WARNINGS[3].pattern)


def _reason(problem: Exception) -> str:
    if isinstance(problem, OSError) and problem.errno:
        return _REASONS.get(problem.errno) or os.strerror(problem.errno).lower()
    text = " ".join(str(problem).split()) or type(problem).__name__
    if "truncated" in text.lower():
        return "the file is truncated"
    return f"the image data is damaged ({text})"


def _read(image: Image.Image) -> Image.Image:
    if image.format == "EPS":  # Pillow would start Ghostscript on it
        raise UnreadableImage("PostScript, not an image")
    image.load()
    turn = _UPRIGHT.get(_orientation(image))
    rgb = to_rgb(image)
    return rgb if turn is None else rgb.transpose(turn)


def _orientation(image: Image.Image) -> int:
    try:
        return int(image.getexif().get(_ORIENTATION, 1))
    except Exception:  # broken metadata is no reason to give up a picture that can be seen
        return 1


def to_rgb(image: Image.Image) -> Image.Image:
    """An image of any Pillow mode as 8-bit RGB, transparency on white, 16 bits scaled to 8.

    Modes I and F do not say what white is: it is the least of 1 (F only), 255 and 65535 that no pixel exceeds.
    """
    if image.mode.startswith("I;16"):
        return _gray(np.asarray(image), white=65535)
    if image.mode in ("I", "F"):
        pixels = np.nan_to_num(np.asarray(image, dtype=np.float64))
        levels = (1, 255, 65535) if image.mode == "F" else (255, 65535)
        return _gray(pixels, white=next((level for level in levels if pixels.max() <= level), pixels.max()))
    if not image.has_transparency_data:
        return image if image.mode == "RGB" else image.convert("RGB")
    if image.mode == "La":
        image = image.convert("LA")
    rgba = image.convert("RGBA")
    on_white = Image.new("RGB", image.size, "white")
    on_white.paste(rgba, mask=rgba.getchannel("A"))
    return on_white


def _gray(pixels: np.ndarray, white: float) -> Image.Image:
    """Gray RGB from levels of 0 to `white`, rounded to the nearest of 256."""
    levels = np.rint(pixels.clip(0, white) * (255 / white)).astype(np.uint8)
    return Image.fromarray(levels).convert("RGB")
