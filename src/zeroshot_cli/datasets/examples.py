"""Labelled examples to learn from: class folders, tables, and results of `classify` that people have corrected."""

# pathlib's questions raise OSError where a name is too long or a folder is locked; opening names the reason.
# ruff: noqa: PTH100, PTH112, PTH113

import os
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path

from zeroshot_cli.datasets.labelled import LabelledImages, classes_of, is_no_label, read_dataset
from zeroshot_cli.datasets.matching import sorted_classes
from zeroshot_cli.datasets.tables import Table, find_items, is_results, read_rows
from zeroshot_cli.disk import similar_path
from zeroshot_cli.display import counted
from zeroshot_cli.errors import DataError, UsageError
from zeroshot_cli.images.find import path_of
from zeroshot_cli.images.given import ImageItem
from zeroshot_cli.images.selection import USUAL, Selection
from zeroshot_cli.pairs.tables import PlacedRow
from zeroshot_cli.records import SEPARATOR, UNKNOWN, assumed_of
from zeroshot_cli.words.labels import Labels


@dataclass(frozen=True, slots=True)
class ExampleImages:
    """Images with their labels; `targets[i]` is the index in `labels` of `items[i]`, which `places[i]` names.

    An item that is already known to be unreadable is a SkippedImage. `passed_over` says, one sentence each, which rows
    are no examples, `assumed` what was assumed, and `doubts` why labels may be wrong.
    """

    items: tuple[ImageItem, ...]
    targets: tuple[int, ...]
    places: tuple[str, ...]
    labels: Labels
    passed_over: tuple[str, ...] = ()
    assumed: tuple[str, ...] = ()
    doubts: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.items)

    def at(self, rows: Iterable[int]) -> "ExampleImages":
        """Return the examples of these rows."""
        kept = [(self.items[row], self.targets[row], self.places[row]) for row in rows]
        items, targets, places = zip(*kept, strict=True) if kept else ((), (), ())
        return replace(self, items=items, targets=targets, places=places)

    def unique(self, keys: Sequence[Hashable]) -> list[int]:
        """Return the rows of images that are the first of their key; None is a key that no two share.

        Raises DataError where one image has two labels.
        """
        first: dict[Hashable, int] = {}
        rows = []
        for row, key in enumerate(keys):
            before = row if key is None else first.setdefault(key, row)
            if self.targets[before] != self.targets[row]:
                raise DataError(self._two_labels(before, row))
            if before == row:
                rows.append(row)
        return rows

    def _two_labels(self, first: int, second: int) -> str:
        here, there = (f"{self.labels.names[self.targets[row]]!r} in {self.places[row]}" for row in (first, second))
        paths = [path_of(self.items[row]) for row in (first, second)]
        which = f"{paths[0]}: is" if paths[0] == paths[1] else f"{paths[0]} and {paths[1]} are the same image,"
        return f"{which} {here} and {there}; an image has one label, correct one of them"


def read_examples(
    paths: Sequence[Path | str],
    labels: Labels | None = None,
    *,
    image_column: str | None = None,
    label_column: str | None = None,
    selection: Selection = USUAL,
) -> ExampleImages:
    """Read class folders, tables with an image and a label, and results of `classify`; several are put together.

    Without `labels` they are those that the examples have. In tables, rows without a label or labelled "unknown" are
    passed over, and in results those with a rank over 1. An image that is there twice counts once. Raises UsageError
    for a path that is neither, DataError for what is wrong in it, a label that is none of `labels`, two labels of one
    image, and where no example is left.
    """
    parts = []
    for path in dict.fromkeys(map(str, paths)):
        if os.path.isdir(path):
            folder = read_dataset(
                path, labels, image_column=image_column, label_column=label_column, selection=selection
            )
            parts.append(_of_folder(path, folder))
        elif os.path.isfile(path):
            parts.append(_of_table(Path(path), labels, image_column, label_column))
        else:
            way_out = (
                "give a folder of class folders, a CSV with the columns image and label, or what zeroshot classify "
                "wrote, corrected"
            )
            raise UsageError(f"{path}: no such examples; {similar_path(str(path)) or way_out}")
    found = _together(parts, labels)
    if not len(found):
        raise DataError(f"{', '.join(map(str, paths))}: no example to learn from; {'; '.join(found.passed_over)}")
    rows = found.unique([os.path.abspath(path_of(item)) for item in found.items])
    return found.at(rows) if len(rows) < len(found) else found


def read_corrections(path: Path, labels: Labels) -> dict[str, str]:
    """Return the labels that people gave images, by absolute path, from a table as `read_examples` takes it.

    An image that matches none of the labels has "unknown", and one may have a group of labels. Raises DataError for
    what is neither.
    """
    table = read_rows(path, results=True)
    rows = _latest(table.rows) if _is_log(table.header) else table.rows
    groups = _groups(labels)
    rows = [row for row in rows if not is_no_label(row[2][0], labels)]
    if is_results(table.header):
        rows, _ = _first_ranks(rows, _column(path, table, "rank"))
    given = {value: place for place, _, (value,) in reversed(rows)}
    unknown = {value for value in given if value.casefold() == UNKNOWN and UNKNOWN not in labels.names}
    answers = dict.fromkeys(unknown, UNKNOWN) | {value: value for value in groups.intersection(given)}
    places = {value: place for value, place in given.items() if value not in answers}
    index_of = classes_of(places, labels, str(path), kind="label", places=places).index_of if places else {}
    answers |= {value: labels.names[index] for value, index in index_of.items()}
    cells = [image for _, image, _ in rows]
    try:
        items: Sequence[ImageItem] = find_items(path, cells)[0] if cells else ()
    except DataError:  # none of them is there, so none will be classified
        items = cells
    return {os.path.abspath(path_of(item)): answers[value] for item, (_, _, (value,)) in zip(items, rows, strict=True)}


def examples_of(images: LabelledImages) -> ExampleImages:
    """Return the images of a data set as examples."""
    places = (images.name,) * len(images)
    return ExampleImages(
        images.items, images.targets, places, images.labels, images.left_out, images.assumed, images.doubts
    )


def _together(parts: Sequence[ExampleImages], labels: Labels | None) -> ExampleImages:
    """Return the examples of all parts, with `labels`, or all that the parts have."""
    if labels is None:
        labels = Labels.of(sorted_classes(dict.fromkeys(name for part in parts for name in part.labels.names)))
        index_of = {name: index for index, name in enumerate(labels.names)}
        targets = [index_of[part.labels.names[target]] for part in parts for target in part.targets]
    else:
        targets = [target for part in parts for target in part.targets]
    return ExampleImages(
        items=tuple(item for part in parts for item in part.items),
        targets=tuple(targets),
        places=tuple(place for part in parts for place in part.places),
        labels=labels,
        passed_over=assumed_of(*(part.passed_over for part in parts)),
        assumed=assumed_of(*(part.assumed for part in parts)),
        doubts=assumed_of(*(part.doubts for part in parts)),
    )


def _of_folder(path: str, found: LabelledImages) -> ExampleImages:
    notes = (f"{path}: {text}" for text in (*found.left_out, *found.assumed))
    doubts = (f"{path}: {text}" for text in found.doubts)
    places = (path,) * len(found)
    return ExampleImages(found.items, found.targets, places, found.labels, (), tuple(notes), tuple(doubts))


def _of_table(path: Path, labels: Labels | None, image_column: str | None, label_column: str | None) -> ExampleImages:
    table = read_rows(path, image_column=image_column, label_column=label_column, results=True)
    rows = _latest(table.rows) if _is_log(table.header) else table.rows
    notes, answered = [*table.notes], dict[str, str]()
    if is_results(table.header):
        notes.append("its labels are taken as checked by hand")
        answered = _column(path, table, "group")
    rows, passed_over = _labelled(rows, labels, answered)
    if is_results(table.header):
        rows, more = _first_ranks(rows, _column(path, table, "rank"))
        passed_over += more
    passed_over = [f"{text} passed over" for text in passed_over]
    first_place: dict[str, str] = {}
    for place, _, (value,) in rows:
        first_place.setdefault(value, place)
    if not rows:
        return ExampleImages((), (), (), labels or Labels(()), tuple(f"{path}: {each}" for each in passed_over))
    classes = classes_of(first_place, labels, str(path), kind="label", places=first_place)
    items, where = find_items(path, [image for _, image, _ in rows])
    return ExampleImages(
        items,
        tuple(classes.index_of[value] for _, _, (value,) in rows),
        tuple(f"{path} {place}" for place, _, _ in rows),
        classes.labels,
        tuple(f"{path}: {text}" for text in passed_over),
        tuple(f"{path}: {text}" for text in (*notes, *where, *classes.assumed)),
        tuple(f"{path}: {text}" for text in (*table.doubts, *classes.doubts)),
    )


def _is_log(header: Sequence[str]) -> bool:
    """Return whether a table is a log of corrections, which says what a label `was` and `when`."""
    return {"was", "when"} <= {*header}


def _latest(rows: Sequence[PlacedRow]) -> Sequence[PlacedRow]:
    """Return the last row of each image of a log of corrections."""
    return [*{image: (place, image, label) for place, image, label in rows}.values()]


def _labelled(
    rows: Sequence[PlacedRow], labels: Labels | None, answered: Mapping[str, str]
) -> tuple[list[PlacedRow], list[str]]:
    """Return the rows that have a label, and what the others are; `answered` are the groups of results, by place."""
    empty = [is_no_label(value, labels) for _, _, (value,) in rows]
    reserved = labels is None or UNKNOWN not in labels.names
    unknown = [reserved and value.casefold() == UNKNOWN for _, _, (value,) in rows]
    groups = set[str]() if labels is None else _groups(labels)
    grouped = [value in groups or value == _last(answered.get(place, "")) for place, _, (value,) in rows]
    others = [f"{counted(sum(unknown), 'row')} labelled {UNKNOWN!r}"] * any(unknown)
    others += [f"{counted(sum(grouped), 'row')} labelled with a group"] * any(grouped)
    others += [f"{counted(sum(empty), 'row')} without a label"] * any(empty)
    return [row for row, *no in zip(rows, empty, unknown, grouped, strict=True) if not any(no)], others


def _groups(labels: Labels) -> set[str]:
    """Return the names of groups that no label has, with which `classify` answers where no label is sure enough."""
    return {*chain.from_iterable(labels.groups)} - {*labels.names}


def _last(group: str) -> str | None:
    """Return the name of a group that its path ends with; an answer of that name is the group itself."""
    return group.rpartition(SEPARATOR)[2] or None


def _column(path: Path, table: Table, name: str) -> dict[str, str]:
    """Return a further column of results, by place; nothing where they lack it, as JSONL lacks ranks."""
    column = next((each for each in table.header if each.casefold() == name), None)
    if column is None:
        return {}
    return {place: value for place, _, (value,) in read_rows(path, image_column=table.image, label_column=column).rows}


def _first_ranks(rows: Sequence[PlacedRow], ranks: Mapping[str, str]) -> tuple[list[PlacedRow], list[str]]:
    """Return the rows of the first rank, and what the others are."""
    kept = [row for row in rows if ranks.get(row[0], "") in ("1", "")]
    others = len(rows) - len(kept)
    return kept, [f"{counted(others, 'row')} with a rank over 1"] * bool(others)
