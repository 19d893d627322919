"""Label files → Labels: names, synonyms and whole prompts of the classes, with line numbers in errors."""

import csv
import io
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from zeroshot_cli.errors import LabelsError, UsageError
from zeroshot_cli.placeholders import count_placeholders, fill
from zeroshot_cli.textfiles import List, Map, Node, Text, at, content_lines, parse_json, parse_yaml, read_text

_NOTHING = ("", "~", "null")  # what a mapping has for "no synonyms"
_FIELDS = ("synonyms", "prompts")
_COLUMNS = ("label", "synonyms", "prompt")


@dataclass(frozen=True, slots=True)
class Label:
    """A class: its name, other words for it, and whole prompts that are used instead of templates."""

    name: str
    synonyms: tuple[str, ...] = ()
    prompts: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Labels:
    """The classes in the order of the file; a class index is a position here."""

    items: tuple[Label, ...]

    @classmethod
    def of(cls, names: Iterable[str]) -> "Labels":
        """Labels from plain names; raises LabelsError for none, a blank one or one given twice."""
        if isinstance(names, str):
            raise LabelsError(f"the labels are one text, {names!r}; give a list of names")
        seen: dict[str, int] = {}
        for number, given in enumerate(names, start=1):
            name = _checked(given, f"label {number}")
            if name in seen:
                raise LabelsError(f"label {number}, {name!r}, is already label {seen[name]}; remove one of them")
            seen[name] = number
        if not seen:
            raise LabelsError("there are no labels; give at least one")
        return cls(tuple(Label(name) for name in seen))

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(label.name for label in self.items)

    def __len__(self) -> int:
        return len(self.items)

    def __iter__(self) -> Iterator[Label]:
        return iter(self.items)


@dataclass(slots=True)
class _Entry:
    """One label as a file has it; `where` opens its errors."""

    line: int
    where: str
    name: str
    synonyms: list[str]
    prompts: list[str]
    from_table: bool = False

    def label(self) -> Label:
        names = (self.name, *dict.fromkeys(word for word in self.synonyms if word != self.name))
        prompts = (fill(prompt, name) for prompt in self.prompts for name in names)
        return Label(self.name, names[1:], tuple(dict.fromkeys(prompts)))

    def takes(self, other: "_Entry") -> bool:
        """Rows of a table may give one label several prompts; anything else is a label given twice."""
        both = self.from_table and self.prompts and other.prompts
        return bool(both) and not set(self.prompts) & set(other.prompts)


def read_labels(path: Path) -> Labels:
    """The labels of a `.txt`, `.yaml`, `.yml`, `.json` or `.csv` file.

    A prompt with a placeholder is filled with the name and with each synonym. Raises UsageError when the file
    is not there or has another ending, LabelsError, with the line, when its content is wrong.
    """
    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        raise UsageError(f"{path} is not a label file; its name must end in {', '.join(_READERS)}")
    entries: dict[str, _Entry] = {}
    for entry in reader(read_text(path, LabelsError), path):
        first = entries.setdefault(entry.name, entry)
        if first is entry:
            continue
        if not first.takes(entry):
            raise LabelsError(
                f"{entry.where}: label {entry.name!r} is already on line {first.line}; remove one of them"
            )
        first.synonyms += entry.synonyms
        first.prompts += entry.prompts
    if not entries:
        raise LabelsError(f"{path} holds no labels; write at least one")
    return Labels(tuple(entry.label() for entry in entries.values()))


def _read_txt(text: str, path: Path) -> Iterator[_Entry]:
    for line in content_lines(text):
        name, *synonyms = line.text.split("|")
        yield _entry(path, line.line, name, synonyms)


def _read_yaml(text: str, path: Path) -> Iterator[_Entry]:
    return _from_node(parse_yaml(text, path, LabelsError), path)


def _read_json(text: str, path: Path) -> Iterator[_Entry]:
    return _from_node(parse_json(text, path, LabelsError), path)


def _from_node(root: Node | None, path: Path) -> Iterator[_Entry]:
    match root:
        case None:
            return
        case Text():
            raise LabelsError(f"{at(path, root.line)}: {root.text!r} is one text; write a list of labels")
        case List():
            for item in root.items:
                yield _entry(path, item.line, _text(item, path), [])
        case Map():
            for key, value in root.pairs:
                yield _from_pair(_text(key, path), key.line, value, path)


def _from_pair(name: str, line: int, value: Node, path: Path) -> _Entry:
    if not isinstance(value, Map):
        return _entry(path, line, name, _texts(value, path))
    fields: dict[str, list[str]] = {}
    for key, texts in value.pairs:
        field = _text(key, path)
        if field not in _FIELDS:
            raise LabelsError(f"{at(path, key.line)}: {field!r} of label {name!r} is not one of synonyms, prompts")
        if field in fields:
            raise LabelsError(f"{at(path, key.line)}: label {name!r} has {field!r} twice; write one list")
        fields[field] = _texts(texts, path)
    return _entry(path, line, name, fields.get("synonyms", []), fields.get("prompts", []))


def _texts(node: Node, path: Path) -> list[str]:
    """The texts of a list, or the one text that stands where a list may; none for an empty value."""
    if isinstance(node, List):
        return [_text(item, path) for item in node.items]
    text = _text(node, path)
    return [] if text in _NOTHING else [text]


def _text(node: Node, path: Path) -> str:
    if isinstance(node, Text):
        return node.text
    kind = "a list" if isinstance(node, List) else "a mapping"
    raise LabelsError(f"{at(path, node.line)}: {kind} stands where a text belongs; put texts with {{}} or : in quotes")


def _read_csv(text: str, path: Path) -> Iterator[_Entry]:
    rows = _csv_rows(text, path)
    _, header = next(rows, (0, []))
    columns = [column.strip().lower() for column in header]
    if header and "label" not in columns:
        raise LabelsError(f"{at(path, 1)}: there is no column 'label'; the columns are {', '.join(header)}")
    for line, row in rows:
        if len(row) > len(columns):
            count = f"{len(row)} fields under {len(columns)} columns"
            raise LabelsError(f"{at(path, line)}: {count}; put a text with a comma in double quotes")
        label, synonyms, prompt = (dict(zip(columns, row, strict=False)).get(name, "") for name in _COLUMNS)
        words = synonyms.split("|") if synonyms.strip() else []
        prompts = [prompt] if prompt.strip() else []
        yield _entry(path, line, label, words, prompts, from_table=True)


def _csv_rows(text: str, path: Path) -> Iterator[tuple[int, list[str]]]:
    """Rows that are not blank, with the line each starts on; the separator is the one that sets `label` apart."""
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


def _entry(
    path: Path,
    line: int,
    name: str,
    words: list[str],
    prompts: list[str] | None = None,
    *,
    from_table: bool = False,
) -> _Entry:
    """A checked entry; a synonym with a placeholder is a whole prompt."""
    where = at(path, line)
    name = _checked(name, where)
    entry = _Entry(line, where, name, [], [], from_table)
    for word in words:
        word = _checked(word, f"{where}: a synonym of {name!r}")
        (entry.prompts if _placeholders(word, where) else entry.synonyms).append(word)
    for prompt in prompts or []:
        entry.prompts.append(_checked(prompt, f"{where}: a prompt of {name!r}"))
        _placeholders(entry.prompts[-1], where)
    if _placeholders(name, where):
        raise LabelsError(f"{where}: label {name!r} has a placeholder; that belongs in a prompt")
    return entry


def _placeholders(text: str, where: str) -> int:
    try:
        count = count_placeholders(text)
    except ValueError as problem:
        raise LabelsError(f"{where}: in {text!r}, {problem}") from None
    if count > 1:
        raise LabelsError(f"{where}: {text!r} has {count} placeholders; keep one")
    return count


def _checked(text: str, where: str) -> str:
    """`text` without outer space; raises LabelsError for a blank one or one that cannot be encoded."""
    text = text.strip()
    if not text:
        raise LabelsError(f"{where} is blank; write a text or remove it")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise LabelsError(f"{where}: {text!r} is not valid Unicode; write it in UTF-8") from None
    return text


_READERS: dict[str, Callable[[str, Path], Iterator[_Entry]]] = {
    ".txt": _read_txt,
    ".yaml": _read_yaml,
    ".yml": _read_yaml,
    ".json": _read_json,
    ".csv": _read_csv,
}
