"""Labelled images: a folder of class folders, a table with an image and a label column, or what a program has."""

# pathlib's questions raise OSError where a name is too long or a folder is locked; opening names the reason.
# ruff: noqa: PTH112, PTH113

import operator
import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePath
from typing import Any, SupportsIndex, TypeAlias

from zeroshot_cli.datasets.layouts import (
    alike,
    check_folders,
    folders_inside,
    warnings_of_folder,
    warnings_of_names,
    without_unknown,
)
from zeroshot_cli.datasets.matching import (
    first_of_more,
    how_matched,
    match_classes,
    sorted_classes,
    spaced,
    why_unmatched,
    without_prefixes,
)
from zeroshot_cli.datasets.tables import find_items, read_rows
from zeroshot_cli.disk import similar_path
from zeroshot_cli.display import counted
from zeroshot_cli.errors import DataError, UsageError
from zeroshot_cli.images.find import find_images, path_of
from zeroshot_cli.images.given import ImageItem, ImageLike, named_image, named_images
from zeroshot_cli.images.selection import USUAL, Excluded, Selection, other_files
from zeroshot_cli.words.labels import Labels

_NAMED = 3  # classes in a note
_SEPARATORS = (",", ";", "|")  # between labels in a cell
_NO_LABEL = ("", "nan", "<na>", "#n/a")  # how tables write that there is none


GivenLabels: TypeAlias = (
    Mapping[str, Iterable[ImageLike]] | Iterable[tuple[ImageLike, str]] | Iterable[tuple[ImageLike, SupportsIndex]]
)


@dataclass(frozen=True, slots=True)
class LabelledImages:
    """Images with their true classes; `targets[i]` is the index in `labels` of `items[i]`.

    An item that is already known to be unreadable is a SkippedImage. `left_out` says, one sentence each, which files
    were left out, `assumed` what was assumed, and `doubts` why the figures may mean nothing. Sets with a name
    have more: `as_stored` if published figures are of images as stored, without Exif rotation; `prompts`, their own
    template set; `known`, their name in the registry.
    """

    name: str
    items: tuple[ImageItem, ...]
    targets: tuple[int, ...]
    labels: Labels
    left_out: tuple[str, ...] = ()
    as_stored: bool = False
    prompts: str | None = None
    known: str | None = None
    assumed: tuple[str, ...] = ()
    doubts: tuple[str, ...] = ()

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
            narrower = "; --only-present leaves them out" if 2 * len(empty) > len(self.labels) else ""
            notes.append(
                f"{self.name}: {len(empty)} of {len(self.labels)} classes {verb} no image ({named}); they remain "
                f"possible answers{narrower}"
            )
        single = sum(count == 1 for count in Counter(self.targets).values())
        if 0 < single < len(self.labels) - len(self.empty_classes):
            verb = "has" if single == 1 else "have"
            notes.append(f"{self.name}: {single} of {len(self.labels)} classes {verb} one image only")
        notes += [f"{self.name}: {text}" for text in self.assumed]
        return tuple(notes)

    @property
    def warnings(self) -> tuple[str, ...]:
        """Why the figures may mean nothing, one sentence each."""
        return tuple(f"warning: {self.name}: {text}" for text in self.doubts)

    def narrowed(self) -> "LabelledImages":
        """Return the data set with the labels that have images as the only possible answers."""
        kept = sorted(set(self.targets))
        index_of = {old: new for new, old in enumerate(kept)}
        text = f"only the {len(kept)} of {len(self.labels)} labels that have images are possible answers"
        return replace(
            self,
            labels=Labels(tuple(self.labels.items[index] for index in kept), self.labels.notes),
            targets=tuple(index_of[target] for target in self.targets),
            assumed=(*self.assumed, text) if len(kept) < len(self.labels) else self.assumed,
        )


def read_dataset(
    path: Path | str,
    labels: Labels | Sequence[str] | Mapping[str, Any] | None = None,
    *,
    image_column: str | None = None,
    label_column: str | None = None,
    selection: Selection = USUAL,
) -> LabelledImages:
    """Read a folder of class folders or a table, whichever `path` is; raises UsageError if it is neither."""
    path, labels = Path(path), None if labels is None else Labels.of_user(labels)
    if os.path.isdir(path):
        found = read_labelled_folder(path, labels, selection)
        return replace(found, doubts=(*found.doubts, *unused_columns(image=image_column, label=label_column)))
    if os.path.isfile(path):
        return read_labelled_table(path, labels, image_column=image_column, label_column=label_column)
    raise UsageError(
        f"{path}: no such data set; "
        + (similar_path(str(path)) or "give a folder of class folders, or a CSV with the columns image and label")
    )


def unused_columns(**named: str | None) -> tuple[str, ...]:
    """Return a sentence about options that name columns of a folder, which has none."""
    given = [f"--{kind}-column {name}" for kind, name in named.items() if name is not None]
    return (f"{' and '.join(given)} not used, for it is a folder and has no columns",) if given else ()


def read_labelled_folder(path: Path, labels: Labels | None = None, selection: Selection = USUAL) -> LabelledImages:
    """Read a folder whose folders are classes, with images at any depth.

    Without `labels` the classes are the folder names in order, underscores read as spaces. Raises DataError where there
    is no class folder, no image, or a folder that matches none of `labels`, and where the folders are not classes but
    parts of a data set.
    """
    class_folders, left_out = _class_folders(path, selection)
    names = sorted_classes(without_unknown(path, class_folders))
    if not names:
        if table := min(path.glob("*.parquet"), default=None):
            raise DataError(f"{path}: has no class folders, but Parquet files; name one of them, such as {table}")
        raise DataError(f"{path}: has no class folders; expected one folder per class with its images inside")
    if labels is None or not any(name in labels.names for name in names):
        check_folders(path, names)
    classes = classes_of(names, labels, str(path), kind="class folder")
    try:
        found = find_images(
            [f"{path}{os.sep}{name}" for name in names], selection=selection
        )  # "./-", not "-", which is stdin
    except DataError as error:
        raise DataError(f"{path}: no image in any of its {len(names)} class folders; put some there") from error
    places = [PurePath(path_of(item)).relative_to(path).parts for item in found.items]
    return LabelledImages(
        str(path),
        tuple(found.items),
        tuple(classes.index_of[parts[0]] for parts in places),
        classes.labels,
        (*left_out, *found.assumed),
        assumed=(*folders_inside(path, places), *classes.assumed),
        doubts=(*classes.doubts, *warnings_of_folder(path, names)),
    )


def read_labelled_table(
    path: Path, labels: Labels | None = None, *, image_column: str | None = None, label_column: str | None = None
) -> LabelledImages:
    """Read image paths, relative to the table, and their labels from CSV (also with TAB, `;`, `|`), JSONL or Parquet.

    Columns are found by their usual names unless named. Without `labels` the classes are the values of the label column
    in order, underscores read as spaces. Raises DataError for a missing column, an empty field, or a label that matches
    none of `labels`, and where no image exists.
    """
    table = read_rows(path, image_column=image_column, label_column=label_column)
    first_place: dict[str, str] = {}
    for place, _, (value,) in table.rows:
        if is_no_label(value, labels):
            shown = f", {value!r}" if value else ""
            raise DataError(f"{path} {place}: the label is empty{shown}; fill it in or delete the row")
        first_place.setdefault(value, place)
    classes = classes_of(first_place, labels, str(path), kind="label", places=first_place)
    items, where = find_items(path, [image for _, image, _ in table.rows])
    return LabelledImages(
        str(path),
        items,
        tuple(classes.index_of[value] for _, _, (value,) in table.rows),
        classes.labels,
        assumed=(*table.notes, *where, *classes.assumed),
        doubts=(
            *table.doubts,
            *classes.doubts,
            *_repeated([(image, value) for _, image, (value,) in table.rows]),
            *_lists([*first_place]),
        ),
    )


def labelled_images(
    given: GivenLabels, labels: Labels | Sequence[str] | Mapping[str, Any] | None = None
) -> LabelledImages:
    """Return the labelled images of a program: a mapping of labels to images, or pairs of an image and its label.

    A label is a text, or its index in `labels`; without `labels` they are those that the images have, in their order.
    Raises TypeError or ValueError for what is no image or no label, DataError for a label that is none of `labels`,
    and where there is no image.
    """
    if isinstance(given, Mapping):
        rows = [(item, label) for label, images in given.items() for item in named_images(images, of=str(label))]
    else:
        rows = [_pair(pair, number) for number, pair in enumerate(given)]
    if not rows:
        raise DataError("images: there is none; give pairs of an image and its label")
    labels = None if labels is None else Labels.of_user(labels)
    names = [_label_of(label, path_of(item), labels) for item, label in rows]
    own = dict.fromkeys(names)
    classes = Classes(Labels.of(own), {name: n for n, name in enumerate(own)})
    if labels is not None:
        classes = classes_of(own, labels, "images", kind="label")
    return LabelledImages(
        "images",
        tuple(item for item, _ in rows),
        tuple(classes.index_of[name] for name in names),
        classes.labels,
        assumed=classes.assumed,
        doubts=classes.doubts,
    )


def _pair(pair: Any, number: int) -> tuple[ImageItem, Any]:
    if not isinstance(pair, tuple | list) or len(pair) != 2:
        raise TypeError(f"item {number} is no pair of an image and its label; give zip(images, labels)")
    return named_image(pair[0], f"<image {number}>"), pair[1]


def _label_of(label: Any, path: str, labels: Labels | None) -> str:
    """Return the name of a label that is a text or an index."""
    if isinstance(label, str):
        return label
    if not isinstance(label, SupportsIndex) or isinstance(label, bool):
        raise TypeError(f"the label of {path} is {label!r}; a label is a text, or its index in labels")
    if labels is None:
        raise UsageError(f"the label of {path} is the number {label}; say what numbers stand for: labels=[...]")
    if not 0 <= (index := operator.index(label)) < len(labels):
        raise DataError(f"the label of {path} is the number {index}, and the {len(labels)} labels are counted from 0")
    return labels.names[index]


def relabelled(images: LabelledImages, labels: Labels) -> LabelledImages:
    """Return a known data set with other names for its classes, in its order; raises DataError for another number."""
    if len(labels) != len(images.labels):
        raise DataError(
            f"{images.name}: has {len(images.labels)} classes, and --labels has {len(labels)}; give one label per "
            "class, in their order"
        )
    return replace(images, labels=labels)


def _lists(values: Sequence[str]) -> tuple[str, ...]:
    """Return a sentence about labels that look like lists of labels, since most share one with another cell."""
    for separator in _SEPARATORS:
        parts = {value: {part.strip(" []'\"") for part in value.split(separator)} for value in values}
        used = Counter(part for each in parts.values() for part in each)
        several = [value for value, each in parts.items() if len(each) > 1]
        shared = [value for value in several if any(used[part] > 1 for part in parts[value])]
        if 2 * len(shared) > len(several):
            return (
                f"{counted(len(several), 'label')} such as {several[0]!r} may be several labels, and each is taken as "
                "one class; --multi-label is for images with several",
            )
    return ()


def is_no_label(value: str, labels: Labels | None) -> bool:
    """Return whether a cell says that there is no label, as NaN does unless a label has that name."""
    return value.casefold() in _NO_LABEL and (labels is None or value not in labels.names)


def _repeated(rows: Sequence[tuple[str, str]]) -> tuple[str, ...]:
    """Return sentences about images with several labels, and about rows that are there twice."""
    unique = dict.fromkeys(rows)
    found = []
    several = [image for image, count in Counter(image for image, _ in unique).items() if count > 1]
    if several:
        labels = " and ".join(repr(label) for image, label in unique if image == several[0])
        found.append(
            f"{counted(len(several), 'image')} with several labels, such as {several[0]} with {labels}: each row is "
            "judged on its own, with one right answer; --multi-label is for images with several"
        )
    if len(unique) < len(rows):
        found.append(f"{counted(len(rows) - len(unique), 'row')} with the image and label of another, counted again")
    return tuple(found)


@dataclass(frozen=True, slots=True)
class Classes:
    """The labels of a data set, the index of each class name, and what was assumed and is doubtful about them."""

    labels: Labels
    index_of: Mapping[str, int]
    assumed: tuple[str, ...] = ()
    doubts: tuple[str, ...] = ()


def classes_of(
    names: Iterable[str], labels: Labels | None, source: str, *, kind: str, places: Mapping[str, str] | None = None
) -> Classes:
    """Return the labels and the class index of every name; `places` says where each name first is in a table."""
    ordered = sorted_classes(names)
    if labels is None:
        return _named_by_themselves(ordered, source, kind)
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
    doubts = []
    if first_of_more(ordered, labels):
        doubts.append(
            f"its {len(ordered)} class numbers were taken as the first {len(ordered)} of the {len(labels)} labels, "
            f"{labels.names[0]!r} to {labels.names[len(ordered) - 1]!r}; if they are other classes, give a list of "
            f"{len(ordered)} labels"
        )
    return Classes(labels, class_of, how_matched(class_of, labels), tuple(doubts))


def _named_by_themselves(ordered: Sequence[str], source: str, kind: str) -> Classes:
    """Return the classes of a data set whose class names are the words for the model."""
    bare = without_prefixes(ordered)
    written: dict[str, str] = {}
    words: dict[str, str] = {}
    for name in ordered:
        shown = spaced(bare.get(name, name))
        if not shown:
            raise DataError(f"{source}: {kind} {name!r} makes an empty class name; rename it")
        if (other := words.setdefault(shown.casefold(), name)) != name:
            raise DataError(f"{source}: {kind} {other!r} and {name!r} are both the class {shown!r}; rename one")
        written[shown] = name
    assumed = alike([*written])
    if bare:
        example = ordered[0]
        assumed = (
            f"class names are read without the number or id before them: {example!r} as {bare[example]!r}",
            *assumed,
        )
    return Classes(
        Labels.of(written), {name: index for index, name in enumerate(ordered)}, assumed, warnings_of_names([*written])
    )


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
