"""The two columns of a table that matter, the image and a text, and what their cells hold."""

import ast
import json
import math
import re
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import PurePath

IMAGE_COLUMNS = ("image", "filepath", "image_path", "path", "file", "file_name", "filename")
CAPTION_COLUMNS = ("caption", "title", "text", "label", "captions")
LABEL_COLUMNS = ("label", "class", "class_name", "category", "target")
IMAGE_ENDINGS = ("jpg", "jpeg", "png", "webp", "gif", "bmp", "tif", "tiff", "avif", "heic")

Row = tuple[str, tuple[str, ...]]
"""An image as its file names it, and its captions; a caption that is missing is empty."""

# What pandas and NumPy make of a list of texts, or JSON: quoted texts with commas or blanks between them.
_TEXT = r"""'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*\""""
_TEXTS = re.compile(rf"\[\s*(?:{_TEXT})(?:[\s,]+(?:{_TEXT}))*\s*\]", re.DOTALL)
_ONE_TEXT = re.compile(_TEXT, re.DOTALL)
_SURROGATE = re.compile("[\ud800-\udfff]")
_SHOWN = 80  # characters of a value in a message


class Fault(Exception):
    """What is wrong with a line; whoever knows the file and the line says so in a DataError."""


@dataclass(frozen=True, slots=True)
class TextColumn:
    """What stands beside the image: its name in messages, what the column may be called, and how cells are read.

    `of_text` reads a cell of CSV, `of_value` a value of JSON or Parquet; both give the texts of one image, an empty one
    where it has none, and raise Fault.
    """

    name: str
    known: tuple[str, ...]
    of_text: Callable[[str], tuple[str, ...]]
    of_value: Callable[[object], tuple[str, ...]]


def find_columns(
    header: Sequence[str], image_column: str | None, text_column: str | None, kind: TextColumn
) -> tuple[int, int]:
    """The places of the image and the text column: those that are asked for, else the first known ones.

    Case counts only where names differ in nothing else. Raises Fault, whose text goes after the file's name.
    """
    image = _find_column(header, "image", image_column, IMAGE_COLUMNS, kind.name)
    text = _find_column(header, kind.name, text_column, kind.known, kind.name)
    if image == text:
        both = f"image and {kind.name}, {header[image]!r}"
        raise Fault(f"has one column for both {both}; name another --{kind.name}-column")
    return image, text


def is_wanted(name: str, asked: Sequence[str | None], kind: TextColumn) -> bool:
    """Whether a column has one of the names that are known or asked for."""
    wanted = {*IMAGE_COLUMNS, *kind.known, *(column.casefold() for column in asked if column)}
    return name.casefold() in wanted


def _find_column(header: Sequence[str], kind: str, asked: str | None, known: Sequence[str], beside: str) -> int:
    for name in (asked,) if asked else known:
        places = [place for place, column in enumerate(header) if column == name]
        places = places or [place for place, column in enumerate(header) if column.casefold() == name.casefold()]
        if len(places) > 1:
            raise Fault(f"has {len(places)} columns named {name!r}; rename one, or name another with --{kind}-column")
        if places:
            return places[0]
    if any(PurePath(column).suffix[1:].casefold() in IMAGE_ENDINGS for column in header):
        raise Fault(f"has no header line, it begins with {_listing(header)}; add a first line such as image,{beside}")
    lacks = f"no column {asked!r}" if asked else f"no {kind} column ({', '.join(known)})"
    captions = kind == "label" and any(column.casefold() in CAPTION_COLUMNS for column in header)
    more = ", or add --task retrieval for its captions" if captions else ""
    raise Fault(f"has {lacks}, its columns are {_listing(header)}; name the right one with --{kind}-column{more}")


def _listing(names: Sequence[str]) -> str:
    shown = ", ".join(shortened(name) for name in names[:20])
    return shown + (f" and {len(names) - 20} more" if len(names) > 20 else "")


def shortened(value: object) -> str:
    """A value as a message shows it."""
    text = repr(value)
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 1]}…"


def captions_of_text(cell: str) -> tuple[str, ...]:
    """The captions in a cell of text: one, or those of a list as JSON, Python or NumPy write it. Raises Fault."""
    cell = cell.strip()
    return checked(_listed(cell) if cell.startswith("[") and cell.endswith("]") else (cell,))


def _listed(cell: str) -> tuple[str, ...]:
    try:
        captions = json.loads(cell)
    except (ValueError, RecursionError):
        captions = _written_by_python(cell)
    if not all(isinstance(caption, str) for caption in captions):
        return (cell,)
    return tuple(caption.strip() for caption in captions) or ("",)


def _written_by_python(cell: str) -> list[str]:
    if not _TEXTS.fullmatch(cell):
        return [cell]
    texts = [text.replace("\n", "\\n").replace("\r", "\\r") for text in _ONE_TEXT.findall(cell)]
    try:
        with warnings.catch_warnings(action="ignore"):  # of backslashes that mean nothing
            return list(map(ast.literal_eval, texts))
    except (ValueError, SyntaxError):  # a backslash that promises more than there is
        return [cell]


def captions_of_value(value: object) -> tuple[str, ...]:
    """The captions in a value of JSON or Parquet: a text, a number, a list of them, or none. Raises Fault else."""
    return checked(tuple(map(_caption, value)) or ("",) if isinstance(value, list) else (_caption(value),))


def _caption(value: object) -> str:
    if isinstance(value, str):
        return value.strip()
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return str(value)
    raise Fault(f"the caption is {shortened(value)}, which is neither a text nor a list of texts")


def label_of_text(cell: str) -> tuple[str, ...]:
    """The label in a cell of text, as a list of one. Raises Fault."""
    return checked((cell.strip(),))


def label_of_value(value: object) -> tuple[str, ...]:
    """The label in a value of JSON or Parquet: a text or a number, also as a list of one. Raises Fault else.

    A whole number that pandas made a fraction is whole again: 3.0 is 3.
    """
    if isinstance(value, list):
        if len(value) > 1:
            raise Fault(f"the label is {shortened(value)}, and an image has one; keep one")
        value = value[0] if value else None
    if isinstance(value, bool):
        return ("true" if value else "false",)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if value is None or isinstance(value, str | int | float):
        return checked((_caption(value),))
    raise Fault(f"the label is {shortened(value)}, which is neither a text nor a number")


def image_of_value(value: object) -> str:
    """The path in a value of JSON or Parquet, empty where there is none. Raises Fault where it is no text."""
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    raise Fault(f"the image is {shortened(value)}, not the path of a file")


def checked(texts: tuple[str, ...]) -> tuple[str, ...]:
    """Texts that a file in a right encoding may hold. Raises Fault for others."""
    for text in texts:
        if "\0" in text:
            raise Fault("a NUL byte; the file is damaged or in another encoding, save it as UTF-8")
        if not text.isascii() and (found := _SURROGATE.search(text)):
            raise Fault(_why_no_text(ord(found[0]), text))
    return texts


def _why_no_text(code: int, text: str) -> str:
    if 0xDC80 <= code <= 0xDCFF:  # what surrogateescape makes of a byte
        return f"byte 0x{code - 0xDC00:02x} is not UTF-8; save the file as UTF-8"
    return f"half of a character, \\u{code:04x}, in the caption {shortened(text)}; mend or remove it"


CAPTIONS = TextColumn("caption", CAPTION_COLUMNS, captions_of_text, captions_of_value)
LABELS = TextColumn("label", LABEL_COLUMNS, label_of_text, label_of_value)
