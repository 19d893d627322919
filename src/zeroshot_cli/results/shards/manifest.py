"""The images of a run as a sequence on disk: its memory does not grow with their number."""

import heapq
import os
import tempfile
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import BinaryIO, overload

from zeroshot_cli.disk import replacing, writing
from zeroshot_cli.records import SkippedImage
from zeroshot_cli.results.formats import to_bytes

Item = str | SkippedImage
_BLOCK = 1024  # entries in memory at once
_PLACE = array("Q").itemsize


class Manifest(Sequence[Item]):
    """Images, or why they are none, in two files without a name: the entries, and where each begins.

    An entry is a path, NUL, the reason of what is no image, and NUL. A part of a manifest is a view of it. Several
    iterations may go on at once, in one thread. Close the first one; parts end with it.
    """

    def __init__(self, entries: BinaryIO, places: BinaryIO, span: range) -> None:
        self._entries, self._places, self._span = entries, places, span

    @classmethod
    def of(cls, runs: Iterable[Iterable[Item]], folder: Path) -> "Manifest":
        """Write runs of images, each in order of path, into files in `folder`; a single run keeps its own order.

        Raises UsageError where they cannot be written.
        """
        with writing(str(folder)):
            entries, places = (tempfile.TemporaryFile(dir=folder) for _ in range(2))  # noqa: SIM115
            whole = cls(entries, places, range(0))
            try:
                ends = whole._fill(runs)
                several = [whole[start:end] for start, end in zip([0, *ends], ends, strict=False) if end > start]
                if len(several) < 2:
                    return whole
                ordered = cls.of([heapq.merge(*several, key=_path_of)], folder)
            except BaseException:
                whole.close()
                raise
        whole.close()
        return ordered

    def _fill(self, runs: Iterable[Iterable[Item]]) -> list[int]:
        """Write all entries; return how many there are at the end of each run."""
        place = 0
        block, ends, count = array("Q", [0]), list[int](), 0
        for run in runs:
            for item in run:
                entry = _entry(item)
                self._entries.write(entry)
                place += len(entry)
                block.append(place)
                count += 1
                if len(block) >= _BLOCK:
                    self._places.write(block.tobytes())
                    del block[:]
            ends.append(count)
        self._places.write(block.tobytes())
        self._entries.flush()  # a disk that is full says so here
        self._places.flush()
        self._span = range(count)
        return ends

    def __len__(self) -> int:
        return len(self._span)

    @overload
    def __getitem__(self, place: int) -> Item: ...
    @overload
    def __getitem__(self, place: slice) -> "Manifest": ...
    def __getitem__(self, place: int | slice) -> "Item | Manifest":
        if isinstance(place, slice):
            return Manifest(self._entries, self._places, self._span[place])
        number = self._span[place]
        return next(self._read(number, number + 1))

    def __iter__(self) -> Iterator[Item]:
        span = self._span
        if span.step != 1:
            yield from (self[place] for place in range(len(span)))
            return
        for start in range(span.start, span.stop, _BLOCK):
            yield from self._read(start, min(start + _BLOCK, span.stop))

    def _read(self, start: int, stop: int) -> Iterator[Item]:
        places = array("Q")
        self._places.seek(start * _PLACE)
        places.frombytes(self._places.read((stop - start + 1) * _PLACE))
        self._entries.seek(places[0])
        block = self._entries.read(places[-1] - places[0])
        for begin, end in pairwise(places):
            path, _, reason = block[begin - places[0] : end - places[0] - 1].rpartition(b"\0")
            name = os.fsdecode(path)
            yield SkippedImage(name, os.fsdecode(reason)) if reason else name

    def save(self, path: Path, shown: Callable[[str], str] = str) -> None:
        """Write the entries, with paths as they are `shown`, as a file of zeroshot's own; UsageError where it fails."""
        with replacing(path, own=True) as unfinished, unfinished.open("wb") as file, writing(str(path)):
            for item in self:
                file.write(_entry(item, shown))

    def close(self) -> None:
        """Remove the files."""
        self._entries.close()
        self._places.close()


def _path_of(item: Item) -> str:
    return item if isinstance(item, str) else item.path


def _entry(item: Item, shown: Callable[[str], str] = str) -> bytes:
    path, reason = (item, "") if isinstance(item, str) else (item.path, item.reason)
    return to_bytes(shown(path)) + b"\0" + to_bytes(reason) + b"\0"
