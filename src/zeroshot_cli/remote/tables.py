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
        raise UsageError(f"{shown_address(address)}: {with_way_out(error)}") from None


def with_way_out(error: UnreadableImage) -> str:
    """Return why a table or tar is not read, and the way out: a named address may be anywhere, without an option."""
    from zeroshot_cli.remote.guard import ALLOW  # it imports asyncio

    reason = str(error)
    if (kept := reason.removesuffix(ALLOW)) == reason:
        return f"{reason}; check the address"
    return f"{kept}; give the address that it leads to, or download it first and give the file"


@contextmanager
def copied_table(address: str) -> Iterator[Path]:
    """Give a file with a copy of a table, for as long as it is needed."""
    name = PurePosixPath(address.partition("?")[0].partition("#")[0]).name
    with tempfile.TemporaryDirectory(prefix="zeroshot-") as folder:
        path = Path(folder, name or "table")
        path.write_bytes(fetch_table(address))
        yield path
