"""YAML and JSON as the same three nodes, with the line of each.

Scalars stay the text that was typed: `yes`, `1.0` and `null` are words here. A key that is given twice is seen twice.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import yaml

from zeroshot_cli.documents import LimitError, check_yaml
from zeroshot_cli.errors import InputError

_JSON_TOKEN = re.compile(r'"(?:\\.|[^"\\])*"|[{}\[\]]|[^\s{}\[\]:,"]+')
_MAX_DEPTH = 16  # a data set's card has nine levels
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


def at(path: Path, line: int) -> str:
    """Return the start of an error about a line of a file."""
    return f"{path}, line {line}"


def text_of(node: Node, path: Path, error: type[InputError]) -> str:
    """Return the text of a scalar; raises `error` for a list or a mapping."""
    if isinstance(node, Text):
        return node.text
    kind = "a list" if isinstance(node, List) else "a mapping"
    raise error(f"{at(path, node.line)}: expected text, found {kind}; put text with : or {{}} in quotes")


def parse_yaml(text: str, path: Path, error: type[InputError]) -> Node | None:
    """Return the one document in `text`, None when it is empty."""
    try:
        check_yaml(text, depth=_MAX_DEPTH)
        root = yaml.compose(text, Loader=_YamlLoader)
        return None if root is None else _from_yaml(root)
    except LimitError as problem:
        raise error(f"{at(path, problem.line)}: {problem}") from None
    except yaml.MarkedYAMLError as problem:
        mark = problem.problem_mark or problem.context_mark
        line = mark.line + 1 if mark else 1
        raise error(f"{at(path, line)}: not valid YAML: {problem.problem}{_quote_hint(text, line)}") from None
    except yaml.reader.ReaderError as problem:
        line = text.count("\n", 0, problem.position) + 1
        raise error(f"{at(path, line)}: not valid YAML: {problem.reason}") from None


def _quote_hint(text: str, line: int) -> str:
    """Return advice on the usual causes: TABs, and that YAML takes text that starts with `{` for a mapping."""
    near = text.split("\n")[max(0, line - 2) : line]
    if any("\t" in row for row in near):
        return "; write spaces in place of TABs"
    return "; put text that starts with { in quotes" if any(row.lstrip("- ").startswith("{") for row in near) else ""


def _from_yaml(node: yaml.Node) -> Node:
    line = node.start_mark.line + 1
    if isinstance(node, yaml.MappingNode):
        return Map(line, tuple((_from_yaml(key), _from_yaml(value)) for key, value in node.value))
    if isinstance(node, yaml.SequenceNode):
        return List(line, tuple(map(_from_yaml, node.value)))
    return Text(line, str(node.value))


def parse_json(text: str, path: Path, error: type[InputError]) -> Node | None:
    """Return the one value in `text`, None when it is blank; a null is an empty Text."""
    if not text.strip():
        return None
    try:
        json.loads(text, parse_int=str, parse_float=str)  # a number stays as it is typed, however long
        return _from_json(_json_tokens(text))
    except json.JSONDecodeError as problem:
        raise error(f"{at(path, problem.lineno)}: not valid JSON: {problem.msg}") from None
    except RecursionError:
        raise error(f"{path}: its lists and mappings are nested too deeply") from None


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
