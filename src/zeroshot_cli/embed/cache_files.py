"""The files of the cache: what is in them, how large they are, and how they are emptied while others use them.

No torch here, so `zeroshot cache` answers at once.
"""

import json
import os
import re
import sqlite3
from collections.abc import Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path

from zeroshot_cli.disk import cache_folder
from zeroshot_cli.errors import UsageError

DEFAULT_LIMIT = 2 << 30  # bytes on disk: some 900,000 images of 512 numbers each
LIMIT_VARIABLE = "ZEROSHOT_CACHE_SIZE"
_UNITS = {"B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}
_BESIDE = ("-wal", "-shm")  # SQLite's own files, part of the database while it is open
DAMAGE = (sqlite3.DatabaseError, UnicodeDecodeError)  # what a damaged file raises; its texts need not be UTF-8
_PATIENCE = 5  # seconds to wait for another process that writes


@dataclass(frozen=True, slots=True)
class Database:
    """A SQLite file of the cache, and its tables; the first has the embeddings."""

    name: str
    file: str
    tables: tuple[str, ...]


TEXTS = Database("texts", "texts.sqlite", ("texts",))
IMAGES = Database("images", "images.sqlite", ("embeddings", "files"))
DATABASES = (TEXTS, IMAGES)
FINGERPRINTS = "fingerprints.json"


@dataclass(frozen=True, slots=True)
class CacheFile:
    """One file of the cache: how many bytes it has on disk, how many rows by table, or the `problem` with it."""

    name: str
    path: Path
    size: int
    rows: dict[str, int] = field(default_factory=dict)
    problem: str | None = None


@dataclass(frozen=True, slots=True)
class Cleared:
    """What emptying one database did: rows that went, bytes that are free again, the `problem` where it failed.

    `in_use`: another process still reads what was there, and the rest of the space is free when that ends.
    """

    name: str
    path: Path
    removed: dict[str, int]
    freed: int
    in_use: bool = False
    problem: str | None = None


def size_limit() -> int:
    """How many bytes the cache of image embeddings may take: ZEROSHOT_CACHE_SIZE, else 2 GiB.

    Raises UsageError where that is not a size.
    """
    given = os.environ.get(LIMIT_VARIABLE, "").strip()
    if not given:
        return DEFAULT_LIMIT
    match = re.fullmatch(r"([0-9]{1,15}(?:\.[0-9]{1,15})?)\s*([KMGT]?B)?", given.upper())
    if match is None:
        raise UsageError(f"{LIMIT_VARIABLE}={given} is not a size; give a number of bytes, or one with MB or GB")
    return int(float(match[1]) * _UNITS[match[2] or "B"])


def cache_files(folder: Path | None = None) -> list[CacheFile]:
    """Every file of the cache, by default the user's, be it there or not; then the damaged ones that were set aside."""
    where = cache_folder() if folder is None else folder
    found = [_inspect(database, where) for database in DATABASES]
    damaged = [
        CacheFile(f"{database.name}, damaged", path, _size(path))
        for database in DATABASES
        for path in _set_aside(database, where)
    ]
    return [*found, _fingerprints(where / FINGERPRINTS), *damaged]


def clear(databases: Sequence[Database] = DATABASES, folder: Path | None = None) -> list[Cleared]:
    """Empty databases, and remove what was set aside of them as damaged.

    A database stays where it is and loses its rows, as other processes may have it open: were it taken away from under
    them, the journal of one file could become that of the next. Only a damaged one is removed.
    """
    where = cache_folder() if folder is None else folder
    return [_clear(database, where) for database in databases]


def _inspect(database: Database, folder: Path) -> CacheFile:
    path = folder / database.file
    try:
        if not path.exists():
            return CacheFile(database.name, path, 0, dict.fromkeys(database.tables, 0))
        with closing(_connect(path)) as connection:
            rows = _count(connection, database)
        return CacheFile(database.name, path, _size(path), rows)
    except (OSError, sqlite3.Error, UnicodeDecodeError) as error:
        return CacheFile(database.name, path, _size(path), problem=_reason(error))


def _connect(path: Path) -> sqlite3.Connection:
    """Open a database that is there; to read and write, as one that only reads would leave SQLite's files beside it."""
    uri = f"{path.absolute().as_uri()}?mode=rw"
    return sqlite3.connect(uri, uri=True, timeout=_PATIENCE, isolation_level=None)


def _count(connection: sqlite3.Connection, database: Database) -> dict[str, int]:
    """The number of rows by table; a table that is not there yet has none."""
    there = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    rows = dict.fromkeys(database.tables, 0)
    for table in there & rows.keys():
        (rows[table],) = connection.execute(f"SELECT count(*) FROM {table}").fetchone()
    return rows


def _fingerprints(path: Path) -> CacheFile:
    try:
        notes = json.loads(path.read_bytes())
    except FileNotFoundError:
        return CacheFile("fingerprints", path, 0, {"fingerprints": 0})
    except (OSError, ValueError) as error:
        return CacheFile("fingerprints", path, _size(path), problem=_reason(error))
    if not isinstance(notes, dict):
        return CacheFile("fingerprints", path, _size(path), problem="it holds no fingerprints")
    return CacheFile("fingerprints", path, _size(path), {"fingerprints": len(notes)})


def _clear(database: Database, folder: Path) -> Cleared:
    path = folder / database.file
    before = _size_with_damaged(database, folder)
    removed: dict[str, int] = dict.fromkeys(database.tables, 0)
    in_use, problem = False, None
    try:
        for damaged in _set_aside(database, folder):
            damaged.unlink(missing_ok=True)
        if path.exists():
            removed, in_use = _empty(path, database)
    except (OSError, sqlite3.OperationalError) as error:  # read-only, locked for long
        problem = _reason(error)
    except DAMAGE:
        problem = _remove(path)
    freed = max(before - _size_with_damaged(database, folder), 0)
    return Cleared(database.name, path, removed, freed, in_use, problem)


def _empty(path: Path, database: Database) -> tuple[dict[str, int], bool]:
    """Delete all rows and give the space back; return how many, and whether another process holds on to the space."""
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
    """Remove a damaged database; return the problem where that cannot be."""
    try:
        for each in (path, *(path.with_name(path.name + ending) for ending in _BESIDE)):
            each.unlink(missing_ok=True)
    except OSError as error:
        return _reason(error)
    return None


def _set_aside(database: Database, folder: Path) -> list[Path]:
    return sorted(folder.glob(f"{database.file}.damaged*"))


def _size_with_damaged(database: Database, folder: Path) -> int:
    return sum(_size(path) for path in (folder / database.file, *_set_aside(database, folder)))


def _size(path: Path) -> int:
    """Bytes of a file and of those that SQLite has beside it."""
    total = 0
    for each in (path, *(path.with_name(path.name + ending) for ending in _BESIDE)):
        with suppress(OSError):
            total += each.stat().st_size
    return total


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)
