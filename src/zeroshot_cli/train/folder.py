"""The folder of a run: what may be in it before, and what is written while the run goes on.

config.yaml  metrics.jsonl  skipped.csv  checkpoints/  model/  best/, and of others report.html  tensorboard/  wandb/
"""

# pathlib's questions raise OSError where a name is too long or a folder is locked; opening names the reason.
# ruff: noqa: PTH110, PTH112

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import yaml
from safetensors import SafetensorError

from zeroshot_cli.errors import UsageError
from zeroshot_cli.train.metrics import cut_metrics, write_text


class RunFolder:
    """Where one run is written. All that fails raises UsageError with the folder's name and the reason."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.checkpoints, self.model, self.best = path / "checkpoints", path / "model", path / "best"
        self.skipped, self.metrics = path / "skipped.csv", path / "metrics.jsonl"

    def check(self, *, resume: bool) -> None:
        """Raise UsageError unless the folder is free, or with `resume` holds a run."""
        with self.writing(), suppress(FileNotFoundError, NotADirectoryError):
            os.lstat(self.path)  # a name too long, a locked folder
        has_run = os.path.exists(self.path / "config.yaml")
        if resume and not has_run:
            raise UsageError(f"{self.path} holds no run to resume; leave out --resume to start one")
        if has_run and not resume:
            raise UsageError(
                f"{self.path} already holds a run; add --resume to go on with it or choose another --output"
            )
        if os.path.exists(self.path) and not os.path.isdir(self.path):
            raise UsageError(f"{self.path} is a file; --output names the folder of the run")

    def begin(self, settings: Mapping[str, Any]) -> None:
        """Make the folder, and note the settings."""
        with self.writing():
            self.path.mkdir(parents=True, exist_ok=True)
            write_text(self.path / "config.yaml", yaml.safe_dump(dict(settings), sort_keys=False))

    def log(self, row: Mapping[str, Any]) -> None:
        """Add a row to metrics.jsonl."""
        with self.writing(), self.metrics.open("a", encoding="utf-8") as metrics:
            metrics.write(json.dumps(row, allow_nan=False) + "\n")

    def cut(self, step: int) -> None:
        """Remove from metrics.jsonl what comes after a step."""
        with self.writing():
            cut_metrics(self.metrics, step)

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Say in one sentence what cannot be written."""
        try:
            yield
        except (OSError, SafetensorError) as error:
            reason = getattr(error, "strerror", None) or error
            raise UsageError(
                f"{self.path} cannot be written: {reason}; make room or choose another --output (--resume goes on "
                "from the newest complete checkpoint)"
            ) from error
