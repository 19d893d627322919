"""Read the bytes of an address: many requests at once, in one thread, each tried again where that may help.

A failure that would come again is the image's own, and UnreadableImage has its reason. That no connection comes about
is not: where a host had answered before, or none has, the run ends, and nobody records good images as bad ones.
"""

import asyncio
import atexit
import random
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, TypeVar

from zeroshot_cli.errors import UnavailableError, UnreadableImage
from zeroshot_cli.remote.address import HTTP, host_of, is_hidden, scheme_of
from zeroshot_cli.remote.faults import Fault
from zeroshot_cli.remote.stores import check_scheme, is_known, read_piece, read_store
from zeroshot_cli.remote.web import Limits, Piece, Received, Web

LIMITS = Limits()
_THREADS = 64  # for looking up names, and for stores that have no asynchronous interface; started when needed
T = TypeVar("T")


@dataclass
class _Client:
    """What one event loop shares between requests: connections, and which hosts have answered."""

    web: Web = field(default_factory=Web)
    answered: set[str] = field(default_factory=set)
    dead: dict[str, str] = field(default_factory=dict)


_clients: dict[int, tuple[Any, _Client]] = {}  # of a loop by its number; a fork begins another
_lock = threading.Lock()


def fetch(name: str, *, allow_private: bool = False) -> bytes:
    """Return the bytes of an address.

    Raises UnreadableImage with the reason, UnavailableError where the host cannot be reached, UsageError where a
    package is missing.
    """
    coming = begin(name, allow_private=allow_private)
    try:
        return coming.result()
    except BaseException:
        coming.cancel()
        raise


def begin(name: str, received: Received | None = None, *, allow_private: bool = False) -> "Future[bytes]":
    """Begin to read as `fetch` does; `received` hears of every piece, and may wait before the next."""
    if not is_known(scheme := scheme_of(name) or ""):
        unknown: Future[bytes] = Future()
        unknown.set_exception(UnreadableImage(f"unknown scheme {scheme}://"))
        return unknown
    check_scheme(name)
    from fsspec.asyn import get_loop

    loop = get_loop()
    return asyncio.run_coroutine_threadsafe(_read(_client(loop), name, received or _nothing, allow_private), loop)


def fetch_piece(address: str, first: int, most: int) -> Piece:
    """Return at most so many bytes of an address from byte `first` on. Raises as `fetch` does."""
    check_scheme(address)
    from fsspec.asyn import get_loop

    loop = get_loop()
    client = _client(loop)

    async def read() -> Piece:
        if scheme_of(address) in HTTP:
            return await _asked(client, address, lambda: client.web.piece(address, LIMITS, first, most))
        return await _asked(client, address, lambda: read_piece(address, LIMITS, first, most))

    return asyncio.run_coroutine_threadsafe(read(), loop).result()


def _client(loop: Any) -> _Client:
    with _lock:
        known = _clients.get(id(loop))
        if known is None or known[0] is not loop:
            if not _clients:
                atexit.register(close_connections)
            threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="fetch")
            loop.call_soon_threadsafe(loop.set_default_executor, threads)
            _clients[id(loop)] = known = (loop, _Client())
        return known[1]


def close_connections() -> None:
    """Close the connections of this process, and forget which hosts have answered."""
    from fsspec.asyn import get_loop

    loop = get_loop()
    with _lock:
        known = _clients.pop(id(loop), None)
    if known is not None and known[0] is loop:
        with suppress(TimeoutError):
            asyncio.run_coroutine_threadsafe(known[1].web.close(), loop).result(timeout=1)


async def _nothing(received: int) -> None: ...


async def _read(client: _Client, address: str, received: Received, allow_private: bool) -> bytes:
    limits = LIMITS
    if scheme_of(address) in HTTP:
        once: Callable[[], Awaitable[bytes]] = lambda: client.web.read(  # noqa: E731
            address, limits, received, allow_private=allow_private
        )
    else:
        once = lambda: read_store(address, limits, received)  # noqa: E731
    body = await _asked(client, address, once)
    if not body:
        raise UnreadableImage("the file is empty")
    return body


async def _asked(client: _Client, address: str, once: Callable[[], Awaitable[T]]) -> T:
    """Return what `once` reads; UnreadableImage and UnavailableError say whose fault it is that it cannot."""
    if is_hidden(address):
        raise UnreadableImage("parts of the address were left out of it (***), so it cannot be read again")
    host = f"{scheme_of(address)}://{host_of(address)}"
    if host in client.dead:
        raise UnreadableImage(client.dead[host])
    try:
        found = await _tried(once, LIMITS)
    except Fault as fault:
        if not fault.unreachable:
            client.answered.add(host)
            raise UnreadableImage(fault.reason) from None
        raise _unreached(client, host, fault.reason) from None
    client.answered.add(host)
    return found


async def _tried(once: Callable[[], Awaitable[T]], limits: Limits) -> T:
    """Return what `once` reads, trying again with growing waits. Raises Fault."""
    loop = asyncio.get_running_loop()
    begin, wait = loop.time(), limits.first_wait
    for number in range(1, limits.tries + 1):
        try:
            return await once()
        except Fault as fault:
            pause = min(limits.longest_wait, max(wait, fault.wait or 0)) * random.uniform(1, 1.5)
            if not fault.again or number == limits.tries or loop.time() + pause - begin > limits.total:
                raise
        await asyncio.sleep(pause)
        wait *= 2
    raise AssertionError("every try returns or raises")


def _unreached(client: _Client, host: str, reason: str) -> Exception:
    """Return the error of a host without a connection: its own where others answer and it never has."""
    if host not in client.answered and client.answered:
        client.dead[host] = f"{host} cannot be reached: {reason}"
        return UnreadableImage(client.dead[host])
    return UnavailableError(f"{host} cannot be reached: {reason}; what is done is kept, try again when it answers")
