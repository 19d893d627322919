"""Labels that may not be what the user meant: they are used as they are, and a note says so."""

import re
from collections.abc import Sequence

_KINDS = {
    "labels that may be paths": re.compile(
        r"(~|\.{1,2})?/\S+|[A-Za-z]:\\.*|\S+[/\\]|.*\.(jpe?g|png|gif|tiff?|webp|heic|bmp|txt|csv|json|ya?ml)",
        re.IGNORECASE,
    ),
    "labels with underscores, where a model expects spaces": re.compile(r".*[^\W_]_[^\W_].*"),
    "labels with a line break": re.compile(r".*(\\n|\n).*", re.DOTALL),
}
_LAST_NUMBER = re.compile(r"[\s:;,=]+\(?[+-]?\d[\d.,]*%?\)?$")
_JOINERS = ("=", "->", "→", ";", ":", ",", "\t", " - ", " – ", " / ")


def doubts(names: Sequence[str]) -> tuple[str, ...]:
    """Return a note for each kind of label that does not look like words for a model."""
    found = [(what, [name for name in names if form.fullmatch(name)]) for what, form in _KINDS.items()]
    notes = [f"{what}: {len(some):,}, such as {some[0][:60]!r}" for what, some in found if some]
    if len(names) > 1:
        first = repr(names[0][:60])
        joiner = next((mark for mark in _JOINERS if all(mark in name.strip(mark) for name in names)), None)
        if joiner is not None:
            notes.append(f"what is before and after {joiner!r} is one label, as in {first}")
        if len({_LAST_NUMBER.sub("", name) for name in names if _LAST_NUMBER.search(name)}) == len(names):
            notes.append(f"the numbers at the end of all labels are a part of them, as in {first}")
    return tuple(notes)
