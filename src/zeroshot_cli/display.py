"""Values as people read them: text that is safe on a terminal, counts, sizes."""

import re
from collections.abc import Callable

_JOINERS = "\u200c\u200d"  # not printable by themselves; emoji and Persian need them
_LONGEST_VALUE = 200  # characters of a value in a sentence
_LONGEST, _KEPT_END = 1000, 300  # of a sentence, and of its end
_LOOKED_AT = 100_000
_VALUE = re.compile(rf"(['\"`])((?:(?!\1).){{{_LONGEST_VALUE}}})(?:(?!\1).)+\1", re.DOTALL)
_UNITS = ("B", "kB", "MB", "GB", "TB")


def shown(text: str) -> str:
    r"""Return text fit for one line of a terminal: what cannot be printed is escaped, as \n or \xff."""
    return escaped(text, _escaped)


def shown_lines(text: str) -> str:
    """Return text of several lines fit for a terminal: line feeds and TABs stay, what cannot be printed is escaped."""
    return escaped(text, _escaped, keep="\n\t")


def escaped(text: str, escape: Callable[[str], str], *, keep: str = "") -> str:
    """Return text with `escape` of each character that cannot be printed, but for those to `keep`.

    A joiner stays within an emoji or a script that has it; among ASCII it would only hide.
    """
    if text.isprintable():
        return text
    return "".join(
        c if c.isprintable() or c in keep or (c in _JOINERS and not before.isascii()) else escape(c)
        for before, c in zip(f" {text}", text, strict=False)
    )


def _escaped(character: str) -> str:
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:  # a byte of a path that is not UTF-8
        return f"\\x{code - 0xDC00:02x}"
    return character.encode("unicode_escape").decode("ascii")


def brief(sentence: str) -> str:
    """Return an error or warning with each value in it cut to 200 characters, and with at most 1,000 in all.

    Values are what is in quotes. The end, which says what to do, is kept.
    """
    if len(sentence) <= _LONGEST_VALUE:
        return sentence
    ends = sentence if len(sentence) <= 2 * _LOOKED_AT else sentence[:_LOOKED_AT] + sentence[-_LOOKED_AT:]
    text = _VALUE.sub(lambda match: f"{match[1]}{match[2]}…{match[1]}", ends)
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - _KEPT_END]} … {text[-_KEPT_END:]}"


def counted(count: int, noun: str) -> str:
    """Return a number with its noun, as "1 image" or "2 images"."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def size_text(size: int) -> str:
    """Return a number of bytes with at most three digits and a unit."""
    amount, unit = float(size), 0
    while amount >= 999.5 and unit < len(_UNITS) - 1:
        amount, unit = amount / 1000, unit + 1
    return f"{amount:.{1 if unit and amount < 9.95 else 0}f} {_UNITS[unit]}"
