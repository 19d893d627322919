"""Where files are written, and how: a file is the old one, missing, or the whole new one, and never half of it.

A name that the user gave may be a link, and the file it leads to is replaced. A name that zeroshot makes itself, beside
an output, may not: whoever can plant a link there would choose what is overwritten.
"""

# pathlib's questions raise OSError where a name is too long or a folder is locked; opening names the reason.
# ruff: noqa: PTH112, PTH114, PTH116

import difflib
import errno
import hashlib
import json
import os
import secrets
import shutil
import stat
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

from zeroshot_cli.documents import load_json
from zeroshot_cli.errors import UsageError

_FLAGS = sum(getattr(os, name, 0) for name in ("O_NONBLOCK", "O_NOCTTY", "O_CLOEXEC", "O_BINARY"))
_READ = os.O_RDONLY | _FLAGS  # without waiting for a pipe's other end
_OWN = _FLAGS | getattr(os, "O_NOFOLLOW", 0)
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | _OWN
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)


def similar_path(path: str) -> str | None:
    """Return a question with the name beside a missing path that looks most like it."""
    folder, name = os.path.split(path.rstrip("/"))
    with suppress(OSError, ValueError):
        if close := difflib.get_close_matches(name, os.listdir(folder or "."), n=1, cutoff=0.7):  # noqa: PTH208
            return f"did you mean {os.path.join(folder, close[0])}?"  # noqa: PTH118
    return None


def cache_folder() -> Path:
    """Return the folder for what can be computed again: ZEROSHOT_CACHE_DIR, else `zeroshot` in the system's caches."""
    own = os.environ.get("ZEROSHOT_CACHE_DIR")
    return expanded(own, of="ZEROSHOT_CACHE_DIR") if own else _system_cache() / "zeroshot"


def expanded(path: str | Path, *, of: str = "") -> Path:
    """Return a path with its `~` replaced by the folder that it stands for; UsageError where there is none."""
    try:
        return Path(path).expanduser()
    except RuntimeError:
        raise UsageError(f"{of}{'=' * bool(of)}{path}: there is no such home folder; write the whole path") from None


def _system_cache() -> Path:
    try:
        if sys.platform == "win32":
            return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
        if sys.platform == "darwin":
            return Path.home() / "Library" / "Caches"
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    except RuntimeError:  # neither HOME nor an entry of the user, as in a container
        return Path(tempfile.gettempdir()) / f"zeroshot-{_user()}"


# What others could plant in a cache: only the user's own files are believed


def _user() -> int:
    return os.geteuid() if hasattr(os, "geteuid") else 0


def distrusted(path: Path) -> str | None:
    """Return why a file of the cache is not to be used: it, or its folder, could be somebody else's work.

    None for what is fine, or is not there. Windows keeps a user's caches apart by itself.
    """
    for each in (path.parent, path) if hasattr(os, "geteuid") else ():
        try:
            found = [os.lstat(each), os.stat(each)] if each is not path else [os.lstat(each)]
        except OSError:  # not there; if it is locked, opening it says so
            continue
        if any(status.st_uid != _user() for status in found):
            return f"{each} belongs to another user"
        if found[-1].st_mode & (stat.S_IWGRP | stat.S_IWOTH) and not stat.S_ISLNK(found[-1].st_mode):
            return f"others may write to {each}; run chmod go-w {each}"
    return None


def require_private(*paths: Path) -> None:
    """Raise PermissionError for the first file of the cache that is `distrusted`."""
    for problem in filter(None, map(distrusted, paths)):
        raise PermissionError(errno.EPERM, problem)


def create_private(path: Path, beside: Iterable[Path] = ()) -> None:
    """Let the user alone read and write a file of the cache, which is created where it is missing, empty.

    Raises PermissionError where it, or a file `beside` it, is `distrusted`, and OSError where it cannot be created.
    """
    make_private(path.parent)
    for each in (path, *beside):
        refuse_link(each)
    require_private(path, *beside)
    os.close(open_own(path, os.O_RDWR | os.O_CREAT, mode=0o600))
    path.chmod(0o600)  # an earlier version's was not


def make_private(folder: Path) -> None:
    """Create a folder that only the user can enter, unless it is there."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)


def check_output(path: Path, *, overwrite: bool) -> None:
    """Raise UsageError if a file exists and may not be overwritten, or cannot be created."""
    with writing(str(path)), suppress(FileNotFoundError, NotADirectoryError):
        os.lstat(path)  # a name too long, a locked folder
    if os.path.isdir(path):
        raise UsageError(f"cannot write {path}: it is a folder; name a file in it")
    if not os.path.isdir(path.parent):
        raise UsageError(f"cannot write {path}: there is no folder {path.parent}; create it first")
    if os.path.lexists(path) and not overwrite:
        raise UsageError(f"{path} already exists; add --overwrite to replace it, or name another file")


@contextmanager
def writing(name: str, *, resumable: bool = False) -> Iterator[None]:
    """Turn a failed write to `name` into a UsageError; a closed pipe stays a BrokenPipeError.

    If the disk is full or broken and the file is `resumable`, the message says how to continue.
    """
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        way_out = "; what was written is valid, and --resume continues from there"
        hint = way_out if resumable and error.errno in _FULL else ""
        raise UsageError(f"cannot write {name}: {error.strerror or error}{hint}") from error


def open_plain(path: str | os.PathLike[str]) -> BinaryIO:
    """Open a regular file to read it; never waits. Raises OSError, also for a pipe, a device, a socket or a folder."""
    if not stat.S_ISREG(os.stat(path).st_mode):  # before it is opened, for opening a device can do things
        raise OSError(errno.EINVAL, "it is not a regular file", os.fspath(path))
    descriptor = os.open(path, _READ)
    if stat.S_ISREG(os.fstat(descriptor).st_mode):
        return os.fdopen(descriptor, "rb")
    os.close(descriptor)
    raise OSError(errno.EINVAL, "it is not a regular file", os.fspath(path))


def read_plain(path: str | os.PathLike[str]) -> bytes:
    """Return the bytes of a regular file; raises OSError as `open_plain`."""
    with open_plain(path) as file:
        return file.read()


def open_own(path: str | os.PathLike[str], flags: int, *, mode: int = 0o666) -> int:
    """Return a descriptor of a file whose name zeroshot made: a link raises OSError, and so does what is not a file."""
    refuse_link(path)
    descriptor = os.open(path, flags | _OWN, mode)
    if stat.S_ISREG(os.fstat(descriptor).st_mode):
        return descriptor
    os.close(descriptor)
    raise OSError(errno.EINVAL, "it is not a regular file", os.fspath(path))


def refuse_link(path: str | os.PathLike[str]) -> None:
    """Raise OSError where a link has a name that zeroshot makes itself."""
    if os.path.islink(path):
        raise OSError(errno.ELOOP, "it is a link, which may lead anywhere; remove it", os.fspath(path))


@contextmanager
def replacing(path: Path, *, resumable: bool = False, locked: bool = False, own: bool = False) -> Iterator[Path]:
    """Give the name of an empty unfinished file that replaces `path` at the end; UsageError if it cannot.

    A link stays, and the file it leads to is replaced, unless the name is zeroshot's `own`: then it is refused. A
    caller that is the only one to write `path`, because it holds a lock (`locked`) or is a `resumable` run, overwrites
    what a killed process left unfinished.
    """
    with writing(str(path)):
        if own:
            refuse_link(path)
    path = Path(os.path.realpath(path))
    known = resumable or locked  # the name is short, however long that of `path`
    unique = hashlib.sha256(os.fsencode(path.name)).hexdigest()[:12] if known else secrets.token_hex(6)
    unfinished = path.with_name(f".{unique}.unfinished")
    with writing(str(path), resumable=resumable):
        if known:
            with suppress(FileNotFoundError):
                unfinished.unlink()
        os.close(os.open(unfinished, _NEW, 0o666))
    try:
        yield unfinished
        with writing(str(path), resumable=resumable):
            with unfinished.open("r+b") as file:
                os.fsync(file.fileno())  # a name that outlives a power cut before its bytes do would be an empty file
            unfinished.replace(path)
    except BaseException:
        with suppress(OSError):
            unfinished.unlink()
        raise


@contextmanager
def finished_folder(target: Path, temporary: Path) -> Iterator[Path]:
    """Yield an empty temporary folder that becomes `target` when the block ends, and is removed if the block fails.

    What a killed process left in `temporary` is removed first.
    """
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    try:
        yield temporary
        temporary.rename(target)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def write_file(
    path: Path, content: bytes | str, *, resumable: bool = False, locked: bool = False, own: bool = False
) -> None:
    """Replace a file by `content` (text as UTF-8) as `replacing` does; UsageError if it cannot be written."""
    data = content.encode() if isinstance(content, str) else content
    with (
        replacing(path, resumable=resumable, locked=locked, own=own) as unfinished,
        writing(str(path), resumable=resumable),
    ):
        unfinished.write_bytes(data)


def read_notes(path: Path) -> dict[str, Any]:
    """Return the JSON object in a file; empty if there is no such file or it is damaged."""
    try:
        with open_plain(path) as file:
            notes = load_json(file.read())
    except (OSError, ValueError):
        return {}
    return notes if isinstance(notes, dict) else {}


def read_own_notes(path: Path) -> dict[str, Any]:
    """Return the JSON object in a file of the cache; empty also where others could have written it."""
    return {} if distrusted(path) else read_notes(path)


def write_notes(path: Path, notes: Mapping[str, object]) -> None:
    """Write a JSON object that is not worth an error: where it cannot be written, it will be computed again."""
    with suppress(OSError, UsageError):
        make_private(path.parent)
        if not distrusted(path):
            with replacing(path, own=True) as unfinished:
                unfinished.chmod(0o600)
                unfinished.write_text(json.dumps(notes, indent=0), encoding="utf-8")


def write_all(stream: BinaryIO, data: bytes) -> None:
    """Write all bytes, which an unbuffered stream may take in pieces, and flush."""
    rest = memoryview(data)
    while rest:
        rest = rest[stream.write(rest) :]
    stream.flush()
