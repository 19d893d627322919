"""Put files where they belong: nothing is overwritten, and a process killed at any moment loses nothing.

A target is either not there or whole. Every function raises FileExistsError where the target's name is taken, and
after any OSError all is as it was. (Paths are str: any bytes, as os.fsdecode gives them.)
"""

# pathlib would tidy up paths that are to stay as they are.
# ruff: noqa: PTH105, PTH108, PTH114, PTH115, PTH116, PTH118, PTH119, PTH120, PTH123, PTH211

import errno
import os
import shutil
import stat
from contextlib import suppress

UNFINISHED = ".zeroshot-unfinished"  # a copy that is being written, in the folder of its target
_CHUNK = 1 << 20
_NO_HARD_LINKS = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK)  # FAT, network shares, another's file


def copy_file(source: str, target: str) -> None:
    """Copy a file with its times and mode; a link is followed."""
    unfinished = os.path.join(os.path.dirname(target), UNFINISHED)
    remove_if_there(unfinished)
    try:
        _copy_to(source, unfinished)
        rename(unfinished, target)
    except BaseException:
        with suppress(OSError):
            os.unlink(unfinished)
        raise


def move_file(source: str, target: str) -> None:
    """Move a regular file, also to another file system: there its source goes once the copy is on the disk."""
    try:
        rename(source, target)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        copy_file(source, target)
        _sync_folder(os.path.dirname(target))
        _remove_source(source, target)


def move_link(source: str, target: str, text: str) -> None:
    """Move a symbolic link, which leads to `text` from now on."""
    os.symlink(text, target)
    _remove_source(source, target)


def rename(source: str, target: str) -> None:
    """Rename a regular file within a file system."""
    try:
        os.link(source, target)
    except OSError as error:
        if error.errno not in _NO_HARD_LINKS:
            raise
        _rename_over_placeholder(source, target)
    else:
        _remove_source(source, target)


def _rename_over_placeholder(source: str, target: str) -> None:
    """Rename where there are no hard links: an empty file takes the name first, and only that is replaced."""
    os.close(os.open(target, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    try:
        os.replace(source, target)
    except OSError:
        os.unlink(target)
        raise


def _remove_source(source: str, target: str) -> None:
    try:
        os.unlink(source)
    except FileNotFoundError:  # somebody else was faster: the target is now the only one
        pass
    except OSError:
        os.unlink(target)
        raise


def _copy_to(source: str, unfinished: str) -> None:
    with open(source, "rb") as reader, open(unfinished, "xb") as writer:
        shutil.copyfileobj(reader, writer, _CHUNK)
        writer.flush()
        os.fsync(writer.fileno())
        if os.fstat(writer.fileno()).st_size != os.fstat(reader.fileno()).st_size:
            raise OSError(errno.EIO, "the file changed while it was copied")
    with suppress(OSError):  # a file system without modes: the content is what counts
        shutil.copystat(source, unfinished)


def _sync_folder(folder: str) -> None:
    with suppress(OSError):  # Windows cannot open folders
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def remove_if_there(path: str) -> None:
    """Remove a file unless there is none."""
    with suppress(FileNotFoundError):
        os.unlink(path)


def is_there(path: str) -> bool:
    """Whether there is something of this name; OSError where that cannot be told."""
    try:
        os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


def is_regular(path: str) -> bool:
    """Whether there is a regular file, not a link to one."""
    try:
        return stat.S_ISREG(os.lstat(path).st_mode)
    except OSError:
        return False


def is_link_to(path: str, text: str) -> bool:
    """Whether there is a symbolic link of this text."""
    try:
        return os.readlink(path) == text
    except OSError:
        return False


def error_text(error: OSError) -> str:
    """Return the reason of an error, without the path."""
    return (error.strerror or str(error)).lower()


def same_place(first: str, second: str) -> bool:
    """Whether two paths lead to one name of one file, so that to remove the second would be to lose the first."""
    try:
        one, other = os.stat(first), os.lstat(second)
    except OSError:
        return False
    if not os.path.samestat(one, other):
        return False
    return os.path.islink(first) or other.st_nlink == 1 or _absolute(first) == _absolute(second)


def _absolute(path: str) -> str:
    return os.path.join(os.path.realpath(os.path.dirname(path)), os.path.basename(path))


def same_content(first: str, second: str) -> bool:
    """Whether two files hold the same bytes; not if one cannot be read."""
    try:
        with open(first, "rb") as one, open(second, "rb") as other:
            if os.fstat(one.fileno()).st_size != os.fstat(other.fileno()).st_size:
                return False
            while chunk := one.read(_CHUNK):
                if chunk != other.read(_CHUNK):
                    return False
            return True
    except OSError:
        return False


def unchanged_copy(source: str, target: str) -> bool:
    """Whether the target is a copy of the source as it is now: of the same size and time, or the same content."""
    try:
        one, other = os.stat(source), os.stat(target)
    except OSError:
        return False
    alike = (one.st_size, one.st_mtime_ns) == (other.st_size, other.st_mtime_ns)
    return alike or same_content(source, target)
