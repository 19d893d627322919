"""Folders that zeroshot writes: the cache folder, and folders that appear only when they are complete."""

import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def cache_folder() -> Path:
    """Return the cache folder: ZEROSHOT_CACHE_DIR, else `zeroshot` where the system keeps caches."""
    own = os.environ.get("ZEROSHOT_CACHE_DIR")
    return Path(own).expanduser() if own else _system_cache() / "zeroshot"


@contextmanager
def finished_folder(target: Path, temporary: Path) -> Iterator[Path]:
    """Yield an empty temporary folder that becomes `target` when the block ends, and is removed if the block fails.

    What a killed process left in `temporary` is removed first.
    """
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    try:
        yield temporary
        temporary.rename(target)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def _system_cache() -> Path:
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
