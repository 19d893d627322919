"""Which keywords each image is to have, by its results, and which sidecar is the image's."""

# pathlib would normalise paths that must stay as they are.
# ruff: noqa: PTH113, PTH118, PTH122

import os
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from zeroshot_cli.datasets.tables import find_items
from zeroshot_cli.disk import read_notes
from zeroshot_cli.display import counted
from zeroshot_cli.errors import UsageError
from zeroshot_cli.filing.manifest import MANIFEST, moved_by
from zeroshot_cli.filing.placing import absolute
from zeroshot_cli.records import SEPARATOR, SkippedImage
from zeroshot_cli.remote.address import is_elsewhere
from zeroshot_cli.results.found import record_beside
from zeroshot_cli.tagging.answers import Answer, read_answers
from zeroshot_cli.tagging.record import EXTENSION, record_of
from zeroshot_cli.tagging.settings import SidecarName, TagSettings, near


@dataclass(slots=True)
class Wanted:
    """The keywords of each image, as paths from the top of their hierarchy, and what of the results has none."""

    images: dict[str, list[tuple[str, ...]]] = field(default_factory=dict)
    unknown: int = 0
    unreadable: int = 0
    unsure: int = 0
    missing: list[SkippedImage] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def passed_over(self) -> str:
        """Return the counts of images without keywords as the end of a sentence; empty for none."""
        counts = ((self.unknown, "unknown"), (self.unreadable, "unreadable"), (self.unsure, "not sure enough"))
        found = [f"{count} {why}" for count, why in counts if count]
        return f"; passed over: {', '.join(found)}" * bool(found)


def read_wanted(results: Sequence[Path], settings: TagSettings) -> Wanted:
    """Read what is to be written; of an image in several results the last ones count.

    Raises UsageError for a file that is not there, DataError for what is wrong in one, or where no image exists.
    """
    chosen: dict[str, Sequence[Answer] | None] = {}
    wanted, run = Wanted(), _Run()
    for path in results:
        answers = read_answers(path)
        run = _run_of(path, run)
        answers = answers.as_were() if run.excel_safe else answers
        names = [*answers.images, *answers.errors.difference(answers.images)]
        if elsewhere := next(filter(is_elsewhere, names), None):
            raise UsageError(f"{path}: {elsewhere} is not on this disk; tag writes beside files, so download them")
        places = [run.place_of(name) for name in names]
        cells = [there if os.path.isfile(there) else name for there, name in zip(places, names, strict=True)]
        items, assumed = find_items(path, cells) if cells else ((), ())
        most = settings.top_k or (None if run.multi_label else 1)
        wanted.notes += [f"{path}: {text}" for text in assumed]
        for name, item in zip(names, items, strict=True):
            image = item.path if isinstance(item, SkippedImage) else absolute(item)
            chosen.pop(image, None)
            found = answers.images.get(name)
            chosen[image] = None if found is None else [*map(run.grouped, found[:most])]
    if answers.is_log and len(results) == 1:
        wanted.notes += _other_records(results[0])
    for image, labels in chosen.items():
        if labels is None:
            wanted.unreadable += 1
        elif not labels:
            wanted.unknown += 1
        elif not os.path.isfile(image):
            wanted.missing.append(SkippedImage(image, _why_missing(image)))
        else:
            kept = [*_kept(labels, settings)]
            wanted.unsure += not kept
            wanted.images[image] = kept
    return wanted


@dataclass(frozen=True, slots=True)
class _Run:
    """What the record of a run says: where it was started, whether images have several labels, and the groups.

    `moved` has where --sort-into moved images, by where they were.
    `excel_safe` says that its tables have quotes before formulas. `groups` are the paths of labels and of groups by
    name, none where the labels had no groups.
    """

    folder: str = ""
    multi_label: bool = False
    excel_safe: bool = False
    groups: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    moved: Mapping[str, str] = field(default_factory=dict)

    def place_of(self, name: str) -> str:
        """Return where the image of a path in the results is."""
        place = os.path.join(self.folder, name)
        return self.moved.get(os.path.normpath(place), place)

    def grouped(self, answer: Answer) -> Answer:
        """Return an answer with the groups of its label, which a correction does not have, or those of another."""
        return replace(answer, group=self.groups.get(answer.label, answer.group))


def _run_of(path: Path, before: _Run) -> _Run:
    """Return the run that wrote results, as far as its record says.

    A log of corrections has no record: its images and groups are those of the results `before` it.
    """
    record = record_beside(path)
    notes = read_notes(record) if record is not None else {}
    resolved, asked = (part if isinstance(part := notes.get(key), dict) else {} for key in ("resolved", "settings"))
    folder, several = resolved.get("folder"), bool(asked.get("multi_label"))
    excel_safe = bool(asked.get("excel_safe")) and path.suffix.lower() in (".csv", ".tsv")
    if not isinstance(folder, str):
        return replace(before, multi_label=several, excel_safe=excel_safe)
    sorted_into = asked.get("sort_into")
    moved = moved_by(os.path.join(folder, sorted_into, MANIFEST)) if isinstance(sorted_into, str) else {}
    return _Run(folder, several, excel_safe, _groups_in(asked), moved)


def _why_missing(image: str) -> str:
    file, mark, number = image.rpartition("#")
    if mark and number.isdecimal() and os.path.isfile(file):
        return "a frame, and keywords are of whole files; classify without --frames each"
    return "missing since it was classified"


def _groups_in(settings: Mapping[str, Any]) -> dict[str, tuple[str, ...]]:
    names, groups = settings.get("labels"), settings.get("groups")
    if not isinstance(names, list) or not isinstance(groups, list):
        return {}
    paths = {str(name): tuple(str(group).split(SEPARATOR)) * bool(group) for name, group in zip(names, groups)}  # noqa: B905
    above = {path[end - 1]: path[:end] for path in paths.values() for end in range(1, len(path) + 1)}
    return above | paths


def _other_records(log: Path) -> Iterator[str]:
    """Yield what to type where the results that a log corrects were tagged before."""
    for record in sorted(log.parent.glob(f"*{EXTENSION}")):
        tagged = record.with_name(record.name.removesuffix(EXTENSION))
        if record != record_of(log) and tagged.exists():
            names = f"{shlex.quote(str(tagged))} {shlex.quote(str(log))}"
            yield f"{tagged} was tagged before, and keeps its keywords; zeroshot tag {names} corrects them"


def _kept(labels: Sequence[Answer], settings: TagSettings) -> Iterator[tuple[str, ...]]:
    least = settings.min_probability
    for answer in labels:
        if least is None or answer.probability is None or answer.probability >= least:
            yield (*settings.parent, *answer.path)


def sidecar_of(image: str, naming: SidecarName) -> str:
    """Return the sidecar of an image, which need not exist: `IMG_1.jpg.xmp` or `IMG_1.xmp`."""
    stems = {SidecarName.APPEND: [image], SidecarName.REPLACE: [os.path.splitext(image)[0]]}
    names = stems.get(naming, [image, os.path.splitext(image)[0]])
    found = (name + extension for name in names for extension in (".xmp", ".XMP"))
    return next(filter(os.path.lexists, found), f"{names[0]}.xmp")


def shared_sentence(sidecar: str, images: Sequence[str]) -> str:
    """Return what is to be said of a sidecar that belongs to several images."""
    names = " and ".join(os.path.basename(image) for image in images[:3])  # noqa: PTH119
    more = f" and {counted(len(images) - 3, 'other')}" if len(images) > 3 else ""
    return f"{near(sidecar)} is the sidecar of {names}{more}, and has the keywords of all"
