"""`zeroshot train` from the options to the run's folder."""

import csv
import json
import os
import pty
import re
import signal
import subprocess
import sys
import tarfile
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from PIL import Image
from safetensors.torch import load_file

from zeroshot_cli.cli import app as entry
from zeroshot_cli.cli.commands import train as command
from zeroshot_cli.models.load import load
from zeroshot_cli.train import start

MODEL = {
    "embed_dim": 8,
    "vision_cfg": {"image_size": 16, "patch_size": 8, "width": 16, "layers": 1, "head_width": 8},
    "text_cfg": {"width": 16, "heads": 2, "layers": 1, "context_length": 32, "vocab_size": 600},
}


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in [name for name in os.environ if name.startswith("ZEROSHOT_") and name != "ZEROSHOT_CACHE_DIR"]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("ZEROSHOT_DEVICE", "cpu")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    """Twelve pairs, and two rows that cannot be used."""
    rows = [("image", "caption")]
    for i in range(12):
        Image.new("RGB", (20, 20), (20 * i, 255 - 20 * i, 128)).save(tmp_path / f"{i}.png")
        rows.append((f"{i}.png", f"colour {i}"))
    path = tmp_path / "pairs.csv"
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([*rows, ("0.png", ""), ("none.png", "not there")])
    return path


@pytest.fixture
def arguments(tmp_path: Path, pairs: Path) -> list[str]:
    """A run of six steps in two epochs."""
    model = tmp_path / "model.yaml"
    model.write_text(yaml.safe_dump(MODEL))
    run = ["train", "--data", str(pairs), "--model", str(model), "--output", str(tmp_path / "run")]
    return [*run, "--epochs", "2", "--batch-size", "4", "--workers", "1", "--log-every", "1"]


@pytest.mark.filterwarnings("ignore:.* pairs of --val have an image that --data has")
def test_a_run_from_options_to_model(
    tmp_path: Path, pairs: Path, arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    more = ["--val", str(pairs), "--augment", "flip", "--augment", "background", "--min-scale", "0.5", "--ema", "0.9"]
    more += ["--lr", "1e-3", "--warmup", "0.5", "--weight-decay", "0.1", "--loss", "sigmoid", "--text-encoder", "cbow"]
    assert entry.run([*arguments, *more, "--seed", "3", "--save-every", "4", "--precision", "fp32"]) == 0
    out, err = capsys.readouterr()
    assert out == ""
    assert re.search(r"pairs +12\nempty captions +1  omitted\nmissing images +1  omitted, the first .*none\.png\n", err)
    assert re.search(
        r"steps +6  3 an epoch\nnew .*model\.yaml: 0\.0 million parameters on cpu in fp32, learning rate 0\.001\n", err
    )
    assert re.search(
        r"epoch 2 of 2: loss [\d.]+, \d+ images/s, .*validation loss [\d.]+, recall@1 [\d.]+% image to text", err
    )
    assert (tmp_path / "run/report.html").read_text().startswith("<!doctype html>")
    assert f"the model is in {tmp_path / 'run/model'}, its curves in {tmp_path / 'run/report.html'}\n" in err
    config = yaml.safe_load((tmp_path / "run/config.yaml").read_text())
    expected = {
        "epochs": 2, "batch_size": 4, "lr": 1e-3, "warmup": 0.5, "weight_decay": 0.1, "loss": "sigmoid", "ema": 0.9,
        "text_encoder": "cbow", "augment": ["flip", "background"], "min_scale": 0.5, "seed": 3, "workers": 1,
        "log_every": 1, "save_every": 4, "precision": "fp32", "device": "cpu",
    }  # fmt: skip
    assert {name: config[name] for name in expected} == expected
    steps = [json.loads(line)["step"] for line in (tmp_path / "run/metrics.jsonl").read_text().splitlines()]
    assert steps == [0, 1, 2, 3, 4, 5, 6]
    assert re.search(r"before training: validation loss [\d.]+, recall@1", err)
    assert load(str(tmp_path / "run"), device="cpu").encode_texts(["colour 3"]).shape == (1, 8)


def test_the_run_classifies(tmp_path: Path, arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert entry.run(arguments) == 0
    capsys.readouterr()
    labels = ["--label", "colour 1", "--label", "colour 2"]
    assert entry.run(["classify", str(tmp_path / "3.png"), "--model", str(tmp_path / "run"), *labels]) == 0
    assert capsys.readouterr().out.count("3.png") == 1


def test_quiet_is_silent(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert entry.run([*arguments, "--quiet"]) == 0
    assert capsys.readouterr() == ("", "")


def test_unreadable_pictures_are_counted_at_the_end(
    tmp_path: Path, arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "5.png").write_bytes(b"")
    assert entry.run([*arguments, "--epochs", "8"]) == 4
    assert re.search(r"1 image could not be read, first .*5\.png: the file is empty;", capsys.readouterr().err)
    assert (tmp_path / "run/skipped.csv").read_text().splitlines()[1:] == [f"{tmp_path / '5.png'},the file is empty"]
    assert entry.run([*arguments, "--epochs", "8", "--resume", "--ignore-errors"]) == 0


def test_a_broken_tiff_is_one_line_of_ours_and_none_of_libtiffs(
    tmp_path: Path, arguments: list[str], capfd: pytest.CaptureFixture[str]
) -> None:
    Image.effect_noise((64, 64), 50).save(tmp_path / "whole.tif", compression="tiff_lzw")
    content = bytearray((tmp_path / "whole.tif").read_bytes())
    content[40:3000] = b"\xff" * 2960
    (tmp_path / "5.png").write_bytes(content)
    assert entry.run([*arguments, "--epochs", "1"]) == 4
    err = capfd.readouterr().err
    assert "5.png: " in err
    assert "TIFF" not in err.replace(str(tmp_path), "")
    assert "LZW" not in err


@pytest.mark.parametrize(
    ("change", "code", "words"),
    [
        (["--data", "none.csv"], 2, "none.csv: no such file"),
        (["--val", "none.csv"], 2, "none.csv: no such file; give --val a csv, tsv"),
        (["--seed", "-1"], 2, "--seed is -1; it must be at least 0"),
        (["--output", "x" * 300], 2, "File name too long"),
        (["--model", "x" * 300], 2, "x" * 150),
        (["--model", "x" * 300 + ".yaml"], 2, "x" * 150),
        (["--batch-size", "13"], 3, "12 usable pairs (omitted: 1 with an empty caption, 1 without an image)"),
        (["--image-column", "url"], 3, "no column 'url', its columns are 'image', 'caption'"),
        (["--model", "no-such-model"], 2, "no-such-model"),
        (["--epochs", "0"], 2, "--epochs is 0; it must be at least 1"),
        (["--loss", "hinge"], 2, "hinge"),
        (["--augment", "salt"], 2, "salt"),
        (["--precision", "fp16"], 2, "--precision is fp16; it must be auto, fp32 or bf16 in training"),
        (["--report-to", "paper"], 2, "paper"),
        (["--data-weight", "1", "--data-weight", "2"], 2, "--data-weight"),
        (["--data-weight", "0"], 2, "--data-weight"),
        (["--chunk-size", "0"], 2, "--chunk-size is 0; it must be at least 1"),
        (["--keep", "0"], 2, "--keep is 0; it must be at least 1"),
        (["--layer-decay", "0"], 2, "--layer-decay is 0.0; it must be over 0"),
        (["--wise-ft", "2"], 2, "--wise-ft is 2.0; it must be between 0 and 1"),
        (["--lr", "inf"], 2, "--lr is inf; give a finite number"),
        (["--lock-image", "--lock-text"], 2, "--lock-image and --lock-text leave only the temperature to train"),
        (["--zero-shot", "nowhere"], 2, "nowhere"),
        (["--fsdp"], 2, "--fsdp shares a model among processes, and there is one"),
    ],
)
def test_errors_are_one_sentence_with_their_code(
    arguments: list[str], change: list[str], code: int, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert entry.run([*arguments, *change]) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert words in err
    assert err.startswith("error: ")
    assert err.count("\n") == 1


def test_a_dry_run_reports_and_writes_nothing(
    tmp_path: Path, arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert entry.run([*arguments, "--dry-run"]) == 0
    err = capsys.readouterr().err
    assert re.search(r"pairs +12\n", err)
    assert re.search(r"images +12 .*no fault found\n", err)
    assert not (tmp_path / "run").exists()


def test_figures_go_to_tensorboard(tmp_path: Path, arguments: list[str]) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    assert entry.run([*arguments, "--report-to", "tensorboard", "--quiet"]) == 0
    events = EventAccumulator(str(tmp_path / "run/tensorboard"))
    events.Reload()
    rows = [json.loads(line) for line in (tmp_path / "run/metrics.jsonl").read_text().splitlines()]
    logged = [(event.step, event.value) for event in events.Scalars("train/loss")]
    assert logged == [(row["step"], pytest.approx(row["loss"], rel=1e-6)) for row in rows]


def test_a_resumed_run_uses_the_device_that_the_environment_names(tmp_path: Path, arguments: list[str]) -> None:
    assert entry.run([*arguments, "--quiet"]) == 0
    file = tmp_path / "run" / "config.yaml"
    file.write_text(yaml.safe_dump(yaml.safe_load(file.read_text()) | {"device": "cuda:7"}))
    assert entry.run(["train", "--resume", "--output", str(tmp_path / "run"), "--epochs", "3", "--quiet"]) == 0


def test_a_second_run_in_the_folder_needs_resume(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert entry.run(arguments) == 0
    assert entry.run(arguments) == 2
    assert "already holds a run; add --resume" in capsys.readouterr().err
    assert entry.run([*arguments, "--resume"]) == 0
    assert "resuming after step 6" in capsys.readouterr().err


@pytest.mark.parametrize(("cores", "workers"), [(None, 1), (1, 1), (2, 1), (8, 4), (64, 8)])
def test_half_of_the_cores_load_pictures(monkeypatch: pytest.MonkeyPatch, cores: int | None, workers: int) -> None:
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: cores)
    assert command._half_the_cores() == workers


def test_only_the_cores_of_this_process_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {2, 3, 5, 7, 9, 11}, raising=False)
    assert command._half_the_cores() == 3


def test_offline_and_batch_size_reach_the_run(
    tmp_path: Path, arguments: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[bool] = []
    real = start.load
    monkeypatch.setattr(start, "load", lambda *a, offline, **o: (asked.append(offline), real(*a, **o))[1])
    monkeypatch.setenv("ZEROSHOT_BATCH_SIZE", "3")
    sizeless = [word for i, word in enumerate(arguments) if "--batch-size" not in arguments[max(0, i - 1) : i + 1]]
    assert entry.run([*sizeless, "--model", "tiny", "--epochs", "1", "--offline"]) == 0
    assert asked == [True]
    assert yaml.safe_load((tmp_path / "run/config.yaml").read_text())["batch_size"] == 3


def started(arguments: list[str], **streams: Any) -> subprocess.Popen[bytes]:
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    run = [sys.executable, "-m", "zeroshot_cli", *arguments]
    return subprocess.Popen(run, env=environment, start_new_session=True, **streams)


def wait_for_steps(run: "subprocess.Popen[bytes]", metrics: Path, steps: int) -> None:
    end = time.monotonic() + 120
    while time.monotonic() < end and run.poll() is None:
        if metrics.exists() and metrics.read_text().count("\n") >= steps:
            return
        time.sleep(0.02)
    run.kill()
    pytest.fail(f"{metrics} never had {steps} rows, the run ended with {run.wait()}")


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_ends_with_130_and_goes_on(
    tmp_path: Path, arguments: list[str], number: signal.Signals
) -> None:
    """Both reach the whole group of processes, from a terminal or torchrun: the workers must not die of it."""
    arguments += ["--epochs", "100"]
    run = started(arguments, stderr=subprocess.PIPE)
    wait_for_steps(run, tmp_path / "run/metrics.jsonl", 5)
    os.killpg(run.pid, number)
    assert run.communicate(timeout=60)[1].decode().splitlines()[-1] == "interrupted"
    assert run.returncode == 130
    rows = (tmp_path / "run/metrics.jsonl").read_text().splitlines()
    assert 5 <= len(rows) < 300
    assert [json.loads(row)["step"] for row in rows] == list(range(1, len(rows) + 1))
    assert load(str(tmp_path / "run"), device="cpu").model
    assert entry.run([*arguments, "--resume", "--quiet"]) == 0
    whole = tmp_path / "whole"
    assert entry.run([*arguments, "--output", str(whole), "--quiet"]) == 0
    ours, expected = (load_file(path / "model/open_clip_model.safetensors") for path in (tmp_path / "run", whole))
    assert all(torch.equal(ours[name], expected[name]) for name in expected)


@pytest.mark.slow
def test_a_run_that_is_killed_goes_on_from_its_checkpoint(tmp_path: Path, arguments: list[str]) -> None:
    arguments += ["--epochs", "100", "--save-every", "7"]
    run = started(arguments, stderr=subprocess.DEVNULL)
    wait_for_steps(run, tmp_path / "run/metrics.jsonl", 20)
    os.kill(run.pid, signal.SIGKILL)
    run.wait()
    assert entry.run([*arguments, "--resume", "--quiet"]) == 0
    whole = tmp_path / "whole"
    assert entry.run([*arguments, "--output", str(whole), "--quiet"]) == 0
    ours, expected = (load_file(path / "model/open_clip_model.safetensors") for path in (tmp_path / "run", whole))
    assert all(torch.equal(ours[name], expected[name]) for name in expected)
    rows, all_rows = ((path / "metrics.jsonl").read_text().splitlines() for path in (tmp_path / "run", whole))
    assert [json.loads(row)["loss"] for row in rows] == [json.loads(row)["loss"] for row in all_rows]


def children(number: int) -> set[int]:
    """Return the processes that another one has started, and those that they have."""
    parents = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            state, parent = stat.read_text().rpartition(")")[2].split()[:2]
            if state != "Z":
                parents[int(stat.parent.name)] = int(parent)
    found = {number}
    while more := {child for child, parent in parents.items() if parent in found} - found:
        found |= more
    return found - {number}


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="asks /proc who is running")
@pytest.mark.parametrize("who", ["run", "reader"])
def test_reading_processes_end_with_the_run_and_when_they_are_asked(
    tmp_path: Path, arguments: list[str], who: str
) -> None:
    """One whose queue is full waits for a reader that is gone, and once did so for ever, deaf to SIGTERM."""
    run = started([*arguments, "--epochs", "100000", "--workers", "2"], stderr=subprocess.PIPE)
    wait_for_steps(run, tmp_path / "run/metrics.jsonl", 5)
    readers = children(run.pid)
    assert len(readers) >= 4  # two that augment, two that decode
    if who == "run":
        os.kill(run.pid, signal.SIGSTOP)
        time.sleep(1)  # the queues are full
        os.kill(run.pid, signal.SIGKILL)
        run.communicate()
    else:
        os.kill(min(readers), signal.SIGTERM)
        assert "a process that reads images was killed" in run.communicate(timeout=60)[1].decode()
        assert run.returncode == 2
    end = time.monotonic() + 5
    while (left := readers & {int(p.name) for p in Path("/proc").glob("[0-9]*")}) and time.monotonic() < end:
        time.sleep(0.05)
    assert left == set()


@pytest.mark.slow
def test_a_bar_is_drawn_on_a_terminal(arguments: list[str]) -> None:
    master, terminal = pty.openpty()
    run = started(arguments, stderr=terminal, stdout=subprocess.PIPE)
    os.close(terminal)
    drawn: list[bytes] = []

    def read() -> None:
        try:
            while chunk := os.read(master, 4096):
                drawn.append(chunk)
        except OSError:  # the terminal is gone with its last process
            pass

    reader = threading.Thread(target=read)
    reader.start()
    out, _ = run.communicate(timeout=120)
    reader.join(10)
    os.close(master)
    text = b"".join(drawn).decode()
    assert run.returncode == 0
    assert out == b""
    assert "step 6 of 6" in text
    assert re.search(r"loss \d\.\d{3}", text)
    assert "images/s" in text


# what a resumed run takes from its folder


def test_a_run_is_resumed_and_extended_without_its_options(
    tmp_path: Path, arguments: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert entry.run([*arguments, "--lr", "1e-4", "--augment", "flip"]) == 0
    monkeypatch.setenv("ZEROSHOT_BATCH_SIZE", "3")  # of other commands, and not of this run
    again = ["train", "--resume", "--output", str(tmp_path / "run"), "--workers", "1"]
    assert entry.run([*again, "--output", str(tmp_path / "typo")]) == 2
    assert "typo holds no run, and --data is missing to begin one; check --output" in capsys.readouterr().err
    assert not (tmp_path / "typo").exists()
    assert entry.run([*again, "--seed", "5"]) == 2
    assert "was started with seed 0, not 5" in capsys.readouterr().err
    assert entry.run([*again, "--epochs", "3"]) == 0
    settings = yaml.safe_load((tmp_path / "run/config.yaml").read_text())
    expected = {"epochs": 3, "lr": 1e-4, "augment": ["flip"], "batch_size": 4}
    assert {name: settings[name] for name in expected} == expected
    assert (tmp_path / "run/metrics.jsonl").read_text().count("\n") == 9


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[1, 2]", "holds no settings by name"),
        ("batch_size: many", "batch_size cannot be 'many'"),
        ("batch_size: true", "batch_size cannot be True"),
        ("lr: [1]", "lr cannot be [1]"),
        ("data: {a: b}", "data cannot be {'a': 'b'}"),
        ("loss: hinge", "loss cannot be 'hinge'"),
        ("epochs: 0", "--epochs is 0; it must be at least 1"),
        ("colour: red", "'colour' is not a setting"),
        ("a: b: c", "cannot be read"),
        ("[" * 3000, "cannot be read"),
    ],
)
def test_settings_that_cannot_be_read(
    tmp_path: Path, text: str, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run/config.yaml").write_text(text)
    assert entry.run(["train", "--resume", "--output", str(tmp_path / "run")]) == 3
    err = capsys.readouterr().err
    assert words in err
    assert "--resume with all options of the run writes it again" in err
    assert err.count("\n") == 1


def test_a_broken_shard_is_named_at_the_end_with_4(
    tmp_path: Path, arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    for shard in range(3):
        with tarfile.open(tmp_path / f"s-{shard}.tar", "w") as tar:
            for i in range(4):
                tar.add(tmp_path / f"{i}.png", f"{shard}{i}.png")
                (tmp_path / "text").write_text(f"colour {shard} {i}")
                tar.add(tmp_path / "text", f"{shard}{i}.txt")
    broken = tmp_path / "s-2.tar"
    broken.write_bytes(broken.read_bytes()[:1700])
    at = arguments.index("--data") + 1
    arguments[at] = f"{tmp_path}/s-*.tar"
    assert entry.run([*arguments, "--epochs", "1"]) == 4
    assert re.search(r"1 file could not be read, first .*s-2\.tar: is truncated", capsys.readouterr().err)
    assert str(broken) in (tmp_path / "run/skipped.csv").read_text()


def test_settings_that_have_become_a_pipe_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    os.mkfifo(tmp_path / "config.yaml")
    assert entry.run(["train", "--resume", "--output", str(tmp_path)]) == 3
    assert "config.yaml: it is not a regular file" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["metrics.jsonl", "skipped.csv"])
def test_a_pipe_in_the_folder_of_a_run_is_never_waited_for(
    name: str, tmp_path: Path, arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert entry.run([*arguments, "--epochs", "1"]) == 0
    (tmp_path / "run" / name).unlink(missing_ok=True)
    os.mkfifo(tmp_path / "run" / name)
    capsys.readouterr()
    assert entry.run([*arguments, "--epochs", "2", "--resume"]) == 2
    assert "it is not a regular file" in capsys.readouterr().err
