"""Which class each of ImageNet's 50,000 validation images is, from the files that say so.

The devkit's ids, 1 to 1000, are in another order than the classes: its meta.mat says which WordNet id each has.
"""

# pathlib's questions raise OSError where a name is too long or a folder is locked; opening names the reason.
# ruff: noqa: PTH113

import os
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from zeroshot_cli.datasets.wnids import class_of_wnid
from zeroshot_cli.errors import DataError

COUNT = 50_000
CLASSES = 1000

Truth = Mapping[int, int]
"""The class of each image, by its number from 1."""

_DEVKIT = "ILSVRC2012_validation_ground_truth.txt"
_META = "meta.mat"
_FOLDERS = ("", "data", "devkit/data", "ILSVRC2012_devkit_t12/data", "devkit", "labels")
_IMAGE = re.compile(r"(?:.*/)?ILSVRC2012_val_([0-9]{8})(?:\.\w+)?", re.IGNORECASE)
_LEVELS = 4  # folders above the images, as in Kaggle's ILSVRC/Data/CLS-LOC/val


def find_truth(inside: Path, folder: Path) -> Truth | None:
    """The first file that says the classes, in the images' folder, those above it, or the one that was named.

    None where there is none; DataError where one is there and wrong.
    """
    above = Path(os.path.abspath(inside)).parents[:_LEVELS]  # noqa: PTH100  (links stay links)
    roots = list(dict.fromkeys([inside, folder, *above]))
    for root in roots:
        for place in (root / name for name in _FOLDERS):
            for name, read in _READERS.items():
                path = place / name
                if os.path.isfile(path) and (truth := read(path)) is not None:
                    return truth
    return None


def _kaggle(path: Path) -> Truth:
    """Kaggle's solution: ImageId, and a PredictionString that begins with the WordNet id."""
    truth = {}
    for line, text in enumerate(_lines(path), start=1):
        if line > 1 and text.strip():
            image, _, boxes = text.partition(",")
            truth[_number(path, line, image.strip())] = _class_of(path, line, boxes.partition(" ")[0].strip())
    return truth


def _wnids_in_order(path: Path) -> Truth:
    """A WordNet id a line, that of image 1 first."""
    lines = [line.strip() for line in _lines(path)]
    _check_count(path, len(lines))
    return {line: _class_of(path, line, wnid) for line, wnid in enumerate(lines, start=1)}


def _listed(path: Path) -> Truth | None:
    """Caffe's val.txt, an image and its class from 0 a line.

    None for files of other data sets, and for Kaggle's of that name, which numbers the images and knows no classes.
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
        raise DataError(f"{path}: counts classes to {CLASSES}, so it is not clear where it begins; write 0 to 999")
    return truth


def _devkit(path: Path) -> Truth:
    """The devkit's own: an id a line, whose WordNet id is in meta.mat."""
    lines = [line.strip() for line in _lines(path)]
    _check_count(path, len(lines))
    class_of_id = _read_meta(path.with_name(_META), path)
    truth = {}
    for line, written in enumerate(lines, start=1):
        if not written.isdecimal() or int(written) not in class_of_id:
            raise DataError(f"{path} line {line}: {written!r} is no id from 1 to {CLASSES}; copy the file once more")
        truth[line] = class_of_id[int(written)]
    return truth


def _read_meta(path: Path, needed_by: Path) -> dict[int, int]:
    """The class of each of the devkit's ids."""
    from scipy.io import loadmat

    if not os.path.isfile(path):
        raise DataError(
            f"{needed_by}: its ids are explained by the devkit's {_META}, which is not beside it; put it there"
        )
    try:
        synsets = loadmat(path, squeeze_me=True)["synsets"]
        wnid_of = {int(row["ILSVRC2012_ID"]): str(row["WNID"]) for row in synsets}
    except Exception as error:  # of whatever kind: the reader believes what the file says
        raise DataError(f"{path}: is damaged or not the devkit's ({error}); copy it once more") from error
    known = class_of_wnid()
    class_of_id = {number: known[wnid] for number, wnid in wnid_of.items() if number <= CLASSES and wnid in known}
    if len(set(class_of_id.values())) != CLASSES:
        raise DataError(f"{path}: has {len(class_of_id)} of ImageNet's {CLASSES} classes; take the devkit of 2012")
    return class_of_id


_READERS: dict[str, Callable[[Path], Truth | None]] = {
    "LOC_val_solution.csv": _kaggle,
    "imagenet_2012_validation_synset_labels.txt": _wnids_in_order,
    "synset_labels.txt": _wnids_in_order,
    "val.txt": _listed,
    _DEVKIT: _devkit,
}
TRUTH_FILES = (*(name for name in _READERS if name != _DEVKIT), f"{_DEVKIT} with {_META}")
_EXAMPLE = "ILSVRC2012_val_00000001.JPEG 65"


def _lines(path: Path) -> Iterator[str]:
    try:
        with path.open(encoding="utf-8-sig", errors="surrogateescape", newline=None) as file:
            yield from file
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); check its rights") from error


def _number(path: Path, line: int, image: str) -> int:
    match = _IMAGE.fullmatch(image)
    if match is None or not 1 <= int(match[1]) <= COUNT:
        raise DataError(
            f"{path} line {line}: {image!r} is no image of the validation set, such as {_EXAMPLE.split()[0]}"
        )
    return int(match[1])


def _class_of(path: Path, line: int, wnid: str) -> int:
    index = class_of_wnid().get(wnid)
    if index is None:
        raise DataError(f"{path} line {line}: {wnid!r} is none of ImageNet's {CLASSES} WordNet ids")
    return index


def _check_count(path: Path, lines: int) -> None:
    if lines != COUNT:
        raise DataError(f"{path}: has {lines:,} lines where the validation set has {COUNT:,} images; copy it once more")
