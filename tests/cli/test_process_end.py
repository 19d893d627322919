"""The process ends without Python's teardown, and loses nothing by it."""

import os
import subprocess
import sys
import uuid
from pathlib import Path
from typing import IO

import pytest

TORN_DOWN = "torn down"
PROGRAM = f"""
import os, sys, types

class Last:
    def __del__(self):
        self.write(2, b"{TORN_DOWN}")

def main():
    import atexit, tempfile, threading, time
    folder = tempfile.TemporaryDirectory()
    sys.folders = [folder]
    def last_words():
        print("folder", os.path.isdir(folder.name), folder.name)
        print("x" * 5_000_000)  # more than a pipe holds
    atexit.register(last_words)
    def slow():
        time.sleep(0.3)
        print("thread")
    threading.Thread(target=slow).start()
    threading.Thread(target=time.sleep, args=(100,), daemon=True).start()
    print("main")
    {{ending}}

Last.write = staticmethod(os.write)
sys.last = Last()
sys.modules["zeroshot_cli.cli.app"] = types.SimpleNamespace(main=main)
"""
COMMAND = "from zeroshot_cli.__main__ import command; command()"


def run(*arguments: str, stdout: int | IO[bytes] = subprocess.PIPE, **changes: str) -> subprocess.CompletedProcess[str]:
    streams = {"stdout": stdout, "stderr": subprocess.PIPE}
    return subprocess.run(
        [sys.executable, *arguments], **streams, text=True, timeout=100, env={**os.environ, **changes}
    )


@pytest.mark.parametrize("code", [0, 4, 130])
def test_all_is_done_and_written_before_the_end(code: int) -> None:
    done = run("-c", PROGRAM.format(ending=f"sys.exit({code})") + COMMAND)
    assert (done.returncode, done.stderr) == (code, "")
    first, second, third, fourth = done.stdout.splitlines()
    assert (first, second, fourth) == ("main", "thread", "x" * 5_000_000)
    _, existed, folder = third.split(" ", 2)
    assert (existed, Path(folder).exists()) == ("True", False)


def test_what_was_to_follow_at_exit_follows() -> None:
    earlier = "import atexit; atexit.register(lambda: print('earlier'));"
    done = run("-c", PROGRAM.format(ending="sys.exit(4)") + earlier + COMMAND)
    assert (done.returncode, done.stderr) == (4, TORN_DOWN)
    assert done.stdout.endswith("x\nearlier\n")


def test_an_unforeseen_error_is_shown() -> None:
    done = run("-c", PROGRAM.format(ending="raise TypeError('oops')") + COMMAND)
    assert done.returncode == 1
    assert done.stderr.endswith("TypeError: oops\n" + TORN_DOWN)


def test_what_cannot_be_written_python_reports() -> None:
    program = """
import sys, types
def main():
    import atexit
    atexit.register(sys.stdout.write, "late")
    sys.exit(0)
sys.modules["zeroshot_cli.cli.app"] = types.SimpleNamespace(main=main)
"""
    with Path("/dev/full").open("wb") as full:
        done = run("-c", program + COMMAND, stdout=full, PYTHONUNBUFFERED="")
    assert done.returncode == 120  # Python's own
    assert "No space left" in done.stderr


def test_a_profiler_prints_what_it_has() -> None:
    done = run("-m", "cProfile", "-m", "zeroshot_cli", "--version")
    assert done.stdout.startswith("zeroshot ")
    assert "function calls" in done.stdout


def test_a_real_command_leaves_no_process_and_no_open_database(tmp_path: Path) -> None:
    images = Path(__file__).parents[2] / "examples" / "images"
    mark = uuid.uuid4().hex
    command = ["classify", str(images), "--label", "apple", "--label", "cat", "--model", "tiny", "--workers", "2"]
    done = run("-m", "zeroshot_cli", *command, ZEROSHOT_CACHE_DIR=str(tmp_path), MARK=mark)
    assert (done.returncode, len(done.stdout.splitlines())) == (0, 1 + len(list(images.iterdir())))
    assert {path.name for path in tmp_path.iterdir()} == {"fingerprints.json", "images.sqlite", "texts.sqlite"}
    marked = [path for path in Path("/proc").glob("[0-9]*/environ") if mark.encode() in read(path)]
    assert marked == []


def read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:  # another user's, or just ended
        return b""


def test_ctrl_c_while_python_imports_the_command_line_prints_nothing() -> None:
    code = (
        "import sys\nfrom zeroshot_cli.__main__ import command\n"
        "class Interrupted:\n    def find_spec(self, name, *_):\n"
        "        if name == 'zeroshot_cli.cli.app':\n            raise KeyboardInterrupt\n"
        "sys.meta_path.insert(0, Interrupted())\ncommand()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")
