"""Template files → Prompts; fill(labels) → the texts that describe each class. The placeholder is {} or {label}."""

import os
import re
import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from zeroshot_cli.errors import InputError, PromptsError, UsageError
from zeroshot_cli.words.nodes import List, Map, Node, Text, at, parse_yaml, text_of
from zeroshot_cli.words.textfiles import content_lines, did_you_mean, label_files, read_noted, read_text, template_files

DEFAULT_PROMPTS = "imagenet-7"

_KEYS = ("name", "description", "source", "templates")
_EXTENSIONS = (".yaml", ".yml", ".txt")
_LONGEST = 2000  # characters of a label or a template: ten times what a model reads
_BRACED = re.compile(r"\{([^{}]*)\}")


def count_placeholders(text: str) -> int:
    """Return the number of placeholders in `text`; lone braces are plain text.

    Raises ValueError, with the reason, for a name in braces other than `label`.
    """
    names = _BRACED.findall(text)
    for name in names:
        if name not in ("", "label"):
            raise ValueError(f"{{{name}}} is not a placeholder; write {{}} or {{label}} where the label goes")
    return len(names)


def has_placeholder(text: str, where: str, error: type[InputError]) -> bool:
    """Return whether `text` has a placeholder; raises `error` for several, or for a name other than `label`."""
    try:
        count = count_placeholders(text)
    except ValueError as problem:
        raise error(f"{where}: in {text!r}, {problem}") from None
    if count > 1:
        raise error(f"{where}: {text!r} has {count} placeholders; keep one")
    return count == 1


def checked_text(text: str, where: str, error: type[InputError]) -> str:
    """Return `text` without outer space; raises `error` where it is blank, too long or cannot be encoded."""
    text = text.strip()
    if not text:
        raise error(f"{where} is blank; fill it in or remove it")
    if len(text) > _LONGEST:
        raise error(f"{where} has {len(text):,} characters, more than any model reads; write at most {_LONGEST}")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise error(f"{where}: {text!r} is not valid Unicode; save it as UTF-8") from None
    return text


def fill(template: str, name: str) -> str:
    """Return `template` with its placeholder replaced by `name`, whatever characters that has."""
    return _BRACED.sub(lambda _: name, template)


class ClassTexts(Protocol):
    """What a class needs to fill templates; `labels.Label` has it."""

    @property
    def name(self) -> str:
        """The name that templates are filled with."""

    @property
    def synonyms(self) -> tuple[str, ...]:
        """Other names, which are filled in too."""

    @property
    def prompts(self) -> tuple[str, ...]:
        """Whole prompts to use instead of templates."""


@dataclass(frozen=True, slots=True)
class Prompts:
    """A set of templates, each with exactly one placeholder."""

    name: str
    description: str
    source: str
    templates: tuple[str, ...]
    notes: tuple[str, ...] = field(default=(), compare=False)  # what was assumed when the file was read

    @classmethod
    def of(cls, templates: Iterable[str]) -> "Prompts":
        """Return a set of templates that have no file; raises PromptsError for one without exactly one placeholder."""
        texts = tuple(Text(number, text) for number, text in enumerate(templates, start=1))
        if not texts:
            raise PromptsError("there are no templates; give at least one, such as 'a photo of a {}.'")
        return cls("own", "", "", tuple(_template(text, f"template {text.line}") for text in texts))

    def fill(self, labels: Iterable[ClassTexts]) -> tuple[tuple[str, ...], ...]:
        """Return the texts of each class: its own whole prompts, else every name and synonym in every template."""
        return tuple(
            label.prompts
            or tuple(fill(template, name) for name in (label.name, *label.synonyms) for template in self.templates)
            for label in labels
        )


BARE = Prompts("bare", "", "", ("{}",))  # labels as they are, and their own whole prompts


def list_prompts() -> tuple[Prompts, ...]:
    """Return the built-in sets, sorted by name."""
    return tuple(_read_file(path) for path in template_files().values())


def given_prompts(given: Prompts | str | os.PathLike[str] | Sequence[str] | None) -> Prompts:
    """Return the prompts of a program: a set, its name or its file, or templates; by default a small ensemble."""
    if isinstance(given, Prompts):
        return given
    if isinstance(given, str) and _is_template(given):
        return Prompts.of([given])
    if given is None or isinstance(given, str | os.PathLike):
        return read_prompts(DEFAULT_PROMPTS if given is None else given)
    return Prompts.of(given)


def read_prompts(name_or_path: str | os.PathLike[str]) -> Prompts:
    """Read a built-in set by its name, else a `.yaml`, `.yml` or `.txt` file.

    Raises UsageError for an unknown name or a missing file, PromptsError, with the line, for invalid content.
    """
    known = template_files()
    name_or_path = os.fspath(name_or_path)
    if _is_template(name_or_path):
        raise UsageError(f"{name_or_path!r} is a template, not a file; write --template {shlex.quote(name_or_path)}")
    if name_or_path in known:
        return _read_file(known[name_or_path])
    path = Path(name_or_path)
    if path.suffix.lower() in _EXTENSIONS:
        return _read_file(path)
    if os.sep in name_or_path or os.path.lexists(path):
        raise UsageError(f"{path} is not a prompt file; its extension must be {', '.join(_EXTENSIONS)}")
    if " " in name_or_path:
        raise UsageError(f"{name_or_path!r} is not a prompt set or file; a template has {{}} where the label goes")
    hint = did_you_mean(name_or_path, known, ".yaml or .txt")
    raise UsageError(f"there is no prompt set {name_or_path!r}; {hint}")


def _is_template(text: str) -> bool:
    return "{}" in text or "{label}" in text


def choose_prompts(prompts: str | None, templates: Sequence[str], labels: str | Path | None) -> Prompts:
    """Return the set that --prompts names, or the templates of --template, or those that suit labels best.

    Raises UsageError where both are given or a template is wrong, and what `read_prompts` raises.
    """
    if not templates:
        return read_prompts(prompts or prompts_for(labels))
    if prompts:
        raise UsageError("--prompts and --template both give templates; omit one of them")
    try:
        return Prompts.of(templates)
    except PromptsError as error:
        raise UsageError(f"--template: {error}") from None


def prompts_for(labels: str | Path | None) -> str:
    """Return the name of the templates that suit labels best: a built-in set's own, else a small ensemble."""
    name = str(labels)
    return name if name in label_files() and name in template_files() else DEFAULT_PROMPTS


def read_raw_templates(path: Path) -> tuple[Text, ...]:
    """Read the templates of a file, unchecked, with their lines; raises as `read_prompts` does for another layout."""
    text = read_text(path, PromptsError)
    if path.suffix.lower() == ".txt":
        return tuple(content_lines(text))
    templates = _items(_fields(parse_yaml(text, path, PromptsError), path))
    return tuple(Text(item.line, text_of(item, path, PromptsError)) for item in templates)


def _read_file(path: Path) -> Prompts:
    text, notes = read_noted(path, PromptsError)
    if path.suffix.lower() == ".txt":
        return Prompts(path.stem, "", "", _templates(tuple(content_lines(text)), path), notes)
    fields = _fields(parse_yaml(text, path, PromptsError), path)
    name, description, source = (_word(fields.get(key), path) for key in _KEYS[:3])
    return Prompts(name or path.stem, description, source, _templates(_items(fields), path), notes)


def _items(fields: dict[str, Node]) -> tuple[Node, ...]:
    templates = fields.get("templates", List(1, ()))
    return templates.items if isinstance(templates, List) else (templates,)


def _fields(root: Node | None, path: Path) -> dict[str, Node]:
    if not isinstance(root, Map):
        raise PromptsError(f"{path} is not a mapping of {', '.join(_KEYS)}; it needs at least 'templates:' and a list")
    fields: dict[str, Node] = {}
    for key, value in root.pairs:
        name = _word(key, path)
        if name not in _KEYS:
            raise PromptsError(f"{at(path, key.line)}: unknown key {name!r}; known keys are {', '.join(_KEYS)}")
        if name in fields:
            raise PromptsError(f"{at(path, key.line)}: key {name!r} is given twice; keep one")
        fields[name] = value
    return fields


def _word(node: Node | None, path: Path) -> str:
    return "" if node is None else text_of(node, path, PromptsError).strip()


def _templates(items: tuple[Node, ...], path: Path) -> tuple[str, ...]:
    if not items:
        raise PromptsError(f"{path} holds no templates; write at least one, such as 'a photo of a {{}}.'")
    return tuple(_template(Text(item.line, _word(item, path)), at(path, item.line)) for item in items)


def _template(item: Text, where: str) -> str:
    text = item.text.strip()
    if not text or not has_placeholder(text, where, PromptsError):
        raise PromptsError(f"{where}: {text!r} has no placeholder; write {{}} where the label goes")
    return checked_text(text, where, PromptsError)
