"""Runs on Ray, on clusters of this machine: the rows are those of one process, whatever dies."""

import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scripts import script_module

pytestmark = pytest.mark.slow
IMAGES = 120
COMMON = ("--model", "tiny", "--precision", "fp32", "--batch-size", "32")
LABELS = ("--label", "red", "--label", "green", "--label", "blue square")
ON_RAY = ("--engine", "ray", "--task-images", "16")


@pytest.fixture(scope="module", autouse=True)
def _cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Two nodes of two CPUs, with a cache of their own."""
    kills: Any = script_module("benchmarks/kills.py")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ZEROSHOT_CACHE_DIR", str(tmp_path_factory.mktemp("nodes")))
        with kills.two_nodes(uuid.uuid4().hex, cpus=2) as (environment, _):
            patch.setenv("RAY_ADDRESS", environment["RAY_ADDRESS"])
            yield


@pytest.fixture(autouse=True)
def _photos(draw_photos: Callable[..., list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    draw_photos(Path("photos"), IMAGES)


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [sys.executable, "-m", "zeroshot_cli", *arguments],
        capture_output=True,
        timeout=300,
        env={**os.environ, **environment},
        check=False,
    )


def classify(*arguments: str, **environment: str) -> subprocess.CompletedProcess[bytes]:
    return run("classify", "photos", *LABELS, *COMMON, *arguments, **environment)


def test_all_outputs_are_those_of_one_process() -> None:
    def outputs(name: str) -> list[str]:
        files = [f"{name}/out.{form}" for form in ("csv", "jsonl", "parquet")]
        Path(name).mkdir()
        return [word for file in files for word in ("--output", file)] + ["--summary", f"{name}/counts.csv"]

    one = classify(*outputs("one"), "--top-k", "2", "--no-cache")
    two = classify(*outputs("two"), "--top-k", "2", "--no-cache", *ON_RAY, "--actors", "3")
    assert (two.returncode, two.stdout) == (one.returncode, one.stdout) == (4, one.stdout)
    assert two.stderr.replace(b"two/", b"one/") == one.stderr
    for path in Path("one").iterdir():
        if path.suffix != ".json":  # the record of the run
            assert (Path("two") / path.name).read_bytes() == path.read_bytes(), path
    assert one.stdout.count(b"\n") == 1 + 2 * IMAGES - IMAGES // 10


@pytest.mark.parametrize(
    "more", [("--adapt",), ("--multi-label",), ("--background", "auto"), ("--resume", "--output", "part.csv")]
)
def test_ways_to_answer(more: tuple[str, ...]) -> None:
    one = classify(*more)
    if "part.csv" in more:
        whole = Path("part.csv").read_bytes()
        record = next(path for path in Path().iterdir() if path.name.endswith("run.json"))
        text = record.read_text(encoding="utf-8")
        record.write_text(text.replace('"complete": true', '"complete": false'), encoding="utf-8")
        Path("part.csv").write_bytes(whole[: len(whole) // 2])
    two = classify(*more, *ON_RAY)
    assert two.returncode == one.returncode == 4, two.stderr
    if "part.csv" in more:
        assert Path("part.csv").read_bytes() == whole
    else:
        assert two.stdout == one.stdout


def test_embeddings_are_those_of_one_process() -> None:
    assert run("embed", "photos", *COMMON, "--no-cache", "-o", "one.npz").returncode == 4
    done = run("embed", "photos", *COMMON, "--no-cache", "-o", "two.npz", *ON_RAY)
    assert done.returncode == 4, done.stderr
    one, two = np.load("one.npz", allow_pickle=False), np.load("two.npz", allow_pickle=False)
    assert set(one) == set(two)
    assert all(np.array_equal(one[name], two[name], equal_nan=one[name].dtype.kind == "f") for name in one)


def test_more_actors_than_there_is_room_for() -> None:
    """Two nodes of two CPUs have room for four; of 30 tasks, the four do all."""
    done = classify(*ON_RAY, "--task-images", "4", "--actors", "1000000")
    assert done.returncode == 4, done.stderr
    assert done.stdout == classify().stdout
    assert b"there is room for 4 actors now, of 30; the others wait for room" in done.stderr


def test_an_error_of_an_actor_is_the_user_s() -> None:
    done = classify(*ON_RAY, "--actor-cpus", "64")
    assert (done.returncode, done.stdout) == (2, b"")
    assert done.stderr.count(b"\n") == 1
    assert done.stderr.startswith(b"error: no node has room for an actor of 64 CPUs: ")
    assert b" has 2 CPUs; " in done.stderr


def test_actors_that_die_as_they_load_end_the_run() -> None:
    program = """
import os, sys
from zeroshot_cli.cli import app
from zeroshot_cli.cluster import ray_engine

class Dying(ray_engine._Actor):
    def load(self, at):
        os._exit(1)

ray_engine._Actor = Dying
sys.exit(app.run(sys.argv[1:]))
"""
    command = (sys.executable, "-c", program, "classify", "photos", *LABELS, *COMMON, *ON_RAY, "--actors", "1")
    done = subprocess.run(command, capture_output=True, timeout=300, check=False)
    assert (done.returncode, done.stdout) == (2, b"path,rank,label,score,probability,error\n")  # and no word of Ray's
    assert done.stderr.startswith(b"error: 5 actors died one after the other (")
    assert done.stderr.count(b"\n") == 1


def test_a_model_that_is_gone_when_actors_load_it(tmp_path: Path) -> None:
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "open_clip_config.json").write_text("{}")
    done = run("classify", "photos", *LABELS, "--model", "broken", *ON_RAY)
    assert done.returncode in (2, 3)
    assert done.stderr.count(b"\n") == 1
    assert b"broken" in done.stderr
    assert b"bug" not in done.stderr


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_signals_end_a_run_that_has_its_own_cluster(number: int, code: int) -> None:
    mark = uuid.uuid4().hex
    kills: Any = script_module("benchmarks/kills.py")
    runs = kills.Runs(Path("photos"), Path(), mark)
    process = runs.start(Path("out.jsonl"), *ON_RAY, "--actors", "1", RAY_ADDRESS="")
    begun = time.monotonic()
    while not Path("out.jsonl").exists() or not Path("out.jsonl").stat().st_size:
        time.sleep(0.02)
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() - begun < 200
    process.send_signal(number)
    begun = time.monotonic()
    _, messages = process.communicate(timeout=100)
    seconds = time.monotonic() - begun
    assert (process.returncode, messages) in ((code, messages), (4, messages))
    assert b"***" not in messages
    assert seconds < 15
    assert runs.wait_for_the_end() == 0


@pytest.mark.parametrize("kind", ["actor", "decoder", "node", "driver"])
def test_what_is_killed_costs_no_row(kind: str) -> None:
    kills: Any = script_module("benchmarks/kills.py")
    folder = kills.draw(Path("many"), 600)
    expected = kills.rows(kills.Runs(folder, Path()).alone())
    outcome = kills.Runs(folder, Path()).killed(kind, expected)
    assert (len(expected), outcome.lost, outcome.twice, outcome.other, outcome.left) == (600, 0, 0, 0, 0)
