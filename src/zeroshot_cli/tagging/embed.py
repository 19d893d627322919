"""Keywords within images, written by exiftool: of all programs it knows most formats, and rewrites none of the pixels.

The image as it was is kept beside it, as `IMG_1.jpg_original`, where exiftool itself would keep it. The new image is
made under another name and then takes the place of the old one, so a killed process leaves one or the other.
"""

# pathlib would normalise paths that must stay as they are.
# ruff: noqa: PTH105, PTH122

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from zeroshot_cli.disk import open_plain
from zeroshot_cli.errors import UsageError
from zeroshot_cli.filing.placing import copy_file, error_text, remove_if_there
from zeroshot_cli.records import SkippedImage
from zeroshot_cli.tagging.keywords import Field, Keywords, keywords_of, new_keywords
from zeroshot_cli.tagging.record import Entry, Record
from zeroshot_cli.tagging.settings import Action, near
from zeroshot_cli.tagging.wanted import Wanted

ORIGINAL = "_original"  # what exiftool adds to the name of an image as it was
_TAGS = {
    Field.SUBJECT: "XMP-dc:Subject",
    Field.HIERARCHY: "XMP-lr:HierarchicalSubject",
    Field.TAGS: "XMP-digiKam:TagsList",
}
_IPTC = "IPTC:Keywords"
_AT_ONCE = 50  # images of one process of exiftool, which takes longer to start than to write one
_DONE = "{done}"  # printed after each image
_EDITED = "it was changed by another program since it was tagged; type zeroshot untag first, then tag again"


class Failed(Exception):
    """What is wrong with one image; the text is the reason."""


@dataclass(slots=True)
class _Plan:
    """One image that is to have keywords: its SHA-256 now and before ours, and the file that has the bytes of then.

    `entry` is the change that made it what it is now; `lacking` are our keywords that it had not before, and `copied`
    are those of the user that a new list begins with.
    """

    image: str
    now: str
    original: str
    source: str
    keywords: Keywords
    entry: Entry | None = None
    lacking: Keywords = field(default_factory=dict)
    copied: Keywords = field(default_factory=dict)

    @property
    def action(self) -> Action:
        """What becomes of the image."""
        if not self.lacking:
            return Action.UNCHANGED if self.now == self.original else Action.RESTORED
        same = self.entry is not None and self.entry.keywords == self.lacking
        return Action.UNCHANGED if same else Action.MERGED


def check_exiftool() -> str:
    """Return the path of exiftool; UsageError where it is not installed."""
    if (program := shutil.which("exiftool")) is None:
        raise UsageError(
            "writing keywords into images needs exiftool, which is not on this machine; install it (https://exiftool.org,"
            " or apt install libimage-exiftool-perl), or omit --embed to write sidecars"
        )
    return program


def images_of(wanted: Wanted) -> dict[str, Keywords]:
    """Return the keywords of each image, links followed."""
    return {os.path.realpath(image): keywords_of(paths) for image, paths in wanted.images.items()}


def embed(
    images: Mapping[str, Keywords],
    entries: Mapping[str, Sequence[Entry]],
    record: Record | None,
    failed: list[SkippedImage],
    on_progress: Callable[[int, int], None],
) -> Iterator[tuple[str, Action, Keywords]]:
    """Write keywords into images, and yield what became of each; nothing is written without a record.

    Images with former keywords of ours that are to have none are restored.
    """
    paths = [*dict.fromkeys([*images, *entries])]
    for start in range(0, len(paths), _AT_ONCE):
        plans = []
        for image in paths[start : start + _AT_ONCE]:
            try:
                plans.append(_planned(image, images.get(image, {}), entries.get(image, ())))
            except (OSError, Failed) as problem:
                failed.append(failure(image, problem))
        reasons = _compare(plans)
        if record is not None:
            new = [plan for plan in plans if plan.action is Action.MERGED]
            for plan in new:
                if plan.source != plan.image:  # exiftool writes from no original
                    _restore_first(plan, record)
            reasons |= _make([(plan.image, _adding(plan)) for plan in new])
        for plan in plans:
            try:
                if plan.image in reasons:
                    raise Failed(reasons[plan.image])
                if record is not None:
                    _settle(plan, record)
                if any(plan.keywords.values()) or plan.image in entries:
                    yield plan.image, plan.action, plan.keywords
            except (OSError, Failed) as problem:
                failed.append(failure(plan.image, problem))
        on_progress(min(start + _AT_ONCE, len(paths)), len(paths))


def restore(image: str, entries: Sequence[Entry]) -> bool:
    """Put an image back as it was; False if another program has changed it, and only our keywords are taken out."""
    remove_if_there(_unfinished(image))
    now = _digest(image)
    entry = next((each for each in reversed(entries) if each.after == now), None)
    if entry is None and any(each.original == now for each in entries):  # killed before it was changed
        with suppress(OSError):
            if _digest(image + ORIGINAL) == now:
                remove_if_there(image + ORIGINAL)
        return True
    if entry is not None and os.path.lexists(image + ORIGINAL) and _digest(image + ORIGINAL) == entry.original:
        os.replace(image + ORIGINAL, image)
        return True
    _take_out(image, entries)
    return False


def _take_out(image: str, entries: Sequence[Entry]) -> None:
    """Take out of an edited image the keywords of the newest change that shows; raises Failed."""
    there = _read([image]).get(image, ({}, []))[0]
    for entry in reversed(entries):
        ours = [(each, text) for each, texts in entry.keywords.items() for text in texts]
        gone = [f"-{_TAGS[each]}-={text}" for each, text in ours if text in there.get(each, ())]
        if gone:
            for reason in _make([(image, gone)]).values():
                raise Failed(reason)
            shutil.copymode(image, _unfinished(image))
            os.replace(_unfinished(image), image)
            return


def _planned(image: str, keywords: Keywords, entries: Sequence[Entry]) -> _Plan:
    if "\n" in image or "\r" in image:
        raise Failed("its name has a line break, which exiftool cannot be told")
    now = _digest(image)
    remove_if_there(_unfinished(image))
    entry = next((each for each in reversed(entries) if each.after == now), None)
    kept = image + ORIGINAL
    if entry is not None:
        if not os.path.lexists(kept) or _digest(kept) != entry.original:
            raise Failed(f"{near(kept)}, the image as it was, is gone or another; restore it, or type zeroshot untag")
        return _Plan(image, now, entry.original, kept, keywords, entry)
    if entries and not any(each.original == now for each in entries):
        raise Failed(_EDITED)
    if os.path.lexists(kept) and any(keywords.values()) and _digest(kept) != now:
        raise Failed(f"{near(kept)} is there already, from an earlier change; move it away")
    return _Plan(image, now, now, image, keywords)


def _compare(plans: Sequence[_Plan]) -> dict[str, str]:
    """Find which keywords each image lacks; return those that exiftool cannot read, with the reason."""
    wanted = [plan for plan in plans if any(plan.keywords.values())]
    found = _read([plan.source for plan in wanted])
    for plan in wanted:
        if plan.source in found:
            xmp, iptc = found[plan.source]
            existing = xmp if xmp.get(Field.SUBJECT) else {**xmp, Field.SUBJECT: iptc}
            plan.lacking, plan.copied = new_keywords(existing, plan.keywords)
            if existing is not xmp and plan.lacking:  # a program that finds XMP does not look at IPTC
                plan.copied = {**plan.copied, Field.SUBJECT: iptc}
    return {plan.image: "exiftool cannot read it" for plan in wanted if plan.source not in found}


def _adding(plan: _Plan) -> list[str]:
    parts = [part.items() for part in (plan.copied, plan.lacking)]
    return [f"-{_TAGS[each]}+={text}" for part in parts for each, texts in part for text in texts]


def _restore_first(plan: _Plan, record: Record) -> None:
    os.replace(plan.source, plan.image)
    record.undone(plan.image)
    plan.source, plan.now, plan.entry = plan.image, plan.original, None


def _settle(plan: _Plan, record: Record) -> None:
    """Write a change down, and make it."""
    new = _unfinished(plan.image)
    if plan.action is Action.MERGED:
        shutil.copymode(plan.image, new)
        record.append(Entry(plan.image, None, _digest(new), plan.lacking, plan.original))
        _keep(plan.image)
        os.replace(new, plan.image)
    elif plan.action is Action.RESTORED:
        os.replace(plan.source, plan.image)
    if not plan.lacking and plan.image in record.entries:
        record.undone(plan.image)


def _keep(image: str) -> None:
    """Give the image as it was a second name, unless it has that from before."""
    if os.path.lexists(image + ORIGINAL):
        return
    try:
        os.link(image, image + ORIGINAL)
    except OSError:  # a file system without hard links
        copy_file(image, image + ORIGINAL)


# exiftool


def _read(images: Sequence[str]) -> dict[str, tuple[dict[Field, list[str]], list[str]]]:
    """Return the keywords of each image that exiftool can read, in XMP and in IPTC."""
    if not images:
        return {}
    output, _ = _run([["-j", *(f"-{tag}" for tag in (*_TAGS.values(), _IPTC)), *images]])
    rows = json.loads(output or "[]", parse_int=str, parse_float=str)
    return {row["SourceFile"]: (_lists(row), _texts(row.get("Keywords"))) for row in rows}


def _lists(row: Mapping[str, object]) -> dict[Field, list[str]]:
    found = {each: _texts(row.get(tag.partition(":")[2])) for each, tag in _TAGS.items()}
    return {each: texts for each, texts in found.items() if texts}


def _texts(value: object) -> list[str]:
    return [] if value is None else [str(each) for each in (value if isinstance(value, list) else [value])]


def _make(files: Sequence[tuple[str, list[str]]]) -> dict[str, str]:
    """Write unfinished images by exiftool's arguments; return what it says of those that it did not write."""
    _, said = _run([[*arguments, "-o", _unfinished(image), "-echo4", _DONE, image] for image, arguments in files])
    reasons = {}
    for (image, _), about in zip(files, said.split(_DONE), strict=False):
        if not os.path.lexists(_unfinished(image)):
            reason = about.strip().partition("\n")[0].removeprefix("Error: ").removesuffix(f" - {image}")
            reasons[image] = f"exiftool did not write it ({reason or 'no reason given'})"
    return reasons


def _run(commands: Iterable[Sequence[str]]) -> tuple[str, str]:
    """Run commands in one process of exiftool, without the user's own configuration; return what it printed."""
    lines = "".join(f"{line}\n" for command in commands for line in (*command, "-execute"))
    arguments = [check_exiftool(), "-config", "", "-@", "-", "-common_args", "-q"]
    if sys.platform == "win32":
        arguments += ["-charset", "filename=UTF8"]
    done = subprocess.run(arguments, input=os.fsencode(lines), capture_output=True, check=False)
    return done.stdout.decode("utf-8", "surrogateescape"), done.stderr.decode("utf-8", "surrogateescape")


def _digest(path: str) -> str:
    with open_plain(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()  # type: ignore[arg-type]


def _unfinished(image: str) -> str:
    """Return the name of an unfinished image; exiftool goes by its extension."""
    folder, name = os.path.split(image)
    unique = hashlib.sha256(os.fsencode(name)).hexdigest()[:12]
    return f"{folder.rstrip(os.sep)}{os.sep}.{unique}.unfinished{os.path.splitext(name)[1]}"


def failure(image: str, problem: Exception) -> SkippedImage:
    """Return an image that could not be written, with the reason."""
    return SkippedImage(image, error_text(problem) if isinstance(problem, OSError) else str(problem))
