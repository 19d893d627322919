"""Which label a class of a data set is: its folder, or its value in a label column, may be called otherwise."""

import re
from collections.abc import Callable, Iterable, Sequence

from zeroshot_cli.datasets.wnids import class_of_wnid, imagenet_labels, is_wnid
from zeroshot_cli.errors import DataError
from zeroshot_cli.words.labels import Labels

Match = Callable[[str], int | None]


def sorted_classes(names: Iterable[str]) -> list[str]:
    """Return class names in order: by number where all are whole numbers (`2` before `10`), else by name."""
    names = list(names)
    if all_numbers(names):
        return sorted(names, key=lambda name: (int(name), name))
    return sorted(names)


def match_classes(names: Iterable[str], labels: Labels) -> dict[str, int | None]:
    """Return for each class name of a data set the index of its label, None where there is none.

    A name is matched with the folders that labels say they stand for, then with label names, then with synonyms;
    underscores are spaces and case does not count where that leaves one choice. WordNet ids are matched where the
    labels are ImageNet's, or 1000 for all of its 1000 ids. Numbers that are not themselves labels are taken in order
    where there are as many as labels, else as indices from 0. DataError where they may count from 0 or from 1, or where
    two are the same number.
    """
    ordered = sorted_classes(names)
    match = _matcher(labels)
    matches = {name: match(name) for name in ordered}
    if any(index is not None for index in matches.values()) or any(label.folders for label in labels):
        return matches
    if set(ordered) == class_of_wnid().keys() and len(labels) == len(ordered):
        return dict(class_of_wnid())
    return _numbered(ordered, len(labels)) if all_numbers(ordered) else matches


def all_numbers(names: Sequence[str]) -> bool:
    """Whether all names are whole numbers."""
    return all(re.fullmatch("[0-9]{1,18}", name) for name in names)


def spaced(name: str) -> str:
    """A name with spaces for underscores."""
    return " ".join(name.replace("_", " ").split())


def why_unmatched(name: str, labels: Labels) -> str:
    """The rest of a sentence about a class name that is no label, or that of several."""
    folded = _folded(name)
    alike = [i for i, label in enumerate(labels) if folded in map(_folded, (label.name, *label.synonyms))]
    if alike:
        places = " and ".join(str(i) for i in alike[:2])
        return (
            f"is the name of {len(alike)} labels, such as those with the numbers {places} counted from 0; "
            "use all numbers as names, or give each label a name of its own"
        )
    none = f"is none of the {len(labels)} labels (the first is {labels.names[0]!r})"
    if is_wnid(name) and name in class_of_wnid():
        return f"{none}; it is a class of ImageNet: give --labels imagenet, or name it as the folder of a label"
    return f"{none}; add it to the label file, as a label, a synonym or the folder of a label"


def _numbered(ordered: Sequence[str], labels: int) -> dict[str, int | None]:
    numbers = [int(name) for name in ordered]
    for first, second, name in zip(numbers, numbers[1:], ordered[1:], strict=False):
        if first == second:
            raise DataError(f"two classes have the number {first}, one of them written {name}; rename one")
    first, last = numbers[0], numbers[-1]
    if len(numbers) == labels:
        if first == 0 and last == labels:
            gap = next(place for place, number in enumerate(numbers) if place != number)
            raise DataError(
                f"the {labels} class numbers go to {last} without a {gap}, so it is not clear which of the {labels} "
                "labels they are; rename the classes, or say in the label file which folder each label has"
            )
        return {name: index for index, name in enumerate(ordered)}
    if first != 0:
        raise DataError(
            f"the {len(ordered)} class numbers begin with {ordered[0]} and the {labels} labels may be counted "
            "from 0 or from 1; name the classes in words, or add those that are missing"
        )
    return {name: number if number < labels else None for name, number in zip(ordered, numbers, strict=True)}


def _matcher(labels: Labels) -> Match:
    """Return a function from a name to the index of its label; the strictest reading that fits one label wins."""
    tables: list[tuple[Callable[[str], str], dict[str, set[int]]]] = [(str, _by_folder(labels))]
    for reading in (str, spaced, _folded):
        for synonyms in (False, True):
            table: dict[str, set[int]] = {}
            for index, label in enumerate(labels):
                for text in (label.name, *(label.synonyms if synonyms else ())):
                    table.setdefault(reading(text), set()).add(index)
            tables.append((reading, table))

    def match(name: str) -> int | None:
        fits = (table.get(reading(name), set()) for reading, table in tables)
        return next((min(indices) for indices in fits if len(indices) == 1), None)

    return match


def _by_folder(labels: Labels) -> dict[str, set[int]]:
    own = {folder: {index} for index, label in enumerate(labels) for folder in label.folders}
    if own or len(labels) != len(class_of_wnid()) or labels.names != imagenet_labels().names:
        return own
    return {wnid: {index} for wnid, index in class_of_wnid().items()}


def _folded(name: str) -> str:
    return spaced(name).casefold()
