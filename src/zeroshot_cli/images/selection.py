"""What of a folder is taken: no hidden files, none that a program keeps for itself, none that the user excludes."""

# pathlib would change how a path is written, and results carry it as it was given.
# ruff: noqa: PTH119, PTH122

import fnmatch
import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache

# Visible folders that systems and programs fill with thumbnails, deleted files and older versions, in lower case.
_SYSTEM_FOLDERS = frozenset(
    [
        *("@eadir", "@tmp", "@recycle", "@recently-snapshot", "@sharesnap", "#recycle", "#snapshot"),  # Synology, QNAP
        *("$recycle.bin", "recycler", "recycled", "system volume information", "found.000"),  # Windows
        *("__macosx", "network trash folder", "temporary items", "thevolumesettingsfolder"),  # macOS
        *("lost+found", "~snapshot", "__pycache__", "node_modules"),  # Unix, NetApp, programming
        *("files_trashbin", "files_versions"),  # Nextcloud, ownCloud
        "[originals]",  # ACDSee: what an edited image was before
    ]
)
_SYSTEM_PATTERNS = (
    ("*.lrdata", re.compile(r".*\.lrdata")),  # previews of Lightroom
    ("appdata_*", re.compile(r"appdata_(oc)?[0-9a-z]{8,}")),  # previews of Nextcloud
)
# Libraries of Apple's Photos, iPhoto and Aperture: images are in these folders, all others hold what was derived.
_LIBRARIES = (".photoslibrary", ".photolibrary", ".migratedphotolibrary", ".aplibrary")
_IN_LIBRARY = frozenset(["originals", "masters"])
_CAPTURE_ONE = ("captureone", "cache")  # its folder beside the images holds a cache, and settings
_MOST_KINDS = 8  # in a note
_EXTENSION = re.compile(r"\.[\w~+-]{1,12}")


@dataclass(frozen=True, slots=True)
class Selection:
    """What is taken of folders and globs; a hidden or system file that is named itself is always taken.

    `all_files` takes hidden and system files and folders too. `exclude` are globs, compared without regard to case: one
    without a slash with the name of a file or folder, one with a slash with the end of its path; `*` also matches
    slashes. They hold for files that are named themselves as well. `outside` is the folder to sort into: it
    is not searched, and refused if it is named.
    """

    all_files: bool = False
    exclude: tuple[str, ...] = ()
    outside: str | os.PathLike[str] | None = None

    def byproduct(self, path: str) -> str | None:
        """Return the kind of a hidden or system file or folder, None for all others."""
        return None if self.all_files else byproduct(path)


USUAL = Selection()


def byproduct(path: str) -> str | None:
    """Return the kind, for a count, of a file or folder that is hidden or that a program keeps; None for others."""
    folder, name = os.path.split(path)
    if name.startswith("._"):
        return "._*"  # AppleDouble: what macOS stores beside a file on disks of others
    if name.startswith(".") and name not in (".", ".."):  # which are folders by another name
        return name
    low = name.casefold()
    if low in _SYSTEM_FOLDERS:
        return name
    for kind, pattern in _SYSTEM_PATTERNS:
        if pattern.fullmatch(low):
            return kind
    parent = _low_name(folder)
    if parent.endswith(_LIBRARIES) and low not in _IN_LIBRARY:
        return f"*{os.path.splitext(parent)[1]}"
    return name if (parent, low) == _CAPTURE_ONE else None


@lru_cache(maxsize=64)  # the images of a folder ask for the same one
def _low_name(folder: str) -> str:
    return os.path.basename(folder).casefold()


class Excluded:
    """Whether a path matches one of the globs of `--exclude`."""

    def __init__(self, globs: tuple[str, ...]) -> None:
        cleaned = [glob.replace(os.sep, "/").removeprefix("./").rstrip("/") or glob for glob in globs if glob]
        self._names = _any([glob for glob in cleaned if "/" not in glob])
        ends = [each for glob in cleaned if "/" in glob for each in (glob, f"*/{glob.lstrip('/')}")]
        self._paths = _any([*ends, *(end.removesuffix("/**").removesuffix("/*") for end in ends)])

    def __call__(self, path: str) -> bool:
        """Return whether a file or folder is excluded."""
        if self._names is None and self._paths is None:
            return False
        path = path.replace(os.sep, "/").rstrip("/")
        named = self._names is not None and self._names.fullmatch(path.rpartition("/")[2])
        return bool(named or (self._paths is not None and self._paths.fullmatch(path)))


def _any(globs: list[str]) -> re.Pattern[str] | None:
    return re.compile("|".join(map(fnmatch.translate, globs)), re.IGNORECASE) if globs else None


@dataclass(slots=True)
class LeftOut:
    """Counts of what was not taken: other files by extension, hidden and system images by kind, excluded images."""

    others: Counter[str]
    byproducts: Counter[str]
    excluded: int = 0

    def add_other(self, path: str) -> None:
        """Count a file without an image extension."""
        self.others[os.path.splitext(path)[1].lower()] += 1

    def notes(self) -> Iterator[str]:
        """Yield the counts, one sentence a cause."""
        yield from other_files(self.others)
        if number := self.byproducts.total():
            images = "1 hidden or system image" if number == 1 else f"{number} hidden or system images"
            yield f"{images} left out: {_listed(self.byproducts)}; --all-files takes them"
        if self.excluded:
            yield f"{self.excluded} image{'s' * (self.excluded != 1)} left out by --exclude"


def other_files(others: Mapping[str, int]) -> Iterator[str]:
    """Yield the sentence that counts files by extension, if there are any."""
    if number := sum(others.values()):
        named = Counter[str]()
        for extension, count in others.items():
            known = _EXTENSION.fullmatch(extension)
            named[extension if known else "unusual extensions" if extension else "without extension"] += count
        yield f"{number} file{'s' * (number != 1)} left out: {_listed(named)}"


def _listed(counts: Mapping[str, int]) -> str:
    """Return the kinds with their counts, the largest first."""
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    if len(ordered) > _MOST_KINDS:
        rest = sum(count for _, count in ordered[_MOST_KINDS - 1 :])
        ordered = [*ordered[: _MOST_KINDS - 1], ("others", rest)]
    return ", ".join(f"{kind} {count}" for kind, count in ordered)
