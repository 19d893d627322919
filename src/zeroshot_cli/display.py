"""Values as people read them: text that is safe on a terminal, counts, sizes."""

_JOINERS = "\u200c\u200d"  # not printable by themselves; emoji and Persian need them
_UNITS = ("B", "kB", "MB", "GB", "TB")


def shown(text: str) -> str:
    r"""Return text fit for one line of a terminal: what cannot be printed is escaped, as \n or \xff."""
    return "".join(c if c.isprintable() or c in _JOINERS else _escaped(c) for c in text)


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
