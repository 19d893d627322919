"""ImageNet's validation images, which may not be redistributed, in the layouts that people have them in."""

# pathlib's questions raise OSError where a name is too long or a folder is locked; opening names the reason.
# ruff: noqa: PTH112

import os
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from zeroshot_cli.datasets.imagenet_classes import (
    CLASSES,
    COUNT,
    TRUTH_FILES,
    class_of_wnid,
    find_truth,
    imagenet_labels,
    is_wnid,
)
from zeroshot_cli.datasets.labelled import LabelledImages, read_labelled_folder
from zeroshot_cli.disk import similar_path
from zeroshot_cli.errors import DataError, UsageError
from zeroshot_cli.images.find import find_images, path_of

PLACES = ("", "val", "validation", "ILSVRC2012_img_val", "ILSVRC/Data/CLS-LOC/val", "Data/CLS-LOC/val", "imagenet/val")
"""Where in a folder the images may be: directly in it, or where the archives of ImageNet and Kaggle put them."""

_FLAT = re.compile(r"ILSVRC2012_val_([0-9]{8})(?:_(n[0-9]{8}))?\.\w+", re.IGNORECASE)


def read_imagenet(folder: Path) -> LabelledImages:
    """Read the 50,000 validation images: in folders by WordNet id, or flat, with a file that gives their classes.

    Flat images are ILSVRC2012_val_00000001.JPEG and so on; their classes come from the devkit, Kaggle's solution, a
    val.txt or a list of WordNet ids, beside the images or in a folder above them. Fewer images are accepted.
    Raises UsageError for a missing folder, and DataError, saying where it looked, for a missing part.
    """
    if not os.path.isdir(folder):
        way_out = similar_path(str(folder)) or "give --data-dir the folder with ImageNet's validation images"
        raise UsageError(f"{folder}: no such folder; {way_out}")
    for place in PLACES:
        inside = folder / place
        entries = _entries(inside) if os.path.isdir(inside) else []
        if any(is_wnid(name) and os.path.isdir(inside / name) for name in entries):
            found = read_labelled_folder(inside, imagenet_labels())
        elif any(map(_FLAT.fullmatch, entries)):
            found = _read_flat(inside, folder)
        else:
            continue
        if len(found) > COUNT:
            raise DataError(
                f"{found.name}: has {len(found):,} images where the validation set has {COUNT:,}, so it may be the "
                "training set; give --data-dir the folder with the validation images"
            )
        return replace(found, name="imagenet", as_stored=True, prompts="imagenet-80", known="imagenet")
    raise DataError(_nothing_found(folder))


def _read_flat(inside: Path, folder: Path) -> LabelledImages:
    found = find_images([f"{inside}{os.sep}"])
    named = [(item, _FLAT.fullmatch(os.path.basename(path_of(item)))) for item in found.items]  # noqa: PTH119
    images = [(item, match) for item, match in named if match]
    numbers = [int(match[1]) for _, match in images if not match[2]]
    truth = _truth(inside, folder, max(numbers)) if numbers else {}
    targets = tuple(_target(path_of(item), int(match[1]), match[2], truth) for item, match in images)
    unnamed = len(named) - len(images)
    left_out = found.assumed + ((f"{unnamed} images left out whose names have no number",) if unnamed else ())
    return LabelledImages(str(inside), tuple(item for item, _ in images), targets, imagenet_labels(), left_out)


def _target(path: str, number: int, wnid: str | None, truth: Mapping[int, int]) -> int:
    target = class_of_wnid().get(wnid) if wnid else truth.get(number)
    if target is None:
        what = f"{wnid} is not one of ImageNet's {CLASSES} classes" if wnid else f"image {number} has no class listed"
        raise DataError(f"{path}: {what}; remove the file, or list its class")
    return target


def _truth(inside: Path, folder: Path, last: int) -> Mapping[int, int]:
    """Return the classes by image number; `last` is the highest number."""
    if last > COUNT:
        raise DataError(f"{inside}: has an image numbered {last}; the validation set ends at {COUNT}")
    truth = find_truth(inside, folder)
    if truth is None:
        raise DataError(
            f"{inside}: has flat images without their classes; looked beside them and in the folders above for "
            f"{', '.join(TRUTH_FILES[:-1])} and {TRUTH_FILES[-1]}; put one of these there"
        )
    return truth


def _entries(folder: Path) -> list[str]:
    try:
        return sorted(os.listdir(folder))  # noqa: PTH208
    except OSError as error:
        raise DataError(f"{folder}: cannot be read ({error.strerror}); check its permissions") from error


def _nothing_found(folder: Path) -> str:
    packed = [name for name in _entries(folder) if name.startswith("ILSVRC2012_img_val.tar")]
    way_out = f"unpack its {packed[0]} first" if packed else "give --data-dir the folder that has them"
    places = ", ".join(place for place in PLACES if place)
    return (
        f"{folder}: no validation images of ImageNet; looked there and in {places} for folders such as n01440764 and "
        f"for ILSVRC2012_val_00000001.JPEG; {way_out}"
    )
