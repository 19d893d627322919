"""Labelled images: a folder of class folders, or a CSV with an image and a label column."""

# pathlib's questions raise OSError where a name is too long or a folder is locked; opening names the reason.
# ruff: noqa: PTH112, PTH113

import csv
import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath

from zeroshot_cli.errors import DataError, UsageError
from zeroshot_cli.images import find_images
from zeroshot_cli.labels import Labels
from zeroshot_cli.records import SkippedImage

IMAGE_COLUMNS = ("image", "path", "filepath", "file")
LABEL_COLUMNS = ("label", "class")


@dataclass(frozen=True, slots=True)
class LabelledImages:
    """Images with their true classes; `targets[i]` is the index in `labels` of `items[i]`.

    An item that was found to be unreadable is a SkippedImage already. `ignored` counts files that are no images.
    """

    name: str
    items: tuple[str | SkippedImage, ...]
    targets: tuple[int, ...]
    labels: Labels
    ignored: int = 0

    def __len__(self) -> int:
        return len(self.items)


def read_dataset(path: Path, labels: Labels | None = None) -> LabelledImages:
    """Read a folder of class folders or a CSV, whichever `path` is; UsageError where it is neither."""
    if os.path.isdir(path):
        return read_labelled_folder(path, labels)
    if os.path.isfile(path):
        return read_labelled_csv(path, labels)
    raise UsageError(
        f"{path}: no such data set; give a folder of class folders, or a CSV with the columns image and label"
    )


def read_labelled_folder(path: Path, labels: Labels | None = None) -> LabelledImages:
    """Read a folder whose folders are classes, images at any depth in them.

    Without `labels` the classes are the folder names in order, underscores read as spaces. DataError where there
    is no class folder, no image, or a folder that is none of `labels`.
    """
    names = sorted_classes(_class_folders(path))
    if not names:
        raise DataError(f"{path}: has no class folders; expected one folder a class with its images inside")
    labels, class_of = _classes(names, labels, str(path), kind="class folder")
    loose = sum(1 for entry in path.iterdir() if not os.path.isdir(entry))
    try:
        found = find_images([f"{path}{os.sep}{name}" for name in names])  # "./-", not "-", which is stdin
    except DataError as error:
        raise DataError(f"{path}: no image in any of its {len(names)} class folders; put some there") from error
    targets = tuple(class_of[_class_folder_of(item, path)] for item in found.items)
    return LabelledImages(str(path), found.items, targets, labels, found.ignored + loose)


def read_labelled_csv(path: Path, labels: Labels | None = None) -> LabelledImages:
    """Read a CSV (also with TAB or `;`) of image paths, relative to the CSV, and their labels.

    Without `labels` the classes are the values of the label column in order, underscores read as spaces.
    DataError for a missing column, naming those there are, an empty field, or a label that is none of `labels`.
    """
    rows = list(_csv_rows(path))
    if not rows:
        raise DataError(f"{path}: has no rows under its header; add one for each image, with its path and its label")
    first_line: dict[str, int] = {}
    for line, _, value in rows:
        first_line.setdefault(value, line)
    labels, class_of = _classes(first_line, labels, str(path), kind="label", lines=first_line)
    items = tuple(str(path.parent / image) for _, image, _ in rows)
    return LabelledImages(str(path), items, tuple(class_of[value] for _, _, value in rows), labels)


def sorted_classes(names: Iterable[str]) -> list[str]:
    """Return class names in order: by number where all are whole numbers (`2` before `10`), else by name."""
    names = list(names)
    if _all_numbers(names):
        return sorted(names, key=lambda name: (int(name), name))
    return sorted(names)


def match_classes(names: Iterable[str], labels: Labels) -> dict[str, int | None]:
    """Return for each class name of a data set the index of its label, None where there is none.

    A name is matched with label names, then with synonyms; underscores are spaces and case does not count where
    that leaves one choice. Numbers that are not themselves labels are taken in order where there are as many as
    labels, else as indices from 0; DataError where they are fewer and 0 is not among them, for then they may count
    from 1.
    """
    ordered = sorted_classes(names)
    match = _matcher(labels)
    by_name = {name: match(name) for name in ordered}
    if not _all_numbers(ordered) or any(index is not None for index in by_name.values()):
        return by_name
    if len(ordered) == len(labels):
        return {name: index for index, name in enumerate(ordered)}
    if int(ordered[0]) != 0:
        raise DataError(
            f"the {len(ordered)} class numbers begin with {ordered[0]} and the {len(labels)} labels may be counted "
            "from 0 or from 1; name the classes in words, or add those that are missing"
        )
    return {name: int(name) if int(name) < len(labels) else None for name in ordered}


def _classes(
    names: Iterable[str],
    labels: Labels | None,
    source: str,
    *,
    kind: str,
    lines: dict[str, int] | None = None,
) -> tuple[Labels, dict[str, int]]:
    """Return the labels and the class index of every name; `lines` says where a CSV has a name first."""
    ordered = sorted_classes(names)
    if labels is None:
        return _labels_of(ordered, source, kind), {name: index for index, name in enumerate(ordered)}
    class_of: dict[str, int] = {}
    try:
        matches = match_classes(ordered, labels)
    except DataError as error:
        raise DataError(f"{source}: {error}") from None
    for name, index in matches.items():
        if index is None:
            where = f"{source}, line {lines[name]}" if lines else source
            raise DataError(f"{where}: {kind} {name!r} {_why_unmatched(name, labels)}")
        class_of[name] = index
    return labels, class_of


def _why_unmatched(name: str, labels: Labels) -> str:
    folded = _folded(name)
    alike = [i for i, label in enumerate(labels) if folded in map(_folded, (label.name, *label.synonyms))]
    if alike:
        places = " and ".join(str(i) for i in alike[:2])
        return (
            f"is the name of {len(alike)} labels, such as those with the numbers {places} counted from 0; "
            "use all numbers as names, or give each label a name of its own"
        )
    return (
        f"is none of the {len(labels)} labels (the first is {labels.names[0]!r}); "
        "add it to the label file, as a label or as a synonym"
    )


def _labels_of(ordered: Sequence[str], source: str, kind: str) -> Labels:
    written: dict[str, str] = {}
    for name in ordered:
        shown = _spaced(name)
        if not shown:
            raise DataError(f"{source}: {kind} {name!r} leaves an empty class name; rename it")
        if shown in written:
            raise DataError(
                f"{source}: {kind} {written[shown]!r} and {name!r} are both the class {shown!r}; rename one"
            )
        written[shown] = name
    return Labels.of(written)


def _matcher(labels: Labels) -> Callable[[str], int | None]:
    """Return a function from a name to the index of its label; the strictest reading that fits one label wins."""
    tables: list[tuple[Callable[[str], str], dict[str, set[int]]]] = []
    for reading in (str, _spaced, _folded):
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


def _spaced(text: str) -> str:
    return " ".join(text.replace("_", " ").split())


def _folded(text: str) -> str:
    return _spaced(text).casefold()


def _all_numbers(names: Sequence[str]) -> bool:
    return all(re.fullmatch("[0-9]{1,18}", name) for name in names)


def _class_folders(path: Path) -> list[str]:
    """Return the names of the folders in a folder, without hidden ones such as `.git` or `.ipynb_checkpoints`."""
    try:
        return [entry.name for entry in path.iterdir() if os.path.isdir(entry) and not entry.name.startswith(".")]
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); change its rights") from error


def _class_folder_of(item: str | SkippedImage, root: Path) -> str:
    path = item.path if isinstance(item, SkippedImage) else item
    return PurePath(path).relative_to(root).parts[0]


def _csv_rows(path: Path) -> Iterator[tuple[int, str, str]]:
    """Yield line number, image and label of every row."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            header = file.readline()
            file.seek(0)
            reader = csv.reader(file, delimiter=_delimiter(header), strict=True)
            columns = next(reader, [])
            image = _column(path, columns, IMAGE_COLUMNS)
            label = _column(path, columns, LABEL_COLUMNS)
            for row in reader:
                if any(field.strip() for field in row):
                    where = f"{path}, line {reader.line_num}"
                    yield (
                        reader.line_num,
                        _field(row, image, columns, where),
                        _field(row, label, columns, where),
                    )
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: is not UTF-8 text (byte {error.start}); save it as UTF-8") from error
    except csv.Error as error:
        raise DataError(
            f"{path}, line {reader.line_num}: is not a valid CSV ({error}); correct or remove this line"
        ) from error
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); check the path and its rights") from error


def _delimiter(header: str) -> str:
    return max(",\t;", key=header.count)  # a comma where none is there: max keeps the first


def _column(path: Path, columns: Sequence[str], wanted: Sequence[str]) -> int:
    names = [column.strip().casefold() for column in columns]
    for name in wanted:
        if name in names:
            return names.index(name)
    has = ", ".join(repr(column) for column in columns) or "none"
    choice = " or ".join((", ".join(wanted[:-1]), wanted[-1]))
    raise DataError(f"{path}: has no {wanted[0]} column; its columns are {has}, one must be called {choice}")


def _field(row: Sequence[str], column: int, columns: Sequence[str], where: str) -> str:
    value = row[column].strip() if column < len(row) else ""
    if not value:
        raise DataError(f"{where}: {columns[column].strip()} is empty; fill it in or delete the row")
    return value
