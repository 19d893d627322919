"""Labelled images: a folder of class folders, or a table with an image and a label column."""

# pathlib's questions raise OSError where a name is too long or a folder is locked; opening names the reason.
# ruff: noqa: PTH112, PTH113, PTH118, PTH120

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path, PurePath

from zeroshot_cli.datasets.imagenet_classes import is_wnid
from zeroshot_cli.datasets.matching import match_classes, sorted_classes, spaced, why_unmatched
from zeroshot_cli.errors import DataError, UsageError
from zeroshot_cli.images.find import find_images, path_of
from zeroshot_cli.images.selection import USUAL, Excluded, Selection, other_files
from zeroshot_cli.pairs.columns import LABELS, Columns
from zeroshot_cli.pairs.paths import find_image, is_on_web
from zeroshot_cli.pairs.tables import Form, form_of, read_table
from zeroshot_cli.records import SkippedImage
from zeroshot_cli.words.labels import Labels

_NAMED = 3  # classes in a note


@dataclass(frozen=True, slots=True)
class LabelledImages:
    """Images with their true classes; `targets[i]` is the index in `labels` of `items[i]`.

    An item that is already known to be unreadable is a SkippedImage. `left_out` says, one
    sentence each, which files were left out. Sets
    with a name have more: `as_stored` if published figures are of images as stored, without Exif rotation; `prompts`,
    their own template set; `known`, their name in the registry.
    """

    name: str
    items: tuple[str | SkippedImage, ...]
    targets: tuple[int, ...]
    labels: Labels
    left_out: tuple[str, ...] = ()
    as_stored: bool = False
    prompts: str | None = None
    known: str | None = None

    def __len__(self) -> int:
        return len(self.items)

    @property
    def empty_classes(self) -> tuple[str, ...]:
        """The labels without images, which remain among the classes to choose from."""
        filled = set(self.targets)
        return tuple(name for index, name in enumerate(self.labels.names) if index not in filled)

    @property
    def notes(self) -> tuple[str, ...]:
        """What a user should know about the data set, one sentence each."""
        notes = []
        notes += [f"{self.name}: {text}" for text in self.left_out]
        if empty := self.empty_classes:
            named = ", ".join(empty[:_NAMED]) + (", …" if len(empty) > _NAMED else "")
            verb = "has" if len(empty) == 1 else "have"
            notes.append(
                f"{self.name}: {len(empty)} of {len(self.labels)} classes {verb} no image ({named}); they remain "
                "possible answers"
            )
        if all(map(is_wnid, self.labels.names)):
            notes.append(
                f"{self.name}: its classes are named by WordNet ids, which mean nothing to a model; see --labels"
            )
        return tuple(notes)


def read_dataset(
    path: Path,
    labels: Labels | None = None,
    *,
    image_column: str | None = None,
    label_column: str | None = None,
    selection: Selection = USUAL,
) -> LabelledImages:
    """Read a folder of class folders or a table, whichever `path` is; raises UsageError if it is neither."""
    if os.path.isdir(path):
        return read_labelled_folder(path, labels, selection)
    if os.path.isfile(path):
        return read_labelled_table(path, labels, image_column=image_column, label_column=label_column)
    raise UsageError(
        f"{path}: no such data set; give a folder of class folders, or a CSV with the columns image and label"
    )


def read_labelled_folder(path: Path, labels: Labels | None = None, selection: Selection = USUAL) -> LabelledImages:
    """Read a folder whose folders are classes, with images at any depth.

    Without `labels` the classes are the folder names in order, underscores read as spaces. Raises DataError where there
    is no class folder, no image, or a folder that matches none of `labels`.
    """
    class_folders, left_out = _class_folders(path, selection)
    names = sorted_classes(class_folders)
    if not names:
        raise DataError(f"{path}: has no class folders; expected one folder per class with its images inside")
    labels, class_of = _classes(names, labels, str(path), kind="class folder")
    try:
        found = find_images(
            [f"{path}{os.sep}{name}" for name in names], selection=selection
        )  # "./-", not "-", which is stdin
    except DataError as error:
        raise DataError(f"{path}: no image in any of its {len(names)} class folders; put some there") from error
    targets = tuple(class_of[PurePath(path_of(item)).relative_to(path).parts[0]] for item in found.items)
    return LabelledImages(str(path), found.items, targets, labels, (*left_out, *found.assumed))


def read_labelled_table(
    path: Path, labels: Labels | None = None, *, image_column: str | None = None, label_column: str | None = None
) -> LabelledImages:
    """Read image paths, relative to the table, and their labels from CSV (also with TAB, `;`, `|`), JSONL or Parquet.

    Columns are found by their usual names unless named. Without `labels` the classes are the values of the label column
    in order, underscores read as spaces. Raises DataError for a missing column, an empty field, or a label that matches
    none of `labels`.
    """
    rows = list(_rows(path, image_column, label_column))
    if not rows:
        raise DataError(f"{path}: has no rows under its header; add one per image, with its path and its label")
    first_place: dict[str, str] = {}
    for place, _, value in rows:
        first_place.setdefault(value, place)
    labels, class_of = _classes(first_place, labels, str(path), kind="label", places=first_place)
    folder = os.path.dirname(path)
    item_of = {cell: _item(cell, folder) for cell in dict.fromkeys(image for _, image, _ in rows)}
    items = tuple(item_of[image] for _, image, _ in rows)
    return LabelledImages(str(path), items, tuple(class_of[value] for _, _, value in rows), labels)


def _classes(
    names: Iterable[str], labels: Labels | None, source: str, *, kind: str, places: Mapping[str, str] | None = None
) -> tuple[Labels, dict[str, int]]:
    """Return the labels and the class index of every name; `places` says where each name first is in a table."""
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
            where = f"{source} {places[name]}" if places else source
            raise DataError(f"{where}: {kind} {name!r} {why_unmatched(name, labels)}")
        class_of[name] = index
    return labels, class_of


def _labels_of(ordered: Sequence[str], source: str, kind: str) -> Labels:
    written: dict[str, str] = {}
    for name in ordered:
        shown = spaced(name)
        if not shown:
            raise DataError(f"{source}: {kind} {name!r} makes an empty class name; rename it")
        if shown in written:
            raise DataError(
                f"{source}: {kind} {written[shown]!r} and {name!r} are both the class {shown!r}; rename one"
            )
        written[shown] = name
    return Labels.of(written)


# folders


def _class_folders(path: Path, selection: Selection) -> tuple[list[str], list[str]]:
    """Return the names of the folders that are taken of a folder, and sentences on what else is in it."""
    names: list[str] = []
    system: list[str] = []
    loose = Counter[str]()
    excluded = Excluded(selection.exclude)
    try:
        for entry in sorted(path.iterdir()):
            if not os.path.isdir(entry):
                loose[entry.suffix.lower()] += 1
            elif selection.byproduct(str(entry)):
                system.append(entry.name)
            elif not excluded(str(entry)):
                names.append(entry.name)
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); check its permissions") from error
    notes = [note.replace(" left out", " beside the class folders left out") for note in other_files(loose)]
    if system:
        folders = "1 hidden or system folder" if len(system) == 1 else f"{len(system)} hidden or system folders"
        notes.append(f"{folders} left out: {', '.join(system)}; --all-files takes them")
    return names, notes


# tables


def _rows(path: Path, image_column: str | None, label_column: str | None) -> Iterator[tuple[str, str, str]]:
    """Yield place, image and label of every row."""
    name = str(path)
    try:
        with path.open("rb") as file:
            form = form_of(name, file)
            if form is Form.TAR:
                raise UsageError(f"{path}: is a tar, which has no labels here; unpack it into class folders")
            with closing(read_table(name, file, form, Columns(LABELS, image_column, label_column))) as rows:
                for place, image, (label,) in rows:
                    if not (image.strip() and label):
                        what = "label" if image.strip() else "image"
                        raise DataError(f"{path} {place}: the {what} is empty; fill it in or delete the row")
                    yield place, image, label
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); check the path and its permissions") from error


def _item(cell: str, folder: str) -> str | SkippedImage:
    """Return the path that a cell names, whether or not it exists."""
    if is_on_web(cell):
        return SkippedImage(cell, "it is on the web, not on this disk; download it")
    return find_image(cell, folder) or os.path.join(folder, cell.strip())
