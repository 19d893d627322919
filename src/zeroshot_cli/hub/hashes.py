"""Whether a downloaded file is whole: its hash against the name that the hub's cache gives it, computed once a file."""

import hashlib
import os
import re
from contextlib import suppress
from functools import partial
from pathlib import Path

from zeroshot_cli.disk import cache_folder, read_own_notes, write_notes
from zeroshot_cli.errors import CheckpointError

_CHUNK = 1 << 20
_SHA256, _GIT_SHA1 = re.compile(r"[0-9a-f]{64}"), re.compile(r"[0-9a-f]{40}")


def fits(path: Path, etag: str) -> bool:
    """Return whether the content has the hash that is its ETag on the hub; True where the ETag is not a hash.

    Large files have their SHA-256, small ones git's SHA-1 of `blob`, their size and a NUL before the content.
    """
    if _SHA256.fullmatch(etag):
        return sha256_of(path) == etag
    if _GIT_SHA1.fullmatch(etag):
        head = f"blob {path.stat().st_size}\0".encode()
        return _digest(path, hashlib.sha1(head, usedforsecurity=False)) == etag
    return True


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file's content."""
    return _digest(path, hashlib.sha256())


def check_cached(path: Path) -> Path:
    """Return a file of the hub's cache once its hash is known to be right; a right one is remembered.

    Where the cache has no links its names hold no hash, and the file is taken as it is. A damaged file is removed
    with its link, so that the next download is a new one; raises CheckpointError.
    """
    if not path.is_symlink():
        return path
    blob = Path(os.path.normpath(path.parent / path.readlink()))  # one step, for it may be a link itself
    if is_remembered(blob):
        return path
    if not fits(blob, blob.name):
        for damaged in (path, blob):
            with suppress(OSError):
                damaged.unlink()
        raise CheckpointError(
            f"{path.name} in the download cache was damaged (its hash is not {blob.name[:12]}…) and has been removed: "
            "run the command again to download it anew"
        )
    remember(blob)
    return path


def is_remembered(path: Path) -> bool:
    """Return whether `remember` saw this path with its present size and time."""
    return read_own_notes(_notes()).get(str(path)) == _stamp(path)


def remember(path: Path) -> None:
    """Note that a file has been checked; where the note cannot be written, it will be checked again."""
    known = {name: stamp for name, stamp in read_own_notes(_notes()).items() if Path(name).exists()}
    write_notes(_notes(), known | {str(path): _stamp(path)})


def _stamp(path: Path) -> list[int]:
    status = path.stat()
    return [status.st_size, status.st_mtime_ns]


def _notes() -> Path:
    return cache_folder() / "verified.json"


def _digest(path: Path, digest: "hashlib._Hash") -> str:
    with path.open("rb") as file:
        for chunk in iter(partial(file.read, _CHUNK), b""):
            digest.update(chunk)
    return digest.hexdigest()
