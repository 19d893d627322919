"""Merge the embeddings of shards into the file that one run would have written, in order of path."""

import json
import os
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from heapq import merge
from itertools import chain, islice
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open

from zeroshot_cli.disk import open_plain, similar_path
from zeroshot_cli.documents import load_json
from zeroshot_cli.embed.embeddings_file import (
    EmbeddingsFile,
    EmbeddingsFormat,
    Row,
    Subject,
    check_embeddings_file,
    compared,
)
from zeroshot_cli.errors import DataError, UsageError
from zeroshot_cli.results.formats import format_of
from zeroshot_cli.results.parquet import check_parquet
from zeroshot_cli.results.run_record import difference
from zeroshot_cli.results.shards.merging import OnProgress, merged
from zeroshot_cli.results.shards.parts import earlier_record, whole_parts
from zeroshot_cli.results.shards.shard import Share, without_shard

_ROWS = 1024  # in memory at once, of each file
_BROKEN = (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile, zlib.error, SafetensorError)
_LITTLE_FLOATS = np.dtype("<f4")
_Item = tuple[str, Row]


def merge_embeddings(
    inputs: Sequence[Path], output: Path, *, overwrite: bool = False, on_progress: OnProgress = lambda done, total: None
) -> EmbeddingsFile:
    """Write the embeddings of all shards to `output`, and return the file, which is closed.

    Raises UsageError or DataError, and writes nothing, where a shard is missing, twice or damaged, was changed since it
    was written, or is of another model, of other settings or of other images than the rest.
    """
    check_embeddings_file(output, overwrite=overwrite)
    sources = [_source_of(path) for path in inputs]
    _check_same(sources)
    content = merged(sources, on_progress)
    about = without_shard(sources[0].about)
    width = max(source.width for source in sources)
    with EmbeddingsFile(output, Subject.PATH, width=width, about=about, overwrite=overwrite) as file:
        while rows := list(islice(content, _ROWS)):
            file.write(rows)
    return file


def _check_same(sources: "Sequence[_Source]") -> None:
    """Raise UsageError for embeddings that were made with other settings than the first."""
    first = max(sources, key=lambda source: source.width > 0)  # one that knows how wide it is
    for source in sources:
        unknown = {} if source.width else {"width": first.width}
        if found := difference(_shared(first), _shared(source) | unknown):
            name, was, is_now = found
            raise UsageError(
                f"{source.name}, shard {source.share.shard}, was made otherwise than {first.name}: {name} is {is_now}, "
                f"not {was}; run all shards with the same options"
            )


def _shared(source: "_Source") -> dict[str, object]:
    return {**compared(without_shard(source.about)), "width": source.width}


def _source_of(path: Path) -> "_Source":
    """Return a file or folder of embeddings; UsageError where it is not one of a shard."""
    if path.is_dir():
        return _Parts(path)
    if not path.is_file():
        way_out = similar_path(str(path)) or "give what zeroshot embed --shard wrote with --output"
        raise UsageError(f"{path}: no such file; {way_out}")
    kinds = {EmbeddingsFormat.PARQUET: _Parquet, EmbeddingsFormat.NPZ: _Npz, EmbeddingsFormat.SAFETENSORS: _Safetensors}
    kind = next((kinds[form] for form in kinds if path.suffix.lower() == f".{form}"), None)
    if kind is None:
        format_of(path, EmbeddingsFormat)
        raise UsageError(f"{path} is not a file of embeddings")
    return kind(path)


class _Source:
    """A file of embeddings of a shard; an item is a row of it. Its `width` is 0 where it has no embedding."""

    width: int

    def __init__(self, path: Path) -> None:
        self.path, self.name = path, str(path)
        with self._reading():
            self.about = self._open()
            share = Share.read(self.about)
        if share is None:
            raise UsageError(f"{path} is not a shard: its run had no --shard I/N; give the files of runs that had")
        self.share: Share = share

    @contextmanager
    def _reading(self) -> Iterator[None]:
        try:
            yield
        except _BROKEN as problem:
            reason = " ".join(str(problem).split())[:200]
            raise DataError(f"{self.name} is damaged or holds no embeddings ({reason}); run this shard again") from None

    def _open(self) -> dict[str, str]:
        """Read the width, and return what the embeddings were made from."""
        raise NotImplementedError

    def _items(self) -> Iterator[_Item]:
        raise NotImplementedError

    def _paths(self) -> Iterator[str]:
        raise NotImplementedError

    def paths(self) -> Iterator[str]:
        """Yield the path of every image."""
        with self._reading():
            yield from self._paths()

    def items(self) -> Iterator[_Item]:
        """Yield every image; DataError where the file is damaged."""
        with self._reading():
            yield from self._items()


class _Parquet(_Source):
    def _open(self) -> dict[str, str]:
        check_parquet()
        import pyarrow as pa
        import pyarrow.parquet as pq

        with open_plain(self.path) as file:
            schema = pq.read_schema(file)
        about = {key.decode(): text.decode() for key, text in (schema.metadata or {}).items() if b"ARROW" not in key}
        kind = schema.field("embedding").type
        # Lists of any length where some are missing: the first that is not says how long they are.
        self.width = kind.list_size if pa.types.is_fixed_size_list(kind) else self._first_width()
        return about

    def _first_width(self) -> int:
        for batch in self._batches(["embedding"]):
            lists = batch.column("embedding").drop_null()
            if len(lists):
                return len(lists[0])
        return 0  # not known

    def _batches(self, columns: list[str]) -> Iterator[Any]:
        import pyarrow.parquet as pq

        with open_plain(self.path) as file, closing(pq.ParquetFile(file)) as table:
            yield from table.iter_batches(_ROWS, columns=columns)

    def _paths(self) -> Iterator[str]:
        for batch in self._batches(["path", "path_bytes"]):
            yield from _names(batch)

    def _items(self) -> Iterator[_Item]:
        for batch in self._batches(["path", "path_bytes", "embedding", "error"]):
            lists = batch.column("embedding")
            rows = iter(lists.drop_null().flatten().to_numpy(zero_copy_only=False).reshape(-1, self.width or 1))
            for name, reason in zip(_names(batch), batch.column("error").to_pylist(), strict=True):
                yield name, (name, next(rows) if reason is None else None, reason)


def _names(batch: Any) -> Iterator[str]:
    exact = batch.column("path_bytes").to_pylist()
    for name, raw in zip(batch.column("path").to_pylist(), exact, strict=True):
        yield name if raw is None else os.fsdecode(raw)


class _Parts(_Source):
    """A folder of parts, each of which is a file."""

    def _open(self) -> dict[str, str]:
        record = earlier_record(self.path)
        if record is None:
            raise ValueError("it has no record of its run")
        share = Share.read(record.settings)
        if not record.complete:
            raise DataError(f"{self.name} is incomplete: its run was stopped; run it again with --resume")
        self._files = whole_parts(self.path, share.own.count if share else 0)
        self.width = next((width for width in map(_width_of, self._files) if width), 0)
        about = dict[str, str]()
        for name, value in record.settings.items():
            about |= {name: str(value)} if value is not None else {}
            about |= {"versions": json.dumps(record.versions)} if name == "device" else {}  # where a file has them
        return about

    def _paths(self) -> Iterator[str]:
        return chain.from_iterable(_Parquet(file).paths() for file in self._files)

    def _items(self) -> Iterator[_Item]:
        return chain.from_iterable(_Parquet(file).items() for file in self._files)


def _width_of(file: Path) -> int:
    return _Parquet(file).width


class _Listed(_Source):
    """A file that has the paths of the images apart from their embeddings, and the unreadable ones by themselves."""

    def _read_names(self) -> tuple[list[str], Iterable[tuple[str, str]]]:
        """Return the paths of the images that have an embedding, and the others with their reasons."""
        raise NotImplementedError

    def _rows(self) -> Iterator[np.ndarray]:
        """Yield the embeddings, one by one."""
        raise NotImplementedError

    def _paths(self) -> Iterator[str]:
        names, errors = self._read_names()
        return merge(names, (name for name, _ in errors))

    def _items(self) -> Iterator[_Item]:
        names, errors = self._read_names()
        found = ((name, (name, row, None)) for name, row in zip(names, self._rows(), strict=True))
        failed = ((name, (name, None, reason)) for name, reason in errors)
        return merge(found, failed, key=itemgetter(0))


class _Npz(_Listed):
    def _open(self) -> dict[str, str]:
        with open_plain(self.path) as file, np.load(file, allow_pickle=False) as arrays:
            about = load_json(str(arrays["metadata"]))
        with zipfile.ZipFile(self.path) as archive, archive.open("embeddings.npy") as member:
            self.width = int(_shape(member)[1])
        return _texts(about)

    def _read_names(self) -> tuple[list[str], Iterable[tuple[str, str]]]:
        with open_plain(self.path) as file, np.load(file, allow_pickle=False) as arrays:
            return arrays["paths"].tolist(), [(name, reason) for name, reason in arrays["errors"].tolist()]

    def _rows(self) -> Iterator[np.ndarray]:
        size = self.width * _LITTLE_FLOATS.itemsize
        with zipfile.ZipFile(self.path) as archive, archive.open("embeddings.npy") as member:
            for _ in range(_shape(member)[0]):
                yield np.frombuffer(member.read(size), _LITTLE_FLOATS)


def _shape(member: Any) -> tuple[int, ...]:
    """Read the header of an array of float32 (images, embedding); ValueError for another."""
    np.lib.format.read_magic(member)
    shape, _, dtype = np.lib.format.read_array_header_1_0(member)
    if dtype != _LITTLE_FLOATS or len(shape) != 2:
        raise ValueError(f"its embeddings are {dtype} of shape {list(shape)}")
    return shape


class _Safetensors(_Listed):
    def _open(self) -> dict[str, str]:
        with safe_open(self.path, framework="np") as tensors:
            self.width = int(tensors.get_slice("embeddings").get_shape()[1])
        return {key: text for key, text in self._metadata().items() if key not in ("paths", "errors")}

    def _metadata(self) -> dict[str, str]:
        """Return the metadata in their order, which `safe_open`, that has checked the file, does not keep."""
        with open_plain(self.path) as file:
            metadata: dict[str, str] = load_json(file.read(int.from_bytes(file.read(8), "little")))["__metadata__"]
        return metadata

    def _read_names(self) -> tuple[list[str], Iterable[tuple[str, str]]]:
        about = self._metadata()
        return list(load_json(about["paths"])), load_json(about["errors"]).items()

    def _rows(self) -> Iterator[np.ndarray]:
        with safe_open(self.path, framework="np") as tensors:
            rows = tensors.get_slice("embeddings")
            count = rows.get_shape()[0]
            for start in range(0, count, _ROWS):
                yield from rows[start : min(start + _ROWS, count)]


def _texts(about: Mapping[str, object]) -> dict[str, str]:
    return {key: text if isinstance(text, str) else json.dumps(text) for key, text in about.items()}
