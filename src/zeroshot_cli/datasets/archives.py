"""Unpack the archives of data sets without trusting their content: no path leads out, and nothing is a link."""

import errno
import lzma
import shutil
import tarfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from gzip import BadGzipFile
from pathlib import Path, PurePosixPath

from zeroshot_cli.display import size_text
from zeroshot_cli.errors import DataError, UsageError

_MOST_FILES = 2_000_000
_GROWTH, _SLACK = 4, 64_000_000  # images hardly shrink when packed, so unpacked they take no more than that
_DAMAGED = (tarfile.TarError, EOFError, zlib.error, lzma.LZMAError, BadGzipFile)


def unpack(archive: Path, into: Path, *, top: str) -> int:
    """Unpack a tar, compressed or not, whose only folder is `top`, into an empty folder; return the number of files.

    Raises DataError for a path that is absolute or has `..`, a link, a device, another folder than `top`, a duplicate
    name, more than such an archive can hold, or a damaged archive; UsageError for too small a disk. After an error what
    is in `into` must not be used.
    """
    most = _GROWTH * archive.stat().st_size + _SLACK
    files = written = 0
    try:
        with tarfile.open(archive, "r:*") as tar:
            while (member := tar.next()) is not None:
                tar.members.clear()  # type: ignore[attr-defined]  # else all of them stay in memory
                _check(member, archive, top)
                files += member.isreg()
                written += member.size
                if written > most or files > _MOST_FILES:
                    raise DataError(
                        f"{archive}: unpacks to more than {size_text(most)} or {_MOST_FILES:,} files; "
                        "remove it and download it again"
                    )
                _extract(tar, member, archive, into)
    except _DAMAGED as error:
        raise DataError(f"{archive}: is damaged or not a tar ({error}); download it again") from None
    if not files:
        raise DataError(f"{archive}: holds no file; download it again")
    return files


@contextmanager
def storage_errors(folder: Path) -> Iterator[None]:
    """Turn what a disk refuses into a UsageError that says so."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise UsageError(f"the disk of {folder} is full; give --data-dir a folder with more space") from error
        raise UsageError(
            f"cannot use {error.filename or folder} ({error.strerror or error}); give --data-dir a folder that you "
            "can write to"
        ) from error


def need_room(bytes_needed: int, folder: Path) -> None:
    """Raise UsageError if the disk of a folder has less space left."""
    free = shutil.disk_usage(folder).free
    if bytes_needed > free:
        raise UsageError(
            f"{size_text(bytes_needed)} do not fit into {folder}, which lacks {size_text(bytes_needed - free)}; "
            "give --data-dir a folder with more space"
        )


def _check(member: tarfile.TarInfo, archive: Path, top: str) -> None:
    path = PurePosixPath(member.name)
    if path.is_absolute() or ".." in path.parts:
        raise DataError(f"{archive}: the path {member.name!r} leads out of it; do not use this archive")
    if not (member.isdir() or member.isreg()) or member.issparse():
        raise DataError(
            f"{archive}: {member.name!r} is {_kind(member)}, which no data set needs; do not use this archive"
        )
    if path.parts and path.parts[0] != top:
        raise DataError(f"{archive}: holds {path.parts[0]!r} where {top!r} is expected, so it is another archive")


def _kind(member: tarfile.TarInfo) -> str:
    if member.issym() or member.islnk():
        return "a link"
    return "a sparse file" if member.issparse() else "a device"


def _extract(tar: tarfile.TarFile, member: tarfile.TarInfo, archive: Path, into: Path) -> None:
    target = into.joinpath(*PurePosixPath(member.name).parts)
    if member.isreg():
        need_room(member.size, into)
        if target.exists():
            raise DataError(f"{archive}: {member.name!r} appears twice; download it again")
    tar.extract(member, into, set_attrs=False, filter="data")
