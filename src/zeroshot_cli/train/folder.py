"""The folder of a run: what may be in it before, and what is written during the run.

config.yaml  assumed.txt  metrics.jsonl  skipped.csv  checkpoints/  model/  best/, and of others report.html
tensorboard/  wandb/
"""

# pathlib's questions raise OSError where a name is too long or a folder is locked; opening names the reason.
# ruff: noqa: PTH110, PTH112

import csv
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import yaml
from safetensors import SafetensorError

from zeroshot_cli.display import shown
from zeroshot_cli.errors import UsageError
from zeroshot_cli.records import SkippedImage


class RunFolder:
    """Where one run is written. Every failure raises UsageError with the folder's name and the reason."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.checkpoints, self.model, self.best = path / "checkpoints", path / "model", path / "best"
        self.metrics = path / "metrics.jsonl"
        self._skipped_csv, self._assumed = path / "skipped.csv", path / "assumed.txt"
        self._skipped: dict[str, SkippedImage] = {}

    @property
    def skipped(self) -> tuple[SkippedImage, ...]:
        """The images that could not be read so far, each once."""
        return tuple(self._skipped.values())

    def check(self, *, resume: bool) -> None:
        """Raise UsageError unless the folder is free, or with `resume` holds a run."""
        with self.writing(), suppress(FileNotFoundError, NotADirectoryError):
            os.lstat(self.path)  # a name too long, a locked folder
        has_run = os.path.exists(self.path / "config.yaml")
        if resume and not has_run:
            raise UsageError(f"{self.path} holds no run to resume; omit --resume to start one")
        if has_run and not resume:
            raise UsageError(f"{self.path} already holds a run; add --resume to resume it or choose another --output")
        if os.path.exists(self.path) and not os.path.isdir(self.path):
            raise UsageError(f"{self.path} is a file; --output names the folder of the run")

    def begin(self, settings: Mapping[str, Any], *, step: int, assumed: Sequence[str] = ()) -> None:
        """Make the folder, write the settings, and keep of an interrupted run what was written up to a step.

        `assumed` is what was taken for granted when the data were read.
        """
        with self.writing():
            self.path.mkdir(parents=True, exist_ok=True)
            _write_text(self.path / "config.yaml", yaml.safe_dump(dict(settings), sort_keys=False))
            if assumed:
                _write_text(self._assumed, "".join(f"{shown(text)}\n" for text in assumed))
            else:
                self._assumed.unlink(missing_ok=True)
            cut_metrics(self.metrics, step)
            self._skipped = {image.path: image for image in read_skipped(self._skipped_csv)}

    def log(self, row: Mapping[str, Any]) -> None:
        """Add a row to metrics.jsonl."""
        with self.writing(), self.metrics.open("a", encoding="utf-8") as metrics:
            metrics.write(json.dumps(row, allow_nan=False) + "\n")

    def skip(self, images: Iterable[SkippedImage]) -> None:
        """Add those images to skipped.csv that are not in it."""
        new = {image.path: image for image in images if image.path not in self._skipped}
        if not new:
            return
        rows = [(image.path, image.reason) for image in new.values()]
        if not self._skipped:
            rows.insert(0, ("path", "error"))
        self._skipped |= new
        with self.writing(), self._skipped_csv.open("a", newline="", **_ANY_PATH) as file:
            csv.writer(file, lineterminator="\n").writerows(rows)

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Raise UsageError with the reason where the folder cannot be written."""
        try:
            yield
        except (OSError, SafetensorError) as error:
            reason = getattr(error, "strerror", None) or error
            raise UsageError(
                f"{self.path} cannot be written: {reason}; make room or choose another --output (--resume continues "
                "from the newest complete checkpoint)"
            ) from error


_ANY_PATH: dict[str, Any] = {"encoding": "utf-8", "errors": "surrogateescape"}


def read_skipped(file: Path) -> tuple[SkippedImage, ...]:
    """Return the images in a run's skipped.csv, if there is one."""
    if not file.exists():
        return ()
    with file.open(newline="", **_ANY_PATH) as stream:
        rows = [row for row in csv.reader(stream) if len(row) == 2]
    return tuple({path: SkippedImage(path, reason) for path, reason in rows[1:]}.values())


def read_assumed(run: Path) -> str:
    """Return what was taken for granted in a run, one note a line; empty if that is nothing."""
    with suppress(FileNotFoundError):
        return (run / "assumed.txt").read_text(encoding="utf-8", errors="replace").strip()
    return ""


def cut_metrics(file: Path, step: int) -> None:
    """Remove from metrics.jsonl the rows after a step, and a last line that was cut off."""
    if not file.exists():
        return
    kept = []
    for line in file.read_text(encoding="utf-8").splitlines(keepends=True):
        try:
            row = json.loads(line)
        except ValueError:
            break
        if line.endswith("\n") and row["step"] <= step:
            kept.append(line)
    _write_text(file, "".join(kept))


def _write_text(file: Path, text: str) -> None:
    """Write a file beside its name, then rename it."""
    temporary = file.with_name(file.name + ".partial")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(file)
