"""Decoding processes: what they answer, and what becomes of an image that ends or hangs one."""

import errno
import hashlib
import io
import os
import signal
import struct
import subprocess
import sys
import time
import zlib
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from zeroshot_cli.errors import UnreadableImage, UsageError
from zeroshot_cli.images import decoder_pool as module
from zeroshot_cli.images import decoder_process as wire
from zeroshot_cli.images import memory
from zeroshot_cli.images.decode import Decoding, decode
from zeroshot_cli.images.decoder_pool import Decoders
from zeroshot_cli.images.decoder_process import Job
from zeroshot_cli.images.given import resized_pixels
from zeroshot_cli.images.preprocess import PreprocessConfig, resize

CONFIG = PreprocessConfig(size=(12, 16))
# A file's name says what reading it does to the process.
MISBEHAVING = """
import os, signal, time
from zeroshot_cli.images import decoder_process as decoder
read = decoder.read_image
def misbehave(file, how, **options):
    name = os.path.basename(os.readlink(f"/proc/self/fd/{file.fileno()}"))
    if "crash" in name: os.kill(os.getpid(), signal.SIGSEGV)
    if "killed" in name: os.kill(os.getpid(), signal.SIGKILL)
    if "exit" in name: os._exit(3)
    if "hang" in name: time.sleep(60)
    if "defect" in name: raise TypeError("a defect of ours")
    if "recursion" in name: (f := lambda: f())()
    if "panic" in name: raise type("Panic", (BaseException,), {})("of a plugin in Rust")
    if "eof" in name: raise EOFError
    if "print" in name: os.write(1, b"noise on standard output"); print("more")
    return read(file, how, **options)
decoder.read_image = misbehave
decoder.main()
"""


def draw(path: Path, size: tuple[int, int] = (40, 30)) -> str:
    pixels = np.random.default_rng(len(path.name)).integers(0, 256, (*size[::-1], 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return str(path)


def test_pixels_are_those_of_decoding_and_resizing_here(tmp_path: Path) -> None:
    path = draw(tmp_path / "a.png")
    with Decoders(Job(CONFIG, hashed=True), workers=1) as decoders:
        decoded = decoders.submit(path).result()
    assert decoded.pixels == resize(decode(path), CONFIG).tobytes()
    assert decoded.content == hashlib.sha256(Path(path).read_bytes()).digest()


@pytest.mark.parametrize(
    ("decoding", "exact"),
    [(Decoding(), True), (Decoding(exact=False), False), (Decoding(exact=False, as_stored=True), True)],
)
def test_a_large_image_is_reduced_unless_every_pixel_counts(decoding: Decoding, exact: bool, tmp_path: Path) -> None:
    path = draw(tmp_path / "a.png", (90, 70))
    image = decode(path)
    assert resize(image, CONFIG, exact=False) != resize(image, CONFIG)
    expected = resize(image, CONFIG, exact=exact).tobytes()
    with Decoders(Job(CONFIG, decoding=decoding), workers=1) as decoders:
        assert decoders.submit(path).result().pixels == expected
    assert resized_pixels(image, CONFIG, decoding) == expected


def test_known_content_is_not_decoded(tmp_path: Path) -> None:
    known, new = draw(tmp_path / "known.png"), draw(tmp_path / "new.png")
    digest = hashlib.sha256(Path(known).read_bytes()).digest()
    with Decoders(Job(CONFIG, hashed=True), workers=1) as decoders:
        results = [decoders.submit(path, lambda content: content == digest).result() for path in (known, new, known)]
    assert [result.pixels is None for result in results] == [True, False, True]


def test_a_thumbnail_is_a_small_file_of_the_whole_image(tmp_path: Path) -> None:
    Image.new("RGB", (1000, 400), (200, 40, 10)).save(tmp_path / "wide.jpg")
    with Decoders(Job(thumbnail=100), workers=1) as decoders:
        pixels = decoders.submit(str(tmp_path / "wide.jpg")).result().pixels
        small = decoders.submit(draw(tmp_path / "small.png", (8, 4))).result().pixels
    assert pixels is not None
    assert small is not None
    with Image.open(io.BytesIO(pixels)) as image:
        assert (image.format, image.size) == ("WEBP", (100, 40))
        assert np.abs(np.asarray(image.convert("RGB")).mean(axis=(0, 1)) - (200, 40, 10)).max() < 4
    with Image.open(io.BytesIO(small)) as image:
        assert image.size == (8, 4)


def test_reasons_come_through(tmp_path: Path) -> None:
    (tmp_path / "empty.png").touch()
    with Decoders(Job(CONFIG), workers=1) as decoders:
        for path, reason in ((tmp_path / "empty.png", "the file is empty"), (tmp_path / "none.png", "no such file")):
            with pytest.raises(UnreadableImage, match=reason):
                decoders.submit(str(path)).result()


def test_a_limit_of_pixels_holds(tmp_path: Path) -> None:
    path = draw(tmp_path / "a.png")
    with (
        Decoders(Job(CONFIG, decoding=Decoding(max_pixels=1199)), workers=1) as decoders,
        pytest.raises(UnreadableImage, match=r"1,200 .*1,199"),
    ):
        decoders.submit(path).result()


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("crash.png", r"the decoder crashed on it \(SIGSEGV\)"),
        ("killed.png", "the decoder was killed on it, perhaps for lack of memory"),
        ("exit.png", r"the decoder crashed on it \(exit code"),
        ("hang.png", r"decoding took longer than 2 seconds \(--decode-timeout\)"),
    ],
)
def test_a_decoder_that_crashes_or_hangs_costs_one_image(
    name: str, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PROGRAM", MISBEHAVING)
    good = [draw(tmp_path / f"{number}.png") for number in range(4)]
    with Decoders(Job(CONFIG, decoding=Decoding(timeout=2)), workers=2) as decoders:
        futures = [decoders.submit(path) for path in (*good[:2], draw(tmp_path / name), *good[2:])]
        with pytest.raises(UnreadableImage, match=reason):
            futures.pop(2).result(timeout=20)
        assert all(future.result(timeout=20).pixels for future in futures)


@pytest.mark.parametrize(
    ("name", "error"),
    [("defect.png", "TypeError"), ("recursion.png", "RecursionError"), ("panic.png", "Panic"), ("eof.png", "EOFError")],
)
def test_whatever_a_decoder_raises_costs_one_image(
    name: str, error: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PROGRAM", MISBEHAVING)
    with Decoders(Job(CONFIG), workers=1) as decoders:
        bad, good = (decoders.submit(draw(tmp_path / each)) for each in (name, "good.png"))
        with pytest.raises(UnreadableImage, match=f"a defect that we would like to hear of .{error} in "):
            bad.result(timeout=20)
        assert good.result(timeout=20).pixels
        assert len(decoders._processes) == 1


def test_a_decoder_killed_from_outside_has_its_image_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    again = 'if "killed" in name and not os.path.exists("gone") and open("gone", "w"):'
    once = MISBEHAVING.replace('if "killed" in name:', again)
    monkeypatch.setattr(module, "PROGRAM", once)
    monkeypatch.chdir(tmp_path)
    path = draw(tmp_path / "killed.png")
    with Decoders(Job(CONFIG), workers=1) as decoders:
        assert decoders.submit(path).result(timeout=20).pixels == resize(decode(path), CONFIG).tobytes()
    assert Path("gone").exists()


@pytest.mark.parametrize("size", [(1, 20_000), (20_000, 1), (3, 40_000)])
def test_a_thumbnail_of_an_extreme_shape(size: tuple[int, int], tmp_path: Path) -> None:
    """WebP takes 16,383 pixels an edge at most."""
    Image.new("RGB", size, "red").save(tmp_path / "thin.png")
    with Decoders(Job(thumbnail=192), workers=1) as decoders:
        pixels = decoders.submit(str(tmp_path / "thin.png")).result().pixels
    assert pixels is not None
    with Image.open(io.BytesIO(pixels)) as image:
        assert sorted(image.size) == [1, 192]


def test_what_a_library_prints_does_no_harm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PROGRAM", MISBEHAVING)
    path = draw(tmp_path / "print.png")
    with Decoders(Job(CONFIG), workers=1) as decoders:
        assert decoders.submit(path).result().pixels == resize(decode(path), CONFIG).tobytes()


def test_a_process_that_does_not_start_is_a_defect(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PROGRAM", "import sys; sys.exit(1)")
    with Decoders(Job(CONFIG), workers=1) as decoders, pytest.raises(RuntimeError, match="does not start"):
        decoders.submit(draw(tmp_path / "a.png")).result()


def test_closing_ends_processes_in_the_middle_of_an_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PROGRAM", MISBEHAVING)
    decoders = Decoders(Job(CONFIG), workers=2)
    futures = [decoders.submit(draw(tmp_path / f"hang{number}.png")) for number in range(5)]
    time.sleep(0.3)
    processes = [process._process for process in decoders._processes]
    begun = time.monotonic()
    decoders.close()
    assert time.monotonic() - begun < 5
    assert [process.poll() for process in processes] == [-signal.SIGKILL] * len(processes)
    assert all(future.cancelled() or future.exception() for future in futures)


def test_files_of_the_working_directory_are_no_modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "random.py").write_text("raise SystemExit(9)")
    (tmp_path / "PIL.py").write_text("raise SystemExit(9)")
    monkeypatch.chdir(tmp_path)
    draw(tmp_path / "a.png")
    with Decoders(Job(CONFIG), workers=1) as decoders:
        assert decoders.submit("a.png").result().pixels


def test_a_path_is_bytes(tmp_path: Path) -> None:
    path = os.fsdecode(os.fsencode(tmp_path) + b"/\xff new\nline.png")
    Image.new("RGB", (4, 4)).save(Path(path))
    with Decoders(Job(CONFIG), workers=1) as decoders:
        assert decoders.submit(path).result().pixels


def test_the_program_imports_neither_torch_nor_numpy() -> None:
    code = "import sys, zeroshot_cli.images.decoder_process; print({'torch', 'numpy'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "set()\n"


def test_a_decoder_ends_when_its_parent_is_gone() -> None:
    process = subprocess.Popen(
        [sys.executable, "-P", "-c", module.PROGRAM], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    process.communicate(timeout=20)
    assert process.returncode == 0


def test_what_is_hashed_is_what_is_decoded(tmp_path: Path) -> None:
    """The file is replaced between the two: an embedding must not be kept under another image's hash."""
    path, other = draw(tmp_path / "a.png"), draw(tmp_path / "another.png")
    before, expected = Path(path).read_bytes(), resize(decode(path), CONFIG).tobytes()

    def replace_it(content: bytes) -> bool:
        with Path(path).open("r+b") as file:
            file.write(Path(other).read_bytes())
        return False

    with Decoders(Job(CONFIG, hashed=True), workers=1) as decoders:
        decoded = decoders.submit(path, replace_it).result()
    assert decoded.content == hashlib.sha256(before).digest()
    assert decoded.pixels == expected


def test_a_huge_file_is_decoded_without_a_hash(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small = "from zeroshot_cli.images import decoder_process as decoder; decoder._HUGE = 10; decoder.main()"
    monkeypatch.setattr(module, "PROGRAM", small)
    with Decoders(Job(CONFIG, hashed=True), workers=1) as decoders:
        decoded = decoders.submit(draw(tmp_path / "a.png"), lambda content: True).result()
    assert decoded.pixels
    assert decoded.content == b""


def test_a_hanging_decoder_ends_by_itself_when_its_parent_is_gone(tmp_path: Path) -> None:
    impatient = MISBEHAVING.replace("decoder.main()", "decoder._GRACE = 0.3; decoder.main()")
    process = subprocess.Popen([sys.executable, "-P", "-c", impatient], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdin is not None
    wire.send(process.stdin, b"J", Job(CONFIG, decoding=Decoding(timeout=0.2)).to_json())  # type: ignore[arg-type]
    wire.send(process.stdin, wire.PATH, os.fsencode(draw(tmp_path / "hang.png")))  # type: ignore[arg-type]
    process.communicate(timeout=20)
    assert process.returncode == -signal.SIGALRM


def test_waiting_for_the_parent_ends_no_decoder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that is stopped by Ctrl-Z, or waits for its cache, is no hanging decoder."""
    impatient = "from zeroshot_cli.images import decoder_process as decoder; decoder._GRACE = 0; decoder.main()"
    monkeypatch.setattr(module, "PROGRAM", impatient)
    with Decoders(Job(CONFIG, hashed=True, decoding=Decoding(timeout=2)), workers=1) as decoders:
        slow = decoders.submit(draw(tmp_path / "a.png"), lambda content: time.sleep(3) or False)
        assert slow.result(timeout=20).pixels


def test_a_process_that_cannot_be_had_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.setattr("subprocess.Popen", refuse)
    with (
        Decoders(Job(CONFIG), workers=1) as decoders,
        pytest.raises(UsageError, match=r"decoding process \(Too many open files\); give fewer --workers"),
    ):
        decoders.submit(draw(tmp_path / "a.png")).result()


def test_a_path_that_no_system_has_is_no_file() -> None:
    with Decoders(Job(CONFIG), workers=1) as decoders, pytest.raises(UnreadableImage, match="no such file"):
        decoders.submit("\ud800.png").result()


# memory


def test_a_huge_image_for_training_is_smaller_by_whole_squares(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire, "_MOST_WHOLE", 1000)
    pixels = np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8)
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    small = np.asarray(wire.unpack(wire.make(Job(at_least=(8, 8)), stream)[1])).astype(float)
    means = pixels.reshape(20, 3, 80, 3)[:, :, :78].reshape(20, 3, 26, 3, 3).mean(axis=(1, 3))
    assert small.shape == (20, 27, 3)
    assert np.abs(small[:, :26] - means).max() <= 1
    assert wire.unpack(wire.make(Job(at_least=(16, 16)), stream)[1]).size == (80, 60)  # else it would be too small


BOUND = 300 << 20


def peak_of(process: int) -> int:
    """The most memory, in bytes, that a process has held."""
    status = Path(f"/proc/{process}/status").read_text()
    return int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM:"))) << 10


def large(kind: str, path: Path) -> str:
    """A small file of very many pixels."""
    if kind == "webp":
        Image.new("RGB", (9000, 9000)).save(path, lossless=True, method=0, quality=0)
    elif kind == "tif":
        tifffile.imwrite(path, np.zeros((9000, 9000), np.float32), compression="deflate", photometric="minisblack")
    elif kind == "png":
        row = zlib.compress(bytes(9000 * (1 + 9000 * 8)), 1)
        parts = ((b"IHDR", struct.pack(">IIBBBBB", 9000, 9000, 16, 6, 0, 0, 0)), (b"IDAT", row), (b"IEND", b""))
        chunks = (struct.pack(">I", len(d)) + k + d + struct.pack(">I", zlib.crc32(k + d)) for k, d in parts)
        path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(chunks))
    else:
        Image.new("RGB", (9000, 9000)).save(path, progressive=True)
    return str(path)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["webp", "png", "tif", "jpg"])
def test_a_small_file_of_many_pixels_is_a_row_within_the_memory_bound(kind: str, tmp_path: Path) -> None:
    path, good = large(kind, tmp_path / f"a.{kind}"), draw(tmp_path / "good.png")
    with Decoders(Job(CONFIG, memory=BOUND), workers=1) as decoders:
        with pytest.raises(UnreadableImage, match="more than the 300 MB that one decoding process may take"):
            decoders.submit(path).result(timeout=60)
        assert decoders.submit(good).result(timeout=60).pixels
        (process,) = decoders._processes
        assert peak_of(process._process.pid) < BOUND + (60 << 20)  # and what it shares with others: its code


def test_the_bound_is_a_share_of_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "machine_memory", lambda: 32 << 30)
    assert [memory.bound_of(workers) >> 30 for workers in (1, 2, 8)] == [16, 8, 2]
    assert memory.bound_of(1000) == memory.LEAST
    monkeypatch.setattr(memory, "machine_memory", lambda: 0)
    assert memory.bound_of(1) == 0


def test_a_containers_limit_is_the_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "box/inner").mkdir(parents=True)
    (tmp_path / "box/memory.max").write_text("1073741824\n")
    (tmp_path / "box/inner/memory.max").write_text("max\n")
    monkeypatch.setattr(memory, "_CGROUPS", tmp_path)
    read = Path.read_text
    groups = "0::/box/inner\n"
    monkeypatch.setattr(Path, "read_text", lambda self: groups if str(self) == "/proc/self/cgroup" else read(self))
    assert memory.machine_memory() == 1 << 30
