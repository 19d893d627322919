"""Copy and move files so that nothing is overwritten, and a process killed at any moment loses nothing.

A target is either missing or whole. Every function raises FileExistsError if the target's name is taken, and after any
OSError everything is as it was. (Paths are str: any bytes, as os.fsdecode gives them.)
"""

# pathlib would normalise paths that must stay as they are.
# ruff: noqa: PTH105, PTH108, PTH114, PTH115, PTH116, PTH118, PTH119, PTH120, PTH123, PTH211

import errno
import os
import shutil
import stat
from contextlib import suppress

from zeroshot_cli.disk import open_plain

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
    """Move a regular file, also to another file system, where the source is removed once the copy is on disk."""
    try:
        rename(source, target)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        copy_file(source, target)
        _sync_folder(os.path.dirname(target))
        _remove_source(source, target)


def move_link(source: str, target: str, text: str) -> None:
    """Move a symbolic link and let it lead to `text`."""
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
    """Rename without hard links: an empty file reserves the name first, and only that is replaced."""
    os.close(os.open(target, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    try:
        os.replace(source, target)
    except OSError:
        os.unlink(target)
        raise


def _remove_source(source: str, target: str) -> None:
    try:
        os.unlink(source)
    except FileNotFoundError:  # another process was faster: the target is now the only one
        pass
    except OSError:
        os.unlink(target)
        raise


def _copy_to(source: str, unfinished: str) -> None:
    with open_plain(source) as reader, open(unfinished, "xb") as writer:
        shutil.copyfileobj(reader, writer, _CHUNK)
        writer.flush()
        os.fsync(writer.fileno())
        if os.fstat(writer.fileno()).st_size != os.fstat(reader.fileno()).st_size:
            raise OSError(errno.EIO, "the file changed while it was being copied")
    with suppress(OSError):  # a file system without modes: the content matters
        shutil.copystat(source, unfinished)


def _sync_folder(folder: str) -> None:
    with suppress(OSError):  # Windows cannot open folders
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def remove_if_there(path: str) -> None:
    """Remove a file if it exists."""
    with suppress(FileNotFoundError):
        os.unlink(path)


def is_there(path: str) -> bool:
    """Return whether anything has this name; OSError if that cannot be determined."""
    try:
        os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


def is_regular(path: str) -> bool:
    """Return whether this is a regular file, not a link to one."""
    try:
        return stat.S_ISREG(os.lstat(path).st_mode)
    except OSError:
        return False


def is_link_to(path: str, text: str) -> bool:
    """Return whether this is a symbolic link with this text."""
    try:
        return os.readlink(path) == text
    except OSError:
        return False


def make_folder(path: str) -> None:
    """Make a folder if it is missing; OSError where its name is that of a link, which may lead anywhere."""
    with suppress(FileExistsError):
        os.mkdir(path)  # noqa: PTH102
    if not stat.S_ISDIR(os.lstat(path).st_mode):
        raise OSError(errno.ENOTDIR, f"{path} is {'a link' if os.path.islink(path) else 'not a folder'}")


def has_link(folder: str) -> bool:
    """Return whether a link is on the way to an absolute path of a folder, which need not exist."""
    return os.path.normcase(os.path.realpath(folder)) != os.path.normcase(folder)


def error_text(error: OSError) -> str:
    """Return the reason for an error, without the path."""
    return (error.strerror or str(error)).lower()


def same_place(first: str, second: str) -> bool:
    """Return whether two paths lead to one name of one file, so that removing the second would lose the first."""
    try:
        one, other = os.stat(first), os.lstat(second)
    except OSError:
        return False
    if not os.path.samestat(one, other):
        return False
    return os.path.islink(first) or other.st_nlink == 1 or absolute(first) == absolute(second)


def absolute(path: str) -> str:
    """Return the one absolute path of a file or link, however its folder is written."""
    return os.path.join(os.path.realpath(os.path.dirname(path) or "."), os.path.basename(path))


def same_content(first: str, second: str) -> bool:
    """Return whether two files hold the same bytes; False if one cannot be read."""
    try:
        with open_plain(first) as one, open_plain(second) as other:
            if os.fstat(one.fileno()).st_size != os.fstat(other.fileno()).st_size:
                return False
            while chunk := one.read(_CHUNK):
                if chunk != other.read(_CHUNK):
                    return False
            return True
    except OSError:
        return False


def unchanged_copy(source: str, target: str) -> bool:
    """Return whether the target is a copy of the source as it is now: same size and time, or same content."""
    try:
        one, other = os.stat(source), os.stat(target)
    except OSError:
        return False
    alike = (one.st_size, one.st_mtime_ns) == (other.st_size, other.st_mtime_ns)
    return alike or same_content(source, target)
