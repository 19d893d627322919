"""Keep embeddings in SQLite files that several processes may use at once, and that nothing depends on.

A damaged file is set aside, one that cannot be used is done without; both with a warning. Here are the files' format,
how large they may grow, and how they are emptied while in use. No torch here: `zeroshot cache` answers at once.
"""

import os
import re
import sqlite3
import threading
import time
import warnings
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from zeroshot_cli.disk import cache_folder, create_private, require_private
from zeroshot_cli.documents import load_json
from zeroshot_cli.errors import UsageError

T = TypeVar("T")

DEFAULT_LIMIT = 2 << 30  # bytes on disk: some 900,000 images of 512 numbers each
LIMIT_VARIABLE = "ZEROSHOT_CACHE_SIZE"
FINGERPRINTS = "fingerprints.json"
_UNITS = {"B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}
_BESIDE = ("-wal", "-shm", "-journal")  # SQLite's own files, part of the database while it is open
_DAMAGE = (sqlite3.DatabaseError, UnicodeDecodeError)  # what a damaged file raises; its texts need not be UTF-8
_PATIENCE = 10  # seconds to wait for another process that writes
_KEYS_A_QUERY = 500
_DAY = 86_400
_EVICTED = 10  # one row in so many goes, the longest unused first, when the file has reached its limit


@dataclass(frozen=True, slots=True)
class Database:
    """A SQLite file of the cache: what it holds, and its tables, of which the first holds the embeddings."""

    name: str
    tables: tuple[str, ...]
    schema: str

    @property
    def file(self) -> str:
        """The name of the file."""
        return f"{self.name}.sqlite"


TEXTS = Database(
    "texts",
    ("texts",),
    "CREATE TABLE IF NOT EXISTS texts (key BLOB PRIMARY KEY, embedding BLOB NOT NULL, checksum INTEGER NOT NULL)",
)
IMAGES = Database(
    "images",
    ("embeddings", "files", "blocks"),
    """
    CREATE TABLE IF NOT EXISTS embeddings (
        key BLOB PRIMARY KEY, embedding BLOB NOT NULL, checksum INTEGER NOT NULL, used INTEGER NOT NULL);
    CREATE INDEX IF NOT EXISTS embeddings_used ON embeddings (used);
    CREATE TABLE IF NOT EXISTS files (
        path BLOB PRIMARY KEY, size INTEGER NOT NULL, modified INTEGER NOT NULL, changed INTEGER NOT NULL,
        content BLOB NOT NULL, used INTEGER NOT NULL);
    CREATE INDEX IF NOT EXISTS files_used ON files (used);
    CREATE TABLE IF NOT EXISTS blocks (
        key BLOB PRIMARY KEY, content BLOB NOT NULL, checksum INTEGER NOT NULL, used INTEGER NOT NULL);
    """,
)
DATABASES = (TEXTS, IMAGES)


class CacheWarning(UserWarning):
    """The cache of embeddings was damaged or cannot be used; the results are right, only slower."""


class Store:
    """One database in the user's folder for caches, or in `folder`; not made before there is something to keep.

    Threads may share a store: one at a time uses it.
    """

    database: Database

    def __init__(self, folder: str | os.PathLike[str] | None = None) -> None:
        self.path = (cache_folder() if folder is None else Path(folder)) / self.database.file
        self._usable = True
        self._lock = threading.RLock()
        self._connection: sqlite3.Connection | None = None
        self._owner = 0  # the process that opened it, and the file that it opened
        self._opened: int | None = None

    def close(self) -> None:
        """Close the file; the next use opens it again."""
        with self._lock:
            if self._connection is not None and self._owner == os.getpid():
                with suppress(sqlite3.Error):
                    self._connection.close()
            self._connection = None

    def __del__(self) -> None:
        self.close()

    def read(self, action: Callable[[sqlite3.Connection], T], otherwise: T) -> T:
        """Return what `action` makes of the database, or `otherwise` where there is none or it cannot be used."""
        return otherwise if self._file_number() is None else self.use(action, otherwise)

    def use(self, action: Callable[[sqlite3.Connection], T], otherwise: T) -> T:
        """Return what `action` makes of the database, or `otherwise` where it cannot be used."""
        with self._lock:
            if not self._usable:
                return otherwise
            try:
                return action(self._open())
            except (OSError, sqlite3.OperationalError) as error:  # read-only, full, locked for long
                self._usable = False
                self.close()
                self._warn(f"cannot be used ({_reason(error)})")
            except _DAMAGE as error:
                self.close()
                self._set_aside(error)
            return otherwise

    def _open(self) -> sqlite3.Connection:
        """Return this process's connection to the file that is there now."""
        if self._owner != os.getpid() or self._opened != self._file_number():
            self.close()
        if self._connection is not None:
            return self._connection
        create_private(self.path, beside=_files_of(self.path))  # SQLite's own files get the same mode
        self._owner, self._opened = os.getpid(), self._file_number()
        connection = sqlite3.connect(self.path, timeout=_PATIENCE, check_same_thread=False)
        self._connection = connection
        connection.text_factory = bytes  # there is no text; where damage makes some, it need not be UTF-8
        connection.execute("PRAGMA page_size=16384")  # of a new file: an embedding is larger than the usual 4096
        with suppress(sqlite3.OperationalError):  # another process is at it: this one goes without
            connection.execute("PRAGMA journal_mode=WAL")  # readers and a writer do not wait for each other
        connection.execute("PRAGMA synchronous=NORMAL")  # a power cut may lose the newest rows, and harms no other
        connection.executescript(self.database.schema)
        self._opened = self._file_number()
        return connection

    def _set_aside(self, error: Exception) -> None:
        """Rename the damaged file, unless another process has done so and it is a new one by now."""
        if self._opened != self._file_number():
            return
        aside = self.path.with_name(self.path.name + ".damaged")
        try:
            self.path.replace(aside)
            for path in _files_of(self.path)[1:]:
                path.unlink(missing_ok=True)
        except OSError as reason:
            self._usable = False
            self._warn(f"is damaged ({error}) and cannot be set aside ({reason})")
        else:
            self._warn(f"was damaged ({error}) and is now {aside.name}")

    def _file_number(self) -> int | None:
        try:
            return self.path.stat().st_ino
        except OSError:
            return None

    def _warn(self, what: str) -> None:
        name = self.database.name
        message = f"the cache of {name[:-1]} embeddings, {self.path}, {what}, so {name} are encoded anew"
        warnings.warn(message, CacheWarning, stacklevel=4)


def select(
    connection: sqlite3.Connection, columns: str, table: str, column: str, values: Sequence[bytes]
) -> Iterator[tuple[Any, ...]]:
    """Yield the rows whose `column` has one of the values."""
    for start in range(0, len(values), _KEYS_A_QUERY):
        some = values[start : start + _KEYS_A_QUERY]
        places = ",".join("?" * len(some))
        yield from connection.execute(f"SELECT {columns} FROM {table} WHERE {column} IN ({places})", some)


def read_embeddings(database: sqlite3.Connection, table: str, keys: Sequence[bytes], width: int) -> dict[bytes, bytes]:
    """Return the embeddings that are there, by key; those that were not used today are marked as used.

    Raises sqlite3.DatabaseError where one is not what was written under its key, or has not `width` numbers.
    """
    found: dict[bytes, bytes] = {}
    used: list[tuple[bytes, int]] = []
    for key, content, checksum, *last in select(database, "*", table, "key", keys):
        fits = isinstance(key, bytes) and isinstance(content, bytes) and len(content) == 4 * width
        if not fits or _checksum_of(key, content) != checksum:
            raise sqlite3.DatabaseError("an embedding does not fit its checksum")
        found[key] = content
        used += [(key, last[0])] if last else []
    mark_used(database, table, "key", used)
    return found


def write_embeddings(connection: sqlite3.Connection, table: str, rows: Iterable[tuple[bytes, bytes]]) -> None:
    """Keep embeddings with their keys; the caller commits."""
    used = "" if table == TEXTS.tables[0] else f", {int(time.time())}"
    values = ((key, content, _checksum_of(key, content)) for key, content in rows)
    connection.executemany(f"INSERT OR REPLACE INTO {table} VALUES (?, ?, ?{used})", values)


def _checksum_of(key: bytes, content: bytes) -> int:
    return zlib.crc32(content, zlib.crc32(key))  # binds a row's content to its key


def mark_used(connection: sqlite3.Connection, table: str, column: str, used: Iterable[tuple[bytes, int]]) -> None:
    """Note that rows, given with the time of their last use, were used today, so that others are evicted first."""
    now = time.time()
    rows = [(int(now), value) for value, last in used if now - last > _DAY]
    if rows:
        with connection:
            connection.executemany(f"UPDATE {table} SET used = ? WHERE {column} = ?", rows)


# how large the files are


def size_limit() -> int:
    """Return how many bytes the cache of image embeddings may take: ZEROSHOT_CACHE_SIZE, else 2 GiB.

    Raises UsageError where that is not a size.
    """
    given = os.environ.get(LIMIT_VARIABLE, "").strip()
    if not given:
        return DEFAULT_LIMIT
    match = re.fullmatch(r"([0-9]{1,15}(?:\.[0-9]{1,15})?)\s*([KMGT]?B)?", given.upper())
    if match is None:
        raise UsageError(f"{LIMIT_VARIABLE}={given} is not a size; give a number of bytes, or one with MB or GB")
    return int(float(match[1]) * _UNITS[match[2] or "B"])


def make_room(connection: sqlite3.Connection, limit: int, wanted: int) -> None:
    """Evict the images unused for longest once the file has reached its limit; its pages are written again."""
    page_size, pages, free = (
        connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_size", "page_count", "freelist_count")
    )
    if (pages - free) * page_size < limit:
        return
    for table in IMAGES.tables:
        count = connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0]
        oldest = f"SELECT rowid FROM {table} ORDER BY used, rowid LIMIT {max(count // _EVICTED, wanted)}"
        connection.execute(f"DELETE FROM {table} WHERE rowid IN ({oldest})")


@dataclass(frozen=True, slots=True)
class CacheFile:
    """One file of the cache: how many bytes it has on disk, how many rows by table, or the `problem` with it."""

    name: str
    path: Path
    size: int
    rows: dict[str, int] = field(default_factory=dict)
    problem: str | None = None


def cache_files(folder: Path | None = None) -> list[CacheFile]:
    """Return every file of the cache, by default the user's, existing or not; then the damaged ones set aside."""
    where = folder or cache_folder()
    files = [*(_inspect(database, where) for database in DATABASES), _fingerprints(where / FINGERPRINTS)]
    for database in DATABASES:
        files += [CacheFile(f"{database.name}, damaged", path, _size(path)) for path in _damaged(database, where)]
    return files


def _inspect(database: Database, folder: Path) -> CacheFile:
    path = folder / database.file
    try:
        require_private(path)
        if not path.exists():
            return CacheFile(database.name, path, 0, dict.fromkeys(database.tables, 0))
        with closing(_connect(path)) as connection:
            rows = _count(connection, database)
        return CacheFile(database.name, path, _size(path), rows)
    except (OSError, *_DAMAGE) as error:
        return CacheFile(database.name, path, _size(path), problem=_reason(error))


def _fingerprints(path: Path) -> CacheFile:
    try:
        notes = load_json(path.read_bytes())
        if not isinstance(notes, dict):
            raise ValueError("it holds no fingerprints")
    except FileNotFoundError:
        notes = {}
    except (OSError, ValueError) as error:
        return CacheFile("fingerprints", path, _size(path), problem=_reason(error))
    return CacheFile("fingerprints", path, _size(path), {"fingerprints": len(notes)})


def _connect(path: Path) -> sqlite3.Connection:
    """Open a database that is there; to read and write, as one that only reads would leave SQLite's files beside it."""
    uri = f"{path.absolute().as_uri()}?mode=rw"
    return sqlite3.connect(uri, uri=True, timeout=_PATIENCE / 2, isolation_level=None)  # a person waits for it


def _count(connection: sqlite3.Connection, database: Database) -> dict[str, int]:
    """Return the number of rows by table; a table that is not there yet has none."""
    there = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    rows = dict.fromkeys(database.tables, 0)
    for table in there & rows.keys():
        (rows[table],) = connection.execute(f"SELECT count(*) FROM {table}").fetchone()
    return rows


def _damaged(database: Database, folder: Path) -> list[Path]:
    return sorted(folder.glob(f"{database.file}.damaged*"))


def _files_of(path: Path) -> list[Path]:
    """Return a database and the files that SQLite has beside it."""
    return [path, *(path.with_name(path.name + extension) for extension in _BESIDE)]


def _size(*paths: Path) -> int:
    """Return the bytes of files and of those that SQLite has beside them."""
    total = 0
    for each in (file for path in paths for file in _files_of(path)):
        with suppress(OSError):
            total += each.stat().st_size
    return total


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)


# emptying them


@dataclass(frozen=True, slots=True)
class Cleared:
    """What emptying one database did: rows removed, bytes that are free again, the `problem` where it failed.

    `in_use`: another process still reads what was there, and the rest of the space is free when that ends.
    """

    name: str
    path: Path
    removed: dict[str, int]
    freed: int
    in_use: bool = False
    problem: str | None = None


def clear(databases: Sequence[Database] = DATABASES, folder: Path | None = None) -> list[Cleared]:
    """Empty databases, and remove those of them that were set aside as damaged.

    A database stays where it is and loses its rows, as other processes may have it open: were it taken away from under
    them, the journal of one file could become that of the next. Only a damaged one is removed.
    """
    return [_clear(database, folder or cache_folder()) for database in databases]


def _clear(database: Database, folder: Path) -> Cleared:
    path = folder / database.file
    before = _size(path, *_damaged(database, folder))
    removed: dict[str, int] = dict.fromkeys(database.tables, 0)
    in_use, problem = False, None
    try:
        for damaged in _damaged(database, folder):
            damaged.unlink(missing_ok=True)
        require_private(path)
        if path.exists():
            removed, in_use = _empty(path, database)
    except (OSError, sqlite3.OperationalError) as error:  # read-only, locked for long
        problem = _reason(error)
    except _DAMAGE:
        problem = _remove(path)
    freed = max(before - _size(path, *_damaged(database, folder)), 0)
    return Cleared(database.name, path, removed, freed, in_use, problem)


def _empty(path: Path, database: Database) -> tuple[dict[str, int], bool]:
    """Delete all rows and give the space back; return how many, and whether another process still holds the space."""
    with closing(_connect(path)) as connection:
        connection.execute("PRAGMA secure_delete=OFF")  # else all that goes is first written anew, as zeros
        connection.execute("BEGIN IMMEDIATE")
        rows = _count(connection, database)
        for table in (table for table, count in rows.items() if count):
            connection.execute(f"DELETE FROM {table}")
        connection.execute("COMMIT")
        with suppress(sqlite3.OperationalError):  # locked again: the rows are gone, and new ones will use the space
            connection.execute("VACUUM")
            (in_use, *_) = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
            return rows, bool(in_use)
        return rows, True


def _remove(path: Path) -> str | None:
    """Remove a damaged database; return the problem where that is not possible."""
    try:
        for each in _files_of(path):
            each.unlink(missing_ok=True)
    except OSError as error:
        return _reason(error)
    return None
