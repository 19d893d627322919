"""Tables at addresses: read whole, since they are small beside the images that they name."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from zeroshot_cli.errors import UnreadableImage, UsageError
from zeroshot_cli.remote.address import shown_address


def fetch_table(address: str) -> bytes:
    """Return the bytes of a table; UsageError where there is none, UnavailableError where nobody answers."""
    from zeroshot_cli.remote.fetch import fetch  # it imports asyncio

    try:
        return fetch(address)
    except UnreadableImage as error:
        raise UsageError(f"{shown_address(address)}: {error}; check the address") from None


@contextmanager
def copied_table(address: str) -> Iterator[Path]:
    """Give a file with a copy of a table, for as long as it is needed."""
    name = PurePosixPath(address.partition("?")[0].partition("#")[0]).name
    with tempfile.TemporaryDirectory(prefix="zeroshot-") as folder:
        path = Path(folder, name or "table")
        path.write_bytes(fetch_table(address))
        yield path
