"""Compare `train --lora` with training all weights: seconds of CPU and memory for a step of ViT-B-32.

The weights are random and so are the images: neither changes what a step costs. Each way has a process of its own, with
one thread, whose CPU time is measured, so that other programs on the machine count little. The first step, which
allocates, does not count. The checkpoint has weights and the optimizer's moments.

    python benchmarks/lora.py [--rank 2] [--batch-size 16] [--steps 3]
"""

from __future__ import annotations

import argparse
import os
import re
import statistics
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import torch
from record import processor

from zeroshot_cli.clip.lora import adapt
from zeroshot_cli.models.load import new_model
from zeroshot_cli.train.config import FINE_TUNING_LR, TrainConfig
from zeroshot_cli.train.data import Batch
from zeroshot_cli.train.distributed import World
from zeroshot_cli.train.learner import Learner
from zeroshot_cli.train.start import Start

MODEL = "ViT-B-32"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rank", type=int, default=2)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--one", choices=["all", "lora"], help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(_measured(options, lora=options.rank if options.one == "lora" else None))
        return
    print(f"{processor()}, one thread; torch {torch.__version__}; {MODEL}, batches of {options.batch_size}, fp32")
    for one in ("all", "lora"):
        command = [sys.executable, __file__, *sys.argv[1:], "--one", one]
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        done = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True)
        print(f"{'all weights' if one == 'all' else f'--lora {options.rank}':12} {done.stdout.strip()}", flush=True)


def _measured(options: argparse.Namespace, *, lora: int | None) -> str:
    config = TrainConfig(batch_size=options.batch_size, device="cpu", precision="fp32", lora=lora)
    model, *parts = new_model(MODEL, text_encoder=None, seed=0)
    if lora is not None:
        adapt(model, rank=lora, seed=0)
    learner = Learner(config, Start(model, *parts, "random", lr=FINE_TUNING_LR), World(), torch.device("cpu"))
    seconds = []
    for step in range(1, options.steps + 2):
        batch = _batch(options.batch_size, step, side=parts[1].height_width[0])
        before = time.process_time()
        learner.step(batch, lr=FINE_TUNING_LR, number=step, stop=False)
        seconds.append(time.process_time() - before)
    peak = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    trained = sum(parameter.numel() for parameter in learner.trained)
    checkpoint = sum(t.nbytes for tensors in learner.tensors().values() for t in tensors.values())
    return (
        f"{trained:11,} parameters trained, {statistics.median(seconds[1:]):6.2f} s of CPU a step "
        f"({min(seconds[1:]):.2f} to {max(seconds[1:]):.2f}), peak {int(peak[1]) / 1024 if peak else 0:,.0f} MiB, "
        f"checkpoint {checkpoint / 2**20:,.0f} MiB"
    )


def _batch(size: int, step: int, *, side: int) -> Batch:
    pixels = np.random.default_rng(step).integers(0, 256, (size, side, side, 3), dtype=np.uint8)
    captions = tuple(f"a photo of thing number {row} on a table" for row in range(size))
    return Batch(pixels, captions, tuple(f"{row}.png" for row in range(size)))


if __name__ == "__main__":
    main()
