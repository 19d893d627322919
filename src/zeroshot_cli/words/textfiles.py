"""Files of labels and templates: the built-in ones, and how the bytes of a text file become lines.

Of the built-in sets `prompts/NAME.yaml` has the templates and `prompts/labels/NAME.txt` the labels. Their names have no
extension and a user's file must have one, so neither ever hides the other.
"""

import difflib
import re
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path

from zeroshot_cli.disk import similar_path
from zeroshot_cli.errors import InputError, UsageError
from zeroshot_cli.words.nodes import Text, at

_COMMENT = re.compile(r"(^|\s)#.*")
_MAX_SIZE = 64_000_000  # bytes: a million labels are fewer
_NO_TEXT = {
    b"PK\x03\x04": "an Excel, Word or zip file",
    b"\xd0\xcf\x11\xe0": "an Excel or Word file",
    b"%PDF": "a PDF file",
    b"{\\rtf": "an RTF file",
}
_MARKS = (  # the longer first: one of UTF-32 begins as one of UTF-16 does
    (b"\xff\xfe\0\0", "utf-32", "UTF-32"),
    (b"\0\0\xfe\xff", "utf-32", "UTF-32"),
    (b"\xff\xfe", "utf-16", "UTF-16"),
    (b"\xfe\xff", "utf-16", "UTF-16"),
    (b"", "utf-8-sig", "UTF-8"),
)


def prompts_dir() -> Path:
    """Return the folder of the built-in sets: the checkout's own `prompts/`, else the copy inside the wheel."""
    root = Path(__file__).parents[3]
    if (root / "prompts").is_dir() and (root / "pyproject.toml").is_file():
        return root / "prompts"
    return Path(__file__).parents[1] / "prompts_data"


def template_files() -> dict[str, Path]:
    """Return the files of the built-in template sets, by name."""
    return {path.stem: path for path in sorted(prompts_dir().glob("*.yaml"))}


def label_files() -> dict[str, Path]:
    """Return the files of the built-in label sets, by name."""
    return {path.stem: path for path in sorted((prompts_dir() / "labels").glob("*.txt"))}


def did_you_mean(name: str, known: Iterable[str], extensions: str) -> str:
    """Return the end of an error about an unknown built-in set: the most similar name, or what a file needs."""
    short = name[:100]  # the comparison takes time by the square of the length
    near = difflib.get_close_matches(short, known, n=1) or [each for each in known if name and name in each][:1]
    hint = f"did you mean {near[0]}?" if near else f"a file needs the extension {extensions};"
    return f"{hint} zeroshot prompts list shows all built-in sets"


def read_text(path: Path, error: type[InputError]) -> str:
    """Return the text of a file without byte order mark, its lines ending in LF; raises as `read_noted` does."""
    return read_noted(path, error)[0]


def read_noted(path: Path, error: type[InputError]) -> tuple[str, tuple[str, ...]]:
    """Return the text of a file, as `read_text`, and what was assumed of it.

    The text is UTF-8, or what its byte order mark says. Raises UsageError when the file cannot be read, `error` when it
    is another encoding, has NUL bytes, or is far too large.
    """
    data = _content(path, error)
    if kind := next((kind for start, kind in _NO_TEXT.items() if data.startswith(start)), None):
        raise error(f"{path} is {kind}, whatever its name says; save it as plain text or CSV, in UTF-8")
    mark, encoding, name = next(each for each in _MARKS if data.startswith(each[0]))
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as problem:
        if mark:
            raise error(f"{path} is invalid {name}; save the file as UTF-8") from None
        raise error(_why_not_utf8(path, data, problem.start)) from None
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        raise error(f"{at(path, line)}: has a NUL byte{_why_nul(data)}; save the file as UTF-8 text")
    return text.replace("\r\n", "\n").replace("\r", "\n"), (f"read as {name}",) if mark else ()


def _content(path: Path, error: type[InputError]) -> bytes:
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode) and not stat.S_ISDIR(status.st_mode):  # reading a pipe may never end
            raise UsageError(f"cannot read {path}: it is not a plain file; save it to one first")
        if status.st_size > _MAX_SIZE:
            size = f"{status.st_size:,} bytes, and at most {_MAX_SIZE:,} are read"
            raise error(f"{path} has {size}; give the file of the labels or templates")
        return path.read_bytes()
    except (OSError, ValueError) as problem:
        reason = getattr(problem, "strerror", None) or str(problem)
        way_out = isinstance(problem, FileNotFoundError) and similar_path(str(path))
        raise UsageError(f"cannot read {path}: {reason}; {way_out or 'check the path'}") from None


def _why_not_utf8(path: Path, data: bytes, place: int) -> str:
    line, byte = data.count(b"\n", 0, place) + 1, data[place]
    likely = bytes([byte]).decode("cp1252", "ignore")
    guess = f" (Windows-1252 for {likely!r}?)" if likely.isalpha() and b"\0" not in data else _why_nul(data)
    return f"{at(path, line)}: byte 0x{byte:02x} is not UTF-8{guess}; save the file as UTF-8"


def _why_nul(data: bytes) -> str:
    return " and looks like UTF-16 without a byte order mark" if data[:1000].count(0) * 3 > len(data[:1000]) else ""


def content_lines(text: str) -> Iterator[Text]:
    """Yield the lines of `text` that are not blank, without comments and outer space.

    `#` starts a comment at the start of a line or after white space, so `C#` stays whole.
    """
    for number, line in enumerate(text.split("\n"), start=1):
        content = _COMMENT.sub("", line).strip()
        if content:
            yield Text(number, content)
