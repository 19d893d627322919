"""Embeddings on disk, found by what they were computed from; several processes may use them at once.

A cache is never needed: one that is damaged is set aside, one that cannot be used is done without; both with a warning.
"""

import hashlib
import sqlite3
import warnings
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from zeroshot_cli.folders import cache_folder
from zeroshot_cli.weights.loaded import LoadedModel

T = TypeVar("T")
_VERSION = b"1"  # of the keys: another one when the same text would get another embedding
_SCHEMA = "CREATE TABLE IF NOT EXISTS texts (key BLOB PRIMARY KEY, embedding BLOB NOT NULL, checksum INTEGER NOT NULL)"
_KEYS_A_QUERY = 500
_PATIENCE = 10  # seconds to wait for another process that writes


class CacheWarning(UserWarning):
    """The cache of embeddings was damaged or cannot be used; the results are right, only slower."""


class TextCache:
    """Text embeddings of any model, by its fingerprint, precision, kind of device and the text.

    `folder` is by default the user's own for caches; nothing is written before the first `put`.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self.path = (cache_folder() if folder is None else folder) / "texts.sqlite"
        self._usable = True

    def get(self, model: LoadedModel, texts: Sequence[str]) -> tuple[list[int], Tensor]:
        """Return which of the texts, by their place, are known, n of them, and their embeddings ne, float32."""
        keys = _keys(model, texts)
        found: dict[bytes, bytes] = {}
        if self._file_number() is not None:
            found = self._use(lambda database: _read(database, keys), found)
        known = [place for place, key in enumerate(keys) if key in found]
        content = bytearray().join(found[keys[place]] for place in known)
        if not known:
            return [], torch.empty(0, 0)
        rows = np.frombuffer(content, dtype="<f4").astype(np.float32, copy=False)
        return known, torch.from_numpy(rows).view(len(known), -1)

    def put(self, model: LoadedModel, texts: Sequence[str], embeddings: Tensor) -> None:
        """Keep embeddings pe, float32, of p texts."""
        self._use(lambda database: _write(database, _keys(model, texts), embeddings), None)

    def _use(self, action: Callable[[sqlite3.Connection], T], otherwise: T) -> T:
        if not self._usable:
            return otherwise
        try:
            opened = self._file_number()
            with self._open() as database:
                return action(database)
        except (OSError, sqlite3.OperationalError) as error:  # read-only, full, locked for long
            self._usable = False
            self._warn(f"cannot be used ({error}), so texts are encoded anew")
        except sqlite3.DatabaseError as error:
            self._set_aside(opened, error)
        return otherwise

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        """Give a connection of this call alone, so that threads and forked processes share none."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with closing(sqlite3.connect(self.path, timeout=_PATIENCE)) as database:
            database.execute("PRAGMA page_size=16384")  # of a new file: an embedding is larger than the usual 4096
            with suppress(sqlite3.OperationalError):  # another process is at it: this one goes without
                database.execute("PRAGMA journal_mode=WAL")  # readers and a writer do not wait for each other
            database.execute("PRAGMA synchronous=NORMAL")  # a power cut may lose the newest rows, and harms no other
            database.execute(_SCHEMA)
            yield database

    def _set_aside(self, opened: int | None, error: Exception) -> None:
        """Rename the damaged file, unless another process has done so and it is a new one by now."""
        if opened != self._file_number():
            return
        aside = self.path.with_name(self.path.name + ".damaged")
        try:
            self.path.replace(aside)
            for ending in ("-wal", "-shm"):
                self.path.with_name(self.path.name + ending).unlink(missing_ok=True)
        except OSError as reason:
            self._usable = False
            self._warn(f"is damaged ({error}) and cannot be set aside ({reason}), so texts are encoded anew")
        else:
            self._warn(f"was damaged ({error}) and is now {aside.name}, so texts are encoded anew")

    def _file_number(self) -> int | None:
        try:
            return self.path.stat().st_ino
        except OSError:
            return None

    def _warn(self, what: str) -> None:
        warnings.warn(f"the cache of text embeddings, {self.path}, {what}", CacheWarning, stacklevel=4)


def _keys(model: LoadedModel, texts: Sequence[str]) -> list[bytes]:
    setting = hashlib.sha256(_VERSION)
    for part in (model.fingerprint, model.precision, model.device.type):
        setting.update(part.encode() + b"\0")
    return [_key(setting, text) for text in texts]


def _key(setting: "hashlib._Hash", text: str) -> bytes:
    digest = setting.copy()
    digest.update(text.encode("utf-8", "surrogatepass"))
    return digest.digest()


def _read(database: sqlite3.Connection, keys: list[bytes]) -> dict[bytes, bytes]:
    found: dict[bytes, bytes] = {}
    for start in range(0, len(keys), _KEYS_A_QUERY):
        some = keys[start : start + _KEYS_A_QUERY]
        places = ",".join("?" * len(some))
        for key, content, checksum in database.execute(f"SELECT * FROM texts WHERE key IN ({places})", some):
            if zlib.crc32(content) != checksum:
                raise sqlite3.DatabaseError("an embedding does not fit its checksum")
            found[key] = content
    return found


def _write(database: sqlite3.Connection, keys: list[bytes], embeddings: Tensor) -> None:
    contents = (row.tobytes() for row in embeddings.numpy().astype("<f4"))
    rows = ((key, content, zlib.crc32(content)) for key, content in zip(keys, contents, strict=True))
    with database:  # one transaction: all of them or none
        database.executemany("INSERT OR REPLACE INTO texts VALUES (?, ?, ?)", rows)
