"""Outputs at addresses: whole files, sent when they are complete, so that no half of one is ever there."""

import hashlib
import os
import re
import shutil
from pathlib import Path

from zeroshot_cli.disk import cache_folder, make_private
from zeroshot_cli.errors import UsageError
from zeroshot_cli.remote.address import BUCKETS, HTTP, scheme_of, shown_address
from zeroshot_cli.remote.faults import Fault
from zeroshot_cli.remote.listing import insist
from zeroshot_cli.remote.stores import check_scheme, is_known, store_of

_LOST_SLASH = re.compile(r"(?P<scheme>[a-zA-Z][a-zA-Z0-9+.-]+):/+(?=[^/])")  # which Path takes from an address
_WHOLE = ("s3", "s3a", "gs", "gcs", "hf", "abfs", "az", "memory")  # stores where a file appears when it is complete
_JOURNAL = ".run.jsonl"


def output_address(path: Path) -> str | None:
    """Return the address that an output is, None for a path; UsageError for one that nothing can be written to."""
    match = _LOST_SLASH.match(str(path))
    if match is None or os.path.lexists(f"{match['scheme']}:"):
        return None
    scheme, rest = match["scheme"].lower(), str(path)[match.end() :]
    address = f"{scheme}://{rest}"
    if scheme == "file" or (not is_known(scheme) and scheme not in HTTP):
        return None
    if scheme in HTTP:
        raise UsageError(f"cannot write {shown_address(address)}: a web server takes no files; name a file, or s3://…")
    if scheme in BUCKETS and "/" not in rest:
        raise UsageError(f"cannot write {shown_address(address)}: it is a bucket; name a file in it")
    return address


def place_for(address: str) -> Path:
    """Return the file of the cache that is written before it is sent to an address; it is the same in every run."""
    name = address.rpartition("/")[2]
    if not name:
        raise UsageError(f"cannot write {shown_address(address)}: it is a folder; name a file in it")
    folder = cache_folder() / "outputs" / hashlib.sha256(os.fsencode(address)).hexdigest()[:16]
    return folder / name


def begin_output(address: str, *, overwrite: bool, resume: bool) -> Path:
    """Return the empty place, or with `resume` that of the earlier run, for an output at an address.

    Raises UsageError where the address is taken, or cannot be asked.
    """
    check_scheme(address)
    place, shown = place_for(address), shown_address(address)
    if not resume:
        shutil.rmtree(place.parent, ignore_errors=True)  # of a run that was killed
    if not overwrite and not (resume and place.exists()):
        try:
            taken = insist(lambda: store_of(address).exists(store_of(address)._strip_protocol(address)), address)
        except Fault as fault:
            raise UsageError(f"cannot write {shown}: {fault}; check the address and your credentials") from None
        if taken and resume:
            raise UsageError(f"--resume: {shown} is there and complete; use --overwrite instead to write it again")
        if taken:
            raise UsageError(f"{shown} already exists; add --overwrite to replace it, or name another file")
    make_private(place.parent)
    return place


def send_output(place: Path, address: str) -> None:
    """Send a finished output with the record of its run, and remove them here.

    Raises UsageError where that fails; they are kept then.
    """
    parent, shown = address.rpartition("/")[0], shown_address(address)
    if not place.exists():
        raise UsageError(f"cannot write {shown}: another run with this output has removed {place}; run it again")
    files = [file for file in sorted(place.parent.iterdir()) if not file.name.startswith(".")]
    for file in sorted(files, key=lambda file: file == place):  # the output last: when it is there, all is
        if not file.name.endswith(_JOURNAL):
            try:
                insist(lambda file=file: _put(file, f"{parent}/{file.name}"), address)  # type: ignore[misc]
            except Fault as fault:
                kept = f"the file is kept as {place}, and --resume sends it"
                raise UsageError(f"cannot write {shown}: {fault}; {kept}") from None
    shutil.rmtree(place.parent, ignore_errors=True)


def _put(file: Path, address: str) -> None:
    store = store_of(address)
    path = store._strip_protocol(address)
    if scheme_of(address) in _WHOLE:
        store.put_file(str(file), path)
        return
    store.put_file(str(file), f"{path}.unfinished")
    store.mv(f"{path}.unfinished", path)
