"""ImageNet's 1000 classes: their WordNet ids and names, and the class of each of the 50,000 validation images."""

# pathlib's questions raise OSError where a name is too long or a folder is locked; opening names the reason.
# ruff: noqa: PTH113

import os
import re
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from pathlib import Path

from zeroshot_cli.errors import DataError
from zeroshot_cli.words.labels import Labels, read_labels
from zeroshot_cli.words.raw_labels import is_wnid as is_wnid
from zeroshot_cli.words.raw_labels import wnids as wnids

COUNT = 50_000  # validation images
CLASSES = 1000

Truth = Mapping[int, int]
"""The class of each validation image, by the image's number from 1."""

_DEVKIT = "ILSVRC2012_validation_ground_truth.txt"
_META = "meta.mat"
_FOLDERS = ("", "data", "devkit/data", "ILSVRC2012_devkit_t12/data", "devkit", "labels")
_IMAGE = re.compile(r"(?:.*/)?ILSVRC2012_val_([0-9]{8})(?:\.\w+)?", re.IGNORECASE)
_EXAMPLE = "ILSVRC2012_val_00000001.JPEG 65"
_LEVELS = 4  # folders above the images, as in Kaggle's ILSVRC/Data/CLS-LOC/val


@cache
def imagenet_labels() -> Labels:
    """Return the built-in names of the 1000 classes in order; two names stand for two classes each."""
    return read_labels("imagenet")


@cache
def class_of_wnid() -> dict[str, int]:
    """Return the class index of each WordNet id."""
    return {wnid: index for index, wnid in enumerate(wnids())}


# ground truth


def find_truth(inside: Path, folder: Path) -> Truth | None:
    """Return what the first file with the classes says: in the images' folder, those above it, or the one named.

    Return None where there is no such file. Raises DataError for one that is wrong.
    """
    above = Path(os.path.abspath(inside)).parents[:_LEVELS]  # noqa: PTH100  (links stay links)
    for place in (root / name for root in dict.fromkeys([inside, folder, *above]) for name in _FOLDERS):
        for name, read in _READERS.items():
            path = place / name
            if os.path.isfile(path) and (truth := read(path)) is not None:
                return truth
    return None


def _read_kaggle(path: Path) -> Truth:
    """Read Kaggle's solution: ImageId, and a PredictionString that begins with the WordNet id."""
    truth = {}
    for line, text in enumerate(_lines(path), start=1):
        if line > 1 and text.strip():
            image, _, boxes = text.partition(",")
            truth[_number(path, line, image.strip())] = _class_of(path, line, boxes.partition(" ")[0].strip())
    return truth


def _read_wnids(path: Path) -> Truth:
    """Read one WordNet id per line, image 1 first."""
    return {line: _class_of(path, line, wnid) for line, wnid in enumerate(_all_lines(path), start=1)}


def _read_caffe(path: Path) -> Truth | None:
    """Read Caffe's val.txt: an image and its class, counted from 0, per line.

    Return None for a file of another data set, and for Kaggle's val.txt, which numbers images and knows no classes.
    """
    rows = [(line, text.split()) for line, text in enumerate(_lines(path), start=1) if text.strip()]
    if not any(_IMAGE.fullmatch(fields[0]) for _, fields in rows):
        return None
    if all(fields[1:] in ([], [str(line)]) for line, fields in rows):
        return None
    truth = {}
    for line, fields in rows:
        if len(fields) != 2:
            raise DataError(f"{path} line {line}: expected an image and its class, such as {_EXAMPLE}")
        image, written = fields
        is_class = re.fullmatch("[0-9]{1,4}", written) and int(written) <= CLASSES
        truth[_number(path, line, image)] = int(written) if is_class else _class_of(path, line, written)
    if max(truth.values()) == CLASSES:
        raise DataError(f"{path}: class numbers go up to {CLASSES}, so it is unclear where they begin; use 0 to 999")
    return truth


def _read_devkit(path: Path) -> Truth:
    """Read the devkit's ids, one per line, from 1 and not in class order; meta.mat has their WordNet ids."""
    lines = _all_lines(path)
    class_of_id = _read_meta(path.with_name(_META), path)
    truth = {}
    for line, written in enumerate(lines, start=1):
        if not written.isdecimal() or int(written) not in class_of_id:
            raise DataError(f"{path} line {line}: {written!r} is not an id from 1 to {CLASSES}; copy the file again")
        truth[line] = class_of_id[int(written)]
    return truth


def _read_meta(path: Path, needed_by: Path) -> dict[int, int]:
    """Return the class of each of the devkit's ids."""
    from scipy.io import loadmat

    if not os.path.isfile(path):
        raise DataError(f"{needed_by}: needs the devkit's {_META}, which explains its ids; put it beside this file")
    try:
        synsets = loadmat(path, squeeze_me=True)["synsets"]
        wnid_of = {int(row["ILSVRC2012_ID"]): str(row["WNID"]) for row in synsets}
    except Exception as error:  # of whatever kind: the reader believes what the file says
        raise DataError(f"{path}: is damaged or not the devkit's ({error}); copy it again") from error
    known = class_of_wnid()
    class_of_id = {number: known[wnid] for number, wnid in wnid_of.items() if number <= CLASSES and wnid in known}
    if len(set(class_of_id.values())) != CLASSES:
        raise DataError(f"{path}: has {len(class_of_id)} of ImageNet's {CLASSES} classes; use the devkit of 2012")
    return class_of_id


_READERS: dict[str, Callable[[Path], Truth | None]] = {
    "LOC_val_solution.csv": _read_kaggle,
    "imagenet_2012_validation_synset_labels.txt": _read_wnids,
    "synset_labels.txt": _read_wnids,
    "val.txt": _read_caffe,
    _DEVKIT: _read_devkit,
}
TRUTH_FILES = (*(name for name in _READERS if name != _DEVKIT), f"{_DEVKIT} with {_META}")


def _lines(path: Path) -> Iterator[str]:
    try:
        with path.open(encoding="utf-8-sig", errors="surrogateescape", newline=None) as file:
            yield from file
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); check its permissions") from error


def _all_lines(path: Path) -> list[str]:
    """Return the lines of a file that must have one per validation image."""
    lines = [line.strip() for line in _lines(path)]
    if len(lines) != COUNT:
        raise DataError(
            f"{path}: has {len(lines):,} lines where the validation set has {COUNT:,} images; copy it again"
        )
    return lines


def _number(path: Path, line: int, image: str) -> int:
    match = _IMAGE.fullmatch(image)
    if match is None or not 1 <= int(match[1]) <= COUNT:
        raise DataError(
            f"{path} line {line}: {image!r} is not an image of the validation set, such as {_EXAMPLE.split()[0]}"
        )
    return int(match[1])


def _class_of(path: Path, line: int, wnid: str) -> int:
    index = class_of_wnid().get(wnid)
    if index is None:
        raise DataError(f"{path} line {line}: {wnid!r} is not one of ImageNet's {CLASSES} WordNet ids")
    return index
