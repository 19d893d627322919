"""The model that answers where nobody names one: every command takes it, says so on a terminal, and names it."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from zeroshot_cli.cli import app

LINE = (
    "small, the model in the package, answers; --model ViT-B-32-256 gives far better answers (605 MB, downloaded once)"
)
COMMANDS = {
    "classify": ["classify", "{folder}", "--label", "red", "--label", "blue"],
    "embed": ["embed", "{folder}", "--output", "{folder}/../out.npz"],
    "build": ["build", "--label", "red", "--output", "{folder}/../out.safetensors"],
    "eval": ["eval", "{folder}", "--output", "{folder}/../out.json"],
    "lint": ["prompts", "lint", "{folder}/../labels.txt"],
}


@pytest.fixture(autouse=True)
def _nobody_names_one(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MODEL", "PRETRAINED", "PRECISION", "DEVICE", "OFFLINE"):
        monkeypatch.delenv(f"ZEROSHOT_{name}", raising=False)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for colour in ("red", "blue"):
        (tmp_path / "images" / colour).mkdir(parents=True)
        Image.new("RGB", (40, 40), colour).save(tmp_path / "images" / colour / "a.png")
    (tmp_path / "labels.txt").write_text("red\nblue\n")
    return tmp_path / "images"


def run(name: str, folder: Path, *more: str) -> int:
    return app.run([argument.format(folder=folder) for argument in COMMANDS[name]] + list(more))


@pytest.mark.parametrize("command", COMMANDS)
def test_on_a_terminal_one_line_names_the_next_step(
    command: str, folder: Path, hub: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(command, folder) == 0
    assert LINE not in capsys.readouterr().err  # in a pipe
    more = [] if command in ("classify", "lint") else ["--overwrite"]
    with monkeypatch.context() as patch:
        patch.setattr(sys.stderr, "isatty", lambda: True)
        assert run(command, folder, *more) == 0
        assert capsys.readouterr().err.count(LINE) == 1
        assert run(command, folder, "--quiet", *more) == 0
        assert run(command, folder, "--model", "small", *more) == 0
        patch.setenv("ZEROSHOT_MODEL", "small")
        assert run(command, folder, *more) == 0
        patch.delenv("ZEROSHOT_MODEL")
        assert app.run(["models", "use", "small"]) == 0
        assert run(command, folder, *more) == 0
        assert LINE not in capsys.readouterr().err
    assert not hub.requests


@pytest.mark.slow
def test_a_real_terminal_gets_the_line_and_a_pipe_does_not(folder: Path) -> None:
    import pty

    main, child = pty.openpty()
    command = [sys.executable, "-m", "zeroshot_cli", "classify", str(folder), "--label", "red", "--label", "blue"]
    environment = {**os.environ, "COLUMNS": "200", "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        command, stdout=subprocess.PIPE, stderr=child, stdin=subprocess.DEVNULL, env=environment, timeout=120
    )
    os.close(child)
    said = b""
    while chunk := _read(main):
        said += chunk
    os.close(main)
    assert (done.returncode, done.stdout.count(b"\n")) == (0, 3)
    assert said.decode().count(LINE) == 1
    piped = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120)
    assert (piped.returncode, piped.stdout) == (0, done.stdout.decode())
    assert piped.stderr == "2 images classified, 0 could not be read, model small.\n"


def _read(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, 65536)
    except OSError:  # the terminal's other side is closed
        return b""


@pytest.mark.parametrize(
    "home", ["unwritable", *(pytest.param(home, marks=pytest.mark.slow) for home in ("unset", "missing"))]
)
def test_it_answers_with_no_home_folder_and_no_network(home: str, folder: Path, tmp_path: Path) -> None:
    names = ("HOME", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "ZEROSHOT_CACHE_DIR", "ZEROSHOT_CONFIG")
    environment = {name: value for name, value in os.environ.items() if name not in names}
    environment |= {"HF_HUB_OFFLINE": "1", "HF_ENDPOINT": "http://127.0.0.1:9", "TMPDIR": str(tmp_path)}
    if home != "unset":
        environment["HOME"] = "/proc/1" if home == "unwritable" else str(tmp_path / "nowhere")
    command = [sys.executable, "-m", "zeroshot_cli", "classify", str(folder), "--label", "red", "--label", "blue"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("\n") == 3
    assert done.stderr.endswith("2 images classified, 0 could not be read, model small.\n")


def test_every_output_names_model_and_weights(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import numpy as np

    outputs = [tmp_path / name for name in ("out.csv", "out.html")]
    assert run("classify", folder, *(f"--output={path}" for path in outputs)) == 0
    assert capsys.readouterr().err.endswith("model small.\n")
    assert outputs[0].read_text().startswith("path,rank,label,score,probability,error\n")  # CSV as it was
    record = json.loads((tmp_path / "out.csv.run.json").read_text())
    assert record["settings"]["model"] == "small"
    assert len(record["settings"]["weights"]) == 64
    about = re.search(r'<script[^>]* id="about"[^>]*>([^<]*)<', outputs[1].read_text())
    assert about is not None
    assert ["model", "small"] in json.loads(about[1])
    assert run("eval", folder, f"--report={tmp_path / 'eval.html'}", f"--predictions={tmp_path / 'p.jsonl'}") == 0
    assert "small" in capsys.readouterr().out
    result = json.loads((tmp_path / "out.json").read_text())
    assert (result["model"], result["fingerprint"]) == ("small", record["settings"]["weights"])
    assert "small" in (tmp_path / "eval.html").read_text()
    rows = [json.loads(line) for line in (tmp_path / "p.jsonl").read_text().splitlines()]
    assert [row["model"] for row in rows] == ["small", "small"]
    assert run("embed", folder) == 0
    assert capsys.readouterr().err.endswith("numbers, model small.\n")
    assert json.loads(str(np.load(tmp_path / "out.npz")["metadata"]))["model"] == "small"
    assert run("build", folder) == 0
    assert capsys.readouterr().err.endswith("model small.\n")


def test_a_classifier_file_goes_before_the_config_file_and_the_package(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("build", folder, "--model", "tiny", "--label", "blue") == 0
    assert app.run(["models", "use", "small"]) == 0
    capsys.readouterr()
    assert app.run(["classify", str(folder), "--classifier", str(tmp_path / "out.safetensors")]) == 0
    assert capsys.readouterr().err.endswith("model tiny.\n")
    assert app.run(["eval", str(folder), "--classifier", str(tmp_path / "out.safetensors")]) == 0
    assert "tiny" in capsys.readouterr().out


# models use


def test_use_and_reset(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = os.environ["ZEROSHOT_CONFIG"]
    assert app.run(["models", "use", "tiny"]) == 0
    said = capsys.readouterr().err
    assert said == f"tiny is the default now: {file} says so, and zeroshot models use --reset goes back to small\n"
    assert run("classify", folder) == 0
    assert capsys.readouterr().err == "2 images classified, 0 could not be read, model tiny.\n"
    assert app.run(["models", "list", "-m", "tiny", "--format", "json"]) == 0
    assert [each["used"] for each in json.loads(capsys.readouterr().out)] == [True]
    assert app.run(["models", "use", "--reset"]) == 0
    assert capsys.readouterr().err == f"small is the default again; {file} names no other\n"
    assert run("classify", folder) == 0
    assert capsys.readouterr().err.endswith("model small.\n")


@pytest.mark.parametrize("arguments", [[], ["tiny", "--reset"]])
def test_use_takes_a_name_or_reset(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert app.run(["models", "use", *arguments]) == 2
    assert "name a model, such as ViT-B-32-256, or give --reset" in capsys.readouterr().err


def test_a_variable_that_goes_before_it_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ZEROSHOT_MODEL", "ViT-B-16")
    assert app.run(["models", "use", "tiny"]) == 0
    assert "warning: ZEROSHOT_MODEL is set, and ViT-B-16 goes before it" in capsys.readouterr().err


@pytest.mark.parametrize("command", COMMANDS)
def test_a_config_file_that_is_wrong_ends_with_3(
    command: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path(os.environ["ZEROSHOT_CONFIG"]).write_text("modle: tiny\n")
    assert run(command, folder) == 3
    captured = capsys.readouterr()
    assert captured.err.splitlines()[-1] == (
        f"error: {os.environ['ZEROSHOT_CONFIG']}: there is no setting 'modle', only 'model'; correct or remove the "
        "file, or name a model with --model"
    )
    assert run(command, folder, "--model", "tiny") == 0
    assert app.run(["models", "list"]) == 0  # only what needs it reads it


@pytest.mark.parametrize("command", [name for name in COMMANDS if name != "lint"])
def test_weights_that_are_gone_end_with_5_and_name_the_config_file(
    command: str, folder: Path, hub: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    file = os.environ["ZEROSHOT_CONFIG"]
    Path(file).write_text("model: ViT-B-32-256\n")
    assert run(command, folder, "--offline") == 5
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.endswith(f"; {file} makes ViT-B-32-256 the default")
    assert "--model small needs no network" in last


def test_published_weights_are_named_in_full(
    folder: Path, tmp_path: Path, hub: Any, angles: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    Path(os.environ["ZEROSHOT_CONFIG"]).write_text("model: ViT-B-32-256:datacomp_s34b_b86k\n")
    assert app.run(["classify", str(folder), "--label", "0", "--template", "{}", f"--output={tmp_path / 'a.csv'}"]) == 0
    assert (
        "2 images classified, 0 could not be read, model ViT-B-32-256:datacomp_s34b_b86k.\n" in capsys.readouterr().err
    )
    settings = json.loads((tmp_path / "a.csv.run.json").read_text())["settings"]
    assert (settings["model"], settings["pretrained"]) == ("ViT-B-32-256", "datacomp_s34b_b86k")


def test_train_starts_from_its_own_model_and_says_so(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from zeroshot_cli.train.config import START_MODEL

    Path(os.environ["ZEROSHOT_CONFIG"]).write_text("[broken")  # train does not read it
    arguments = ["train", "--data", str(folder), "--batch-size", "2", "--dry-run", "--precision", "fp32"]
    assert app.run([*arguments, "--output", str(folder.parent / "run")]) == 0
    assert f"\nfrom {START_MODEL}: " in capsys.readouterr().err
    assert app.run([*arguments, "--output", str(folder.parent / "run"), "--model", "tiny"]) == 0
    assert "\nfrom tiny: " in capsys.readouterr().err
