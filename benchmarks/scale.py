"""Measure what `--engine ray` costs beside one process, with `tiny` on a cluster of this machine (Linux only).

1. CPU of an image, over that in one process with one thread and one worker: at most 0.1 ms at 512 images a task.
2. What is fixed: at most 6.5 s of CPU and 5.5 s of waiting beyond one process, for one task.
3. Images a second once it runs, with one and two actors against one and two workers.

CPU is that of all processes that a run starts, Ray's included. The images are drawn, and every run is alternated with
its peer; figures are medians. Other work on the machine makes all of them meaningless, waiting above all.

    python benchmarks/scale.py [--rounds 3] [--images 5120]
"""

from __future__ import annotations

import argparse
import ctypes
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from kills import LABELS, draw
from record import processor

TASK = 512
_SUBREAPER = 36  # of prctl(2): children of processes that have ended become ours
_EVERY = 0.1  # seconds between two looks at the CPU of every process
WAYS = {  # name → options and threads
    "1 worker": (("--workers", "1"), "1"),
    "1 actor": (("--engine", "ray", "--actors", "1"), "1"),
    "2 workers": (("--workers", "2"), "2"),
    "2 actors": (("--engine", "ray", "--actors", "2"), "1"),
}


@dataclass(frozen=True)
class Cost:
    """What a run took: seconds of waiting, seconds of CPU."""

    waiting: float
    cpu: float


def main() -> None:
    options = _options()
    print(f"{processor()}, load {os.getloadavg()[0]:.1f}")
    with tempfile.TemporaryDirectory(prefix="scale-") as name:
        folder = draw(Path(name) / "photos", options.images)
        paths = sorted(map(str, folder.iterdir()))
        few: dict[str, list[Cost]] = {way: [] for way in WAYS}
        many: dict[str, list[Cost]] = {way: [] for way in WAYS}
        for _ in range(options.rounds):
            for way in WAYS:
                few[way].append(measured(paths[:TASK], way))
                many[way].append(measured(paths, way))
        more = len(paths) - TASK
        each = {way: _median(few[way], many[way], more) for way in WAYS}
        beyond = 1000 * (each["1 actor"].cpu - each["1 worker"].cpu)
        print(f"CPU of an image: {beyond:+.3f} ms over one process (at most 0.1)")
        for way, cost in each.items():
            print(f"CPU of an image, {way}: {1000 * cost.cpu:.2f} ms")
        fixed = [
            Cost(ray.waiting - one.waiting, ray.cpu - one.cpu)
            for ray, one in zip(few["1 actor"], few["1 worker"], strict=True)
        ]
        cpu, waiting = (statistics.median(getattr(cost, what) for cost in fixed) for what in ("cpu", "waiting"))
        print(f"CPU that is fixed: {cpu:.1f} s over one process (at most 6.5)")
        print(f"what is fixed: {waiting:.1f} s of waiting over one process (at most 5.5)")
        for way, cost in each.items():
            print(f"{way:9}: {1 / cost.waiting:8.1f} images/s")


def measured(paths: list[str], way: str) -> Cost:
    """The cost of a run, in a process that inherits the children of others, so that none of them is lost."""
    options, threads = WAYS[way]
    labels = [word for label in LABELS for word in ("--label", label)]
    model = ("--model", "tiny", "--precision", "fp32", "--batch-size", "32", "--no-cache")
    command = [sys.executable, "-m", "zeroshot_cli", "classify", "-", *labels, *model, *options, "--quiet"]
    done = subprocess.run(
        [sys.executable, __file__, "--run", *command],
        input="\n".join(paths),
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": threads, "RAY_ADDRESS": ""},
        check=True,
    )
    waiting, cpu = map(float, done.stderr.split()[-2:])
    return Cost(waiting, cpu)


def run(command: list[str]) -> None:
    ctypes.CDLL(None).prctl(_SUBREAPER, 1)
    begun = time.monotonic()
    child = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    ticks: dict[int, int] = {}
    while child.poll() is None:
        ticks |= _ticks_of_descendants()
        time.sleep(_EVERY)
    waiting = time.monotonic() - begun
    assert child.returncode in (0, 4), child.returncode
    while True:
        try:
            os.wait()
        except ChildProcessError:
            break
    print(waiting, sum(ticks.values()) / os.sysconf("SC_CLK_TCK"), file=sys.stderr)


def _ticks_of_descendants() -> dict[int, int]:
    """The CPU that each process below this one has taken so far.

    What the kernel adds up of children is not enough: a raylet ignores SIGCHLD, and then it counts nothing of actors.
    """
    found = {}
    for place in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = place.read_text().rpartition(") ")[2].split()
        except OSError:  # it has ended
            continue
        found[int(place.parent.name)] = (int(fields[1]), int(fields[11]) + int(fields[12]))
    parents = {process: parent for process, (parent, _) in found.items()}
    return {process: ticks for process, (_, ticks) in found.items() if os.getpid() in _above(process, parents)}


def _above(process: int, parents: dict[int, int]) -> list[int]:
    above = []
    while (process := parents.get(process, 0)) and process not in above:
        above.append(process)
    return above


def _median(few: list[Cost], many: list[Cost], more: int) -> Cost:
    """What one image costs once it runs."""
    return Cost(
        statistics.median((m.waiting - f.waiting) / more for f, m in zip(few, many, strict=True)),
        statistics.median((m.cpu - f.cpu) / more for f, m in zip(few, many, strict=True)),
    )


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--images", type=int, default=5120)
    return parser.parse_args()


if __name__ == "__main__":
    if sys.argv[1:2] == ["--run"]:
        run(sys.argv[2:])
    else:
        main()
