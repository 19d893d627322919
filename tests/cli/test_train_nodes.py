"""`zeroshot train` on several machines: torchrun's nodes on this one, which meet as those of a cluster do."""

import csv
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from PIL import Image
from safetensors.torch import load_file

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="asks /proc which processes torchrun has started"),
]

MODEL = {
    "embed_dim": 8,
    "vision_cfg": {"image_size": 16, "patch_size": 8, "width": 16, "layers": 1, "head_width": 8},
    "text_cfg": {"width": 16, "heads": 2, "layers": 1, "context_length": 32, "vocab_size": 600},
}
SECONDS = 240  # for a run of two nodes on a busy machine
# As the page on many machines says: a torchrun that is started again must find the others.
ENVIRONMENT = {"OMP_NUM_THREADS": "1", "TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1"}


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """13 pairs, one of whose images is broken, and a model."""
    folder = tmp_path_factory.mktemp("pairs")
    rows = [("image", "caption")]
    for i in range(13):
        Image.new("RGB", (20, 20), (19 * i, 255 - 19 * i, 128)).save(folder / f"{i}.png")
        rows.append((f"{i}.png", f"colour {i}"))
    (folder / "5.png").write_bytes(b"\x89PNG\r\n\x1a\nno more")
    with (folder / "pairs.csv").open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    (folder / "model.yaml").write_text(yaml.safe_dump(MODEL))
    return folder


@pytest.fixture(scope="module")
def arguments(pairs: Path) -> list[str]:
    """A run in batches of 4: 3 steps an epoch, and one pair is left."""
    files = ["--data", str(pairs / "pairs.csv"), "--model", str(pairs / "model.yaml")]
    return ["train", *files, "--device", "cpu", "--workers", "1", "--batch-size", "4", "--log-every", "1", "--quiet"]


@pytest.fixture(scope="module")
def twenty_epochs(arguments: list[str]) -> list[str]:
    return [*arguments, "--epochs", "20", "--save-every", "5"]


@pytest.fixture(scope="module")
def alone(twenty_epochs: list[str], pairs: Path) -> Path:
    """Twenty epochs of one torchrun with two processes, which nobody kills."""
    one = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "zeroshot_cli"]
    run = [sys.executable, *one, *twenty_epochs, "--output", str(pairs / "alone")]
    own = {"ZEROSHOT_CACHE_DIR": str(pairs / "cache"), "ZEROSHOT_CONFIG": str(pairs / "config.yaml")}
    subprocess.run(run, env=os.environ | ENVIRONMENT | own, timeout=SECONDS, check=True)
    return pairs / "alone"


@pytest.fixture
def port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        number: int = free.getsockname()[1]
        return number


@pytest.fixture
def nodes() -> Iterator["ExitStack"]:
    """Whatever is started ends with the test."""
    with ExitStack() as stack:
        yield stack


def children(number: int) -> list[int]:
    with suppress(OSError):
        return [int(child) for child in Path(f"/proc/{number}/task/{number}/children").read_text().split()]
    return []


class Node:
    """A torchrun as one starts it on each machine, with one process."""

    def __init__(
        self, stack: ExitStack, port: int, arguments: list[str], *, restarts: int = 0, first: bool = False
    ) -> None:
        meeting = ["--rdzv-backend", "c10d", "--rdzv-endpoint", f"localhost:{port}", "--rdzv-id", "test"]
        meeting += ["--rdzv-conf", f"is_host={int(first)}"]  # else whoever comes first, as both have this name
        torchrun = ["-m", "torch.distributed.run", "--nnodes", "2", "--nproc-per-node", "1", *meeting]
        more = ["--local-addr", "localhost", "--max-restarts", str(restarts), "-m", "zeroshot_cli"]
        self.agent = subprocess.Popen(
            [sys.executable, *torchrun, *more, *arguments],
            env=os.environ | ENVIRONMENT,
            stderr=subprocess.PIPE,
            start_new_session=True,
            text=True,
        )
        stack.callback(self.end)

    def end(self) -> None:
        for process in (*self.ranks(), self.agent.pid):
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        self.agent.wait()
        if self.agent.stderr is not None:
            self.agent.stderr.close()

    def ranks(self) -> list[int]:
        """Return the training processes that the agent has started."""
        return children(self.agent.pid)

    def said(self) -> str:
        return self.agent.communicate(timeout=SECONDS)[1]


def rows_of(output: Path) -> list[dict[str, Any]]:
    metrics = output / "metrics.jsonl"
    return [json.loads(line) for line in metrics.read_text().splitlines()] if metrics.exists() else []


def wait_for_steps(output: Path, steps: int) -> None:
    end = time.monotonic() + SECONDS
    while len(rows_of(output)) < steps and time.monotonic() < end:
        time.sleep(0.02)
    assert len(rows_of(output)) >= steps


def weights(output: Path) -> dict[str, torch.Tensor]:
    return load_file(output / "model/open_clip_model.safetensors")


def assert_same(ours: Path, expected: Path) -> None:
    """Compare weights to the bit, figures except for those of speed, and what was skipped."""
    wanted, found = weights(expected), weights(ours)
    assert [name for name in wanted if not torch.equal(found[name], wanted[name])] == []
    of_speed = {"images_per_second", "data_wait"}
    rows = [[{k: v for k, v in row.items() if k not in of_speed} for row in rows_of(each)] for each in (ours, expected)]
    assert rows[0] == rows[1]
    assert (ours / "skipped.csv").read_bytes() == (expected / "skipped.csv").read_bytes()


def test_two_nodes_train_what_one_with_two_processes_does(
    tmp_path: Path, pairs: Path, arguments: list[str], port: int, nodes: ExitStack
) -> None:
    """13 pairs in batches of 4 are 3 steps an epoch; the image that is broken is met by one of the two processes."""
    arguments = [*arguments, "--epochs", "3", "--val", str(pairs / "pairs.csv")]
    both = [Node(nodes, port, [*arguments, "--output", str(tmp_path / "two")], first=first) for first in (True, False)]
    assert [(node.said(), node.agent.returncode)[1] for node in both] == [0, 0]
    one = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "zeroshot_cli"]
    environment = os.environ | ENVIRONMENT
    subprocess.run([*one, *arguments, "--output", str(tmp_path / "one")], env=environment, timeout=SECONDS, check=True)
    assert [row["step"] for row in rows_of(tmp_path / "two")] == list(range(10))
    assert (tmp_path / "two/skipped.csv").read_text().count("5.png") == 1
    assert_same(tmp_path / "two", tmp_path / "one")


@pytest.mark.parametrize("who", ["process", "node"])
def test_what_is_killed_and_started_again_ends_as_if_nothing_had_been(
    tmp_path: Path, twenty_epochs: list[str], alone: Path, port: int, nodes: ExitStack, who: str
) -> None:
    killed = [*twenty_epochs, "--output", str(tmp_path / "killed"), "--resume"]
    first, second = (Node(nodes, port, killed, restarts=3, first=first) for first in (True, False))
    wait_for_steps(tmp_path / "killed", 12)
    if who == "process":
        os.kill(second.ranks()[0], signal.SIGKILL)
    else:
        orphans = second.ranks()
        second.agent.kill()
        second.agent.wait()
        end = time.monotonic() + 10
        while any(Path(f"/proc/{number}").exists() for number in orphans) and time.monotonic() < end:
            time.sleep(0.05)
        assert not any(Path(f"/proc/{number}").exists() for number in orphans)
        second = Node(nodes, port, killed, restarts=3)
    said = [node.said() for node in (first, second)]
    assert [node.agent.returncode for node in (first, second)] == [0, 0]
    assert "error: another process of this run has ended" in said[0]
    assert_same(tmp_path / "killed", alone)


def test_a_process_that_is_killed_on_one_machine_is_started_again(
    tmp_path: Path, twenty_epochs: list[str], alone: Path
) -> None:
    """There torchrun keeps its store, with the addresses of those that are gone."""
    one = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "--max-restarts", "3"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    killed = [*twenty_epochs, "--resume", "--output", str(tmp_path / "killed")]
    run = [sys.executable, *one, "-m", "zeroshot_cli", *killed]
    with subprocess.Popen(run, env=environment, stderr=subprocess.PIPE, text=True) as agent:
        for steps in (12, 40):
            wait_for_steps(tmp_path / "killed", steps)
            os.kill(children(agent.pid)[steps % 2], signal.SIGKILL)
        said = agent.communicate(timeout=SECONDS)[1]
        assert agent.returncode == 0, said
    assert_same(tmp_path / "killed", alone)


def test_nodes_that_see_different_folders_are_told(
    tmp_path: Path, arguments: list[str], port: int, nodes: ExitStack
) -> None:
    for name in ("here", "there"):
        one = ["zeroshot_cli", *arguments, "--output", str(tmp_path / name), "--epochs", "1" if name == "here" else "2"]
        subprocess.run([sys.executable, "-m", *one], timeout=SECONDS, check=False)
    names = ("here", "there")
    both = [
        Node(nodes, port, [*arguments, "--output", str(tmp_path / name), "--resume"], first=name == "here")
        for name in names
    ]
    said = "".join(node.said() for node in both)
    assert "the processes of this run do not see the same" in said
    assert "name a folder that all machines share in --output" in said
    assert "zeroshot_cli/train/" not in said  # no traceback of ours beside torchrun's own
    assert len(rows_of(tmp_path / "here")) == 3
