"""What the journal gives back equals what it was given."""

import math
import os
from dataclasses import replace
from pathlib import Path

import pytest

from zeroshot_cli.errors import UsageError
from zeroshot_cli.records import LabelScore, Prediction, Result, SkippedImage
from zeroshot_cli.results.append_file import AppendFile
from zeroshot_cli.results.formats import journal_line, journal_lines, parse_line
from zeroshot_cli.results.outputs import read_journal

PATHS = [
    "plain.png",
    os.fsdecode(b"not utf-8 \xff\xfe.png"),
    "new\nline\r\n.png",
    '"quoted\\".png',
    "\u2028猫🐈\x00.png",
    "\ud83d\udc08 two surrogates, not a cat",
    "",
]
NUMBERS = [0.1 + 0.2, 1 / 3, 5e-324, -0.0, 1.0, 0.30000001192092896, math.inf]


def results() -> list[Result]:
    labels = tuple(LabelScore(path, number, 1 - number) for path, number in zip(PATHS, NUMBERS, strict=True))
    predictions = [Prediction(path, labels[:2], 1 / 7, others=labels[2:]) for path in PATHS]
    rejected = replace(predictions[0], rejected=True, margin=None, others=())
    return [*predictions, rejected, *(SkippedImage(path, f"damaged {path}") for path in PATHS)]


def test_every_result_comes_back_exactly(tmp_path: Path) -> None:
    given = results()
    journal = AppendFile(tmp_path / "out.run.jsonl")
    journal.append(journal_lines(given[:3]))
    assert list(read_journal(journal)) == given[:3]
    journal.append(journal_lines(given[3:]))
    assert list(read_journal(journal)) == given
    first, second = read_journal(journal), read_journal(journal)
    assert [next(first), next(second), next(first)] == [given[0], given[0], given[1]]
    journal.close()
    again = AppendFile(tmp_path / "out.run.jsonl")
    read = list(read_journal(again))
    again.close()
    assert read == given
    assert repr(read) == repr(given)  # -0.0 equals 0.0, and 1 equals 1.0
    assert (tmp_path / "out.run.jsonl").read_bytes().count(b"\n") == len(given)


def test_every_torn_line_is_refused() -> None:
    for item in results():
        line = journal_line(item)
        for cut in range(len(line) - 1):
            with pytest.raises(ValueError):  # noqa: PT011
                parse_line(line[:cut])


@pytest.mark.parametrize("line", [b"[]\n", b"{}\n", b"null\n", b'{"path":"a","predictions":[[1]]}\n', b"\0\0\n"])
def test_a_damaged_line_is_named(tmp_path: Path, line: bytes) -> None:
    path = tmp_path / "out.run.jsonl"
    path.write_bytes(journal_line(SkippedImage("a", "b")) + line)
    journal = AppendFile(path)
    with pytest.raises(UsageError, match=r"out\.run\.jsonl, line 2: damaged; add --overwrite"):
        list(read_journal(journal))
    journal.close()
