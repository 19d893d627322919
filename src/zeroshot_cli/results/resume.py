"""Where a killed run learns what is done: the images that are whole in all of its files.

A file may end anywhere: in a line, in a character, between the ranks of an image. What is not certainly whole is cut
off and written again.
"""

import csv
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import Any, BinaryIO

from zeroshot_cli.documents import load_json
from zeroshot_cli.errors import UsageError
from zeroshot_cli.records import UNKNOWN, Counts
from zeroshot_cli.results.append_file import AppendFile
from zeroshot_cli.results.formats import (
    COLUMNS,
    DELIMITERS,
    GROUP,
    NOTE,
    Format,
    csv_records,
    header_of,
    is_torn,
    no_formula,
    parse_line,
    rows_in,
    to_bytes,
)
from zeroshot_cli.results.summary import Outcome, Tally, labels_of, outcome_of

MAX_RECORD = 1 << 24  # bytes of a CSV record


@dataclass(frozen=True, slots=True)
class Item:
    """An image that is whole in a file: its path, where its bytes end, its outcome and labels."""

    path: bytes
    end: int
    outcome: Outcome
    labels: tuple[str, ...] = ()


Scanner = Callable[[BinaryIO, str], Iterator[Item]]  # takes a file's bytes and its name


def keep_whole(
    files: Sequence[tuple[AppendFile, Scanner]], expected: Iterable[str], tally: Tally | None = None
) -> Counts:
    """Cut all files to the images that are whole in each of them; return their counts, taken from the last file.

    Their labels are added to the `tally`. With no image left, a file is empty. Raises UsageError, and cuts nothing, if
    the images are not the first of the `expected` paths.
    """
    ends = [0] * len(files)
    outcomes = dict.fromkeys(Outcome, 0)
    paths = iter(expected)
    with ExitStack() as stack:
        scans = [scan(stack.enter_context(file.reader()), file.name) for file, scan in files]
        # Not strict: the shortest file says how many images are whole in all.
        for number, items in enumerate(zip(*scans, strict=False), start=1):
            path = next(paths, None)
            for (file, _), item in zip(files, items, strict=True):
                _check_path(file.name, number, item.path, path)
            ends = [item.end for item in items]
            outcomes[items[-1].outcome] += 1
            if tally is not None:
                tally.add(path or "", items[-1].labels, items[-1].outcome)
    for (file, _), end in zip(files, ends, strict=True):
        file.truncate(end)
    labelled, unknown = outcomes[Outcome.LABELLED], outcomes[Outcome.UNKNOWN]
    return Counts(classified=labelled + unknown, unreadable=outcomes[Outcome.UNREADABLE], unknown=unknown)


def scanner_of(form: Format, *, complete: bool = False) -> Scanner:
    """Return the function that finds the whole images in a file of results, which a finished run left `complete`."""
    return _json_items if form is Format.JSONL else partial(_delimited_items, form, complete)


def journal_items(stream: BinaryIO, _name: str) -> Iterator[Item]:
    """Yield the images of a journal."""
    for line, end in _whole_lines(stream):
        try:
            result = parse_line(line)
        except ValueError:
            return
        yield Item(to_bytes(result.path), end, outcome_of(result), labels_of(result))


def _check_path(name: str, number: int, path: bytes, expected: str | None) -> None:
    if expected is not None and path in (to_bytes(expected), to_bytes(no_formula(expected))):
        return
    now = "no more images" if expected is None else repr(expected)
    raise UsageError(
        f"--resume: image {number} in {name} is {os.fsdecode(path)!r}, but the inputs now give {now}; "
        "give the same inputs, or --overwrite"
    )


def _json_items(stream: BinaryIO, name: str) -> Iterator[Item]:
    start = 0
    for line, end in _whole_lines(stream):
        try:
            fields = load_json(line)
            path, kind = to_bytes(fields["path"]), _outcome_in(fields)
        except (ValueError, TypeError, KeyError, AttributeError):  # zeros, after a power cut
            if not start:
                raise _not_ours(name) from None
            return
        yield Item(path, end, *kind)
        start = end


def _outcome_in(fields: dict[str, Any]) -> tuple[Outcome, tuple[str, ...]]:
    """Return what became of the image of a JSON object, and its labels."""
    if "error" in fields:
        return Outcome.UNREADABLE, ()
    if "nearest" in fields:
        return Outcome.UNKNOWN, (UNKNOWN,)
    return Outcome.LABELLED, tuple(str(each["label"]) for each in fields["predictions"])


def _not_ours(name: str) -> UsageError:
    return UsageError(f"--resume: {name} was not written by zeroshot; name another file, or --overwrite")


def _delimited_items(form: Format, complete: bool, stream: BinaryIO, name: str) -> Iterator[Item]:
    """Yield the images of a CSV or TSV file; the last may lack ranks, so it is whole only when another follows.

    That of a `complete` file has them all.
    """
    begin = stream.readline()
    kinds = [(more, marked) for more in ((), (NOTE,), (GROUP,), (NOTE, GROUP)) for marked in (False, True)]
    headers = [header_of(form, more, marked=marked) for more, marked in kinds]
    header = next((each for each in headers if each.startswith(begin)), None)
    if header is None:
        raise _not_ours(name)
    columns = len(COLUMNS) + len(kinds[headers.index(header)][0])
    last: Item | None = None
    end = len(header)
    for record in csv_records(stream, longest=MAX_RECORD):
        fields = None if is_torn(record) else _fields(record, DELIMITERS[form], columns)
        if fields is None:
            return
        end += len(record)
        path, rank, label, *_ = fields
        if last is not None and path == last.path:
            last = Item(path, end, last.outcome, (*last.labels, _text(label)))
            continue
        if last is not None:
            yield last
        outcome = Outcome.UNREADABLE if not rank else Outcome.UNKNOWN if label == UNKNOWN.encode() else Outcome.LABELLED
        last = Item(path, end, outcome, (_text(label),) * bool(rank))
    if complete and last is not None:
        yield last


def _text(field: bytes) -> str:
    return field.decode("utf-8", "surrogateescape")


def _fields(record: bytes, delimiter: str, columns: int) -> list[bytes] | None:
    """Return the fields of a record, None if it is damaged."""
    try:
        rows = rows_in(record.decode("latin-1"), delimiter)  # keeps any bytes
    except csv.Error:
        return None
    if len(rows) != 1 or len(rows[0]) != columns:
        return None
    return [field.encode("latin-1") for field in rows[0]]


def _whole_lines(stream: BinaryIO) -> Iterator[tuple[bytes, int]]:
    end = 0
    for line in stream:
        end += len(line)
        if line.endswith(b"\n"):
            yield line, end
