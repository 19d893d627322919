"""What an open table is: its form, by the content, else the extension, and its text, which may be gzipped."""

import gzip
import io
import re
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum, auto
from pathlib import PurePath
from typing import BinaryIO

from zeroshot_cli.errors import DataError
from zeroshot_cli.images.file_kinds import image_format

_HEAD = 512  # bytes that tell a form


class Form(Enum):
    """How a table is written."""

    CSV = auto()
    JSON = auto()
    PARQUET = auto()
    TAR = auto()


_EXTENSIONS = {
    **dict.fromkeys((".csv", ".tsv", ".tab", ".psv"), Form.CSV),
    **dict.fromkeys((".jsonl", ".ndjson", ".json"), Form.JSON),
    **dict.fromkeys((".parquet", ".pq"), Form.PARQUET),
    ".tar": Form.TAR,
}
_MAGIC = ((b"PAR1", 0, Form.PARQUET), (b"ustar", 257, Form.TAR))
_REFUSED = (
    (b"PK\x03\x04", "a ZIP archive or an Excel workbook; save it as CSV"),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "an Excel workbook; save it as CSV"),
    (b"BZh", "compressed by bzip2; unpack it with bunzip2"),
    (b"\xfd7zXZ\0", "compressed by xz; unpack it with unxz"),
    (b"\x28\xb5\x2f\xfd", "compressed by Zstandard; unpack it with unzstd"),
    (b"version https://git-lfs", "a Git LFS pointer, not the file itself; fetch it with git lfs pull"),
    (b"<", "a web page or XML, not a table of images and captions; download the file itself"),
)
_GZIP = b"\x1f\x8b"


def form_of(name: str, file: BinaryIO) -> Form:
    """Return the form of an open file; DataError for any other."""
    head = _head(name, file)
    for magic, what in _REFUSED:
        if head.startswith(magic):
            raise DataError(f"{name} is {what}")
    inner = _head(name, _unpacked(file)) if head.startswith(_GZIP) else head
    if kind := image_format(inner):
        raise DataError(f"{name} is an image ({kind}), not a list of images and captions")
    form = next((form for magic, at, form in _MAGIC if inner[at:].startswith(magic)), None) or _by_name(name, inner)
    if inner is not head and form in (Form.TAR, Form.PARQUET):
        raise DataError(f"{name} is compressed by gzip, which allows no random access; unpack it with gunzip")
    return form


def _by_name(name: str, head: bytes) -> Form:
    path = PurePath(name.lower().removesuffix(".gz"))
    if path.suffix in _EXTENSIONS:
        return _EXTENSIONS[path.suffix]
    text = head.removeprefix(b"\xef\xbb\xbf").replace(b"\0", b"").lstrip(b"\xff\xfe\r\n\t ")
    return Form.JSON if re.match(rb'\{\s*"|\[\s*\{', text) else Form.CSV


def _head(name: str, file: BinaryIO) -> bytes:
    try:
        file.seek(0)
        return file.read(_HEAD)
    except (EOFError, gzip.BadGzipFile, zlib.error):
        raise DataError(f"{name} is a damaged gzip file; copy or compress it again") from None


def _unpacked(file: BinaryIO) -> BinaryIO:
    file.seek(0)
    return gzip.GzipFile(fileobj=file)  # type: ignore[return-value]  # it is one in all but type


@contextmanager
def text_of(name: str, file: BinaryIO) -> Iterator[io.TextIOWrapper]:
    """Give the file's text, unpacked, with its own line ends; bytes that are not UTF-8, as in paths, become surrogates.

    What is damaged raises DataError while it is read. The file stays open.
    """
    file = _unpacked(file) if _head(name, file).startswith(_GZIP) else file
    file.seek(0)
    mark = file.read(3)
    file.seek(0)
    encoding = "utf-16" if mark.startswith((b"\xff\xfe", b"\xfe\xff")) else "utf-8-sig"
    text = io.TextIOWrapper(file, encoding, errors="surrogateescape", newline="")
    try:
        yield text
    except (EOFError, gzip.BadGzipFile, zlib.error):
        raise DataError(f"{name} is a damaged gzip file; copy or compress it again") from None
    except UnicodeDecodeError:  # never UTF-8, whose errors show in the cells
        raise DataError(f"{name} is invalid UTF-16; save the file as UTF-8") from None
    finally:
        text.detach()
