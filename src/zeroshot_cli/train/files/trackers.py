"""Send the figures of a training run to programs that draw them: TensorBoard, and Weights & Biases.

Each step that metrics.jsonl has goes there too, under the same names in three groups: train/, val/ and zero_shot/.
"""

import os
import socket
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from zeroshot_cli.disk import write_file
from zeroshot_cli.errors import UsageError
from zeroshot_cli.remote.address import shown_in

if TYPE_CHECKING:
    from zeroshot_cli.train.files.folder import Before, Stepped

PROJECT = "zeroshot"  # at Weights & Biases, where WANDB_PROJECT names no other
_GROUPS = {"val_": "val/", "zero_shot_": "zero_shot/"}


class Tracker(Protocol):
    """A place for the figures of a run, step by step; `close` completes it."""

    def log(self, report: "Stepped | Before") -> None:
        """Record the figures of a step."""

    def close(self) -> None:
        """Complete the record."""


def check_trackers(names: Iterable[str]) -> None:
    """Raise UsageError for an unknown name, or one whose package is not installed."""
    for name in names:
        if name not in _TRACKERS:
            raise UsageError(f"--report-to is {name!r}; it must be {' or '.join(_TRACKERS)}")
        spec = find_spec(name)
        if spec is None or spec.origin is None:  # a folder of this name, such as W&B makes, is not a package
            raise _missing(name)


@contextmanager
def open_trackers(
    names: Iterable[str], run: Path, settings: Mapping[str, Any], *, first_step: int = 0
) -> Iterator[Tracker]:
    """Open all trackers of a run as one; a name that is given twice counts once.

    `settings` are shown with it, and its `log_every` says which steps are logged. With `first_step` over 0 the run is
    resumed after that step, and what was logged of later steps is replaced. If a tracker fails later, a warning says so
    once and the run goes on without it. Raises UsageError for an unknown name, a missing package or a tracker that
    cannot be opened.
    """
    names = tuple(dict.fromkeys(names))
    check_trackers(names)
    every = int(settings.get("log_every", 1))
    trackers = _Trackers(every)
    try:
        for name in names:
            with _opening(name, run):
                trackers.add(name, _TRACKERS[name](run, settings, first_step))
        yield trackers
    finally:
        trackers.close()


@contextmanager
def _opening(name: str, run: Path) -> Iterator[None]:
    try:
        run.mkdir(parents=True, exist_ok=True)
        yield
    except ImportError as error:
        raise _missing(name) from error
    except Exception as error:  # a login, a network, a disk: whatever a tracker may raise
        raise UsageError(
            f"--report-to {name} cannot begin: {_reason(error)}; {_HINTS[name]} or omit --report-to {name}"
        ) from error


def _missing(name: str) -> UsageError:
    return UsageError(f"--report-to {name} needs the package {name}: pip install 'zeroshot-cli[{name}]'")


def _reason(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__


class _Trackers:
    """Several trackers as one, without those that have failed."""

    def __init__(self, every: int) -> None:
        self._every = every
        self._open: dict[str, Tracker] = {}

    def add(self, name: str, tracker: Tracker) -> None:
        self._open[name] = tracker

    def log(self, report: "Stepped | Before") -> None:
        """Log a step if it is one of every `every`, or the model was validated after it."""
        validated = report.validation is not None or report.zero_shot is not None
        if report.step % self._every == 0 or validated:
            self._each(lambda tracker: tracker.log(report))

    def close(self) -> None:
        self._each(lambda tracker: tracker.close())
        self._open.clear()

    def _each(self, act: Callable[[Tracker], None]) -> None:
        for name, tracker in [*self._open.items()]:
            try:
                act(tracker)
            except Exception as error:  # whatever it is, the run is worth more
                del self._open[name]
                warnings.warn(
                    f"{name} failed and gets no more figures of this run: {_reason(error)}; metrics.jsonl has them all",
                    stacklevel=2,
                )


class TensorBoard:
    """Events in `run`/tensorboard, for `tensorboard --logdir`; what was logged after `first_step` is hidden.

    Not written by a SummaryWriter, whose thread prints a traceback when a disk is full, and holds the last steps back
    for two minutes.
    """

    def __init__(self, run: Path, settings: Mapping[str, Any], first_step: int) -> None:
        self._protocol: Any = import_module("tensorboard.compat.proto.event_pb2")
        self._summaries: Any = import_module("torch.utils.tensorboard.summary")
        record_writer: Any = import_module("tensorboard.summary.writer.record_writer")
        folder = run / "tensorboard"
        folder.mkdir(exist_ok=True)
        # Readers take files in the order of their names, so that of a resumed run comes after the earlier ones.
        name = f"events.out.tfevents.{time.time_ns()}.{socket.gethostname()}.{os.getpid()}"
        self._file = (folder / name).open("xb")
        self._records = record_writer.RecordWriter(self._file)
        self._write(file_version="brain.Event:2")
        if first_step:
            session_log = self._protocol.SessionLog
            self._write(step=first_step + 1, session_log=session_log(status=session_log.START))
        rows = "".join(f"| {name} | `{_cell(value)}` |\n" for name, value in settings.items())
        self._write(
            step=first_step, summary=self._summaries.text("settings", f"| setting | value |\n|---|---|\n{rows}")
        )

    def log(self, report: "Stepped | Before") -> None:
        """Write an event with the figures of a step."""
        summary = self._summaries.Summary()
        for name, value in figures_of(report).items():
            summary.MergeFrom(self._summaries.scalar(name, value))
        self._write(step=report.step, summary=summary)

    def close(self) -> None:
        """Close the event file."""
        self._file.close()

    def _write(self, **content: Any) -> None:
        event = self._protocol.Event(wall_time=time.time(), **content)
        try:
            self._records.write(event.SerializeToString())
            self._file.flush()
        except OSError:
            with suppress(OSError):
                self._file.close()
            raise


def _cell(value: object) -> str:
    """Return a value as a cell of a Markdown table."""
    return str(_encodable(str(value))).translate({ord("|"): "¦", ord("`"): "'", ord("\n"): " "})


def _encodable(value: Any) -> Any:
    r"""Return a value without the secrets of addresses, and with bytes that are not UTF-8 written as `\udcff`."""
    if isinstance(value, dict):
        return {name: _encodable(each) for name, each in value.items()}
    if isinstance(value, list):
        return [_encodable(each) for each in value]
    return shown_in(value).encode("utf-8", "backslashreplace").decode() if isinstance(value, str) else value


class WeightsAndBiases:
    """A run at Weights & Biases, offline or online as its own settings say; a resumed run is the same one there.

    `run`/wandb-run holds its id. Each row has its own step: a step that is made again is drawn where it was.
    """

    def __init__(self, run: Path, settings: Mapping[str, Any], first_step: int) -> None:
        wandb: Any = import_module("wandb")
        known = run / "wandb-run"
        self._run: Any = wandb.init(
            project=os.environ.get("WANDB_PROJECT") or PROJECT,
            name=_encodable(run.resolve().name),
            id=known.read_text(encoding="utf-8").strip() if known.exists() else None,
            resume="allow",
            dir=str(run),
            config=_encodable(dict(settings)),
            allow_val_change=True,  # a resumed run may have other workers, or its data elsewhere
            settings={"console": "off"},  # it would take down all that the terminal shows
        )
        write_file(known, f"{self._run.id}\n", own=True)
        self._run.define_metric("step")
        self._run.define_metric("*", step_metric="step")

    def log(self, report: "Stepped | Before") -> None:
        """Send the figures of a step."""
        self._run.log({**figures_of(report), "step": report.step})

    def close(self) -> None:
        """Finish the run."""
        self._run.finish()


def figures_of(report: "Stepped | Before") -> dict[str, float]:
    """Return the finite figures of a step by the names that trackers group them by."""
    row = report.row()
    return {_grouped(key): value for key, value in row.items() if key != "step" and value is not None}


def _grouped(key: str) -> str:
    for prefix, group in _GROUPS.items():
        if key.startswith(prefix):
            return group + key.removeprefix(prefix)
    return f"train/{key}"


_TRACKERS: dict[str, Callable[[Path, Mapping[str, Any], int], Tracker]] = {
    "tensorboard": TensorBoard,
    "wandb": WeightsAndBiases,
}
_HINTS = {
    "tensorboard": "make room in the folder of the run",
    "wandb": "run wandb login, set WANDB_MODE=offline",
}
