"""Options of an engine that are refused before anything is loaded, each in one sentence."""

import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from zeroshot_cli.cli import app

COMMON = ("photos", "--label", "a", "--label", "b", "--model", "tiny")


@pytest.fixture(autouse=True)
def _a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, draw_angle: Callable[[Path, int], Path]) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    draw_angle(tmp_path / "photos" / "a.png", 40)


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        (("--actors", "2"), "--actors needs --engine ray; add it, or omit --actors"),
        (("--actor-cpus", "2"), "--actor-cpus needs --engine ray; add it, or omit --actor-cpus"),
        (("--actor-gpus", "1"), "--actor-gpus needs --engine ray; add it, or omit --actor-gpus"),
        (("--task-images", "5"), "--task-images needs --engine ray; add it, or omit --task-images"),
        (("--engine", "ray", "--actor-cpus", "0"), "--actor-cpus is 0; give a number of at least 0.01"),
        (("--engine", "ray", "--actor-cpus", "nan"), "--actor-cpus is nan; give a finite number"),
        (("--engine", "ray", "--actor-cpus", "1e-5"), "--actor-cpus is 1e-05; give a number of at least 0.01"),
        (("--engine", "ray", "--actor-gpus", "-1"), "--actor-gpus is -1; give 0, or a number of at least 0.01"),
        (("--engine", "ray", "--actor-gpus", "1e-5"), "--actor-gpus is 1e-05; give 0, or a number of at least 0.01"),
        (("--engine", "ray", "--actor-gpus", "1.5"), "--actor-gpus is 1.5; give a whole number, or a part of one GPU"),
        (
            ("--engine", "ray", "--actor-gpus", "1", "--device", "cpu"),
            "--actor-gpus is for a GPU, and --device cpu uses none; omit one of them",
        ),
    ],
)
def test_options_that_contradict(classify: Callable[..., Any], given: tuple[str, ...], sentence: str) -> None:
    done = classify(*COMMON, *given)
    assert (done.code, done.out, done.err) == (2, b"", f"error: {sentence}\n")


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (("--actors", "0"), "'0' is neither a whole number of at least 1 nor 'auto'"),
        (("--actors", "many"), "'many' is neither"),
        (("--task-images", "0"), "greater than or equal to 1, not '0'"),
        (("--engine", "dask"), "'dask'"),
    ],
)
def test_values_that_are_none(classify: Callable[..., Any], given: tuple[str, ...], words: str) -> None:
    done = classify(*COMMON, "--engine", "ray", *given)
    assert (done.code, done.out) == (2, b"")
    assert words in done.err
    assert done.err.count("\n") == 1


def test_a_missing_ray_is_one_sentence(classify: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("zeroshot_cli.cluster.ray_cluster.find_spec", lambda name: None)
    done = classify(*COMMON, "--engine", "ray")
    assert (done.code, done.err) == (2, "error: --engine ray needs Ray: pip install 'zeroshot-cli[ray]'\n")


def test_a_cluster_that_does_not_answer_is_one_sentence(
    classify: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    monkeypatch.setenv("RAY_ADDRESS", f"127.0.0.1:{port}")
    done = classify(*COMMON, "--engine", "ray")
    assert done.code == 2
    assert done.err == (
        f"error: no Ray cluster answers at RAY_ADDRESS=127.0.0.1:{port} (connection refused); start one with ray start "
        "--head, or unset RAY_ADDRESS for one of this machine\n"
    )


def test_texts_are_not_for_ray(capfd: pytest.CaptureFixture[str]) -> None:
    Path("texts.txt").write_text("a\n")
    code = app.run(["embed", "--texts", "texts.txt", "--output", "out.npz", "--engine", "ray"])
    assert code == 2
    assert capfd.readouterr().err == "error: --engine ray is for images, and --texts texts.txt names texts; omit it\n"
