"""Embeddings as one file, .parquet, .npz or .safetensors by its ending; it is there only when it is whole.

For images; with texts, `text` and `texts` stand in place of `path` and `paths`:

    parquet      a row an image, in their order: `path`, `path_bytes`, `embedding` (e float32), `error`
    npz          `embeddings` (ne, float32), `paths` (n), `errors` (path and reason of each unreadable image),
                 `metadata` (JSON)
    safetensors  the tensor `embeddings` (ne, float32); in the metadata `paths` (JSON list), `errors` (JSON mapping)

What the embeddings came from is metadata in all three. An unreadable image is a row in parquet only, without embedding.
Of a path that is not UTF-8, npz and JSON have the bytes as lone surrogates, as Python itself; Arrow's texts cannot, so
`path` has them as `\\xff`, and `path_bytes`, null for all other paths, as they are. npz loses NUL at a text's end.

n embeddings, e width of one
"""

import json
import os
import tempfile
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from enum import StrEnum
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, BinaryIO, Self

import numpy as np

from zeroshot_cli.disk import check_output, replacing, writing
from zeroshot_cli.errors import UsageError
from zeroshot_cli.results.formats import format_of, to_bytes
from zeroshot_cli.results.parquet import arrow_text, check_parquet

if TYPE_CHECKING:
    import pyarrow

FORMAT = "zeroshot-embeddings-1"
Embedding = np.ndarray[tuple[int, ...], np.dtype[np.float32]]
Row = tuple[str, Embedding | None, str | None]  # path or text, its embedding or the reason why there is none

_BLOCK_BYTES = 16_000_000  # about what is in memory at once
_BLOCK_ROWS = 65_536
_MOST_HEADER_BYTES = 100_000_000  # safetensors refuses to read more
_LITTLE_FLOATS = np.dtype("<f4")


class EmbeddingsFormat(StrEnum):
    """The forms of a file of embeddings, which are its endings too."""

    PARQUET = "parquet"
    NPZ = "npz"
    SAFETENSORS = "safetensors"


class Subject(StrEnum):
    """What was embedded, images by their path or texts; the name of the column."""

    PATH = "path"
    TEXT = "text"


class EmbeddingsFile:
    """A file of embeddings that is being written; as a context manager it is kept only where no error ends it.

    `width` is e, `about` what the embeddings came from. UsageError where the file cannot be written, here or later.
    """

    def __init__(
        self, path: Path, subject: Subject, *, width: int, about: Mapping[str, str], overwrite: bool = False
    ) -> None:
        check_embeddings_file(path, overwrite=overwrite)
        self._path = path
        self._subject = subject
        self._about = {"format": FORMAT, **{key: _utf8(text) for key, text in about.items()}}
        self._overwrite = overwrite
        with writing(str(path)):
            self._rows: _Rows | None = _Rows(Path(os.path.realpath(path)).parent, width)

    def write(self, rows: Sequence[Row]) -> None:
        """Add rows; ValueError where one has not either an embedding (e,) or a reason."""
        if self._rows is None:
            raise ValueError(f"{self._path} is closed")
        with writing(str(self._path)):
            self._rows.append(rows)

    def close(self, *, complete: bool = True) -> None:
        """Put the file under its name, or leave nothing of it where it is not `complete`."""
        rows, self._rows = self._rows, None
        if rows is None:
            return
        with rows, writing(str(self._path)):
            if complete:
                self._assemble(rows)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close(complete=kind is None)

    def _assemble(self, rows: "_Rows") -> None:
        check_output(self._path, overwrite=self._overwrite)  # again: hours have passed
        with replacing(self._path) as unfinished, unfinished.open("xb") as stream:
            _WRITERS[embeddings_format(self._path)](stream, _Content(self._path, rows, self._subject, self._about))


def check_embeddings_file(path: Path, *, overwrite: bool) -> None:
    """Raise UsageError now for what would come up after an hour's work."""
    form = embeddings_format(path)
    check_output(path, overwrite=overwrite)
    if form is EmbeddingsFormat.PARQUET:
        check_parquet()
    with writing(str(path)), tempfile.TemporaryFile(dir=Path(os.path.realpath(path)).parent):
        pass  # rights, and a file system that takes no files


def check_room(path: Path, names: Iterable[str]) -> None:
    """Raise UsageError where safetensors cannot hold so many paths or texts; the other forms have no limit."""
    if embeddings_format(path) is EmbeddingsFormat.SAFETENSORS:
        _check_header(path, sum(len(_inside(_json(name) + ", ")) for name in names))


def embeddings_format(path: Path) -> EmbeddingsFormat:
    """Return the form that a file's ending names; UsageError for another ending."""
    return format_of(path, EmbeddingsFormat)


class _Rows:
    """Rows on disk while their number is unknown: two files without a name, which a killed run does not leave behind.

    One has a JSON line a row, the other the embeddings, one behind the other.
    """

    def __init__(self, folder: Path, width: int) -> None:
        self.width = width
        self.readable = self.unreadable = 0
        self.longest_name = self.longest_error = 1  # in characters
        with ExitStack() as files:
            self._names = files.enter_context(tempfile.TemporaryFile("w+", dir=folder, encoding="ascii", newline="\n"))
            self._floats = files.enter_context(tempfile.TemporaryFile(dir=folder))
            self._files = files.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        with suppress(OSError):  # of a full disk: what could not be flushed is not needed any more
            self._files.close()

    def append(self, rows: Sequence[Row]) -> None:
        for name, embedding, reason in rows:
            if (embedding is None) == (reason is None):
                raise ValueError(f"a row has an embedding or a reason why it has none, not so {name!r}")
            if embedding is not None and embedding.shape != (self.width,):
                raise ValueError(f"the embedding of {name!r} has the shape {embedding.shape}, not ({self.width},)")
        for name, embedding, reason in rows:
            self._names.write(json.dumps((name, reason)) + "\n")
            if embedding is not None:
                self._floats.write(embedding.astype(_LITTLE_FLOATS).tobytes())
                self.readable += 1
                self.longest_name = max(self.longest_name, len(name))
            else:
                self.unreadable += 1
                self.longest_error = max(self.longest_error, len(name), len(reason or ""))

    def names(self) -> Iterator[tuple[str, str | None]]:
        """Yield path or text, and the reason where it is unreadable, of all rows; one reader at a time."""
        self._names.seek(0)
        for line in self._names:
            name, reason = json.loads(line)
            yield name, reason

    def readable_names(self) -> Iterator[str]:
        return (name for name, reason in self.names() if reason is None)

    def errors(self) -> Iterator[tuple[str, str]]:
        return ((name, reason) for name, reason in self.names() if reason is not None)

    def floats(self) -> Iterator[bytes]:
        """Yield the bytes of all embeddings, in blocks."""
        self._floats.seek(0)
        while block := self._floats.read(_BLOCK_BYTES):
            yield block

    def blocks(self) -> Iterator[tuple[list[str], list[str | None], Embedding]]:
        """Yield b names and reasons, and embeddings be, zero where there is none."""
        self._floats.seek(0)
        names = self.names()
        while some := list(islice(names, _rows_in_block(4 * self.width))):
            known = [place for place, (_, reason) in enumerate(some) if reason is None]
            content = self._floats.read(4 * self.width * len(known))
            embeddings = np.zeros((len(some), self.width), np.float32)
            embeddings[known] = np.frombuffer(content, _LITTLE_FLOATS).reshape(len(known), self.width)
            yield [name for name, _ in some], [reason for _, reason in some], embeddings


def _rows_in_block(row_bytes: int) -> int:
    return min(max(_BLOCK_BYTES // row_bytes, 1), _BLOCK_ROWS)


@dataclass(frozen=True, slots=True)
class _Content:
    """All that a file is written from; `target` is for errors."""

    target: Path
    rows: _Rows
    subject: Subject
    about: Mapping[str, str]


# Parquet


def _write_parquet(stream: BinaryIO, content: _Content) -> None:
    from pyarrow.parquet import ParquetWriter

    schema = _schema(content)
    compression = dict.fromkeys(schema.names, "snappy") | {"embedding.list.element": "none"}  # noise: nothing to gain
    with ParquetWriter(stream, schema, use_dictionary=False, compression=compression) as writer:
        for block in content.rows.blocks():
            writer.write_batch(_batch(schema, *block))


def _schema(content: _Content) -> "pyarrow.Schema":
    import pyarrow as pa

    exact = [("path_bytes", pa.binary())] if content.subject is Subject.PATH else []
    embedding = ("embedding", pa.list_(pa.float32(), content.rows.width))
    fields = [(content.subject.value, pa.string()), *exact, embedding, ("error", pa.string())]
    return pa.schema(fields, dict(content.about))


def _batch(
    schema: "pyarrow.Schema", names: list[str], reasons: list[str | None], embeddings: Embedding
) -> "pyarrow.RecordBatch":
    import pyarrow as pa

    missing = pa.array([reason is not None for reason in reasons])
    columns = {
        schema.names[0]: [arrow_text(name) for name in names],
        "path_bytes": pa.array([None if arrow_text(name) == name else to_bytes(name) for name in names], pa.binary()),
        "embedding": pa.FixedSizeListArray.from_arrays(embeddings.ravel(), embeddings.shape[1], mask=missing),
        "error": pa.array([None if reason is None else arrow_text(reason) for reason in reasons], pa.string()),
    }
    return pa.record_batch([columns[name] for name in schema.names], schema=schema)


# npz


def _write_npz(stream: BinaryIO, content: _Content) -> None:
    rows = content.rows
    # Texts of one width in four bytes a character are mostly zeros, and shrink to what they hold.
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        stored = zipfile.ZipInfo("embeddings.npy")
        _put(archive, stored, _LITTLE_FLOATS, (rows.readable, rows.width), rows.floats())
        _put_texts(archive, f"{content.subject}s.npy", (rows.readable,), rows.readable_names(), rows.longest_name)
        flat = (text for error in rows.errors() for text in error)
        _put_texts(archive, "errors.npy", (rows.unreadable, 2), flat, rows.longest_error)
        text = _json(dict(content.about))
        _put_texts(archive, "metadata.npy", (), iter([text]), len(text))


def _put_texts(archive: zipfile.ZipFile, name: str, shape: tuple[int, ...], texts: Iterator[str], longest: int) -> None:
    dtype = np.dtype(f"<U{longest}")
    blocks = iter(lambda: list(islice(texts, _rows_in_block(dtype.itemsize))), [])
    _put(archive, name, dtype, shape, (np.array(block, dtype).tobytes() for block in blocks))


def _put(
    archive: zipfile.ZipFile,
    name: str | zipfile.ZipInfo,
    dtype: "np.dtype[np.float32] | np.dtype[np.str_]",
    shape: tuple[int, ...],
    blocks: Iterable[bytes],
) -> None:
    """Write one array, as np.savez does, from its bytes block by block."""
    header = {"descr": dtype.str, "fortran_order": False, "shape": shape}
    with archive.open(name, "w", force_zip64=True) as member:
        np.lib.format.write_array_header_1_0(member, header)
        for block in blocks:
            member.write(block)


# safetensors


def _write_safetensors(stream: BinaryIO, content: _Content) -> None:
    """Write the length of the header, the header, JSON that ends on a multiple of 8, and the embeddings."""
    stream.write(bytes(8))
    for text in _header(content.rows, content.subject, content.about):
        stream.write(text.encode())
    stream.write(b" " * (-stream.tell() % 8))
    length = stream.tell() - 8
    _check_header(content.target, length)
    stream.seek(0)
    stream.write(length.to_bytes(8, "little"))
    stream.seek(8 + length)
    for block in content.rows.floats():
        stream.write(block)


def _header(rows: _Rows, subject: Subject, about: Mapping[str, str]) -> Iterator[str]:
    """Yield the header, piece by piece; in the metadata JSON is a text, so it is JSON in JSON."""
    yield '{"__metadata__": {'
    for key, text in about.items():
        yield f"{_json(key)}: {_json(text)}, "
    yield f'"{subject}s": "['
    yield from _joined(_json(name) for name in rows.readable_names())
    yield ']", "errors": "{'
    yield from _joined(f"{_json(name)}: {_json(reason)}" for name, reason in rows.errors())
    tensor = {"dtype": "F32", "shape": [rows.readable, rows.width], "data_offsets": [0, 4 * rows.readable * rows.width]}
    yield '}"}, "embeddings": ' + _json(tensor) + "}"


def _joined(items: Iterable[str]) -> Iterator[str]:
    for number, item in enumerate(items):
        yield _inside(item if number == 0 else ", " + item)


def _inside(text: str) -> str:
    """Return what stands between the quotes where `text` is a JSON string."""
    return _json(text)[1:-1]


def _check_header(path: Path, length: int) -> None:
    if length > _MOST_HEADER_BYTES:
        most = _MOST_HEADER_BYTES // 1_000_000
        raise UsageError(
            f"cannot write {path}: its names have more than the {most} MB that safetensors takes; "
            "name a file that ends in .parquet or .npz"
        )


def _json(value: object) -> str:
    return _utf8(json.dumps(value, ensure_ascii=False))


def _utf8(text: str) -> str:
    """Return the text with lone surrogates, which UTF-8 has not, as JSON has them: `\\udcff`."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


_WRITERS: dict[EmbeddingsFormat, Callable[[BinaryIO, _Content], None]] = {
    EmbeddingsFormat.PARQUET: _write_parquet,
    EmbeddingsFormat.NPZ: _write_npz,
    EmbeddingsFormat.SAFETENSORS: _write_safetensors,
}
