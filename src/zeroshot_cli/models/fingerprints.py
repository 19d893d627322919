"""Fingerprints that were computed before: hashing ViT-B-32 takes half a second, ViT-bigG ten."""

import hashlib
import json
import os
from contextlib import suppress
from pathlib import Path

from zeroshot_cli.disk import cache_folder

_KEPT = 200


def key_of(file: Path, description: str) -> str | None:
    """What a fingerprint depends on, without reading the weights: path, size and time of the file, and `description`.

    None where that would not do: shards have one index and many files.
    """
    try:
        status = file.stat()
    except OSError:
        return None
    if file.suffix == ".json":
        return None
    parts = (str(file.resolve()), status.st_size, status.st_mtime_ns, status.st_ctime_ns, description)
    return hashlib.sha256(json.dumps(parts).encode("utf-8", "surrogateescape")).hexdigest()


def recall(key: str) -> str | None:
    """The fingerprint that was noted under `key`."""
    return _notes().get(key)


def note(key: str, fingerprint: str) -> None:
    """Keep a fingerprint; where it cannot be written it will be computed again."""
    kept = {**_notes(), key: fingerprint}
    file = cache_folder() / "fingerprints.json"
    partial = file.with_name(f"{file.name}.{os.getpid()}")
    with suppress(OSError):
        file.parent.mkdir(parents=True, exist_ok=True)
        partial.write_text(json.dumps(dict(list(kept.items())[-_KEPT:]), indent=0), encoding="utf-8")
        partial.replace(file)


def _notes() -> dict[str, str]:
    try:
        notes = json.loads((cache_folder() / "fingerprints.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return notes if isinstance(notes, dict) and all(isinstance(value, str) for value in notes.values()) else {}
