"""Blocks that are whole or not there, files that vanish, files that another run holds."""

import errno
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

from zeroshot_cli.errors import UsageError
from zeroshot_cli.results.append_file import AppendFile, is_special


class BrokenStream:
    """A stream that takes some bytes and then fails."""

    def __init__(self, stream: Any, takes: int, failure: BaseException) -> None:
        self.stream = stream
        self.takes = takes
        self.failure = failure

    def write(self, data: memoryview) -> int:
        if not self.takes:
            raise self.failure
        taken, self.takes = self.takes, 0
        return int(self.stream.write(data[:taken]))

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


def test_a_block_that_does_not_fit_is_taken_back_and_the_next_one_can_follow(
    tmp_path: Path, file_size_limit: Callable[[int], AbstractContextManager[None]]
) -> None:
    file = AppendFile(tmp_path / "out.csv")
    file.append(b"whole\n")
    with (
        file_size_limit(10),
        pytest.raises(UsageError, match=r"out\.csv: File too large; what was written is valid, and --resume continues"),
    ):
        file.append(b"too much of it\n")
    assert file.path.read_bytes() == b"whole\n"
    file.append(b"next\n")
    file.close()
    assert file.path.read_bytes() == b"whole\nnext\n"


@pytest.mark.parametrize(
    ("code", "hint"), [(errno.ENOSPC, True), (errno.EIO, True), (errno.EDQUOT, True), (errno.EPERM, False)]
)
def test_failures_name_the_file_the_reason_and_the_way_out(tmp_path: Path, code: int, hint: bool) -> None:
    file = AppendFile(tmp_path / "out.csv")
    file.append(b"whole\n")
    file._stream = BrokenStream(file._stream, 3, OSError(code, os.strerror(code)))  # type: ignore[assignment]
    with pytest.raises(UsageError, match=os.strerror(code)) as caught:
        file.append(b"torn\n")
    assert ("--resume" in str(caught.value)) == hint
    assert file.path.read_bytes() == b"whole\n"
    file.close()


def test_an_interrupt_within_a_block_takes_it_back(tmp_path: Path) -> None:
    file = AppendFile(tmp_path / "out.csv")
    file.append(b"whole\n")
    file._stream = BrokenStream(file._stream, 3, KeyboardInterrupt())  # type: ignore[assignment]
    with pytest.raises(KeyboardInterrupt):
        file.append(b"torn\n")
    file.close()
    assert file.path.read_bytes() == b"whole\n"


def remove(folder: Path) -> None:
    shutil.rmtree(folder)


def rename(folder: Path) -> None:
    folder.rename(folder.with_name("elsewhere"))


def replace_by_another(folder: Path) -> None:
    rename(folder)
    folder.mkdir()
    (folder / "out.csv").touch()


def replace_by_a_file(folder: Path) -> None:
    rename(folder)
    folder.touch()


@pytest.mark.parametrize("lose", [remove, rename, replace_by_another, replace_by_a_file])
def test_a_folder_that_vanishes_is_noticed(tmp_path: Path, lose: Any) -> None:
    (tmp_path / "results").mkdir()
    file = AppendFile(tmp_path / "results" / "out.csv")
    file.append(b"one\n")
    lose(tmp_path / "results")
    with pytest.raises(UsageError, match=r"out\.csv is gone: it or its folder was removed or replaced during the run"):
        file.append(b"two\n")
    file.close()


def test_it_goes_on_at_the_end_or_where_it_is_cut(tmp_path: Path) -> None:
    path = tmp_path / "out.csv"
    path.write_bytes(b"one\ntwo\n")
    file = AppendFile(path)
    file.append(b"three\n")
    file.truncate(4)
    file.append(b"four\n")
    with file.reader() as first, file.reader() as second:
        assert first.readline() == b"one\n"
        file.append(b"five\n")
        assert second.read() == b"one\nfour\nfive\n"
        assert first.read() == b"four\nfive\n"
    file.append(b"six\n")
    file.close()
    assert path.read_bytes() == b"one\nfour\nfive\nsix\n"


def test_only_what_was_made_here_is_discarded(tmp_path: Path) -> None:
    (tmp_path / "old").touch()
    for name in ("old", "new"):
        AppendFile(tmp_path / name).discard()
    assert [path.name for path in tmp_path.iterdir()] == ["old"]
    with pytest.raises(UsageError, match="old: File exists"):
        AppendFile(tmp_path / "old", exclusive=True)


def test_a_device_takes_blocks_and_nothing_else_is_asked_of_it() -> None:
    null = Path("/dev/null")
    assert is_special(null)
    file = AppendFile(null)
    file.lock()
    file.append(b"one\n")
    file.truncate(0)
    file.close()


def test_a_pipe_that_closes_stays_a_broken_pipe(tmp_path: Path) -> None:
    path = tmp_path / "out.csv"
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    file = AppendFile(path)
    file.append(b"one\n")
    assert os.read(reader, 10) == b"one\n"
    os.close(reader)
    with pytest.raises(BrokenPipeError):
        file.append(b"two\n")
    file.close()


HOLD = """
import sys
from pathlib import Path
from zeroshot_cli.results.append_file import AppendFile
file = AppendFile(Path(sys.argv[1]))
file.lock()
with file.reader() as stream:
    stream.read()
print("held", flush=True)
sys.stdin.read()
"""


def test_a_file_belongs_to_one_run_until_that_ends(tmp_path: Path) -> None:
    path = tmp_path / "out.csv"
    path.write_bytes(b"one\n")
    command = [sys.executable, "-c", HOLD, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        file = AppendFile(path)
        with pytest.raises(UsageError, match=r"another run is writing .*out\.csv"):
            file.lock()
        holder.kill()
    file.lock()
    file.append(b"two\n")
    file.close()
    assert path.read_bytes() == b"one\ntwo\n"
