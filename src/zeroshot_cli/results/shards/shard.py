"""Shards: each has a share of the images by a hash of their paths, and knows what all of them are together."""

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

from zeroshot_cli.display import counted
from zeroshot_cli.errors import DataError, UsageError
from zeroshot_cli.results.formats import no_formula, to_bytes
from zeroshot_cli.results.parquet import arrow_text

MOST_SHARDS = 1_000_000
_WRITTEN = re.compile(r"0*(\d{1,7})/0*(\d{1,7})", re.ASCII)
_KEYS = ("shard", "shard_images", "shard_paths", "all_images", "all_paths")


@dataclass(frozen=True, slots=True, order=True)
class Shard:
    """One of `total` shares of the images, the first of which is number 1."""

    number: int
    total: int

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return the shard that `I/N` stands for; ValueError for another text."""
        found = _WRITTEN.fullmatch(text)
        shard = cls(int(found[1]), int(found[2])) if found else None
        if shard is None or not 1 <= shard.number <= shard.total <= MOST_SHARDS:
            raise ValueError(f"{text!r} is not a shard; give I/N, such as 1/16, with I from 1 to N")
        return shard

    def __str__(self) -> str:
        return f"{self.number}/{self.total}"

    def has(self, path: str) -> bool:
        """Return whether an image is of this shard, which the bytes of its path decide alone."""
        digest = hashlib.sha256(to_bytes(path)).digest()
        return int.from_bytes(digest[:8], "big") % self.total == self.number - 1


@dataclass(frozen=True, slots=True)
class PathSet:
    """How many paths there are, and the sum of their hashes, which does not depend on their order.

    The hashes are of paths as every format can write them: `=1.jpg` and what --excel-safe makes of it are the same, and
    so are bytes that are not UTF-8 and what Parquet makes of them.
    """

    count: int = 0
    total: int = 0

    @classmethod
    def of(cls, paths: Iterable[str]) -> Self:
        """Return the set of these paths."""
        count = total = 0
        for path in paths:
            count += 1
            total += int.from_bytes(hashlib.sha256(arrow_text(no_formula(path)).encode()).digest(), "big")
        return cls(count, total % (1 << 256))

    @property
    def digest(self) -> str:
        """The sum, modulo 2^256, in hexadecimal."""
        return f"{self.total:064x}"

    def __add__(self, other: "PathSet") -> "PathSet":
        return PathSet(self.count + other.count, (self.total + other.total) % (1 << 256))


@dataclass(frozen=True, slots=True)
class Share:
    """A shard, its own images, and those of all shards together."""

    shard: Shard
    own: PathSet
    all: PathSet

    def settings(self) -> dict[str, str]:
        """Return what records and the metadata of embeddings say of a shard."""
        own, everything = self.own, self.all
        values = (str(self.shard), str(own.count), own.digest, str(everything.count), everything.digest)
        return dict(zip(_KEYS, values, strict=True))

    @classmethod
    def read(cls, settings: Mapping[str, Any]) -> Self | None:
        """Return what `settings` has written, None where that is of no shard; ValueError where it is damaged."""
        if settings.get("shard") is None:
            return None
        try:
            shard, images, paths, all_images, all_paths = (str(settings[key]) for key in _KEYS)
        except KeyError as missing:
            raise ValueError(f"{missing} is missing") from None
        return cls(
            Shard.parse(shard), PathSet(int(images), int(paths, 16)), PathSet(int(all_images), int(all_paths, 16))
        )


def without_shard(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings that all shards share."""
    return {key: value for key, value in settings.items() if key not in _KEYS}


def check_complete(shares: Sequence[tuple[str, Share]]) -> None:
    """Raise UsageError unless these files, by name, are each shard once, DataError unless all are of one run."""
    first_name, first = shares[0]
    seen = dict[int, str]()
    for name, share in shares:
        if share.shard.total != first.shard.total:
            raise UsageError(
                f"{name} is shard {share.shard} and {first_name} shard {first.shard}; give the shards of one run"
            )
        if (other := seen.get(share.shard.number)) is not None:
            raise UsageError(f"{name} and {other} are both shard {share.shard}; give each shard once")
        seen[share.shard.number] = name
    if missing := next((number for number in range(1, first.shard.total + 1) if number not in seen), None):
        more = f", and {counted(others, 'other')}" if (others := first.shard.total - len(seen) - 1) else ""
        raise UsageError(f"shard {missing}/{first.shard.total} is missing{more}; run it as the others, and give it too")
    for name, share in shares:
        if share.all != first.all:
            found = [counted(each.all.count, "image") for each in (share, first)]
            other = f"{found[0]}, not {found[1]}" if found[0] != found[1] else f"{found[0]}, but not the same"
            raise DataError(
                f"{name}, shard {share.shard}, is of other inputs than {first_name}: {other}; run all shards on the "
                "same images, named in the same way"
            )
    own = PathSet()
    for _, share in shares:
        own += share.own
    if own != first.all:
        raise DataError(f"the shards have {counted(own.count, 'image')} of {first.all.count}; run them all again")
