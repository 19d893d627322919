"""The entry point: commands, and what becomes of an error."""

import errno
import gc
import os
import sys
import traceback
import warnings
from contextlib import suppress
from typing import Annotated, TextIO

import typer

from zeroshot_cli.cli import cache, doctor, models, prompts
from zeroshot_cli.cli.build import build
from zeroshot_cli.cli.classify import classify
from zeroshot_cli.cli.embed import embed
from zeroshot_cli.cli.eval import evaluate
from zeroshot_cli.cli.train import train
from zeroshot_cli.cli.unsort import unsort
from zeroshot_cli.errors import UsageError, ZeroshotError
from zeroshot_cli.report.console import note

DISTRIBUTION = "zeroshot-cli"
INTERRUPTED = 130
FIRST_STEPS = """\
zeroshot labels your images with words of your own. Three commands to begin with:

  zeroshot classify photo.jpg --label cat --label dog
  zeroshot classify photos/ --labels labels.txt --top-k 3 --output labels.csv
  zeroshot doctor

zeroshot --help lists all commands, zeroshot classify --help the options of one."""

# The parser's own error: its module is click's or typer's, as typer's version has it; this base is it in both.
ParserError: type[Exception] = typer.BadParameter.__mro__[1]

_OBJECTS = 100_000  # before Python looks for cycles; at its 700, a tenth of importing torch is spent on that
_FULL = (errno.ENOSPC, errno.EDQUOT)  # the machine's trouble, not a defect of ours

app = typer.Typer(
    name="zeroshot",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # plain help is there twice as fast, and can be pasted
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command()(classify)
app.command()(train)
app.command("eval")(evaluate)
app.command("evaluate", hidden=True)(evaluate)
app.command()(build)
app.command()(embed)
app.add_typer(models.app, name="models")
app.add_typer(prompts.app, name="prompts")
app.add_typer(cache.app, name="cache")
app.command()(unsort)
app.command()(doctor.doctor)


@app.callback(invoke_without_command=True)
def start(
    context: typer.Context, version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False
) -> None:
    """Zero-shot image classification: label images with words of your own."""
    if version:
        from importlib.metadata import version as version_of

        typer.echo(f"zeroshot {version_of(DISTRIBUTION)}")
        raise typer.Exit
    if context.invoked_subcommand is None:
        typer.echo(FIRST_STEPS)


def main() -> None:
    """Run the command line and exit with its code."""
    gc.set_threshold(_OBJECTS)
    sys.exit(run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    """Run one command line; return its exit code, with any error said on standard error."""
    _open_closed_streams()
    _never_fail_to_print()
    with warnings.catch_warnings():
        warnings.showwarning = _show_warning
        code = _run(arguments)
    return _settle(code)


def _run(arguments: list[str]) -> int:
    try:
        code = app(arguments, prog_name="zeroshot", standalone_mode=False)
    except SystemExit as end:
        # The parser leaves with 1 when a pipe is closed under it; `| head` is no error.
        return 0 if isinstance(end.__context__, BrokenPipeError) else _exit_code(end.code)
    except BrokenPipeError:
        return 0
    except (KeyboardInterrupt, typer.Abort):
        code = INTERRUPTED
    except Exception as error:
        if _wants_traceback(arguments):
            traceback.print_exception(error)
        return _report(error, arguments)
    if code == INTERRUPTED:
        note("interrupted")
    return _exit_code(code)


def _exit_code(code: object) -> int:
    return code if isinstance(code, int) else 0


def _report(error: Exception, arguments: list[str]) -> int:
    """Say an error in one sentence; return its exit code."""
    if isinstance(error, ParserError):
        note(f"error: {_parser_sentence(error, arguments)}")
        return UsageError.exit_code
    if isinstance(error, ZeroshotError):
        note(f"error: {error}")
        return error.exit_code
    if isinstance(error, OSError) and error.errno in _FULL:
        note(f"error: cannot write {error.filename or 'standard output'}: {error.strerror}")
        return UsageError.exit_code
    if isinstance(error, OSError) and error.filename is not None:
        note(f"error: {os.fsdecode(error.filename)}: {error.strerror}; check the path and its rights")
        return UsageError.exit_code
    note(
        f"error: a defect of zeroshot, please report it with your command: {type(error).__name__}: {error} "
        "(--debug shows where it happened)"
    )
    return 1


def _parser_sentence(error: Exception, arguments: list[str]) -> str:
    """Return the parser's message as one sentence that names the value and the way out."""
    message = " ".join(error.format_message().split()).rstrip(".")  # type: ignore[attr-defined]
    value = _refused_value(error)
    if value is not None and repr(value) not in message:
        message = f"{message}, not {value!r}"
    if message.startswith("No such command") and arguments and os.path.exists(arguments[0]):  # noqa: PTH110
        return f"{message}; to label images: zeroshot classify {arguments[0]} --label TEXT --label TEXT"
    context = getattr(error, "ctx", None)
    command = context.command_path if context is not None else "zeroshot"
    return f"{message}; {command} --help shows what there is"


def _refused_value(error: Exception) -> object:
    """Return what the user typed, where typer checks values with pydantic, whose messages leave it out."""
    details = getattr(error.__cause__, "errors", None)
    return details()[0].get("input") if callable(details) else None


def _wants_traceback(arguments: list[str]) -> bool:
    # Read here, because the command line itself may be what is wrong.
    return "--debug" in arguments or os.environ.get("ZEROSHOT_DEBUG", "").lower() in ("1", "true", "yes", "on")


def _show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """Say what concerns the user in one line; what concerns a library's developers only where Python runs with -W."""
    if issubclass(category, UserWarning) or sys.warnoptions:
        note(f"warning: {message}")


def _open_closed_streams() -> None:
    """Stand in for streams that the shell has closed, as `>&-` does."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: PTH123, SIM115


def _never_fail_to_print() -> None:
    """Escape what a stream's encoding lacks: a label in another script must not end the run."""
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="backslashreplace")


def _settle(code: int) -> int:
    """Flush standard output; when its reader is gone, see to it that Python does not complain on the way out."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        _drop_stdout()
    except OSError as error:
        _drop_stdout()
        note(f"error: cannot write standard output: {error.strerror or error}")
        return code or UsageError.exit_code
    return code


def _drop_stdout() -> None:
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
