"""Tables of labelled images: which columns they have, and where their images are."""

# pathlib's questions raise OSError where a name is too long or a folder is locked; opening names the reason.
# ruff: noqa: PTH118, PTH119, PTH120

import os
import re
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

from zeroshot_cli.datasets.annotations import check_annotations
from zeroshot_cli.errors import DataError, UsageError
from zeroshot_cli.pairs.columns import IMAGE_COLUMNS, IMAGE_EXTENSIONS, LABELS, Columns, Fault, TextColumn
from zeroshot_cli.pairs.opened import Form, form_of
from zeroshot_cli.pairs.paths import find_image
from zeroshot_cli.pairs.tables import PlacedRow, read_table
from zeroshot_cli.records import SkippedImage

_MORE_IMAGES = ("id", "image_id", "imageid", "img_id", "img", "image_name", "uuid", "url", "image_url")
_MORE_LABELS = ("true_label", "ground_truth", "labels", "classes", "tags", "class_id", "label_id", "species", "breed")
_OWN = ({"path", "rank", "label", "score", "probability"}, {"path", "label", "score", "probability", "predictions"})
_TRUTHS = frozenset(
    {"true_label", "label_true", "true_class", "truth", "ground_truth", "gt", "gt_label", "y_true", "actual"}
)
_ANSWERS = frozenset({"predicted", "prediction", "pred", "predicted_label", "predicted_class", "pred_label", "y_pred"})
_SCORES = frozenset({"score", "scores", "probability", "prob", "probs", "confidence", "conf", "logit", "similarity"})
_SUFFIXES = ("", *(f".{each}" for extension in IMAGE_EXTENSIONS for each in (extension, extension.upper())))
_PROBED = 20  # images that are looked for in other folders
_MOST_FOLDERS = 200
_LONGEST = 200  # characters of a path in a message


@dataclass(frozen=True, slots=True)
class Table:
    """The rows of a table of labels, the names of all its columns, its image and label column, and what was assumed.

    `label` is None, and the texts mean nothing, where there is no label column. `doubts` say why the labels may not be
    the truth.
    """

    rows: tuple[PlacedRow, ...]
    header: tuple[str, ...]
    image: str
    label: str | None
    notes: tuple[str, ...]
    doubts: tuple[str, ...] = ()


def read_rows(
    path: Path,
    kind: TextColumn = LABELS,
    *,
    image_column: str | None = None,
    label_column: str | None = None,
    one_hot: bool = False,
    results: bool = False,
) -> Table:
    """Read the rows of a table of images and labels; raises DataError, with the line, for what is wrong.

    With `one_hot` there may be no label column; with `results` it may be what `zeroshot classify` wrote.
    """
    columns = LabelColumns(kind, image_column, label_column, one_hot, results)
    notes: list[str] = []
    rows = tuple(_rows(path, columns, notes))
    if not rows:
        raise DataError(f"{path}: has no rows under its header; add one per image, with its path and its label")
    image, label = columns.places
    named = None if image == label else columns.header[label]
    return Table(rows, tuple(columns.header), columns.header[image], named, tuple(notes), tuple(columns.doubts()))


@dataclass(frozen=True, slots=True)
class LabelColumns(Columns):
    """The columns of a table of labels; `header` gets the names of all that it has, `places` those of the two.

    With `one_hot` the label's place is the image's where there is no label column.
    """

    one_hot: bool = False
    results: bool = False
    header: list[str] = field(default_factory=list)
    places: list[int] = field(default_factory=list)

    def find(self, header: Sequence[str]) -> tuple[int, int]:
        """Return the places of image and label; raises Fault for what `zeroshot classify` wrote, too."""
        names = {name.casefold() for name in header}
        if self.text is None and not self.results and is_results(header):
            raise Fault(
                "is what zeroshot classify wrote, so its labels are a model's own answers; after they have been "
                "checked by hand, add --label-column label"
            )
        columns = self._with_more(names)
        if self.one_hot and columns.text is None and not names & set(self.kind.known):
            found = [columns._find(header, "image", columns.image, IMAGE_COLUMNS)] * 2
        else:
            found = [*Columns.find(columns, header)]
        self.header[:], self.places[:] = header, found
        label = header[found[1]]
        truths = [column for column in header if column.casefold() in _TRUTHS]
        if self.text is None and truths and label not in truths:
            raise Fault(f"has both {truths[0]!r} and {label!r}; name the true labels with --label-column")
        return found[0], found[1]

    def doubts(self) -> Iterator[str]:
        """Yield a sentence where the labels, whose column nobody named, look like the answers of a model."""
        names = {name.casefold() for name in self.header}
        scores = [name for name in self.header if name.casefold() in _SCORES]
        if self.text is None and scores and not is_results(self.header) and not names & (_ANSWERS | _TRUTHS):
            yield (
                f"has a column {scores[0]!r}, so its labels may be a model's own answers: figures mean something only "
                "if people have checked them; --label-column says which labels are true"
            )

    def _with_more(self, names: set[str]) -> Columns:
        """Return columns that also have the less usual names, where the table has none of the usual ones."""
        image, text = self.image, self.text
        if image is None:
            image = _less_usual(names, IMAGE_COLUMNS, _MORE_IMAGES)
        if text is None:
            text = _less_usual(names, self.kind.known, _MORE_LABELS)
        return Columns(self.kind, image, text)


def is_results(header: Sequence[str]) -> bool:
    """Return whether a table with these columns is what `zeroshot classify` wrote."""
    names = {name.casefold() for name in header}
    return "predicted" not in names and any(own <= names for own in _OWN)


def _less_usual(names: set[str], usual: Sequence[str], more: Sequence[str]) -> str | None:
    return None if names & set(usual) else next((name for name in more if name in names), None)


def _rows(path: Path, columns: LabelColumns, notes: list[str]) -> Iterator[PlacedRow]:
    name = str(path)
    check_annotations(path)
    try:
        with path.open("rb") as file:
            form = form_of(name, file)
            if form is Form.TAR:
                raise UsageError(f"{path}: is a tar, which has no labels here; unpack it into class folders")
            with closing(read_table(name, file, form, columns, notes)) as rows:
                for place, image, labels in rows:
                    if not image.strip():
                        raise DataError(f"{path} {place}: the image is empty; fill it in or delete the row")
                    yield place, image, labels
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); check the path and its permissions") from error


# where the images are


def find_items(path: Path, cells: Sequence[str]) -> tuple[tuple[str | SkippedImage, ...], tuple[str, ...]]:
    """Return the path of the image that each cell names, whether or not it exists, and what was assumed about that.

    Paths are relative to the table; where none of them is there, they are looked for in the working directory, and in
    the folders beside the table, as `train/ID.jpg` for an ID. Raises DataError where none exists.
    """
    folder = os.path.dirname(path)
    found = {cell: find_image(cell, folder) for cell in dict.fromkeys(cells)}
    if any(found.values()):
        items = {cell: place or os.path.join(folder, cell.strip()) for cell, place in found.items()}
        return tuple(items[cell] for cell in cells), ()
    base = _elsewhere(path, folder, [*found])
    places = {cell: _with_extension(base, cell) or os.path.join(base, cell.strip()) for cell in found}
    note = f"images are relative to {'the working directory' if base == os.curdir else base}"
    return tuple(places[cell] for cell in cells), (note,)


def _elsewhere(path: Path, folder: str, cells: Sequence[str]) -> str:
    """Return the folder where images of a table exist that are not where it says, perhaps without their extension.

    Raises DataError for none, and where two of the folders beside the table may be meant.
    """
    probed = cells[:_PROBED]
    for base in dict.fromkeys((folder or os.curdir, os.curdir)):
        if any(_with_extension(base, cell) for cell in probed):
            return base
    below = [os.path.join(folder, name) for name in _folders_in(folder)]
    fits = [base for base in below if any(_with_extension(base, cell) for cell in probed)]
    words = re.split(r"[\W_]+", os.path.basename(path).casefold())
    named = [base for base in fits if os.path.basename(base).casefold() in words]
    fits = named or fits
    if len(fits) > 1:
        raise DataError(
            f"{path}: its image {cells[0]!r} may be in {fits[0]} or in {fits[1]}; name the folder in the image column"
        )
    if not fits:
        shown = cells[0] if len(cells[0]) < _LONGEST else f"{cells[0][:_LONGEST]}…"
        raise DataError(
            f"{path}: none of its {len(cells):,} images exists, the first is {shown}; their paths are relative to the "
            "table or to the working directory"
        )
    return fits[0]


def _with_extension(base: str, cell: str) -> str | None:
    """Return the file that a cell names in a folder, itself or with the extension of an image added."""
    return next(filter(None, (find_image(cell.strip() + suffix, base) for suffix in _SUFFIXES)), None)


def _folders_in(folder: str) -> list[str]:
    try:
        with os.scandir(folder or os.curdir) as entries:
            return sorted(entry.name for entry in entries if entry.is_dir())[:_MOST_FOLDERS]
    except OSError:
        return []
