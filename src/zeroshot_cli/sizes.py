"""Sizes in bytes, as they are shown."""

_UNITS = ("B", "kB", "MB", "GB", "TB")


def size_text(size: int) -> str:
    """A number of bytes for people: at most three digits and a unit."""
    amount, unit = float(size), 0
    while amount >= 999.5 and unit < len(_UNITS) - 1:
        amount, unit = amount / 1000, unit + 1
    return f"{amount:.{1 if unit and amount < 9.95 else 0}f} {_UNITS[unit]}"
