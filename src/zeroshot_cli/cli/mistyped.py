"""What the parser rejects, in one sentence with the nearest name that exists.

Typer suggests by spelling only; this knows other tools' words, inner commands, values, and files given for names too.
"""

import os
import re
import shlex
from collections.abc import Iterable, Iterator, Sequence
from difflib import get_close_matches
from typing import Any

# What other tools call it, which no spelling would lead to
OTHER_WORDS = {
    "finetune": "train",
    "fine-tune": "train",
    "fit": "train",
    "label": "classify",
    "predict": "classify",
    "run": "classify",
    "test": "eval",
    "version": "--version",
    "/?": "--help",
    "?": "--help",
    "man": "--help",
}
# The option that a word without one was meant for
_OPTION_OF = {"build": "--labels", "train": "--data"}
_EXTRA = re.compile(r"Got unexpected extra arguments?(?:\(s\))? \((?P<words>.*)\)")
_COMMAND = re.compile(r"No such command (?P<quoted>'.*?'|\".*?\")(?:\.|$)")
_CHOICES = re.compile(r"'(?P<value>[^']*)' is not one of (?P<choices>'[^']*'(?:, '[^']*')*)")
_NO_IMAGES = "Missing argument 'IMAGES'"
_VALIDATOR = "Value error, "  # of pydantic, with which newer versions of Typer check values


def parser_sentence(error: Exception, arguments: Sequence[str], command_path: str) -> str:
    """Return the parser's message as one sentence that names the value, the nearest that exists, and where help is.

    `command_path` is the command of the arguments, which not every error knows.
    """
    message = " ".join(error.format_message().split()).rstrip(".").replace(_VALIDATOR, "")  # type: ignore[attr-defined]
    context = getattr(error, "ctx", None)
    there = f"{context.command_path if context is not None else command_path} --help shows what there is"
    if command := _COMMAND.match(message):
        return _no_command(command["quoted"], context, arguments, there)
    if option := getattr(error, "option_name", None) if message.startswith("No such option") else None:
        return _no_option(_as_typed(option, arguments), context, arguments, there)
    if message == _NO_IMAGES:
        labels = " --label cat --label dog" * command_path.endswith("classify")
        return f"{message}; for example: {command_path} photos/{labels}; {there}"
    if message.startswith("Missing option"):
        return f"{message}{_as_in(error)}; {there}"
    if (extra := _EXTRA.match(message)) and (option := _OPTION_OF.get(command_path.rpartition(" ")[2])):
        return f"{message}; {_with_option(option, extra['words'])}; {there}"
    value = _refused_value(error)
    if value is not None and repr(value) not in message:
        message = f"{message}, not {value!r}"
    if "'--level'" in message:
        message = f"{message}; 1 is the topmost level of groups"
    near: list[str] = []
    if choice := _CHOICES.search(message):
        near = _nearest(choice["value"], re.findall(r"'([^']*)'", choice["choices"]))
    return _sentence(message, near, there)


def _sentence(message: str, near: Sequence[str], there: str) -> str:
    return f"{message}; did you mean {' or '.join(near)}? {there}" if near else f"{message}; {there}"


def _nearest(typed: str, known: Iterable[str]) -> list[str]:
    """Return at most two nearest names, ignoring case; those that begin with what was typed come first."""
    by_case = {name.casefold().lstrip("-"): name for name in reversed(list(known))}  # dashes say nothing
    wanted = typed.casefold().lstrip("-")
    begun = sorted(name for name in by_case if len(wanted) > 1 and name.startswith(wanted))
    return [by_case[name] for name in begun[:2] or get_close_matches(wanted, by_case, n=1, cutoff=0.65)]


def _as_in(error: Exception) -> str:
    """Return an example of the option that is missing."""
    parameter = getattr(error, "param", None)
    metavar = getattr(parameter, "metavar", None)
    return f", as in {parameter.opts[0]} {metavar}" if parameter is not None and metavar else ""


def _with_option(option: str, words: str) -> str:
    first = words.split()[0]
    if option == "--labels" and not os.path.lexists(first):
        return "each label has an option, as in --label cat --label dog"
    return f"write {option} {first}"


# Commands


def _no_command(quoted: str, context: Any, arguments: Sequence[str], there: str) -> str:
    typed = quoted[1:-1]
    message = f"No such command {quoted}"
    at_the_top = context is None or context.parent is None
    if at_the_top and arguments and os.path.exists(arguments[0]):  # noqa: PTH110 - a Path raises for a long name
        image = shlex.quote(arguments[0])
        return f"{message}; to label images: zeroshot classify {image} --label TEXT --label TEXT"
    if context is None:
        return f"{message}; {there}"
    if at_the_top and typed == "zeroshot":
        return f"{message}; zeroshot is there already: type {shlex.join(arguments)}"
    if at_the_top and typed in OTHER_WORDS:
        return _sentence(message, [OTHER_WORDS[typed]], there)
    near = _nearest(typed, [name for name, _ in _commands(context)])
    if not near and at_the_top:  # `zeroshot download` is `zeroshot models download`
        near = [f"{group} {name}" for group, name in _inner_commands(context) if name == typed]
    return _sentence(message, near, there)


def _commands(context: Any) -> Iterator[tuple[str, Any]]:
    """Yield the commands of a group that --help shows."""
    for name in context.command.list_commands(context):
        command = context.command.get_command(context, name)
        if command is not None and not command.hidden:
            yield name, command


def _inner_commands(context: Any) -> Iterator[tuple[str, str]]:
    for group, command in _commands(context):
        yield from ((group, name) for name in getattr(command, "commands", ()))


# Options


def _as_typed(option: str, arguments: Sequence[str]) -> str:
    """Return the whole of `-labels`, of which the parser names only `-l`."""
    if option.startswith("--"):
        return option
    whole = (word for word in arguments if re.match(r"-[^-]", word) and option[1:] in word and len(word) > 2)
    return next(whole, option)


def _no_option(typed: str, context: Any, arguments: Sequence[str], there: str) -> str:
    file = next((word for word in arguments if word.startswith("-") and os.path.exists(word)), None)  # noqa: PTH110
    if file is not None:
        return f"No such option {typed}; the file of that name is {shlex.quote(f'./{file}')}; {there}"
    if context is None:
        return f"No such option {typed}; {there}"
    inner = dict(_commands(context)) if hasattr(context.command, "list_commands") else {}
    owners = [name for name, command in inner.items() if typed in _option_names(command)]
    if owners:
        owner = next((word for word in arguments if word in owners), owners[0])
        after = f"{context.command_path} {owner} ... {typed}"
        return f"No such option {typed} before the command; put it after, as in {after}; {there}"
    wanted = f"--{typed.lstrip('-')}" if len(typed) > 2 else typed
    return _sentence(f"No such option {typed}", _nearest(wanted, _option_names(context.command)), there)


def _option_names(command: Any) -> list[str]:
    """Return the long names of the options that --help shows."""
    shown = [parameter for parameter in command.params if not getattr(parameter, "hidden", False)]
    names = [name for parameter in shown for name in (*parameter.opts, *parameter.secondary_opts)]
    return [name for name in (*names, "--help") if name.startswith("--")]


def _refused_value(error: Exception) -> object:
    """Return what the user typed, if Typer checks values with pydantic, whose messages omit it."""
    details = getattr(error.__cause__, "errors", None)
    return details()[0].get("input") if callable(details) else None
