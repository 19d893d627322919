"""Which folders the user sorted from, by manifest: to these, and to no others, `unsort` moves files back unasked.

A manifest says where files go, and may come from somebody else. What it is trusted for is therefore kept where only
the user writes: in the cache folder.
"""

# pathlib would normalise paths that must stay as they are.
# ruff: noqa: PTH116, PTH118, PTH206

import hashlib
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from zeroshot_cli.disk import cache_folder, read_own_notes, write_notes

_MOST = 1000  # folders of a manifest; more are known by the folders that they are in
_LEAST_DEPTH = 3


def remember(manifest: str, folders: Iterable[str]) -> None:
    """Note that files were sorted from these folders, which are absolute and without links."""
    known = _tops([*folders_of(manifest), *folders])
    for notes in _notes(manifest):
        write_notes(notes, {"manifest": manifest, "folders": known})


def folders_of(manifest: str) -> Sequence[str]:
    """Return the folders that files of a manifest came from; none where this user did not sort them on this machine."""
    for notes in _notes(manifest):
        folders = read_own_notes(notes).get("folders")
        if isinstance(folders, list):
            return [folder for folder in folders if isinstance(folder, str)]
    return []


def is_inside(path: str, folders: Iterable[str]) -> bool:
    """Return whether a path is below one of the folders."""
    return any(path.startswith(folder.rstrip(os.sep) + os.sep) for folder in folders)


def _notes(manifest: str) -> list[Path]:
    """Return where a manifest is known, by its inode and by its path: one stays if it is renamed or replaced."""
    try:
        names = [str(os.stat(manifest).st_ino), hashlib.sha256(os.fsencode(manifest)).hexdigest()[:24]]
        return [cache_folder() / "sorted" / f"{name}.json" for name in names]
    except OSError:
        return []


def _tops(folders: Iterable[str]) -> list[str]:
    """Return the folders, or where there are many, those that they are in."""
    tops = set(folders)
    depth = max((folder.count(os.sep) for folder in tops), default=0)
    while len(tops) > _MOST and depth > _LEAST_DEPTH:
        depth -= 1
        tops = {os.sep.join(folder.split(os.sep)[: depth + 1]) for folder in tops}
    return sorted(tops)[:_MOST]
