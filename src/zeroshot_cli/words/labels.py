"""Label files → Labels: names, synonyms, whole prompts and folders of the classes, with line numbers in errors.

A label may name the class folders of a data set that it stands for, or the values of a label column, where these differ
from the label and its synonyms: n02099601 for "golden retriever", 7 for "horse". In CSV this is the column `folder`,
several of them as `n02099601 | n02099712`; in YAML and JSON the key `folder` of a label's mapping:

    golden retriever:
      folder: n02099601
      synonyms: [retriever]

Each folder belongs to one label. Only evaluation reads them.
"""

import csv
import io
import os
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from difflib import get_close_matches
from pathlib import Path

from zeroshot_cli.errors import LabelsError, UsageError
from zeroshot_cli.words.prompts import count_placeholders, fill, has_placeholder
from zeroshot_cli.words.textfiles import (
    List,
    Map,
    Node,
    Text,
    at,
    content_lines,
    did_you_mean,
    label_files,
    parse_json,
    parse_yaml,
    read_text,
    text_of,
)

_NOTHING = ("", "~", "null")  # values of a mapping that mean "no synonyms"
_FIELDS = ("synonyms", "prompts", "folder")
_COLUMNS = ("label", "synonyms", "prompt", "folder")
_ENDS_SENTENCE = re.compile(r"[.!?]$|[^\W\d_]{3,}[.!?]+\s+\w")  # three letters, so that "St. Bernard" is a name
_MANY_WORDS = 4  # beside the label's name: more than a synonym has


@dataclass(frozen=True, slots=True)
class Label:
    """A class: its name, other words for it, and whole prompts that are used instead of templates.

    `folders` are what data sets call it.
    """

    name: str
    synonyms: tuple[str, ...] = ()
    prompts: tuple[str, ...] = ()
    folders: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Labels:
    """The classes in the order of the file; a class index is a position here."""

    items: tuple[Label, ...]

    @classmethod
    def of(cls, names: Iterable[str]) -> "Labels":
        """Return labels from plain names; raises LabelsError for none, a blank one or a repeated one."""
        if isinstance(names, str):
            raise LabelsError(f"the labels are one string, {names!r}; give a list of names")
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

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the classes, by index."""
        return tuple(label.name for label in self.items)

    def __len__(self) -> int:
        return len(self.items)

    def __iter__(self) -> Iterator[Label]:
        return iter(self.items)


@dataclass(frozen=True, slots=True)
class RawLabel:
    """One entry of a label file, unchecked; `words` are synonyms and whole prompts with a placeholder."""

    line: int
    name: str
    words: tuple[str, ...] = ()
    prompts: tuple[str, ...] = ()
    folders: tuple[str, ...] = ()
    from_table: bool = False

    def takes(self, other: "RawLabel") -> bool:
        """Return whether `other` continues this label: rows of a table may add prompts or folders, nothing else may."""
        both = ((self.prompts, other.prompts), (self.folders, other.folders))
        return self.from_table and any(own and more and not set(own) & set(more) for own, more in both)

    def joined(self, other: "RawLabel") -> "RawLabel":
        """Return this label with the words, prompts and folders of another."""
        return replace(
            self,
            words=self.words + other.words,
            prompts=tuple(dict.fromkeys(self.prompts + other.prompts)),
            folders=tuple(dict.fromkeys(self.folders + other.folders)),
        )


def read_labels(name_or_path: str | Path) -> Labels:
    """Read a built-in set by its name, else the labels of a `.txt`, `.yaml`, `.yml`, `.json` or `.csv` file.

    A prompt with a placeholder is filled with the name and with each synonym. A built-in set may repeat a name, as
    ImageNet does. Raises UsageError for an unknown name, a missing file or another extension, LabelsError, with the
    line, for invalid content.
    """
    built_in = label_files().get(str(name_or_path))
    path = built_in or Path(name_or_path)
    entries = [_checked_entry(raw, path) for raw in read_raw_labels(path)]
    if built_in is None:
        entries = _merged(entries, path)
    if not entries:
        raise LabelsError(f"{path} holds no labels; add at least one")
    _check_folders(entries, path)
    return Labels(tuple(_label(entry) for entry in entries))


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


def read_raw_labels(path: Path) -> tuple[RawLabel, ...]:
    """Read the entries of a label file, unchecked; raises as `read_labels` does for another layout."""
    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        if path.suffix or len(path.parts) > 1 or os.path.lexists(path):
            raise UsageError(f"{path} is not a label file; its extension must be {', '.join(_READERS)}")
        hint = did_you_mean(str(path), label_files(), ".txt, .yaml, .json or .csv")
        raise UsageError(f"there is no label set {str(path)!r}; {hint}")
    return tuple(reader(read_text(path, LabelsError), path))


def checked_label(raw: RawLabel, path: Path) -> Label:
    """Return the label of an entry; raises LabelsError, with the line, where the entry is invalid."""
    return _label(_checked_entry(raw, path))


def _merged(entries: list[RawLabel], path: Path) -> list[RawLabel]:
    """Return one entry per name; raises LabelsError for a repeated label."""
    merged: dict[str, RawLabel] = {}
    for entry in entries:
        first = merged.get(entry.name)
        if first is not None and not first.takes(entry):
            where = at(path, entry.line)
            raise LabelsError(f"{where}: label {entry.name!r} is already on line {first.line}; remove one of them")
        merged[entry.name] = entry if first is None else first.joined(entry)
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
    return Label(entry.name, names[1:], tuple(dict.fromkeys(prompts)), tuple(dict.fromkeys(entry.folders)))


# text


def _read_txt(text: str, path: Path) -> Iterator[RawLabel]:
    for line in content_lines(text):
        name, *synonyms = _split(line.text)
        yield RawLabel(line.line, name, tuple(synonyms))


def _split(text: str) -> list[str]:
    return [part.strip() for part in text.split("|")]


# YAML and JSON


def _read_nodes(text: str, path: Path) -> Iterator[RawLabel]:
    parse = parse_json if path.suffix.lower() == ".json" else parse_yaml
    match parse(text, path, LabelsError):
        case Text(line, word):
            raise LabelsError(f"{at(path, line)}: {word!r} is one text; write a list of labels")
        case List(_, items):
            for item in items:
                yield RawLabel(item.line, _text(item, path))
        case Map(_, pairs):
            for key, value in pairs:
                yield _from_pair(_text(key, path), key.line, value, path)


def _from_pair(name: str, line: int, value: Node, path: Path) -> RawLabel:
    if not isinstance(value, Map):
        return _from_list(name, line, _texts(value, path), path)
    fields: dict[str, tuple[str, ...]] = {}
    for key, texts in value.pairs:
        field, where = _text(key, path), at(path, key.line)
        if field not in _FIELDS:
            raise LabelsError(f"{where}: label {name!r} has the unknown key {field!r}; known are {', '.join(_FIELDS)}")
        if field in fields:
            raise LabelsError(f"{where}: label {name!r} has {field!r} twice; write one list")
        fields[field] = _texts(texts, path)
    words, prompts, folders = (fields.get(field, ()) for field in _FIELDS)
    return RawLabel(line, name, words, prompts, folders)


def _from_list(name: str, line: int, texts: tuple[str, ...], path: Path) -> RawLabel:
    """Return a label with synonyms, or with whole prompts where all texts without a placeholder read like prompts.

    Raises LabelsError for a mixture.
    """
    plain = [text for text in texts if not _may_be_template(text)]
    whole = [text for text in plain if _is_whole_prompt(text, name)]
    if not whole:
        return RawLabel(line, name, texts)
    if len(whole) < len(plain):
        synonym = next(text for text in plain if text not in whole)
        mixture = f"label {name!r} has both a synonym, {synonym!r}, and a whole prompt, {whole[0]!r}, in one list"
        raise LabelsError(f"{at(path, line)}: {mixture}; write them under `synonyms:` and `prompts:`")
    return RawLabel(line, name, prompts=texts)


def _is_whole_prompt(text: str, name: str) -> bool:
    """Return whether a text ends like a sentence, has several, or has the name among many other words."""
    if _ENDS_SENTENCE.search(text.strip()):
        return True
    others, found = re.subn(rf"(?<!\w){re.escape(name.strip())}(?!\w)", " ", text, count=1, flags=re.IGNORECASE)
    return bool(found) and len(others.split()) >= _MANY_WORDS


def _may_be_template(text: str) -> bool:
    try:
        return count_placeholders(text) > 0
    except ValueError:  # rejected later, with its line
        return True


def _texts(node: Node, path: Path) -> tuple[str, ...]:
    """Return the texts of a list, or a single text; none for an empty value."""
    if isinstance(node, List):
        return tuple(_text(item, path) for item in node.items)
    text = _text(node, path)
    return () if text in _NOTHING else (text,)


def _text(node: Node, path: Path) -> str:
    return text_of(node, path, LabelsError)


# CSV


def _read_csv(text: str, path: Path) -> Iterator[RawLabel]:
    rows = _csv_rows(text, path)
    _, header = next(rows, (0, []))
    columns = [column.strip().lower() for column in header]
    if header and "label" not in columns:
        raise LabelsError(f"{at(path, 1)}: there is no column 'label'; the columns are {', '.join(header)}")
    _check_columns(columns, path)
    for line, row in rows:
        if len(row) > len(columns):
            count = f"{len(row)} fields in {len(columns)} columns"
            raise LabelsError(f"{at(path, line)}: {count}; put text with a comma in double quotes")
        label, synonyms, prompt, folder = (dict(zip(columns, row, strict=False)).get(name, "") for name in _COLUMNS)
        words, folders = (tuple(_split(cell)) if cell.strip() else () for cell in (synonyms, folder))
        prompts = (prompt,) if prompt.strip() else ()
        yield RawLabel(line, label, words, prompts, folders, from_table=True)


def _check_columns(columns: list[str], path: Path) -> None:
    """Raise LabelsError for a repeated column, or one that looks like a misspelt known one."""
    for index, column in enumerate(columns):
        if column and column in columns[:index]:
            raise LabelsError(f"{at(path, 1)}: column {column!r} is given twice; remove or rename one of them")
        near = () if column in _COLUMNS else get_close_matches(column, _COLUMNS, n=1, cutoff=0.8)
        if near:
            hint = f"did you mean {near[0]!r}? The known columns are {', '.join(_COLUMNS)}"
            raise LabelsError(f"{at(path, 1)}: unknown column {column!r}; {hint}")


def _csv_rows(text: str, path: Path) -> Iterator[tuple[int, list[str]]]:
    """Yield rows that are not blank, with their first lines; the separator is the one that sets `label` apart."""
    header = text.split("\n", 1)[0].lower()
    columns = {mark: [column.strip(' "') for column in header.split(mark)] for mark in ",;\t"}
    separator = next((mark for mark in columns if "label" in columns[mark]), ",")
    rows = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    line = 1
    try:
        for row in rows:
            if any(field.strip() for field in row):
                yield line, row
            line = rows.line_num + 1
    except csv.Error as problem:
        raise LabelsError(f"{at(path, line)}: not valid CSV: {problem}") from None


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
    return replace(raw, name=name, words=synonyms, prompts=tuple(prompts), folders=folders)


def _checked(text: str, where: str) -> str:
    """Return `text` without outer space; raises LabelsError where it is blank or cannot be encoded."""
    text = text.strip()
    if not text:
        raise LabelsError(f"{where} is blank; fill it in or remove it")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise LabelsError(f"{where}: {text!r} is not valid Unicode; save it as UTF-8") from None
    return text


_READERS: dict[str, Callable[[str, Path], Iterator[RawLabel]]] = {
    ".txt": _read_txt,
    **dict.fromkeys((".yaml", ".yml", ".json"), _read_nodes),
    ".csv": _read_csv,
}
