"""A decoding process does not outlive who started it, even in the midst of an image."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from PIL import Image

PROGRAM = """
import sys
from zeroshot_cli.images.decoder_pool import Decoders
from zeroshot_cli.images.decoder_process import Job
from zeroshot_cli.images.decode import Decoding
from zeroshot_cli.images.preprocess import PreprocessConfig

decoders = Decoders(Job(PreprocessConfig(size=32), decoding=Decoding(max_pixels=10**9)), workers=1)
first = decoders.submit(sys.argv[1]).result()
print(next(iter(decoders._processes))._process.pid, flush=True)
decoders.submit(sys.argv[2]).result()
print("decoded", flush=True)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="others end with the image that they are at")
def test_a_decoder_ends_in_the_midst_of_an_image(tmp_path: Path) -> None:
    small, large = tmp_path / "small.png", tmp_path / "large.png"
    Image.new("RGB", (8, 8)).save(small)
    Image.new("RGB", (20_000, 8_000)).save(large, compress_level=1)  # takes seconds
    command = [sys.executable, "-c", PROGRAM, str(small), str(large)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        decoder = int(process.stdout.readline())
        busy = cpu_seconds(decoder)
        while cpu_seconds(decoder) < busy + 0.2:
            time.sleep(0.01)
        os.kill(process.pid, signal.SIGKILL)
        killed = time.monotonic()
        assert process.stdout.read() == ""  # it was at the image
    while is_there(decoder):
        assert time.monotonic() - killed < 5
        time.sleep(0.01)


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def is_there(pid: int) -> bool:
    try:
        return b"decoder_process" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False
