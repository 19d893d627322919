"""What an input means: a path, however a shell, a file manager or another system wrote it, or a list of paths."""

# pathlib would change how a path is written, and results carry it as it was given.
# ruff: noqa: PTH111

import codecs
import os
import re
from collections.abc import Iterator
from itertools import islice
from urllib.parse import unquote

from zeroshot_cli.errors import DataError, UsageError
from zeroshot_cli.images.file_kinds import HEAD_BYTES, image_format, not_an_image
from zeroshot_cli.remote.address import is_address

MOST_ALTERNATIVES = 10_000  # of one input in braces

_FILE_URL = re.compile(r"file:(?://(?:localhost)?)?(?=/)", re.IGNORECASE)
_INNERMOST = re.compile(r"\{([^{}]*)\}")
_RANGE = re.compile(r"(-?\d{1,9})\.\.(-?\d{1,9})")
_ESCAPED = re.compile(r"\\(.)", re.DOTALL)
_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_CONTROLS = re.compile(rb"[\x01-\x08\x0e-\x1a\x1c-\x1f]")
_LEAST_ZEROS = 0.45  # of every second byte, in UTF-16 without a mark


def exists(path: str) -> bool:
    """Return whether there is something of this name, even a dangling link or a file in a locked folder."""
    try:
        os.lstat(path)
    except (FileNotFoundError, NotADirectoryError, ValueError):  # ValueError: a NUL in the path
        return False
    except OSError:
        return True
    return True


def address_in(text: str) -> str | None:
    """Return the address that a text is, such as `https://…`, without blanks and quotes; None for a path."""
    plain = text.strip(" \t\"'")
    return plain if is_address(plain) else None


def readings(text: str) -> Iterator[str]:
    """Yield the paths that a text may mean, as it is first; the first one that exists is meant.

    Understood are quotes and blanks around it, a `file://` URL, `~`, variables, and backslashes of Windows or a shell.
    """
    yield text
    plain = text.strip()
    if len(plain) > 1 and plain[0] == plain[-1] and plain[0] in "\"'":
        plain = plain[1:-1]
    if plain != text:
        yield plain
    if url := _FILE_URL.match(plain):
        yield unquote(plain[url.end() :], errors="surrogateescape")
    opened = os.path.expandvars(os.path.expanduser(plain))
    if opened != plain:
        yield opened
    if "\\" in opened:
        yield _ESCAPED.sub(r"\1", opened)  # "a\ b.jpg"
        yield opened.replace("\\", "/")


def expand_braces(text: str) -> list[str]:
    """Return what `a/{b,c}.jpg` and `img{01..20}.jpg` mean, in order; a text without such braces is itself.

    Raises UsageError for more than MOST_ALTERNATIVES.
    """
    done: dict[str, None] = {}
    waiting = [text]
    while waiting:
        one = waiting.pop()
        for braces in _INNERMOST.finditer(one):
            choices = list(islice(_choices(braces[1]), MOST_ALTERNATIVES + 1))
            if choices:
                waiting += [one[: braces.start()] + choice + one[braces.end() :] for choice in reversed(choices)]
                break
        else:
            done[one] = None
        if len(done) + len(waiting) > MOST_ALTERNATIVES:
            raise UsageError(f"{text} stands for more than {MOST_ALTERNATIVES:,} paths; give their folder instead")
    return list(done)


def _choices(inside: str) -> Iterator[str]:
    if "," in inside:
        yield from inside.split(",")
    elif ends := _RANGE.fullmatch(inside):
        first, last = int(ends[1]), int(ends[2])
        padded = any(end.lstrip("-").startswith("0") and len(end) > 1 for end in ends.groups())
        width = max(map(len, ends.groups())) if padded else 0
        for number in range(first, last + 1) if first <= last else range(first, last - 1, -1):
            yield f"{number:0{width}d}"


def listed_paths(data: bytes, *, null_separated: bool) -> tuple[list[str], str | None]:
    """Return the paths in what came on standard input, and how it was read where that is not plain.

    Raises UsageError for an image or another file in place of a list of paths, DataError for damaged UTF-16.
    """
    head = data[:HEAD_BYTES]
    if null_separated:
        if b"\0" not in data and b"\n" in data.rstrip(b"\n") and not exists(os.fsdecode(data)):
            raise UsageError("paths on standard input end with a line break, not with NUL; omit -0")
        if image_format(head) and _CONTROLS.search(head):
            raise _not_a_list(head)
        return [os.fsdecode(raw) for raw in data.split(b"\0") if raw], None
    encoding = _encoding(data)
    if encoding is None and b"\0" in head:
        if _CONTROLS.search(head) or image_format(head):
            raise _not_a_list(head)
        raise UsageError("paths on standard input end with NUL; add -0")
    text = _decoded(data, encoding).removeprefix("\ufeff")
    only_returns = "\r" in text and "\n" not in text.removesuffix("\n") and not exists(text)
    lines = [_without_return(line) for line in text.split("\r" if only_returns else "\n")]
    note = f"paths on standard input read as {encoding.upper()[:6]}" if encoding and encoding != "utf-8" else None
    return [line for line in lines if line], note


def _decoded(data: bytes, encoding: str | None) -> str:
    if encoding is None or encoding == "utf-8":
        return os.fsdecode(data)
    try:
        return data.decode(encoding, "surrogatepass" if encoding.startswith("utf-16") else "strict")
    except UnicodeDecodeError:
        name = encoding.upper()[:6]
        raise DataError(f"paths on standard input are invalid {name}; write them as UTF-8") from None


def _encoding(data: bytes) -> str | None:
    """Return the encoding of a text with a byte order mark, or of UTF-16 without one."""
    for mark, name in _MARKS:
        if data.startswith(mark):
            return name
    even, odd = data[:HEAD_BYTES:2], data[1:HEAD_BYTES:2]
    if odd and odd.count(0) >= _LEAST_ZEROS * len(odd) and not even.count(0):
        return "utf-16-le"
    if even and even.count(0) >= _LEAST_ZEROS * len(even) and not odd.count(0):
        return "utf-16-be"
    return None


def _not_a_list(head: bytes) -> UsageError:
    name = image_format(head)
    what = (
        f"{'an' if name[0] in 'Ai' else 'a'} {name} image"
        if name
        else (not_an_image(head) or "a binary file").partition(",")[0]
    )
    return UsageError(
        f"standard input is {what}, and - reads paths, one a line; name the file itself, as in zeroshot classify a.jpg"
    )


def _without_return(line: str) -> str:
    """Return a line without the carriage return of a list that was written on Windows."""
    return line[:-1] if line.endswith("\r") and not exists(line) else line
