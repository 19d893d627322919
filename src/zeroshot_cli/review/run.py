"""The results of a run, as they are reviewed: images, their labels, and where the images are."""

# pathlib would change how a path is written, which is how the cache and the corrections know it.
# ruff: noqa: PTH109, PTH113, PTH118, PTH120

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import Any

from zeroshot_cli.disk import open_plain, similar_path
from zeroshot_cli.errors import DataError, UsageError
from zeroshot_cli.filing.manifest import MANIFEST, SortMode, moved_by, read_manifest
from zeroshot_cli.pairs.results import ResultRow, result_rows
from zeroshot_cli.records import UNKNOWN
from zeroshot_cli.remote.address import is_elsewhere
from zeroshot_cli.results.formats import as_was
from zeroshot_cli.results.found import RECORD, readable_results, record_beside
from zeroshot_cli.results.run_record import RunRecord, read_record
from zeroshot_cli.results.shards.parts import check_no_parts

TOP = 5  # labels that a page offers
_NEEDED = ("path", "label", "probability")
_KNOWN = (*_NEEDED, "rank", "error")
_TABLES = (".csv", ".tsv")
_EXTENSIONS = (*_TABLES, ".jsonl", ".parquet")
_PROBED = 200  # images that are looked for in a folder

Scores = tuple[tuple[str, float], ...]


@dataclass(frozen=True, slots=True)
class Answered:
    """An image with its answer: `path` as it is written, `file` where it is, and the best labels that are known."""

    path: str
    label: str
    probability: float | None
    top: Scores = ()
    file: str = ""
    missing: bool = False


@dataclass(frozen=True, slots=True)
class Run:
    """The answers of a run, the labels that it chose from, and its record, if there is one.

    `unreadable` images had no answer. `tops` are the topmost folders that the images are in, without links.
    """

    source: Path
    images: tuple[Answered, ...]
    unreadable: int
    labels: tuple[str, ...]
    record: RunRecord | None
    tops: tuple[str, ...] = ()

    @property
    def missing(self) -> int:
        """The number of images that are no longer there."""
        return sum(image.missing for image in self.images)

    @property
    def settings(self) -> Mapping[str, Any]:
        """What the run was asked for, as far as a record says it."""
        return {} if self.record is None else self.record.settings

    @property
    def resolved(self) -> Mapping[str, Any]:
        """What the run came to, as far as a record says it."""
        return {} if self.record is None else self.record.resolved

    def leads_out(self, file: str) -> bool:
        """Return whether a file is elsewhere than in the folders of the run, because of a link."""
        place = os.path.realpath(file)
        return not any(place.startswith(top.rstrip(os.sep) + os.sep) for top in self.tops)


def read_run(path: str | os.PathLike[str]) -> Run:
    """Read results of `classify` (CSV, TSV, JSONL, Parquet), the record of its run, or a folder that it sorted into.

    Raises UsageError where there is no such file, DataError for something else.
    """
    source = _results_of(Path(path))
    record = _record(source)
    settings = {} if record is None else record.settings
    if settings.get("multi_label"):
        raise UsageError(f"{path}: has several labels for an image (--multi-label); review corrects one label for each")
    found = list(_read(source))
    images, unreadable = [each for each in found if each is not None], found.count(None)
    if not images:
        raise DataError(f"{path}: has no image with a label, so there is nothing to review")
    if twice := next((name for name, count in Counter(each.path for each in images).items() if count > 1), None):
        raise DataError(f"{path}: {twice!r} is there twice; each image has one answer, so delete one of them")
    if elsewhere := next((each.path for each in images if is_elsewhere(each.path)), None):
        raise UsageError(f"{path}: {elsewhere} is not on this disk; review shows and corrects files, so download them")
    images = _placed(images, source, record)
    labels = _labels(settings, images)
    run = Run(source, tuple(images), unreadable, labels, record)
    return replace(run, tops=_tops(images))


def _results_of(path: Path) -> Path:
    """Return the file of results that a name stands for: itself, or those of a run record or of a sorted folder."""
    check_no_parts(path)
    if path.is_dir():
        if not (path / MANIFEST).is_file():
            raise UsageError(f"{path}: has no {MANIFEST}, so classify --sort-into did not make it; give its results")
        return path / MANIFEST
    if not path.is_file():
        raise UsageError(
            f"{path}: no such results; {similar_path(str(path)) or 'give what zeroshot classify --output wrote'}"
        )
    sorted_into = path.with_name(MANIFEST)
    return sorted_into if path.name == MANIFEST + RECORD and sorted_into.is_file() else readable_results(path)


def _record(source: Path) -> RunRecord | None:
    path = record_beside(source)
    try:
        return None if path is None else read_record(path)
    except UsageError:  # not a record: reviewed without it
        return None


def _labels(settings: Mapping[str, Any], images: Iterable[Answered]) -> tuple[str, ...]:
    """Return the labels of the run, without a record those that images have."""
    given = settings.get("labels")
    if isinstance(given, list) and all(isinstance(each, str) for each in given):
        return tuple(given)
    seen = (name for image in images for name in (image.label, *(label for label, _ in image.top)))
    return tuple(sorted({*seen} - {UNKNOWN}))


# Files of results


def _read(source: Path) -> Iterator[Answered | None]:
    """Yield every image with its answer, None for one that could not be read."""
    if source.name == MANIFEST:
        yield from _of_manifest(source)
        return
    if source.suffix.lower() not in _EXTENSIONS:
        raise UsageError(f"{source}: is not one of {', '.join(_EXTENSIONS)}; give such results, or a sorted folder")
    try:
        with (
            open_plain(source) as file,
            closing(result_rows(str(source), file, known=_KNOWN, needed=_NEEDED)) as rows,
        ):
            for _, ranks in groupby(rows, key=_image_of):
                yield _answered(source, [*ranks])
    except OSError as error:
        raise DataError(f"{source}: cannot be read ({error.strerror}); check its permissions") from error


def _of_manifest(source: Path) -> Iterator[Answered]:
    for entry in read_manifest(str(source)):
        target = os.path.join(os.path.abspath(source.parent), entry.target)  # noqa: PTH100
        moved = entry.action is SortMode.MOVE or not os.path.isfile(entry.source)
        yield Answered(target if moved else entry.source, entry.label, None)


def _image_of(placed: ResultRow) -> str:
    """Return what rows of one image share, which are its ranks: in tables the path."""
    place, row = placed
    return str(row["path"]) if "rank" in row else place


def _answered(source: Path, ranks: Sequence[ResultRow]) -> Answered | None:
    place, row = ranks[0]
    try:
        if any(each.get("error") or not each["label"] for _, each in ranks):
            return None
        path, best = str(row["path"]), row.get("predictions") or [each for _, each in ranks]
        top = [(str(each["label"]), _probability(source, path, each["probability"])) for each in best]
        probability = _probability(source, path, row["probability"])
    except (TypeError, KeyError, AttributeError):
        raise DataError(f"{source}, {place}: not what zeroshot classify wrote; restore the file") from None
    return Answered(path, str(row["label"]), probability, tuple(each for each in top if each[0] != UNKNOWN))


def _probability(source: Path, path: str, value: Any) -> float:
    try:
        number = float(value)
        if 0 <= number <= 1:
            return number
    except (TypeError, ValueError):
        pass
    raise DataError(f"{source}: the probability of {path!r} is {value!r}, not a number from 0 to 1")


# Where the images are


def _placed(images: Sequence[Answered], source: Path, record: RunRecord | None) -> list[Answered]:
    """Return images that know their file, and whether it is missing.

    Relative paths are so to the folder that the run was started in, to the working directory, or to the results.
    """
    excel_safe = record is not None and bool(record.settings.get("excel_safe"))
    if excel_safe and source.suffix.lower() in _TABLES:
        images = [replace(each, path=as_was(each.path), label=as_was(each.label)) for each in images]
    bases = [os.getcwd(), os.path.dirname(os.path.abspath(source))]  # noqa: PTH100
    if record is not None and isinstance(folder := record.resolved.get("folder"), str):
        bases.insert(0, folder)
    probed = images[:_PROBED]
    found = [sum(_is_there(os.path.join(base, each.path)) for each in probed) for base in bases]
    base = bases[found.index(max(found))]
    moved = _moved(record, base)
    placed = []
    for each in images:
        file = os.path.join(base, each.path)
        file = moved.get(os.path.normpath(file), file)
        placed.append(replace(each, file=file, missing=not _is_there(file)))
    return placed


def _is_there(file: str) -> bool:
    """Return whether a file, or the file that it is a frame of, is there."""
    try:
        return os.path.isfile(file) or os.path.isfile(unframed(file))
    except ValueError:
        return False


def unframed(file: str) -> str:
    """Return the file of a frame, `a.gif` of `a.gif#2`; another path as it is."""
    before, mark, number = file.rpartition("#")
    return before if mark and number.isdigit() and not os.path.lexists(file) else file


def _moved(record: RunRecord | None, base: str) -> dict[str, str]:
    """Return where the run has moved its images, by where they were."""
    folder = None if record is None else record.settings.get("sort_into")
    if not isinstance(folder, str):
        return {}
    return moved_by(os.path.join(base, folder, MANIFEST))


def _tops(images: Iterable[Answered]) -> tuple[str, ...]:
    """Return the topmost of the folders that images are in as their paths are written, links resolved."""
    folders = sorted({os.path.dirname(os.path.abspath(image.file)) for image in images})  # noqa: PTH100
    tops: list[str] = []
    for folder in folders:
        if not any(folder == top or folder.startswith(top.rstrip(os.sep) + os.sep) for top in tops):
            tops.append(folder)
    return tuple(dict.fromkeys(os.path.realpath(top) for top in tops))


def is_link_out(run: Run, image: Answered) -> bool:
    """Return whether an image is not to be shown, for a link leads from the folders of the run to it."""
    try:
        return run.leads_out(unframed(image.file))
    except (OSError, ValueError):
        return True
