"""Keep image embeddings on disk, found by the content of the image and all that the embedding was computed with.

The key is a hash of the file's content, the model's fingerprint (weights and preprocessing), how the file is decoded,
precision, kind of device, shape of a batch, versions of torch and Pillow. Two runs that agree in these compute the same
bits, so a cached embedding is the one that would be computed. A second table tells the content of a file by its path
while its size and times stay the same, so that it need not be read. A third has the embeddings of the images of a
folder once more, in one piece, so that looking at all of many images takes no look-up for each (see `matrices`).
"""

import hashlib
import json
import os
import sqlite3
import time
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import PIL
import torch

from zeroshot_cli.embed.cache_store import (
    IMAGES,
    Store,
    make_room,
    mark_used,
    read_embeddings,
    select,
    size_limit,
    write_embeddings,
)
from zeroshot_cli.errors import UnreadableImage
from zeroshot_cli.images.decode import open_regular
from zeroshot_cli.images.given import GivenImage, ImageItem
from zeroshot_cli.models.loaded import LoadedModel

Embedding = npt.NDArray[np.float32]

_VERSION = "2"  # of the keys: raised when the same image would get another embedding
_READ_ANEW = b"\0 0.2.0"  # 0.1.0 kept embeddings of TIFF files that it misread
_TIFF = (".tif", ".tiff")
SETTLED = 2_000_000_000  # nanoseconds after which a file that changes again gets another time


@dataclass(frozen=True, slots=True)
class FileState:
    """What identifies a file that was read before; `key` is its path from the root."""

    key: bytes
    size: int
    modified: int
    changed: int

    @classmethod
    def of(cls, path: str) -> "FileState | None":
        """Return the state of a file; None where there is none, or it has changed too recently to be trusted."""
        try:
            status = os.stat(path)  # noqa: PTH116
        except (OSError, ValueError):
            return None
        if time.time_ns() - max(status.st_mtime_ns, status.st_ctime_ns) < SETTLED:
            return None
        inside = path if os.path.isabs(path) else os.path.join(os.getcwd(), path)  # noqa: PTH109, PTH117, PTH118
        absolute = os.fsencode(inside)
        if path.lower().endswith(_TIFF):
            absolute += _READ_ANEW
        return cls(absolute, status.st_size, status.st_mtime_ns, status.st_ctime_ns)


@dataclass(frozen=True, slots=True)
class NewImage:
    """An image whose embedding is to be kept; `state` is that of its file before it was read."""

    state: FileState | None
    content: bytes
    embedding: Embedding


class ImageCache(Store):
    """Image embeddings of any model, at most `limit` bytes of them; beyond that the longest unused are evicted.

    `limit` is by default 2 GiB, or what ZEROSHOT_CACHE_SIZE says, such as 500MB; UsageError where that is not a size.
    """

    database = IMAGES

    def __init__(self, folder: str | os.PathLike[str] | None = None, *, limit: int | None = None) -> None:
        super().__init__(folder)
        self.limit = size_limit() if limit is None else limit

    def for_run(self, model: LoadedModel, *, decoding: str, batch_size: int) -> "RunCache":
        """Return the part of the cache that a run may use: the embeddings that it would compute itself."""
        setting = [
            _VERSION,
            model.fingerprint,
            model.computing,
            model.device.type,
            decoding,
            batch_size,
            torch.__version__,
            PIL.__version__,
        ]
        return RunCache(self, hashlib.sha256(json.dumps(setting).encode()).digest(), model.embed_dim)

    def contents(self, states: Iterable[FileState]) -> dict[FileState, bytes]:
        """Return the SHA-256 of the content of files that were read before and are unchanged."""
        keys = [state.key for state in states]
        nothing: dict[FileState, bytes] = {}
        return self.read(lambda database: {state: content for state, content, _ in _files(database, keys)}, nothing)


def contents_of(images: Sequence[ImageItem], cache: ImageCache | None) -> list[bytes | None]:
    """Return the SHA-256 of the content of files, else of pixels; None for an image that cannot be read.

    A file that `cache` knows to be unchanged is not read again, but for a TIFF, whose content has another hash there.
    """
    files = [item if isinstance(item, str) and not item.lower().endswith(_TIFF) else None for item in images]
    states = [None if path is None else FileState.of(path) for path in files]
    known = {} if cache is None else cache.contents(filter(None, states))
    return [
        known[state] if state is not None and state in known else _hashed(item)
        for item, state in zip(images, states, strict=True)
    ]


def _hashed(image: ImageItem) -> bytes | None:
    if not isinstance(image, str):
        return image.digest() if isinstance(image, GivenImage) else None
    try:
        with open_regular(image) as file:
            return hashlib.file_digest(file, "sha256").digest()  # type: ignore[arg-type]  # it has readinto
    except (OSError, ValueError, UnreadableImage):
        return None


class RunCache:
    """The embeddings of one setting."""

    def __init__(self, store: ImageCache, setting: bytes, width: int) -> None:
        self._store = store
        self._width = width
        self._setting = setting

    def by_state(self, states: Sequence[FileState | None]) -> list[Embedding | None]:
        """Return the embeddings of files that were read before and are unchanged, None for the others."""
        known = [state for state in states if state is not None]
        found: dict[FileState, Embedding] = {}
        if known:
            found = self._store.read(lambda database: self._find(database, known), found)
        return [None if state is None else found.get(state) for state in states]

    def by_content(self, content: bytes) -> Embedding | None:
        """Return the embedding of a file with this SHA-256."""
        key = self._key(content)
        found: dict[bytes, bytes] = {}
        found = self._store.read(lambda database: read_embeddings(database, "embeddings", [key], self._width), found)
        return _embedding(found[key]) if key in found else None

    def put(self, images: Iterable[NewImage]) -> None:
        """Keep embeddings; one that is there already counts as used."""
        images = list(images)
        if images and self._store.limit:
            self._store.use(lambda database: self._write(database, images), None)

    def block(self, name: bytes, state: bytes) -> Embedding | None:
        """Return the embeddings (images, embedding) that were kept under a name in this state, None if there are none.

        `state` has 32 bytes, and is that of all files of the block.
        """
        key = self._key(name)
        nothing: bytes | None = None
        content = self._store.read(lambda database: _read_block(database, key), nothing)
        if content is None or not content.startswith(state):
            return None
        return np.frombuffer(content, "<f4", offset=len(state)).astype(np.float32, copy=False).reshape(-1, self._width)

    def put_block(self, name: bytes, state: bytes, embeddings: Embedding) -> None:
        """Keep the embeddings of files in one piece, in place of an earlier state's."""
        key, content = self._key(name), state + embeddings.astype("<f4").tobytes()

        def write(database: sqlite3.Connection) -> None:
            with database:
                make_room(database, self._store.limit, 1)
                _write_block(database, key, content)

        if self._store.limit:
            self._store.use(write, None)

    def _key(self, content: bytes) -> bytes:
        return hashlib.sha256(self._setting + content).digest()

    def _find(self, database: sqlite3.Connection, states: list[FileState]) -> dict[FileState, Embedding]:
        contents: dict[FileState, bytes] = {}
        used: list[tuple[bytes, int]] = []
        for state, content, last in _files(database, [state.key for state in states]):
            contents[state] = content
            used.append((state.key, last))
        mark_used(database, "files", "path", used)
        keys = {state: self._key(contents[state]) for state in states if state in contents}
        found = read_embeddings(database, "embeddings", list(keys.values()), self._width)
        return {state: _embedding(found[key]) for state, key in keys.items() if key in found}

    def _write(self, database: sqlite3.Connection, images: list[NewImage]) -> None:
        now = int(time.time())
        rows = [(self._key(image.content), image.embedding.astype("<f4").tobytes()) for image in images]
        states = ((image.state, image.content) for image in images if image.state is not None)
        files = [(state.key, state.size, state.modified, state.changed, content, now) for state, content in states]
        with database:  # one transaction: all of them or none
            make_room(database, self._store.limit, len(rows))
            write_embeddings(database, "embeddings", rows)
            database.executemany("INSERT OR REPLACE INTO files VALUES (?, ?, ?, ?, ?, ?)", files)


def _files(database: sqlite3.Connection, keys: Sequence[bytes]) -> Iterator[tuple[FileState, bytes, int]]:
    """Yield the state, the hash and the last use of files."""
    for *state, content, last in select(database, "*", "files", "path", keys):
        if not isinstance(content, bytes):
            raise sqlite3.DatabaseError("a hash is not bytes")
        yield FileState(*state), content, last


def _read_block(database: sqlite3.Connection, key: bytes) -> bytes | None:
    for content, checksum, last in database.execute("SELECT content, checksum, used FROM blocks WHERE key = ?", (key,)):
        if not isinstance(content, bytes) or zlib.crc32(content) != checksum:
            raise sqlite3.DatabaseError("a block does not fit its checksum")
        mark_used(database, "blocks", "key", [(key, last)])
        return content
    return None


def _write_block(database: sqlite3.Connection, key: bytes, content: bytes) -> None:
    row = (key, content, zlib.crc32(content), int(time.time()))
    database.execute("INSERT OR REPLACE INTO blocks VALUES (?, ?, ?, ?)", row)


def _embedding(content: bytes) -> Embedding:
    return np.frombuffer(content, dtype="<f4").astype(np.float32, copy=False)
