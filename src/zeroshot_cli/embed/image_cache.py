"""Image embeddings on disk, found by the content of the image and by all that the embedding was computed with.

An embedding is kept under a hash of: content of the file, weights and preprocessing (the model's fingerprint), how the
file is decoded, precision, kind of device, shape of a batch, versions of torch and Pillow. Two runs that agree in these
compute the same bits, so what is kept is what would be computed. A second table tells the content of a file by its path
while size and times stay as they were, so that it need not be read.
"""

import hashlib
import json
import os
import sqlite3
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import PIL
import torch

from zeroshot_cli.embed.cache_files import size_limit
from zeroshot_cli.embed.store import KEYS_A_QUERY, Store, checked, checksum_of
from zeroshot_cli.models.loaded import LoadedModel

Embedding = npt.NDArray[np.float32]

_VERSION = "2"  # of the keys: another one when the same image would get another embedding
_DAY = 86_400
_SETTLED = 2_000_000_000  # nanoseconds after which a file that changes again gets another time
_EVICTED = 10  # one row in so many goes, the longest unused first, when the file has reached its limit


@dataclass(frozen=True, slots=True)
class FileState:
    """What tells that a file is the one that was read before; `key` is its path from the root."""

    key: bytes
    size: int
    modified: int
    changed: int

    @property
    def row(self) -> tuple[bytes, int, int, int]:
        return self.key, self.size, self.modified, self.changed

    @classmethod
    def of(cls, path: str) -> "FileState | None":
        """The state of a file now; None where it cannot be asked, or has changed too lately to be trusted."""
        try:
            status = os.stat(path)  # noqa: PTH116
        except (OSError, ValueError):
            return None
        if time.time_ns() - max(status.st_mtime_ns, status.st_ctime_ns) < _SETTLED:
            return None
        absolute = os.fsencode(os.path.join(os.getcwd(), path))  # noqa: PTH109, PTH118
        return cls(absolute, status.st_size, status.st_mtime_ns, status.st_ctime_ns)


@dataclass(frozen=True, slots=True)
class NewImage:
    """An image whose embedding is to be kept; `state` is its file's from before it was read."""

    state: FileState | None
    content: bytes
    embedding: Embedding


class ImageCache(Store):
    """Image embeddings of any model, at most `limit` bytes of them: then those go that were not used for longest.

    `limit` is by default 2 GiB, or what ZEROSHOT_CACHE_SIZE says, such as 500MB; UsageError where that is no size.
    """

    name = "images.sqlite"
    schema = """
        CREATE TABLE IF NOT EXISTS embeddings (
            key BLOB PRIMARY KEY, embedding BLOB NOT NULL, checksum INTEGER NOT NULL, used INTEGER NOT NULL);
        CREATE INDEX IF NOT EXISTS embeddings_used ON embeddings (used);
        CREATE TABLE IF NOT EXISTS files (
            path BLOB PRIMARY KEY, size INTEGER NOT NULL, modified INTEGER NOT NULL, changed INTEGER NOT NULL,
            content BLOB NOT NULL, used INTEGER NOT NULL);
        CREATE INDEX IF NOT EXISTS files_used ON files (used);
    """
    content, otherwise = "image embeddings", "images are encoded anew"

    def __init__(self, folder: Path | None = None, *, limit: int | None = None) -> None:
        super().__init__(folder)
        self.limit = size_limit() if limit is None else limit

    def for_run(self, model: LoadedModel, *, decoding: str, batch_size: int) -> "RunCache":
        """The part of the cache that a run may use: the embeddings that it would compute itself."""
        setting = [
            _VERSION,
            model.fingerprint,
            model.precision,
            model.device.type,
            decoding,
            batch_size,
            torch.__version__,
            PIL.__version__,
        ]
        return RunCache(self, hashlib.sha256(json.dumps(setting).encode()).digest())


class RunCache:
    """The embeddings of one setting."""

    def __init__(self, store: ImageCache, setting: bytes) -> None:
        self._store = store
        self._setting = setting

    def by_state(self, states: Sequence[FileState | None]) -> list[Embedding | None]:
        """The embeddings of files that were read before and are as they were, None for the others."""
        known = [state for state in states if state is not None]
        if not known or not self._store.exists():
            return [None] * len(states)
        nothing: dict[FileState, Embedding] = {}
        found = self._store.use(lambda database: self._find(database, known), nothing)
        return [None if state is None else found.get(state) for state in states]

    def by_content(self, content: bytes) -> Embedding | None:
        """The embedding of a file with this SHA-256."""
        if not self._store.exists():
            return None
        key = self._key(content)
        return self._store.use(lambda database: _embeddings(database, [key]).get(key), None)

    def put(self, images: Iterable[NewImage]) -> None:
        """Keep embeddings; one that is there already is used again."""
        images = list(images)
        if images and self._store.limit:
            self._store.use(lambda database: self._write(database, images), None)

    def _key(self, content: bytes) -> bytes:
        return hashlib.sha256(self._setting + content).digest()

    def _find(self, database: sqlite3.Connection, states: list[FileState]) -> dict[FileState, Embedding]:
        contents: dict[tuple[bytes, int, int, int], bytes] = {}
        stale: list[bytes] = []
        columns = "path, size, modified, changed, content, used"
        for path, *rest, content, used in _select(database, columns, "files", "path", [state.key for state in states]):
            if not isinstance(content, bytes):
                raise sqlite3.DatabaseError("a hash is none")
            contents[(path, rest[0], rest[1], rest[2])] = content
            if _is_stale(used):
                stale.append(path)
        _mark_used(database, "files", "path", stale)
        keys = {state: self._key(contents[state.row]) for state in states if state.row in contents}
        embeddings = _embeddings(database, list(keys.values()))
        return {state: embeddings[key] for state, key in keys.items() if key in embeddings}

    def _write(self, database: sqlite3.Connection, images: list[NewImage]) -> None:
        now = int(time.time())
        rows = []
        for image in images:
            key, embedding = self._key(image.content), image.embedding.astype("<f4").tobytes()
            rows.append((key, embedding, checksum_of(key, embedding), now))
        states = ((image.state, image.content) for image in images if image.state is not None)
        files = [(state.key, state.size, state.modified, state.changed, content, now) for state, content in states]
        with database:  # one transaction: all of them or none
            _make_room(database, self._store.limit, len(rows))
            database.executemany("INSERT OR REPLACE INTO embeddings VALUES (?, ?, ?, ?)", rows)
            database.executemany("INSERT OR REPLACE INTO files VALUES (?, ?, ?, ?, ?, ?)", files)


def _embeddings(database: sqlite3.Connection, keys: list[bytes]) -> dict[bytes, Embedding]:
    """The embeddings that are there, by key; those that were not used today are marked as used."""
    found: dict[bytes, Embedding] = {}
    stale: list[bytes] = []
    for key, content, checksum, used in _select(database, "*", "embeddings", "key", keys):
        found[key] = np.frombuffer(checked(key, content, checksum), dtype="<f4").astype(np.float32, copy=False)
        if _is_stale(used):
            stale.append(key)
    _mark_used(database, "embeddings", "key", stale)
    return found


def _is_stale(used: int) -> bool:
    return time.time() - used > _DAY


def _mark_used(database: sqlite3.Connection, table: str, column: str, values: Iterable[bytes]) -> None:
    """Note that rows were used today, so that others go first."""
    now = int(time.time())
    rows = [(now, value) for value in values]
    if rows:
        with database:
            database.executemany(f"UPDATE {table} SET used = ? WHERE {column} = ?", rows)


def _select(
    database: sqlite3.Connection, columns: str, table: str, column: str, values: Sequence[bytes]
) -> Iterable[tuple[Any, ...]]:
    for start in range(0, len(values), KEYS_A_QUERY):
        some = values[start : start + KEYS_A_QUERY]
        places = ",".join("?" * len(some))
        yield from database.execute(f"SELECT {columns} FROM {table} WHERE {column} IN ({places})", some)


def _make_room(database: sqlite3.Connection, limit: int, wanted: int) -> None:
    """Delete what was not used for longest once the file has grown to its limit; its pages are written again."""
    page_size, pages, free = (
        database.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_size", "page_count", "freelist_count")
    )
    if (pages - free) * page_size < limit:
        return
    for table in ("embeddings", "files"):
        count = database.execute(f"SELECT count(*) FROM {table}").fetchone()[0]
        oldest = f"SELECT rowid FROM {table} ORDER BY used, rowid LIMIT {max(count // _EVICTED, wanted)}"
        database.execute(f"DELETE FROM {table} WHERE rowid IN ({oldest})")
