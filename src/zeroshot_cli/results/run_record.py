"""The record of a run, kept beside its first output: what `--resume` compares, and how far the run came."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO

from zeroshot_cli.disk import open_plain, write_file
from zeroshot_cli.documents import load_json
from zeroshot_cli.errors import UsageError
from zeroshot_cli.records import Counts

SHOWN = 60  # characters of a value in a message
_INPUTS = ("shard_images", "shard_paths", "all_images", "all_paths")  # what a shard says of its images
_NAMES = ("model", "pretrained")


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


@dataclass(frozen=True, slots=True)
class RunRecord:
    """What a run was asked for, and how far it came.

    `--resume` compares `settings`; `resolved` is what `auto` came to, for a resumed run to take over. `complete` says
    that every result is written, `to_make` which reports are still to be made from the journal. `assumed` is what was
    assumed when inputs were read.
    """

    started: str = field(default_factory=_now)
    settings: Mapping[str, Any] = field(default_factory=dict)
    resolved: Mapping[str, Any] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    complete: bool = False
    counts: Counts | None = None
    to_make: tuple[str, ...] = ()
    assumed: tuple[str, ...] = ()

    def has_done(self, images: int) -> bool:
        """Return whether a run over so many images on a CPU would find all done; a GPU's settings only its node has."""
        known = self.counts is not None and images in (0, self.counts.images)  # 0: they were moved since
        return self.complete and known and self.settings.get("device") == "cpu"


def write_record(path: Path, record: RunRecord) -> None:
    """Write the record as indented JSON; a killed run leaves the old one or the new one."""
    text = json.dumps(asdict(record), indent=2, ensure_ascii=False) + "\n"
    write_file(path, text.encode("utf-8", "backslashreplace"), resumable=True, own=True)


def read_record(path: Path) -> RunRecord | None:
    """Return the record, None if there is no file; UsageError if the file is not a record."""
    try:
        with open_plain(path) as file:
            fields = load_json(file.read())
        _check_types(fields)
        counts = fields.pop("counts")
        if counts is not None:
            counts.pop("ignored", None)  # of records before 0.2
        to_make, assumed = tuple(fields.pop("to_make")), tuple(map(str, fields.pop("assumed", ())))
        counts = None if counts is None else Counts(**counts)
        return RunRecord(**fields, to_make=to_make, assumed=assumed, counts=counts)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}; --resume needs it, --overwrite starts over") from error
    except (ValueError, TypeError, KeyError, AttributeError):
        raise UsageError(
            f"{path} is not the record of a run; rename it, and use --overwrite instead of --resume"
        ) from None


def _check_types(fields: dict[str, Any]) -> None:
    """Raise TypeError or KeyError where a record from outside has other types than ours."""
    kinds: dict[str, type | tuple[type, ...]] = {"settings": dict, "resolved": dict, "complete": bool, "to_make": list}
    kinds |= {"started": str, "versions": dict, "counts": (dict, type(None))}
    wrong = [name for name, kind in kinds.items() if not isinstance(fields[name], kind)]
    size, counts = fields["resolved"].get("batch_size", 1), (fields["counts"] or {}).values()
    if wrong or type(size) is not int or size < 1 or any(type(count) is not int or count < 0 for count in counts):
        raise TypeError(f"{wrong or 'a number'} is of another type")
    if not all(isinstance(name, str) for name in fields["to_make"]):
        raise TypeError("to_make is not of names")


def is_record(file: BinaryIO) -> bool:
    """Return whether an open file may be overwritten as a record: it is one, or empty, or zeros after a power cut."""
    content = file.read()
    try:
        return not content.strip(b"\0") or "settings" in load_json(content)
    except (ValueError, TypeError, RecursionError):
        return False


def as_plain(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings as they come back from a record: tuples as lists, and what JSON lacks as text."""
    plain: dict[str, Any] = json.loads(json.dumps(settings, default=str))
    return plain


def first_difference(before: Mapping[str, Any], now: Mapping[str, Any], where: str) -> str | None:
    """Return a phrase for the first setting that differs from the run that wrote `where`, None if none does."""
    found = difference(before, now)
    return found and f"{found[0]} was {found[1]} in the run that wrote {where} and is {found[2]} now"


def check_resumable(before: Mapping[str, Any], now: Mapping[str, Any], where: str) -> None:
    """Raise UsageError unless the settings equal those of the run that wrote `where`."""
    found = difference(before, now)
    if found is None:
        return
    if found[0] not in _INPUTS:
        raise UsageError(f"--resume: {first_difference(before, now, where)}; give the same options, or --overwrite")
    was, is_now = (settings.get("all_images") for settings in (before, now))
    changed = "renamed or exchanged" if was == is_now else "added or removed"
    numbers = f" ({was} images)" if was == is_now else f" ({was} images then, {is_now} now)"
    again = "start" if now.get("shard") == "1/1" else "start all shards"
    raise UsageError(
        f"--resume: images were {changed} since the run that wrote {where}{numbers}; {again} again with --overwrite"
    )


def difference(before: Mapping[str, Any], now: Mapping[str, Any]) -> tuple[str, str, str] | None:
    """Return the name of the first setting that differs, and what it is in each, None if none does.

    The same weights may have another name: 0.2.0 recorded what the user typed.
    """
    old, new = _flat(before), _flat(now)
    same = "weights" in old and old["weights"] == new.get("weights")
    for name in dict.fromkeys([*new, *old]):
        if old.get(name) != new.get(name) and not (same and name in _NAMES):
            name, was, is_now = _narrowed(name, old.get(name), new.get(name))
            return name, _brief(was), _brief(is_now)
    return None


def _flat(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested mappings as one, with names such as `thresholds.min_score`."""
    flat: dict[str, Any] = {}
    for name, value in settings.items():
        flat.update(_flat(value, f"{prefix}{name}.") if isinstance(value, Mapping) else {f"{prefix}{name}": value})
    return flat


def _narrowed(name: str, was: Any, is_now: Any) -> tuple[str, Any, Any]:
    """Narrow a difference between long lists down to their lengths, or to the first entries that differ."""
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
