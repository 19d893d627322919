"""An evaluation as a JSON file; CLI.md names its fields and holds them stable."""

# pathlib's questions raise OSError where a name is too long or a folder is locked; opening names the reason.
# ruff: noqa: PTH110, PTH112

import json
import os
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

from zeroshot_cli.errors import UsageError
from zeroshot_cli.records import EvalResult
from zeroshot_cli.report.files import writing


def check_json_target(path: Path, *, overwrite: bool) -> None:
    """Refuse, before any work, a file that cannot be the output: UsageError."""
    if path.suffix.lower() != ".json":
        raise UsageError(f"{path}: the output of eval is JSON; give a name that ends in .json")
    with writing(str(path)), suppress(FileNotFoundError, NotADirectoryError):
        os.lstat(path)  # a name too long, a locked folder
    if not os.path.isdir(path.parent):
        raise UsageError(f"{path}: its folder does not exist; make {path.parent} first")
    if os.path.isdir(path):
        raise UsageError(f"{path}: is a folder; give the name of a file")
    if os.path.exists(path) and not overwrite:
        raise UsageError(f"{path}: exists already; add --overwrite to replace it")


def write_eval_json(result: EvalResult, path: Path) -> None:
    """Write the result, so that `path` is at any time the old file, none, or the whole new one.

    Bytes of a path that are not UTF-8 become lone surrogates, escaped as JSON has them.
    """
    text = json.dumps(asdict(result), indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    unfinished = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        unfinished.write_bytes(text.encode("utf-8", errors="backslashreplace"))
        unfinished.replace(path)
    except OSError as error:
        with suppress(OSError):
            unfinished.unlink()
        raise UsageError(f"{path}: cannot be written ({error.strerror}); choose another place") from error
