"""What a store has below an address, or what matches a glob: addresses, sorted."""

import random
import time
from collections.abc import Callable, Iterator
from typing import TypeVar

from zeroshot_cli.errors import UnavailableError, ZeroshotError
from zeroshot_cli.remote import fetch
from zeroshot_cli.remote.address import host_of, is_pattern, scheme_of, shown_address
from zeroshot_cli.remote.faults import Fault, of_error
from zeroshot_cli.remote.stores import S3, check_scheme, s3_client, store_of

T = TypeVar("T")


def listed(address: str) -> Iterator[str]:
    """Yield the addresses of all files below a prefix, or that match a glob, sorted; one of a file is itself.

    Of S3 a page is in memory at once. Raises Fault where the store refuses, UnavailableError where it cannot be
    reached; after the first address it is UnavailableError in any case.
    """
    check_scheme(address)
    pages = _s3_pages(address) if scheme_of(address) in S3 and not is_pattern(address) else iter(())
    try:
        first = next(pages, None)
    except Exception as error:  # it was asked again already
        raise _refused(of_error(error), address) from None
    if first is None:
        yield from _found(address)
        return
    yield first
    try:
        yield from pages
    except Exception as error:
        raise UnavailableError(f"{shown_address(address)} cannot be listed: {of_error(error)}; try again") from None


def _s3_pages(address: str) -> Iterator[str]:
    """Yield the addresses below a prefix of S3 in its order, that of the bytes, but for the keys of folders."""
    bucket, _, key = address.partition("://")[2].partition("/")
    client = s3_client(fetch.LIMITS.tries)
    prefix = f"{key.rstrip('/')}/" if key else ""
    for page in client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix):
        for each in page.get("Contents", ()):
            if not each["Key"].endswith("/"):
                yield f"{address.partition('://')[0]}://{bucket}/{each['Key']}"


def _found(address: str) -> list[str]:
    scheme, pattern = address.partition("://")[0], is_pattern(address)

    def ask() -> list[str]:
        store = store_of(address)
        store.invalidate_cache()  # what one file was looked up in may be a part of a folder
        path = store._strip_protocol(address)
        if pattern and not store.exists(path):
            return [name for name, about in store.glob(path, detail=True).items() if about["type"] == "file"]
        return list(store.find(path))

    names = insist(ask, address)
    user = address.partition("://")[2].partition("/")[0].rpartition("@")[0]
    before = f"{scheme}://{user}@{host_of(address)}" if user else f"{scheme}://"
    return sorted(f"{before}{name if user else name.lstrip('/')}" for name in names if not name.endswith("/"))


def insist(ask: Callable[[], T], address: str) -> T:
    """Return what a store answers, asking again where that may help.

    Raises Fault where the store refuses, UnavailableError where it cannot be reached.
    """
    limits, wait = fetch.LIMITS, fetch.LIMITS.first_wait
    for number in range(1, limits.tries + 1):
        try:
            return ask()
        except ZeroshotError:
            raise
        except Exception as error:
            fault = of_error(error)
        if not fault.again or number == limits.tries:
            break
        time.sleep(min(limits.longest_wait, max(wait, fault.wait or 0)) * random.uniform(1, 1.5))
        wait *= 2
    raise _refused(fault, address)


def _refused(fault: Fault, address: str) -> Exception:
    if fault.unreachable:
        return UnavailableError(f"{shown_address(address)} cannot be reached: {fault}; try again when it answers")
    return Fault(str(fault))
