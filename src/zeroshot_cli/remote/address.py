"""Addresses as text: what is one, what it names, and how it is shown without what must stay secret."""

import glob
import os
import re
from pathlib import PurePosixPath
from urllib.parse import unquote

HTTP = ("http", "https")
BUCKETS = ("s3", "s3a", "gs", "gcs")
# Of fsspec's schemes those that stay on this machine, or wrap another: an address of them would be a path in disguise.
_ON_DISK = (
    "async_wrapper asynclocal asyncwrapper blockcache cached dask data dir dvc file filecache generic git jlab "
    "libarchive local pyscript reference simplecache tar zip"
)
_LOCAL = frozenset(_ON_DISK.split())
_ADDRESS = re.compile(r"(?P<scheme>[a-zA-Z][a-zA-Z0-9+.-]+)://")
_ONE_SLASH = re.compile(r"(?P<scheme>https?|s3|gs|gcs|hf):/?(?=[^/\\])", re.IGNORECASE)
_ROW = re.compile(r"(?P<file>.+\.(?:parquet|pq)(?:\?[^#]*)?)#(?P<row>\d{1,12})", re.IGNORECASE | re.DOTALL)
# A user, or what is one but for a character in its password that should be percent-encoded: h:80/@name is none.
_USER = re.compile(r"(?<=://)(?:[^/?#\s]*@|[^/?#\s:@\[]*:(?!\d*(?:[/?#]|$))[^@]*@)")
_PARAMETER = re.compile(r"(?P<name>[^?&;#=\s]+)=(?P<value>[^&;#\s]*)")
_WORDS = re.compile(r"[a-z]+|[A-Z]+(?![a-z])|[A-Z][a-z]+")
_TELLING = (
    "sig sign signature token key apikey secret password passwd pass pwd auth authorization credential credentials jwt "
    "session sessionid policy hmac hdnea hdnts accesskey accesskeyid accesstoken authkey authtoken clientsecret "
    "idtoken jsessionid phpsessid refreshtoken sastoken secretkey securitytoken sessiontoken"
)
_SECRET = frozenset(_TELLING.split())
_HIDDEN = "***"
_IN_TEXT = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]+://[^\s'\"<>]*[^\s'\"<>.,:;)]")


def scheme_of(text: str) -> str | None:
    """Return the scheme of an address, such as "s3"; None for a path and for `file://…`."""
    match = _ADDRESS.match(text) if "://" in text else None
    return match["scheme"].lower() if match and match["scheme"].lower() != "file" else None


def is_address(text: str) -> bool:
    """Return whether a text is the address of something, as `https://…`, and not a path."""
    return scheme_of(text) is not None


def row_in(text: str) -> tuple[str, int] | None:
    """Return the Parquet file and the row that `photos.parquet#17` names, None for another text."""
    match = _ROW.fullmatch(text) if "#" in text else None
    return (match["file"], int(match["row"])) if match else None


def is_elsewhere(text: str) -> bool:
    """Return whether a text names bytes that are in no file of their own: an address, or a row of a Parquet file."""
    return is_address(text) or (row_in(text) is not None and not os.path.lexists(text))


def lacks_bucket(address: str) -> bool:
    """Return whether an address of a store of buckets names none."""
    return scheme_of(address) in BUCKETS and not host_of(address)


def mistyped(text: str) -> str | None:
    """Return the address that `http:/x` or `s3:bucket` was meant to be, None for all else."""
    match = _ONE_SLASH.match(text)
    return f"{match['scheme'].lower()}://{text[match.end() :]}" if match else None


def can_list(address: str) -> bool:
    """Return whether the server of an address can say what it has, as web servers cannot."""
    return scheme_of(address) not in HTTP


def is_pattern(address: str) -> bool:
    """Return whether an address is a glob of a store; on the web, ? begins a query."""
    return can_list(address) and glob.has_magic(address)


def parent_of(address: str) -> str:
    """Return the part of an address that its own files begin with: a prefix itself, of a glob what is before it."""
    if not is_pattern(address):
        return address.rstrip("/") + "/"
    parts = address.split("/")
    first = next(number for number, part in enumerate(parts) if glob.has_magic(part))
    return "/".join(parts[:first]) + "/"


def suffix_of(address: str) -> str:
    """Return the extension of what an address names, in lower case, whatever query follows."""
    path = address.partition("://")[2]
    path = path.partition("?")[0].partition("#")[0] if not can_list(address) else path
    return PurePosixPath(path).suffix.lower() if "/" in path else ""


def host_of(address: str) -> str:
    """Return the server or bucket of an address, with its port and without a user."""
    return re.split(r"[/?#]", address.partition("://")[2], maxsplit=1)[0].rpartition("@")[2]


def shown_address(text: str) -> str:
    """Return an address without user, password and the values of what looks like a token; a path as it is."""
    if not is_address(text):
        return text
    text = _USER.sub(f"{_HIDDEN}@", text, count=1)
    start = min((at for at in map(text.find, "?#;") if at >= 0), default=len(text))
    return text[:start] + _PARAMETER.sub(_hide, text[start:])


def shown_in(sentence: str) -> str:
    """Return a sentence of a library's with every address in it as `shown_address` returns it."""
    return _IN_TEXT.sub(lambda match: shown_address(match[0]), sentence)


def is_hidden(address: str) -> bool:
    """Return whether parts of an address were left out of it, so that nothing can be read from there."""
    return _HIDDEN in address


def is_allowed(scheme: str) -> bool:
    """Return whether a scheme leads away from this machine, rather than to its files."""
    return scheme not in _LOCAL


def _hide(parameter: re.Match[str]) -> str:
    words = {word.lower() for word in _WORDS.findall(unquote(parameter["name"]))}
    return f"{parameter['name']}={_HIDDEN}" if words & _SECRET and parameter["value"] else parameter[0]
