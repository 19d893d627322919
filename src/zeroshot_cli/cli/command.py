"""What makes a command: dataclass fields become options, `--help` shows them in panels, bad values are refused."""

import math
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import MISSING, fields, is_dataclass
from enum import StrEnum
from functools import partial, wraps
from inspect import Parameter, Signature, cleandoc
from pathlib import Path
from typing import Annotated, Any, NoReturn, TypeVar, get_args, get_origin, get_type_hints

import typer
from typer.core import TyperCommand, TyperGroup

from zeroshot_cli.cli import completion
from zeroshot_cli.errors import UnreadableImage, UsageError

F = TypeVar("F", bound=Callable[..., Any])
_KEYWORD = Parameter.KEYWORD_ONLY
AUTO = "auto"
_DEVICE = re.compile(r"auto|cpu|mps|cuda(:\d+)?")
_THREADS = re.compile(r"\s*0*[1-9]\d{0,8}\s*(,\s*0*[1-9]\d{0,8}\s*)*")
_MOST = 2**63  # what 64 bits hold
_OUTPUTS = ("output", "predictions", "report")
_LINE_END = re.compile(r"(?<!\n)\n(?!\n)")  # within a paragraph


class Panel(StrEnum):
    """The panels of --help, in the order in which it shows them."""

    DATA = "Data"
    DATASET = "Data set"
    LABELS = "Labels"
    UNKNOWN = "Unknown images"
    OUTPUT = "Output"
    IMAGES = "Images"
    MODEL = "Model"
    OPTIMISATION = "Optimisation"
    VALIDATION = "Validation and reports"
    MACHINE = "Machine"
    MESSAGES = "Messages"


def command(function: Callable[..., None]) -> Callable[..., None]:
    """Return the function as Typer takes it: each Annotated field of its dataclass parameters becomes an option.

    A field of type `tuple[X, ...]` is an option that may be repeated. Other parameters stay as they are.
    """
    hints = get_type_hints(function)
    hints.pop("return", None)
    groups = {name: _parameters(hint) for name, hint in hints.items() if is_dataclass(hint)}

    @wraps(function)
    def run(**given: Any) -> None:
        check_threads()
        _check_apart(given)
        for name, parameters in groups.items():
            values = {each.name: given.pop(each.name) for each in parameters}
            for each in parameters:
                _check_numbers(each, values[each.name])
            repeated = {key: tuple(value) for key, value in values.items() if isinstance(value, list)}
            given[name] = hints[name](**{**values, **repeated})
        function(**given)

    parameters = [Parameter(name, _KEYWORD, annotation=hint) for name, hint in hints.items() if name not in groups]
    parameters += sorted((each for group in groups.values() for each in group), key=_panel)
    run.__signature__ = Signature(parameters)  # type: ignore[attr-defined]
    return run


def _check_apart(given: dict[str, Any]) -> None:
    """Raise UsageError for an output that the command also reads: --overwrite would delete the user's own file."""
    read = {name: values for name, value in given.items() if name not in _OUTPUTS and (values := list(_files(value)))}
    for output in (path for name in _OUTPUTS for path in _files(given.get(name))):
        for name, paths in read.items():
            if any(Path(output).samefile(path) for path in paths):
                option = name.replace("_", "-")
                raise UsageError(f"cannot write {output}: it is the file of {option}, which is read; name another")


def _files(value: Any) -> Iterator[str]:
    """Yield the files that exist among the value of an option."""
    for each in value if isinstance(value, list | tuple) else [value]:
        if isinstance(each, str | os.PathLike) and os.path.isfile(each):  # noqa: PTH113 (a NUL is no error here)
            yield os.fspath(each)


def _check_numbers(parameter: Parameter, value: Any) -> None:
    option = get_args(parameter.annotation)[1]
    for each in value if isinstance(value, list) else [value]:
        check_number(option.default if isinstance(option.default, str) else parameter.name, each)


def _parameters(options: Any) -> list[Parameter]:
    """Return the Annotated fields of a dataclass as parameters of a function."""
    found = []
    hints = get_type_hints(options, include_extras=True)
    for each in fields(options):
        if get_origin(hint := hints[each.name]) is Annotated:
            kind, option = get_args(hint)
            option.autocompletion = option.autocompletion or completion.OF_OPTION.get(option.default)
            if get_origin(kind) is tuple:
                hint = Annotated[list[get_args(kind)[0]], option]  # type: ignore[misc]
            default = Parameter.empty if each.default is MISSING else each.default
            found.append(Parameter(each.name, _KEYWORD, default=default, annotation=hint))
    return found


def _panel(parameter: Parameter) -> int:
    panel = get_args(parameter.annotation)[1].rich_help_panel
    return -1 if panel is None else list(Panel).index(panel)


class Commands(typer.Typer):
    """A group of commands; in the help of each, --help stands last and not in a panel of its own."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(cls=_Group, rich_markup_mode="rich", pretty_exceptions_enable=False, **settings)

    def command(self, name: str | None = None, **settings: Any) -> Callable[[F], F]:
        """Add a command, as Typer does; the paragraphs of its docstring are its help."""

        def add(function: F) -> F:
            help = _LINE_END.sub(" ", cleandoc(function.__doc__ or ""))
            return super(Commands, self).command(name, cls=_Command, help=help, **settings)(function)

        return add


class _Command(TyperCommand):
    def get_params(self, context: Any) -> list[Any]:
        parameters = _plain(super().get_params(context))
        parameters[-1].rich_help_panel = Panel.MESSAGES
        return parameters

    def parse_args(self, context: Any, args: list[str]) -> list[str]:
        if not context.resilient_parsing:  # as when a shell completes
            _check_given_once(self.make_parser(context).parse_args(list(args))[2])
        return super().parse_args(context, args)


class _Group(TyperGroup):
    def get_params(self, context: Any) -> list[Any]:
        return _plain(super().get_params(context))


def _check_given_once(given: list[Any]) -> None:
    """Raise UsageError for two classifier files, which look like a comparison; of other options the last one wins.

    That lets a command line replace what an alias has given.
    """
    names = [each.name for each in given]
    if "help" not in names and (times := names.count("classifier")) > 1:
        raise UsageError(
            f"--classifier takes one file, and is given {times} times; run the command once for each, and compare what "
            "they print, with the intervals"
        )


def _plain(parameters: list[Any]) -> list[Any]:
    """Let --help show parameters as they are typed, without Python's types such as `<bool>` and `<list[str]>`."""
    for each in parameters:
        if each.param_type_name == "argument":
            each.display_type_rich = lambda ctx: None
            each.get_usage_pieces = partial(_usage, each)
        elif each.is_flag:
            each.metavar = ""
        elif each.metavar is None and each.type_descriptor.is_choice:
            each.metavar = "|".join(map(str, each.type_descriptor.choices))
    return parameters


def _usage(argument: Any, context: Any) -> list[str]:
    """Return an argument as the first line of --help has it."""
    name = argument.metavar if argument.required else f"[{argument.metavar}]"
    return [name if argument.nargs == 1 else f"{name}..."]


def finish(unreadable: bool | int, *, ignore_errors: bool = False) -> NoReturn:
    """End the command, with exit code 4 if images could not be read or filed and that is not to be ignored."""
    raise typer.Exit(UnreadableImage.exit_code if unreadable and not ignore_errors else 0)


# Values that are refused before anything is loaded


def check_batch_size(value: str) -> str:
    """Raise BadParameter unless the value is `auto`, or a number of images of at least 1."""
    return _checked_count(value, most=1_000_000)


def check_workers(value: str) -> str:
    """Raise BadParameter unless the value is `auto`, or a number of processes of at least 1."""
    return _checked_count(value, most=1024)


def check_actors(value: str | None) -> str | None:
    """Raise BadParameter unless the value is `auto`, or a number of processes of at least 1."""
    return value if value is None else _checked_count(value, most=1_000_000)


def _checked_count(value: str, *, most: int) -> str:
    is_number = value.isascii() and value.isdigit() and value.strip("0") != ""
    if value != AUTO and not is_number:
        raise typer.BadParameter(f"{value!r} is neither a whole number of at least 1 nor 'auto'")
    if is_number and (len(value.lstrip("0")) > len(str(most)) or int(value) > most):
        raise typer.BadParameter(f"{value!r} is too many; give at most {most}, or 'auto'")
    return value


def check_device(value: str) -> str:
    """Raise BadParameter if the value cannot be a device."""
    if not _DEVICE.fullmatch(value):
        raise typer.BadParameter(f"{value!r} is not a device; use auto, cpu, cuda, cuda:N or mps")
    return value


def check_frames(value: str) -> str:
    """Raise BadParameter if the value names no frame; return numbers without leading zeros."""
    if value not in ("first", "middle", "each") and not (value.isascii() and value.isdigit() and len(value) < 10):
        raise typer.BadParameter(f"{value!r} is not a frame; use first, middle, each, or a number from 0")
    return value if not value.isdigit() else str(int(value))


def check_cosine(value: float | None) -> float | None:
    """Raise BadParameter unless the value is from -1 to 1, which NaN is not."""
    if value is not None and not -1 <= value <= 1:
        raise typer.BadParameter(f"{value} is not a cosine; give a number from -1 to 1")
    return value


def check_seed(value: int) -> int:
    """Raise BadParameter unless the value has 32 bits; a range would be so wide in --help that it cuts names."""
    if not 0 <= value < 2**32:
        raise typer.BadParameter(f"{value} is not a seed; give a whole number from 0 to {2**32 - 1}")
    return value


def check_probability(value: float | None) -> float | None:
    """Raise BadParameter unless the value is from 0 to 1, which NaN is not."""
    if value is not None and not 0 <= value <= 1:
        raise typer.BadParameter(f"{value} is not a probability; give a number from 0 to 1")
    return value


def check_number(option: str, value: object) -> None:
    """Raise UsageError for a number that nothing can be computed with: NaN, infinite, or of more than 64 bits."""
    if isinstance(value, float) and not math.isfinite(value):
        raise UsageError(f"{option} is {value}; give a finite number")
    if isinstance(value, int) and not -_MOST <= value < _MOST:
        raise UsageError(f"{option} is a number of {value.bit_length()} bits; give one under 2^63")


def check_threads() -> None:
    """Raise UsageError if OMP_NUM_THREADS is no number of threads: libgomp would take all cores, and grumble."""
    value = os.environ.get("OMP_NUM_THREADS", "")
    if value and not _THREADS.fullmatch(value):
        raise UsageError(f"OMP_NUM_THREADS={value} is not a number of threads; give one of at least 1, or unset it")
