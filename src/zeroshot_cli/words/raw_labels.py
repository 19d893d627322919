"""An entry of a label file before it is checked, and the ids that stand for words: numbers and WordNet ids."""

import html
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from unicodedata import normalize

from zeroshot_cli.display import counted

_ID = re.compile(r"\d{1,18}|n\d{8}|/[mg]/\w{2,12}")  # the last are Open Images'
_UNSEEN = re.compile("[\u00ad\u200b\u200e\u200f\u202a-\u202e\u2060\u2066-\u2069\ufeff]")
_WNID = re.compile(r"n\d{8}")
_ENTITY = re.compile(r"&(#\d+|#[xX][0-9a-fA-F]+|[A-Za-z]\w{1,30});")
_NUMBER = re.compile(r"[+-]?\d+([.,]\d+)*%?")

Say = Callable[[str], None]
"""What a reader tells of what it took for granted."""


@dataclass(frozen=True, slots=True)
class RawLabel:
    """One entry of a label file, unchecked; `words` are synonyms and whole prompts with a placeholder."""

    line: int
    name: str
    words: tuple[str, ...] = ()
    prompts: tuple[str, ...] = ()
    folders: tuple[str, ...] = ()
    group: tuple[str, ...] = ()
    from_table: bool = False

    def takes(self, other: "RawLabel") -> bool:
        """Return whether `other` continues this label: rows of a table may add prompts or folders, nothing else may."""
        both = ((self.prompts, other.prompts), (self.folders, other.folders))
        return self.from_table and any(own and more and not set(own) & set(more) for own, more in both)

    def joined(self, other: "RawLabel") -> "RawLabel":
        """Return this label with the words, prompts and folders of another."""
        return replace(
            self,
            words=self.words + other.words,
            prompts=tuple(dict.fromkeys(self.prompts + other.prompts)),
            folders=tuple(dict.fromkeys(self.folders + other.folders)),
            group=self.group or other.group,
        )


def is_wnid(name: str) -> bool:
    """Return whether a name has the form of a WordNet id, whether or not the class is ImageNet's."""
    return _WNID.fullmatch(name) is not None


def is_id(text: str) -> bool:
    """Return whether a text is an index or a WordNet id, which data sets use for words."""
    return _ID.fullmatch(text.strip()) is not None


def is_number(text: str) -> bool:
    """Return whether a text is a number, which is not a word for a model."""
    return _NUMBER.fullmatch(text.strip()) is not None


def in_order(ids: Sequence[str]) -> bool:
    """Return whether ids count up from 0 or from 1."""
    return bool(ids) and ids[0] in ("0", "1") and list(ids) == [str(int(ids[0]) + i) for i in range(len(ids))]


def with_id(line: int, id_: str, names: Sequence[str]) -> RawLabel:
    """Return the label that an id stands for; the id is the name of its folder, as data sets have it.

    WordNet's lines have synonyms after commas.
    """
    if is_wnid(id_) and len(names) == 1:
        names = [name.strip() for name in names[0].split(",") if name.strip()] or names
    return RawLabel(line, names[0], tuple(names[1:]), folders=(id_,))


def resolved(text: str) -> str:
    """Return a text with characters in place of HTML's names for them, such as &amp;."""
    return _ENTITY.sub(lambda match: html.unescape(match[0]), text)


def visible(text: str) -> str:
    """Return a text without the characters that nobody sees: zero-width spaces, soft hyphens, marks of direction."""
    return _UNSEEN.sub("", text)


def same_words(name: str) -> str:
    """Return what two labels share that differ in case, spaces, the form of letters, or a mark at the end."""
    text = " ".join(normalize("NFKC", visible(name)).lower().replace("_", " ").replace("’", "'").split())
    return text.rstrip(" .,;:!") or text


def such_as(count: int, what: str, example: str) -> str:
    """Return a note on lines that were changed, such as "numbers taken off 2 lines, such as '0 apple'"."""
    return f"{what} {counted(count, 'line')}, such as {example[:60]!r}"


@cache
def wnids() -> tuple[str, ...]:
    """Return the WordNet ids of ImageNet's 1000 classes in order."""
    text = Path(__file__).with_name("wnids.txt").read_text(encoding="ascii")
    return tuple(line for line in text.splitlines() if not line.startswith("#"))
