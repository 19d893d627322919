"""What the texts of a label or template file show without a model: every fault, where reading stops at the first."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path

from zeroshot_cli.errors import LabelsError, PromptsError
from zeroshot_cli.images.find import IMAGE_SUFFIXES
from zeroshot_cli.words.labels import Label, RawLabel, checked_label, read_raw_labels
from zeroshot_cli.words.placeholders import count_placeholders, fill
from zeroshot_cli.words.prompts import Prompts, read_raw_templates
from zeroshot_cli.words.textfiles import Text, content_lines, read_text

_TEMPLATES_KEY = re.compile(r"""^["']?templates["']?\s*:""", re.MULTILINE)
_COMMENT = re.compile(r"(^|\s)#.*")
_RUN_OF_SPACES = re.compile(r"[ \t\n]{2,}|[\t\n]")
_JOINERS = "\u200c\u200d"  # emoji and Persian need them
_NUMBER = re.compile(r"[+-]?\d+([.,]\d+)*%?|n\d{8}")  # and ImageNet's WordNet ids
_EXPECTS_NUMBERS = re.compile(r"\b(number|digit|numeral)\b|\{(label)?\} objects\b")
_ENDINGS = (*IMAGE_SUFFIXES, ".txt", ".csv", ".tsv", ".json", ".jsonl", ".yaml", ".yml", ".parquet", ".tar", ".zip")
_FOLDERS = re.compile(r"(~|\.{1,2}|[A-Za-z]:)?[/\\]|\S*[/\\]\S*[/\\]|\S+[/\\]$|\w+://")


class Kind(StrEnum):
    """What may be wrong with a label or a template."""

    FORM = "form"
    BLANK = "blank"
    WHITE_SPACE = "white space"
    NON_PRINTING = "non-printing"
    DUPLICATE = "duplicate"
    PLACEHOLDER = "placeholder"
    PATH = "path"
    NUMBER = "number"
    TOO_LONG = "too long"
    ALIKE = "alike"
    WORD_ORDER = "word order"


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault: where it is, the text that has it, and what is wrong; line 0 is the file as a whole."""

    file: str
    line: int
    kind: Kind
    text: str
    what: str

    @property
    def in_file(self) -> bool:
        """Whether the file is at fault; a text encoder that is blind to word order is not the file's."""
        return self.kind is not Kind.WORD_ORDER


@dataclass(frozen=True, slots=True)
class Placed:
    """A label that can be used, and its line."""

    line: int
    label: Label


def holds_templates(path: Path) -> bool:
    """Whether a file is meant as templates: YAML with that key, or text of which half the lines have a placeholder."""
    ending = path.suffix.lower()
    if ending not in (".txt", ".yaml", ".yml"):
        return False
    try:
        text = read_text(path, PromptsError)
    except PromptsError:
        return False
    if ending != ".txt":
        return bool(_TEMPLATES_KEY.search(text))
    lines = [line.text for line in content_lines(text) if "|" not in line.text]
    return bool(lines) and 2 * sum("{}" in line or "{label}" in line for line in lines) >= len(lines)


def lint_labels(path: Path, prompts: Prompts) -> tuple[list[Fault], list[Placed]]:
    """The faults of a label file, and the labels that can be used all the same; UsageError where it is not there.

    `prompts` are the templates it is for: only with some that ask for a number may a label be one.
    """
    try:
        raws = read_raw_labels(path)
    except LabelsError as error:
        return [Fault(str(path), 0, Kind.FORM, "", str(error))], []
    faults = list(_line_faults(path))
    numbers = all(_EXPECTS_NUMBERS.search(template) for template in prompts.templates)
    placed: dict[str, Placed] = {}
    for raw in raws:
        found = _label_faults(raw, numbers=numbers)
        faults += [Fault(str(path), raw.line, kind, text, what) for kind, text, what in found]
        try:
            label = checked_label(raw, path)
        except LabelsError as error:
            if not any(fault.line == raw.line for fault in faults):
                faults.append(Fault(str(path), raw.line, Kind.FORM, raw.name, str(error)))
            continue
        first = placed.setdefault(label.name, Placed(raw.line, label))
        if first.label is not label:  # another row of a table, with another prompt
            prompts_of_both = (*first.label.prompts, *label.prompts)
            placed[label.name] = replace(first, label=replace(first.label, prompts=prompts_of_both))
    if not raws:
        faults.append(Fault(str(path), 0, Kind.FORM, "", "holds no labels"))
    return faults + list(_label_duplicates(raws, str(path))), list(placed.values())


def lint_templates(path: Path) -> tuple[list[Fault], list[Text]]:
    """The faults of a template file, and the templates that can be used; UsageError where it is not there."""
    try:
        templates = read_raw_templates(path)
    except PromptsError as error:
        return [Fault(str(path), 0, Kind.FORM, "", str(error))], []
    faults = list(_line_faults(path))
    usable: list[Text] = []
    first: dict[str, int] = {}
    for template in templates:
        found = [*_text_faults(template.text), *_placeholder_faults(template.text, needed=True)]
        filled = fill(template.text.strip(), "{}")
        if filled and first.setdefault(filled, template.line) != template.line:
            found.append((Kind.DUPLICATE, template.text, f"is on line {first[filled]} already"))
        faults += [Fault(str(path), template.line, *fault) for fault in found]
        usable += [template] * bool(filled)
    if not templates:
        faults.append(Fault(str(path), 0, Kind.FORM, "", "holds no templates"))
    return faults, usable


# Kind, text, and what is wrong with it; the caller knows file and line.
_Found = tuple[Kind, str, str]


def _line_faults(path: Path) -> Iterator[Fault]:
    """Faults of the lines of a .txt file, which its reader mends: blank ones and outer white space."""
    if path.suffix.lower() != ".txt":
        return
    lines = read_text(path, LabelsError).rstrip("\n").split("\n")
    for number, (line, after) in enumerate(zip(lines, [*lines[1:], ""], strict=True), start=1):
        content = _COMMENT.sub("", line)
        if not line.strip() and (line or not after.lstrip().startswith("#")):  # one before a comment begins a group
            yield Fault(str(path), number, Kind.BLANK, line, "is a blank line; it is passed over")
        elif content.strip() and (content != content.lstrip() or (content == line and line != line.rstrip())):
            yield Fault(str(path), number, Kind.WHITE_SPACE, line, "begins or ends with white space")


def _label_faults(raw: RawLabel, *, numbers: bool) -> Iterator[_Found]:
    yield from _text_faults(raw.name)
    name = raw.name.strip()
    if _placeholders(name) != 0:
        yield Kind.PLACEHOLDER, name, "is a label with a placeholder; that belongs in a prompt"
    if _FOLDERS.match(name) or name.lower().endswith(_ENDINGS):
        yield Kind.PATH, name, "looks like a path; a label is words"
    if _NUMBER.fullmatch(name) and not numbers:
        yield Kind.NUMBER, name, "looks like a number or an id; a model needs words"
    for text in (*raw.words, *raw.prompts):
        yield from _text_faults(text)
        yield from _placeholder_faults(text, needed=False)


def _label_duplicates(raws: tuple[RawLabel, ...], file: str) -> Iterator[Fault]:
    """A name that stands in the file before, or a synonym that is another label's name or synonym."""
    names: dict[str, RawLabel] = {}
    for raw in raws:
        name = raw.name.strip()
        first = names.setdefault(name, raw)
        if name and first is not raw and not first.takes(raw):
            yield Fault(file, raw.line, Kind.DUPLICATE, name, f"is on line {first.line} already")
    owners = {name: (raw.line, name) for name, raw in names.items()}
    for raw in raws:
        name = raw.name.strip()
        for word in dict.fromkeys(word.strip() for word in raw.words):
            line, owner = owners.setdefault(word, (raw.line, name))
            if word and owner != name:
                yield Fault(file, raw.line, Kind.DUPLICATE, word, f"belongs to {owner!r} on line {line} already")


def _text_faults(text: str) -> Iterator[_Found]:
    if not text.strip():
        yield Kind.BLANK, text, "is blank; write a text or remove it"
        return
    if text != text.strip() or _RUN_OF_SPACES.search(text):
        yield Kind.WHITE_SPACE, text, "has white space around it, or more than one space between words"
    odd = dict.fromkeys(c for place, c in enumerate(text) if c not in "\t\n" and not _prints(text, place))
    if odd:
        codes = ", ".join(f"U+{ord(c):04X}" for c in odd)
        yield Kind.NON_PRINTING, text, f"holds {codes}, which cannot be seen; type it anew"


def _prints(text: str, place: int) -> bool:
    """Whether a character can be seen; a joiner is good between characters that are not ASCII."""
    if text[place] in _JOINERS:
        around = text[max(place - 1, 0) : place + 2]
        return len(around) == 3 and not around[0].isascii() and not around[2].isascii()
    return text[place].isprintable()


def _placeholder_faults(text: str, *, needed: bool) -> Iterator[_Found]:
    count = _placeholders(text)
    if count is None:
        yield Kind.PLACEHOLDER, text, "has a name in braces that is not label; write {} or {label}"
    elif count > 1:
        yield Kind.PLACEHOLDER, text, f"has {count} placeholders; keep one"
    elif count == 0 and needed and text.strip():
        yield Kind.PLACEHOLDER, text, "has no placeholder; write {} where the label goes"


def _placeholders(text: str) -> int | None:
    """How many placeholders there are; None where one has another name than `label`."""
    try:
        return count_placeholders(text)
    except ValueError:
        return None
