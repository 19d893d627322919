"""The entry point: the commands, what zeroshot alone prints, and what becomes of errors."""

import errno
import io
import logging
import os
import shlex
import signal
import sys
import tempfile
import traceback
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import islice
from typing import Annotated, Any, TextIO

import typer

from zeroshot_cli.cli import completion
from zeroshot_cli.cli import options as o
from zeroshot_cli.cli.command import Commands
from zeroshot_cli.cli.commands import doctor, models, prompts
from zeroshot_cli.cli.commands.build import build
from zeroshot_cli.cli.commands.cache import cache_app
from zeroshot_cli.cli.commands.classify import classify, unsort
from zeroshot_cli.cli.commands.embed import embed
from zeroshot_cli.cli.commands.eval import evaluate
from zeroshot_cli.cli.commands.merge import merge
from zeroshot_cli.cli.commands.review import review
from zeroshot_cli.cli.commands.search import duplicates, search
from zeroshot_cli.cli.commands.tag import tag, untag
from zeroshot_cli.cli.commands.train import train
from zeroshot_cli.cli.commands.tune import calibrate, tune
from zeroshot_cli.cli.mistyped import parser_sentence
from zeroshot_cli.cli.spoiled import check_spoiled, unquoted_names
from zeroshot_cli.console.terminal import note
from zeroshot_cli.display import brief
from zeroshot_cli.errors import UsageError, ZeroshotError, is_out_of_memory
from zeroshot_cli.models.default import BETTER_DOWNLOAD, BETTER_MODEL, DEFAULT_MODEL

INTERRUPTED = 130
# The parser's own error: its module is click's or typer's, as typer's version has it; this base is it in both.
ParserError: type[Exception] = typer.BadParameter.__mro__[1]

_FULL = (errno.ENOSPC, errno.EDQUOT)  # not a bug of ours
_ANY_IMAGE = "photo.jpg"
_IMAGE_EXTENSIONS = (".jpg", ".jpeg", ".png", ".webp", ".gif")
_LOOKED_AT = 2000  # entries of the folder: the answer should come at once

FIRST_STEPS = """\
zeroshot labels your images with words of your own.

Try it on one image; {default}, the model that comes with it, needs no network:

  zeroshot classify {image} --label cat --label dog

Then on a folder, with the labels in a file, one a line:

  zeroshot classify photos/ --labels labels.txt --output labels.csv

{better} gives far better answers, and is downloaded once ({download}):

  zeroshot classify photos/ --labels labels.txt --model {better}

To find out more:

  zeroshot --help                list all commands
  zeroshot classify --help       list the options of one
  zeroshot prompts list          list the built-in sets of labels and templates
  zeroshot models recommend      list a few models worth having; models list has all
  zeroshot doctor                show what this machine has, and what is missing
  zeroshot --install-completion  let Tab complete commands, options and names"""

app = Commands(name="zeroshot", context_settings={"help_option_names": ["-h", "--help"]})
app.command()(classify)
app.command()(review)
app.command()(train)
app.command("eval")(evaluate)
app.command("evaluate", hidden=True)(evaluate)
app.command()(build)
app.command()(tune)
app.command()(calibrate)
app.command()(embed)
app.command()(merge)
app.command()(search)
app.command()(duplicates)
app.add_typer(models.app, name="models")
app.add_typer(prompts.app, name="prompts")
app.add_typer(cache_app, name="cache")
app.command()(unsort)
app.command()(tag)
app.command()(untag)
app.command()(doctor.doctor)


@app.callback(invoke_without_command=True)
def start(
    context: typer.Context, version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False
) -> None:
    """Zero-shot image classification: label images with words of your own."""
    if version:
        from importlib.metadata import version as version_of

        typer.echo(f"zeroshot {version_of(o.DISTRIBUTION)}")
        raise typer.Exit
    if context.invoked_subcommand is None:
        typer.echo(first_steps())


def first_steps() -> str:
    """Return what to type first, with an image of the current folder if there is one."""
    names = {"default": DEFAULT_MODEL, "better": BETTER_MODEL, "download": BETTER_DOWNLOAD}
    return FIRST_STEPS.format(**names, image=shlex.quote(_image_here()))


def _image_here() -> str:
    with suppress(OSError), os.scandir() as entries:
        found = [each for each in islice(entries, _LOOKED_AT) if each.name.lower().endswith(_IMAGE_EXTENSIONS)]
        names = [each.name for each in found if not each.is_dir(follow_symlinks=False)]
        readable = [name for name in names if name.isprintable() and not name.startswith(("-", "."))]
        return min(readable, default=_ANY_IMAGE)
    return _ANY_IMAGE


def main() -> None:
    """Run the command line and exit with its code."""
    _never_fail_for_messages()
    code = INTERRUPTED
    with suppress(KeyboardInterrupt):  # Ctrl-C after the last output
        code = run(sys.argv[1:])
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # not ignored, as in a script's background
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # libraries that take themselves down would print a traceback
    sys.exit(code)


def run(arguments: list[str]) -> int:
    """Run one command line, with any error on standard error, and return its exit code."""
    if arguments[:1] == ["help"]:  # `zeroshot help classify`, as with other tools
        arguments = [*arguments[1:], "--help"]
    _open_closed_streams()
    _never_fail_to_print()
    with warnings.catch_warnings():
        warnings.showwarning = _show_warning
        with _log_on_stderr(), _without_deleted_folder():
            code = _run(arguments)
    return _settle(code)


def _run(arguments: list[str]) -> int:
    try:
        asked = completion.is_asked()
        if not asked:
            check_spoiled(arguments)
        first = completion.typed() if asked else arguments
        code = _command(first)(arguments, prog_name="zeroshot", standalone_mode=False, obj=tuple(arguments))
    except SystemExit as end:
        # The parser leaves with 1 when a pipe is closed under it; `| head` is not an error.
        return 0 if isinstance(end.__context__, BrokenPipeError) else _exit_code(end.code)
    except BrokenPipeError:
        return 0
    except (KeyboardInterrupt, typer.Abort):
        code = INTERRUPTED
    except Exception as error:
        if _wants_traceback(arguments):
            for line in "".join(traceback.format_exception(error)).rstrip("\n").split("\n"):
                note(line)
        return _report(error, arguments)
    if code == INTERRUPTED:
        note("interrupted")
    return _exit_code(code)


def _command(arguments: Sequence[str]) -> Any:
    """Return the parser, with one line on completion in its help; of a command that comes first, without the others'.

    Making those of all takes longer than most commands that only print.
    """
    first = next(iter(arguments), "")
    wanted = Commands(name="zeroshot", context_settings=app.info.context_settings)
    wanted.registered_callback = app.registered_callback
    wanted.registered_commands = [each for each in app.registered_commands if _name_of(each) == first]
    wanted.registered_groups = [each for each in app.registered_groups if each.name == first]
    command = typer.main.get_command(wanted if wanted.registered_commands or wanted.registered_groups else app)
    for parameter in command.params:
        if parameter.name == "show_completion":
            parameter.hidden = True  # type: ignore[attr-defined]
    return command


def _name_of(command: Any) -> str:
    return str(command.name or command.callback.__name__)


def _exit_code(code: object) -> int:
    return code if isinstance(code, int) else 0


def _report(error: Exception, arguments: list[str]) -> int:
    """Print an error in one sentence, on a terminal also the command that helps, and return the exit code."""
    if completion.is_asked():
        return 1  # nothing may be printed in the middle of a command line
    if isinstance(error, ParserError):
        said = parser_sentence(error, arguments, _command_path(arguments))
        note(brief(f"error: {unquoted_names(said, arguments) or said}"))
        return UsageError.exit_code
    if isinstance(error, UsageError) and (better := unquoted_names(str(error), arguments)):
        error = UsageError(better)
    if isinstance(error, ZeroshotError):
        note(brief(f"error: {error}"))
        _see(error.see.format(command=_command_path(arguments)), str(error))
        return error.exit_code
    if isinstance(error, OSError) and error.errno in _FULL:
        note(f"error: cannot write {error.filename or 'standard output'}: {error.strerror}")
        return UsageError.exit_code
    if _is_lack_of_memory(error):
        note("error: not enough memory; use a smaller --batch-size, fewer --workers or a smaller --max-pixels")
        return UsageError.exit_code
    if isinstance(error, OSError) and error.filename is not None:
        note(f"error: {os.fsdecode(error.filename)}: {error.strerror}; check the path and its permissions")
        return UsageError.exit_code
    if is_out_of_memory(error):
        note(
            f"error: memory ran out ({str(error).strip().splitlines()[0] if str(error).strip() else 'no details'}): "
            "use a smaller --batch-size, fewer --workers or a smaller model, or raise the limit (ulimit -v)"
        )
        return UsageError.exit_code
    what = brief(f"error: a bug in zeroshot, please report it with your command: {type(error).__name__}: {error}")
    note(f"{what} (--debug shows where it happened)")
    _see("zeroshot doctor", "")
    return 1


def _is_lack_of_memory(error: Exception) -> bool:
    """Return whether Python or torch could not allocate memory; torch has no class of its own for the CPU."""
    if not isinstance(error, RuntimeError):
        return isinstance(error, MemoryError)
    said = str(error).lower()
    return any(text in said for text in ("can't allocate memory", "out of memory", "not enough memory"))


def _see(command: str, sentence: str) -> None:
    """Name the command that helps, unless the error does; without a terminal an error is one sentence."""
    if sys.stderr.isatty() and command not in sentence:
        note(f"see: {command}")


def _command_path(arguments: Sequence[str]) -> str:
    """Return the command of a command line, such as `zeroshot prompts show`."""
    commands, path = getattr(typer.main.get_command(app), "commands", {}), ["zeroshot"]
    for word in arguments:
        if word not in commands:
            break
        path.append(word)
        commands = getattr(commands[word], "commands", {})
    return " ".join(path)


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
    """Print warnings meant for users in one line; those meant for developers only if Python runs with -W."""
    if issubclass(category, UserWarning) or sys.warnoptions:
        note(brief(f"warning: {message}"))


class _Notes(logging.Handler):
    """Shows what the library logs as notes."""

    def emit(self, record: logging.LogRecord) -> None:
        note(record.getMessage())


@contextmanager
def _log_on_stderr() -> Iterator[None]:
    """Show what the library logs, such as that a download starts; --quiet raises the level."""
    logger, handler = logging.getLogger("zeroshot_cli"), _Notes()
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)


def _open_closed_streams() -> None:
    """Open the null device for streams that the shell has closed, as with `>&-`."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: PTH123, SIM115


class _Lossy(io.FileIO):
    """Standard error on a full disk, or without a reader: what cannot be said is not worth the results."""

    def write(self, data: Any) -> int:
        try:
            return super().write(data)
        except OSError:
            return len(data)


def _never_fail_for_messages() -> None:
    with suppress(OSError, ValueError, AttributeError):
        raw = _Lossy(sys.stderr.fileno(), "w", closefd=False)
        encoding = sys.stderr.encoding
        sys.stderr = io.TextIOWrapper(
            io.BufferedWriter(raw), encoding=encoding, errors="backslashreplace", line_buffering=True
        )


@contextmanager
def _without_deleted_folder() -> Iterator[None]:
    """Leave a working directory that was deleted for an empty one: torch's libraries end the process there."""
    try:
        os.getcwd()  # noqa: PTH109
    except OSError:
        folder = tempfile.mkdtemp(prefix="zeroshot-")
        os.chdir(folder)
        try:
            yield
        finally:
            if os.listdir(folder):  # noqa: PTH208
                note(f"warning: the working directory was deleted; what was named without a folder is in {folder}")
            else:
                with suppress(OSError):
                    os.rmdir(folder)  # noqa: PTH106
    else:
        yield


def _never_fail_to_print() -> None:
    """Escape what a stream cannot encode: a label in another script must not end the run."""
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="backslashreplace")


def _settle(code: int) -> int:
    """Flush standard output; if its reader is gone, keep Python from complaining as it exits."""
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
