"""Fetch public packages at one version with one checksum, for the recipes.

npm's come by `npm pack` and Debian's by `apt-get download`, so that the user's own mirrors and proxies count.
"""

import base64
import hashlib
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path


def fetch_npm(spec: str, checksum: str, folder: Path) -> Path:
    """The unpacked folder of an npm package, downloaded unless it is there.

    `checksum` is the base64 of the SHA-512, npm's own `dist.integrity`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    name, _, version = spec.rpartition("@")
    tarball = folder / f"{name.removeprefix('@').replace('/', '-')}-{version}.tgz"
    if not tarball.exists():
        subprocess.run(["npm", "pack", spec, "--silent"], cwd=folder, check=True, stdout=subprocess.DEVNULL)
    _check(tarball, base64.b64encode(_digest(tarball, "sha512")).decode(), checksum)
    unpacked = tarball.with_suffix("")
    with tarfile.open(tarball) as archive:
        _unpack(unpacked, lambda to: archive.extractall(to, filter="data"))
    return unpacked / "package"


def fetch_debian(spec: str, checksum: str, folder: Path) -> Path:
    """The root of what a Debian package NAME=VERSION installs, downloaded unless it is there; `checksum` is SHA-256."""
    folder.mkdir(parents=True, exist_ok=True)
    name = spec.partition("=")[0]
    if not list(folder.glob(f"{name}_*.deb")):
        subprocess.run(["apt-get", "download", "-qq", spec], cwd=folder, check=True)
    package = next(folder.glob(f"{name}_*.deb"))
    _check(package, _digest(package, "sha256").hex(), checksum)
    unpacked = folder / name
    _unpack(unpacked, lambda to: subprocess.run(["dpkg-deb", "-x", str(package), str(to)], check=True))
    return unpacked


def _unpack(folder: Path, unpack: Callable[[Path], object]) -> None:
    """Let `unpack` fill a folder unless it is there; it gets its name when it is whole."""
    if folder.exists():
        return
    partial = folder.with_name(f"{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    unpack(partial)
    partial.rename(folder)


def _digest(path: Path, algorithm: str) -> bytes:
    with path.open("rb") as file:
        return hashlib.file_digest(file, algorithm).digest()


def _check(path: Path, found: str, expected: str) -> None:
    if found != expected:
        sys.exit(f"{path} is not the file that this recipe was written for (its checksum is {found}); delete it.")
