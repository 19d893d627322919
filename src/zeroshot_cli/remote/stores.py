"""Stores that fsspec knows: S3, Google Cloud Storage, the hub of Hugging Face, and others whose package is there."""

import asyncio
import importlib.util
import logging
import os
from functools import cache
from threading import Lock
from typing import Any

from zeroshot_cli.errors import UsageError
from zeroshot_cli.remote.address import HTTP, is_allowed, lacks_bucket, scheme_of, shown_address
from zeroshot_cli.remote.faults import Fault, of_error
from zeroshot_cli.remote.web import Limits, Piece, Received

KNOWN = "s3://, gs://, hf://, https:// and http://"
_HOW = "pip install 'zeroshot-cli[remote]'"
S3 = ("s3", "s3a")
_PATIENCE = {"connect_timeout": 15, "read_timeout": 30}  # seconds
_PART = 4 << 20  # bytes that are asked for at once; most images are smaller
_stores: dict[str, Any] = {}
_lock = Lock()


def is_known(scheme: str) -> bool:
    """Return whether something reads addresses of a scheme, perhaps with another package."""
    if scheme in HTTP or not _is_there("fsspec"):
        return True
    from fsspec.registry import known_implementations

    return scheme in known_implementations and is_allowed(scheme)


def check_scheme(address: str) -> None:
    """Raise UsageError for an address that nothing here can read, or whose package is missing."""
    scheme, shown = scheme_of(address) or "", shown_address(address)
    missing = [name for name in ("fsspec", "aiohttp") if not _is_there(name)]
    if missing:
        raise UsageError(f"{shown}: reading addresses needs {' and '.join(missing)}: {_HOW}")
    if not is_known(scheme):
        raise UsageError(f"{shown}: unknown scheme {scheme}://; known are {KNOWN}, and those of fsspec")
    if scheme not in HTTP:
        _class_of(scheme)
    if lacks_bucket(address):
        raise UsageError(f"{shown}: the bucket is missing; give {scheme}://BUCKET/PATH")


@cache
def _is_there(package: str) -> bool:
    return importlib.util.find_spec(package) is not None


@cache
def _class_of(scheme: str) -> Any:
    import fsspec

    try:
        return fsspec.get_filesystem_class(scheme)
    except ImportError as error:
        package = {"s3": "s3fs", "s3a": "s3fs", "gs": "gcsfs", "gcs": "gcsfs"}.get(scheme)
        way_out = f"needs {package}: {_HOW}" if package else f"needs another package: {error}"
        raise UsageError(f"reading {scheme}:// {way_out}") from None


def store_of(address: str) -> Any:
    """Return the store of an address, one for all of its kind; UsageError where that cannot be."""
    scheme = scheme_of(address) or ""
    cls = _class_of(scheme)
    settings = cls._get_kwargs_from_urls(address)  # a user, a host
    key = repr((os.getpid(), scheme, sorted(settings.items())))  # none survives a fork
    with _lock:
        if key not in _stores:
            _stores[key] = cls(skip_instance_cache=True, **_settings_of(scheme), **settings)
        return _stores[key]


def forget_stores() -> None:
    """Open every store anew from now on: after a fork, or where the environment has changed."""
    _stores.clear()


def _settings_of(scheme: str) -> dict[str, Any]:
    """Return how a store is opened: without credentials where there are none; other tries are made by us."""
    if scheme in ("gs", "gcs"):
        for name in ("gcsfs", "google.auth"):  # without credentials they warn at every request
            logging.getLogger(name).setLevel(logging.ERROR)
    if scheme == "hf":
        from huggingface_hub import constants

        constants.HF_HUB_DISABLE_TELEMETRY = True  # it would name the programs around this one
    if scheme not in S3:
        return {}
    from botocore.session import Session

    patience = {**_PATIENCE, "retries": {"max_attempts": 1}, "max_pool_connections": 128}
    return {"anon": Session().get_credentials() is None, "config_kwargs": patience, "use_listings_cache": False}


def s3_client(tries: int) -> Any:
    """Return a client of S3 that asks so often by itself, and anonymously where there are no credentials."""
    from botocore import UNSIGNED
    from botocore.config import Config
    from botocore.session import Session

    session = Session()
    settings: dict[str, Any] = {**_PATIENCE, "retries": {"max_attempts": tries, "mode": "standard"}}
    settings |= {"signature_version": UNSIGNED} if session.get_credentials() is None else {}
    return session.create_client("s3", config=Config(**settings))


async def read_store(address: str, limits: Limits, received: Received) -> bytes:
    """Return what a store has at an address, a part at a time, so that `received` may wait. Raises Fault."""
    loop, left, body, is_last = asyncio.get_running_loop(), limits.total, bytearray(), False
    try:
        store = await asyncio.to_thread(store_of, address)
        path = store._strip_protocol(address)
        while not is_last:
            begin = loop.time()
            async with asyncio.timeout(left):
                part = await _part(store, path, len(body), len(body) + _PART)
            left -= loop.time() - begin
            body += part
            if len(body) > limits.most_bytes:
                raise Fault(f"larger than {limits.most_bytes / (1 << 30):g} GiB, the most that is read from an address")
            is_last = len(part) < _PART
            await received(len(body))
    except (UsageError, Fault, asyncio.CancelledError):
        raise
    except Exception as error:
        raise of_error(error) from None
    return bytes(body)


async def _part(store: Any, path: str, first: int, end: int) -> bytes:
    """Return bytes of a file, none after its end."""
    try:
        if store.async_impl:
            return bytes(await store._cat_file(path, start=first, end=end))
        return bytes(await asyncio.to_thread(store.cat_file, path, start=first, end=end))
    except Exception as error:
        if of_error(error).reason.startswith("416 "):  # there is no such byte
            return b""
        raise


async def read_piece(address: str, limits: Limits, first: int, most: int) -> Piece:
    """Return at most so many bytes of what a store has at an address, from byte `first` on. Raises Fault."""
    try:
        store = await asyncio.to_thread(store_of, address)
        path = store._strip_protocol(address)
        async with asyncio.timeout(limits.total):
            info = await asyncio.to_thread(store.info, path)
            size = int(info["size"])
            body = b""
            if first < size:
                body = bytes(await asyncio.to_thread(store.cat_file, path, start=first, end=min(size, first + most)))
    except (UsageError, asyncio.CancelledError):
        raise
    except Exception as error:
        raise of_error(error) from None
    named = (info.get(name) for name in ("ETag", "etag", "generation", "md5Hash", "LastModified", "mtime", "updated"))
    version = next((str(value) for value in named if value), "")
    return Piece(body, f"{version} {size}", is_last=first + len(body) >= size)
