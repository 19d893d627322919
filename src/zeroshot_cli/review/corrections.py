"""The log of what people decided by hand: lines are appended and never changed, so a kill loses none.

Columns: `path`, the `label` that the image has from now on, the label that it `was`, `when` (UTC), and the `decision`.
The last line of an image counts, also for `zeroshot tune` and `classify --corrections`, which read only path and label:
an image that is unknown or unwanted is labelled "unknown", and one whose only decision was undone has no label.
Lines with the same `when` were decided together; an undo takes back the last of these groups, as far as it is on images
of the run that is reviewed: runs in one folder share the log.
"""

import csv
import os
from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from pathlib import Path

from zeroshot_cli.errors import InputError
from zeroshot_cli.records import UNKNOWN
from zeroshot_cli.results.append_file import AppendFile
from zeroshot_cli.results.formats import csv_records, delimited_row, is_torn, rows_in, to_bytes

COLUMNS = ("path", "label", "was", "when", "decision")
LOG = "corrections.csv"
_HEADER = to_bytes(delimited_row(COLUMNS, ","))
_UNDO = "undo"
_TICK = timedelta(milliseconds=1)


class Kind(StrEnum):
    """What was decided of an image: its label is right, or another, or none of the labels, or it is not wanted."""

    RIGHT = "right"
    LABEL = "label"
    UNKNOWN = "unknown"
    UNWANTED = "unwanted"


@dataclass(frozen=True, slots=True)
class Decision:
    """What was decided of an image, and the label that it has now; "unknown" for one that has none."""

    kind: Kind
    label: str = UNKNOWN


@dataclass(frozen=True, slots=True)
class Choice:
    """A decision to be written: the image's path, the label that it `was`, and what it is."""

    path: str
    was: str
    decision: Decision


class Corrections:
    """An open log of corrections, for this process alone until it is closed.

    It is created if it does not exist, a line that a kill has torn is cut off. Raises UsageError if it cannot be
    written or another process has it, InputError, with the line, if it is something else.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._history: dict[str, list[Decision]] = {}
        self._groups: list[list[str]] = []
        self._last = ""  # time of the last line
        self._open_group = False  # whether a line of the same time belongs to the last group
        self._file = AppendFile(path, own=True)
        try:
            self._file.lock()
            self._read()
        except BaseException:
            self._file.discard() if not self._file.size else self._file.close()
            raise

    def close(self) -> None:
        """Close the log; one without a line is removed."""
        if self._file.size <= len(_HEADER):
            self.path.unlink(missing_ok=True)
        self._file.close()

    @property
    def decided(self) -> dict[str, Decision]:
        """What was decided, by path."""
        return {path: each[-1] for path, each in self._history.items() if each}

    def of(self, path: str) -> Decision | None:
        """Return what was decided of an image, None for nothing."""
        history = self._history.get(path)
        return history[-1] if history else None

    def decide(self, choices: Sequence[Choice]) -> None:
        """Append decisions that are taken, and undone, together; UsageError if they cannot be written."""
        if not choices:
            return
        when = self._now()
        self._append((each.path, each.decision.label, each.was, when, each.decision.kind.value) for each in choices)
        self._open_group = False
        for each in choices:
            self._decided(each.path, each.decision, when)

    def undo(self, known: Container[str]) -> list[str]:
        """Take back the last decisions on images that are known; return their paths, none where there is nothing."""
        paths = next(filter(None, ([path for path in group if path in known] for group in reversed(self._groups))), [])
        if not paths:
            return []
        when, rows = self._now(), []
        for path in paths:
            history = self._history[path]
            before = history[-2].label if len(history) > 1 else ""
            rows.append((path, before, history[-1].label, when, _UNDO))
        self._append(rows)
        for path in paths:
            self._undone(path)
        self._last = when
        return paths

    def _append(self, rows: Iterable[tuple[str, ...]]) -> None:
        self._file.append(to_bytes("".join(delimited_row(row, ",") for row in rows)))
        self._file.sync()

    def _now(self) -> str:
        """Return the time, later than that of any line."""
        now = datetime.now(UTC)
        if self._last:
            now = max(now, datetime.fromisoformat(self._last) + _TICK)
        return now.isoformat(timespec="milliseconds")

    # What the lines add up to

    def _decided(self, path: str, decision: Decision, when: str) -> None:
        if not (self._open_group and when == self._last):
            self._groups.append([])
        self._groups[-1].append(path)
        self._history.setdefault(path, []).append(decision)
        self._last, self._open_group = when, True

    def _undone(self, path: str) -> None:
        self._open_group = False
        if history := self._history.get(path):
            history.pop()
        for group in reversed(self._groups):
            if path in group:
                group.remove(path)
                break
        while self._groups and not self._groups[-1]:
            self._groups.pop()

    def _read(self) -> None:
        end, line = 0, 1
        with self._file.reader() as stream:
            for record in csv_records(stream):
                if line == 1:
                    self._check_header(record)
                if is_torn(record):
                    break
                if line > 1:
                    self._take(record, line)
                end, line = end + len(record), line + record.count(b"\n")
        if self._file.size > end:
            self._file.truncate(end)
        if not end:
            self._file.append(_HEADER)

    def _check_header(self, record: bytes) -> None:
        whole = record.rstrip(b"\r\n") == _HEADER.rstrip()
        if not (whole if record.endswith(b"\n") else _HEADER.startswith(record)):
            raise InputError(
                f"{self.path}, line 1: not a log of corrections, whose columns are {','.join(COLUMNS)}; name another "
                "file with --corrections"
            )

    def _take(self, record: bytes, line: int) -> None:
        try:
            ((path, label, _, when, decision),) = rows_in(record.decode("utf-8", "surrogateescape"))
            moment = datetime.fromisoformat(when)
            kind = None if decision == _UNDO else Kind(decision)
            if moment.tzinfo is None or not path or (kind in (Kind.RIGHT, Kind.LABEL) and not label):
                raise ValueError
        except (csv.Error, ValueError):
            raise InputError(
                f"{self.path}, line {line}: not a correction with the columns {','.join(COLUMNS)}; mend the line or "
                "delete it"
            ) from None
        if kind is None:
            self._undone(path)
            self._last = max(self._last, when)
        else:
            self._decided(path, Decision(kind, label or UNKNOWN), when)


def log_beside(results: str | os.PathLike[str]) -> Path:
    """Return where the corrections of results are: beside a file, in a folder."""
    path = Path(results)
    return (path if path.is_dir() else path.parent) / LOG
