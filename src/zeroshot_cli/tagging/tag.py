"""Write labels as keywords into XMP sidecars; untag.py undoes it."""

# pathlib would normalise paths that must stay as they are.
# ruff: noqa: PTH108, PTH114, PTH120

import errno
import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from zeroshot_cli.disk import replacing
from zeroshot_cli.display import counted
from zeroshot_cli.errors import UsageError
from zeroshot_cli.records import SkippedImage
from zeroshot_cli.results.found import readable_results
from zeroshot_cli.tagging.embed import check_exiftool, embed, failure, images_of
from zeroshot_cli.tagging.keywords import Keywords, among, keywords_of, new_keywords
from zeroshot_cli.tagging.record import (
    Entry,
    Record,
    digest,
    former,
    open_record,
    read_entries,
    read_if_there,
    record_of,
)
from zeroshot_cli.tagging.settings import Action, TagSettings, near
from zeroshot_cli.tagging.wanted import Wanted, read_wanted, shared_sentence, sidecar_of
from zeroshot_cli.tagging.xmp import NotXmp, Xmp, new_xmp

_FULL = (errno.ENOSPC, errno.EDQUOT)


@dataclass(frozen=True, slots=True)
class Change:
    """What is to become of one sidecar: its bytes now, before any of ours, and then; None where there is no file.

    `keywords` are ours that it is to have, and `added` those of them that are not the user's anyway. `edited` says that
    another program changed it since ours.
    """

    sidecar: str
    data: bytes | None
    base: bytes | None
    after: bytes | None
    keywords: Keywords
    added: Keywords
    edited: bool

    @property
    def action(self) -> Action:
        """What becomes of the sidecar."""
        if self.after == self.data:
            return Action.UNCHANGED
        if not self.added:
            return Action.RESTORED
        return Action.NEW if self.base is None else Action.MERGED


@dataclass(slots=True)
class Tagged:
    """What became of the sidecars, or the images, and what is to be said of some of them."""

    wanted: Wanted
    kind: str = "sidecar"
    changes: list[tuple[str, Action, Keywords]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    failed: list[SkippedImage] = field(default_factory=list)

    def count(self, *actions: Action) -> int:
        """Return how many sidecars had one of these actions."""
        return sum(action in actions for _, action, _ in self.changes)

    def sentence(self, *, dry_run: bool = False) -> str:
        """Return the counts as a sentence."""
        new, merged = self.count(Action.NEW), self.count(Action.MERGED)
        parts = [f"{counted(new + merged, self.kind)} {'would be ' * dry_run}written"]
        if new and merged:
            parts[0] += f" ({new} new)"
        if restored := self.count(Action.RESTORED):
            parts.append(f"{restored} without their former keywords")
        if unchanged := self.count(Action.UNCHANGED):
            parts.append(f"{unchanged} unchanged")
        if self.failed or self.wanted.missing:
            parts.append(f"{len(self.failed) + len(self.wanted.missing)} not written")
        return f"{', '.join(parts)}{self.wanted.passed_over()}."


def tag(
    results: Sequence[Path],
    settings: TagSettings,
    *,
    dry_run: bool = False,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> Tagged:
    """Write the labels of images into sidecars or into them, and keep a record beside the first of the results.

    What an earlier call with the same first results wrote is replaced; called again after it was killed, it continues.
    Raises UsageError if the record or a disk cannot be written, and what `read_wanted` raises; a single sidecar that
    cannot be written is in `failed`.
    """
    results = [*map(readable_results, results)]
    wanted = read_wanted(results, settings)
    tagged = Tagged(wanted, "image" if settings.embed else "sidecar")
    if settings.embed:
        check_exiftool()
    files = images_of(wanted) if settings.embed else _sidecars(wanted, settings, tagged.notes)
    place = record_of(results[0])

    def write(entries: Mapping[str, list[Entry]], record: Record | None) -> None:
        entries = _of_kind(entries, embedded=settings.embed)
        if settings.embed:
            tagged.changes.extend(embed(files, entries, record, tagged.failed, on_progress))
        else:
            tagged.changes.extend(_write(files, entries, record, tagged, on_progress))

    if dry_run:
        write(read_entries(place), None)
        return tagged
    with open_record(place, create=True) as record:
        record.trust(files)
        write(record.entries, record)
    return tagged


def _of_kind(entries: Mapping[str, list[Entry]], *, embedded: bool) -> dict[str, list[Entry]]:
    """Return the changes of images, or those of sidecars: each has its own way to be undone."""
    return {path: each for path, each in entries.items() if bool(each[0].original) is embedded}


def _write(
    sidecars: Mapping[str, Keywords],
    entries: Mapping[str, Sequence[Entry]],
    record: Record | None,
    tagged: Tagged,
    on_progress: Callable[[int, int], None],
) -> Iterator[tuple[str, Action, Keywords]]:
    """Write keywords into sidecars, and yield what became of each; nothing is written without a record."""
    for change in _changes(sidecars, entries, tagged.failed, on_progress):
        try:
            if record is not None:
                _apply(change, record)
        except OSError as error:
            tagged.failed.append(failure(change.sidecar, error))
            continue
        yield change.sidecar, change.action, change.keywords
        if change.edited:
            tagged.notes.append(f"{near(change.sidecar)} was changed by another program; all that it wrote is kept")


def _sidecars(wanted: Wanted, settings: TagSettings, notes: list[str]) -> dict[str, Keywords]:
    """Return the keywords of each sidecar, and note those that belong to several images."""
    images: dict[str, list[str]] = {}
    for image in wanted.images:
        images.setdefault(sidecar_of(image, settings.naming), []).append(image)
    notes += [shared_sentence(sidecar, those) for sidecar, those in images.items() if len(those) > 1]
    return {
        sidecar: keywords_of(path for image in those for path in wanted.images[image])
        for sidecar, those in images.items()
    }


def _changes(
    sidecars: Mapping[str, Keywords],
    entries: Mapping[str, Sequence[Entry]],
    failed: list[SkippedImage],
    on_progress: Callable[[int, int], None],
) -> Iterator[Change]:
    """Yield what becomes of each sidecar, and of those that had keywords and are to have none."""
    paths = [*dict.fromkeys([*sidecars, *entries])]
    locked: Counter[str] = Counter()
    for done, path in enumerate(paths, start=1):
        try:
            change = change_of(path, entries.get(path, ()), sidecars.get(path, {}))
            if change.action is not Action.UNCHANGED:
                require_writable(path)
            if change.keywords or entries.get(path):
                yield change
        except LockedFolder as error:
            locked[str(error)] += 1
        except OSError as error:
            failed.append(failure(path, error))
        except NotXmp as problem:
            failed.append(SkippedImage(path, f"left as it is: {problem}"))
        on_progress(done, len(paths))
    failed += locked_folders(locked)


def change_of(path: str, entries: Sequence[Entry], keywords: Keywords) -> Change:
    """Return what becomes of a sidecar that is to have these keywords of ours, and no others of ours.

    Raises OSError, and NotXmp for a sidecar that is to be left as it is.
    """
    data = read_if_there(path)
    if data is None and os.path.islink(path):
        raise OSError(errno.ENOENT, "it is a link that leads nowhere")
    was = former(entries, data)
    base = was.data
    if was.edited and base is not None:
        base = _without_ours(base, entries)
    after = base
    added: Keywords = {}
    if any(keywords.values()):
        xmp = new_xmp() if base is None else Xmp(base)
        added, copied = new_keywords(xmp.keywords, keywords)
        after = xmp.adding(copied, added) if added else base
    ours = {each: texts for each, texts in keywords.items() if texts}
    return Change(path, data, base, after, ours, added, was.edited)


def _without_ours(data: bytes, entries: Iterable[Entry]) -> bytes | None:
    """Return an edited sidecar without our keywords; None where it was ours and nothing else is in it.

    Of several changes the newest counts that shows: a killed process may not have made the last.
    """
    xmp = Xmp(data)
    for entry in reversed([*entries]):
        if any(among(text, xmp.keywords.get(each, ())) for each, texts in entry.keywords.items() for text in texts):
            data = xmp.removing(entry.keywords)
            return None if Xmp(data).is_bare else data
    return data


def _apply(change: Change, record: Record) -> None:
    """Write down a change, and make it."""
    path, entries = change.sidecar, record.entries.get(change.sidecar, [])
    if change.added:
        assert change.after is not None
        entry = Entry(path, change.base, digest(change.after), change.added)
        if not any((each.before, each.after) == (entry.before, entry.after) for each in entries):
            record.append(entry)
    if change.after != change.data:
        write_sidecar(path, change.after)
    if not change.added and entries:
        record.undone(path)


class LockedFolder(OSError):
    """A folder that cannot be written; the text is its path."""


def require_writable(path: str) -> None:
    """Raise LockedFolder or OSError where a sidecar cannot be replaced: renaming would not mind a read-only file."""
    effective = os.access in os.supports_effective_ids
    real = os.path.realpath(path)
    if not os.access(os.path.dirname(real), os.W_OK | os.X_OK, effective_ids=effective):
        raise LockedFolder(os.path.dirname(path))
    if os.path.lexists(real) and not os.access(real, os.W_OK, effective_ids=effective):
        raise OSError(errno.EACCES, "it is read-only")


def locked_folders(counts: Mapping[str, int]) -> list[SkippedImage]:
    """Return one sentence for each folder that cannot be written, however many sidecars are in it."""
    return [
        SkippedImage(folder, f"the folder is read-only, so {counted(count, 'sidecar')} in it cannot be written")
        for folder, count in counts.items()
    ]


def write_sidecar(path: str, data: bytes | None) -> None:
    """Replace a sidecar with its permissions, or remove it for None; raises OSError, UsageError for a full disk."""
    if data is None:
        os.unlink(path)
        return
    try:
        with replacing(Path(path)) as unfinished:
            unfinished.write_bytes(data)
            with suppress(FileNotFoundError):
                shutil.copymode(path, unfinished)
    except UsageError as error:
        if isinstance(error.__cause__, OSError) and error.__cause__.errno not in _FULL:
            raise error.__cause__ from None
        raise
