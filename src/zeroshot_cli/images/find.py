"""Find image files: every input becomes a path, or a reason why it is not one."""

# pathlib would change how a path is written, and results carry it as it was given.
# ruff: noqa: PTH109, PTH110, PTH112, PTH116, PTH118, PTH122, PTH207

import glob
import heapq
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import BinaryIO

from zeroshot_cli.errors import DataError
from zeroshot_cli.images.file_kinds import reason_of
from zeroshot_cli.records import SkippedImage

_SUFFIXES = (
    ".apng .avif .bmp .dds .dib .gif .heic .heif .hif .icns .ico .j2c .j2k .jfif .jp2 .jpe .jpeg .jpf .jpg .jpx .mpo "
    ".pbm .pcx .pgm .png .pnm .ppm .psd .qoi .sgi .tga .tif .tiff .webp"
)
IMAGE_SUFFIXES = frozenset(_SUFFIXES.split())


Identity = tuple[int, int]  # device and number of a folder


@dataclass(frozen=True, slots=True)
class FoundImages:
    """What the inputs name, each path once; `ignored` counts files in folders that have no image extension."""

    items: tuple[str | SkippedImage, ...]
    ignored: int

    @property
    def count(self) -> int:
        """How many images can be tried."""
        return sum(isinstance(item, str) for item in self.items)

    def paths(self) -> Iterator[str]:
        """Return the path of every item."""
        return map(path_of, self.items)


def find_images(
    inputs: Sequence[str],
    *,
    stdin: BinaryIO | None = None,
    null_separated: bool = False,
    exclude: str | os.PathLike[str] | None = None,
) -> FoundImages:
    """Return the images that files, folders (recursive), globs and `-` (paths on stdin) name.

    They are in input order, those of a folder sorted by path; what is missing or cannot be listed is a SkippedImage.
    Bytes of a path that are not UTF-8 become lone surrogates. A folder `exclude` inside a named one is not searched.
    Raises DataError where there is no image at all.
    """
    found: dict[str, str | SkippedImage] = {}
    here, ignored, outside = os.getcwd(), 0, _identity(exclude)
    for given in _named(inputs, stdin, null_separated):
        items: Iterable[str | SkippedImage] = [given]
        if isinstance(given, str) and os.path.isdir(given):
            items, passed_over = _images_below(given, outside)
            ignored += passed_over
        for item in items:
            found.setdefault(_absolute(here, path_of(item)), item)
    if not found:
        others = f" among {ignored} other file{'s' * (ignored != 1)}" if ignored else ""
        named = ", ".join(inputs) or "an empty list of inputs"
        raise DataError(f"no image found in {named}{others}; give image files, or a folder that has some")
    return FoundImages(tuple(found.values()), ignored)


def _identity(folder: str | os.PathLike[str] | None) -> Identity | None:
    """Return what identifies a folder whatever its path; None where there is none."""
    if folder is None:
        return None
    try:
        status = os.stat(folder)
    except (OSError, ValueError):
        return None
    return status.st_dev, status.st_ino


def _absolute(here: str, path: str) -> str:
    """Return the path from the root, the same for "a.jpg" and "./a.jpg"."""
    if "//" in path or "/./" in path or path.startswith("./"):
        return str(PurePath(here, path))
    return os.path.join(here, path)


def path_of(item: str | SkippedImage) -> str:
    """Return the path of an image, readable or not."""
    return item if isinstance(item, str) else item.path


def _named(inputs: Sequence[str], stdin: BinaryIO | None, null_separated: bool) -> Iterator[str | SkippedImage]:
    """Yield the paths that the inputs stand for, folders still whole."""
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
    """Return whether there is something of this name, even a dangling link or a file in a locked folder."""
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
    """Return the sorted matches of a glob; `**` takes each folder once, where the standard library runs in circles."""
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


def _images_below(root: str, exclude: Identity | None) -> tuple[list[str | SkippedImage], int]:
    """Return the images in a folder and its folders, sorted by path, and how many other files there are."""
    items: list[str | SkippedImage] = []
    ignored = 0
    for folder, content in _folders_below(root, exclude):
        if isinstance(content, OSError):
            items.append(SkippedImage(folder, reason_of(content)))
            continue
        images = [entry.path for entry in content if _may_be_image(entry)]
        items += images
        ignored += len(content) - len(images)
    return sorted(items, key=path_of), ignored


def _may_be_image(entry: os.DirEntry[str]) -> bool:
    suffix = os.path.splitext(entry.name)[1].lower()
    # A dangling link without an extension may have led to a folder of images: it must not vanish in silence.
    return suffix in IMAGE_SUFFIXES or (not suffix and entry.is_symlink() and not os.path.exists(entry.path))


def _folders_below(
    root: str, exclude: Identity | None = None
) -> Iterator[tuple[str, list[os.DirEntry[str]] | OSError]]:
    """Yield a folder and those below it with their files, or the error that listing one raised.

    Every folder comes once, so loops end. Links to folders come after all others, so that an image has its own path
    and not one through a link.
    """
    folders, links = [root], list[str]()
    seen: set[Identity] = set()
    while folders or links:
        folder = folders.pop() if folders else heapq.heappop(links)
        try:
            status = os.stat(folder)
            if (status.st_dev, status.st_ino) in seen:
                continue
            if (status.st_dev, status.st_ino) == exclude and folder != root:
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
