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

from zeroshot_cli.disk import open_own, write_all, writing
from zeroshot_cli.errors import UsageError

if sys.platform != "win32":
    import fcntl


def is_special(path: Path) -> bool:
    """Return whether the path leads to a pipe or a device, whose bytes are gone once written."""
    try:
        return not stat.S_ISREG(path.stat().st_mode)
    except OSError:  # nothing exists yet
        return False


class AppendFile:
    """An open file to which blocks are appended, each whole or not at all.

    It is created if it does not exist; with `exclusive` it must not exist, and a name of zeroshot's `own` may not be a
    link. Raises UsageError if it cannot be opened or written, if another run holds it, or if it is no longer at its
    path. Pipes and devices only take blocks.
    """

    def __init__(self, path: Path, *, exclusive: bool = False, own: bool = False) -> None:
        self.path = path
        self.name = str(path)
        self.special = is_special(path)
        self.created = not os.path.lexists(path)
        mode = "wb" if self.special and not exclusive else "x+b" if exclusive else "a+b"
        with writing(self.name):
            self._stream: BinaryIO = open(path, mode, buffering=0, opener=open_own if own else None)  # type: ignore[assignment]  # noqa: SIM115
            status = os.fstat(self._stream.fileno())
        self._identity = (status.st_dev, status.st_ino)
        self.size = 0 if self.special else status.st_size

    def lock(self) -> None:
        """Lock the file until it is closed or the process ends; UsageError if another process holds it.

        It is a POSIX lock: forked workers that outlive a killed run do not inherit it. It is lost when this process
        closes any other handle of the file, so `reader` opens none.
        """
        if self.special or sys.platform == "win32":
            return
        try:
            fcntl.lockf(self._stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in (errno.EACCES, errno.EAGAIN):
                return  # a file system without locks
            raise UsageError(f"another run is writing {self.name}; wait until it ends, or name another file") from None
        self._check_in_place()

    def append(self, data: bytes) -> None:
        """Write a block and flush it; what was written of a failed block is removed."""
        with writing(self.name, resumable=not self.special):
            try:
                write_all(self._stream, data)
                self.size += len(data)
            except BaseException:  # Ctrl-C too
                with suppress(UsageError):
                    self.truncate(self.size)
                raise
        self._check_in_place()

    def sync(self) -> None:
        """Have the disk keep what was appended, whatever happens to the machine."""
        if not self.special:
            with writing(self.name):
                os.fsync(self._stream.fileno())

    def truncate(self, size: int) -> None:
        """Cut the file to `size` bytes, where the next block will go."""
        if not self.special:
            with writing(self.name):
                self._stream.truncate(size)
            self.size = size

    @contextmanager
    def reader(self) -> Iterator[BinaryIO]:
        """Give a stream over the file from its first byte; several can be read while blocks are appended."""
        if sys.platform == "win32":
            opened: BinaryIO = self.path.open("rb")
        else:
            opened = io.BufferedReader(_Positioned(self._stream.fileno()), buffer_size=1 << 18)
        with opened as stream:
            yield stream

    def close(self) -> None:
        """Close the file, which releases its lock."""
        with writing(self.name):
            self._stream.close()

    def discard(self) -> None:
        """Close the file, and remove it if it was created here."""
        with suppress(UsageError):
            self.close()
        if self.created:
            with suppress(OSError):
                self.path.unlink()

    def _check_in_place(self) -> None:
        """Raise UsageError if the path now leads elsewhere: what is written to a removed file is lost."""
        if self.special:
            return
        with writing(self.name):
            try:
                status = self.path.stat()
            except (FileNotFoundError, NotADirectoryError):
                status = None
        if status is None or (status.st_dev, status.st_ino) != self._identity:
            raise UsageError(f"{self.name} is gone: it or its folder was removed or replaced during the run")


class _Positioned(io.RawIOBase):
    """Reads an open file at its own position, and leaves it open."""

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
