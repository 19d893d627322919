"""What a command does before its work: what it imports, what it says, how threads wait, how soon a hub is given up."""

import json
import os
import socket
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from zeroshot_cli.console.terminal import note, passing_note

HEAVY = {"torch", "open_clip", "torchvision", "timm", "numpy", "PIL", "safetensors", "asyncio"}
HEAVY |= {"httpx", "httpx2", "huggingface_hub.errors", "huggingface_hub.file_download"}


def imported(arguments: list[str], **changes: str) -> set[str]:
    """Return the modules that a command line has imported in a new process."""
    code = f"""
    import json, os, sys
    from zeroshot_cli.cli.app import run
    assert run({arguments!r}) == 0
    print("\\n" + json.dumps([*sys.modules]))
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, **changes},
    )
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stdout.splitlines()[-1]))


@pytest.mark.parametrize("arguments", [["--help"], ["prompts", "list"], ["models", "list"], ["--version"]])
def test_what_only_prints_imports_nothing_that_computes_or_connects(arguments: list[str], tmp_path: Path) -> None:
    found = imported(arguments, HF_HOME=str(tmp_path))
    assert not HEAVY & found
    assert ("yaml" in found) is (arguments == ["prompts", "list"])


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ({}, {"OMP_WAIT_POLICY": "passive"}),
        ({"OMP_WAIT_POLICY": "active"}, {"OMP_WAIT_POLICY": "active"}),
        ({"GOMP_SPINCOUNT": "9"}, {"GOMP_SPINCOUNT": "9"}),
        ({"KMP_BLOCKTIME": "9"}, {"KMP_BLOCKTIME": "9"}),
    ],
)
def test_threads_sleep_while_they_wait_unless_the_user_says_how(given: dict[str, str], kept: dict[str, str]) -> None:
    program = """
    import os, sys, types

    def main():
        assert "torch" not in sys.modules
        print({name: value for name, value in os.environ.items() if name.startswith(("OMP_W", "GOMP_", "KMP_"))})

    sys.modules["zeroshot_cli.cli.app"] = types.SimpleNamespace(main=main)
    from zeroshot_cli.__main__ import command

    command()
    """
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("OMP_", "GOMP_", "KMP_"))}
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)],
        capture_output=True,
        text=True,
        timeout=60,
        env={**environment, **given},
    )
    assert (done.stdout, done.stderr) == (f"{kept}\n", "")


def test_a_passing_note_makes_room_for_the_next_one(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    with passing_note("loading x …", quiet=False):
        pass
    assert capsys.readouterr().err == "loading x …\r\x1b[K"
    with passing_note("loading x …", quiet=False):
        note("warning: y")
        note("z")
    assert capsys.readouterr().err == "loading x …\r\x1b[Kwarning: y\nz\n"
    with passing_note("loading x …", quiet=True):
        note("z", quiet=True)
    assert capsys.readouterr().err == ""


def test_without_a_terminal_there_is_no_passing_note(capsys: pytest.CaptureFixture[str]) -> None:
    with passing_note("loading x …", quiet=False):
        note("z")
    assert capsys.readouterr().err == "z\n"


def test_what_is_loaded_is_said_before_torch_is_imported(tmp_path: Path) -> None:
    code = """
    import sys
    from zeroshot_cli.cli.app import run

    sys.stderr.isatty = lambda: True
    sys.modules["torch"] = None  # as if it were not installed: importing it fails
    run(["classify", sys.argv[1], "--label", "a"])
    """
    (tmp_path / "a.png").write_bytes(b"")
    command = [sys.executable, "-c", textwrap.dedent(code), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, timeout=60, check=False)
    first, second = done.stderr.decode().split("\n")[:2]
    assert first.startswith("small, the model in the package, answers")
    assert second.startswith("loading small …\r\x1b[Kerror: ")


@pytest.mark.parametrize("model", ["ViT-B-32", "hf-hub:org/repo"])
def test_a_hub_out_of_reach_is_given_up_before_torch_is_imported(model: str, tmp_path: Path) -> None:
    """With a resolver that takes a minute, and with a port that refuses; the host and the way out are named."""
    code = """
    import socket, sys, time
    from zeroshot_cli.cli.app import run

    ask, begun = socket.getaddrinfo, time.monotonic()
    slow = lambda host, *given, **more: time.sleep(60) if host == "hub.invalid" else ask(host, *given, **more)
    socket.getaddrinfo = slow
    sys.modules["torch"] = None
    code = run(["classify", sys.argv[1], "--label", "a", "--model", sys.argv[2]])
    print(code, time.monotonic() - begun)
    """
    with socket.create_server(("127.0.0.1", 0)) as listener:
        closed = f"127.0.0.1:{listener.getsockname()[1]}"
    (tmp_path / "a.png").write_bytes(b"")
    command = [sys.executable, "-c", textwrap.dedent(code), str(tmp_path), model]
    kept = {key: value for key, value in os.environ.items() if not key.lower().endswith("_proxy")}
    for host, reason in (("hub.invalid", "hub.invalid is not resolved within 3 s"), (closed, "refused")):
        changed = {"HF_ENDPOINT": f"http://{host}", "HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "0"}
        done = subprocess.run(command, capture_output=True, text=True, timeout=50, env={**kept, **changed}, check=False)
        (line,) = done.stderr.splitlines()
        assert line.startswith("error: cannot download ")
        assert all(part in line for part in (f"http://{host}", reason, "--to DIR", "--model small needs no network"))
        code, seconds = done.stdout.split()
        assert code == "5"
        assert float(seconds) < 30  # of three, on a machine that has much else to do, and not sixty
