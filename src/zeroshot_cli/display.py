"""Values as people read them: text that is safe on a terminal, counts, sizes."""

from collections.abc import Callable

_JOINERS = "\u200c\u200d"  # not printable by themselves; emoji and Persian need them
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


def counted(count: int, noun: str) -> str:
    """Return a number with its noun, as "1 image" or "2 images"."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def size_text(size: int) -> str:
    """Return a number of bytes with at most three digits and a unit."""
    amount, unit = float(size), 0
    while amount >= 999.5 and unit < len(_UNITS) - 1:
        amount, unit = amount / 1000, unit + 1
    return f"{amount:.{1 if unit and amount < 9.95 else 0}f} {_UNITS[unit]}"
