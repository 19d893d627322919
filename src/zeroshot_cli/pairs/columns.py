"""Which columns of a table have the image and its text, guessed by their names, and how their cells are read."""

import ast
import math
import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import PurePath

from zeroshot_cli.documents import load_json

IMAGE_COLUMNS = (
    *("image", "filepath", "image_path", "path", "file", "file_name", "filename", "image_name", "img_path"),
    *("img", "image_file", "image_filename", "img_file"),
)
CAPTION_COLUMNS = ("caption", "title", "text", "captions", "comment", "description", "label")
LABEL_COLUMNS = ("label", "class", "class_name", "category", "target")
IMAGE_EXTENSIONS = ("jpg", "jpeg", "png", "webp", "gif", "bmp", "tif", "tiff", "avif", "heic")

# Lists, tuples and sets as Python, pandas, NumPy and JSON write them: quoted texts with commas or spaces between them.
_TEXT = r"""'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*\""""
_TEXTS = re.compile(rf"[\[({{]\s*(?:{_TEXT})(?:[\s,]+(?:{_TEXT}))*\s*,?\s*[\])}}]", re.DOTALL)
_ONE_TEXT = re.compile(_TEXT, re.DOTALL)
_SURROGATE = re.compile("[\ud800-\udfff]")
_SPLITS = ("split", "splits", "subset", "partition", "fold", "phase")
_ADDRESSES = ("url", "urls", "image_url", "img_url", "image_link", "link")
_SHOWN = 80  # characters of a value in a message
BRACKETS = ("[]", "()", "{}")  # around a list in a cell
NUL = "NUL byte; the file is damaged or in another encoding, save it as UTF-8"


class Fault(Exception):
    """What is wrong with a line; whoever knows the file and the line raises it as a DataError."""


@dataclass(frozen=True, slots=True)
class TextColumn:
    """The column beside the image: its name in messages, its usual names, and how its cells are read.

    `of_text` reads a cell of CSV, `of_value` a value of JSON or Parquet; both return the texts of one image, an empty
    one where it has none, and raise Fault.
    """

    name: str
    known: tuple[str, ...]
    of_text: Callable[[str], tuple[str, ...]]
    of_value: Callable[[object], tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class Columns:
    """The two columns to read: the names that the user gave, None for the usual ones, and what the second one has."""

    kind: TextColumn
    image: str | None = None
    text: str | None = None

    def find(self, header: Sequence[str]) -> tuple[int, int]:
        """Return the places of the image and the text column: the named ones, else the first with a usual name.

        Case matters only where names differ in nothing else. Raises Fault, whose text follows the file's name.
        """
        name = self.kind.name
        image = self._find(header, "image", self.image, IMAGE_COLUMNS)
        text = self._find_text(header)
        if image == text:
            raise Fault(f"has one column for both image and {name}, {header[image]!r}; name another --{name}-column")
        return image, text

    def _find_text(self, header: Sequence[str]) -> int:
        return self._find(header, self.kind.name, self.text, self.kind.known)

    def passed_over(self, header: Sequence[str], taken: tuple[int, int]) -> Iterator[str]:
        """Yield sentences about columns that could have been meant, and about one that divides the rows."""
        rest = [column for place, column in enumerate(header) if place not in taken]
        others = [repr(column) for column in rest if column.casefold() in self.kind.known]
        if others and self.text is None:
            yield f"{self.kind.name}s are not taken from {', '.join(others)}"
        for column in rest:
            if column.casefold() in _SPLITS:
                yield f"rows are taken whatever their {column!r} is; write those of one to a table to use it alone"

    def path_of(self, value: object) -> str:
        """Return the path in a value of JSON or Parquet; raises Fault unless it is text."""
        return image_of_value(value)

    def known_in(self, header: Sequence[str]) -> int:
        """Return how many columns of a header have a usual or a given name."""
        given = (column.casefold() for column in (self.image, self.text) if column)
        wanted = {*IMAGE_COLUMNS, *self.kind.known, *given}
        return sum(column.casefold() in wanted for column in header)

    def _find(self, header: Sequence[str], kind: str, given: str | None, known: Sequence[str]) -> int:
        option = f"--{kind}-column"
        for name in (given,) if given else known:
            places = [place for place, column in enumerate(header) if column == name]
            places = places or [place for place, column in enumerate(header) if column.casefold() == name.casefold()]
            if len(places) > 1:
                raise Fault(f"has {len(places)} columns named {name!r}; rename one, or name another with {option}")
            if places:
                return places[0]
        self._check_header(header)
        web = [column for column in header if column.casefold() in _ADDRESSES]
        if kind == "image" and not given and web:
            return list(header).index(web[0])
        lacks = f"no column {given!r}" if given else f"no {kind} column ({', '.join(known)})"
        captions = (
            self.kind is LABELS and kind == "label" and any(column.casefold() in CAPTION_COLUMNS for column in header)
        )
        more = ", or add --task retrieval for its captions" if captions else ""
        raise Fault(f"has {lacks}, its columns are {_listing(header)}; name the right one with {option}{more}")

    def _check_header(self, header: Sequence[str]) -> None:
        """Raise Fault for a header that is a row."""
        name = self.kind.name
        images = [any(map(_is_image, column.split())) for column in header]
        if not any(images):
            return
        begins = f"has no header, it begins with {_listing(header)}"
        if len(header) == 1:
            raise Fault(f"{begins}; write it as CSV with the columns image and {name}")
        wanted = ("image", name) if images[0] else (name, "image")
        raise Fault(f"{begins}; add a first line such as {','.join(wanted)}, with the separator of the other lines")


def _is_image(cell: str) -> bool:
    return PurePath(cell).suffix[1:].casefold() in IMAGE_EXTENSIONS


def _listing(names: Sequence[str]) -> str:
    shown = ", ".join(shortened(name) for name in names[:20])
    return shown + (f" and {len(names) - 20} more" if len(names) > 20 else "")


def shortened(value: object) -> str:
    """Return a value as messages show it."""
    text = repr(value)
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 1]}…"


def captions_of_text(cell: str) -> tuple[str, ...]:
    """Return the captions in a cell of text, one or a list as JSON, Python or NumPy write it; raises Fault."""
    cell = cell.strip()
    return checked(_listed(cell) if cell[:1] + cell[-1:] in BRACKETS else (cell,))


def _listed(cell: str) -> tuple[str, ...]:
    try:
        captions = load_json(cell)
    except (ValueError, RecursionError):
        captions = _written_by_python(cell)
    if isinstance(captions, dict):
        return (cell,)
    if not all(isinstance(caption, str) for caption in captions):
        return (cell,)
    return tuple(caption.strip() for caption in captions) or ("",)


def _written_by_python(cell: str) -> list[str]:
    if not _TEXTS.fullmatch(cell):
        return [cell]
    texts = [text.replace("\n", "\\n").replace("\r", "\\r") for text in _ONE_TEXT.findall(cell)]
    try:
        with warnings.catch_warnings(action="ignore"):  # about meaningless backslashes
            return list(map(ast.literal_eval, texts))
    except (ValueError, SyntaxError):  # an incomplete escape sequence
        return [cell]


def captions_of_value(value: object) -> tuple[str, ...]:
    """Return the captions in a value of JSON or Parquet: text, a number, a list of them, or none; else raises Fault.

    Lists may hold lists, and objects with a caption in them.
    """
    if not isinstance(value, list):
        return checked((_caption(value),))
    flat = (inner for each in value for inner in (each if isinstance(each, list) else [each]))
    return checked(tuple(map(_caption, flat)) or ("",))


def _caption(value: object) -> str:
    if isinstance(value, dict):
        value = next((value[name] for name in (*CAPTION_COLUMNS, "raw") if name in value), value)
    if isinstance(value, str):
        return value.strip()
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return str(value)
    raise Fault(f"the caption is {shortened(value)}; expected text or a list of texts")


def label_of_text(cell: str) -> tuple[str, ...]:
    """Return the label in a cell of text, as a tuple of one; raises Fault."""
    return checked((cell.strip(),))


def label_of_value(value: object) -> tuple[str, ...]:
    """Return the label in a value of JSON or Parquet: text or a number, also as a list of one; else raises Fault.

    An integer that pandas stored as a float is an integer again: 3.0 is 3.
    """
    if isinstance(value, list):
        if len(value) > 1:
            raise Fault(f"the label is {shortened(value)}; an image has one label")
        value = value[0] if value else None
    if isinstance(value, bool):
        return ("true" if value else "false",)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if value is None or isinstance(value, str | int | float):
        return checked((_caption(value),))
    raise Fault(f"the label is {shortened(value)}; expected text or a number")


def image_of_value(value: object) -> str:
    """Return the path in a value of JSON or Parquet, empty where there is none; raises Fault unless it is text."""
    if value is None:
        return ""
    if isinstance(value, dict) and isinstance(value.get("path"), str):  # as the library datasets writes it
        value = value["path"]
    if isinstance(value, str):
        return value
    if isinstance(value, list | dict) and len(value) > 1:
        raise Fault(
            f"the image is {shortened(value)}; expected the path of one file: write an object per image, with pandas "
            "by to_json(orient='records', lines=True)"
        )
    raise Fault(f"the image is {shortened(value)}; expected the path of a file")


def checked(texts: tuple[str, ...]) -> tuple[str, ...]:
    """Return the texts; raises Fault for characters that show a wrong encoding."""
    for text in texts:
        if "\0" in text:
            raise Fault(NUL)
        if not text.isascii() and (found := _SURROGATE.search(text)):
            code = ord(found[0])
            if 0xDC80 <= code <= 0xDCFF:  # what surrogateescape makes of a byte
                raise Fault(f"byte 0x{code - 0xDC00:02x} is not UTF-8; save the file as UTF-8")
            raise Fault(f"half of a character, \\u{code:04x}, in the caption {shortened(text)}; correct or remove it")
    return texts


CAPTIONS = TextColumn("caption", CAPTION_COLUMNS, captions_of_text, captions_of_value)
LABELS = TextColumn("label", LABEL_COLUMNS, label_of_text, label_of_value)


@dataclass(frozen=True, slots=True)
class PairColumns(Columns):
    """The columns of a table of pairs, whose texts are captions, or classes where only these are there or named.

    `label` is the column of classes that the user named, and `classes` gets the name of the one that was taken.
    """

    kind: TextColumn = CAPTIONS
    label: str | None = None
    classes: list[str] = field(default_factory=list)

    def _find_text(self, header: Sequence[str]) -> int:
        """Return the place of the captions, else of the classes. Raises Fault."""
        if self.label is not None:
            place = self._find(header, "label", self.label, ())
        else:
            try:
                place = Columns._find_text(self, header)
            except Fault as fault:
                others = [column for column in header if column.casefold() in LABEL_COLUMNS]
                raise Fault(f"{fault}, or --label-column {others[0]}" if others else str(fault)) from None
        named = self.label is not None or (self.text is None and header[place].casefold() == LABEL_COLUMNS[0])
        self.classes[:] = [header[place]] if named else []
        return place
