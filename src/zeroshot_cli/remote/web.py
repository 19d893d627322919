"""Files of web servers: few redirects, none into private networks, bounded in bytes and time."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any, TypeVar

from zeroshot_cli.remote.address import HTTP
from zeroshot_cli.remote.faults import Fault, of_error, of_status
from zeroshot_cli.remote.guard import ALLOW, ANY, FOREIGN, NAMED, PrivateHost, check_ip, resolver

_CHUNK = 1 << 18
_MOST_REDIRECTS = 10
_REDIRECTS = (301, 302, 303, 307, 308)
_LOCAL_NAMES = (".localhost", ".local", ".internal")

Received = Callable[[int], Awaitable[None]]
"""What is told how many bytes have come, and may wait before the next."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What one address may cost: bytes, seconds for each step and in all, tries and the waits between them."""

    most_bytes: int = 1 << 30
    connect: float = 15.0
    silence: float = 30.0  # until the header is there, and between two pieces of a body
    total: float = 600.0
    tries: int = 5
    first_wait: float = 0.5
    longest_wait: float = 60.0


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of what is at an address; `version` changes when that does."""

    body: bytes
    version: str
    is_last: bool


T = TypeVar("T")
Take = Callable[[Any], Awaitable[T]]
_NONE: Mapping[str, str] = {}


class Web:
    """The HTTP clients of one event loop, one for each answer to whose host it is."""

    def __init__(self) -> None:
        self._sessions: dict[str, Any] = {}

    async def read(self, address: str, limits: Limits, received: Received, *, allow_private: bool = False) -> bytes:
        """Return the body of an address. Raises Fault."""
        return await self._asked(address, limits, lambda answer: _body(answer, limits, received), allow_private)

    async def piece(self, address: str, limits: Limits, first: int, most: int) -> Piece:
        """Return at most so many bytes of an address from byte `first` on. Raises Fault."""
        span = {"Range": f"bytes={first}-{first + most - 1}"}
        return await self._asked(address, limits, lambda answer: _piece(answer, limits, first), False, span)

    async def _asked(
        self, address: str, limits: Limits, take: Take[T], allow_private: bool, headers: Mapping[str, str] = _NONE
    ) -> T:
        try:
            return await self._follow(address, limits, take, allow_private, headers)
        except PrivateHost as error:
            raise Fault(str(error)) from None
        except (Fault, asyncio.CancelledError):
            raise
        except (ValueError, UnicodeError):  # of a redirect, or an address with a port that is none
            raise Fault("not an address that can be asked for") from None
        except Exception as error:
            raise of_error(error) from None

    async def close(self) -> None:
        """Close all connections."""
        for session in self._sessions.values():
            await session.close()
        self._sessions.clear()

    async def _follow(
        self, address: str, limits: Limits, take: Take[T], allow_private: bool, headers: Mapping[str, str]
    ) -> T:
        from yarl import URL

        first = url = _url(address)
        for _ in range(_MOST_REDIRECTS + 1):
            whose = ANY if allow_private else NAMED if url.host == first.host else FOREIGN
            answer = await self._ask(url, whose, limits, headers)
            try:
                if answer.status not in _REDIRECTS or "Location" not in answer.headers:
                    return await take(answer)
                target = url.join(URL(answer.headers["Location"], encoded=answer.headers["Location"].isascii()))
            finally:
                answer.close()
            _check_redirect(url, target)
            if target.origin() == url.origin() and target.user is None:  # the same server gets the same password
                target = target.with_user(url.user).with_password(url.password) if url.user else target
            url = target
        raise Fault(f"it redirects more than {_MOST_REDIRECTS} times")

    async def _ask(self, url: Any, whose: str, limits: Limits, headers: Mapping[str, str]) -> Any:
        """Return an answer whose body is yet to come."""
        host = url.host or ""
        check_ip(host, whose)
        if _has_proxy(url):  # it looks up the name, in a network of its own, and may be in a private one itself
            if whose == FOREIGN and (host == "localhost" or host.endswith(_LOCAL_NAMES) or "." not in host):
                raise PrivateHost(f"redirects to {host}, in a private network or on this machine{ALLOW}")
            whose = ANY
        try:
            async with asyncio.timeout(limits.silence):
                return await self._session(whose, limits).get(url, allow_redirects=False, headers=headers)
        except TimeoutError as error:
            if (fault := of_error(error)).unreachable:
                raise fault from None
            raise Fault(f"no answer within {limits.silence:g} seconds", again=True) from None

    def _session(self, whose: str, limits: Limits) -> Any:
        """Return the client whose connections are checked for this; no connection is shared with another's."""
        if whose not in self._sessions:
            import aiohttp

            self._sessions[whose] = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0, resolver=resolver(whose)),
                cookie_jar=aiohttp.DummyCookieJar(),
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=limits.connect, sock_read=limits.silence),
                headers={
                    "User-Agent": f"zeroshot-cli/{version('zeroshot-cli')}",
                    "Accept": "image/*,*/*;q=0.8",
                    "Accept-Encoding": "identity",
                },
                trust_env=True,  # proxies
            )
        return self._sessions[whose]


def _url(address: str) -> Any:
    """Return an address as aiohttp takes it; signed ones keep every byte."""
    from yarl import URL

    url = URL(address, encoded=address.isascii() and " " not in address)
    if not url.host or url.scheme not in HTTP:
        raise ValueError(address)
    return url.with_fragment(None)


def _check_redirect(source: Any, target: Any) -> None:
    if target.scheme not in HTTP:
        raise Fault(f"it redirects to {target.scheme or 'no'}://, and only http:// and https:// are followed")
    if source.scheme == "https" and target.scheme == "http":
        raise Fault("it redirects from https:// to http://, which is not encrypted")
    if not target.host:
        raise Fault("it redirects to what is no address")


def _has_proxy(url: Any) -> bool:
    from urllib.request import getproxies, proxy_bypass

    return url.scheme in getproxies() and not proxy_bypass(url.host or "")


async def _body(answer: Any, limits: Limits, received: Received) -> bytes:
    """Return the whole body, decompressed, of an answer with status 200. Raises Fault."""
    if answer.status != 200:
        raise of_status(answer.status, answer.headers.get("Retry-After"))
    return await _content(answer, limits, received)


async def _piece(answer: Any, limits: Limits, first: int) -> Piece:
    """Return the part that was asked for, or the whole of a server that gives no parts. Raises Fault."""
    total = answer.headers.get("Content-Range", "").rpartition("/")[2]
    version = answer.headers.get("ETag") or answer.headers.get("Last-Modified") or ""
    if answer.status == 416 and total == str(first):  # there is no more
        return Piece(b"", f"{version} {total}", is_last=True)
    if answer.status not in (200, 206):
        raise of_status(answer.status, answer.headers.get("Retry-After"))
    is_whole = answer.status == 200
    if not is_whole and not total.isdecimal():
        raise Fault("its server does not say how long it is")
    if is_whole and first:
        raise Fault("its server cannot continue where it was cut")
    body = await _content(answer, limits, _uncounted)
    size = len(body) if is_whole else int(total)
    return Piece(body, f"{version} {size}", is_last=first + len(body) >= size)


async def _uncounted(received: int) -> None: ...


async def _content(answer: Any, limits: Limits, received: Received) -> bytes:
    """Return what follows the header of an answer. Raises Fault."""
    if (answer.content_length or 0) > limits.most_bytes:
        raise _too_large(limits)
    loop, body, waited = asyncio.get_running_loop(), bytearray(), 0.0
    begin = loop.time()
    async for chunk in answer.content.iter_chunked(_CHUNK):
        body += chunk
        if len(body) > limits.most_bytes:
            raise _too_large(limits)
        before = loop.time()
        await received(len(body))
        waited += loop.time() - before
        if loop.time() - begin - waited > limits.total:
            raise Fault(f"not complete within {limits.total:g} seconds")
    return bytes(body)


def _too_large(limits: Limits) -> Fault:
    return Fault(f"larger than {limits.most_bytes / (1 << 30):g} GiB, the most that is read from an address")
