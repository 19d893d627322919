"""Annotation files of other tools, recognised by their content, so that a refusal says what they are."""

import json
import re
from pathlib import Path, PurePath
from typing import Any

from zeroshot_cli.errors import DataError

_READ = 64 << 20  # bytes of a file that are looked at; larger ones are recognised by what they begin with
_HEAD = 4096
_YOLO = re.compile(r"(?:\s*\d+(?:\s+-?\d*\.?\d+(?:e-?\d+)?){4,}\s*(?:\n|$))+")
_TABLE = "write a table with the columns image and label (several rows an image with --multi-label), and give that"
_KEYS: tuple[tuple[frozenset[str], str], ...] = (
    (frozenset({"images", "annotations", "categories"}), "COCO annotations"),
    (frozenset({"images", "annotations"}), "captions or annotations in COCO's form"),
    (frozenset({"shapes", "imagePath"}), "an annotation of LabelMe"),
    (frozenset({"_via_img_metadata"}), "a project of the VGG Image Annotator"),
    (frozenset({"annotations", "data"}), "tasks of Label Studio"),
    (frozenset({"completions", "data"}), "tasks of Label Studio"),
    (frozenset({"image", "annotations"}), "annotations of CreateML"),
    (frozenset({"data_row", "projects"}), "an export of Labelbox"),
    (frozenset({"cells", "nbformat"}), "a Jupyter notebook"),
)
_TEXTS = (
    (re.compile(r"<annotation[\s>]"), "an annotation of Pascal VOC"),
    (re.compile(r"<annotations[\s>].*<(?:meta|image)[\s>]", re.DOTALL), "annotations of CVAT"),
    (re.compile(r"(?m)^(?:names|nc)\s*:"), "the description of a YOLO data set"),
)


def check_annotations(path: Path) -> None:
    """Raise DataError for a file of an annotation tool, which is not a table of images and labels."""
    suffix = PurePath(path).suffix.lower()
    if suffix in (".json", ".jsonl", ".ndjson", ""):
        what = _of_json(path)
    elif suffix in (".xml", ".yaml", ".yml"):
        text = _text(path, _HEAD)
        what = next((name for pattern, name in _TEXTS if pattern.search(text)), None)
        what = what or ("YAML, not a table" if suffix != ".xml" else None)
    elif suffix == ".txt":
        what = (
            "boxes of YOLO" if _YOLO.fullmatch(_text(path, _HEAD).rpartition("\n")[0] or _text(path, _HEAD)) else None
        )
    else:
        what = None
    if what == _KEYS[0][1]:
        raise DataError(f"{path}: is {what}, which has several labels per image; add --multi-label")
    if what is not None:
        raise DataError(f"{path}: is {what}, which eval does not read; {_TABLE}")


def _of_json(path: Path) -> str | None:
    text = _text(path, _READ).lstrip()
    if not text.startswith(("{", "[")):
        return None
    try:
        content: Any = json.JSONDecoder().raw_decode(text)[0]
    except (ValueError, RecursionError):
        return None
    if isinstance(content, list):
        content = content[0] if content else None
    if not isinstance(content, dict):
        return None
    keys = content.keys()
    return next((name for wanted, name in _KEYS if wanted <= keys), None)


def _text(path: Path, most: int) -> str:
    try:
        with path.open("rb") as file:
            return file.read(most).decode("utf-8-sig", "replace")
    except (OSError, ValueError):  # reading the table names the reason
        return ""
