"""The record of a run, kept beside its first output: what `--resume` compares, and how far the run came."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from zeroshot_cli.errors import UsageError
from zeroshot_cli.results.deliver import Counts
from zeroshot_cli.results.files import replacing, writing

SHOWN = 60  # characters of a value in a message


@dataclass(frozen=True, slots=True)
class RunRecord:
    """What a run was asked for, and how far it came.

    `settings` are compared by --resume; `resolved` is what `auto` came to, for a resumed run to take over. `complete`
    says that every result is written, `to_make` which reports are still to be made from the journal.
    """

    started: str
    settings: Mapping[str, Any]
    resolved: Mapping[str, Any] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    complete: bool = False
    counts: Counts | None = None
    to_make: tuple[str, ...] = ()


def write_record(path: Path, record: RunRecord) -> None:
    """Write the record as JSON for people too; a run that is killed leaves the old one or the new one."""
    text = json.dumps(asdict(record), indent=2, ensure_ascii=False) + "\n"
    with replacing(path, resumable=True) as unfinished, writing(str(path), resumable=True):
        unfinished.write_bytes(text.encode("utf-8", "backslashreplace"))


def read_record(path: Path) -> RunRecord | None:
    """Return the record, None where there is no file; UsageError where the file is none of ours."""
    try:
        fields = json.loads(path.read_bytes())
        if not isinstance(fields["settings"], dict) or not isinstance(fields["resolved"], dict):
            raise TypeError("settings and resolved are mappings")
        counts = fields.pop("counts")
        to_make = tuple(fields.pop("to_make"))
        return RunRecord(**fields, to_make=to_make, counts=None if counts is None else Counts(**counts))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}; --resume needs it, --overwrite begins anew") from error
    except (ValueError, TypeError, KeyError, AttributeError):
        raise UsageError(f"{path} is not the record of a run; add --overwrite in place of --resume") from None


def as_plain(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings as they come back from a record: tuples are lists, and what JSON has not is text."""
    plain: dict[str, Any] = json.loads(json.dumps(settings, default=str))
    return plain


def first_difference(before: Mapping[str, Any], now: Mapping[str, Any], where: str) -> str | None:
    """Return a phrase for the first setting that differs from that of the run that wrote `where`, None for none."""
    old, new = _flat(before), _flat(now)
    for name in [*new, *(name for name in old if name not in new)]:
        if old.get(name) != new.get(name):
            name, was, is_now = _narrowed(name, old.get(name), new.get(name))
            return f"{name} was {_brief(was)} in the run that wrote {where} and is {_brief(is_now)} now"
    return None


def _flat(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return mappings within mappings as one, with names as `thresholds.min_score`."""
    flat: dict[str, Any] = {}
    for name, value in settings.items():
        flat.update(_flat(value, f"{prefix}{name}.") if isinstance(value, Mapping) else {f"{prefix}{name}": value})
    return flat


def _narrowed(name: str, was: Any, is_now: Any) -> tuple[str, Any, Any]:
    """Return a difference between long lists as one of their lengths, or of their first entries that differ."""
    lists = isinstance(was, list) and isinstance(is_now, list)
    if not lists or max(len(_json(was)), len(_json(is_now))) <= SHOWN:
        return name, was, is_now
    if len(was) != len(is_now):
        return f"the number of {name}", len(was), len(is_now)
    index = next(index for index, (old, new) in enumerate(zip(was, is_now, strict=True)) if old != new)
    return f"{name}, entry {index + 1},", was[index], is_now[index]


def _brief(value: Any) -> str:
    if value is None:
        return "not set"
    text = value if isinstance(value, str) and value else _json(value)
    return text if len(text) <= SHOWN else f"{text[: SHOWN - 1]}…"


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
