"""A run whose output is a folder: parts, which are Parquet files of so many images each, a record, and a manifest.

    part-000000000000-000000000511.parquet   the images 0 to 511, in the order of the manifest
    _manifest                                each image's path, NUL, why it is none, NUL
    _run.json                                the record of the run

A part's name says which images it has, its metadata how many of them were read, and the hash of their paths. It is
written beside its name and then renamed, so it is there only when it is whole, and who writes it twice writes the same
file twice. What begins with an underscore or a dot is no data for pyarrow, pandas and Spark.
"""

import os
import re
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any

from zeroshot_cli.disk import open_plain, refuse_link, writing
from zeroshot_cli.display import counted
from zeroshot_cli.errors import DataError, UsageError
from zeroshot_cli.records import Counts, Result
from zeroshot_cli.results.append_file import AppendFile
from zeroshot_cli.results.formats import more_columns
from zeroshot_cli.results.parquet import check_parquet, write_result_part
from zeroshot_cli.results.run_record import RunRecord, as_plain, check_resumable, read_record, write_record
from zeroshot_cli.results.shards.manifest import Item, Manifest
from zeroshot_cli.results.shards.shard import PathSet
from zeroshot_cli.results.summary import Tally

PART_IMAGES = 512
RECORD, MANIFEST, LOCK = "_run.json", "_manifest", "_lock"
_PART = re.compile(r"part-(\d{12})-(\d{12})\.parquet")
_UNFINISHED = re.compile(r"\.[0-9a-f]{12}\.unfinished")
_COUNTS = tuple(asdict(Counts()))


class Folder(type(Path())):  # type: ignore[misc]
    """The path of an output that is a folder, as the user named it."""


def part_name(images: range) -> str:
    """Return the name of the part that has these images."""
    return f"part-{images.start:012d}-{images.stop - 1:012d}.parquet"


def part_metadata(counts: Counts, paths: Iterable[str]) -> dict[str, str]:
    """Return what a part's metadata say: what became of its images, and the hash of their paths."""
    return {**{name: str(number) for name, number in asdict(counts).items()}, "paths": PathSet.of(paths).digest}


def read_part(path: Path, paths: Iterable[str]) -> Counts | None:
    """Return what became of the images of a part; None unless it is there, whole, and has these images."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with open_plain(path) as file:
            metadata = pq.read_schema(file).metadata or {}
        found = {name: metadata[name.encode()].decode() for name in (*_COUNTS, "paths")}
        counts = Counts(**{name: int(found[name]) for name in _COUNTS})
    except (OSError, ValueError, KeyError, pa.ArrowException):
        return None
    expected = PathSet.of(paths)
    return counts if found["paths"] == expected.digest and counts.images == expected.count else None


def has_readable(path: Path) -> bool:
    """Return whether a part has an image that could be read."""
    import pyarrow.parquet as pq

    with open_plain(path) as file:
        return (pq.read_schema(file).metadata or {}).get(b"classified") != b"0"


def is_part_folder(path: Path) -> bool:
    """Return whether a run has filled this folder with parts."""
    return os.path.isfile(path / RECORD)  # noqa: PTH113 (a locked folder is none)


def check_no_parts(path: Path) -> None:
    """Raise UsageError for a folder of parts, where a file of results is needed."""
    if is_part_folder(path):
        raise UsageError(f"{path} is a folder of parts; make one file of it: zeroshot merge {path} --output FILE.csv")


def parts_in(folder: Path) -> list[tuple[range, Path]]:
    """Return the parts that are in a folder, in order."""
    with os.scandir(folder) as listing:
        names = sorted(entry.name for entry in listing if _PART.fullmatch(entry.name))
    matches = ((name, _PART.fullmatch(name)) for name in names)
    return [(range(int(match[1]), int(match[2]) + 1), folder / name) for name, match in matches if match]


class Chosen(Sequence[Item]):
    """Those of all items that are in some ranges, in order: they can be counted and iterated."""

    def __init__(self, items: Sequence[Item], ranges: Sequence[range]) -> None:
        self._items, self.ranges = items, ranges

    def __len__(self) -> int:
        return sum(map(len, self.ranges))

    def __iter__(self) -> Iterator[Item]:
        return chain.from_iterable(self._items[each.start : each.stop] for each in self.ranges)

    def __getitem__(self, place: Any) -> Any:
        raise TypeError("chosen images have no places of their own")

    def numbered(self) -> Iterator[tuple[int, Item]]:
        """Yield each with its number among all items."""
        return zip(chain.from_iterable(self.ranges), self, strict=True)


Write = Callable[[range, Sequence[Any]], Counts]  # writes a part, and says what became of its images


class PartOutputs:
    """The open folder of a run, as `Outputs` is for files; it takes results in order, and writes each part when whole.

    `missing` are the images of the parts that are not there, `kept` counts those of the others.
    """

    complete = False

    def __init__(self, folder: Path, record: RunRecord, kept: Counts, missing: Sequence[range]) -> None:
        self.folder, self.kept, self.missing = folder, kept, tuple(missing)
        self.sinks: list[Any] = []
        self.tally = Tally()
        self.more = more_columns(record.settings)
        self.notes: tuple[str, ...] = ()
        self.written = [folder] * bool(missing)
        self._record = record

    @property
    def assumed(self) -> tuple[str, ...]:
        """What was assumed when the inputs of the run were read."""
        return self._record.assumed

    @property
    def resolved(self) -> Mapping[str, Any]:
        """What `auto` came to."""
        return self._record.resolved

    def remaining(self, items: Sequence[Item]) -> Sequence[Item]:
        """Return the images of the parts that are missing."""
        return Chosen(items, self.missing)

    def finish(self, counts: Counts, **_makers: object) -> None:
        """Mark the run complete, with the counts of all its images."""
        write_record(self.folder / RECORD, replace(self._record, complete=True, counts=counts))


class PartSink:
    """Takes what comes of the images of `missing` parts, in order, and writes each part when it has all of it."""

    def __init__(self, missing: Iterable[range], write: Write) -> None:
        self._missing, self._write = deque(missing), write
        self._waiting: list[Any] = []

    def write(self, items: Sequence[Any]) -> None:
        """Take a block."""
        self._waiting += items
        while self._missing and len(self._waiting) >= len(self._missing[0]):
            images = self._missing.popleft()
            self._write(images, self._waiting[: len(images)])
            del self._waiting[: len(images)]


def check_folder(folder: Path, *, overwrite: bool, resume: bool) -> None:
    """Raise UsageError now for a folder that a run cannot fill."""
    check_parquet()
    if overwrite and resume:
        raise UsageError("`--overwrite` starts over and `--resume` continues; give one of them")
    with writing(f"{folder}{os.sep}"):
        if not folder.parent.is_dir():
            raise UsageError(f"cannot write {folder}{os.sep}: there is no folder {folder.parent}; create it first")
        names = {each.name for each in folder.iterdir()} if os.path.lexists(folder) else set()
        for name in (RECORD, MANIFEST, LOCK):
            refuse_link(folder / name)
    if RECORD in names and not (overwrite or resume):
        raise UsageError(
            f"{folder} holds a run; --resume continues it, --overwrite starts over, or name another folder"
        )
    if RECORD not in names and not overwrite and any(map(_PART.fullmatch, names)):
        raise UsageError(
            f"{folder} has parts, and no record of their run, {RECORD}; put it back, name another folder, or start "
            "over with --overwrite"
        )
    if foreign := sorted(name for name in names if not _is_own(name)):
        raise UsageError(
            f"{folder} is not empty, and zeroshot did not write {foreign[0]} in it; name a new folder for the parts"
        )


def _is_own(name: str) -> bool:
    return name in (RECORD, MANIFEST, LOCK) or bool(_PART.fullmatch(name) or _UNFINISHED.fullmatch(name))


def earlier_record(folder: Path) -> RunRecord | None:
    """Return the record of the run in a folder, None if there is none; UsageError if it is damaged."""
    return read_record(folder / RECORD)


def whole_parts(folder: Path, images: int) -> list[Path]:
    """Return the parts of a finished run of so many images; DataError where some are missing."""
    found, at = parts_in(folder), 0
    for part, _ in found:
        if part.start != at:
            break
        at = part.stop
    if at != images or (found and found[-1][0].stop != images):
        raise DataError(f"{folder} is incomplete: image {at + 1} is in no part; run it again with --resume")
    return [path for _, path in found]


@contextmanager
def open_parts(
    folder: Path,
    record: RunRecord,
    items: Manifest,
    *,
    shown: Callable[[str], str] = str,
    overwrite: bool = False,
    resume: bool = False,
) -> Iterator[PartOutputs]:
    """Open a folder that `check_folder` has passed, for a run on these images; none else may write it meanwhile.

    Parts have `record.resolved["part_images"]` images. With `resume`, the settings must equal those of the earlier run,
    and parts that are whole and have their images stay. `shown` is the path of an image as results have it. Raises
    UsageError where the folder cannot be written, another run holds it, or it cannot be resumed.
    """
    record = replace(record, settings=as_plain(record.settings), resolved=as_plain(record.resolved))
    with writing(str(folder)):
        folder.mkdir(exist_ok=True)
    lock = AppendFile(folder / LOCK, own=True)
    with closing(lock):
        lock.lock()
        earlier = earlier_record(folder) if resume else None
        if earlier is not None:
            check_resumable(earlier.settings, record.settings, str(folder))
        for name in os.listdir(folder):  # noqa: PTH208
            if _UNFINISHED.fullmatch(name) or (earlier is None and _is_own(name) and name != LOCK):
                with writing(str(folder / name)):
                    (folder / name).unlink()
        size = int(record.resolved["part_images"])
        ranges = [range(start, min(start + size, len(items))) for start in range(0, len(items), size)]
        kept, missing = Counts(), list[range]()
        for images in ranges:
            paths = (shown(item if isinstance(item, str) else item.path) for item in items[images.start : images.stop])
            found_part = read_part(folder / part_name(images), paths) if earlier is not None else None
            if found_part is None:
                missing.append(images)
            else:
                kept = kept.with_counts(found_part)
        write_record(folder / RECORD, replace(earlier or record, complete=False, counts=None))
        items.save(folder / MANIFEST, shown)
        outputs = PartOutputs(folder, earlier or record, kept, missing)
        if earlier is not None:
            outputs.notes = (_resumed(folder, kept, missing),)
        yield outputs


def _resumed(folder: Path, kept: Counts, missing: Sequence[range]) -> str:
    if not missing:
        return f"--resume: {folder} is finished, with {counted(kept.images, 'image')}; nothing to do"
    return f"--resume: kept {counted(kept.images, 'image')} of {folder}; {counted(len(missing), 'part')} still to do"


@dataclass(frozen=True, slots=True)
class ResultParts:
    """Writes parts of results, in this process or in another; `more` are the columns that not every run has."""

    folder: Path
    more: tuple[str, ...]

    def __call__(self, images: range, items: Sequence[Result]) -> Counts:
        """Write the part of these images; return what became of them. UsageError where it cannot be written."""
        counts = Counts().plus(items)
        metadata = part_metadata(counts, (item.path for item in items))
        write_result_part(self.folder / part_name(images), items, metadata, more=self.more)
        return counts
