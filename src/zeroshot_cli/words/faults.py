"""The faults of a label or template file that show without a model: all of them, where reading stops at the first."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path

from zeroshot_cli.errors import LabelsError, PromptsError
from zeroshot_cli.images.find import IMAGE_SUFFIXES
from zeroshot_cli.words.groups import check_groups
from zeroshot_cli.words.labels import Label, checked_label, read_raw_labels
from zeroshot_cli.words.nodes import Text
from zeroshot_cli.words.prompts import Prompts, count_placeholders, fill, read_raw_templates
from zeroshot_cli.words.raw_labels import RawLabel, is_number, is_wnid
from zeroshot_cli.words.textfiles import content_lines, read_text

_TEMPLATES_KEY = re.compile(r"""^["']?templates["']?\s*:""", re.MULTILINE)
_COMMENT = re.compile(r"(^|\s)#.*")
_RUN_OF_SPACES = re.compile(r"[ \t\n]{2,}|[\t\n]")
_JOINERS = "\u200c\u200d"  # emoji and Persian need them
_EXPECTS_NUMBERS = re.compile(r"\b(number|digit|numeral)\b|\{(label)?\} objects\b")
_EXTENSIONS = (*IMAGE_SUFFIXES, ".txt", ".csv", ".tsv", ".json", ".jsonl", ".yaml", ".yml", ".parquet", ".tar", ".zip")
_FOLDERS = re.compile(r"(~|\.{1,2}|[A-Za-z]:)?[/\\]|\S*[/\\]\S*[/\\]|\S+[/\\]$|\w+://")


class Kind(StrEnum):
    """What can be wrong with a label or a template."""

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
    """One fault: where it is, the text that has it, and what is wrong; line 0 is the whole file."""

    file: str
    line: int
    kind: Kind
    text: str
    what: str

    @property
    def in_file(self) -> bool:
        """Whether the file is at fault; a text encoder that ignores word order is not."""
        return self.kind is not Kind.WORD_ORDER


@dataclass(frozen=True, slots=True)
class Placed:
    """A usable label and its line."""

    line: int
    label: Label


def holds_templates(path: Path) -> bool:
    """Return whether a file has templates: YAML with that key, or text where half of the lines have a placeholder."""
    extension = path.suffix.lower()
    if extension not in (".txt", ".yaml", ".yml"):
        return False
    try:
        text = read_text(path, PromptsError)
    except PromptsError:
        return False
    if extension != ".txt":
        return bool(_TEMPLATES_KEY.search(text))
    lines = [line.text for line in content_lines(text) if "|" not in line.text]
    return bool(lines) and 2 * sum("{}" in line or "{label}" in line for line in lines) >= len(lines)


def lint_labels(path: Path, prompts: Prompts) -> tuple[list[Fault], list[Placed]]:
    """Return the faults of a label file and its usable labels; UsageError where there is no such file.

    `prompts` are the templates it is for: a label may be a number only where they ask for one.
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
        if first.label is not label:  # another row of a table, with more prompts
            prompts_of_both = (*first.label.prompts, *label.prompts)
            placed[label.name] = replace(first, label=replace(first.label, prompts=prompts_of_both))
    if not raws:
        faults.append(Fault(str(path), 0, Kind.FORM, "", "holds no labels"))
    faults += [*_label_duplicates(raws, str(path)), *_group_faults(placed.values(), path)]
    return faults, list(placed.values())


def _group_faults(placed: Iterable[Placed], path: Path) -> Iterator[Fault]:
    """Yield the first name that stands for two groups, or for a group and a label."""
    try:
        check_groups((each.label.name, each.label.group, str(each.line)) for each in placed)
    except LabelsError as error:
        line, _, what = str(error).partition(": ")
        yield Fault(str(path), int(line), Kind.DUPLICATE, "", what)


def lint_templates(path: Path) -> tuple[list[Fault], list[Text]]:
    """Return the faults of a template file and its usable templates; UsageError where there is no such file."""
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
            found.append((Kind.DUPLICATE, template.text, f"is already on line {first[filled]}"))
        faults += [Fault(str(path), template.line, *fault) for fault in found]
        usable += [template] * bool(filled)
    if not templates:
        faults.append(Fault(str(path), 0, Kind.FORM, "", "holds no templates"))
    return faults, usable


# Kind, text, and what is wrong with it; the caller knows file and line.
_Found = tuple[Kind, str, str]


def _line_faults(path: Path) -> Iterator[Fault]:
    """Yield the faults of a .txt file that its reader corrects: blank lines and outer white space."""
    if path.suffix.lower() != ".txt":
        return
    lines = read_text(path, LabelsError).rstrip("\n").split("\n")
    for number, (line, after) in enumerate(zip(lines, [*lines[1:], ""], strict=True), start=1):
        content = _COMMENT.sub("", line)
        if not line.strip() and (line or not after.lstrip().startswith("#")):  # one before a comment begins a group
            yield Fault(str(path), number, Kind.BLANK, line, "is a blank line; it is ignored")
        elif content.strip() and (content != content.lstrip() or (content == line and line != line.rstrip())):
            yield Fault(str(path), number, Kind.WHITE_SPACE, line, "begins or ends with white space")


def _label_faults(raw: RawLabel, *, numbers: bool) -> Iterator[_Found]:
    yield from _text_faults(raw.name)
    name = raw.name.strip()
    if _placeholders(name) != 0:
        yield Kind.PLACEHOLDER, name, "is a label with a placeholder; only prompts may have one"
    if _FOLDERS.match(name) or name.lower().endswith(_EXTENSIONS):
        yield Kind.PATH, name, "looks like a path; a label should be words"
    if (is_wnid(name) or is_number(name)) and not numbers:
        yield Kind.NUMBER, name, "looks like a number or an ID; a model needs words"
    for text in (*raw.words, *raw.prompts):
        yield from _text_faults(text)
        yield from _placeholder_faults(text, needed=False)


def _label_duplicates(raws: tuple[RawLabel, ...], file: str) -> Iterator[Fault]:
    """Yield names that are repeated, and synonyms that are another label's name or synonym."""
    names: dict[str, RawLabel] = {}
    for raw in raws:
        name = raw.name.strip()
        first = names.setdefault(name, raw)
        if name and first is not raw and not first.takes(raw):
            yield Fault(file, raw.line, Kind.DUPLICATE, name, f"is already on line {first.line}")
    owners = {name: (raw.line, name) for name, raw in names.items()}
    for raw in raws:
        name = raw.name.strip()
        for word in dict.fromkeys(word.strip() for word in raw.words):
            line, owner = owners.setdefault(word, (raw.line, name))
            if word and owner != name:
                yield Fault(file, raw.line, Kind.DUPLICATE, word, f"already belongs to {owner!r} on line {line}")


def _text_faults(text: str) -> Iterator[_Found]:
    if not text.strip():
        yield Kind.BLANK, text, "is blank; fill it in or remove it"
        return
    if text != text.strip() or _RUN_OF_SPACES.search(text):
        yield Kind.WHITE_SPACE, text, "has white space around it, or more than one space between words"
    odd = dict.fromkeys(c for place, c in enumerate(text) if c not in "\t\n" and not _prints(text, place))
    if odd:
        codes = ", ".join(f"U+{ord(c):04X}" for c in odd)
        yield Kind.NON_PRINTING, text, f"contains {codes}, which is invisible; retype it"


def _prints(text: str, place: int) -> bool:
    """Return whether a character can be seen; a joiner is fine between characters that are not ASCII."""
    if text[place] in _JOINERS:
        around = text[max(place - 1, 0) : place + 2]
        return len(around) == 3 and not around[0].isascii() and not around[2].isascii()
    return text[place].isprintable()


def _placeholder_faults(text: str, *, needed: bool) -> Iterator[_Found]:
    count = _placeholders(text)
    if count is None:
        yield Kind.PLACEHOLDER, text, "has a name in braces other than label; write {} or {label}"
    elif count > 1:
        yield Kind.PLACEHOLDER, text, f"has {count} placeholders; keep one"
    elif count == 0 and needed and text.strip():
        yield Kind.PLACEHOLDER, text, "has no placeholder; write {} where the label goes"


def _placeholders(text: str) -> int | None:
    """Return the number of placeholders, None where one has another name than `label`."""
    try:
        return count_placeholders(text)
    except ValueError:
        return None
