"""Large files at addresses, which are read at any place: a copy on this machine, made once, and continued when cut."""

import hashlib
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from zeroshot_cli.disk import cache_folder, make_private, open_own, read_own_notes, write_notes, writing
from zeroshot_cli.errors import UnreadableImage
from zeroshot_cli.remote.address import shown_address

if TYPE_CHECKING:  # it imports asyncio
    from zeroshot_cli.remote.web import Piece

if sys.platform != "win32":
    import fcntl

_PIECE = 32 << 20  # bytes that are asked for at once, and lost at most
FOLDER = "shards"


def copy_of(address: str) -> Path:
    """Return a file with what is at an address: the copy of an earlier run, if it is the same still, or a new one.

    Processes of this machine wait for each other. Raises UnreadableImage with the reason, UnavailableError where the
    host cannot be reached, UsageError where nothing can be written.
    """
    folder = cache_folder() / FOLDER / hashlib.sha256(os.fsencode(address)).hexdigest()[:24]
    with writing(str(folder)):
        make_private(folder)
        with _alone(folder):
            return _copied(address, folder)


def _copied(address: str, folder: Path) -> Path:
    from zeroshot_cli.remote.fetch import fetch_piece  # it imports asyncio

    copy, partial, note = folder / "copy.tar", folder / "copy.tar.partial", folder / "version.json"
    first = fetch_piece(address, 0, 1)  # or all, of a server that gives no parts
    if read_own_notes(note).get("version") != first.version:
        for old in (copy, partial):
            old.unlink(missing_ok=True)
        write_notes(note, {"address": shown_address(address), "version": first.version})
    if not copy.exists():
        _receive(address, partial, first)
        partial.replace(copy)
    return copy


def _receive(address: str, partial: Path, first: "Piece") -> None:
    """Fetch what is missing; what the first byte came with says which version it is."""
    from zeroshot_cli.remote.fetch import fetch_piece

    with open(partial, "wb" if first.is_last else "ab", opener=open_own) as file:
        piece = first
        if first.is_last:
            file.write(first.body)
        while not piece.is_last:
            piece = fetch_piece(address, file.tell(), _PIECE)
            if piece.version != first.version:
                raise UnreadableImage("it was written anew while it was read; try again")
            file.write(piece.body)


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Keep other processes of this machine out; one that is killed lets them in."""
    with open(folder / "lock", "w", opener=open_own) as lock:
        if sys.platform != "win32":
            with suppress(OSError):  # a file system without locks
                fcntl.flock(lock, fcntl.LOCK_EX)
        yield
