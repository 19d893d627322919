"""The words that Tab completes in a shell, besides commands, options and choices, which Typer knows.

Nothing here imports torch: the shell waits for it at every Tab.
"""

import os
import re
from collections.abc import Callable, Iterable
from contextlib import suppress

import typer

_PLAIN = re.compile(r"[\w.,+@%-]+")  # what no shell needs to quote
_LABEL_FILES = (".csv", ".json", ".txt", ".yaml", ".yml")
_TEMPLATE_FILES = (".txt", ".yaml", ".yml")


class _AnyCase(str):
    """A word that completes what was typed in upper or lower case: Typer asks it whether it starts so."""

    __slots__ = ()

    def startswith(self, begun: str, *_: object) -> bool:  # type: ignore[override]
        return self.casefold().startswith(begun.casefold())


def _words(find: Callable[[typer.Context], Iterable[str]]) -> Callable[[typer.Context], list[str]]:
    def complete(context: typer.Context) -> list[str]:
        with suppress(Exception):  # a missing word is better than an error in the middle of a command line
            return list(map(_AnyCase, find(context)))
        return []

    return complete


def is_asked() -> bool:
    """Return whether a shell asks for words, so that errors must stay silent."""
    return "_ZEROSHOT_COMPLETE" in os.environ  # Typer makes the name from that of the program


@_words
def models(context: typer.Context) -> Iterable[str]:
    """Return the names of models."""
    from zeroshot_cli.models.registry import known_names

    return known_names()


@_words
def tags(context: typer.Context) -> Iterable[str]:
    """Return the tags of the model that the command line names so far."""
    from zeroshot_cli.models.default import BETTER_MODEL
    from zeroshot_cli.models.registry import canonical_name, tags_of

    named = context.params.get("model") or context.params.get("name") or BETTER_MODEL
    return tags_of(canonical_name(named if isinstance(named, str) else named[0]))


@_words
def datasets(context: typer.Context) -> Iterable[str]:
    """Return the names of data sets."""
    from zeroshot_cli.datasets.registry import known_sets

    return [known.name for known in known_sets()]


@_words
def devices(context: typer.Context) -> Iterable[str]:
    """Return the kinds of device."""
    return ("auto", "cpu", "cuda", "mps")


def _label_sets(context: typer.Context) -> list[str]:
    from zeroshot_cli.words.textfiles import label_files

    return [*label_files(), *_files(_LABEL_FILES)]


def _template_sets(context: typer.Context) -> list[str]:
    from zeroshot_cli.words.textfiles import template_files

    return [*template_files(), *_files(_TEMPLATE_FILES)]


def _files(extensions: tuple[str, ...]) -> list[str]:
    """Return files of this folder; where no word fits, the shell completes and quotes other file names itself."""
    with os.scandir() as entries:
        names = [entry.name for entry in entries if entry.name.lower().endswith(extensions) and entry.is_file()]
    return sorted(name for name in names if _PLAIN.fullmatch(name))


labels = _words(_label_sets)
templates = _words(_template_sets)
backgrounds = _words(lambda context: ["auto", *_files(_LABEL_FILES)])
sets = _words(lambda context: dict.fromkeys((*_label_sets(context), *_template_sets(context))))
OF_OPTION = {
    "--model": models,
    "--labels": labels,
    "--prompts": templates,
    "--background": backgrounds,
}  # for options that cannot name the words
