"""Numbers that nothing can be computed with: one sentence that names the option or the variable, and exit code 2."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from zeroshot_cli.cli.app import run

CLASSIFY = ("classify", "red.png", "--model", "tiny", "--label", "cat", "--label", "dog", "--no-cache")
TRAIN = ("train", "--data", "pairs.csv", "--model", "tiny", "--dry-run")


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (8, 8), "red").save("red.png")
    Path("pairs.csv").write_text("image,caption\nred.png,red\nred.png,green\n")


def refusal(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert run(list(arguments)) == 2
    err = capsys.readouterr().err
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    return err


@pytest.mark.parametrize(
    ("option", "value"),
    [
        *(("--decode-timeout", value) for value in ("inf", "nan", "1e10", "-1", "9" * 400)),
        *(("--batch-size", value) for value in ("100000000", "0", "00", "x", "9" * 5000, "²")),
        *(("--workers", value) for value in ("1000000000", "0", "9" * 400)),
        *(("--top-k", value) for value in ("9" * 400, "9" * 5000, "0", "nan")),
        *(("--max-pixels", value) for value in ("9" * 400, "0")),
        *((option, value) for option in ("--min-score", "--min-margin", "--min-probability") for value in ("nan", "2")),
    ],
)
def test_an_option_of_classify(option: str, value: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert option in refusal(capsys, *CLASSIFY, option, value)


@pytest.mark.parametrize(
    ("option", "value"),
    [
        *((f"--{name}", value) for name in ("lr", "warmup", "weight-decay", "ema") for value in ("nan", "inf")),
        *((f"--{name}", "9" * 400) for name in ("seed", "epochs", "batch-size", "workers", "chunk-size", "log-every")),
        *((f"--{name}", "9" * 400) for name in ("save-every", "keep", "max-pixels", "decode-timeout")),
        ("--data-weight", "nan"),
    ],
)
def test_an_option_of_train(option: str, value: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert option in refusal(capsys, *TRAIN, option, value)


@pytest.mark.parametrize("value", ["nan", "inf", "7"])
def test_the_threshold_of_lint_is_a_cosine(value: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert "--threshold" in refusal(capsys, "prompts", "lint", "imagenet", "--threshold", value)


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        *(("ZEROSHOT_BATCH_SIZE", value) for value in ("x", "100000000")),
        ("ZEROSHOT_WORKERS", "1e3"),
        *(("ZEROSHOT_CACHE_SIZE", value) for value in ("x", "-1", "nan")),
        *(("OMP_NUM_THREADS", value) for value in ("x", "-3", "0", "2,x")),
    ],
)
def test_a_variable(
    variable: str, value: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, value)
    cached = [word for word in CLASSIFY if word != "--no-cache"]
    assert variable in refusal(capsys, *cached)


def test_threads_of_nested_regions_are_taken(capsysbinary: pytest.CaptureFixture[bytes]) -> None:
    command = [sys.executable, "-m", "zeroshot_cli", *CLASSIFY, "--batch-size", "1", "--workers", "1"]
    done = subprocess.run(command, env={**os.environ, "OMP_NUM_THREADS": "2,1"}, capture_output=True, check=False)
    assert (done.returncode, done.stderr.decode()) == (0, "1 image classified, 0 could not be read, model tiny.\n")


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError("[enforce fail at alloc_cpu.cpp:132] DefaultCPUAllocator: can't allocate memory: 9 bytes"),
        RuntimeError("CUDA out of memory. Tried to allocate 20.00 MiB"),
    ],
)
def test_a_batch_for_which_the_memory_does_not_suffice(
    error: Exception, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def load(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr("zeroshot_cli.cli.options.RuntimeOptions.load", load)
    assert "--batch-size" in refusal(capsys, *CLASSIFY)
