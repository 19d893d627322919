"""Kill parts of runs on Ray at random moments, and compare what they write with what one process writes.

An actor, a decoding process, the raylet of a second node, and the driver, which is resumed: no row may be lost, there
twice or another one, and no process may be left.

    python benchmarks/kills.py [FOLDER] [--times 10] [--only actor] [--images 3000]
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import astuple, dataclass, field
from functools import partial
from pathlib import Path

from PIL import Image

KINDS = ("actor", "decoder", "node", "driver")
LABELS = ("hat", "shoe", "tomato", "house", "tree")
MODEL = ("--model", "tiny", "--precision", "fp32", "--batch-size", "32", "--no-cache")
RAY = ("--engine", "ray", "--task-images", "64", "--actor-cpus", "0.5", "--actors", "2")
_LONGEST = 400.0  # seconds of one run


def main() -> None:
    options = _options()
    with tempfile.TemporaryDirectory(prefix="kills-") as name:
        work = Path(name)
        folder = Path(options.folder) if options.folder else draw(work / "photos", options.images)
        expected = rows(Runs(folder, work).alone())
        print(f"{len(expected)} images, {sum('error' in row for row in expected)} of them broken", flush=True)
        for kind in options.only or KINDS:
            outcome = Runs(folder, work).killed(kind, expected, options.times)
            print(f"{kind:8}: {outcome.sentence()}", flush=True)


@dataclass(frozen=True)
class Outcome:
    """How the rows of killed runs differ from those of one process, and how many processes they left behind."""

    kills: int = 0
    lost: int = 0
    twice: int = 0
    other: int = 0
    left: int = 0

    def plus(self, more: Outcome) -> Outcome:
        return Outcome(*map(sum, zip(astuple(self), astuple(more), strict=True)))

    def sentence(self) -> str:
        rows = f"{self.lost} rows lost, {self.twice} twice, {self.other} others"
        return f"{self.kills} kills, {rows}, {self.left} processes left"


@dataclass
class Runs:
    """Runs of `classify` on a folder, whose processes all have a mark in their environment."""

    folder: Path
    work: Path
    mark: str = field(default_factory=lambda: uuid.uuid4().hex)

    def start(self, output: Path, *more: str, **environment: str) -> subprocess.Popen[bytes]:
        labels = [word for label in LABELS for word in ("--label", label)]
        command = [sys.executable, "-m", "zeroshot_cli", "classify", str(self.folder), *labels, *MODEL, *more]
        return subprocess.Popen(
            [*command, "--output", str(output)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            env={**os.environ, "KILLS": self.mark, **environment},
        )

    def alone(self) -> Path:
        output = self.work / "one.jsonl"
        _, messages = self.start(output).communicate(timeout=_LONGEST)
        assert output.exists(), messages.decode()
        return output

    def killed(self, kind: str, expected: list[dict[str, object]], times: int = 1) -> Outcome:
        """Run on Ray, kill, and compare; again where a run was over before."""
        done = Outcome()
        while done.kills < times:
            output = self.work / f"{uuid.uuid4().hex}.jsonl"
            with two_nodes(self.mark) if kind == "node" else here() as (environment, mend):
                kills = self._kill(kind, output, environment, mend, times - done.kills)
            if kills:
                done = done.plus(self._compared(rows(output), expected, kills))
        return done

    def _kill(
        self, kind: str, output: Path, environment: dict[str, str], mend: Callable[[], object], times: int
    ) -> int:
        """Run once, and kill so often, if it lasts so long; return how often."""
        process = self.start(output, *RAY, **environment)
        kills, size = 0, 0
        while kills < times:
            size = self._wait_for_rows(process, output, size)
            time.sleep(random.uniform(0, 2))
            pids = [process.pid] if kind == "driver" else self.pids(kind)
            if process.poll() is not None:
                break
            if not pids:  # what was killed is not there again
                continue
            os.kill(random.choice(pids), signal.SIGKILL)
            kills += 1
            if kind == "driver":
                process.communicate(timeout=_LONGEST)
                process = self.start(output, *RAY, "--resume", **environment)
            mend()
        _, messages = process.communicate(timeout=_LONGEST)
        assert process.returncode in (0, 4), messages.decode()
        return kills

    @staticmethod
    def _wait_for_rows(process: subprocess.Popen[bytes], output: Path, size: int) -> int:
        """Return the size of the output when it has grown, or the run is over."""
        begun = time.monotonic()
        while process.poll() is None and (not output.exists() or output.stat().st_size <= size):
            time.sleep(0.05)
            assert time.monotonic() - begun < _LONGEST
        return output.stat().st_size

    def pids(self, kind: str) -> list[int]:
        """The processes of a kind; of nodes, the raylets but the first, which is the driver's own."""
        words = {"actor": b"ray::_Actor", "decoder": b"decoder_process", "node": b"raylet/raylet"}
        found = sorted(pid for pid, command in self._processes() if words[kind] in command)
        return found[1:] if kind == "node" else found

    def _processes(self) -> Iterator[tuple[int, bytes]]:
        for path in Path("/proc").glob("[0-9]*"):
            try:
                if self.mark.encode() in (path / "environ").read_bytes():
                    yield int(path.name), (path / "cmdline").read_bytes()
            except OSError:  # another user's, or gone
                continue

    def wait_for_the_end(self, patience: float = 100.0) -> int:
        """Return how many processes are left after a while."""
        end = time.monotonic() + patience
        while left := [pid for pid, _ in self._processes() if pid != os.getpid()]:
            if time.monotonic() > end:
                break
            time.sleep(0.1)
        return len(left)

    def _compared(self, found: list[dict[str, object]], expected: list[dict[str, object]], kills: int) -> Outcome:
        counts = Counter(str(row["path"]) for row in found)
        wanted = {str(row["path"]): row for row in expected}
        other = sum(row != wanted.get(str(row["path"])) for row in found)
        lost, twice = sum(path not in counts for path in wanted), sum(count > 1 for count in counts.values())
        return Outcome(kills, lost, twice, other, self.wait_for_the_end())


@contextmanager
def here() -> Iterator[tuple[dict[str, str], Callable[[], object]]]:
    yield {"RAY_ADDRESS": ""}, lambda: None


@contextmanager
def two_nodes(mark: str, cpus: int = 1) -> Iterator[tuple[dict[str, str], Callable[[], object]]]:
    """A cluster of two nodes on this machine, as environment, and what adds a node."""
    from ray.cluster_utils import Cluster

    os.environ["KILLS"] = mark
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": cpus, "include_dashboard": False})
    try:
        cluster.add_node(num_cpus=cpus)
        yield {"RAY_ADDRESS": cluster.address}, partial(cluster.add_node, num_cpus=cpus)
    finally:
        cluster.shutdown()


def rows(file: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in file.read_text(encoding="utf-8", errors="surrogateescape").splitlines()]


def draw(folder: Path, number: int) -> Path:
    """Draw noisy images, one of a hundred of which is cut off."""
    folder.mkdir(parents=True)
    dice = random.Random(7)
    for each in range(number):
        path = folder / f"{each:05}.jpg"
        image = Image.effect_noise((300, 200), dice.randrange(1, 90)).convert("RGB")
        image.paste(tuple(dice.randrange(256) for _ in range(3)), (0, 0, dice.randrange(80, 280), 150))
        image.save(path, quality=90)
        if each % 100 == 99:
            path.write_bytes(path.read_bytes()[:2000])
    return folder


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?")
    parser.add_argument("--times", type=int, default=10)
    parser.add_argument("--images", type=int, default=3000)
    parser.add_argument("--only", action="append", choices=KINDS)
    return parser.parse_args()


if __name__ == "__main__":
    main()
