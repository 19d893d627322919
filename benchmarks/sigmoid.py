"""Compare our sigmoid loss with open_clip's, `SigLipLoss`, on two processes: memory, time and gradients.

Two processes, one thread each, exchange embeddings over the loopback (gloo). Each has its half of the batch: images and
texts of 512 numbers, normalised, at random. Each way to compute is run in processes of its own, forward and backward:

- memory is the highest resident memory of a process less that before, in the worse of the two; what every way needs
  first, a small batch through the same code, comes before that
- time is the CPU's, the median of the repetitions after it
- gradients are those of images, texts, 1 ÷ temperature and bias; the largest difference counts, and is also given in
  shares of the largest number of its gradient, which float32 has to 1e-6 on either side

open_clip has four ways to exchange texts (`--loss-dist-impl`); the one that takes the least memory is its best. Ours
has to take at most a fifth of that. With `--loss clip` both compute the contrastive loss, of which nothing is claimed.

    python benchmarks/sigmoid.py [--batch-size 8192] [--repeat 3] [--loss sigmoid|clip]
"""

from __future__ import annotations

import argparse
import re
import statistics
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

import torch
import torch.distributed as dist
from record import processor
from torch import Tensor
from torch.nn import functional as F

SHARE = 1 / 5  # of open_clip's memory, at most
EXACT = 1e-6
SIZE = 2  # processes
WIDTH = 512
NAMES = ("images", "texts", "scale", "bias")
SCALE, BIAS = 10.0, -10.0  # those that SigLIP starts from
WAYS = {
    "sigmoid": ("ours", "open_clip bidir", "open_clip shift", "open_clip reduce", "open_clip gather"),
    "clip": ("ours", "open_clip", "open_clip local", "open_clip local with-grad"),
}


def main() -> None:
    options = _options()
    if options.way is not None:
        _process(options)
        return
    print(f"{processor()}, torch {torch.__version__}, open_clip {version('open_clip_torch')}")
    print(f"{options.loss} loss of {options.batch_size} embeddings of {WIDTH} numbers, {SIZE} processes")
    found = {}
    with tempfile.TemporaryDirectory() as work:
        for way in WAYS[options.loss]:
            file = Path(work) / way.replace(" ", "-")
            processes = [_start(options, way, rank, file) for rank in range(SIZE)]
            if sum(process.wait() for process in processes):
                print(f"  {way:28} fails")
                continue
            found[way] = [torch.load(f"{file}.{rank}") for rank in range(SIZE)]
            memory, seconds = _memory(found[way]), _seconds(found[way])
            print(f"  {way:28}{memory:8.0f} MiB {seconds:8.2f} s of a CPU   loss {_loss(found[way]):.6f}", flush=True)
    ours, theirs = found.pop("ours"), found
    best, fastest = min(map(_memory, theirs.values())), min(map(_seconds, theirs.values()))
    print(f"  ratio {_memory(ours) / best:.3f} of open_clip's memory at its best (at most {SHARE})")
    print(f"  CPU time {_seconds(ours) / fastest:.3f} of open_clip's at its best")
    for way, other in theirs.items():
        difference, share = _difference(ours, other)
        print(f"  gradients differ from {way} by {difference:.1e} (at most {EXACT}), {share:.1e} of the largest number")


def _start(options: argparse.Namespace, way: str, rank: int, file: Path) -> subprocess.Popen[bytes]:
    told = ["--way", way, "--rank", str(rank), "--file", str(file), "--loss", options.loss]
    sizes = ["--batch-size", str(options.batch_size), "--repeat", str(options.repeat)]
    return subprocess.Popen([sys.executable, __file__, *told, *sizes], stderr=subprocess.DEVNULL)


def _memory(processes: list[dict[str, Tensor]]) -> float:
    return max(float(process["memory"]) for process in processes)


def _seconds(processes: list[dict[str, Tensor]]) -> float:
    return max(float(process["seconds"]) for process in processes)


def _loss(processes: list[dict[str, Tensor]]) -> float:
    return statistics.mean(float(process["loss"]) for process in processes)


def _difference(ours: list[dict[str, Tensor]], theirs: list[dict[str, Tensor]]) -> tuple[float, float]:
    """The largest difference of a number of a gradient, and in shares of the gradient's largest number."""
    differences, shares = [], []
    for name in NAMES:
        one, other = (torch.stack([process[name] for process in side]).double() for side in (ours, theirs))
        if one.ndim == 1:  # each process has its part of a scalar's: the mean counts, as DistributedDataParallel has it
            one, other = one.mean(), other.mean()
        differences.append(float((one - other).abs().max()))
        shares.append(differences[-1] / max(float(other.abs().max()), 1e-12))
    return max(differences), max(shares)


# one of the processes


def _process(options: argparse.Namespace) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{options.file}.meet", rank=options.rank, world_size=SIZE)
    gradients = _ours(options) if options.way == "ours" else _theirs(options)
    gradients(*_embeddings(SIZE * 8, options.rank))
    given = _embeddings(options.batch_size, options.rank)
    dist.barrier()
    before = _resident("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the highest memory so far is that of now
    loss, *found = gradients(*given)
    memory = _resident("VmHWM") - before
    seconds = []
    for _ in range(options.repeat):
        dist.barrier()
        start = time.process_time()
        gradients(*given)
        seconds.append(time.process_time() - start)
    kept = dict(zip(NAMES, found, strict=True))
    figures = {"memory": memory, "seconds": statistics.median(seconds), "loss": float(loss)}
    torch.save(kept | {name: torch.tensor(value) for name, value in figures.items()}, f"{options.file}.{options.rank}")
    dist.barrier()


def _embeddings(batch_size: int, rank: int) -> tuple[Tensor, Tensor]:
    """This process's share of images and texts, be; a text is near its image, as in training."""
    share = batch_size // SIZE
    random = torch.Generator().manual_seed(rank)
    images, noise = (torch.randn(share, WIDTH, generator=random) for _ in range(2))
    return F.normalize(images, dim=1), F.normalize(images + 2 * noise, dim=1)


def _ours(options: argparse.Namespace):
    from zeroshot_cli.records import Loss
    from zeroshot_cli.train.distributed import World
    from zeroshot_cli.train.step import Objective

    objective = Objective(Loss(options.loss), World(options.rank, SIZE))

    def gradients(images: Tensor, texts: Tensor) -> list[Tensor]:
        rows = options.rank * len(images) + torch.arange(len(images))
        ids = torch.stack([rows, rows], dim=1)  # no caption and no image twice, and that is looked at
        loss, _, found = objective.gradients((images, texts, torch.tensor(SCALE), torch.tensor(BIAS)), ids)
        return [loss, *found]

    return gradients


def _theirs(options: argparse.Namespace):
    from open_clip.loss import ClipLoss, SigLipLoss

    world = {"rank": options.rank, "world_size": SIZE}
    words = options.way.split()[1:]
    if options.loss == "sigmoid":
        criterion = SigLipLoss(**world, dist_impl=words[0])
    else:
        criterion = ClipLoss(**world, local_loss="local" in words, gather_with_grad="with-grad" in words)

    def gradients(*given: Tensor) -> list[Tensor]:
        leaves = [tensor.detach().requires_grad_() for tensor in (*given, torch.tensor(SCALE), torch.tensor(BIAS))]
        used = leaves if options.loss == "sigmoid" else leaves[:3]
        loss = criterion(*used)
        loss.backward()
        return [loss.detach(), *(leaf.grad if leaf.grad is not None else torch.zeros_like(leaf) for leaf in leaves)]

    return gradients


def _resident(name: str) -> float:
    """MiB: VmRSS of now, VmHWM at most so far."""
    found = re.search(rf"{name}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found is not None
    return int(found[1]) / 1024


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch-size", type=int, default=8192, help="pairs of both processes together")
    parser.add_argument("--repeat", type=int, default=3, help="repetitions that are timed")
    parser.add_argument("--loss", choices=tuple(WAYS), default="sigmoid")
    for name in ("--way", "--file"):
        parser.add_argument(name, help=argparse.SUPPRESS)
    parser.add_argument("--rank", type=int, help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    main()
