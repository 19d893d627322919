"""Where the images are that a list of captions or labels names."""

# Path.exists raises OSError where a name is too long or a folder is locked; opening the file names the reason.
# ruff: noqa: PTH111, PTH112, PTH118, PTH120

import os
import re
from collections.abc import Iterator
from functools import cached_property
from pathlib import PurePath
from urllib.parse import unquote

from zeroshot_cli.remote.address import is_address, shown_address

_LONGEST = 1000  # characters of a path in a message
# Folders where the images of a list of captions are usually found: beside the list, or beside its folder.
_IMAGE_FOLDERS = ("images", "Images", "image", "img", "flickr30k_images", "flickr30k-images", "Flicker8k_Dataset")


class Roots:
    """The folders that the images of a list may be in: the one that was named, else the list's own and those beside it.

    COCO's captions_val2017.json has its images in ../val2017, Flickr's captions.txt in Images, and so on.
    """

    def __init__(self, name: str, root: str | None) -> None:
        name = re.split(r"[?#]", name, maxsplit=1)[0] if is_address(name) else name
        self.own, self._root, self._file = os.path.dirname(name) if root is None else root, root, name
        self._found: dict[str, int] = {}

    def find(self, cell: str) -> str | None:
        """Return the existing file that a cell names, or its address, if any."""
        if path := find_image(cell, self.own):
            return path
        for folder in self._beside:
            if path := find_image(cell, folder):
                self._found[folder] = self._found.get(folder, 0) + 1
                return path
        return None

    @cached_property
    def _beside(self) -> list[str]:
        if self._root is not None:
            return []
        last = PurePath(self._file).stem.rpartition("_")[2]  # val2017
        names = (*_IMAGE_FOLDERS, last, os.path.join("images", last))
        places = (os.path.join(self.own, up, name) for up in ("", os.pardir) for name in names)
        return [place for place in dict.fromkeys(places) if os.path.isdir(place)]

    def notes(self) -> list[str]:
        """Return in which other folders images were found."""
        return [f"{count:,} images are in {os.path.normpath(folder)}" for folder, count in self._found.items()]


def is_on_web(cell: str) -> bool:
    """Return whether a cell is a URL, not a path."""
    return is_address(cell.strip())


def find_image(cell: str, folder: str) -> str | None:
    """Return the existing file that a cell of a table in `folder` names, or the address that it is, if any."""
    if not cell.strip() or is_on_web(cell):
        return cell.strip() or None
    if is_address(folder):
        return f"{folder.rstrip('/')}/{cell.strip()}"
    paths = (os.path.join(folder, path) for path in _readings(cell))
    return next(filter(os.path.isfile, paths), None)


def shown_as(cell: str, folder: str) -> str:
    """Return how a message names a missing image."""
    if not cell.strip():
        return "an empty cell"
    path = shown_address(cell.strip()) if is_on_web(cell) else os.path.join(folder, next(_readings(cell)))
    return path if len(path) <= _LONGEST else f"{path[: _LONGEST - 1]}…"


def _readings(cell: str) -> Iterator[str]:
    text = cell.strip()
    if text.startswith(("file://", "file:/")):
        local = text.removeprefix("file:").removeprefix("//localhost").removeprefix("//")
        yield unquote(local, errors="surrogateescape")
    elif text.startswith("~/"):
        yield os.path.expanduser(text)
    yield cell
    if text != cell:
        yield text
    if "\\" in text:
        yield text.replace("\\", "/")
