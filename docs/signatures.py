"""What api.md pastes, by cog: every public name of `zeroshot_cli` with its signature, docstring, methods and fields."""

import inspect
import re
from typing import Any

import cog

import zeroshot_cli

OF_COMMANDS = {"Classifier.answers", "Classifier.background_of", "Classifier.without_model"}  # for many processes
LONGEST = 80  # of a signature that stays on one line


def describe(name: str) -> None:
    """Paste a heading, the signature and the docstring of a public name, and of what a user calls on it."""
    item = getattr(zeroshot_cli, name)
    cog.outl(f"### {name}\n\n```python\n{name}{_signature(item)}\n```\n\n{_docs(item)}")
    for method, function in _methods(item):
        if f"{name}.{method}" not in OF_COMMANDS:
            cog.outl(f"\n```python\n{name}.{method}{_signature(function)}\n```\n\n{_docs(function)}")


def unmentioned(*names: str) -> None:
    """Refuse to paste a page that leaves out a public name."""
    left_out = set(zeroshot_cli.__all__) - set(names) - {"__version__"}
    if left_out:
        raise ValueError(f"api.md does not describe {', '.join(sorted(left_out))}")


def _methods(item: Any) -> list[tuple[str, Any]]:
    """The public methods that a class itself defines, in the order of the file, and have a docstring."""
    if not inspect.isclass(item):
        return []
    unwrapped = {name: getattr(value, "__func__", value) for name, value in vars(item).items()}
    return [
        (name, getattr(item, name))
        for name, value in unwrapped.items()
        if inspect.isfunction(value) and not name.startswith("_") and value.__doc__
    ]


def _signature(item: Any) -> str:
    """The signature on one line, or a parameter a line; an exception has none worth reading."""
    if inspect.isclass(item) and issubclass(item, Exception):
        return ""
    signature = inspect.signature(item)
    parameters = [each for each in signature.parameters.values() if each.name != "self"]
    written = [_parameter(each) for each in parameters]
    kinds = [each.kind for each in parameters]
    if inspect.Parameter.KEYWORD_ONLY in kinds and inspect.Parameter.VAR_POSITIONAL not in kinds:
        written.insert(kinds.index(inspect.Parameter.KEYWORD_ONLY), "*")
    returned = "" if inspect.isclass(item) else f" -> {_type(signature.return_annotation)}"
    line = f"({', '.join(written)}){returned}"
    return line if len(line) <= LONGEST else "(\n" + "".join(f"    {each},\n" for each in written) + f"){returned}"


def _parameter(parameter: inspect.Parameter) -> str:
    typed = f"{parameter.name}: {_type(parameter.annotation)}"
    if parameter.default is inspect.Parameter.empty:
        return typed
    default = "..." if "<factory>" in repr(parameter.default) else repr(parameter.default)
    return f"{typed} = {default if len(default) <= LONGEST // 2 else f'{type(parameter.default).__name__}(...)'}"


def _type(annotation: Any) -> str:
    """A type as one reads it: without the modules that names come from, and arrays without what is in them."""
    written = annotation if isinstance(annotation, str) else inspect.formatannotation(annotation)
    written = re.sub(r"\b(?:[A-Za-z_]\w*\.)+(?=[A-Za-z_])", "", written)
    return re.sub(r"ndarray\[tuple\[Any, \.\.\.\], dtype\[\w+\]\]", "ndarray", written)  # three ] would end cog's block


def _docs(item: Any) -> str:
    return inspect.cleandoc(item.__doc__ or "")
