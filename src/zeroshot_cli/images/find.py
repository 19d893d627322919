"""Find image files: every input becomes a path, or a reason why it is not one."""

# pathlib would change how a path is written, and results carry it as it was given.
# ruff: noqa: PTH110, PTH112, PTH116, PTH118, PTH122, PTH207

import glob
import os
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from itertools import chain
from typing import TYPE_CHECKING, BinaryIO

from zeroshot_cli.disk import similar_path
from zeroshot_cli.errors import DataError, UsageError
from zeroshot_cli.images.addresses import Addresses, check_mistyped, in_table, is_table
from zeroshot_cli.images.folders.walk import Identity, Run, folders_below, runs_below
from zeroshot_cli.images.inputs import address_in, exists, expand_braces, listed_paths, readings
from zeroshot_cli.images.selection import USUAL, Excluded, LeftOut, Selection
from zeroshot_cli.records import SkippedImage
from zeroshot_cli.remote.address import is_address, is_elsewhere, shown_address

if TYPE_CHECKING:  # it imports numpy
    from zeroshot_cli.images.given import ImageItem

_SUFFIXES = (
    ".apng .avif .bmp .dds .dib .gif .heic .heif .hif .icns .ico .j2c .j2k .jfif .jp2 .jpe .jpeg .jpf .jpg .jpx .jxl "
    ".mpo .pbm .pcx .pgm .png .pnm .ppm .psd .qoi .sgi .tga .tif .tiff .webp"
)
IMAGE_SUFFIXES = frozenset(_SUFFIXES.split())


Keep = Callable[[Iterable[Iterable["str | SkippedImage"]]], Sequence["str | SkippedImage"]]

_NAMED = 3  # folders in a note
_TEXTS = ".csv .doc .docx .json .jsonl .md .rtf .tsv .txt .xls .xlsx .yaml .yml"
_NOT_THERE = ("no such file", "no file matches this pattern")


def in_memory(runs: Iterable[Iterable[str | SkippedImage]]) -> Sequence[str | SkippedImage]:
    """Return the items of runs that are in order of path; of a single run, in its own order."""
    first, *others = map(list, runs)
    rest = list(chain.from_iterable(others))
    return tuple(sorted([*first, *rest], key=path_of) if rest else first)


@dataclass(frozen=True, slots=True)
class FoundImages:
    """What the inputs name, each path once.

    `others` counts the files in folders that have no image extension, by extension. `assumed` says how a list was read
    and what was left out, one sentence each; `empty` are the folders without an image. `keep` is how items are kept.
    """

    items: Sequence[str | SkippedImage]
    others: Mapping[str, int] = field(default_factory=dict)
    assumed: tuple[str, ...] = ()
    empty: tuple[str, ...] = ()
    keep: Keep = in_memory

    def with_items(self, items: Iterable[str | SkippedImage]) -> "FoundImages":
        """Return what was found with other items, kept in the same way."""
        return replace(self, items=self.keep([items]))

    @property
    def warnings(self) -> tuple[str, ...]:
        """What is probably not as the user meant it, one sentence each."""
        named = ", ".join(self.empty[:_NAMED]) + (", …" if len(self.empty) > _NAMED else "")
        return (f"no image in {named}",) if self.empty else ()

    @property
    def notes(self) -> tuple[str, ...]:
        """What a user should know about the inputs, one sentence each."""
        return (*self.warnings, *self.assumed)

    @property
    def ignored(self) -> int:
        """How many files in folders have no image extension."""
        return sum(self.others.values())

    @property
    def count(self) -> int:
        """How many images can be tried."""
        return sum(isinstance(item, str) for item in self.items)

    def paths(self) -> Iterator[str]:
        """Return what results call every item: its path, or its address without what must stay secret."""
        return (shown_address(path_of(item)) for item in self.items)


def _check_are_images(inputs: Sequence[str], named: Sequence[str | SkippedImage]) -> None:
    """Raise DataError where every input is a file of text by its name: labels, or a list of images."""
    texts = all(isinstance(item, str) and os.path.splitext(item)[1].lower() in _TEXTS.split() for item in named)
    if texts and inputs != ["-"] and (files := [each for each in inputs if os.path.isfile(each)]):  # noqa: PTH113
        raise DataError(
            f"{files[0]} is text, not an image; name images or a folder first, labels with --labels FILE; for a list "
            f"of images, type - < {files[0]}"
        )


def find_images(
    inputs: Sequence[str],
    *,
    stdin: BinaryIO | None = None,
    null_separated: bool = False,
    selection: Selection = USUAL,
    keep: Keep = in_memory,
) -> FoundImages:
    """Return the images that files, folders (recursive), globs and `-` (paths on stdin) name.

    They are in input order, those of a folder sorted by path; what is missing or cannot be listed is a SkippedImage.
    Bytes of a path that are not UTF-8 become lone surrogates. A path that is named is taken, whatever it is; of folders
    and globs what `selection` takes. Raises UsageError where no input exists, for an address that nothing reads, and
    for standard input that is not a list of paths; DataError where there is no image at all.
    """
    search = _Search(selection)
    parts: list[Sequence[str | SkippedImage]] = []
    empty: list[str] = []
    if len(inputs) == 1 and address_in(inputs[0]) and not exists(inputs[0]):
        found = keep([search.named(inputs, stdin, null_separated)])  # a store may have more than memory holds
        _check_exist(inputs, found, search.left_out)
        return _found(search, inputs, found, empty, keep)
    named = list(search.named(inputs, stdin, null_separated))
    _check_are_images(list(inputs), named)
    if len(named) == 1 and isinstance(only := named[0], str) and os.path.isdir(only):
        found = keep(search.images_below(only))  # a folder has each file once
        empty = [] if found else [only]
    else:
        for given in named:
            items: Sequence[str | SkippedImage] = [given]
            if isinstance(given, str) and is_table(given) and os.path.isfile(given):  # noqa: PTH113
                items = list(in_table(given))
            elif isinstance(given, str) and os.path.isdir(given):
                items = in_memory(search.images_below(given))
                empty += [] if items else [given]
            elif search.excluded(path_of(given)):
                search.left_out.excluded += 1
                continue
            parts.append(items)
        found = keep([parts[0] if len(parts) == 1 else search.once(chain.from_iterable(parts))])
        _check_exist(inputs, found, search.left_out)
    return _found(search, inputs, found, empty, keep)


def _as_path(there: str) -> str:
    """Return the path of a file that is there so that nobody takes it for an address: wget makes such folders."""
    return os.path.join(os.curdir, there) if is_address(there) else there


def _found(
    search: "_Search", inputs: Sequence[str], found: Sequence[str | SkippedImage], empty: Sequence[str], keep: Keep
) -> FoundImages:
    notes = (*search.notes, *search.left_out.notes())
    if not found:
        raise DataError(_why_none(inputs, search.left_out, notes))
    return FoundImages(found, dict(search.left_out.others), notes, tuple(empty), keep)


def path_of(item: "ImageItem") -> str:
    """Return the path of an image, readable or not."""
    return item if isinstance(item, str) else item.path


def _check_exist(inputs: Sequence[str], found: Sequence[str | SkippedImage], left_out: LeftOut) -> None:
    """Raise UsageError where nothing exists that is named."""
    if left_out.excluded or not all(isinstance(item, SkippedImage) and item.reason in _NOT_THERE for item in found):
        return
    if missing := [item for item in found if isinstance(item, SkippedImage)]:
        raise UsageError(_why_missing(missing, listed=list(inputs) == ["-"]))


def _why_none(inputs: Sequence[str], left_out: LeftOut, notes: Iterable[str]) -> str:
    number = left_out.others.total()
    others = f" among {number} other file{'s' * (number != 1)}" if number else ""
    named = ", ".join("standard input" if each == "-" else each for each in inputs) or "an empty list of inputs"
    way_out = "give image files, or a folder that has some"
    return "; ".join([f"no image found in {named}{others}", way_out, *notes])


def _why_missing(missing: Sequence[SkippedImage], *, listed: bool) -> str:
    """Return a sentence about inputs none of which exists."""
    first = missing[0]
    way_out = similar_path(first.path) or "give image files, or a folder that has some"
    if len(missing) == 1:
        return f"{first.path or repr(first.path)}: {first.reason.replace('file', 'file or folder', 1)}; {way_out}"
    where = " on standard input" if listed else ""
    return f"none of the {len(missing)} paths{where} exists, the first is {first.path}; {way_out}"


class _Search:
    """One search: what it takes, and what it left out."""

    def __init__(self, selection: Selection) -> None:
        self.selection = selection
        self.excluded = Excluded(selection.exclude)
        self.left_out = LeftOut(Counter(), Counter())
        self.addresses = Addresses(selection, IMAGE_SUFFIXES, self.left_out)
        self.notes: list[str] = []
        self._outside = _identity(selection.outside)
        self._real_folder = lru_cache(maxsize=1024)(os.path.realpath)

    def once(self, items: Iterable[str | SkippedImage]) -> list[str | SkippedImage]:
        """Return the items without those that are another's file by another name."""
        found: dict[str, str | SkippedImage] = {}
        for item in items:
            found.setdefault(self.place(path_of(item)), item)
        return list(found.values())

    def place(self, path: str) -> str:
        """Return what is the same for two names of one file, such as "a.jpg" and "./a.jpg"; links are not followed."""
        folder, name = os.path.split(path)
        if name in ("", ".", "..") or "\0" in path or is_elsewhere(path):
            return path
        return os.path.normcase(os.path.join(self._real_folder(folder), name))

    def named(
        self, inputs: Sequence[str], stdin: BinaryIO | None, null_separated: bool
    ) -> Iterator[str | SkippedImage]:
        """Yield the paths that the inputs stand for, folders still whole."""
        for given in inputs:
            if given != "-":
                yield from self._meant(given)
                continue
            paths, note = listed_paths((stdin or sys.stdin.buffer).read(), null_separated=null_separated)
            self.notes += [note] if note else []
            for path in paths:
                known = (each for each in ([path] if null_separated else readings(path)) if exists(each))
                if there := next(known, None):
                    yield _as_path(there)
                elif address := address_in(path):
                    yield from self.addresses.in_list(address)
                else:
                    yield SkippedImage(path, _NOT_THERE[0])

    def _meant(self, given: str) -> Iterator[str | SkippedImage]:
        """Yield what an argument stands for; the shell may not have expanded it."""
        meanings = list(dict.fromkeys(readings(given)))
        if there := next(filter(exists, meanings), None):
            if (kind := self.selection.byproduct(there)) and os.path.isdir(there):
                self.notes.append(f"{there} is taken, since it is named; {kind} is left out of other folders")
            yield _as_path(there)
            return
        if address := address_in(given):
            for one in expand_braces(address):
                yield from self.addresses.meant(one)
            return
        check_mistyped(given)
        for meaning in meanings:
            paths = list(self._alternatives(meaning))
            if any(isinstance(path, str) for path in paths):
                yield from paths
                return
        pattern = any(glob.has_magic(each) or len(expand_braces(each)) > 1 for each in meanings)
        yield SkippedImage(given, _NOT_THERE[pattern])

    def _alternatives(self, pattern: str) -> Iterator[str | SkippedImage]:
        """Yield the paths that braces and globs stand for."""
        for one in expand_braces(pattern):
            if exists(one):
                yield one
            elif glob.has_magic(one):
                yield from (path for path in _matches(one) if not self._is_left_out(path, one))
            else:
                yield SkippedImage(one, _NOT_THERE[0])

    def _is_left_out(self, path: str, pattern: str) -> bool:
        """Return whether a match is hidden or a system's where the pattern does not say so, and count it."""
        said = set(pattern.split("/"))
        dotted = any(part.startswith(".") and glob.has_magic(part) for part in said)
        parts = path.split("/")
        for end, part in enumerate(parts, start=1):
            if part in said or part in ("", ".", "..") or (dotted and part.startswith(".")):
                continue
            if kind := self.selection.byproduct("/".join(parts[:end])):
                self.left_out.byproducts[kind] += 1 if not os.path.isdir(path) else len(list(_image_files(path)))
                return True
        return False

    def images_below(self, root: str) -> Iterator[Run]:
        """Return the images in a folder and its folders, in runs that are sorted by path."""
        if self._outside is not None and _identity(root) == self._outside:
            raise UsageError(
                f"cannot sort the images of {root} into it: the next run would sort the copies; name another folder, "
                "and undo an earlier sort with zeroshot unsort"
            )
        return runs_below(root, self._enters, self._takes)

    def _takes(self, entry: os.DirEntry[str]) -> bool:
        """Return whether a file in a folder is an image to take, and count those that are not."""
        if not _may_be_image(entry):
            self.left_out.add_other(entry.path)
        elif kind := self.selection.byproduct(entry.path):
            self.left_out.byproducts[kind if kind == "._*" else "hidden files"] += 1
        elif self.excluded(entry.path):
            self.left_out.excluded += 1
        else:
            return True
        return False

    def _enters(self, folder: str, identity: Identity) -> bool:
        """Return whether a folder in another is searched, and count the images of one that is not."""
        if identity == self._outside:
            return False
        if kind := self.selection.byproduct(folder):
            self.left_out.byproducts[kind] += sum(1 for _ in _image_files(folder))
            return False
        if self.excluded(folder):
            self.left_out.excluded += sum(1 for _ in _image_files(folder))
            return False
        return True


def _identity(folder: str | os.PathLike[str] | None) -> Identity | None:
    """Return what identifies a folder whatever its path; None where there is none."""
    if folder is None:
        return None
    try:
        status = os.stat(folder)
    except (OSError, ValueError):
        return None
    return status.st_dev, status.st_ino


def _matches(pattern: str) -> list[str]:
    """Return the sorted matches of a glob; `**` takes each folder once, where the standard library runs in circles.

    A bracket in the name of a folder that exists is not a pattern, nor is one that otherwise matches nothing.
    """
    parts = pattern.split("/")
    for end in range(len(parts) - 1, 0, -1):
        head = "/".join(parts[:end])
        if glob.has_magic(head) and exists(head):
            parts[:end] = [glob.escape(head)]
            break
    found = _expanded("/".join(parts))
    return found or ("[" in pattern and _expanded(pattern.replace("[", "[[]"))) or []


def _expanded(pattern: str) -> list[str]:
    parts = pattern.split("/")
    if "**" not in parts:
        return sorted(glob.glob(pattern))
    cut = parts.index("**")
    head, tail = "/".join(parts[:cut]), "/".join(parts[cut + 1 :])
    roots = glob.glob(head) if head else ["/" if cut else "."]
    folders = [folder for root in roots if os.path.isdir(root) for folder in folders_below(root)]
    patterns = [os.path.join(glob.escape(folder), tail) for folder in folders]
    found = {path for one in patterns for path in _expanded(one)} if tail else set(folders)
    return sorted(path if cut else path.removeprefix("./") for path in found)


def _image_files(folder: str) -> Iterator[str]:
    """Yield the files with an image extension in a folder and its folders; links to folders are not followed."""
    for _, _, names in os.walk(folder):
        yield from (name for name in names if os.path.splitext(name)[1].lower() in IMAGE_SUFFIXES)


def _may_be_image(entry: os.DirEntry[str]) -> bool:
    suffix = os.path.splitext(entry.name)[1].lower()
    # A dangling link without an extension may have led to a folder of images: it must not vanish in silence.
    return suffix in IMAGE_SUFFIXES or (not suffix and entry.is_symlink() and not os.path.exists(entry.path))
