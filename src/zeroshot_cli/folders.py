"""The folders of a user that zeroshot writes to unasked."""

import os
import sys
from pathlib import Path


def cache_folder() -> Path:
    """The folder for what can be computed again: ZEROSHOT_CACHE_DIR, else `zeroshot` where the system keeps caches."""
    own = os.environ.get("ZEROSHOT_CACHE_DIR")
    return Path(own).expanduser() if own else _system_cache() / "zeroshot"


def _system_cache() -> Path:
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
