"""An evaluation as a JSON file; CLI.md names its fields and holds them stable."""

import json
import os
from dataclasses import asdict
from pathlib import Path

from zeroshot_cli.errors import UsageError
from zeroshot_cli.records import EvalResult


def check_json_target(path: Path, *, overwrite: bool) -> None:
    """Refuse, before any work, a file that cannot be the output: UsageError."""
    if path.suffix.lower() != ".json":
        raise UsageError(f"{path}: the output of eval is JSON; give a name that ends in .json")
    if not path.parent.is_dir():
        raise UsageError(f"{path}: its folder does not exist; make {path.parent} first")
    if path.is_dir():
        raise UsageError(f"{path}: is a folder; give the name of a file")
    if path.exists() and not overwrite:
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
        unfinished.unlink(missing_ok=True)
        raise UsageError(f"{path}: cannot be written ({error.strerror}); choose another place") from error
