"""Run a benchmark and store what it prints in results/, with date, machine and command; `make bench` does so for all.

A result is written only if the script succeeds, so a failure leaves the earlier figures in place. A run with options of
its own, such as --only, has a file of its own next to that of the whole script.

    python benchmarks/record.py SCRIPT.py [OPTIONS OF THE SCRIPT ...]
"""

import os
import platform
import re
import shlex
import subprocess
import sys
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

HERE = Path(__file__).resolve().parent


def main() -> int:
    if len(sys.argv) < 2 or sys.argv[1] in ("-h", "--help"):
        print(__doc__)
        return 0 if len(sys.argv) > 1 else 2
    script, options = Path(sys.argv[1]), sys.argv[2:]
    if not script.is_file():
        sys.exit(f"{script} is no script; give one of benchmarks/, then its options")
    if {"-h", "--help"} & set(options):
        return subprocess.call([sys.executable, str(script), "--help"])
    header = "".join(f"{name}: {value}\n" for name, value in about(script, options).items())
    process = subprocess.Popen([sys.executable, str(script), *options], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    lines = []
    try:
        print(header, flush=True)
        for line in process.stdout:
            print(line, end="", flush=True)
            lines.append(line)
    except BrokenPipeError:  # `| head` has seen enough
        process.kill()
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for what Python still writes when it ends
        return 1
    if process.wait() == 0:
        path = result_file(script, options)
        path.parent.mkdir(exist_ok=True)
        path.write_text(header + "\n" + "".join(lines), encoding="utf-8")
    return process.returncode


def result_file(script: Path, options: list[str], folder: Path = HERE) -> Path:
    """Where a result is kept: SCRIPT.txt, or SCRIPT.OPTIONS.txt of a run with options."""
    words = re.sub(r"[^A-Za-z0-9]+", "-", " ".join(options)).strip("-")
    return folder / "results" / (f"{script.stem}.{words}.txt" if words else f"{script.stem}.txt")


def about(script: Path, options: list[str]) -> dict[str, str]:
    """When, where and how: what a figure is worth little without."""
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "machine": f"{os.cpu_count()} cores of {processor()}, load {os.getloadavg()[0]:.1f}, torch {version('torch')}",
        "command": shlex.join(["python", f"benchmarks/{script.name}", *options]),
    }


def processor() -> str:
    """The processor's name and what makes it fast at products, on Linux; elsewhere what Python knows."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return platform.processor() or platform.machine()
    fields = dict(
        reversed([[part.strip() for part in line.split(":", 1)] for line in text.splitlines() if ":" in line])
    )
    quick = [
        flag for flag in ("avx2", "avx512_bf16", "amx_bf16", "avx512_vnni") if flag in fields.get("flags", "").split()
    ]
    return f"{fields.get('model name', platform.machine())} ({', '.join(quick) or 'no vector units known'})"


if __name__ == "__main__":
    sys.exit(main())
