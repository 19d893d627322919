"""How many images have which label, in which folder: what a run ends with, and the file of `--summary`.

The file has a row for each label in each folder that has one, the most frequent first: `label`, `folder`, `outcome`
and `count`. The outcome is `labelled`, `unknown`, or `unreadable`, which has no label. With `--multi-label` an image
counts for each of its labels. Where labels have groups, a last column `group` has the path of the label's.
"""

import json
import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from enum import StrEnum
from pathlib import Path

from zeroshot_cli.disk import write_file
from zeroshot_cli.records import UNKNOWN, Prediction, Result, SkippedImage
from zeroshot_cli.results.formats import (
    DELIMITERS,
    GROUP,
    MARK,
    Format,
    delimited_row,
    format_of,
    no_formula,
    to_bytes,
)

COLUMNS = ("label", "folder", "outcome", "count")


class Outcome(StrEnum):
    """What became of an image."""

    LABELLED = "labelled"
    UNKNOWN = UNKNOWN
    UNREADABLE = "unreadable"


class SummaryFormat(StrEnum):
    """The formats of `--summary`, by extension."""

    CSV = "csv"
    TSV = "tsv"
    JSONL = "jsonl"


class Tally:
    """A sink that counts images by label, folder and outcome; with `every_label` an image counts for each label.

    `names` are labels by what stands for them in the files that are read to resume a run.
    """

    def __init__(self, *, every_label: bool = False, names: Mapping[str, str] | None = None) -> None:
        self.every_label = every_label
        self._names = names or {}
        self.counts: Counter[tuple[str, str, Outcome]] = Counter()
        self.folders: Counter[str] = Counter()

    @property
    def images(self) -> int:
        """The number of images."""
        return self.folders.total()

    def write(self, items: Sequence[Result]) -> None:
        """Count a block of results."""
        for item in items:
            self.add(item.path, labels_of(item), outcome_of(item))

    def add(self, path: str, labels: Sequence[str], outcome: Outcome) -> None:
        """Count one image with its labels, best first."""
        folder = os.path.dirname(path) or "."  # noqa: PTH120, for a Path would change how it is written
        self.folders[folder] += 1
        for label in dict.fromkeys(labels if self.every_label else labels[:1]) or [""]:
            self.counts[self._names.get(label, label), folder, outcome] += 1

    def by_label(self, folder: str | None = None) -> list[tuple[str, Outcome, int]]:
        """Return the labels, of one folder or of all, with their images, most frequent first; `unknown` comes last."""
        found = Counter[tuple[str, Outcome]]()
        for (label, place, outcome), count in self.counts.items():
            if folder in (None, place):
                found[label, outcome] += count
        ends = list(Outcome)
        rows = [(label, outcome, count) for (label, outcome), count in found.items()]
        return sorted(rows, key=lambda row: (ends.index(row[1]), -row[2], row[0]))

    def rows(self) -> list[tuple[str, str, Outcome, int]]:
        """Return label, folder, outcome and count, in the order of `by_label`, and of folders by count."""
        order = {(label, outcome): place for place, (label, outcome, _) in enumerate(self.by_label())}
        rows = [(*key, count) for key, count in self.counts.items()]
        return sorted(rows, key=lambda row: (order[row[0], row[2]], -row[3], row[1]))


def labels_of(item: Result) -> tuple[str, ...]:
    """Return the labels that an image counts for: none if it could not be read."""
    if isinstance(item, SkippedImage):
        return ()
    return (UNKNOWN,) if item.rejected else tuple(best.label for best in item.predictions)


def outcome_of(item: Result) -> Outcome:
    """Return what became of an image."""
    if isinstance(item, SkippedImage):
        return Outcome.UNREADABLE
    return Outcome.UNKNOWN if item.rejected else Outcome.LABELLED


def write_summary(
    path: Path,
    results: Callable[[], Iterator[Result]],
    *,
    every_label: bool,
    excel_safe: bool,
    marked: bool,
    grouped: bool = False,
) -> None:
    """Write the counts of all results in the format of the file's extension; UsageError if it cannot be written.

    `excel_safe` and `marked`, which begins the file with a byte order mark, are for tables; `grouped` labels have the
    path of their groups.
    """
    tally, groups = Tally(every_label=every_label), dict[str, str]()
    for item in results():
        tally.write([item])
        if grouped and isinstance(item, Prediction):
            groups |= {best.label: best.path_of_group for best in item.predictions}
    columns = (*COLUMNS, *[GROUP] * grouped)
    counts = [(*row, *[groups.get(row[0], "")] * grouped) for row in tally.rows()]
    form = format_of(path, SummaryFormat)
    if form is SummaryFormat.JSONL:
        objects = (dict(zip(columns, row, strict=True)) for row in counts)
        text = "".join(f"{json.dumps(each, ensure_ascii=False)}\n" for each in objects)
        write_file(path, text.encode("utf-8", "backslashreplace"), resumable=True)
        return
    text_of, delimiter = no_formula if excel_safe else str, DELIMITERS[Format(form)]
    rows = [columns, *([text_of(each) if type(each) is str else str(each) for each in row] for row in counts)]
    table = to_bytes("".join(delimited_row(row, delimiter) for row in rows))
    write_file(path, MARK * marked + table, resumable=True)
