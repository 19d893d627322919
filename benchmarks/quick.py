"""Measure in three minutes what a change may have slowed: the model, its start, beside other work, the losses' memory.

These are the other scripts with few rounds, so a difference of less than a tenth says nothing; `make bench` measures
what is claimed.

    python benchmarks/quick.py
"""

import statistics
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
SCRIPTS = (
    ("precision.py", "--only", "zeroshot", "--rounds", "3"),
    ("beside.py", "--rounds", "1", "--seconds", "1"),
    ("sigmoid.py", "--batch-size", "2048", "--repeat", "1"),
)
STARTS = (
    ("--help",),
    ("prompts", "list"),
    ("models", "list"),
    ("classify", str(HERE.parent / "examples" / "images"), "--label", "cat", "--label", "dog", "--no-cache"),
)


def main() -> None:
    for arguments in STARTS:
        seconds = statistics.median(timed(arguments) for _ in range(3))
        print(f"{seconds:6.2f} s  zeroshot {' '.join(arguments).replace(str(HERE.parent) + '/', '')}", flush=True)
    for script, *options in SCRIPTS:
        print(f"\n{script} {' '.join(options)}", flush=True)
        subprocess.run([sys.executable, str(HERE / script), *options], check=True)


def timed(arguments: tuple[str, ...]) -> float:
    """The seconds of a command, whatever it finds."""
    start = time.perf_counter()
    subprocess.run([sys.executable, "-m", "zeroshot_cli", *arguments], capture_output=True, check=False)
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
