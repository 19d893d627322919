"""Bytes over a network that may be slow, cut or silent: short patience at the start, and resume.

huggingface_hub's own download waits minutes for a hub that is silent and drops a file that is half there.
"""

import logging
import os
import queue
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

T = TypeVar("T")
_log = logging.getLogger(__name__)
ANSWER_SECONDS = 4.0  # for a step of the first answer: to connect, to send, to read
DEADLINE_SECONDS = 6.0  # for the whole of it: names that do not resolve and hosts with many addresses take longer
STALL_SECONDS = 10.0  # for the next bytes of a file
TRIES_TO_START, TRIES_TO_RESUME = 2, 5  # without a single byte more, before and after the first one


class Silence(Exception):
    """The other side does not answer, or no longer; the text is the reason."""


def answer_seconds() -> float:
    """Return the patience for one step of an answer; HF_HUB_ETAG_TIMEOUT overrides it."""
    return float(os.environ.get("HF_HUB_ETAG_TIMEOUT") or ANSWER_SECONDS)


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


def hub_client() -> Any:
    """Return the HTTP client of huggingface_hub; making the first one takes a while.

    Raises Silence where the environment names a proxy or certificates that cannot be used.
    """
    from huggingface_hub import file_download, get_session  # noqa: F401  the first is imported late, by what asks

    try:
        return get_session()
    except OSError as error:
        raise Silence(f"{error}: correct SSL_CERT_FILE or SSL_CERT_DIR") from error
    except Exception as error:  # an unknown scheme, a port that is none, SOCKS without its package: each of a kind
        reason = str(error).rstrip(".")
        raise Silence(f"{reason}: correct ALL_PROXY, HTTPS_PROXY or HTTP_PROXY") from error


def transport_errors() -> tuple[type[Exception], ...]:
    """Return what a failed connection raises: Silence, and the errors of the hub's HTTP library in any version."""
    from huggingface_hub.errors import HfHubHTTPError

    library = next(base for base in HfHubHTTPError.__mro__ if base.__name__ == "HTTPError")
    return Silence, library, ConnectionError, TimeoutError  # the library's base also has a status' errors


def receive(url: str, partial: Path, *, size: int | None, label: str) -> None:
    """Download into `partial`, resuming an earlier attempt; `size` in bytes, where it is known.

    Raises Silence when no more bytes come, and the hub's HfHubHTTPError for a status; what is there is kept.
    """
    from huggingface_hub.errors import HfHubHTTPError

    tries, allowed, most = 0, TRIES_TO_START, _size(partial)
    if size is None:
        partial.unlink(missing_ok=True)  # nobody could say whether what is there is all
    with _progress_bar(label, size) as bar:
        while not _is_whole(partial, size):
            try:
                _append(url, partial, bar)
                if size is None or _size(partial) >= size:
                    return
                reason = "the connection was cut"
            except HfHubHTTPError:
                raise
            except transport_errors() as error:
                reason = str(error) or type(error).__name__
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


def _append(url: str, partial: Path, bar: Any) -> None:
    """Request the rest of the file; where the server sends the whole file again, start over."""
    from huggingface_hub import hf_raise_for_status
    from huggingface_hub.utils import build_hf_headers  # type: ignore[attr-defined]  # public, says its documentation

    have = _size(partial)
    headers = {**build_hf_headers(), "Accept-Encoding": "identity"}
    response = within(DEADLINE_SECONDS, lambda: _open(url, headers | ({"Range": f"bytes={have}-"} if have else {})))
    try:
        if response.status_code >= 400:
            response.read()
        hf_raise_for_status(response)
        resumes = response.status_code == 206 and _starts_at(response.headers, have)
        with partial.open("ab" if resumes else "wb") as file:
            bar.n = have if resumes else 0
            bar.refresh()
            _copy(response, file, bar)
    finally:
        response.close()


def _open(url: str, headers: Mapping[str, str]) -> Any:
    """Return a response whose body is yet to come; redirects are followed, without the token to other hosts."""
    client = hub_client()
    request = client.build_request("GET", url, headers=dict(headers), timeout=STALL_SECONDS)
    return client.send(request, stream=True, follow_redirects=True)


def _copy(response: Any, file: BinaryIO, bar: Any) -> None:
    for chunk in response.iter_bytes():
        file.write(chunk)
        bar.update(len(chunk))


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
