"""The entry point: first steps, help, errors and their exit codes."""

import errno
import os
import re
import shlex
import signal
import subprocess
import sys
import time
import warnings
from contextlib import suppress
from pathlib import Path

import pytest

from zeroshot_cli.cli import app as entry
from zeroshot_cli.errors import CheckpointError, DataError, UnavailableError, UsageError


def run_process(*arguments: str, **options: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "zeroshot_cli", *arguments], capture_output=True, text=True, timeout=60, **options
    )


def failing(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    def fail() -> None:
        raise error

    monkeypatch.setattr("zeroshot_cli.words.prompts.list_prompts", fail)


@pytest.fixture(autouse=True)
def plain_help(monkeypatch: pytest.MonkeyPatch) -> None:
    """Help without colours, which Typer turns on where GITHUB_ACTIONS is set."""
    monkeypatch.setenv("TERM", "dumb")


def test_alone_it_says_what_to_type_first(capsys: pytest.CaptureFixture[str]) -> None:
    assert entry.run([]) == 0
    captured = capsys.readouterr()
    assert "\n  zeroshot classify " in captured.out
    assert captured.err == ""


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    from zeroshot_cli import __version__

    assert entry.run(["--version"]) == 0
    assert capsys.readouterr().out == f"zeroshot {__version__}\n"


@pytest.mark.parametrize("help_option", ["--help", "-h"])
def test_help_lists_the_commands_but_not_the_alias(help_option: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert entry.run([help_option]) == 0
    out = capsys.readouterr().out
    assert all(command in out for command in ("classify", "train", "eval", "build", "models", "prompts", "doctor"))
    assert "evaluate" not in out


@pytest.mark.parametrize(
    ("command", "usage"),
    [
        ("", "[OPTIONS] COMMAND [ARGS]..."),
        ("classify", "[OPTIONS] IMAGES..."),
        ("embed", "[OPTIONS] [IMAGES]..."),
        ("eval", "[OPTIONS] [DATASET]..."),
        ("models show", "[OPTIONS] NAME[:TAG]|hf-hub:ORG/REPO|PATH [TAG]"),
        ("prompts lint", "[OPTIONS] FILE|NAME..."),
        ("train", "[OPTIONS]"),
        ("unsort", "[OPTIONS] MANIFEST"),
    ],
)
def test_help_shows_what_to_type_and_no_python_types(
    command: str, usage: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    assert entry.run([*command.split(), "--help"]) == 0
    out = capsys.readouterr().out
    assert f"Usage: zeroshot {command} {usage}".replace("  ", " ") in [line.strip() for line in out.splitlines()]
    assert re.findall(r"<[a-z]\S* ", out) == []


@pytest.mark.parametrize(
    ("arguments", "usage"),
    [
        (["help"], "Usage: zeroshot [OPTIONS]"),
        (["help", "classify"], "Usage: zeroshot classify "),
        (["help", "models", "list"], "Usage: zeroshot models list "),
    ],
)
def test_help_before_a_command_is_its_help(
    arguments: list[str], usage: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert entry.run(arguments) == 0
    assert usage in capsys.readouterr().out
    assert entry.run(["help", "frobnicate"]) == 2


def test_evaluate_is_eval(capsys: pytest.CaptureFixture[str]) -> None:
    assert entry.run(["eval", "--help"]) == 0
    first = capsys.readouterr().out
    assert entry.run(["evaluate", "--help"]) == 0
    assert capsys.readouterr().out.split() == first.replace("zeroshot eval ", "zeroshot evaluate ", 1).split()


@pytest.mark.parametrize("arguments", [["--help"], ["classify", "--help"], ["train", "--help"], ["eval", "--help"], []])
def test_help_imports_nothing_heavy(arguments: list[str]) -> None:
    heavy = "{'torch', 'open_clip', 'torchvision', 'timm', 'huggingface_hub', 'numpy', 'PIL', 'safetensors'}"
    code = (
        "import sys\nfrom zeroshot_cli.cli.app import run\n"
        f"code = run({arguments!r})\nassert code == 0, code\n"
        f"found = {heavy} & set(sys.modules)\nassert not found, found"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["clasify", "x"], ["'clasify'; did you mean classify?", "zeroshot --help"]),
        (["frobnicate"], ["'frobnicate'", "zeroshot --help"]),
        (["classify", "x", "--lables", "y"], ["--lables", "--labels", "zeroshot classify --help"]),
        (["classify", "x", "--top-k", "0"], ["--top-k", "'0'"]),
        (["classify", "x", "--top-k", "many"], ["--top-k", "'many'"]),
        (["classify", "x", "--format", "xml"], ["--format", "xml", "jsonl"]),
        (["classify", "x", "--device", "gpu"], ["--device", "'gpu'", "cuda:N"]),
        (["classify", "x", "--batch-size", "-3"], ["--batch-size", "'-3'", "auto"]),
        (["classify", "x", "--workers", "0"], ["--workers", "'0'"]),
        (["classify", "x", "--precision", "fp8"], ["--precision", "fp8", "bf16"]),
        (["classify"], ["IMAGES", "; for example: zeroshot classify photos/ --label cat", "zeroshot classify --help"]),
        (["classify", "x", "--label"], ["--label", "zeroshot classify --help"]),
        (["classify", "--model"], ["--model", "zeroshot classify --help"]),
        (["models", "list", "--format"], ["--format", "zeroshot models list --help"]),
    ],
)
def test_wrong_options_are_one_sentence_and_2(
    arguments: list[str], expected: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert entry.run(arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("error: ")
    assert captured.err.count("\n") == 1
    for part in expected:
        assert part in captured.err


def test_an_image_in_place_of_a_command_is_shown_the_way(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    image = tmp_path / "photo.jpg"
    image.touch()
    assert entry.run([str(image)]) == 2
    assert f"zeroshot classify {image} --label" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["-dash.png", "--dash.png", "-quick dash.png"])
def test_an_image_that_looks_like_an_option_is_shown_the_way(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert entry.run(["classify", name, "--label", "a"]) == 2
    assert "./" not in capsys.readouterr().err
    (tmp_path / name).touch()
    assert entry.run(["classify", name, "--label", "a"]) == 2
    assert f"; the file of that name is {shlex.quote('./' + name)}; " in capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "code"), [(UsageError, 2), (DataError, 3), (CheckpointError, 3), (UnavailableError, 5)]
)
def test_our_errors_are_one_sentence_and_their_code(
    error: type[Exception], code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    failing(monkeypatch, error("line 3 of [red]x\n.txt is wrong"))
    assert entry.run(["prompts", "list"]) == code
    assert capsys.readouterr().err == "error: line 3 of [red]x\\n.txt is wrong\n"


def test_a_file_that_the_machine_refuses_is_no_defect(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    failing(monkeypatch, PermissionError(errno.EACCES, "Permission denied", "locked/x.txt"))
    assert entry.run(["prompts", "list"]) == 2
    assert capsys.readouterr().err == "error: locked/x.txt: Permission denied; check the path and its permissions\n"
    assert entry.run(["x" * 300]) == 2
    assert "No such command" in capsys.readouterr().err


def test_a_defect_says_so_and_shows_its_traceback_only_on_demand(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    failing(monkeypatch, TypeError("oops"))
    assert entry.run(["prompts", "list"]) == 1
    err = capsys.readouterr().err
    assert "please report" in err
    assert "TypeError: oops" in err
    assert "Traceback" not in err
    assert entry.run(["prompts", "list", "--debug"]) == 1
    assert "Traceback" in capsys.readouterr().err
    monkeypatch.setenv("ZEROSHOT_DEBUG", "1")
    assert entry.run(["prompts", "list"]) == 1
    assert "Traceback" in capsys.readouterr().err


def test_an_interrupt_is_130(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    failing(monkeypatch, KeyboardInterrupt())
    assert entry.run(["prompts", "list"]) == 130
    assert capsys.readouterr().err == "interrupted\n"


def test_a_closed_pipe_is_no_error(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    failing(monkeypatch, BrokenPipeError(32, "Broken pipe"))
    assert entry.run(["prompts", "list"]) == 0
    assert capsys.readouterr().err == ""


def test_a_pipe_that_is_really_closed() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    try:
        done = subprocess.run(
            [sys.executable, "-m", "zeroshot_cli", "prompts", "list"], stdout=writer, stderr=subprocess.PIPE, timeout=60
        )
    finally:
        os.close(writer)
    assert (done.returncode, done.stderr) == (0, b"")


def test_a_full_disk_on_standard_output() -> None:
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            [sys.executable, "-m", "zeroshot_cli", "prompts", "list"], stdout=full, stderr=subprocess.PIPE, timeout=60
        )
    assert done.returncode == 2
    assert done.stderr.startswith(b"error: cannot write standard output: No space left")


def test_a_real_interrupt() -> None:
    command = [sys.executable, "-m", "zeroshot_cli", "classify", "-", "--label", "cat", "--label", "dog"]
    streams = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    with subprocess.Popen(command, **streams) as process:  # type: ignore[call-overload]
        process.stdin.write(b"a.jpg\n" * 50_000)  # more than a pipe holds: written when the command reads the paths
        time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        out, err = process.stdout.read(), process.stderr.read()
        with suppress(BrokenPipeError):
            process.stdin.close()
    assert (process.returncode, out, err) == (130, b"", b"interrupted\n")


def test_an_interrupt_when_all_is_said_prints_nothing() -> None:
    program = """
import atexit, os, signal, sys
from zeroshot_cli.cli.app import main
atexit.register(lambda: os.kill(os.getpid(), signal.SIGINT))
sys.argv = ["zeroshot", "--version"]
main()
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (-signal.SIGINT, "")
    assert done.stdout.startswith("zeroshot ")


def test_an_interrupt_after_the_last_word_exits_with_130(monkeypatch: pytest.MonkeyPatch) -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # as for a job that a shell has put in the background
    try:
        monkeypatch.setattr(entry, "run", lambda _: signal.default_int_handler(signal.SIGINT, None))
        with pytest.raises(SystemExit, match="130"):
            entry.main()
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


def test_warnings_are_one_line_and_quiet_hushes_them(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def warn() -> tuple[()]:
        warnings.warn("a text was cut", UserWarning, stacklevel=1)
        return ()

    monkeypatch.setattr("zeroshot_cli.words.prompts.list_prompts", warn)
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        assert entry.run(["prompts", "list"]) == 0
    assert capsys.readouterr().err == "warning: a text was cut\n"


def test_a_label_that_the_terminal_cannot_write_does_not_end_the_run() -> None:
    done = run_process("frobnicate-猫", env={**os.environ, "PYTHONIOENCODING": "ascii"})
    assert done.returncode == 2
    assert "frobnicate-\\u732b" in done.stderr


def test_models_and_prompts_are_listed_and_shown(capsys: pytest.CaptureFixture[str]) -> None:
    assert entry.run(["models"]) == 0
    assert "ViT-B-32\tlaion2b_s34b_b79k\t*\t" in capsys.readouterr().out
    assert entry.run(["models", "show", "RN50"]) == 0
    assert '"layers": [' in capsys.readouterr().out
    assert entry.run(["models", "show", "RN5"]) == 2
    assert "'RN5'" in capsys.readouterr().err
    assert entry.run(["prompts"]) == 0
    assert "\nplain\t1\t" in capsys.readouterr().out
    assert entry.run(["prompts", "show", "plain"]) == 0
    assert capsys.readouterr().out == "{}\n"


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-"])
def test_streams_that_the_shell_has_closed_are_no_defect(closed: str) -> None:
    command = f"{shlex.quote(sys.executable)} -m zeroshot_cli prompts show photo {closed}"
    ended = subprocess.run(command, shell=True, capture_output=True, text=True)
    assert ended.returncode == 0
    assert "Traceback" not in ended.stderr + ended.stdout
