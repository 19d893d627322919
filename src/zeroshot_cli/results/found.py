"""Which record says how a file of results came about, and which results commands can read again.

A record lies beside the first output of its run, and names the others.
"""

# pathlib's questions raise OSError where a name is too long or a folder is locked.
# ruff: noqa: PTH113

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from zeroshot_cli.disk import read_notes
from zeroshot_cli.errors import UsageError
from zeroshot_cli.results.formats import Extension

RECORD = ".run.json"
READABLE = (Extension.CSV, Extension.TSV, Extension.JSONL, Extension.PARQUET)
_FOR_PEOPLE = (Extension.XLSX, Extension.HTML)


def record_beside(results: Path) -> Path | None:
    """Return the record of the run that wrote a file: its own, or one beside it that names it; None without one."""
    own = results.with_name(results.name + RECORD)
    return own if os.path.lexists(own) else records_in(results.parent).get(results.name)


def records_in(folder: Path) -> dict[str, Path]:
    """Return the records in a folder by the names of what their runs wrote there; of two runs the later counts."""
    runs = [(path, read_notes(path)) for path in sorted(folder.glob(f"*{RECORD}"))]
    runs.sort(key=lambda run: str(run[1].get("started")))
    return {output.name: path for path, notes in runs for output in _outputs(path, notes)}


def readable_results(path: Path) -> Path:
    """Return the file of results that is meant: of a record that of its run, otherwise `path` itself.

    Raises UsageError where its run has left none, or for a workbook or a page, with the results to give instead.
    """
    is_record = path.name.endswith(RECORD)
    if not os.path.isfile(path) or not (is_record or _kind(path) in _FOR_PEOPLE):
        return path
    record = path if is_record else record_beside(path)
    outputs = [] if record is None else _outputs(record, read_notes(record))
    found = next((each for each in outputs if _kind(each) in READABLE and each.is_file()), None)
    if is_record:
        if found is None:
            raise UsageError(f"{path}: the results of this run are not beside it; give their file")
        return found
    if found is not None:
        raise UsageError(f"{path} is for people to read; give {found}, which the same run wrote")
    again = path.with_suffix(f".{Extension.CSV}").name
    raise UsageError(
        f"{path} is for people to read; repeat the command that wrote it with --output {again}, and give that"
    )


def _outputs(record: Path, notes: Mapping[str, Any]) -> list[Path]:
    """Return the results that a run wrote into the folder of its record, which may have been moved since."""
    settings = notes.get("settings")
    names = settings.get("outputs") if isinstance(settings, dict) else None
    outputs = [Path(name) for name in names if isinstance(name, str)] if isinstance(names, list) else []
    first = record.name.removesuffix(RECORD)
    folder = next((each.parent for each in outputs if each.name == first), None)
    return [record.with_name(each.name) for each in outputs if folder in (None, each.parent) and each.name]


def _kind(path: Path) -> str:
    return path.suffix.lower().removeprefix(".")
