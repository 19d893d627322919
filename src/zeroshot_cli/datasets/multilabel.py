"""Images with several labels each: tables with lists, several rows an image or a column per label, and COCO's files."""

# pathlib's questions raise OSError where a name is too long or a folder is locked; opening names the reason.
# ruff: noqa: PTH112

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from zeroshot_cli.datasets.labelled import classes_of, is_no_label
from zeroshot_cli.datasets.matching import match_classes
from zeroshot_cli.datasets.tables import Table, find_items, read_rows
from zeroshot_cli.errors import DataError, UsageError
from zeroshot_cli.pairs.columns import (
    BRACKETS,
    LABEL_COLUMNS,
    Fault,
    TextColumn,
    captions_of_text,
    captions_of_value,
    checked,
)
from zeroshot_cli.records import SkippedImage
from zeroshot_cli.words.labels import Labels

_SEPARATORS = ("|", ";", ",")
_YES, _NO = ("1", "1.0", "true", "yes"), ("0", "0.0", "false", "no", "-1", "-1.0", "")
_COCO = ("images", "annotations", "categories")
_NAMED = 3


@dataclass(frozen=True, slots=True)
class MultiLabelImages:
    """Images with any number of true labels; `targets[i]` are the indices in `labels` of those of `items[i]`.

    An item that is already known to be unreadable is a SkippedImage. `assumed` says what was assumed,
    `doubts` why the figures may mean nothing.
    """

    name: str
    items: tuple[str | SkippedImage, ...]
    targets: tuple[tuple[int, ...], ...]
    labels: Labels
    assumed: tuple[str, ...] = ()
    doubts: tuple[str, ...] = ()
    as_stored: bool = False

    def __len__(self) -> int:
        return len(self.items)

    @property
    def notes(self) -> tuple[str, ...]:
        """What a user should know about the data set, one sentence each."""
        used = {target for targets in self.targets for target in targets}
        notes = [*self.assumed]
        if bare := sum(not targets for targets in self.targets):
            notes.append(f"{bare:,} of {len(self):,} images have none of the labels")
        if len(used) < len(self.labels):
            notes.append(f"{len(self.labels) - len(used):,} of {len(self.labels):,} labels have no image")
        return tuple(f"{self.name}: {text}" for text in notes)

    @property
    def warnings(self) -> tuple[str, ...]:
        """Why the figures may mean nothing, one sentence each."""
        return tuple(f"warning: {self.name}: {text}" for text in self.doubts)

    def narrowed(self) -> "MultiLabelImages":
        """Return the data set with the labels that have images only."""
        kept = sorted({target for targets in self.targets for target in targets})
        index_of = {old: new for new, old in enumerate(kept)}
        text = f"only the {len(kept)} of {len(self.labels)} labels that have images are judged"
        return replace(
            self,
            labels=Labels(tuple(self.labels.items[index] for index in kept), self.labels.notes),
            targets=tuple(tuple(index_of[target] for target in targets) for targets in self.targets),
            assumed=(*self.assumed, text) if len(kept) < len(self.labels) else self.assumed,
        )


def read_multilabel(
    path: Path | str, labels: Labels | None = None, *, image_column: str | None = None, label_column: str | None = None
) -> MultiLabelImages:
    """Read a table whose images have any number of labels, or COCO's annotations of objects.

    Labels are a list (`a|b`, `a;b`, `a,b`, JSON), several rows of an image, or without a label column the columns
    that have 0 and 1 only. An empty cell is an image without a label. Raises UsageError for what is not a file,
    DataError for what is wrong in it, or a label that matches none of `labels`.
    """
    path = Path(path)
    if os.path.isdir(path):
        raise UsageError(f"{path}: class folders have one label per image; give --multi-label a table, or omit it")
    if (content := _coco(path)) is not None:
        return _of_coco(path, content, labels)
    table = read_rows(path, MANY_LABELS, image_column=image_column, label_column=label_column, one_hot=True)
    if table.label is None:
        return _of_columns(path, table, labels)
    split, note = _split([texts for _, _, texts in table.rows], labels)
    rows = [(place, image, texts) for (place, image, _), texts in zip(table.rows, split, strict=True)]
    return _of_rows(path, rows, labels, (*table.notes, *table.doubts, *note))


def _of_rows(
    path: Path, rows: Iterable[tuple[str, str, Sequence[str]]], labels: Labels | None, notes: tuple[str, ...]
) -> MultiLabelImages:
    """Return the images of rows of a place, an image and its labels; rows of one image are joined."""
    names: dict[str, dict[str, None]] = {}
    places: dict[str, str] = {}
    for place, image, texts in rows:
        own = names.setdefault(image, {})
        for text in texts:
            if not is_no_label(text, labels):
                own[text] = None
                places.setdefault(text, place)
    if not places:
        raise DataError(f"{path}: none of its {len(names):,} images has a label; name another --label-column")
    classes = classes_of(places, labels, str(path), kind="label", places=places)
    items, where = find_items(path, list(names))
    targets = tuple(tuple(sorted({classes.index_of[name] for name in own})) for own in names.values())
    doubts = list(classes.doubts)
    if all(len(own) <= 1 for own in targets):
        doubts.append("no image has several labels, so either no cell was split, or --multi-label is not needed")
    return MultiLabelImages(
        str(path), items, targets, classes.labels, (*notes, *where, *classes.assumed), tuple(doubts)
    )


# lists in a cell


def _labels_of_text(cell: str) -> tuple[str, ...]:
    """Return the labels in a cell: those of a list in brackets, else the cell whole, which is split later."""
    labels = captions_of_text(cell)
    if len(labels) == 1 and labels[0][:1] + labels[0][-1:] in BRACKETS:  # a list without quotes
        parts = labels[0][1:-1].replace(",", " , ").split()
        _check_vector([part for part in parts if part != ","])
        return (labels[0][1:-1].strip(),)
    return labels


def _check_vector(values: Sequence[str]) -> None:
    """Raise Fault for a 0 or 1 for each label, without their names."""
    if len(values) > len(set(values)) and set(values) <= {"0", "1", "0.", "1.", "0.0", "1.0"}:
        raise Fault("the labels are a 0 or 1 for each, without names; write a column of 0 and 1 for each label")


def _labels_of_value(value: object) -> tuple[str, ...]:
    """Return the labels in a value of JSON or Parquet: text, a number, or a list of them; raises Fault."""
    if isinstance(value, bool):
        return (str(value).lower(),)
    values = value if isinstance(value, list) else [value]
    whole = (int(each) if isinstance(each, float) and each.is_integer() else each for each in values)
    labels = checked(captions_of_value([*whole]))
    _check_vector(labels)
    return labels


MANY_LABELS = TextColumn("label", (*LABEL_COLUMNS, "labels", "tags", "classes"), _labels_of_text, _labels_of_value)


def _split(cells: Sequence[tuple[str, ...]], labels: Labels | None) -> tuple[list[tuple[str, ...]], tuple[str, ...]]:
    """Return the labels of cells that may hold several with a separator, and which separator that is.

    The first of | ; , that any cell has is the separator, unless the cells that have it are labels themselves.
    """
    texts = [cell[0] for cell in cells if len(cell) == 1]
    known = set() if labels is None else {text for each in labels for text in (each.name, *each.synonyms)}
    found = next((each for each in _SEPARATORS if any(each in text and text not in known for text in texts)), None)
    if found is None:
        return [*cells], ()
    split = [
        cell if len(cell) != 1 or cell[0] in known else tuple(part.strip() for part in cell[0].split(found))
        for cell in cells
    ]
    return split, (f"the labels in a cell are separated by {found!r}",)


# a column for each label


def _of_columns(path: Path, table: Table, labels: Labels | None) -> MultiLabelImages:
    """Return the images of a table with a column of 0 and 1 for each label."""
    images = [image for _, image, _ in table.rows]
    found: dict[str, list[bool]] = {}
    others = []
    for column in dict.fromkeys(table.header):
        if column == table.image:
            continue
        values = _yes_or_no(path, table.image, column)
        if values is None:
            others.append(column)
        else:
            found[column] = values
    if labels is not None and found:
        matches = match_classes(found, labels)
        others += [column for column in found if matches[column] is None]
        found = {column: values for column, values in found.items() if matches[column] is not None}
    if len(found) < 2:
        columns = ", ".join(map(repr, table.header[:20]))
        raise DataError(
            f"{path}: has no label column, nor a column of 0 and 1 for each label, its columns are {columns}; name the "
            "right one with --label-column"
        )
    names = [*found]
    notes = [f"labels from {len(found)} columns of 0 and 1, {names[0]!r} to {names[-1]!r}"]
    if others:
        notes.append(
            f"columns left out: {', '.join(map(repr, others[:_NAMED]))}{', …' if len(others) > _NAMED else ''}"
        )
    cells = [tuple(name for name in names if found[name][row]) for row in range(len(images))]
    rows = [(place, image, own) for (place, image, _), own in zip(table.rows, cells, strict=True)]
    return _of_rows(path, rows, labels, tuple(notes))


def _yes_or_no(path: Path, image: str, column: str) -> list[bool] | None:
    """Return which rows of a column are 1; None for a column that has other values than 0 and 1, or no 1."""
    try:
        table = read_rows(path, MANY_LABELS, image_column=image, label_column=column)
    except DataError:  # two columns of that name, or values that are not labels
        return None
    values = [texts[0].casefold() if texts else "" for _, _, texts in table.rows]
    if not set(values) <= {*_YES, *_NO, "nan"} or not set(values) & set(_YES):
        return None
    return [value in _YES for value in values]


# COCO


def _coco(path: Path) -> dict[str, Any] | None:
    """Return the content of COCO's annotations; None for any other file."""
    if path.suffix.lower() != ".json":
        return None
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):  # reading the table names the reason
        return None
    return content if isinstance(content, dict) and set(_COCO) <= content.keys() else None


def _of_coco(path: Path, content: Mapping[str, Any], labels: Labels | None) -> MultiLabelImages:
    try:
        categories = {each["id"]: str(each["name"]) for each in content["categories"]}
        images = {each["id"]: str(each["file_name"]) for each in content["images"]}
        found: dict[Any, dict[str, None]] = {number: {} for number in images}
        for each in content["annotations"]:
            found[each["image_id"]][categories[each["category_id"]]] = None
    except (KeyError, TypeError) as error:
        raise DataError(
            f"{path}: its annotations lack {error}; export it again as COCO annotations of objects"
        ) from None
    rows = [(f"image {number}", images[number], tuple(own)) for number, own in found.items()]
    if not rows:
        raise DataError(f"{path}: has no images; export it again")
    own = labels if labels is not None else Labels.of(dict.fromkeys(categories.values()))
    note = f"read as COCO annotations of {len(categories)} categories; boxes are not used"
    return _of_rows(path, rows, own, (note,))
