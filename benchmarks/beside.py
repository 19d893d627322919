"""Measure images/s of `small` alone and beside other busy processes: at least 0.6 of the fair share (Linux only).

With `c` cores, as many threads of ours, and `b` busy processes of one thread each, a fair scheduler gives us
c / (c + b) of the machine: that part of the images/s alone is the fair share, two thirds on two cores with one process.
Two things are timed, the model on batches of 32 and the whole way from JPEG files to embeddings, each with threads that
wait as in the commands, with threads that spin as is OpenMP's own default, and with one thread. Every way has a process
of its own; all take turns, alone and beside, and figures are medians. Other work on the machine counts as busy
processes that nobody has asked for, so that `alone` is too low.

    python benchmarks/beside.py [--rounds 7] [--seconds 3] [--busy 1] [--model small]
"""

from __future__ import annotations

import argparse
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from kills import draw
from record import processor

from zeroshot_cli.__main__ import wait_asleep

BATCH = 32
WAYS: dict[str, dict[str, str]] = {  # name → environment; the first is that of the commands
    "as the commands": {},
    "spinning": {"GOMP_SPINCOUNT": "300000"},  # libgomp's own, where OMP_WAIT_POLICY is not set
    "one thread": {"OMP_NUM_THREADS": "1"},
}
STAGES = ("model", "files")
BUSY = "while True: pass"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=3.0, help="of one measurement")
    parser.add_argument("--busy", type=int, default=1, help="busy processes beside")
    parser.add_argument("--model", default="small")
    parser.add_argument("--worker", metavar="FOLDER", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        work(options.model, Path(options.worker))
        return
    cores = len(os.sched_getaffinity(0))
    print(f"{processor()}, load {os.getloadavg()[0]:.1f}")
    with tempfile.TemporaryDirectory(prefix="beside-") as name:
        speeds = measure(draw(Path(name) / "photos", 4 * BATCH), options)
    share = cores / (cores + options.busy)
    print(f"{options.model}, {cores} cores, {options.busy} busy beside, {options.rounds} rounds; fair is {share:.2f}")
    print(f"{'':24}{'alone':>8}{'beside':>8}{'of the fair share':>19}")
    for stage in STAGES:
        for way in WAYS:
            alone, beside = (statistics.median(speeds[way, stage, busy]) for busy in (False, True))
            print(f"{stage + ', ' + way:24}{alone:8.1f}{beside:8.1f}{beside / (share * alone):19.2f}")
    print("images a second; the fair share of each line is of its own speed alone")


def measure(folder: Path, options: argparse.Namespace) -> dict[tuple[str, str, bool], list[float]]:
    """Images a second of every way and stage, beside busy processes or alone, in each round."""
    speeds: dict[tuple[str, str, bool], list[float]] = {}
    workers = {way: start(way, folder, options.model) for way in WAYS}
    for number in range(options.rounds):
        for busy in (False, True):
            with beside(options.busy if busy else 0):
                for way in list(WAYS)[:: -1 if number % 2 else 1]:
                    for stage in STAGES:
                        speeds.setdefault((way, stage, busy), []).append(ask(workers[way], stage, options.seconds))
    for worker in workers.values():
        worker.communicate()
    return speeds


def start(way: str, folder: Path, model: str) -> subprocess.Popen[str]:
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("OMP_", "GOMP_", "KMP_"))}
    command = [sys.executable, __file__, "--worker", str(folder), "--model", model]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    worker = subprocess.Popen(command, text=True, env={**kept, **WAYS[way]}, **pipes)
    ask(worker, STAGES[0], 0.0)  # loads the model
    return worker


def ask(worker: subprocess.Popen[str], stage: str, seconds: float) -> float:
    assert worker.stdin is not None
    assert worker.stdout is not None
    worker.stdin.write(f"{stage} {seconds}\n")
    worker.stdin.flush()
    return float(worker.stdout.readline())


@contextmanager
def beside(number: int) -> Iterator[None]:
    """Busy processes of one thread each, for as long as the block takes."""
    busy = [subprocess.Popen([sys.executable, "-c", BUSY]) for _ in range(number)]
    try:
        time.sleep(0.2 if busy else 0.0)
        yield
    finally:
        for each in busy:
            each.send_signal(signal.SIGKILL)
            each.wait()


def work(name: str, folder: Path) -> None:
    """Answer each line of standard input, a stage and seconds, with images a second."""
    wait_asleep()  # before torch is imported, as the commands do
    import torch

    from zeroshot_cli.embed.images import encode_images
    from zeroshot_cli.images.decoder_pool import auto_workers
    from zeroshot_cli.models.load import load

    model = load(name)
    shape = (BATCH, *model.preprocess.config.height_width, 3)
    pixels = torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    paths = sorted(map(str, folder.iterdir()))

    def files() -> int:
        return sum(map(len, encode_images(model, paths, batch_size=BATCH, workers=auto_workers())))

    stages: dict[str, Callable[[], int]] = {"model": lambda: len(model.encode_pixels(pixels)), "files": files}
    for stage in stages.values():
        stage()
    for line in sys.stdin:
        stage, seconds = line.split()
        begun, images = time.perf_counter(), 0
        while (taken := time.perf_counter() - begun) < float(seconds) or not images:
            images += stages[stage]()
        print(images / (taken or 1.0), flush=True)


if __name__ == "__main__":
    main()
