"""Template files → Prompts; fill(labels) → the texts that describe each class."""

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from zeroshot_cli.errors import PromptsError, UsageError
from zeroshot_cli.words.builtin import did_you_mean, label_files, template_files
from zeroshot_cli.words.placeholders import count_placeholders, fill
from zeroshot_cli.words.textfiles import List, Map, Node, Text, at, content_lines, parse_yaml, read_text

DEFAULT_PROMPTS = "imagenet-7"

_KEYS = ("name", "description", "source", "templates")
_ENDINGS = (".yaml", ".yml", ".txt")


class ClassTexts(Protocol):
    """What a class must have to be put into templates; `labels.Label` has it."""

    @property
    def name(self) -> str: ...
    @property
    def synonyms(self) -> tuple[str, ...]: ...
    @property
    def prompts(self) -> tuple[str, ...]: ...


@dataclass(frozen=True, slots=True)
class Prompts:
    """A set of templates, each with exactly one placeholder."""

    name: str
    description: str
    source: str
    templates: tuple[str, ...]

    def fill(self, labels: Iterable[ClassTexts]) -> tuple[tuple[str, ...], ...]:
        """The texts of each class: (name + synonyms) × templates, or the class's own whole prompts."""
        return tuple(label.prompts or self._fill_one(label) for label in labels)

    def _fill_one(self, label: ClassTexts) -> tuple[str, ...]:
        names = (label.name, *label.synonyms)
        return tuple(fill(template, name) for name in names for template in self.templates)


def list_prompts() -> tuple[Prompts, ...]:
    """The built-in sets, by name."""
    return tuple(_read_file(path) for path in template_files().values())


def read_prompts(name_or_path: str) -> Prompts:
    """A built-in set by its name, else a `.yaml`, `.yml` or `.txt` file.

    Raises UsageError for an unknown name or a missing file, PromptsError, with the line, for wrong content.
    """
    known = template_files()
    if name_or_path in known:
        return _read_file(known[name_or_path])
    path = Path(name_or_path)
    if path.suffix.lower() in _ENDINGS:
        return _read_file(path)
    if os.sep in name_or_path or os.path.lexists(path):
        raise UsageError(f"{path} is not a prompt file; its name must end in {', '.join(_ENDINGS)}")
    hint = did_you_mean(name_or_path, known, "is it a file that ends in .yaml or .txt")
    raise UsageError(f"there is no prompt set {name_or_path!r}; {hint}")


def prompts_for(labels: str | Path | None) -> str:
    """The name of the templates that fit labels best: a built-in set's own, else a small ensemble."""
    name = str(labels)
    return name if name in label_files() and name in template_files() else DEFAULT_PROMPTS


def read_raw_templates(path: Path) -> tuple[Text, ...]:
    """The templates of a file in order, unchecked, with their lines; raises as `read_prompts` does for other forms."""
    text = read_text(path, PromptsError)
    if path.suffix.lower() == ".txt":
        return tuple(content_lines(text))
    templates = _items(_fields(parse_yaml(text, path, PromptsError), path))
    return tuple(Text(item.line, _raw_word(item, path)) for item in templates)


def _read_file(path: Path) -> Prompts:
    text = read_text(path, PromptsError)
    if path.suffix.lower() == ".txt":
        lines = tuple(content_lines(text))
        return Prompts(path.stem, "", "", _templates(lines, path))
    fields = _fields(parse_yaml(text, path, PromptsError), path)
    name, description, source = (_word(fields.get(key), path) for key in _KEYS[:3])
    return Prompts(name or path.stem, description, source, _templates(_items(fields), path))


def _items(fields: dict[str, Node]) -> tuple[Node, ...]:
    templates = fields.get("templates", List(1, ()))
    return templates.items if isinstance(templates, List) else (templates,)


def _fields(root: Node | None, path: Path) -> dict[str, Node]:
    if not isinstance(root, Map):
        raise PromptsError(f"{path} is not a mapping of {', '.join(_KEYS)}; write at least 'templates:' and a list")
    fields: dict[str, Node] = {}
    for key, value in root.pairs:
        name = _word(key, path)
        if name not in _KEYS:
            raise PromptsError(f"{at(path, key.line)}: unknown key {name!r}; known are {', '.join(_KEYS)}")
        if name in fields:
            raise PromptsError(f"{at(path, key.line)}: key {name!r} is given twice; keep one")
        fields[name] = value
    return fields


def _word(node: Node | None, path: Path) -> str:
    return "" if node is None else _raw_word(node, path).strip()


def _raw_word(node: Node, path: Path) -> str:
    if not isinstance(node, Text):
        kind = "a list" if isinstance(node, List) else "a mapping"
        problem = f"{kind} stands where a text belongs"
        raise PromptsError(f"{at(path, node.line)}: {problem}; put a text with : or a leading {{ in quotes")
    return node.text


def _templates(items: tuple[Node, ...], path: Path) -> tuple[str, ...]:
    if not items:
        raise PromptsError(f"{path} holds no templates; write at least one, such as 'a photo of a {{}}.'")
    return tuple(_template(item, path) for item in items)


def _template(node: Node, path: Path) -> str:
    text, where = _word(node, path), at(path, node.line)
    try:
        count = count_placeholders(text)
    except ValueError as problem:
        raise PromptsError(f"{where}: in {text!r}, {problem}") from None
    if count == 0:
        raise PromptsError(f"{where}: {text!r} has no placeholder; write {{}} where the label goes")
    if count > 1:
        raise PromptsError(f"{where}: {text!r} has {count} placeholders; keep one")
    return text
