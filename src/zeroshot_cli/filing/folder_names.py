"""Labels as folder names that every system accepts, with numbers if two names are the same to a system."""

import unicodedata
from collections.abc import Iterable, Iterator
from itertools import count

LONGEST = 255  # bytes of a name in UTF-8: ext4's limit; those of NTFS and APFS are wider
_FORBIDDEN = frozenset('<>:"/\\|?*')
_UNPRINTABLE = frozenset({"Cc", "Cs", "Zl", "Zp"})  # controls, halves of characters, line and paragraph separators
_DEVICES = frozenset(
    ["CON", "PRN", "AUX", "NUL", "CONIN$", "CONOUT$"]
    + [f"{port}{n}" for port in ("COM", "LPT") for n in "0123456789¹²³"]
)


class FolderNames:
    """The folder of each label, one for each; `taken` names are not used."""

    def __init__(self, taken: Iterable[str] = ()) -> None:
        self._folders: dict[str, str] = {}
        self._taken = {folded(name) for name in taken}

    def assign(self, label: str, folder: str) -> None:
        """Give a label the folder that it had before."""
        self._folders.setdefault(label, folder)
        self._taken.add(folded(folder))

    def folder(self, label: str) -> str:
        """Return the label's folder; the first of two labels that look the same gets the plain name."""
        if label not in self._folders:
            name = safe_name(label)
            self.assign(label, next(free for free in numbered(name) if folded(free) not in self._taken))
        return self._folders[label]


def safe_name(label: str) -> str:
    """Return the label as a folder name that Linux, macOS and Windows accept: not empty, at most 255 bytes."""
    name = "".join("_" if _is_unsafe(c) else c for c in unicodedata.normalize("NFC", label)).rstrip(". ")
    if name.partition(".")[0].rstrip().upper() in _DEVICES:
        name = f"_{name}"
    return _cut(name, LONGEST).rstrip(". ") or "_"


def folded(name: str) -> str:
    """Return the name as a file system compares it that ignores case and Unicode normalisation."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFD", name).casefold())


def numbered(stem: str, extension: str = "", *, first: int = 1) -> Iterator[str]:
    """Yield `stem`, `stem (2)`, `stem (3)` … with the extension; the stem is cut if a number makes it too long."""
    if first == 1:
        yield stem + extension
    for number in count(max(first, 2)):
        suffix = f" ({number}){extension}"
        yield _cut(stem, LONGEST - _size(suffix)) + suffix


def _is_unsafe(character: str) -> bool:
    return character in _FORBIDDEN or unicodedata.category(character) in _UNPRINTABLE


def _cut(text: str, size: int) -> str:
    """Return the first characters that fit in `size` bytes."""
    while text and _size(text) > size:
        # A character has at most four bytes, so this never cuts too much.
        text = text[: -max(1, (_size(text) - size) // 4)]
    return text


def _size(text: str) -> int:
    return len(text.encode("utf-8", "surrogateescape"))
