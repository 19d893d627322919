"""Undo what sort.py did, by its manifest."""

# pathlib would normalise paths that must stay as they are.
# ruff: noqa: PTH103, PTH106, PTH110, PTH112, PTH114, PTH118, PTH120

import os
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from zeroshot_cli.display import counted
from zeroshot_cli.errors import UsageError
from zeroshot_cli.filing.known import folders_of, is_inside, remember
from zeroshot_cli.filing.manifest import MANIFEST, Entry, SortMode, open_manifest
from zeroshot_cli.filing.placing import (
    UNFINISHED,
    absolute,
    error_text,
    has_link,
    is_link_to,
    is_regular,
    is_there,
    move_file,
    move_link,
    remove_if_there,
    same_content,
    same_place,
)
from zeroshot_cli.records import SkippedImage


@dataclass(frozen=True, slots=True)
class Undone:
    """How many files were moved back and removed, and which were `kept`, and why."""

    moved_back: int
    removed: int
    kept: tuple[SkippedImage, ...]

    def sentence(self) -> str:
        """Return the counts as a sentence."""
        parts = [f"{counted(self.moved_back, 'file')} moved back", f"{self.removed} copies and links removed"]
        if self.kept:
            parts.append(f"{len(self.kept)} left unchanged")
        return ", ".join(parts) + "."


class _CannotUndo(Exception):
    """The text is the reason."""


def undo(manifest: Path, *, elsewhere: bool = False) -> Undone:
    """Move files back and remove copies and links, newest first; nothing is overwritten, nothing changed is removed.

    A folder stands for the manifest in it. When all is undone the manifest is renamed; otherwise it keeps the rest.
    Called again, it continues where it stopped. Raises UsageError if the manifest is missing or cannot be written, or
    unless `elsewhere` names a folder that this user did not sort from; InputError if the file is not a manifest.
    """
    path = os.path.join(manifest, MANIFEST) if os.path.isdir(manifest) else os.fspath(manifest)
    if not os.path.lexists(path):
        raise UsageError(f"there is no manifest {path}; name the manifest.csv that --sort-into wrote")

    def check(entries: Sequence[Entry]) -> None:
        if not elsewhere:
            _check_known(path, entries)

    with open_manifest(path, check=check) as opened:
        known = folders_of(opened.path)
        undone, left = _undo_all(opened.entries, opened.root)
        _remove_empty(opened.root, opened.entries)
        if left:
            opened.replace(left)
            remember(opened.path, known)
        else:
            opened.retire()
    return undone


def _check_known(path: str, entries: Sequence[Entry]) -> None:
    """Raise UsageError if a manifest, which anybody can write, leads to folders that this user did not sort from."""
    path = absolute(path)
    known = [*folders_of(path), os.path.dirname(path)]
    unknown = [entry.source for entry in entries if not is_inside(entry.source, known)]
    if unknown:
        raise UsageError(
            f"{path} names {len(unknown)} of {counted(len(entries), 'file')} in folders that you did not sort from on "
            f"this machine, the first is {unknown[0]}; add --yes if you trust where it comes from"
        )


def _undo_all(entries: Sequence[Entry], root: str) -> tuple[Undone, list[Entry]]:
    """Undo what can be undone; return the counts, and the remaining entries in their order."""
    counts = dict.fromkeys(SortMode, 0)
    left: list[Entry] = []
    kept: dict[str, SkippedImage] = {}
    for entry in reversed(entries):
        target = os.path.join(root, entry.target)
        if target in kept:  # the file there belongs to a newer entry
            left.append(entry)
            continue
        try:
            counts[entry.action] += _undo(entry, target)
        except (_CannotUndo, OSError) as problem:
            left.append(entry)
            kept[target] = SkippedImage(target, _reason(problem))
    moved_back = counts.pop(SortMode.MOVE)
    return Undone(moved_back, sum(counts.values()), tuple(kept.values())), left[::-1]


def _reason(problem: Exception) -> str:
    return error_text(problem) if isinstance(problem, OSError) else str(problem)


def _undo(entry: Entry, target: str) -> bool:
    """Undo one operation; False if there is nothing to undo."""
    if os.path.islink(os.path.dirname(target)):
        raise _CannotUndo("its folder is a link, which may lead anywhere")
    if has_link(os.path.dirname(entry.source)):
        raise _CannotUndo(f"a link is on the way to {entry.source}")
    if entry.action is SortMode.MOVE:
        return _move_back(entry, target)
    if not is_there(target):
        return False
    if entry.action is SortMode.LINK:
        if not is_link_to(target, entry.source):
            raise _CannotUndo("no longer the link that was created")
    elif not os.path.exists(entry.source):
        raise _CannotUndo(f"the only copy: {entry.source} is missing")
    elif same_place(entry.source, target):
        raise _CannotUndo(f"the only copy: {entry.source} leads here")
    elif not (is_regular(target) and same_content(entry.source, target)):
        raise _CannotUndo(f"no longer the same as {entry.source}")
    remove_if_there(target)
    return True


def _move_back(entry: Entry, target: str) -> bool:
    if not is_there(target):
        if not is_there(entry.source):
            raise _CannotUndo(f"missing, and not at {entry.source} either")
        return False
    if same_place(entry.source, target):  # the folders were moved by hand: the file is already back
        return False
    if not (os.path.islink(target) if entry.link else is_regular(target)):
        raise _CannotUndo("no longer the file that was moved")
    if is_there(entry.source):
        if not _is_back(entry, target):
            raise _CannotUndo(f"another file is now at {entry.source}")
        remove_if_there(os.path.join(os.path.dirname(entry.source), UNFINISHED))
        remove_if_there(target)
        return True
    os.makedirs(os.path.dirname(entry.source), exist_ok=True)
    if entry.link:
        move_link(target, entry.source, entry.link)
    else:
        move_file(target, entry.source)
    return True


def _is_back(entry: Entry, target: str) -> bool:
    """Return whether the file is already back, and still here because an earlier call was interrupted."""
    if entry.link:
        return is_link_to(entry.source, entry.link)
    return is_regular(entry.source) and same_content(entry.source, target)


def _remove_empty(root: str, entries: Iterable[Entry]) -> None:
    for folder in {entry.target.partition("/")[0] for entry in entries}:
        with suppress(OSError):  # not empty, or missing
            os.rmdir(os.path.join(root, folder))
