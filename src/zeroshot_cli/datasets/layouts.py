"""Folders that are not class folders: the parts of a data set, annotations beside images, a model's own answers."""

# pathlib's questions raise OSError where a name is too long or a folder is locked; opening names the reason.
# ruff: noqa: PTH113

import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from zeroshot_cli.datasets.imagenet_classes import is_wnid
from zeroshot_cli.datasets.matching import all_numbers, singular
from zeroshot_cli.errors import DataError
from zeroshot_cli.filing.manifest import MANIFEST
from zeroshot_cli.images.selection import byproduct
from zeroshot_cli.records import UNKNOWN
from zeroshot_cli.words.labels import read_labels
from zeroshot_cli.words.textfiles import label_files

_PARTS = ("val", "validation", "valid", "test", "testing", "dev", "eval", "holdout", "train", "training", "trainval")
_NUMBERED_PART = re.compile(
    r"(?:fold|split|part|cv|shard|batch)[ _-]?[0-9]{1,3}|(?:train|test|val)[ _-]?(?:set|[0-9]{1,4})"
)
_IMAGES = ("images", "image", "imgs", "img", "jpegimages", "photos", "pictures", "raw")
_NOTES = (
    *("labels", "label", "annotations", "annotation", "imagesets", "masks", "segmentationclass", "segmentationobject"),
    *("bboxes", "boxes", "captions", "metadata", "meta", "runs", "weights", "__macosx"),
)
_NAMED = 3


def check_folders(path: Path, names: Sequence[str]) -> None:
    """Raise DataError where the folders in `path` are not classes, saying what to give instead."""
    parts = [name for name in names if _is_part(name)]
    images = [name for name in names if name.casefold() in _IMAGES]
    notes = [name for name in names if name.casefold() in _NOTES]
    if not names or len(parts) + len(images) + len(notes) < len(names):
        return
    if parts:
        best = min(parts, key=lambda name: (not _has_folders(path / name), _rank(name)))
        raise DataError(
            f"{path}: its folders {_listed(names)} are parts of a data set, not classes; give one of them, such as "
            f"{path / best}"
        )
    if images and notes:
        raise DataError(
            f"{path}: its folders {_listed(names)} are images and what was noted about them, not classes; give a table "
            "with the columns image and label, or one folder per class"
        )
    if len(images) == 1 and _has_folders(path / images[0]):
        raise DataError(f"{path}: its only folder, {images[0]}, is not a class; give {path / images[0]}")


def warnings_of_folder(path: Path, names: Sequence[str]) -> tuple[str, ...]:
    """Return what may make the figures of a folder's classes meaningless, one sentence each."""
    found = []
    if is_sorted_output(path):
        found.append(
            f"was sorted by zeroshot (it has a {MANIFEST}), so its folders are a model's own answers: figures mean "
            "something only after every image has been checked by hand"
        )
    parts = [name for name in names if _is_part(name)]
    if len(parts) > 1:
        found.append(f"its folders {_listed(parts)} look like parts of a data set, and are taken as classes")
    return tuple(found)


def folders_inside(path: Path, places: Iterable[Sequence[str]]) -> tuple[str, ...]:
    """Return a sentence about folders inside class folders; `places` are the parts of the images' paths."""
    inside: dict[str, dict[str, None]] = {}
    for first, *between, _ in places:
        if between:
            inside.setdefault(first, {})[between[0]] = None
    if not inside:
        return ()
    name, folders = max(inside.items(), key=lambda item: len(item[1]))
    others = f" in {len(inside):,} classes" if len(inside) > 1 else ""
    return (
        f"folders inside a class folder belong to its class{others}, such as {_listed([*folders])} to {name!r}; if "
        f"they are the classes, give {path / name}",
    )


def warnings_of_names(names: Sequence[str]) -> tuple[str, ...]:
    """Return why class names that are also the words for the model may mean nothing to it."""
    if len(names) == 1:
        return (f"has one class, {names[0]!r}, so every answer is right; add the other classes, or give --labels",)
    if all(map(is_wnid, names)):
        return ("its classes are named by WordNet ids, which mean nothing to a model; give --labels imagenet",)
    if all_numbers(names):
        sets = _sets_of(len(names))
        known = f" ({' or '.join(sets)} has as many)" if sets else ""
        return (
            f"its classes are the numbers {names[0]} to {names[-1]}, which mean nothing to a model; give their names "
            f"with --labels{known}",
        )
    return ()


def alike(names: Sequence[str]) -> tuple[str, ...]:
    """Return a sentence about class names that differ only in a plural, which divide their images between them."""
    seen: dict[str, str] = {}
    pairs = [(seen[key], name) for name in names if seen.setdefault(key := singular(name), name) != name]
    if not pairs:
        return ()
    shown = ", ".join(f"{first!r} and {second!r}" for first, second in pairs[:_NAMED])
    return (f"some classes have nearly the same name: {shown}",)


def is_sorted_output(path: Path) -> bool:
    """Return whether a folder was made by --sort-into."""
    return os.path.isfile(path / MANIFEST)


def without_unknown(path: Path, names: Sequence[str]) -> list[str]:
    """Return the class folders of a folder, without that of rejected images where --sort-into made it."""
    return [name for name in names if not (name == UNKNOWN and is_sorted_output(path))]


def _is_part(name: str) -> bool:
    folded = name.casefold()
    return folded in _PARTS or _NUMBERED_PART.fullmatch(folded) is not None


def _rank(name: str) -> int:
    folded = name.casefold()
    return _PARTS.index(folded) if folded in _PARTS else len(_PARTS)


def _has_folders(path: Path) -> bool:
    try:
        with os.scandir(path) as entries:
            return any(entry.is_dir() and not byproduct(entry.path) for entry in entries)
    except OSError:
        return False


def _sets_of(count: int) -> list[str]:
    """Return the built-in label sets of so many labels."""
    sizes = {name: len(read_labels(name)) for name in label_files()}
    return [name for name, size in sizes.items() if size == count]


def _listed(names: Sequence[str]) -> str:
    shown = [*names[:_NAMED], *(["…"] if len(names) > _NAMED else [])]
    return ", ".join(shown) if len(shown) > 2 else " and ".join(shown)
