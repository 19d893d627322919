"""Data sets with a name: downloaded once, checked, unpacked, and from then on read from the disk alone.

In the folder of data sets a set has a folder of its own with a small note, `zeroshot.json`, and the folder gets its
name only when it is whole; partial files are kept apart, in `.incoming` and `.unpacking`. What a user brings is used
where it is: the archive, its folder, or a copy of the repository.
"""

# pathlib's questions raise OSError where a name is too long or a folder is locked; opening names the reason.
# ruff: noqa: PTH112

import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from zeroshot_cli.datasets import wds
from zeroshot_cli.datasets.archives import need_room, storage_errors, unpack
from zeroshot_cli.datasets.captioned import CaptionedImages, read_captioned
from zeroshot_cli.datasets.imagenet import read_imagenet
from zeroshot_cli.datasets.labelled import LabelledImages, read_labelled_folder
from zeroshot_cli.datasets.matching import match_classes
from zeroshot_cli.datasets.registry import Absent, Archive, KnownSet, Local, Shards
from zeroshot_cli.disk import cache_folder, expanded, finished_folder, read_notes, write_file
from zeroshot_cli.display import size_text
from zeroshot_cli.errors import DataError, UnavailableError, UsageError
from zeroshot_cli.hub.hashes import sha256_of
from zeroshot_cli.hub.repository import RemoteFile, Repository, fetch_file, is_offline, list_files, missing_bytes
from zeroshot_cli.words.labels import Label, Labels, read_labels

NOTE = "zeroshot.json"
_INCOMING, _UNPACKING, _LOCKS = ".incoming", ".unpacking", ".locks"
Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a set is, or will be, and how it may get there."""

    known: KnownSet
    root: Path
    offline: bool
    say: Say

    @property
    def folder(self) -> Path:
        return self.root / self.known.folder

    @property
    def incoming(self) -> Path:
        return self.root / _INCOMING / self.known.folder

    @property
    def templates(self) -> str:
        """The name of the file with the set's own templates."""
        return f"{self.known.folder}.txt"


def data_folder() -> Path:
    """Return the folder of data sets: ZEROSHOT_DATA_DIR, else `datasets` in the cache folder."""
    own = os.environ.get("ZEROSHOT_DATA_DIR")
    return expanded(own, of="ZEROSHOT_DATA_DIR") if own else cache_folder() / "datasets"


def open_known(known: KnownSet, *, data_dir: Path | None, offline: bool, say: Say) -> LabelledImages | CaptionedImages:
    """Read a data set with a name, after downloading it into `data_dir` unless it is there.

    `say` gets a line before a download. Raises UnavailableError for a set that is neither here nor can be downloaded,
    DataError for files that are damaged or another set's, UsageError for a folder that cannot be written.
    """
    source, root = known.source, data_dir or data_folder()
    if isinstance(source, Absent):
        raise UnavailableError(
            f"{known.name}: {source.why}, so zeroshot cannot download it; put its test images into a folder of class "
            f"folders, and run zeroshot eval FOLDER --labels {known.labels} --prompts {known.prompts}"
        )
    if isinstance(source, Local):
        folder = data_dir or root / known.folder
        if data_dir is None and not os.path.isdir(folder):
            raise UnavailableError(f"{known.name} cannot be fetched; {source.advice[0].lower()}{source.advice[1:-1]}")
        return read_imagenet(folder)
    place = _Place(known, root, is_offline(offline), say)
    return _open_archive(place, source) if isinstance(source, Archive) else _open_shards(place, source)


# an archive of numbered folders


def _open_archive(place: _Place, source: Archive) -> LabelledImages:
    brought = place.root / source.top
    folder = brought if os.path.isdir(brought) else _ready(place, lambda: _bring_archive(place, source)) / source.top
    return _read_numbered(place, folder, read_labels(place.known.labels or "imagenet"))


def _bring_archive(place: _Place, source: Archive) -> None:
    brought, incoming = place.root / source.name, place.incoming / source.name
    url = Repository(source.repo, source.revision, "").url(source.name)
    advice = f"fetch {url} by other means and put it into {place.root}"
    repository = Repository(source.repo, source.revision, advice)
    file = RemoteFile(source.name, source.bytes, source.sha256)
    is_brought = brought.is_file()
    if is_brought:
        place.say(f"checking {brought}")
        if sha256_of(brought) != source.sha256:
            raise DataError(
                f"{brought}: is not {place.known.title} as published (its SHA-256 is not {source.sha256[:12]}…); "
                "remove it, or download it again"
            )
    else:
        _start(place, repository, source.bytes, missing_bytes(file, incoming))
        fetch_file(repository, file, incoming)
    with _unpacking(place) as folder:
        images = unpack(brought if is_brought else incoming, folder, top=source.top)
        _write_note(folder, place.known, repository, {"images": images, "sha256": source.sha256})


# shards


def _open_shards(place: _Place, source: Shards) -> LabelledImages | CaptionedImages:
    folder = _ready(place, lambda: _bring_shards(place, source))
    if _note(folder).get("task") == wds.RETRIEVAL:
        captioned = read_captioned(folder / wds.IMAGES)
        return replace(captioned, name=place.known.name, as_stored=True, known=place.known.name)
    names = (folder / wds.CLASSES).read_text(encoding="utf-8").splitlines()
    found = _read_numbered(place, folder / wds.IMAGES, _labels(place.known, names))
    templates = folder / place.templates
    return replace(found, prompts=place.known.prompts or (str(templates) if templates.is_file() else None))


def _labels(known: KnownSet, names: list[str]) -> Labels:
    """Return the set's classes in its own order, with the names of CLIP's authors where every name is one of theirs."""
    own = Labels(tuple(map(Label, names)))
    if known.labels is None:
        return own
    theirs = read_labels(known.labels)
    matches = match_classes(names, theirs)
    places = [matches[name] for name in names]
    if None in places or len(set(places)) != len(names):
        return own
    return Labels(tuple(theirs.items[place] for place in places if place is not None))


def _bring_shards(place: _Place, source: Shards) -> None:
    brought = place.root / source.repo.rpartition("/")[2]
    advice = (
        f"on a machine with a network, run hf download {source.repo} --repo-type dataset --local-dir "
        f"{brought.name}, and put that folder at {brought}"
    )
    repository = Repository(source.repo, source.revision, advice)
    is_brought = os.path.isdir(brought / "test")
    more = {} if is_brought else _fetch_shards(place, repository)
    with _unpacking(place) as folder:
        made = wds.convert(brought if is_brought else place.incoming, folder, templates_name=place.templates)
        _write_note(folder, place.known, repository, {"images": made.images, "task": made.task, **more})


def _fetch_shards(place: _Place, repository: Repository) -> dict[str, object]:
    """Download what evaluation needs of the repository; return its commit, for the note."""
    _stop_offline(place, repository)
    commit, files = list_files(repository)
    wanted = [file for file in files if wds.is_wanted(file.name)]
    if not any(file.name == wds.SHARD_COUNT for file in wanted):
        raise UnavailableError(
            f"{repository.name} has no {wds.SHARD_COUNT}, so it is not a data set in CLIP_benchmark's layout"
        )
    _forget_another(place, commit)
    missing = sum(missing_bytes(file, place.incoming / file.name) for file in wanted)
    _start(place, repository, sum(file.size or 0 for file in wanted), missing)
    at_commit = replace(repository, revision=commit)
    for file in sorted(
        wanted, key=lambda file: file.size or 0
    ):  # names come before images: a failure then costs little
        fetch_file(at_commit, file, place.incoming / file.name)
    return {"commit": commit}


def _forget_another(place: _Place, commit: str) -> None:
    """Remove what was downloaded of another commit."""
    stamp = place.incoming / "commit"
    if place.incoming.is_dir() and not (stamp.is_file() and stamp.read_text(encoding="utf-8") == commit):
        shutil.rmtree(place.incoming)
    place.incoming.mkdir(parents=True, exist_ok=True)
    write_file(stamp, commit, own=True)


# downloading and unpacking


def _ready(place: _Place, bring: Callable[[], None]) -> Path:
    """Return the set's folder, which `bring` makes unless it is there; one process at a time makes it."""
    if _is_whole(place):
        return place.folder
    with _locked(place):
        if not _is_whole(place):
            if os.path.lexists(place.folder):
                raise UsageError(
                    f"{place.folder}: exists, but zeroshot did not make it from {place.known.name}; evaluate it by its "
                    "path, move it away, or give another --data-dir"
                )
            bring()
            shutil.rmtree(place.incoming, ignore_errors=True)
    return place.folder


def _is_whole(place: _Place) -> bool:
    source = place.known.source
    assert isinstance(source, Archive | Shards)
    return _note(place.folder).get("repository") == source.repo


@contextmanager
def _locked(place: _Place) -> Iterator[None]:
    from huggingface_hub.utils import WeakFileLock  # type: ignore[attr-defined]

    lock = place.root / _LOCKS / f"{place.known.folder}.lock"
    with storage_errors(place.root):
        lock.parent.mkdir(parents=True, exist_ok=True)
        with WeakFileLock(lock):
            yield


@contextmanager
def _unpacking(place: _Place) -> Iterator[Path]:
    with finished_folder(place.folder, place.root / _UNPACKING / place.known.folder) as folder:
        place.say(f"unpacking {place.known.name} into {place.folder}")
        yield folder


def _start(place: _Place, repository: Repository, size: int, missing: int) -> None:
    """Say what is about to be downloaded, of `size` bytes, of which some may be `missing`.

    Raises UnavailableError where downloads are off, UsageError for too small a disk: archive and images are both there
    for a time, and images hardly shrink when packed.
    """
    _stop_offline(place, repository)
    place.incoming.mkdir(parents=True, exist_ok=True)
    need_room(missing + size, place.root)
    rest = f", {size_text(size - missing)} of it here already" if missing < size else ""
    place.say(
        f"downloading {place.known.title} ({size_text(size)}{rest}; licence: {place.known.licence}) "
        f"from {repository.address} to {place.root}"
    )


def _stop_offline(place: _Place, repository: Repository) -> None:
    if place.offline:
        raise UnavailableError(f"{place.known.name} is not in {place.root}, and downloads are off: {repository.advice}")


def _write_note(folder: Path, known: KnownSet, repository: Repository, more: dict[str, object]) -> None:
    note: dict[str, object] = {"name": known.name, "title": known.title, "licence": known.licence}
    note |= {"repository": repository.name, "revision": repository.revision}
    write_file(folder / NOTE, json.dumps(note | more, indent=2) + "\n", own=True)


def _note(folder: Path) -> dict[str, object]:
    """Return what the note of a whole set says; empty where there is none."""
    return read_notes(folder / NOTE)


def _read_numbered(place: _Place, folder: Path, labels: Labels) -> LabelledImages:
    """Read folders that are named by label index, whatever the labels are.

    Raises DataError where images are missing: figures of a part would pass for those of the whole set.
    """
    known = place.known
    numbered = Labels(tuple(replace(label, folders=(str(index),)) for index, label in enumerate(labels)))
    found = read_labelled_folder(folder, numbered)
    expected = _note(place.folder).get("images") or known.images
    if expected is not None and len(found) != expected:
        raise DataError(
            f"{found.name}: has {len(found):,} images where {known.title} has {expected:,}; remove the folder, and "
            "the next run creates it again"
        )
    return replace(found, name=known.name, labels=labels, as_stored=True, prompts=known.prompts, known=known.name)
