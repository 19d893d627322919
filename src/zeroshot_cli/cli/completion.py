"""The words that Tab completes in a shell, besides commands, options and choices, which Typer knows.

Nothing here imports torch: the shell waits for it at every Tab.
"""

import os
import re
from collections.abc import Callable, Iterable
from contextlib import suppress

import typer

_PLAIN = re.compile(r"[\w.,+%-]+")  # what no shell needs to quote
_TABLES = (".csv", ".tsv", ".jsonl", ".parquet")
_BREAKS = {":", "="}  # where bash breaks words; the others are in no word of ours
_ASKED, _LINE, _WORDS, _AT = "_ZEROSHOT_COMPLETE", "_TYPER_COMPLETE_ARGS", "COMP_WORDS", "COMP_CWORD"  # Typer's names
_PART = "_ZEROSHOT_COMPLETE_PART"  # of the last word, what bash replaces
_LABEL_FILES = (".csv", ".json", ".txt", ".yaml", ".yml")
_TEMPLATE_FILES = (".txt", ".yaml", ".yml")


class _Fitting(str):
    """A word that is known to complete what was typed: Typer asks it whether it starts so."""

    __slots__ = ()

    def startswith(self, *_: object) -> bool:
        return True


def _words(find: Callable[[typer.Context, str], Iterable[str]]) -> Callable[[typer.Context, str], list[str]]:
    def complete(context: typer.Context, incomplete: str) -> list[str]:
        with suppress(Exception):  # a missing word is better than an error in the middle of a command line
            found = _fitting(find(context, incomplete), incomplete)
            if not all(word.endswith("/") for word in found):  # folders alone are the shell's own turn
                kept = max(len(incomplete) - len(os.environ.get(_PART, incomplete)), 0)
                return [_Fitting(word[kept:]) for word in found]
        return []

    return complete


def _fitting(words: Iterable[str], begun: str) -> list[str]:
    """Return the words that begin so in upper or lower case, unless a shell would shorten what was typed to them.

    A shell replaces it by what all words have in common, letter by letter, if that is anything.
    """
    found = _in_any_case(words, begun)
    differ, first = ({word[:length] for word in found} for length in (len(begun), 1))
    return [word for word in found if word.startswith(begun)] if len(differ) > 1 == len(first) else found


def _in_any_case(words: Iterable[str], begun: str) -> list[str]:
    return [word for word in words if word.casefold().startswith(begun.casefold())]


def is_asked() -> bool:
    """Return whether a shell asks for words, so that errors must stay silent."""
    return _ASKED in os.environ


def typed() -> list[str]:
    """Return what is before the cursor, with the words joined that bash has broken at `:` and `=`.

    They are joined in the environment, too, where Typer reads them.
    """
    if _WORDS not in os.environ:
        return os.environ.get(_LINE, "").split()[1:]
    parts = os.environ[_WORDS].split("\n")[: int(os.environ[_AT]) + 1]
    words = [""]
    for part in parts:
        is_break = part != "" and set(part) <= _BREAKS
        if is_break or (part and words[-1][-1:] in _BREAKS):
            words[-1] += part
        else:
            words.append(part)
    os.environ[_PART] = "" if set(parts[-1]) <= _BREAKS else parts[-1]
    os.environ[_WORDS], os.environ[_AT] = "\n".join(words[1:]), str(len(words) - 2)
    return words[2:]


@_words
def models(context: typer.Context, begun: str) -> Iterable[str]:
    """Return the names of models and folders, or after a colon a model's tags."""
    from zeroshot_cli.models.registry import canonical_name, known_names, tags_of

    name, colon, _ = begun.partition(":")
    if colon:
        return [f"{name}:{tag}" for tag in tags_of(canonical_name(name))]
    names = known_names()  # which commands take in any case
    return _fitting([*names, *_files(())], begun) or [begun + each[len(begun) :] for each in _in_any_case(names, begun)]


@_words
def tags(context: typer.Context, begun: str) -> Iterable[str]:
    """Return the tags of the model that the command line names so far."""
    from zeroshot_cli.models.default import BETTER_MODEL
    from zeroshot_cli.models.registry import canonical_name, tags_of

    named = context.params.get("model") or context.params.get("name") or BETTER_MODEL
    return tags_of(canonical_name(named if isinstance(named, str) else named[0]))


@_words
def datasets(context: typer.Context, begun: str) -> Iterable[str]:
    """Return the names of data sets, folders and tables."""
    from zeroshot_cli.datasets.registry import known_sets

    return [*(known.name for known in known_sets()), *_files(_TABLES)]


@_words
def devices(context: typer.Context, begun: str) -> Iterable[str]:
    """Return the kinds of device."""
    return ("auto", "cpu", "cuda", "mps")


def _label_sets() -> list[str]:
    from zeroshot_cli.words.textfiles import label_files

    return [*label_files(), *_files(_LABEL_FILES)]


def _template_sets() -> list[str]:
    from zeroshot_cli.words.textfiles import template_files

    return [*template_files(), *_files(_TEMPLATE_FILES)]


def _files(extensions: tuple[str, ...]) -> list[str]:
    """Return folders and files of this folder; where no word fits, the shell completes and quotes names itself."""
    with os.scandir() as entries:
        found = [(entry.name, entry.is_dir()) for entry in entries if _PLAIN.fullmatch(entry.name)]
    kept = [f"{name}/" if is_folder else name for name, is_folder in found if is_folder or _ends(name, extensions)]
    return sorted(name for name in kept if not name.startswith("."))


def _ends(name: str, extensions: tuple[str, ...]) -> bool:
    return name.lower().endswith(extensions)


labels = _words(lambda context, begun: _label_sets())
templates = _words(lambda context, begun: _template_sets())
backgrounds = _words(lambda context, begun: ["auto", *_files(_LABEL_FILES)])
sets = _words(lambda context, begun: dict.fromkeys((*_label_sets(), *_template_sets())))
OF_OPTION = {
    "--model": models,
    "--labels": labels,
    "--prompts": templates,
    "--background": backgrounds,
}  # for options that cannot name the words
