"""Bytes over a network that may be slow, cut or silent: short patience at the start, and resume.

huggingface_hub's own download waits minutes for a hub that is silent and drops a file that is half there.
"""

import logging
import queue
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import cache
from importlib import import_module
from ipaddress import ip_address
from pathlib import Path
from typing import Any, BinaryIO, TypeVar
from urllib.parse import urlsplit
from urllib.request import getproxies

from zeroshot_cli.disk import open_own
from zeroshot_cli.documents import load_json
from zeroshot_cli.errors import UsageError
from zeroshot_cli.hub.settings import ANSWER_SECONDS, answer_seconds, hub_settings

T = TypeVar("T")
_log = logging.getLogger(__name__)
DEADLINE_SECONDS = 6.0  # for the whole of it: names that do not resolve and hosts with many addresses take longer
RESOLVE_SECONDS = 3.0  # for the address of a name, which no timeout of a socket counts
STALL_SECONDS = 10.0  # for the next bytes of a file
TRIES_TO_START, TRIES_TO_RESUME = 2, 5  # without a single byte more, before and after the first one
MOST_BYTES = 16 << 30  # of a file whose size nobody says; the largest published model has 10 GB
_MOST_TEXT = 32 << 20  # bytes of a hub's answer in JSON
_MOST_ERROR = 1 << 16  # bytes of an error page
_MOST_REDIRECTS = 10


class Silence(Exception):
    """The other side does not answer, or no longer; the text is the reason."""


class Nonsense(Silence):
    """The other side answers what no hub does, and would again; the text is the reason."""


class Unresolved(Silence):
    """A name has no address, or none that anybody tells in time; the text is the reason."""


def deadline_seconds() -> float:
    """Return the patience for a whole answer."""
    return DEADLINE_SECONDS * answer_seconds() / ANSWER_SECONDS


def within(seconds: float, ask: Callable[[], T]) -> T:
    """Return or raise what `ask` does, or Silence after `seconds`; a thread that still waits is left behind."""
    answers: queue.SimpleQueue[tuple[T | None, Exception | None]] = queue.SimpleQueue()

    def run() -> None:
        try:
            answers.put((ask(), None))
        except Exception as error:
            answers.put((None, error))

    threading.Thread(target=run, daemon=True).start()
    try:
        value, error = answers.get(timeout=seconds)
    except queue.Empty:
        raise Silence(f"no answer within {seconds:.0f} s") from None
    if error is not None:
        raise error
    return value  # type: ignore[return-value]  # without an error it is what ask returned


def check_resolves(address: str) -> None:
    """Raise Unresolved where the host of an address has none within three seconds, whatever the resolver does.

    Behind a proxy it is the proxy that asks. What is known to resolve is not asked again.
    """
    parts = urlsplit(address)
    proxies = getproxies()
    if parts.hostname and not (proxies.get(parts.scheme) or proxies.get("all")):
        _resolve(parts.hostname)


@cache
def _resolve(host: str) -> None:
    seconds = RESOLVE_SECONDS * answer_seconds() / ANSWER_SECONDS  # as patient as the user is
    try:
        within(seconds, lambda: socket.getaddrinfo(host, None, type=socket.SOCK_STREAM))
    except Silence:
        raise Unresolved(f"the name {host} is not resolved within {seconds:.0f} s") from None
    except (OSError, UnicodeError) as error:
        raise Unresolved(f"the name {host} is not resolved: {getattr(error, 'strerror', None) or error}") from None


def hub_client() -> Any:
    """Return the HTTP client of huggingface_hub; making the first one takes a while.

    Raises Silence where the environment names a proxy or certificates that cannot be used.
    """
    hub_settings()
    from huggingface_hub import file_download, get_session  # noqa: F401  the first is imported late, by what asks

    try:
        return get_session()
    except OSError as error:
        raise Silence(f"{error}: correct SSL_CERT_FILE or SSL_CERT_DIR") from error
    except UsageError:
        raise
    except Exception as error:  # an unknown scheme, a port that is none, SOCKS without its package: each of a kind
        reason = str(error).rstrip(".")
        raise Silence(f"{reason}: correct ALL_PROXY, HTTPS_PROXY or HTTP_PROXY") from error


def transport_errors() -> tuple[type[Exception], ...]:
    """Return what a failed connection raises: Silence, and the errors of the hub's HTTP library in any version."""
    from huggingface_hub.errors import HfHubHTTPError

    library = next(base for base in HfHubHTTPError.__mro__ if base.__name__ == "HTTPError")
    invalid = vars(import_module(library.__module__.partition(".")[0]))["InvalidURL"]  # of a redirect
    return Silence, library, invalid, ConnectionError, TimeoutError  # the library's base also has a status' errors


def receive(url: str, partial: Path, *, size: int | None, label: str) -> None:
    """Download into `partial`, resuming an earlier attempt; `size` in bytes, where it is known, and never more.

    Raises Silence when no more bytes come, and the hub's HfHubHTTPError for a status; what is there is kept.
    """
    from huggingface_hub.errors import HfHubHTTPError

    tries, allowed, most = 0, TRIES_TO_START, _size(partial)
    if size is None:
        partial.unlink(missing_ok=True)  # nobody could say whether what is there is all
    with _progress_bar(label, size) as bar:
        while not _is_whole(partial, size):
            try:
                _append(url, partial, bar, MOST_BYTES if size is None else size)
                if size is None or _size(partial) >= size:
                    return
                reason = "the connection was cut"
            except (HfHubHTTPError, Nonsense):
                raise
            except transport_errors() as error:
                reason = str(error) or type(error).__name__
                allowed = min(allowed, 1 if isinstance(error, Unresolved) and not _size(partial) else allowed)
            if _size(partial) > most:  # not than before: a server that starts anew each time would never end
                tries, allowed, most = 0, TRIES_TO_RESUME, _size(partial)
            tries += 1
            if tries >= allowed:
                raise Silence(reason)
            time.sleep(0.5 * tries)


def _is_whole(partial: Path, size: int | None) -> bool:
    """Return whether the file is complete; one that is too long is deleted."""
    have = _size(partial)
    if size is not None and have > size:
        partial.unlink()
    return have == size


def _append(url: str, partial: Path, bar: Any, most: int) -> None:
    """Request the rest of the file, up to `most` bytes; where the server sends the whole file again, start over."""
    have = _size(partial)
    with _answer(url, {"Range": f"bytes={have}-"} if have else {}) as response:
        resumes = response.status_code == 206 and _starts_at(response.headers, have)
        with open(partial, "ab" if resumes else "wb", opener=open_own) as file:
            bar.n = have if resumes else 0
            bar.refresh()
            _copy(response, file, bar, most - (have if resumes else 0))
    if most == MOST_BYTES <= _size(partial):
        partial.unlink()
        raise Nonsense(f"it sends a file without end, of which {most >> 30} GiB were read")


def read_json(url: str) -> Any:
    """Return the value of a hub's answer in JSON.

    Raises Nonsense for anything else, the hub's HfHubHTTPError for a status, and what the connection raises.
    """
    data = bytearray()
    with _answer(url, {}) as response:
        for chunk in response.iter_bytes():
            data += chunk
            if len(data) > _MOST_TEXT:
                raise Nonsense(f"its answer has more than {_MOST_TEXT >> 20} MiB")
    try:
        return load_json(bytes(data))
    except ValueError as error:
        raise Nonsense("its answer is no JSON") from error


@contextmanager
def _answer(url: str, headers: Mapping[str, str]) -> Iterator[Any]:
    """Give a response whose body is yet to come. Raises the hub's HfHubHTTPError for a status of 400 or more."""
    from huggingface_hub import hf_raise_for_status
    from huggingface_hub.utils import build_hf_headers  # type: ignore[attr-defined]  # public, says its documentation

    every = {**build_hf_headers(), "Accept-Encoding": "identity", **headers}
    response = within(DEADLINE_SECONDS, lambda: _open(url, every))
    try:
        if response.status_code >= 400:
            hf_raise_for_status(_error_page(response))
        yield response
    finally:
        response.close()


def _open(url: str, headers: Mapping[str, str]) -> Any:
    """Return a response whose body is yet to come; redirects are followed, without the token to other hosts."""
    client = hub_client()
    request = client.build_request("GET", url, headers=dict(headers), timeout=STALL_SECONDS)
    for _ in range(_MOST_REDIRECTS):
        check_resolves(str(request.url))
        response = client.send(request, stream=True, follow_redirects=False)
        if not response.has_redirect_location:
            return response
        response.close()  # its body is of no use, and may have no end
        following = getattr(response, "next_request", None)
        if following is None:
            raise Nonsense(f"it redirects to {response.headers.get('Location', '')[:100]!r}, which is not an address")
        _check_redirect(request.url, following.url)
        request = following
    raise Nonsense(f"it redirects more than {_MOST_REDIRECTS} times")


def _check_redirect(source: Any, target: Any) -> None:
    """Raise Nonsense for a redirect into a private network, onto this machine, or away from encryption.

    A hub on this machine or in a private network may redirect within it.
    """
    if target.scheme not in ("http", "https"):
        raise Nonsense(f"it redirects to {str(target)[:100]!r}, which is not the address of a file")
    if _is_private(source.host):
        return
    if source.scheme == "https" and target.scheme == "http":
        raise Nonsense(f"it redirects to {str(target)[:100]!r}, which is not https")
    if _is_private(target.host):
        raise Nonsense(f"it redirects to {target.host}, which is in a private network or on this machine")


def _is_private(host: str) -> bool:
    with suppress(ValueError):
        address = ip_address(host)
        return not address.is_global
    return host == "localhost" or host.endswith((".localhost", ".local", ".internal")) or "." not in host


def _error_page(response: Any) -> Any:
    """Return the response with the start of its body, for the body of an error may have no end."""
    data = bytearray()
    for chunk in response.iter_bytes():
        data += chunk
        if len(data) > _MOST_ERROR:
            break
    skipped = ("content-encoding", "content-length", "transfer-encoding")
    headers = [(key, value) for key, value in response.headers.items() if key.lower() not in skipped]
    return type(response)(response.status_code, headers=headers, content=bytes(data), request=response.request)


def _copy(response: Any, file: BinaryIO, bar: Any, most: int) -> None:
    """Write the body, and no more than `most` bytes of it."""
    for chunk in response.iter_bytes():
        file.write(chunk[:most])
        bar.update(min(len(chunk), most))
        most -= len(chunk)
        if most <= 0:
            return


def _starts_at(headers: Mapping[str, str], offset: int) -> bool:
    return headers.get("Content-Range", "").startswith(f"bytes {offset}-")


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _progress_bar(label: str, size: int | None) -> Any:
    """Return huggingface_hub's progress bar, which obeys HF_HUB_DISABLE_PROGRESS_BARS.

    It is shown on a terminal's standard error only, and not where the logger is for errors only, as with --quiet.
    """
    from huggingface_hub.utils import tqdm  # type: ignore[attr-defined]

    bar: Any = tqdm
    return bar(
        desc=label,
        total=size,
        unit="B",
        unit_scale=True,
        disable=not sys.stderr.isatty() or not _log.isEnabledFor(logging.WARNING),
        name="huggingface_hub.http_get",
    )
