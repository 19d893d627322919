"""The images that a run could not read, each once, in its skipped.csv: path and reason."""

import csv
from collections.abc import Iterable
from pathlib import Path

from zeroshot_cli.records import SkippedImage

COLUMNS = ("path", "error")


class Skipped:
    """What was skipped so far; every image is written to `file` when it is first met."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._images: dict[str, SkippedImage] = {}

    def __len__(self) -> int:
        return len(self._images)

    def images(self) -> tuple[SkippedImage, ...]:
        return tuple(self._images.values())

    def recall(self) -> None:
        """Take up what an interrupted run has written."""
        if self._file.exists():
            with self._file.open(newline="", encoding="utf-8", errors="surrogateescape") as file:
                rows = [row for row in csv.reader(file) if len(row) == 2]
            self._images = {path: SkippedImage(path, reason) for path, reason in rows[1:]}

    def add(self, images: Iterable[SkippedImage]) -> None:
        new = {image.path: image for image in images if image.path not in self._images}
        if not new:
            return
        header = () if self._images else (COLUMNS,)
        self._images |= new
        rows = ((image.path, image.reason) for image in new.values())
        with self._file.open("a", newline="", encoding="utf-8", errors="surrogateescape") as file:
            csv.writer(file, lineterminator="\n").writerows([*header, *rows])
