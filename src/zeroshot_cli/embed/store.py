"""A SQLite file of embeddings that several processes may use at once, and that nothing depends on.

One that is damaged is set aside, one that cannot be used is done without; both with a warning.
"""

import os
import sqlite3
import threading
import warnings
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeVar

from zeroshot_cli.disk import cache_folder
from zeroshot_cli.embed.cache_files import DAMAGE

T = TypeVar("T")
KEYS_A_QUERY = 500
_PATIENCE = 10  # seconds to wait for another process that writes


class CacheWarning(UserWarning):
    """The cache of embeddings was damaged or cannot be used; the results are right, only slower."""


class Store:
    """One database in the user's folder for caches, or in `folder`; not made before there is something to keep.

    `schema` makes its tables, `content` names what it holds and `otherwise` what happens without it, for warnings.
    Threads may share a store: one at a time is at it.
    """

    name: str
    schema: str
    content: str
    otherwise: str

    def __init__(self, folder: Path | None = None) -> None:
        self.path = (cache_folder() if folder is None else folder) / self.name
        self._usable = True
        self._lock = threading.RLock()
        self._database: sqlite3.Connection | None = None
        self._owner = 0  # the process that opened it, and the file that it opened
        self._opened: int | None = None

    def close(self) -> None:
        """Close the file; the next use opens it again."""
        with self._lock:
            if self._database is not None and self._owner == os.getpid():
                with suppress(sqlite3.Error):
                    self._database.close()
            self._database = None

    def __del__(self) -> None:
        self.close()

    def exists(self) -> bool:
        """Whether there is a file to look into."""
        return self._file_number() is not None

    def use(self, action: Callable[[sqlite3.Connection], T], otherwise: T) -> T:
        """What `action` makes of the database, or `otherwise` where that cannot be."""
        with self._lock:
            if not self._usable:
                return otherwise
            try:
                with self._opened_database() as database:
                    return action(database)
            except (OSError, sqlite3.OperationalError) as error:  # read-only, full, locked for long
                self._usable = False
                self.close()
                self._warn(f"cannot be used ({getattr(error, 'strerror', None) or error}), so {self.otherwise}")
            except DAMAGE as error:
                self.close()
                self._set_aside(error)
            return otherwise

    @contextmanager
    def _opened_database(self) -> Iterator[sqlite3.Connection]:
        """Give this process's connection to the file that is there now."""
        if self._owner != os.getpid() or self._opened != self._file_number():
            self.close()
        if self._database is None:
            self._open()
        assert self._database is not None
        yield self._database

    def _open(self) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._owner, self._opened = os.getpid(), self._file_number()
        database = sqlite3.connect(self.path, timeout=_PATIENCE, check_same_thread=False)
        self._database = database
        database.text_factory = bytes  # there is no text; where damage makes some, it need not be UTF-8
        database.execute("PRAGMA page_size=16384")  # of a new file: an embedding is larger than the usual 4096
        with suppress(sqlite3.OperationalError):  # another process is at it: this one goes without
            database.execute("PRAGMA journal_mode=WAL")  # readers and a writer do not wait for each other
        database.execute("PRAGMA synchronous=NORMAL")  # a power cut may lose the newest rows, and harms no other
        database.executescript(self.schema)
        self._opened = self._file_number()

    def _set_aside(self, error: Exception) -> None:
        """Rename the damaged file, unless another process has done so and it is a new one by now."""
        if self._opened != self._file_number():
            return
        aside = self.path.with_name(self.path.name + ".damaged")
        try:
            self.path.replace(aside)
            for ending in ("-wal", "-shm"):
                self.path.with_name(self.path.name + ending).unlink(missing_ok=True)
        except OSError as reason:
            self._usable = False
            self._warn(f"is damaged ({error}) and cannot be set aside ({reason}), so {self.otherwise}")
        else:
            self._warn(f"was damaged ({error}) and is now {aside.name}, so {self.otherwise}")

    def _file_number(self) -> int | None:
        try:
            return self.path.stat().st_ino
        except OSError:
            return None

    def _warn(self, what: str) -> None:
        warnings.warn(f"the cache of {self.content}, {self.path}, {what}", CacheWarning, stacklevel=4)


def checksum_of(key: bytes, content: bytes) -> int:
    """The checksum of a row, which binds its content to its key."""
    return zlib.crc32(content, zlib.crc32(key))


def checked(key: object, content: object, checksum: object) -> bytes:
    """The content of a row; raises sqlite3.DatabaseError where it is not what was written under this key."""
    if isinstance(key, bytes) and isinstance(content, bytes) and checksum_of(key, content) == checksum:
        return content
    raise sqlite3.DatabaseError("an embedding does not fit its checksum")
