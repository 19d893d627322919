"""What Tab completes in a shell, besides commands, options and choices, which typer knows.

None of this imports torch: a shell waits for it at every Tab.
"""

import os
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

VARIABLE = "_ZEROSHOT_COMPLETE"  # the shell's question; typer makes its name from that of the program
_PLAIN = re.compile(r"[\w.,+@%-]+")  # what no shell asks to quote
_LABEL_FILES = (".csv", ".json", ".txt", ".yaml", ".yml")
_TEMPLATE_FILES = (".txt", ".yaml", ".yml")


@dataclass(frozen=True, slots=True)
class Item:
    """One word that may stand there, as typer's shells read it."""

    value: str
    help: str | None = None
    type: str = "plain"


Words = Callable[[Any], Iterable[str]]


def is_asked() -> bool:
    """Whether a shell asks for words, and nobody wants to read errors."""
    return VARIABLE in os.environ


def add_words(command: Any, path: tuple[str, ...] = ()) -> None:
    """Let every option and argument of a command and of those below it answer with its names."""
    for parameter in command.params:
        words = _words_of(path, parameter)
        if words is not None:
            parameter.shell_complete = _completer(words)
    for name, inner in getattr(command, "commands", {}).items():
        add_words(inner, (*path, name))


def _words_of(path: tuple[str, ...], parameter: Any) -> Words | None:
    if parameter.param_type_name == "argument":
        return _ARGUMENTS.get((*path, parameter.name))
    return next((_OPTIONS[name] for name in parameter.opts if name in _OPTIONS), None)


def _completer(words: Words) -> Callable[[Any, str], list[Item]]:
    def complete(context: Any, begun: str) -> list[Item]:
        wanted = begun.casefold()
        with suppress(Exception):  # a word less is better than an error in the middle of a command line
            return [Item(word) for word in words(context) if word.casefold().startswith(wanted)]
        return []

    return complete


# The words


def _models(context: Any) -> Iterable[str]:
    from zeroshot_cli.models.registry import known_names

    return known_names()


def _tags(context: Any) -> Iterable[str]:
    """The weights of the model that the command line names before."""
    from zeroshot_cli.models.registry import canonical_name, tags_of

    named = context.params.get("model") or context.params.get("name") or "ViT-B-32"
    return tags_of(canonical_name(named if isinstance(named, str) else named[0]))


def _labels(context: Any) -> Iterator[str]:
    from zeroshot_cli.words.textfiles import label_files

    yield from label_files()
    yield from _files(_LABEL_FILES)


def _templates(context: Any) -> Iterator[str]:
    from zeroshot_cli.words.textfiles import template_files

    yield from template_files()
    yield from _files(_TEMPLATE_FILES)


def _sets(context: Any) -> Iterator[str]:
    return iter(dict.fromkeys((*_labels(context), *_templates(context))))


def _datasets(context: Any) -> Iterable[str]:
    from zeroshot_cli.datasets.registry import known_sets

    return [known.name for known in known_sets()]


def _devices(context: Any) -> Iterable[str]:
    return ("auto", "cpu", "cuda", "mps")


def _files(endings: tuple[str, ...]) -> list[str]:
    """The files of this folder that may be meant; shells name other files, and quote them, where no word fits."""
    with os.scandir() as entries:
        names = [entry.name for entry in entries if entry.name.lower().endswith(endings) and entry.is_file()]
    return sorted(name for name in names if _PLAIN.fullmatch(name))


_OPTIONS: dict[str, Words] = {
    "--model": _models,
    "--pretrained": _tags,
    "--labels": _labels,
    "--prompts": _templates,
    "--device": _devices,
}
_ARGUMENTS: dict[tuple[str, ...], Words] = {
    ("eval", "datasets"): _datasets,
    ("evaluate", "datasets"): _datasets,
    ("models", "show", "name"): _models,
    ("models", "show", "tag"): _tags,
    ("models", "download", "name"): _models,
    ("models", "remove", "name"): _models,
    ("models", "export", "name"): _models,
    ("prompts", "show", "name"): _sets,
    ("prompts", "lint", "names"): _sets,
}
