"""Undo what tag.py did, by its record."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from zeroshot_cli.display import counted
from zeroshot_cli.records import SkippedImage
from zeroshot_cli.tagging.embed import Failed, failure, restore
from zeroshot_cli.tagging.record import Record, open_record, record_of
from zeroshot_cli.tagging.settings import Action
from zeroshot_cli.tagging.tag import (
    LockedFolder,
    change_of,
    locked_folders,
    require_writable,
    write_sidecar,
)
from zeroshot_cli.tagging.xmp import NotXmp


@dataclass(slots=True)
class Untagged:
    """How many sidecars were restored and removed, and how many `images` restored.

    Others were `edited` in between, or `kept` as they are, and why.
    """

    restored: int = 0
    images: int = 0
    removed: int = 0
    edited: list[str] = field(default_factory=list)
    kept: list[SkippedImage] = field(default_factory=list)

    def sentence(self) -> str:
        """Return the counts as a sentence."""
        parts = [f"{counted(self.restored, 'sidecar')} restored", f"{self.removed} removed"]
        if self.images:
            parts.append(f"{counted(self.images, 'image')} restored")
        if self.edited:
            parts.append(f"{len(self.edited)} changed by other programs and kept without our keywords")
        if self.kept:
            parts.append(f"{len(self.kept)} left unchanged")
        return ", ".join(parts) + "."


def untag(
    path: Path, *, elsewhere: bool = False, on_progress: Callable[[int, int], None] = lambda done, total: None
) -> Untagged:
    """Restore sidecars to the byte, and remove those that `tag` made, by the record beside results or by its own name.

    A sidecar that was edited since loses our keywords and nothing else. When all is undone the record is renamed;
    called again, it continues where it stopped. Raises UsageError if there is no record, or unless `elsewhere` where it
    names a folder that this user did not tag in; InputError if it is damaged.
    """
    untagged = Untagged()
    locked: Counter[str] = Counter()
    with open_record(record_of(path)) as record:
        if not elsewhere:
            record.check_known()
        total = len(record.entries)
        for done, sidecar in enumerate([*record.entries], start=1):
            try:
                _undo(sidecar, record, untagged)
            except LockedFolder as error:
                locked[str(error)] += 1
            except (OSError, NotXmp, Failed) as problem:
                untagged.kept.append(failure(sidecar, problem))
            on_progress(done, total)
        untagged.kept += locked_folders(locked)
        if not record.entries:
            record.retire()
    return untagged


def _undo(sidecar: str, record: Record, untagged: Untagged) -> None:
    if record.entries[sidecar][0].original:
        if restore(sidecar, record.entries[sidecar]):
            untagged.images += 1
        else:
            untagged.edited.append(sidecar)
        record.undone(sidecar)
        return
    change = change_of(sidecar, record.entries[sidecar], {})
    if change.action is not Action.UNCHANGED:
        require_writable(sidecar)
        write_sidecar(sidecar, change.after)
    record.undone(sidecar)
    if change.edited:
        untagged.edited.append(sidecar)
    elif change.after is None:
        untagged.removed += change.data is not None
    else:
        untagged.restored += 1
