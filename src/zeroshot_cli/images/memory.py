"""How much memory one decoding process may take, so that all of them leave room for the model."""

import os
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from PIL import Image

LEAST = 512 << 20  # bytes: an ordinary photograph takes a tenth of it
_SHARE = 2  # one part in so many of the memory is for decoding
_BYTES_A_PIXEL = 12  # of a decoder: an image in four channels, and two copies of it on the way
_CGROUPS = Path("/sys/fs/cgroup")


def bound_of(workers: int) -> int:
    """Return the bytes that each of `workers` decoding processes may take; 0 where the memory is not known."""
    memory = machine_memory()
    return max(LEAST, memory // _SHARE // workers) if memory else 0


def machine_memory() -> int:
    """Return the bytes of memory that this process may use: of the machine or, if less, of its container."""
    limits = list(_container_limits())
    with suppress(ValueError, OSError, AttributeError):  # Windows has no sysconf
        limits.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    return min((limit for limit in limits if limit > 0), default=0)


def _container_limits() -> Iterator[int]:
    """Yield the limits of the control groups that this process is in, and of those around them (cgroups 1 and 2)."""
    lines: list[str] = []
    with suppress(OSError):
        lines = Path("/proc/self/cgroup").read_text().splitlines()
    for line in lines:
        _, controllers, group = line.split(":", 2)
        if controllers and "memory" not in controllers.split(","):
            continue
        root, name = (_CGROUPS / "memory", "memory.limit_in_bytes") if controllers else (_CGROUPS, "memory.max")
        folder = root / group.lstrip("/")
        for place in (folder, *folder.parents):
            with suppress(OSError, ValueError):  # "max" is not a number
                yield int((place / name).read_text())
            if place == root:
                break


_bound = 0  # bytes that this process may take; 0: as many as there are


def too_large() -> str:
    """Return the reason for an image that did not fit."""
    if not _bound:
        return "too large for the memory of this machine"
    return f"it needs more than the {_bound >> 20:,} MB that one decoding process may take; use fewer --workers"


def why_failed(file: BinaryIO) -> str | None:
    """Return `too_large` for a file that failed and whose pixels may not fit: a decoder says that in many ways."""
    if not _bound:
        return None
    with suppress(Exception):
        width, height = _size(file)
        if width * height * _BYTES_A_PIXEL > _bound:
            return too_large()
    return None


def _size(file: BinaryIO) -> tuple[int, int]:
    file.seek(0)
    head = file.read(30)
    if head[8:15] == b"WEBPVP8":  # Pillow does not open what it cannot hold
        return _webp_size(head)
    file.seek(0)
    with Image.open(file) as image:
        return image.size


def _webp_size(head: bytes) -> tuple[int, int]:
    """Return (width, height) of a WebP; 0, 0 where the header is damaged (RFC 9649, sections 2.5 to 2.7; RFC 6386)."""
    kind, low = head[15:16], 0x3FFF
    if kind == b"X":
        return int.from_bytes(head[24:27], "little") + 1, int.from_bytes(head[27:30], "little") + 1
    if kind == b"L" and head[20] == 0x2F:
        bits = int.from_bytes(head[21:25], "little")
        return (bits & low) + 1, (bits >> 14 & low) + 1
    if kind == b" " and head[23:26] == b"\x9d\x01\x2a":
        return int.from_bytes(head[26:28], "little") & low, int.from_bytes(head[28:30], "little") & low
    return 0, 0


def limit_this_process(size: int) -> None:
    """Let this process take no more than `size` bytes; a larger image is a MemoryError. 0 sets no limit.

    Linux counts what is written to under RLIMIT_DATA; other systems have RLIMIT_AS, or nothing.
    """
    global _bound
    if not size:
        return
    with suppress(ImportError, OSError, ValueError):
        import resource

        which = resource.RLIMIT_DATA if sys.platform == "linux" else resource.RLIMIT_AS
        most = resource.getrlimit(which)[1]
        size = size if most == resource.RLIM_INFINITY else min(size, most)
        resource.setrlimit(which, (size, most))
        _bound = size
