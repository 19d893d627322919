r"""Write embeddings as one file, .parquet, .npz or .safetensors by its extension; it is there only when it is complete.

For images; with texts, `text` and `texts` stand in place of `path` and `paths`:

    parquet      a row an image, in their order: `path`, `path_bytes`, `embedding` (float32), `error`
    npz          `embeddings` (images, embedding), float32, `paths` (images), `errors` (path and reason of each
                 unreadable image), `metadata` (JSON)
    safetensors  the tensor `embeddings` (images, embedding), float32; in the metadata `paths` (JSON list) and `errors`
                 (JSON mapping)

What the embeddings came from is metadata in all three. An unreadable image is a row in parquet only, without embedding.
A path that is not UTF-8 has its bytes as lone surrogates in npz and JSON, as in Python; Arrow's texts cannot hold them,
so `path` has them as `\xff`, and `path_bytes`, null for all other paths, as they are. npz loses NUL at a text's end.
"""

import json
import os
import tempfile
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from enum import StrEnum
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Self

import numpy as np

from zeroshot_cli.disk import check_output, replacing, writing
from zeroshot_cli.documents import load_json
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
    """The formats of a file of embeddings, by extension."""

    PARQUET = "parquet"
    NPZ = "npz"
    SAFETENSORS = "safetensors"


class Subject(StrEnum):
    """What was embedded, images by their path or texts; the name of the column."""

    PATH = "path"
    TEXT = "text"


class EmbeddingsFile:
    """A file of embeddings that is being written; as a context manager it is kept only where no error ends it.

    `width` is the size of an embedding, `about` what they came from; every `part` has columns of the same types.
    UsageError where the file cannot be written, here or later. While their number is unknown, rows are in two files
    without a name, which go with a killed run: one has a JSON line a row, the other the embeddings one after the other.
    """

    def __init__(
        self,
        path: Path,
        subject: Subject,
        *,
        width: int,
        about: Mapping[str, str],
        overwrite: bool = False,
        part: bool = False,
    ) -> None:
        check_embeddings_file(path, overwrite=overwrite)
        self.path, self.subject, self.width = path, subject, width
        self.about = {"format": FORMAT, **{key: _utf8(text) for key, text in about.items()}}
        self._overwrite, self.part = overwrite, part
        self.readable = self.unreadable = 0
        self.longest_name = self.longest_error = 1  # in characters
        folder = Path(os.path.realpath(path)).parent
        with writing(str(path)), ExitStack() as files:
            self._names = files.enter_context(tempfile.TemporaryFile("w+", dir=folder, encoding="ascii", newline="\n"))
            self._floats = files.enter_context(tempfile.TemporaryFile(dir=folder))
            self._files = files.pop_all()

    def write(self, rows: Sequence[Row]) -> None:
        """Add rows; ValueError where one has not either an embedding or a reason."""
        if self._names.closed:
            raise ValueError(f"{self.path} is closed")
        for name, embedding, reason in rows:
            if (embedding is None) == (reason is None):
                raise ValueError(f"a row needs either an embedding or a reason why it has none, unlike {name!r}")
            if embedding is not None and embedding.shape != (self.width,):
                raise ValueError(f"the embedding of {name!r} has the shape {embedding.shape}, not ({self.width},)")
        with writing(str(self.path)):
            for name, embedding, reason in rows:
                self._names.write(json.dumps((name, reason)) + "\n")
                if embedding is not None:
                    self._floats.write(embedding.astype(_LITTLE_FLOATS).tobytes())
                    self.readable += 1
                    self.longest_name = max(self.longest_name, len(name))
                else:
                    self.unreadable += 1
                    self.longest_error = max(self.longest_error, len(name), len(reason or ""))

    def close(self, *, complete: bool = True) -> None:
        """Give the file its name, or remove what there is of it where it is not `complete`."""
        try:
            if complete and not self._names.closed:
                with writing(str(self.path)):
                    self._assemble()
        finally:
            with suppress(OSError):  # of a full disk: what could not be flushed is not needed any more
                self._files.close()

    def _assemble(self) -> None:
        check_output(self.path, overwrite=self._overwrite)  # again: hours have passed
        write = {
            EmbeddingsFormat.PARQUET: _write_parquet,
            EmbeddingsFormat.NPZ: _write_npz,
            EmbeddingsFormat.SAFETENSORS: _write_safetensors,
        }[format_of(self.path, EmbeddingsFormat)]
        with replacing(self.path) as unfinished, unfinished.open("r+b") as stream:
            write(stream, self)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self.close(complete=kind is None)

    def names(self) -> Iterator[tuple[str, str | None]]:
        """Yield the path or text of every row, and the reason where it is unreadable; one reader at a time."""
        self._names.seek(0)
        for line in self._names:
            name, reason = load_json(line)
            yield name, reason

    def readable_names(self) -> Iterator[str]:
        """Yield the paths or texts that have an embedding."""
        return (name for name, reason in self.names() if reason is None)

    def errors(self) -> Iterator[tuple[str, str]]:
        """Yield the others and their reasons."""
        return ((name, reason) for name, reason in self.names() if reason is not None)

    def floats(self) -> Iterator[bytes]:
        """Yield the bytes of all embeddings, in blocks."""
        self._floats.seek(0)
        while block := self._floats.read(_BLOCK_BYTES):
            yield block

    def blocks(self) -> Iterator[tuple[list[str], list[str | None], Embedding]]:
        """Yield names, reasons, and embeddings (rows, embedding), zero where there is none."""
        self._floats.seek(0)
        names = self.names()
        while some := list(islice(names, _rows_in_block(4 * self.width))):
            known = [place for place, (_, reason) in enumerate(some) if reason is None]
            content = self._floats.read(4 * self.width * len(known))
            embeddings = np.zeros((len(some), self.width), np.float32)
            embeddings[known] = np.frombuffer(content, _LITTLE_FLOATS).reshape(len(known), self.width)
            yield [name for name, _ in some], [reason for _, reason in some], embeddings


def compared(about: Mapping[str, str]) -> dict[str, str]:
    """Return of what embeddings were made from that which must be equal for them to go together: all but versions."""
    return {"format": FORMAT, **{name: text for name, text in about.items() if name != "versions"}}


def check_embeddings_file(path: Path, *, overwrite: bool) -> None:
    """Raise UsageError where the file cannot be written, which would otherwise show after an hour's work."""
    form = format_of(path, EmbeddingsFormat)
    check_output(path, overwrite=overwrite)
    if form is EmbeddingsFormat.PARQUET:
        check_parquet()
    with writing(str(path)), tempfile.TemporaryFile(dir=Path(os.path.realpath(path)).parent):
        pass  # rights, and a file system that takes no files


def check_room(path: Path, names: Iterable[str]) -> None:
    """Raise UsageError where safetensors cannot hold so many paths or texts; the other formats have no limit."""
    if format_of(path, EmbeddingsFormat) is EmbeddingsFormat.SAFETENSORS:
        _check_header(path, sum(len(_inside(_json(name) + ", ")) for name in names))


def _rows_in_block(row_bytes: int) -> int:
    return min(max(_BLOCK_BYTES // row_bytes, 1), _BLOCK_ROWS)


# Parquet


def _write_parquet(stream: BinaryIO, rows: EmbeddingsFile) -> None:
    from pyarrow.parquet import ParquetWriter

    schema = _schema(rows)
    compression = dict.fromkeys(schema.names, "snappy") | {"embedding.list.element": "none"}  # noise: nothing to gain
    with ParquetWriter(stream, schema, use_dictionary=False, compression=compression) as writer:
        for block in rows.blocks():
            writer.write_batch(_batch(schema, *block))


def _schema(rows: EmbeddingsFile) -> "pyarrow.Schema":
    import pyarrow as pa

    exact = [("path_bytes", pa.binary())] if rows.subject is Subject.PATH else []
    # pyarrow before 24 cannot read lists of a fixed size among which some are missing.
    of_any_length = rows.unreadable or rows.part
    embedding = ("embedding", pa.list_(pa.float32(), -1 if of_any_length else rows.width))
    fields = [(rows.subject.value, pa.string()), *exact, embedding, ("error", pa.string())]
    return pa.schema(fields, rows.about)


def _batch(
    schema: "pyarrow.Schema", names: list[str], reasons: list[str | None], embeddings: Embedding
) -> "pyarrow.RecordBatch":
    import pyarrow as pa

    known = np.array([reason is None for reason in reasons])
    width = embeddings.shape[1]
    lists = pa.FixedSizeListArray.from_arrays(embeddings[known].ravel(), width)
    if not known.all():
        ends = np.concatenate([[0], np.cumsum(known) * width]).astype(np.int32)
        missing = pa.array(~known)
        lists = pa.ListArray.from_arrays(pa.array(ends, pa.int32()), lists.values, mask=missing)
    lists = lists.cast(schema.field("embedding").type)
    columns = {
        schema.names[0]: [arrow_text(name) for name in names],
        "path_bytes": pa.array([None if arrow_text(name) == name else to_bytes(name) for name in names], pa.binary()),
        "embedding": lists,
        "error": pa.array([None if reason is None else arrow_text(reason) for reason in reasons], pa.string()),
    }
    return pa.record_batch([columns[name] for name in schema.names], schema=schema)


# npz


def _write_npz(stream: BinaryIO, rows: EmbeddingsFile) -> None:
    # Texts of one width in four bytes a character are mostly zeros, and shrink to what they hold.
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        stored = zipfile.ZipInfo("embeddings.npy")
        _put(archive, stored, _LITTLE_FLOATS, (rows.readable, rows.width), rows.floats())
        _put_texts(archive, f"{rows.subject}s.npy", (rows.readable,), rows.readable_names(), rows.longest_name)
        flat = (text for error in rows.errors() for text in error)
        _put_texts(archive, "errors.npy", (rows.unreadable, 2), flat, rows.longest_error)
        text = _json(rows.about)
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


def _write_safetensors(stream: BinaryIO, rows: EmbeddingsFile) -> None:
    """Write the length of the header, the header, JSON that ends on a multiple of 8, and the embeddings."""
    stream.write(bytes(8))
    for text in _header(rows):
        stream.write(text.encode())
    stream.write(b" " * (-stream.tell() % 8))
    length = stream.tell() - 8
    _check_header(rows.path, length)
    stream.seek(0)
    stream.write(length.to_bytes(8, "little"))
    stream.seek(8 + length)
    for block in rows.floats():
        stream.write(block)


def _header(rows: EmbeddingsFile) -> Iterator[str]:
    """Yield the header, piece by piece; the metadata has texts only, so lists are JSON within JSON."""
    yield '{"__metadata__": {'
    for key, text in rows.about.items():
        yield f"{_json(key)}: {_json(text)}, "
    yield f'"{rows.subject}s": "['
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
            f"cannot write {path}: its names take more than the {most} MB that safetensors allows; "
            "name a .parquet or .npz file"
        )


def _json(value: object) -> str:
    return _utf8(json.dumps(value, ensure_ascii=False))


def _utf8(text: str) -> str:
    r"""Return the text with lone surrogates, which UTF-8 lacks, as JSON writes them: `\udcff`."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")
