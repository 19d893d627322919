"""Convert CLIP_benchmark's WebDataset layout into folders of image files.

test/nshards.txt  test/0.tar …    members 000.webp and 000.cls (the class index), or 000.txt (captions, one per line)
classnames.txt    zeroshot_classification_templates.txt (with {c})    dataset_type.txt (retrieval)
"""

import re
import tarfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from zeroshot_cli.datasets.archives import need_room
from zeroshot_cli.errors import DataError
from zeroshot_cli.pairs.columns import IMAGE_EXTENSIONS

SHARD_COUNT = "test/nshards.txt"
CLASS_NAMES = "classnames.txt"
TEMPLATES = "zeroshot_classification_templates.txt"
TYPE = "dataset_type.txt"
SHARD = re.compile(r"test/\d+\.tar")
IMAGES, CLASSES = "images", "classes.txt"  # in the folder that is made
RETRIEVAL, CLASSIFICATION = "retrieval", "classification"

_KEY = re.compile(r"((?:.*/)?[^./]+)\.([^/]+)", re.DOTALL)
_NUMBER = re.compile(rb"\s*(\d{1,9})\s*")
_MOST_SHARDS = 100_000


@dataclass(frozen=True, slots=True)
class Converted:
    """The task of a converted set, and its number of images."""

    task: str
    images: int


def is_wanted(name: str) -> bool:
    """Return whether evaluation needs a file of the repository."""
    return name in (SHARD_COUNT, CLASS_NAMES, TEMPLATES, TYPE) or SHARD.fullmatch(name) is not None


def convert(raw: Path, into: Path, *, templates_name: str) -> Converted:
    """Write the images of a repository's folder `raw` into the folder `into`.

    Labelled images go to `images/0`, `images/1` …, with `classes.txt`, and the set's own templates to `templates_name`;
    captioned images get a text file beside each. The files are numbered in the order of the shards.
    Raises DataError for what is missing or wrong in it, UsageError for too small a disk.
    """
    task = _text(raw / TYPE).strip().lower() or CLASSIFICATION
    shards = _shards(raw)
    need_room(sum(path.stat().st_size for path in shards), into)
    (into / IMAGES).mkdir()
    if task == RETRIEVAL:
        images = _write_captioned(shards, into / IMAGES)
    elif task == CLASSIFICATION:
        classes = _class_names(raw / CLASS_NAMES)
        (into / CLASSES).write_text("".join(f"{name}\n" for name in classes), encoding="utf-8")
        _write_templates(_text(raw / TEMPLATES), into / templates_name)
        images = _write_labelled(shards, into / IMAGES, len(classes))
    else:
        raise DataError(f"{raw / TYPE}: the type {task!r} cannot be evaluated; use a set with one label per image")
    if not images:
        raise DataError(f"{raw}: its shards hold no image; download it again")
    return Converted(task, images)


def _shards(raw: Path) -> list[Path]:
    count = _text(raw / SHARD_COUNT).strip()
    if not count.isascii() or not count.isdigit() or not 0 < int(count) < _MOST_SHARDS:
        raise DataError(f"{raw / SHARD_COUNT}: holds {count[:20]!r} instead of the number of shards; download it again")
    paths = [raw / "test" / f"{number}.tar" for number in range(int(count))]
    missing = next((path for path in paths if not path.is_file()), None)
    if missing is not None:
        raise DataError(f"{missing}: is missing, though {SHARD_COUNT} says {count} shards; download it")
    return paths


def _class_names(path: Path) -> list[str]:
    names = [line.strip() for line in _text(path).splitlines()]
    if not names:
        raise DataError(f"{path}: is missing or empty, so the classes have no names; write one per line")
    if "" in names:
        raise DataError(f"{path} line {names.index('') + 1}: is blank; write the name of the class")
    return names


def _write_templates(text: str, path: Path) -> None:
    templates = [line.strip().replace("{c}", "{}") for line in text.splitlines() if "{c}" in line]
    if templates:
        path.write_text("".join(f"{template}\n" for template in templates), encoding="utf-8")


def _write_labelled(shards: Iterable[Path], into: Path, classes: int) -> int:
    count = 0
    for count, (place, sample) in enumerate(_samples(shards), start=1):
        extension, content = _image(place, sample)
        number = _NUMBER.fullmatch(sample.get("cls", b""))
        if number is None or int(number[1]) >= classes:
            found = repr(sample["cls"][:20].decode("ascii", "replace")) if "cls" in sample else "none"
            raise DataError(f"{place}: its class is {found}; expected a number below {classes}")
        folder = into / str(int(number[1]))
        folder.mkdir(exist_ok=True)
        (folder / f"{count - 1:07d}.{extension}").write_bytes(content)
    return count


def _write_captioned(shards: Iterable[Path], into: Path) -> int:
    count = 0
    for count, (place, sample) in enumerate(_samples(shards), start=1):
        extension, content = _image(place, sample)
        if not sample.get("txt", b"").strip():
            raise DataError(f"{place}: has no caption (.txt); add one, or remove the image")
        (into / f"{count - 1:07d}.{extension}").write_bytes(content)
        (into / f"{count - 1:07d}.txt").write_bytes(sample["txt"])
    return count


def _image(place: str, sample: Mapping[str, bytes]) -> tuple[str, bytes]:
    extension = next((extension for extension in IMAGE_EXTENSIONS if extension in sample), None)
    if extension is None:
        raise DataError(f"{place}: has no image beside {', '.join(sorted(sample))}; download it again")
    return extension, sample[extension]


def _samples(shards: Iterable[Path]) -> Iterator[tuple[str, dict[str, bytes]]]:
    """Yield where each sample is, for errors, and its members by extension; members of one name are adjacent."""
    for shard in shards:
        named = ((match, content) for name, content in _members(shard) if (match := _KEY.fullmatch(name)))
        for key, members in groupby(named, key=lambda member: member[0][1]):
            sample: dict[str, bytes] = {}
            for match, content in members:
                extension = match[2].lower()
                if extension in sample:
                    raise DataError(f"{shard}: {match[0]!r} appears twice; download it again")
                sample[extension] = content
            yield f"{shard}/{key}", sample


def _members(shard: Path) -> Iterator[tuple[str, bytes]]:
    """Yield names and contents of a tar's files; names are only compared, never used as paths."""
    try:
        with tarfile.open(shard, "r:") as tar:  # not compressed, so its members are no larger than itself
            while (member := tar.next()) is not None:
                tar.members.clear()  # type: ignore[attr-defined]  # else all of them stay in memory
                if member.isdir():
                    continue
                file = None if not member.isreg() or member.issparse() else tar.extractfile(member)
                if file is None:
                    raise DataError(f"{shard}: {member.name!r} is not a regular file; do not use this archive")
                content = file.read()
                if len(content) != member.size:
                    raise tarfile.ReadError("unexpected end of data")
                yield member.name, content
    except tarfile.TarError as error:
        raise DataError(f"{shard}: is damaged or not a tar ({error}); download it again") from None


def _text(path: Path) -> str:
    """Return the text of a small file; empty if there is none."""
    try:
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        return ""
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: is not UTF-8 text (byte {error.start}); download it again") from None
