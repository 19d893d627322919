"""A process that another one started ends with it, whatever it is at."""

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="asks /proc who is running")

# The parent starts the child, which writes its number when it is ready, and both sleep.
PARENT = "import os, subprocess, sys, time; subprocess.Popen([sys.executable, *sys.argv[1:], str(os.getpid())]); "
CHILD = """
import os, sys, time
from pathlib import Path
from zeroshot_cli.processes import end_with_parent
end_with_parent(int(sys.argv[2]), thread_lasts={lasts})
Path(sys.argv[1]).write_text(str(os.getpid()))
{work}
"""
IN_C = "import re; re.match('(a*)*b', 'a' * 60)"  # hours in one call that holds the lock of the interpreter


def is_running(number: int) -> bool:
    try:
        state = Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def started(file: Path, child: str) -> tuple["subprocess.Popen[bytes]", int]:
    parent = subprocess.Popen([sys.executable, "-c", PARENT + "time.sleep(60)", "-c", child, str(file)])
    end = time.monotonic() + 20
    while not (file.exists() and file.read_text()) and time.monotonic() < end:
        time.sleep(0.01)
    return parent, int(file.read_text())


@pytest.mark.parametrize(("lasts", "work"), [(False, "time.sleep(60)"), (True, "time.sleep(60)"), (True, IN_C)])
def test_it_ends_with_a_parent_that_is_killed(tmp_path: Path, lasts: bool, work: str) -> None:
    parent, child = started(tmp_path / "child", CHILD.format(lasts=lasts, work=work))
    try:
        assert is_running(child)
        parent.kill()
        parent.wait()
        end = time.monotonic() + 5
        while is_running(child) and time.monotonic() < end:
            time.sleep(0.02)
        assert not is_running(child)
    finally:
        with suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)


def test_it_ends_at_once_where_the_parent_is_gone_already(tmp_path: Path) -> None:
    ended = subprocess.run([sys.executable, "-c", CHILD.format(lasts=True, work=""), tmp_path / "x", "1"])
    assert ended.returncode == 1
    assert not (tmp_path / "x").exists()
