"""What a run reports: its folder, what may be in it before and what is written into it, and its events.

The events are, in this order: Checked (in preflight.py), Started, Before, Encoded (in features.py), Stepped and
Saved, Finished. The folder holds

config.yaml  assumed.txt  metrics.jsonl  skipped.csv  checkpoints/  model/  last/, and of others report.html
tensorboard/  wandb/, and while it goes on views-*.npy
"""

# pathlib's questions raise OSError where a name is too long or a folder is locked; opening names the reason.
# ruff: noqa: PTH110, PTH112

from __future__ import annotations

import csv
import errno
import io
import json
import math
import os
import sys
import weakref
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from types import UnionType
from typing import TYPE_CHECKING, Any, get_args, get_origin, get_type_hints

import yaml
from safetensors import SafetensorError

from zeroshot_cli.disk import open_own, read_plain
from zeroshot_cli.display import shown
from zeroshot_cli.documents import load_json, load_yaml
from zeroshot_cli.errors import DataError, UsageError
from zeroshot_cli.records import SkippedImage
from zeroshot_cli.remote.address import shown_in
from zeroshot_cli.train.config import TrainConfig

if TYPE_CHECKING:  # they bring torch
    from zeroshot_cli.train.preflight import Preflight
    from zeroshot_cli.train.validate import Accuracy, Validation

if sys.platform != "win32":
    import fcntl

_SHOWN = 80  # characters of a value in a message


class RunFolder:
    """Where one run is written. Every failure raises UsageError with the folder's name and the reason."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.checkpoints, self.model, self.last = path / "checkpoints", path / "model", path / "last"
        self.settings, self.metrics = path / "config.yaml", path / "metrics.jsonl"
        self._skipped_csv, self._assumed = path / "skipped.csv", path / "assumed.txt"
        self._skipped: dict[str, SkippedImage] = {}
        self._lock: int | None = None

    @property
    def skipped(self) -> tuple[SkippedImage, ...]:
        """The images that could not be read so far, each once."""
        return tuple(self._skipped.values())

    def check(self, *, resume: bool) -> None:
        """Raise UsageError unless the folder is free, or with `resume` at most holds a run."""
        with self.writing(), suppress(FileNotFoundError, NotADirectoryError):
            os.lstat(self.path)  # a name too long, a locked folder
        if not resume and os.path.exists(self.settings):
            raise UsageError(
                f"{self.path} already holds a run; add --resume to resume it, with --epochs N to extend it, "
                f"or start another run from its model with --model {self.path} --output {self.path}-2"
            )
        if os.path.exists(self.path) and not os.path.isdir(self.path):
            raise UsageError(f"{self.path} is a file; --output names the folder of the run")

    def begin(self, settings: Mapping[str, Any], *, step: int, resume: bool, assumed: Sequence[str] = ()) -> None:
        """Make the folder, write the settings, and keep of an interrupted run what was written up to a step.

        `assumed` is what was assumed when the data were read. The folder is locked until `end`. Raises
        UsageError where another process is writing it.
        """
        with self.writing():
            self.path.mkdir(parents=True, exist_ok=True)
            self._take_lock()
            if not resume:
                self.check(resume=False)  # another process may have come first
            _write_text(self.settings, shown_in(yaml.safe_dump(dict(settings), sort_keys=False)))
            if assumed:
                _write_text(self._assumed, "".join(f"{shown(text)}\n" for text in assumed))
            else:
                self._assumed.unlink(missing_ok=True)
            cut_metrics(self.metrics, step or -1)  # row 0 is made again
            self._skipped = {image.path: image for image in read_skipped(self._skipped_csv)}

    def _take_lock(self) -> None:
        """Lock the folder itself, which leaves no file behind and ends with the process."""
        if sys.platform == "win32":
            return
        descriptor = os.open(self.path, os.O_RDONLY)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(descriptor)
            if error.errno in (errno.EACCES, errno.EAGAIN):
                raise UsageError(
                    f"another run is writing {self.path}; wait until it ends, or choose another --output"
                ) from None
            return  # a file system without locks
        self._lock = descriptor
        # Processes that read images are copies of this one: they must not hold the lock when it is gone.
        folder = weakref.ref(self)

        def forget() -> None:
            if (found := folder()) is not None:
                found.end()

        os.register_at_fork(after_in_child=forget)

    def end(self) -> None:
        """Let another run write the folder."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def judged(self, step: int) -> list[Mapping[str, Any]]:
        """Return the rows of metrics.jsonl up to a step in which the model was judged."""
        return [
            row for row in _rows(self.metrics) if row["step"] <= step and {"val_loss", "zero_shot_top1"} & row.keys()
        ]

    def log(self, row: Mapping[str, Any]) -> None:
        """Add a row to metrics.jsonl."""
        with self.writing(), open(self.metrics, "a", encoding="utf-8", opener=open_own) as metrics:
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
        with self.writing(), open(self._skipped_csv, "a", newline="", opener=open_own, **_ANY_PATH) as file:
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
    stream = io.StringIO(read_plain(file).decode(**_ANY_PATH), newline="")
    rows = [row for row in csv.reader(stream) if len(row) == 2]
    return tuple({path: SkippedImage(path, reason) for path, reason in rows[1:]}.values())


def read_assumed(run: Path) -> str:
    """Return what was assumed in a run, one note a line; empty if that is nothing."""
    with suppress(FileNotFoundError):
        return read_plain(run / "assumed.txt").decode("utf-8", "replace").strip()
    return ""


def read_settings(run: Path) -> dict[str, Any]:
    """Return the settings of a run. Raises UsageError where there are none, DataError where they cannot be read."""
    file = run / "config.yaml"
    try:
        settings = load_yaml(read_plain(file).decode("utf-8"))
    except OSError as error:
        raise UsageError(f"{run} holds no run: cannot read {file}: {error.strerror}") from error
    except ValueError as error:
        raise DataError(
            f"{file} cannot be read: {shown(str(error))}; --resume with all options of the run writes it again"
        ) from error
    if not isinstance(settings, dict):
        raise DataError(f"{file} holds no settings by name; --resume with all options of the run writes it again")
    return {str(name): value for name, value in settings.items()}


def config_from(values: Mapping[str, Any]) -> TrainConfig:
    """Return the settings that `to_dict` made plain values of; those that are lacking have their defaults.

    Raises UsageError for a name that is not a setting, or a value of another type or out of range.
    """
    kinds = get_type_hints(TrainConfig)
    found = {}
    for name, value in values.items():
        if name not in kinds:
            raise UsageError(f"{shown(name)[:_SHOWN]!r} is not a setting")
        try:
            found[name] = _as(kinds[name], value)
        except (TypeError, ValueError):
            raise UsageError(f"{name} cannot be {shown(repr(value))[:_SHOWN]}") from None
    return TrainConfig(**found)


def _as(kind: Any, value: Any) -> Any:
    """Return a plain value as the type of its setting. Raises TypeError or ValueError."""
    if get_origin(kind) is tuple:
        values = value if isinstance(value, list) else [] if value is None else [value]
        return tuple(_as(get_args(kind)[0], each) for each in values)
    if get_origin(kind) is UnionType:
        return None if value is None else _as(get_args(kind)[0], value)
    if kind is float and type(value) is int:
        return float(value)
    if issubclass(kind, StrEnum):
        return kind(value)
    if type(value) is not kind:
        raise TypeError
    return value


def cut_metrics(file: Path, step: int) -> None:
    """Remove from metrics.jsonl the rows after a step, and a last line that was cut off."""
    if file.exists():
        kept = [row for row in _rows(file) if row["step"] <= step]
        _write_text(file, "".join(json.dumps(row) + "\n" for row in kept))


def _rows(file: Path) -> Iterator[dict[str, Any]]:
    """Yield the rows of metrics.jsonl up to the first that is damaged or cut off."""
    if not file.exists():
        return
    for line in read_plain(file).decode("utf-8", "replace").splitlines(keepends=True):
        try:
            row = load_json(line)
        except (ValueError, RecursionError):
            return
        if not isinstance(row, dict) or not isinstance(row.get("step"), int) or not line.endswith("\n"):
            return
        yield row


def _write_text(file: Path, text: str) -> None:
    """Write a file beside its name, then rename it."""
    temporary = file.with_name(file.name + ".partial")
    temporary.unlink(missing_ok=True)
    with temporary.open("x", encoding="utf-8") as unfinished:
        unfinished.write(text)
    temporary.replace(file)


# events


@dataclass(frozen=True, slots=True)
class Started:
    """The run is ready; `first_step` steps were done before it was resumed, `assumed` is what readers assumed.

    `origin` says what the model starts from: weights, or a configuration and random numbers; `trained` of its
    `parameters` learn. `chosen` has the settings that were left open, by their names.
    """

    preflight: Preflight
    origin: str
    steps: int
    steps_per_epoch: int
    first_step: int
    parameters: int
    trained: int
    device: str
    precision: str
    lr: float
    processes: int = 1
    assumed: tuple[str, ...] = ()
    chosen: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Before:
    """The model was judged before its first step, which is row 0 of metrics.jsonl."""

    validation: Validation | None
    zero_shot: Accuracy | None
    step: int = 0
    epoch: int = 0

    def row(self) -> dict[str, float | int | None]:
        """Return the row of metrics.jsonl."""
        return {"step": 0, "epoch": 0, **_judged(self.validation, self.zero_shot)}


@dataclass(frozen=True, slots=True)
class Stepped:
    """A step is done; `step` and `epoch` count from 1, `skipped` counts the unreadable images met so far.

    `loss` and `grad_norm` may be infinite or NaN: then the step changed nothing. `data_wait` is the share of the time
    spent waiting for batches, `distil` how far the text tower is from its teacher: the mean of 1 - cosine.
    """

    step: int
    epoch: int
    loss: float
    lr: float
    logit_scale: float
    grad_norm: float
    images_per_second: float
    data_wait: float
    skipped: int
    validation: Validation | None = None
    zero_shot: Accuracy | None = None
    distil: float | None = None

    def row(self) -> dict[str, float | int | None]:
        """Return the row of metrics.jsonl; null is what was not finite."""
        row: dict[str, float | int | None] = {
            "step": self.step,
            "epoch": self.epoch,
            "loss": self.loss if math.isfinite(self.loss) else None,
            "lr": self.lr,
            "logit_scale": self.logit_scale,
            "grad_norm": self.grad_norm if math.isfinite(self.grad_norm) else None,
            "images_per_second": round(self.images_per_second, 1),
            "data_wait": round(self.data_wait, 3),
            "skipped": self.skipped,
        }
        if self.distil is not None:
            row["distil"] = self.distil if math.isfinite(self.distil) else None
        return {**row, **_judged(self.validation, self.zero_shot)}


def _judged(validation: Validation | None, zero_shot: Accuracy | None) -> dict[str, float | int | None]:
    row: dict[str, float | int | None] = {}
    if validation is not None:
        retrieval = validation.retrieval
        row |= {"val_loss": validation.loss, "val_skipped": len(validation.skipped)}
        row |= {f"val_recall@{k}": recall for k, recall in retrieval.image_to_text.items()}
        row |= {f"val_text_recall@{k}": recall for k, recall in retrieval.text_to_image.items()}
    if zero_shot is not None:
        row |= {"zero_shot_top1": zero_shot.top1, "zero_shot_top5": zero_shot.top5}
    return row


@dataclass(frozen=True, slots=True)
class Saved:
    """The model folder, and a checkpoint where a step was done, are on disk."""


@dataclass(frozen=True, slots=True)
class Finished:
    """All steps are done; `last` is None where none was left. `notes` say what is remarkable about the run."""

    model: Path
    last: Stepped | None
    skipped: tuple[SkippedImage, ...]
    notes: tuple[str, ...] = ()
