"""Match the classes of a data set, named by folders or by a label column, with labels that may be named differently."""

import re
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from difflib import get_close_matches

from zeroshot_cli.datasets.imagenet_classes import class_of_wnid, imagenet_labels, is_wnid
from zeroshot_cli.display import counted
from zeroshot_cli.errors import DataError
from zeroshot_cli.records import UNKNOWN
from zeroshot_cli.words.labels import Labels

Match = Callable[[str], int | None]

_PREFIX = re.compile(
    r"(?:(n[0-9]{8})|([0-9]{1,4}))(?:[ _-]|\.(?! ))[ _.-]*(?=\D)"
)  # 001.Albatross, n02085620-Chihuahua
_NAMED = 3  # names in a note


def sorted_classes(names: Iterable[str]) -> list[str]:
    """Return class names in order: numeric if all are whole numbers (`2` before `10`), else alphabetical."""
    names = list(names)
    if all_numbers(names):
        return sorted(names, key=lambda name: (int(name), name))
    return sorted(names)


def match_classes(names: Iterable[str], labels: Labels) -> dict[str, int | None]:
    """Return the label index of each class name of a data set, None for a name without a label.

    A name is matched with the folders that labels name, then with label names, then with synonyms; underscores count as
    spaces, and case, hyphens and plurals are ignored, where that leaves one choice. WordNet ids match ImageNet's
    labels, and all 1000 of them match any 1000 labels; so do names that begin with one, or with a number, if all do.
    Numbers that are not labels themselves are taken in order if there are as many as labels, else as indices from 0.
    Raises DataError where they may count from 0 or from 1, and for a duplicate number.
    """
    ordered = sorted_classes(names)
    match = _matcher(labels)
    matches = {name: match(name) for name in ordered}
    if any(index is not None for index in matches.values()) or any(label.folders for label in labels):
        return matches
    if bare := without_prefixes(ordered):
        return {name: _first(match(name.partition("-")[0][:9]), match(bare[name])) for name in ordered}
    if set(ordered) == class_of_wnid().keys() and len(labels) == len(ordered):
        return dict(class_of_wnid())
    return _numbered(ordered, len(labels)) if all_numbers(ordered) else matches


def all_numbers(names: Sequence[str]) -> bool:
    """Return whether all names are whole numbers."""
    return all(re.fullmatch("[0-9]{1,18}", name) for name in names)


def spaced(name: str) -> str:
    """Return a name with spaces for underscores, its accents in the composed form that label files have."""
    return unicodedata.normalize("NFC", " ".join(name.replace("_", " ").split()))


def singular(name: str) -> str:
    """Return a key that is equal for names that differ in case, hyphens or a plural only."""
    text = _folded(name).replace("-", " ")
    if re.search("(?:ch|sh|x|ss|zz)es$", text):
        return text[:-2]
    if re.search("[^aeiou ]ies$", text) and len(text) > len("ties"):
        return f"{text[:-3]}y"
    return text[:-1] if re.search("[^sui ]s$", text) else text


def without_prefixes(names: Sequence[str]) -> dict[str, str]:
    """Return each name without the WordNet id or the number that it begins with; empty unless all names have one.

    Numbers are counted from 0 or from 1 without a gap, as in `001.Albatross`: `2-door` and `4-door` stay as they are.
    """
    found = {name: _PREFIX.match(name) for name in names}
    matches = [match for match in found.values() if match]
    if len(matches) < max(2, len(found)):
        return {}
    numbers = sorted(int(match[2]) for match in matches if match[2])
    if numbers and numbers not in ([*range(len(found))], [*range(1, len(found) + 1)]):
        return {}
    bare = {name: name[match.end() :] for name, match in found.items() if match}
    return bare if len({_folded(each) for each in bare.values()}) == len(found) else {}


def how_matched(matches: Mapping[str, int], labels: Labels) -> tuple[str, ...]:
    """Return a sentence about class names that are not written as their labels are; none where all are."""
    read = {
        name: labels.names[index]
        for name, index in matches.items()
        if spaced(name) != labels.names[index] and name not in labels.items[index].folders and not is_wnid(name)
    }
    if not read:
        return ()
    ends = [*read.items()][: _NAMED - 1] + [*read.items()][_NAMED - 1 :][-1:]
    shown = ", ".join(f"{name!r} as {label!r}" for name, label in ends)
    return (f"{counted(len(read), 'class name')} read as labels: {shown}",)


def first_of_more(ordered: Sequence[str], labels: Labels) -> bool:
    """Return whether class names are the numbers from 0 without a gap, fewer than the labels, and no labels."""
    return (
        len(ordered) < len(labels)
        and all_numbers(ordered)
        and [int(name) for name in ordered] == [*range(len(ordered))]
        and not set(ordered) & {folder for label in labels for folder in label.folders}
        and not set(ordered) <= set(labels.names)
    )


def why_unmatched(name: str, labels: Labels) -> str:
    """Return the rest of a sentence about a class name that matches no label, or several."""
    folded = _folded(name)
    alike = [i for i, label in enumerate(labels) if folded in map(_folded, (label.name, *label.synonyms))]
    if alike:
        places = " and ".join(str(i) for i in alike[:2])
        return (
            f"is the name of {len(alike)} labels, such as numbers {places} counted from 0; "
            "name all classes by number, or give each label a name of its own"
        )
    by_fold = {_folded(each): each for each in labels.names}
    near = [by_fold[each] for each in get_close_matches(folded, by_fold, n=1)]
    example = f"the nearest is {near[0]!r}" if near else f"the first is {labels.names[0]!r}"
    none = f"is not one of the {len(labels)} labels ({example})"
    if folded == UNKNOWN:
        return f"{none}; it stands for images that match no label, which are not measured: leave them out"
    if is_wnid(name) and name in class_of_wnid():
        return f"{none}; it is a class of ImageNet: give --labels imagenet, or list it as the folder of a label"
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
                f"the {labels} class numbers go to {last} without a {gap}, so it is unclear which of the {labels} "
                "labels they are; rename the classes, or list each label's folder in the label file"
            )
        return {name: index for index, name in enumerate(ordered)}
    if first != 0:
        raise DataError(
            f"the {len(ordered)} class numbers begin with {ordered[0]}, and the {labels} labels may be counted "
            "from 0 or from 1; name the classes in words, or add the missing ones"
        )
    return {name: number if number < labels else None for name, number in zip(ordered, numbers, strict=True)}


def _matcher(labels: Labels) -> Match:
    """Return a function from a name to its label index; the strictest reading that fits one label wins."""
    tables: list[tuple[Callable[[str], str], dict[str, set[int]]]] = [(str, _by_folder(labels))]
    for reading in (str, spaced, _folded, singular):
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


def _first(*found: int | None) -> int | None:
    return next((index for index in found if index is not None), None)


def _folded(name: str) -> str:
    return spaced(name).casefold()
