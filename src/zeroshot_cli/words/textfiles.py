"""Files of labels and templates: the built-in ones, and how text, YAML and JSON are read so that errors name the line.

YAML and JSON become the same three nodes. Scalars stay the text that was typed: `yes`, `1.0` and `null` are words here,
and a key that is given twice is seen twice.

Of the built-in sets `prompts/NAME.yaml` has the templates and `prompts/labels/NAME.txt` the labels. Their names have no
extension and a user's file must have one, so neither ever hides the other.
"""

import difflib
import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import yaml

from zeroshot_cli.errors import InputError, UsageError

_COMMENT = re.compile(r"(^|\s)#.*")
_JSON_TOKEN = re.compile(r'"(?:\\.|[^"\\])*"|[{}\[\]]|[^\s{}\[\]:,"]+')
_MAX_DEPTH = 8
_YamlLoader: type = getattr(yaml, "CBaseLoader", yaml.BaseLoader)  # C where PyYAML was built with it


@dataclass(frozen=True, slots=True)
class Text:
    """A scalar as it was typed."""

    line: int
    text: str


@dataclass(frozen=True, slots=True)
class List:
    """A YAML sequence or JSON array."""

    line: int
    items: "tuple[Node, ...]"


@dataclass(frozen=True, slots=True)
class Map:
    """A YAML mapping or JSON object, repeated keys included."""

    line: int
    pairs: "tuple[tuple[Node, Node], ...]"


Node = Text | List | Map


def prompts_dir() -> Path:
    """Return the folder of the built-in sets: the checkout's own `prompts/`, else the copy inside the wheel."""
    root = Path(__file__).parents[3]
    if (root / "prompts").is_dir() and (root / "pyproject.toml").is_file():
        return root / "prompts"
    return Path(__file__).parents[1] / "prompts_data"


def template_files() -> dict[str, Path]:
    """Return the files of the built-in template sets, by name."""
    return {path.stem: path for path in sorted(prompts_dir().glob("*.yaml"))}


def label_files() -> dict[str, Path]:
    """Return the files of the built-in label sets, by name."""
    return {path.stem: path for path in sorted((prompts_dir() / "labels").glob("*.txt"))}


def did_you_mean(name: str, known: Iterable[str], extensions: str) -> str:
    """Return the end of an error about an unknown built-in set: the most similar name, or what a file needs."""
    near = difflib.get_close_matches(name, known, n=1) or [each for each in known if name and name in each][:1]
    hint = f"did you mean {near[0]}?" if near else f"a file needs the extension {extensions};"
    return f"{hint} zeroshot prompts list shows all built-in sets"


def at(path: Path, line: int) -> str:
    """Return the start of an error about a line of a file."""
    return f"{path}, line {line}"


def read_text(path: Path, error: type[InputError]) -> str:
    """Return the UTF-8 text of a file without byte order mark, its lines ending in LF.

    Raises UsageError when the file cannot be read, `error` when it is not UTF-8.
    """
    try:
        data = path.read_bytes()
    except (OSError, ValueError) as problem:
        reason = getattr(problem, "strerror", None) or str(problem)
        raise UsageError(f"cannot read {path}: {reason}; check the path") from None
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as problem:
        line = problem.object.count(b"\n", 0, problem.start) + 1
        byte = problem.object[problem.start]
        raise error(f"{at(path, line)}: byte 0x{byte:02x} is not UTF-8; save the file as UTF-8") from None
    return text.replace("\r\n", "\n").replace("\r", "\n")


def content_lines(text: str) -> Iterator[Text]:
    """Yield the lines of `text` that are not blank, without comments and outer space.

    `#` starts a comment at the start of a line or after white space, so `C#` stays whole.
    """
    for number, line in enumerate(text.split("\n"), start=1):
        content = _COMMENT.sub("", line).strip()
        if content:
            yield Text(number, content)


def text_of(node: Node, path: Path, error: type[InputError]) -> str:
    """Return the text of a scalar; raises `error` for a list or a mapping."""
    if isinstance(node, Text):
        return node.text
    kind = "a list" if isinstance(node, List) else "a mapping"
    raise error(f"{at(path, node.line)}: expected text, found {kind}; put text with : or {{}} in quotes")


def parse_yaml(text: str, path: Path, error: type[InputError]) -> Node | None:
    """Return the one document in `text`, None when it is empty."""
    try:
        root = yaml.compose(text, Loader=_YamlLoader)
        return None if root is None else _from_yaml(root)
    except yaml.MarkedYAMLError as problem:
        mark = problem.problem_mark or problem.context_mark
        line = mark.line + 1 if mark else 1
        raise error(f"{at(path, line)}: not valid YAML: {problem.problem}{_quote_hint(text, line)}") from None
    except yaml.reader.ReaderError as problem:
        line = text.count("\n", 0, problem.position) + 1
        raise error(f"{at(path, line)}: not valid YAML: {problem.reason}") from None
    except RecursionError:
        raise error(f"{path}: lists and mappings are nested too deeply") from None


def _quote_hint(text: str, line: int) -> str:
    """Return advice on the usual cause: YAML takes text that starts with `{` for a mapping."""
    near = text.split("\n")[max(0, line - 2) : line]
    return "; put text that starts with { in quotes" if any(row.lstrip("- ").startswith("{") for row in near) else ""


def _from_yaml(node: yaml.Node, depth: int = 0) -> Node:
    if depth > _MAX_DEPTH:
        raise RecursionError
    line = node.start_mark.line + 1
    if isinstance(node, yaml.MappingNode):
        pairs = ((_from_yaml(key, depth + 1), _from_yaml(value, depth + 1)) for key, value in node.value)
        return Map(line, tuple(pairs))
    if isinstance(node, yaml.SequenceNode):
        return List(line, tuple(_from_yaml(item, depth + 1) for item in node.value))
    return Text(line, str(node.value))


def parse_json(text: str, path: Path, error: type[InputError]) -> Node | None:
    """Return the one value in `text`, None when it is blank; a null is an empty Text."""
    if not text.strip():
        return None
    try:
        json.loads(text)
        return _from_json(_json_tokens(text))
    except json.JSONDecodeError as problem:
        raise error(f"{at(path, problem.lineno)}: not valid JSON: {problem.msg}") from None
    except RecursionError:
        raise error(f"{path}: lists and mappings are nested too deeply") from None


def _json_tokens(text: str) -> Iterator[tuple[int, str]]:
    """Yield the brackets and scalars of valid JSON with their lines."""
    line, end = 1, 0
    for match in _JSON_TOKEN.finditer(text):
        line += text.count("\n", end, match.start())
        end = match.start()
        yield line, match.group()


def _from_json(tokens: Iterator[tuple[int, str]], depth: int = 0) -> Node | None:
    """Return the next node, None for a closing bracket; unlike `json`, with its line and with repeated keys."""
    line, token = next(tokens)
    if token in ("]", "}"):
        return None
    if depth > _MAX_DEPTH:
        raise RecursionError
    if token in ("[", "{"):
        nodes = tuple(_until_none(tokens, depth + 1))
        return List(line, nodes) if token == "[" else Map(line, tuple(zip(nodes[::2], nodes[1::2], strict=True)))
    return Text(line, json.loads(token) if token.startswith('"') else "" if token == "null" else token)


def _until_none(tokens: Iterator[tuple[int, str]], depth: int) -> Iterator[Node]:
    while (node := _from_json(tokens, depth)) is not None:
        yield node
