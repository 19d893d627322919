"""What `zeroshot tag` is told, and the words for what it does; quick to import, for the parser."""

import os
from dataclasses import dataclass
from enum import StrEnum


class SidecarName(StrEnum):
    """What a sidecar is called; `auto` is the one that exists, else `append`."""

    AUTO = "auto"
    APPEND = "append"
    REPLACE = "replace"


class Action(StrEnum):
    """What becomes of a sidecar or an image."""

    NEW = "new"
    MERGED = "merged"
    RESTORED = "restored"
    UNCHANGED = "unchanged"


@dataclass(frozen=True, slots=True)
class TagSettings:
    """Which labels become keywords, under which `parent` names, and where: in sidecars, or in the images (`embed`).

    Without `top_k` it is the best label, and of a run with --multi-label all.
    """

    top_k: int | None = None
    min_probability: float | None = None
    parent: tuple[str, ...] = ()
    naming: SidecarName = SidecarName.AUTO
    embed: bool = False


def near(path: str) -> str:
    """Return an absolute path as a person in the working directory would write it."""
    return path.removeprefix(os.path.realpath(os.curdir).rstrip(os.sep) + os.sep)
