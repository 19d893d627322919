"""`zeroshot classify` as processes: killed, interrupted, on a full disk, two at once; and its memory."""

import csv
import io
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("small_model")]

IMAGES = 300
KILLS = 20
NAMES = ("out.csv", "out.jsonl", "out.parquet", "out.html", "out.xlsx")
OUTPUTS = [part for name in NAMES for part in ("--output", name)]
LABELS = ["--label", "cat", "--label", "dog", "--label", "horse"]
# Small batches, one decoder and no cache: the run takes longer, and has more moments to be killed at.
COMMAND = ["pictures", *LABELS, "--top-k", "2", "--batch-size", "1", "--workers", "1", "--no-cache", *OUTPUTS]
HEADER = b"path,rank,label,score,probability,error\n"

# The command in a process that says in the end how much memory it took at most, and may not write large files.
WRAPPER = """
import resource, sys
from pathlib import Path
limit, told, arguments = int(sys.argv[1]), sys.argv[2], sys.argv[3:]
if limit:
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
from zeroshot_cli.cli.app import run
code = run(["classify", *arguments])
if told:
    status = Path("/proc/self/status").read_text()
    Path(told).write_text(status.split("VmHWM:")[1].split()[0])
sys.exit(code)
"""


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three hundred pictures, each its own, and two files that are none."""
    folder = tmp_path_factory.mktemp("many") / "pictures"
    folder.mkdir()
    for number in range(IMAGES):
        pixels = np.random.default_rng(number).integers(0, 256, (60, 80, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{number:03}.jpg")
    (folder / '100, "bad\n.jpg').write_bytes(b"no picture at all, and long enough to be looked at")
    (folder / "200 bad.jpg").touch()
    return folder


@pytest.fixture
def start(
    tmp_path: Path, pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., "subprocess.Popen[bytes]"]]:
    """`start(options)` begins the command in the working folder, where `pictures` is; none outlives the test."""
    monkeypatch.chdir(tmp_path)
    Path("pictures").symlink_to(pictures)
    monkeypatch.setenv("ZEROSHOT_TEST_MARK", str(tmp_path))  # children inherit it, and so can be found
    processes = []

    def popen(*arguments: object, wrapped: tuple[int, str] | None = None) -> "subprocess.Popen[bytes]":
        program = ["-m", "zeroshot_cli", "classify"]
        if wrapped is not None:
            program = ["-c", WRAPPER, *map(str, wrapped)]
        command = [sys.executable, *program, *map(str, arguments)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        processes.append(process)
        return process

    yield popen
    for process in processes:
        if process.poll() is None:
            process.kill()
        process.communicate()


def finish(process: "subprocess.Popen[bytes]") -> tuple[int, bytes, str]:
    """Exit code, standard output and standard error."""
    out, err = process.communicate(timeout=300)
    return process.returncode, out, err.decode()


def wait_for_work(process: "subprocess.Popen[bytes]") -> None:
    """Until the model is loaded and the outputs are open: then the header comes."""
    assert process.stdout is not None
    header = process.stdout.readline()
    assert header == HEADER, process.communicate()


def signal_within(process: "subprocess.Popen[bytes]", seconds: float, number: int) -> float:
    """Send a signal after so many seconds, unless the process has ended before; return how long it took, if it has.

    A machine that was busy when the uninterrupted run was timed must not make the moments come too late for ever.
    """
    begun = time.monotonic()
    try:
        process.wait(timeout=seconds)  # its standard output fits in the pipe
    except subprocess.TimeoutExpired:
        process.send_signal(number)
        return float("inf")
    return time.monotonic() - begun


def running_decoders(folder: Path) -> list[int]:
    """Processes of this test, this one excepted."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            environment = (process / "environ").read_bytes()
            state = (process / "stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            continue
        if f"ZEROSHOT_TEST_MARK={folder}".encode() in environment.split(b"\0") and state != "Z":
            found.append(int(process.name))
    return found


def assert_no_process_is_left(folder: Path) -> None:
    deadline = time.monotonic() + 10
    while left := running_decoders(folder):
        assert time.monotonic() < deadline, [Path(f"/proc/{pid}/cmdline").read_bytes() for pid in left]
        time.sleep(0.05)


def contents(folder: Path) -> dict[str, bytes]:
    """The bytes of the outputs, the HTML report without its date."""
    return {name: contents_of(folder / name) for name in NAMES}


def remove_outputs() -> None:
    for path in Path().glob("out.*"):
        path.unlink()


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory, pictures: Path, model_folder: Path) -> dict[str, Any]:
    """The outputs of a run that nothing happened to, and how long its work took."""
    folder = tmp_path_factory.mktemp("whole")
    (folder / "pictures").symlink_to(pictures)
    options = ["--model", str(model_folder), "--precision", "fp32", "--device", "cpu"]
    command = [sys.executable, "-m", "zeroshot_cli", "classify", *COMMAND, *options]
    with subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        wait_for_work(process)
        begun = time.monotonic()
        process.communicate()
        seconds = time.monotonic() - begun
    assert process.returncode == 4
    found = contents(folder)
    assert len(list(csv.DictReader(io.StringIO(found["out.csv"].decode(), newline="")))) == 2 * IMAGES + 2
    return {"contents": found, "seconds": seconds, "output": (folder / "out.csv").read_bytes()}


# killed, interrupted


def test_killed_at_twenty_random_moments_and_resumed(
    start: Callable[..., Any], uninterrupted: dict[str, Any], tmp_path: Path
) -> None:
    """A run is killed, resumed, perhaps killed again, until it is done; then another run begins."""
    moments, seconds = random.Random(5), uninterrupted["seconds"]
    where: list[str] = []
    while len(where) - where.count("done") < KILLS:
        process = start(*COMMAND, "--resume")
        wait_for_work(process)
        # Rows are written in the first third of the time: without these odds few would be killed there.
        if where[-1:] != ["reports"]:
            seconds = min(seconds, signal_within(process, moments.uniform(0, seconds / 2), signal.SIGKILL))
        elif moments.random() < 0.3:
            seconds = min(seconds, signal_within(process, moments.uniform(0, seconds), signal.SIGKILL))
        process.communicate()
        if process.returncode == -signal.SIGKILL:
            where.append(stage(tmp_path))
            assert_valid_so_far(uninterrupted["contents"])
            assert_no_process_is_left(tmp_path)
            continue
        where.append("done")
        assert process.returncode == 4
        assert contents(tmp_path) == uninterrupted["contents"]
        remove_outputs()
    code, _, err = finish(start(*COMMAND, "--resume"))
    assert code == 4, err
    assert contents(tmp_path) == uninterrupted["contents"]
    assert sorted(path.name for path in tmp_path.glob("out.*")) == sorted([*NAMES, "out.csv.run.json"])
    print("killed while these were written:", where)
    assert {"rows", "reports"} <= set(where)


def stage(folder: Path) -> str:
    record = json.loads((folder / "out.csv.run.json").read_text())
    return "reports" if record["complete"] else "rows"


def assert_valid_so_far(whole: dict[str, bytes]) -> None:
    """What is in the files is the beginning of what will be, and a report is not there or whole."""
    for name in ("out.csv", "out.jsonl"):
        assert whole[name].startswith(Path(name).read_bytes())
    for name in ("out.parquet", "out.xlsx", "out.html"):
        if Path(name).exists():
            assert contents_of(name) == whole[name]


def contents_of(name: str | Path) -> bytes:
    """The bytes of a file, a page's without its date, of a workbook its sheet, for its links are to other folders."""
    if Path(name).suffix == ".xlsx":
        with zipfile.ZipFile(name) as book:
            return book.read("xl/worksheets/sheet1.xml")
    return re.sub(rb'\["date","[^"]*"\]', b"", Path(name).read_bytes())


def test_interrupted_at_random_moments_and_resumed(
    start: Callable[..., Any], uninterrupted: dict[str, Any], tmp_path: Path
) -> None:
    moments, seconds = random.Random(6), uninterrupted["seconds"]
    interrupted = 0
    while interrupted < 6:
        process = start(*COMMAND, "--resume")
        wait_for_work(process)
        seconds = min(seconds, signal_within(process, moments.uniform(0, 0.9 * seconds), signal.SIGINT))
        code, _, err = finish(process)
        last = err.splitlines()[-1]
        if last != "interrupted":  # it was done, and Python perhaps about to end
            assert last == f"{IMAGES} images classified, 2 could not be read, model {os.environ['ZEROSHOT_MODEL']}."
            assert code in (4, 130, -signal.SIGINT)
            assert contents(tmp_path) == uninterrupted["contents"]
            remove_outputs()
            continue
        interrupted += 1
        # A signal within exec() makes Python 3.11 end by it in the end; to a shell both are 130.
        assert code in (130, -signal.SIGINT)
        assert "Traceback" not in err
        assert running_decoders(tmp_path) == []
        assert_valid_so_far(uninterrupted["contents"])
    code, _, err = finish(start(*COMMAND, "--resume"))
    assert code == 4, err
    assert contents(tmp_path) == uninterrupted["contents"]


def test_a_second_run_on_outputs_that_are_being_written_is_refused(
    start: Callable[..., Any], uninterrupted: dict[str, Any], tmp_path: Path
) -> None:
    first = start(*COMMAND)
    wait_for_work(first)
    first.send_signal(signal.SIGSTOP)
    for switch in ("--resume", "--overwrite"):
        code, out, err = finish(start(*COMMAND, switch))
        assert (code, out) == (2, b"")
        assert err == "error: another run is writing out.csv; wait until it ends, or name another file\n"
    first.send_signal(signal.SIGCONT)
    assert finish(first)[0] == 4
    assert contents(tmp_path) == uninterrupted["contents"]


# the cache


def test_two_processes_on_the_same_folder_and_new_cache(
    start: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ZEROSHOT_CACHE_DIR", str(tmp_path / "cache"))
    setting = ["pictures", *LABELS, "--batch-size", "4"]
    code, expected, _ = finish(start(*setting, "--no-cache"))
    assert code == 4
    for _ in range(2):  # with a new cache, then with a full one
        processes = [start(*setting, "--output", f"{n}.csv", "--overwrite") for n in range(2)]
        for number, process in enumerate(processes):
            code, out, err = finish(process)
            assert (code, err) == (
                4,
                f"wrote {number}.csv\n"
                f"{IMAGES} images classified, 2 could not be read, model {os.environ['ZEROSHOT_MODEL']}.\n",
            )
            assert out == expected == Path(f"{number}.csv").read_bytes()


def test_killed_while_the_cache_is_written(
    start: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ZEROSHOT_CACHE_DIR", str(tmp_path / "cache"))
    setting = ["pictures", *LABELS, "--batch-size", "1"]
    expected = finish(start(*setting, "--no-cache"))
    moments = random.Random(7)
    for _ in range(5):
        process = start(*setting)
        wait_for_work(process)
        time.sleep(moments.uniform(0.1, 0.6))
        process.kill()
        process.communicate()
    assert finish(start(*setting)) == expected


# memory


@pytest.mark.parametrize("cache", ["--cache", "--no-cache"])
def test_memory_is_flat(cache: str, start: Callable[..., Any], tmp_path: Path, pictures: Path) -> None:
    """2,000 and 20,000 links to a few files peak within 100 MB of each other."""
    peaks = {}
    outputs = [part for ending in ("csv", "jsonl", "parquet") for part in ("--output", f"out.{ending}")]
    for count in (2_000, 20_000):
        Path("links").mkdir()
        for number in range(count):
            os.link(pictures / f"{number % 50:03}.jpg", f"links/{number:05}.jpg")
        process = start("links", *LABELS, "--top-k", 2, cache, "--overwrite", *outputs, wrapped=(0, "peak"))
        code, out, err = finish(process)
        assert (code, err) == (
            0,
            "wrote out.csv, out.jsonl, out.parquet\n"
            f"{count} images classified, 0 could not be read, model {os.environ['ZEROSHOT_MODEL']}.\n",
        )
        assert out.count(b"\n") == 2 * count + 1
        peaks[count] = int(Path("peak").read_text()) / 1024
        shutil.rmtree("links")
    print(f"peaks in MB, {cache}: {peaks}")
    assert abs(peaks[20_000] - peaks[2_000]) < 100


# disks


def test_a_full_disk_is_one_sentence_and_resume_completes(
    start: Callable[..., Any], uninterrupted: dict[str, Any], tmp_path: Path
) -> None:
    limit = 15_000  # bytes of a file; the CSV has more
    code, _, err = finish(start(*COMMAND, wrapped=(limit, "")))
    assert code == 2
    name = err.split()[3]
    assert (
        err
        == f"error: cannot write {name} File too large; what was written is valid, and --resume continues from there\n"
    )
    written = Path("out.csv").read_bytes()
    assert 0 < len(written) <= limit
    rows = list(csv.reader(io.StringIO(written.decode(), newline="")))
    assert {len(row) for row in rows} == {6}
    assert [json.loads(line)["path"] for line in Path("out.jsonl").read_text().splitlines()]
    assert_valid_so_far(uninterrupted["contents"])
    assert finish(start(*COMMAND, "--resume"))[0] == 4
    assert contents(tmp_path) == uninterrupted["contents"]


def test_a_full_disk_under_the_reports(
    start: Callable[..., Any], uninterrupted: dict[str, Any], tmp_path: Path
) -> None:
    whole = uninterrupted["contents"]
    limit = (
        max(len(whole["out.csv"]), len(whole["out.jsonl"]), len(whole["out.parquet"])) + len(whole["out.html"])
    ) // 2
    code, _, err = finish(start(*COMMAND, wrapped=(limit, "")))
    assert code == 2
    assert err.startswith("error: cannot write out.html: File too large")
    assert err.count("\n") == 1
    assert not Path("out.html").exists()
    assert_valid_so_far(whole)
    code, out, err = finish(start(*COMMAND, "--resume"))
    assert (code, out) == (4, HEADER)
    assert contents(tmp_path) == whole
    assert not [path.name for path in tmp_path.iterdir() if "partial" in path.name or "unfinished" in path.name]


def test_a_full_disk_under_the_cache_is_a_warning(
    start: Callable[..., Any], uninterrupted: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ZEROSHOT_CACHE_DIR", str(tmp_path / "cache"))
    command = ["pictures", *LABELS, "--top-k", "2", "--batch-size", "1"]
    code, out, err = finish(start(*command, wrapped=(20_000, "")))
    assert code == 4
    assert out == uninterrupted["output"]
    *warnings, summary = err.splitlines()
    assert summary == f"{IMAGES} images classified, 2 could not be read, model {os.environ['ZEROSHOT_MODEL']}."
    assert 0 < len(warnings) <= 2
    assert all(line.startswith("warning: the cache of ") for line in warnings)


def test_an_output_folder_that_is_removed_meanwhile_is_one_sentence(start: Callable[..., Any], tmp_path: Path) -> None:
    Path("results").mkdir()
    command = ["pictures", *LABELS, "--batch-size", "1", "--no-cache", "--output", "results/out.csv"]
    process = start(*command)
    wait_for_work(process)
    shutil.rmtree("results")
    code, _, err = finish(process)
    assert code == 2
    assert err == "error: results/out.csv is gone: it or its folder was removed or replaced during the run\n"
    assert not Path("results").exists()
    assert_no_process_is_left(tmp_path)


def test_a_reader_that_leaves_early_ends_the_run_quietly(start: Callable[..., Any], tmp_path: Path) -> None:
    process = start("pictures", *LABELS, "--batch-size", "1", "--no-cache")
    wait_for_work(process)
    process.stdout.close()
    process.stdout = None
    _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (0, b"")
    assert_no_process_is_left(tmp_path)
