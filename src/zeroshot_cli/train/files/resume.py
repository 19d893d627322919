"""Whether a run begins or is resumed, and from where: the first process decides, and all must see the same folder."""

import time
from dataclasses import replace
from pathlib import Path

from zeroshot_cli.errors import UsageError
from zeroshot_cli.train.config import TrainConfig
from zeroshot_cli.train.distributed import World
from zeroshot_cli.train.files.checkpoint import TrainState, as_begun, newest_checkpoint
from zeroshot_cli.train.files.folder import RunFolder

_OWN = ("device", "workers")  # settings that each process has for its machine
_SEEN_WITHIN = 70.0  # seconds: NFS may take a minute to show what another machine has written


def begun_or_new(config: TrainConfig, folder: RunFolder, world: World, *, resume: bool, writes: bool) -> TrainConfig:
    """Return the settings of the run, those that the first process has, after looking at the folder.

    Raises UsageError where the folder is not free and nobody said to resume what is in it, or cannot be looked at.
    """

    def looked_at() -> TrainConfig:
        if resume or writes:
            folder.check(resume=resume)
        return as_begun(config, folder.checkpoints) if resume else config

    return replace(world.told(looked_at), **{name: getattr(config, name) for name in _OWN})


def newest_of_all(folder: RunFolder, world: World) -> tuple[Path, TrainState] | None:
    """Return the newest checkpoint that the first process finds, which all are to load; None where there is none.

    Raises UsageError where another process does not see it.
    """
    newest = world.told(lambda: newest_checkpoint(folder.checkpoints))
    if newest is not None:
        check_seen(newest[0] / "state.json", folder, world)
    return newest


def check_seen(file: Path, folder: RunFolder, world: World) -> None:
    """Raise UsageError unless all processes see the file that the first one sees; others may have one of that name."""
    if world.size == 1:
        return
    found = world.collected([_stamp(file, patience=0 if world.is_first else _SEEN_WITHIN)])
    if len(set(found)) > 1:
        raise UsageError(
            f"the processes of this run do not see the same {folder.path}; name a folder that all machines share in "
            "--output"
        )


def _stamp(file: Path, *, patience: float) -> tuple[int, int] | None:
    """Return when a file was written, in seconds, and its size; None where it does not appear in time."""
    end = time.monotonic() + patience
    while True:
        try:
            status = file.stat()
        except OSError:
            if time.monotonic() >= end:
                return None
            time.sleep(0.5)
        else:
            return int(status.st_mtime), status.st_size
