"""Text embeddings on disk, found by what they were computed from."""

import hashlib
import sqlite3
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from zeroshot_cli.embed.store import KEYS_A_QUERY, CacheWarning, Store, checked, checksum_of
from zeroshot_cli.models.loaded import LoadedModel

__all__ = ["CacheWarning", "TextCache"]

_VERSION = b"3"  # of the keys: another one when the same text would get another embedding


class TextCache(Store):
    """Text embeddings of any model, by its fingerprint, precision, kind of device and the text."""

    name = "texts.sqlite"
    schema = (
        "CREATE TABLE IF NOT EXISTS texts (key BLOB PRIMARY KEY, embedding BLOB NOT NULL, checksum INTEGER NOT NULL)"
    )
    content, otherwise = "text embeddings", "texts are encoded anew"

    def get(self, model: LoadedModel, texts: Sequence[str]) -> tuple[list[int], Tensor]:
        """Return which of the texts, by their place, are known, n of them, and their embeddings ne, float32."""
        keys = _keys(model, texts)
        found: dict[bytes, bytes] = {}
        if self.exists():
            found = self.use(lambda database: _read(database, keys), found)
        known = [place for place, key in enumerate(keys) if key in found]
        content = bytearray().join(found[keys[place]] for place in known)
        if not known:
            return [], torch.empty(0, 0)
        rows = np.frombuffer(content, dtype="<f4").astype(np.float32, copy=False)
        return known, torch.from_numpy(rows).view(len(known), -1)

    def put(self, model: LoadedModel, texts: Sequence[str], embeddings: Tensor) -> None:
        """Keep embeddings pe, float32, of p texts."""
        self.use(lambda database: _write(database, _keys(model, texts), embeddings), None)


def _keys(model: LoadedModel, texts: Sequence[str]) -> list[bytes]:
    setting = hashlib.sha256(_VERSION)
    for part in (model.fingerprint, model.precision, model.device.type):
        setting.update(part.encode() + b"\0")
    return [_key(setting, text) for text in texts]


def _key(setting: "hashlib._Hash", text: str) -> bytes:
    digest = setting.copy()
    digest.update(text.encode("utf-8", "surrogatepass"))
    return digest.digest()


def _read(database: sqlite3.Connection, keys: list[bytes]) -> dict[bytes, bytes]:
    found: dict[bytes, bytes] = {}
    for start in range(0, len(keys), KEYS_A_QUERY):
        some = keys[start : start + KEYS_A_QUERY]
        places = ",".join("?" * len(some))
        rows = database.execute(f"SELECT * FROM texts WHERE key IN ({places})", some)
        found |= {key: checked(key, content, checksum) for key, content, checksum in rows}
    return found


def _write(database: sqlite3.Connection, keys: list[bytes], embeddings: Tensor) -> None:
    contents = (row.tobytes() for row in embeddings.numpy().astype("<f4"))
    rows = ((key, content, checksum_of(key, content)) for key, content in zip(keys, contents, strict=True))
    with database:  # one transaction: all of them or none
        database.executemany("INSERT OR REPLACE INTO texts VALUES (?, ?, ?)", rows)
