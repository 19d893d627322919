"""Two thousand damaged images through the decoding processes: a row each, within bounds of time and memory."""

import io
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path
from random import Random

import imagecodecs
import numpy as np
import pillow_heif
import pytest
import tifffile
from good_files import make_good_files
from PIL import Image

from zeroshot_cli.errors import UnreadableImage
from zeroshot_cli.images.decode import Decoding
from zeroshot_cli.images.decoder_pool import Decoded, Decoders
from zeroshot_cli.images.decoder_process import Job
from zeroshot_cli.images.preprocess import PreprocessConfig
from zeroshot_cli.records import Truncated

pytestmark = pytest.mark.slow

COUNT = 2_000
BOUND = 700 << 20  # bytes of a process
CODE = 120 << 20  # bytes of libraries, which the bound does not count
TIMEOUT = 10.0  # seconds
BATCH = 100
PLANES, TILES = {"planarconfig": "separate"}, {"tile": (16, 16)}
PREDICTOR = {"compression": "deflate", "predictor": True}


def seeds(folder: Path) -> list[bytes]:
    """Good images of all formats, among them those that Pillow alone does not read."""
    found = [Path(path).read_bytes() for path in make_good_files(folder)]
    pixels = np.random.default_rng(0).integers(0, 32768, (40, 50, 3), dtype=np.uint16)
    for kind in ("u2", "i2", "u4", "f2", "f4", "f8"):
        for options in (
            {"planarconfig": "separate"},
            {"compression": "deflate", "predictor": True},
            {"tile": (16, 16)},
        ):
            stream = io.BytesIO()
            samples = np.moveaxis(pixels, -1, 0) if "planarconfig" in options else pixels
            tifffile.imwrite(stream, np.ascontiguousarray(samples.astype(kind)), photometric="rgb", **options)
            found.append(stream.getvalue())
    small = (pixels >> 7).astype(np.uint8)
    found += [imagecodecs.jpegxl_encode(small), imagecodecs.jpegls_encode(small)]
    heic = io.BytesIO()
    pillow_heif.from_pillow(Image.fromarray(small)).save(heic)
    return [*found, imagecodecs.jpeg8_encode(small, lossless=True), heic.getvalue()]


def mutated(content: bytes, rng: Random) -> bytes:
    """Cut off, overwrite, repeat or remove a part, mostly near the beginning, where the headers are."""
    changed = bytearray(content)
    for _ in range(rng.choice((1, 1, 2, 5))):
        near = min(len(changed), rng.choice((64, 512, len(changed))))
        at = rng.randrange(max(near, 1))
        length = rng.choice((1, 1, 2, 4, 16))
        kind = rng.randrange(6)
        if kind == 0:
            del changed[at:]
        elif kind == 1:
            changed[at : at + length] = rng.randbytes(length)
        elif kind == 2:
            changed[at : at + length] = b"\xff" * length
        elif kind == 3:
            changed[at:at] = changed[at : at + 8 * length]
        elif kind == 4:
            del changed[at : at + length]
        else:
            changed[at : at + length] = (rng.choice((0, 1, 255, 2**15, 2**16 - 1))).to_bytes(4)[-length:]
        if not changed:
            break
    return bytes(changed)


def peaks(decoders: Decoders) -> Iterator[int]:
    """The most memory that each process has held, in bytes."""
    for process in list(decoders._processes):
        try:
            status = Path(f"/proc/{process._process.pid}/status").read_text()
        except OSError:  # it has ended
            continue
        yield from (int(line.split()[1]) << 10 for line in status.splitlines() if line.startswith("VmHWM:"))


def outcome(future: Future[Decoded]) -> str:
    try:
        return "read" if future.result().pixels else "nothing"
    except UnreadableImage as error:
        return str(error)


def test_two_thousand_damaged_images_are_two_thousand_rows(tmp_path: Path) -> None:
    rng, good = Random(17), seeds(tmp_path)
    contents = [mutated(good[number % len(good)], rng) or b"\0" for number in range(COUNT)]
    how = Decoding(exact=False, timeout=TIMEOUT, truncated=Truncated.READ)
    outcomes: list[str] = []
    began = time.monotonic()
    with Decoders(Job(PreprocessConfig(size=32), decoding=how, memory=BOUND), workers=2) as decoders:
        for start in range(0, COUNT, BATCH):
            outcomes += map(outcome, [decoders.submit(each) for each in contents[start : start + BATCH]])
            assert max(peaks(decoders)) < BOUND + CODE
    assert len(outcomes) == COUNT
    assert time.monotonic() - began < 300
    for reason in outcomes:
        assert reason.isprintable()
        assert len(reason) < 200
        assert "defect" not in reason, reason
    counts = Counter(outcomes)
    assert counts["nothing"] == 0
    assert 100 < counts["read"] < COUNT - 500, counts
