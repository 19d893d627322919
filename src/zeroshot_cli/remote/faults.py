"""What goes wrong between here and there, whichever library says so: whether it would again, and whose fault it is."""

import errno
from collections.abc import Iterator
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from zeroshot_cli.remote.address import shown_in

_AGAIN = frozenset([408, 425, 429])  # and all from 500 on
_NO_WAY = (errno.ECONNREFUSED, errno.ENETUNREACH, errno.EHOSTUNREACH, errno.ENETDOWN, errno.EHOSTDOWN)
_LONGEST = 100  # characters of a library's own words
# Classes of aiohttp, botocore, requests, httpx and Python, by name: few of these libraries are installed together.
_UNREACHABLE_NAMES = (
    "ClientConnectorError ClientConnectorDNSError ConnectionTimeoutError ClientProxyConnectionError gaierror "
    "ConnectionRefusedError EndpointConnectionError ConnectTimeoutError ProxyConnectionError ConnectError "
    "ConnectTimeout NewConnectionError NameResolutionError OfflineModeIsEnabled"
)
_CUT_NAMES = (
    "ClientPayloadError ContentLengthError TransferEncodingError ServerDisconnectedError ClientOSError IncompleteRead "
    "IncompleteReadError ResponseStreamingError ConnectionClosedError RemoteProtocolError ReadError ProtocolError "
    "ChunkedEncodingError ConnectionResetError ConnectionAbortedError BrokenPipeError ConnectionError "
    "HTTPClientError ResponseParserError SSLError"
)
_SLOW_NAMES = "ReadTimeoutError ReadTimeout ServerTimeoutError SocketTimeoutError TimeoutError Timeout"
_UNREACHABLE, _CUT, _SLOW = (frozenset(names.split()) for names in (_UNREACHABLE_NAMES, _CUT_NAMES, _SLOW_NAMES))


@dataclass
class Fault(Exception):
    """Bytes did not come; `again` says that they may at another try, after `wait` seconds where the server says so.

    `unreachable` says that no connection came about, which is not the image's fault.
    """

    reason: str
    again: bool = False
    wait: float | None = None
    unreachable: bool = False

    def __str__(self) -> str:
        return self.reason


def of_status(status: int, wait: str | None = None) -> Fault:
    """Return the fault of an HTTP status, such as "404 not found"; `wait` is the header Retry-After."""
    try:
        phrase = HTTPStatus(status).phrase.lower()
    except ValueError:
        phrase = "unexpected answer"
    seconds = float(wait) if wait and wait.strip().isascii() and wait.strip().isdigit() else None
    return Fault(f"{status} {phrase}", again=status in _AGAIN or status >= 500, wait=seconds)


def of_error(error: BaseException) -> Fault:
    """Return the fault behind a library's error; a status counts more than the class that it was put into.

    fsspec reports a refused connection as FileNotFoundError, so what caused an error is looked at first.
    """
    chain = list(_causes(error))
    names = {kind.__name__ for each in chain for kind in type(each).__mro__}
    garbled = "HttpProcessingError" in names  # to which aiohttp gives a status of its own
    for each in [] if garbled else reversed(chain):
        if (status := _status(each)) is not None and status >= 400:
            return of_status(status)
    if any("Certificate" in name for name in names):
        return Fault("its certificate is not valid")
    if names & _UNREACHABLE or any(getattr(each, "errno", None) in _NO_WAY for each in chain):
        return Fault(_unreached(chain), again=True, unreachable=True)
    if names & _SLOW:
        return Fault("no bytes came for too long", again=True)
    if names & _CUT:
        return Fault("the connection was cut", again=True)
    if garbled:
        return Fault("the answer is not HTTP", again=True)
    if isinstance(error, FileNotFoundError):
        return of_status(404)
    if isinstance(error, PermissionError):
        return of_status(403)
    if isinstance(error, IsADirectoryError):
        return Fault("a folder, not a file")
    text = " ".join(shown_in(str(error)).split()) or type(error).__name__
    return Fault(text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…")


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Yield an error and what led to it, outermost first."""
    seen: set[int] = set()
    each: BaseException | None = error
    while each is not None and id(each) not in seen:
        seen.add(id(each))
        yield each
        each = each.__cause__ or each.__context__


def _status(error: Any) -> int | None:
    """Return the HTTP status that an error of botocore, requests, httpx, aiohttp or gcsfs carries."""
    response = getattr(error, "response", None)
    found: Any = None
    if isinstance(response, dict):
        found = response.get("ResponseMetadata", {}).get("HTTPStatusCode")
    elif response is not None:
        found = getattr(response, "status_code", None) or getattr(response, "status", None)
    for name in ("status", "code"):
        found = found if found is not None else getattr(error, name, None)
    if isinstance(found, str) and found.isascii() and found.isdigit():
        found = int(found)
    return found if isinstance(found, int) and 100 <= found <= 599 else None


def _unreached(chain: list[BaseException]) -> str:
    names = {kind.__name__ for each in chain for kind in type(each).__mro__}
    if names & {"gaierror", "ClientConnectorDNSError", "NameResolutionError"}:
        return "there is no host of this name, or no network"
    if any("Timeout" in name for name in names):
        return "no connection in time"
    if "SSLError" in names:
        return "no encrypted connection"
    refused = any(getattr(each, "errno", None) == errno.ECONNREFUSED for each in chain)
    refused = refused or "ConnectionRefusedError" in names
    return "the connection was refused" if refused else "no connection"
