"""Groups of labels: a label's path, from the topmost group to its own. Their names are for answers, not for models."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from zeroshot_cli.errors import LabelsError
from zeroshot_cli.records import SEPARATOR, UNKNOWN
from zeroshot_cli.words.prompts import checked_text
from zeroshot_cli.words.raw_labels import same_words, visible

_MOST = 12  # groups inside each other
_OTHER_SEPARATORS = (">", "|")

Path = tuple[str, ...]


def checked_path(names: Sequence[str], where: str) -> Path:
    """Return a path of groups without outer space; raises LabelsError for a name that no group may have."""
    if len(names) > _MOST:
        raise LabelsError(f"{where}: more than {_MOST} groups are inside each other; leave some out")
    path = tuple(checked_text(visible(name), f"{where}: a group", LabelsError) for name in names)
    for name in path:
        if SEPARATOR in name:
            raise LabelsError(f"{where}: group {name!r} has a slash, which separates groups in answers; write another")
        if same_words(name) == UNKNOWN:
            raise LabelsError(f"{where}: the group {name!r} is reserved for rejected images; rename it")
    return path


def path_of_cell(cell: str, where: str) -> Path:
    """Return the path in a cell of a table, such as "animal/bird"; raises LabelsError for what is none."""
    if not cell.strip():
        return ()
    if mark := next((mark for mark in _OTHER_SEPARATORS if mark in cell and SEPARATOR not in cell), None):
        shown = SEPARATOR.join(part.strip() for part in cell.split(mark))
        raise LabelsError(f"{where}: group {cell!r} has {mark!r}; write a path with slashes, as {shown!r}")
    return checked_path(cell.split(SEPARATOR), where)


def check_groups(labels: Iterable[tuple[str, Path, str]]) -> None:
    """Raise LabelsError where a name stands for two things: two groups, or a group and a label.

    Labels are their name, path, and where they are for the error.
    """
    labels = list(labels)
    groups: dict[str, Path] = {}
    places: dict[Path, str] = {}
    for _, path, where in labels:
        places.setdefault(path, where)
    for path, where in places.items():
        for end in range(1, len(path) + 1):
            own = path[:end]
            first = groups.setdefault(same_words(own[-1]), own)
            if first != own:
                both = f"{SEPARATOR.join(first)!r} and {SEPARATOR.join(own)!r}"
                raise LabelsError(f"{where}: the groups {both} end in the same words; rename one of them")
    for name, _, where in labels:
        if group := groups.get(same_words(name)):
            raise LabelsError(f"{where}: {name!r} is a label, and {SEPARATOR.join(group)!r} is a group; rename one")


def flattened(groups: Mapping[str, Any], inside: Path = ()) -> Iterator[tuple[str, Path]]:
    """Yield the labels of nested mappings, whose innermost values are lists of labels, with their paths.

    Raises LabelsError for another value, and for a group without labels.
    """
    for name, value in groups.items():
        if not isinstance(name, str):
            raise LabelsError(f"the group {name!r} is not a string; put it in quotes")
        path = checked_path((*inside, name), "labels")
        if isinstance(value, str) or not isinstance(value, Iterable):
            raise LabelsError(f"the group {name!r} has {value!r}; give a list of labels, or a mapping of groups")
        found = [*flattened(value, path)] if isinstance(value, Mapping) else [(label, path) for label in value]
        if not found:
            raise LabelsError(f"the group {name!r} has no labels; add one, or remove the group")
        yield from found
