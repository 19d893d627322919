"""The command where something is missing around it: a home, a working directory, room for messages, memory."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

IMAGE = Path(__file__).parents[2] / "examples" / "images" / "apple.jpg"
COMMAND = ["classify", str(IMAGE), "--model", "tiny", "--precision", "fp32", "--label", "apple", "--label", "pear"]
RUN = "from zeroshot_cli.cli.app import main; main()"
NO_ENTRY = "import pwd\ndef none(*_): raise KeyError\npwd.getpwuid = pwd.getpwnam = none\n"

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="POSIX only")


def run(*arguments: str, code: str = RUN, shell: str = 'exec "$@"', **changes: str) -> subprocess.CompletedProcess[str]:
    """Run the command in a shell's surroundings; an empty value takes a variable away."""
    environment = {name: value for name, value in (os.environ | changes).items() if value}
    command = ["sh", "-c", shell, "sh", sys.executable, "-P", "-c", code, *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True)


def assert_answers(done: subprocess.CompletedProcess[str]) -> None:
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[1].startswith(f"{IMAGE},1,apple,")


@pytest.mark.slow
@pytest.mark.parametrize("cache", ["--cache", "--no-cache"])
def test_neither_home_nor_an_entry_of_the_user(cache: str, tmp_path: Path) -> None:
    gone = {"HOME": "", "ZEROSHOT_CACHE_DIR": "", "XDG_CACHE_HOME": "", "TMPDIR": str(tmp_path)}
    assert_answers(run(*COMMAND, cache, code=NO_ENTRY + RUN, **gone))
    made = [path for path in tmp_path.rglob("*") if path.name == "images.sqlite"]
    assert len(made) == (cache == "--cache")


@pytest.mark.slow
def test_a_cache_folder_of_nobody() -> None:
    done = run(*COMMAND, ZEROSHOT_CACHE_DIR="~nouser/x")
    assert done.returncode == 2
    assert done.stderr == "error: ZEROSHOT_CACHE_DIR=~nouser/x: there is no such home folder; write the whole path\n"
    done = run("eval", "~nouser/x", "--model", "tiny")
    assert done.returncode == 2


@pytest.mark.slow
def test_a_working_directory_that_was_deleted(tmp_path: Path) -> None:
    inside = f'mkdir {tmp_path}/gone; cd {tmp_path}/gone; rmdir {tmp_path}/gone; exec "$@"'
    assert_answers(run(*COMMAND, shell=inside))
    done = run("classify", "photo.jpg", *COMMAND[2:], shell=inside)
    assert done.returncode == 2
    assert "photo.jpg: no such file" in done.stderr
    done = run(*COMMAND, "--output", "out.csv", shell=inside)
    assert done.returncode == 0
    folder = Path(done.stderr.strip().splitlines()[-1].rpartition(" ")[2])
    assert "the working directory was deleted" in done.stderr
    assert (folder / "out.csv").read_text().count("apple") == 2
    for path in folder.iterdir():
        path.unlink()
    folder.rmdir()


@pytest.mark.slow
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="Linux only")
def test_messages_on_a_full_disk_cost_no_result() -> None:
    assert_answers(run(*COMMAND, "--verbose", shell='exec "$@" 2>/dev/full'))
    assert run("classify", "gone.jpg", *COMMAND[2:], shell='exec "$@" 2>/dev/full').returncode == 2
    assert run("classify", "--nonsense", shell='exec "$@" 2>/dev/full').returncode == 2


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="Linux only")
def test_a_limit_of_memory_is_not_called_a_bug() -> None:
    done = run(*COMMAND, shell='ulimit -v 700000; exec "$@"')
    assert done.returncode == 2
    assert "memory ran out" in done.stderr
    assert "bug" not in done.stderr
