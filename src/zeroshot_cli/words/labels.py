"""Label files → Labels: names, synonyms, whole prompts and folders of the classes, with line numbers in errors.

A label may name the class folders of a data set that it stands for, or the values of a label column, where these differ
from the label and its synonyms: n02099601 for "golden retriever", 7 for "horse". In CSV this is the column `folder`,
several of them as `n02099601 | n02099712`; in YAML and JSON the key `folder` of a label's mapping:

    golden retriever:
      folder: n02099601
      synonyms: [retriever]

Each folder belongs to one label. Only evaluation reads them.
"""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from zeroshot_cli.errors import LabelsError, UsageError
from zeroshot_cli.images.find import IMAGE_SUFFIXES
from zeroshot_cli.records import SEPARATOR
from zeroshot_cli.words.doubts import doubts
from zeroshot_cli.words.groups import check_groups, checked_path, flattened
from zeroshot_cli.words.label_lines import read_lines
from zeroshot_cli.words.label_nodes import read_nodes
from zeroshot_cli.words.label_tables import read_table
from zeroshot_cli.words.nodes import at
from zeroshot_cli.words.prompts import checked_text, fill, has_placeholder
from zeroshot_cli.words.raw_labels import (
    RawLabel,
    Say,
    is_number,
    is_wnid,
    resolved,
    same_words,
    such_as,
    visible,
    wnids,
)
from zeroshot_cli.words.textfiles import content_lines, did_you_mean, label_files, read_noted, read_text

_READERS: dict[str, Callable[[str, Path, Say], Iterator[RawLabel]]] = {
    ".txt": read_lines,
    **dict.fromkeys((".yaml", ".yml", ".json"), read_nodes),
    **dict.fromkeys((".csv", ".tsv"), read_table),
}


@dataclass(frozen=True, slots=True)
class Label:
    """A class: its name, other words for it, and whole prompts that are used instead of templates.

    `folders` are what data sets call it, `group` is its path of groups, topmost first.
    """

    name: str
    synonyms: tuple[str, ...] = ()
    prompts: tuple[str, ...] = ()
    folders: tuple[str, ...] = ()
    group: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Labels:
    """The classes in the order of the file; a class index is a position here.

    `notes` say what was assumed when the file was read.
    """

    items: tuple[Label, ...]
    notes: tuple[str, ...] = field(default=(), compare=False)

    @classmethod
    def of(cls, names: Iterable[str]) -> "Labels":
        """Return labels from plain names; raises LabelsError for none, a blank one or a repeated one."""
        if isinstance(names, str | os.PathLike):
            raise LabelsError(
                f"the labels are one string, {os.fspath(names)!r}; give a list of names, or a file by read_labels"
            )
        seen: dict[str, int] = {}
        for number, given in enumerate(names, start=1):
            if not isinstance(given, str):
                raise LabelsError(f"label {number}, {given!r}, is not a string; put it in quotes")
            name = _checked(given, f"label {number}")
            if name in seen:
                raise LabelsError(f"label {number}, {name!r}, is already label {seen[name]}; remove one of them")
            seen[name] = number
        if not seen:
            raise LabelsError("there are no labels; give at least one")
        return cls(tuple(Label(name) for name in seen))

    @classmethod
    def of_user(cls, names: "Labels | Iterable[str] | Mapping[str, Any]") -> "Labels":
        """Return labels as they are, or from names as `of`; raises LabelsError for two that are the same words, too.

        A mapping names groups: `{"animal": {"mammal": ["cat", "dog"], "bird": ["sparrow"]}}`.
        """
        if isinstance(names, Labels):
            return names
        if isinstance(names, Mapping):
            return cls._grouped(names)
        alone = isinstance(names, str | os.PathLike)  # which `of` refuses
        labels = cls.of(names if alone else (visible(name) if isinstance(name, str) else name for name in names))
        seen: dict[str, str] = {}
        for name in labels.names:
            other = seen.setdefault(same_words(name), name)
            if other != name:
                raise LabelsError(f"the labels {other!r} and {name!r} are the same words; remove one of them")
        return replace(labels, notes=doubts(labels.names))

    @classmethod
    def _grouped(cls, groups: Mapping[str, Any]) -> "Labels":
        found = [*flattened(groups)]
        labels = cls.of_user([name for name, _ in found])
        paths = [path for _, path in found]
        check_groups((label.name, path, "labels") for label, path in zip(labels, paths, strict=True))
        items = (replace(label, group=path) for label, path in zip(labels, paths, strict=True))
        return replace(labels, items=tuple(items))

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the classes, by index."""
        return tuple(label.name for label in self.items)

    @property
    def groups(self) -> tuple[tuple[str, ...], ...]:
        """The path of groups of each class, by index; all are empty where labels have no groups."""
        return tuple(label.group for label in self.items)

    @property
    def grouped(self) -> bool:
        """Whether a class has a group."""
        return any(self.groups)

    def __len__(self) -> int:
        return len(self.items)

    def __iter__(self) -> Iterator[Label]:
        return iter(self.items)


def read_labels(name_or_path: str | Path) -> Labels:
    """Read a built-in set by its name, else the labels of a `.txt`, `.yaml`, `.yml`, `.json`, `.csv` or `.tsv` file.

    A prompt with a placeholder is filled with the name and with each synonym. A built-in set may repeat a name, as
    ImageNet does. Raises UsageError for an unknown name, a missing file or another extension, LabelsError, with the
    line, for invalid content.
    """
    built_in = label_files().get(str(name_or_path))
    path = built_in or Path(name_or_path)
    notes: list[str] = []
    entries = [_checked_entry(raw, path) for raw in read_raw_labels(path, notes.append)]
    if built_in is None:
        entries = _all_visible(entries, path, notes.append)
        entries = _merged(_in_words(entries, path, notes.append), path)
    if not entries:
        raise LabelsError(f"{path} holds no labels; add at least one")
    _check_folders(entries, path)
    check_groups((entry.name, entry.group, at(path, entry.line)) for entry in entries)
    notes += doubts([entry.name for entry in entries])
    return Labels(tuple(_label(entry) for entry in entries), () if built_in else tuple(notes))


@dataclass(frozen=True, slots=True)
class LabelSet:
    """A built-in label set in a list."""

    count: int
    description: str


def list_labels() -> dict[str, LabelSet]:
    """Return the built-in label sets, by name; the first line of each file describes it."""
    sets = {}
    for name, path in label_files().items():
        text = read_text(path, LabelsError)
        sets[name] = LabelSet(sum(1 for _ in content_lines(text)), text.partition("\n")[0].lstrip("# "))
    return sets


def _not_labels(path: Path) -> str:
    """Return why a path cannot be a label file, and the way out."""
    kind = path.suffix.lower()
    if path.is_dir() or kind in IMAGE_SUFFIXES:
        what = "a folder" if path.is_dir() else "an image"
        return (
            f"{path} is {what}, not a label file; images stand without an option, and --labels takes a .txt file with "
            "one label a line"
        )
    if kind in (".xlsx", ".xls", ".ods", ".numbers"):
        return f"{path} is a spreadsheet, not a label file; save it as CSV, with a column label"
    if kind in (".docx", ".doc", ".odt", ".rtf", ".pdf", ".pages"):
        return f"{path} is a document, not a label file; save it as plain text (.txt), one label a line"
    return f"{path} is not a label file; its extension must be {', '.join(_READERS)}"


def read_raw_labels(path: Path, say: Say = lambda note: None) -> tuple[RawLabel, ...]:
    """Read the entries of a label file, unchecked; raises as `read_labels` does for another layout.

    `say` gets what was assumed.
    """
    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        if path.suffix or len(path.parts) > 1 or os.path.lexists(path):
            raise UsageError(_not_labels(path))
        hint = did_you_mean(str(path), label_files(), ".txt, .yaml, .json or .csv")
        raise UsageError(f"there is no label set {str(path)!r}; {hint}")
    text, notes = read_noted(path, LabelsError)
    for note in notes:
        say(note)
    return _without_entities(tuple(reader(text, path, say)), say)


def _without_entities(raws: tuple[RawLabel, ...], say: Say) -> tuple[RawLabel, ...]:
    """Return entries with characters in place of HTML's names for them, such as &amp;."""
    plain = tuple(replace(raw, name=resolved(raw.name), words=tuple(map(resolved, raw.words))) for raw in raws)
    changed = [old.name for old, new in zip(raws, plain, strict=True) if old != new]
    if changed:
        say(such_as(len(changed), "HTML entities resolved in", changed[0]))
    return plain


def checked_label(raw: RawLabel, path: Path) -> Label:
    """Return the label of an entry; raises LabelsError, with the line, where the entry is invalid."""
    return _label(_checked_entry(raw, path))


def _all_visible(entries: list[RawLabel], path: Path, say: Say) -> list[RawLabel]:
    """Return entries without characters that nobody sees; raises LabelsError for one that has no others."""
    plain = [replace(each, name=visible(each.name), words=tuple(map(visible, each.words))) for each in entries]
    changed = [old.name for old, new in zip(entries, plain, strict=True) if old != new]
    if changed:
        say(such_as(len(changed), "invisible characters taken off", changed[0]))
    return [_checked_entry(each, path) for each in plain]


def _in_words(entries: list[RawLabel], path: Path, say: Say) -> list[RawLabel]:
    """Return entries with names in place of ImageNet's ids; raises LabelsError for other ids, and numbers alone."""
    numbers = [entry for entry in entries if is_number(entry.name) and not entry.prompts]
    if numbers and len(numbers) == len(entries):
        raise LabelsError(
            f"{at(path, numbers[0].line)}: all labels are numbers, such as {numbers[0].name!r}, and a model needs "
            f"words; write '{numbers[0].name}: apple' for ids, or give a number that is seen its own prompt"
        )
    if numbers:
        say(f"the label {numbers[0].name!r} is a number; a model needs words")
    named = [_named(entry, path) if is_wnid(entry.name) else entry for entry in entries]
    if named != entries:
        say("WordNet ids replaced by the names of ImageNet's classes")
    return named


def _named(entry: RawLabel, path: Path) -> RawLabel:
    """Return an entry with the name of the class of ImageNet that it gives by its WordNet id."""
    if entry.name not in wnids():
        raise LabelsError(
            f"{at(path, entry.line)}: {entry.name!r} is a WordNet id, not a word, and not one of ImageNet's classes; "
            f"write its name after it, as in '{entry.name} apple'"
        )
    name = read_labels("imagenet").names[wnids().index(entry.name)]
    return replace(entry, name=name, folders=(entry.name, *entry.folders))


def _merged(entries: list[RawLabel], path: Path) -> list[RawLabel]:
    """Return one entry per name; raises LabelsError for a repeated label."""
    merged: dict[str, RawLabel] = {}
    for entry in entries:
        key = same_words(entry.name)
        first = merged.get(key)
        if first is not None and first.name != entry.name:
            both = f"label {entry.name!r} is the same words as {first.name!r} on line {first.line}"
            raise LabelsError(f"{at(path, entry.line)}: {both}; remove one of them")
        where = at(path, entry.line)
        if first is not None and entry.group and first.group != entry.group:
            groups = " and ".join(repr(SEPARATOR.join(each.group)) if each.group else "none" for each in (first, entry))
            raise LabelsError(f"{where}: label {entry.name!r} is in two groups, {groups}; keep one")
        if first is not None and not first.takes(entry):
            raise LabelsError(f"{where}: label {entry.name!r} is already on line {first.line}; remove one of them")
        merged[key] = entry if first is None else first.joined(entry)
    return list(merged.values())


def _check_folders(entries: list[RawLabel], path: Path) -> None:
    """Raise LabelsError for a folder of two labels."""
    owner: dict[str, RawLabel] = {}
    for entry in entries:
        for folder in entry.folders:
            first = owner.setdefault(folder, entry)
            if first is not entry:
                both = f"folder {folder!r} of label {entry.name!r} already belongs to label {first.name!r}"
                raise LabelsError(f"{at(path, entry.line)}: {both}, on line {first.line}; remove one of them")


def _label(entry: RawLabel) -> Label:
    names = (entry.name, *dict.fromkeys(word for word in entry.words if word != entry.name))
    prompts = (fill(prompt, name) for prompt in entry.prompts for name in names)
    folders = tuple(dict.fromkeys(entry.folders))
    return Label(entry.name, names[1:], tuple(dict.fromkeys(prompts)), folders, entry.group)


# checks


def _checked_entry(raw: RawLabel, path: Path) -> RawLabel:
    """Return the entry without outer space, a synonym with a placeholder among the prompts; raises LabelsError."""
    where = at(path, raw.line)
    name = _checked(raw.name, where)
    words = [_checked(word, f"{where}: a synonym of {name!r}") for word in raw.words]
    prompts = [_checked(prompt, f"{where}: a prompt of {name!r}") for prompt in raw.prompts]
    folders = tuple(_checked(folder, f"{where}: a folder of {name!r}") for folder in raw.folders)
    filled = {text: has_placeholder(text, where, LabelsError) for text in (*words, *prompts)}
    if has_placeholder(name, where, LabelsError):
        raise LabelsError(f"{where}: label {name!r} has a placeholder; only prompts may have one")
    synonyms = tuple(word for word in words if not filled[word])
    prompts = [*(word for word in words if filled[word]), *prompts]
    group = checked_path(raw.group, where)
    return replace(raw, name=name, words=synonyms, prompts=tuple(prompts), folders=folders, group=group)


def _checked(text: str, where: str) -> str:
    """Return `text` without outer space; raises LabelsError where it is blank, too long or cannot be encoded."""
    return checked_text(text, where, LabelsError)
