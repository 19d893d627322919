"""A file that grows by whole blocks and belongs to one run at a time."""

import errno
import io
import os
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from zeroshot_cli.disk import write_all, writing
from zeroshot_cli.errors import UsageError

if sys.platform != "win32":
    import fcntl


def is_special(path: Path) -> bool:
    """Whether the path leads to a pipe or a device, whose bytes are gone once they are written."""
    try:
        return not stat.S_ISREG(path.stat().st_mode)
    except OSError:  # nothing is there yet
        return False


class AppendFile:
    """An open file to which blocks are appended: each whole, or not at all.

    It is made where there is none; with `exclusive` there must be none. UsageError where it cannot be opened or
    written, where another run holds it, or where it is no longer at its path. Pipes and devices only take blocks.
    """

    def __init__(self, path: Path, *, exclusive: bool = False) -> None:
        self.path = path
        self.name = str(path)
        self.special = is_special(path)
        self.created = not os.path.lexists(path)
        mode = "wb" if self.special and not exclusive else "x+b" if exclusive else "a+b"
        with writing(self.name):
            self._stream: BinaryIO = path.open(mode, buffering=0)  # type: ignore[assignment]
            status = os.fstat(self._stream.fileno())
        self._identity = (status.st_dev, status.st_ino)
        self.size = 0 if self.special else status.st_size

    def lock(self) -> None:
        """Hold the file until it is closed or the process ends; UsageError where another process holds it.

        The lock is POSIX's: forked workers that outlive a killed run do not inherit it. It is lost when this process
        closes any other handle of the file, so `reader` opens none.
        """
        if self.special or sys.platform == "win32":
            return
        try:
            fcntl.lockf(self._stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in (errno.EACCES, errno.EAGAIN):
                return  # a file system without locks
            raise UsageError(f"another run is writing {self.name}; wait for its end, or name another file") from None
        self._refuse_if_gone()

    def append(self, data: bytes) -> None:
        """Write a block and flush it."""
        with writing(self.name, resumable=not self.special):
            try:
                write_all(self._stream, data)
                self.size += len(data)
            except BaseException:  # Ctrl-C too
                with suppress(UsageError):
                    self.truncate(self.size)
                raise
        self._refuse_if_gone()

    def truncate(self, size: int) -> None:
        """Cut the file to `size` bytes, where the next block goes."""
        if not self.special:
            with writing(self.name):
                self._stream.truncate(size)
            self.size = size

    @contextmanager
    def reader(self) -> Iterator[BinaryIO]:
        """Give a stream over the file from its first byte on; several can be read at once, and while blocks come."""
        with _opened_again(self.path, self._stream) as stream:
            yield stream

    def close(self) -> None:
        with writing(self.name):
            self._stream.close()

    def discard(self) -> None:
        """Close the file, and remove it if it was made here."""
        with suppress(UsageError):
            self.close()
        if self.created:
            with suppress(OSError):
                self.path.unlink()

    def _refuse_if_gone(self) -> None:
        """Raise UsageError where the path leads elsewhere by now: what is written to a removed file is lost."""
        if self.special:
            return
        with writing(self.name):
            try:
                status = self.path.stat()
            except (FileNotFoundError, NotADirectoryError):
                status = None
        if status is None or (status.st_dev, status.st_ino) != self._identity:
            raise UsageError(f"{self.name} is gone: it or its folder was removed or replaced during the run")


def _opened_again(path: Path, stream: BinaryIO) -> BinaryIO:
    if sys.platform == "win32":
        return path.open("rb")
    return io.BufferedReader(_Positioned(stream.fileno()), buffer_size=1 << 18)


class _Positioned(io.RawIOBase):
    """Reads an open file by positions of its own, and leaves it open."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._position = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        data = os.pread(self._descriptor, len(buffer), self._position)
        buffer[: len(data)] = data
        self._position += len(data)
        return len(data)
