"""Addresses among the inputs: one image, a folder of a store, a glob, or a Parquet file that names or holds images."""

import os
from collections.abc import Iterable, Iterator
from itertools import chain

from zeroshot_cli.errors import UsageError
from zeroshot_cli.images.selection import Excluded, LeftOut, Selection
from zeroshot_cli.records import SkippedImage
from zeroshot_cli.remote.address import (
    can_list,
    is_address,
    is_pattern,
    lacks_bucket,
    mistyped,
    parent_of,
    scheme_of,
    shown_address,
    suffix_of,
)

TABLES = (".parquet", ".pq")


def check_mistyped(given: str) -> None:
    """Raise UsageError for `http:/x` or `s3:bucket`, which no file is called."""
    if meant := mistyped(given):
        raise UsageError(f"{shown_address(given)}: no such file or folder; did you mean {shown_address(meant)}?")


def is_table(name: str) -> bool:
    """Return whether an input is a Parquet file by its name."""
    return (suffix_of(name) if is_address(name) else os.path.splitext(name)[1].lower()) in TABLES  # noqa: PTH122


class Addresses:
    """What of addresses is taken, by the same rules as of folders."""

    def __init__(self, selection: Selection, suffixes: frozenset[str], left_out: LeftOut) -> None:
        self._selection, self._suffixes, self._left_out = selection, suffixes, left_out
        self._excluded = Excluded(selection.exclude)

    def meant(self, address: str) -> Iterable[str | SkippedImage]:
        """Return the images that an address stands for, in order. Raises UsageError for one that cannot be read."""
        from zeroshot_cli.remote.faults import Fault  # what connects is imported where there is an address
        from zeroshot_cli.remote.listing import listed
        from zeroshot_cli.remote.stores import check_scheme

        check_scheme(address)
        if self._excluded(address):
            self._left_out.excluded += 1
            return []
        if is_table(address):
            return in_table(address)
        if not can_list(address):
            if address.endswith("/") and address.count("/") > 2:
                raise UsageError(
                    f"{shown_address(address)}: a web server does not list its folders; give the addresses of "
                    "images, for example one a line on standard input"
                )
            return [address]
        if not is_pattern(address) and suffix_of(address) in self._suffixes:
            return [address]
        found = listed(address)
        try:
            first = next(found, None)
        except Fault as fault:
            return [SkippedImage(shown_address(address), "no such file" if fault.reason[:3] == "404" else str(fault))]
        if first == address:
            return [address]
        if first is None:
            return [SkippedImage(shown_address(address), "no file matches this pattern")] * is_pattern(address)
        return self._taken(chain([first], found), parent_of(address))

    def in_list(self, address: str) -> Iterable[str | SkippedImage]:
        """Return the images of an address on standard input: itself, unless it ends as a folder does.

        Asking a store about each would take longer than reading it.
        """
        if address.endswith("/") and can_list(address) and not lacks_bucket(address):
            return self.meant(address)
        return [readable(address)]

    def _taken(self, found: Iterable[str], parent: str) -> Iterator[str]:
        """Yield the images among the files below a prefix, and count what is left out."""
        for address in found:
            below = address.removeprefix(parent).split("/")
            ends = ["/".join(below[: end + 1]) for end in range(len(below))]
            if suffix_of(address) not in self._suffixes:
                self._left_out.add_other(address)
            elif kind := next(filter(None, map(self._selection.byproduct, ends)), None):
                self._left_out.byproducts[kind] += 1
            elif any(self._excluded(parent + end) for end in ends):
                self._left_out.excluded += 1
            else:
                yield address


def in_table(name: str) -> Iterator[str | SkippedImage]:
    """Yield the images of a Parquet file, each once: the paths and addresses of a column, or `FILE#ROW` for its images.

    Paths are relative to the file. Raises DataError for one without such a column.
    """
    from zeroshot_cli.remote.rows import manifest

    table = manifest(name)
    if table.has_bytes:
        yield from (f"{name}#{row}" for row in range(len(table)))
        return
    folder = name.rpartition("/")[0] if is_address(name) else os.path.dirname(name)  # noqa: PTH120
    seen = set[str]()
    for row, cell in enumerate(table.paths()):
        if cell in seen:
            continue
        seen.add(cell)
        if not cell.strip():
            yield SkippedImage(f"{shown_address(name)}#{row}", "an empty cell")
        elif is_address(cell):
            yield readable(cell.strip())
        elif is_address(name):
            yield f"{folder}/{cell}"
        else:
            yield os.path.join(folder, cell)  # noqa: PTH118


def readable(address: str) -> str | SkippedImage:
    """Return an address of a list, or why nothing can be read from it; UsageError where a package is missing."""
    from zeroshot_cli.remote.stores import check_scheme, is_known

    if not is_known(scheme := scheme_of(address) or ""):
        return SkippedImage(shown_address(address), f"unknown scheme {scheme}://")
    if lacks_bucket(address):
        return SkippedImage(shown_address(address), "the bucket is missing")
    check_scheme(address)
    return address
