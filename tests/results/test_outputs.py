"""The outputs of a run: begun, interrupted anywhere, gone on with, finished; and what is refused."""

import os
import random
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from zeroshot_cli.errors import UsageError
from zeroshot_cli.records import Counts, LabelScore, Prediction, Result, SkippedImage
from zeroshot_cli.results.formats import Format, deliver, header_of, rendered
from zeroshot_cli.results.outputs import Outputs, Results, open_outputs
from zeroshot_cli.results.run_record import RunRecord, read_record
from zeroshot_cli.results.targets import Targets, check_outputs, earlier_run

BLOCK = 3
SETTINGS = {"model": "tiny", "labels": ["cat", "dog"], "top_k": 2}


def result(number: int) -> Result:
    path = os.fsdecode([b"%d.png", b'"%d,\n\n.png', b"\xff%d\xe7.png", "%d 猫\t.png".encode()][number % 4] % number)
    if number % 5 == 3:
        return SkippedImage(path, 'damaged, "really"\n')
    labels = (LabelScore('the "cat"\n猫', 1 / (number + 3), 0.9), LabelScore("dog", 0.125, 0.1))
    return Prediction(path, labels, 1 / 7, rejected=number % 5 == 4, others=(LabelScore("cow", 1 / 9, 0.0),))


ITEMS = [result(number) for number in range(11)]
PATHS = [item.path for item in ITEMS]
TOTAL = Counts(classified=9, unreadable=2, unknown=2)


def blocks(items: Sequence[Result]) -> Iterator[Sequence[Result]]:
    for start in range(0, len(items), BLOCK):
        yield items[start : start + BLOCK]


def make_html(path: Path, results: Results) -> None:
    path.write_text(repr(list(results()) + list(results())))


def make_folder(folder: Path, results: Results) -> None:
    """Sort images as little as a test needs; the same images again change nothing."""
    (folder / "manifest.csv").write_text(repr([item.path for item in results()]))


def run(
    paths: Sequence[Path],
    *,
    items: Sequence[Result] = ITEMS,
    settings: dict[str, Any] = SETTINGS,
    stop_after: int | None = None,
    html: Callable[[Path, Results], None] = make_html,
    sort: Callable[[Path, Results], None] = make_folder,
    manifest: Path | None = None,
    **switches: bool,
) -> tuple[Counts, Outputs]:
    """Do what a command does; KeyboardInterrupt after so many images."""
    targets = Targets(tuple(paths), manifest)
    check_outputs(targets, **{"overwrite": False, **switches})
    expected = [item.path for item in items]
    with open_outputs(targets, RunRecord(settings=settings), expected=expected, **switches) as outputs:
        counts = deliver(interrupted(outputs.remaining(items), stop_after), outputs.sinks, before=outputs.kept)
        outputs.finish(counts, html=html, sort=sort)
    return counts, outputs


def interrupted(items: Sequence[Result], stop_after: int | None) -> Iterator[Sequence[Result]]:
    if stop_after is None:
        yield from blocks(items)
        return
    yield from blocks(items[:stop_after])
    raise KeyboardInterrupt


def contents(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.name.endswith(".run.json")
    }


def named(folder: Path, *names: str) -> list[Path]:
    return [folder / name for name in names]


ALL = ("out.csv", "out.tsv", "out.jsonl", "out.parquet", "out.html")
STREAMED = {
    "out.csv": header_of(Format.CSV) + rendered(ITEMS, Format.CSV),
    "out.tsv": header_of(Format.TSV) + rendered(ITEMS, Format.TSV),
    "out.jsonl": rendered(ITEMS, Format.JSONL),
}


def test_a_run_writes_everything_and_leaves_its_record(tmp_path: Path) -> None:
    counts, outputs = run(named(tmp_path, *ALL), manifest=tmp_path / "sorted" / "manifest.csv")
    assert counts == TOTAL
    assert (outputs.done, outputs.notes, outputs.complete) == (0, (), False)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([*ALL, "out.csv.run.json", "sorted"])
    for name, data in STREAMED.items():
        assert (tmp_path / name).read_bytes() == data
    assert (tmp_path / "out.html").read_text() == repr(ITEMS + ITEMS)
    assert pq.read_table(tmp_path / "out.parquet").num_rows == STREAMED["out.csv"].count(b"damaged") + 2 + 2 * 7
    record = read_record(tmp_path / "out.csv.run.json")
    assert record is not None
    assert (record.complete, record.counts, record.to_make) == (True, TOTAL, ())
    assert record.settings["outputs"] == [str(tmp_path / name) for name in ALL]


def test_no_journal_where_nothing_is_made_from_it(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        run(named(tmp_path, "out.csv"), stop_after=4)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.csv", "out.csv.run.json"]


@pytest.mark.parametrize("stop", range(len(ITEMS) + 1))
def test_an_interrupted_run_leaves_valid_files_and_goes_on_to_the_same_bytes(tmp_path: Path, stop: int) -> None:
    with pytest.raises(KeyboardInterrupt):
        run(named(tmp_path, *ALL), stop_after=stop)
    assert (tmp_path / "out.jsonl").read_bytes() == rendered(ITEMS[:stop], Format.JSONL)
    assert not (tmp_path / "out.html").exists()
    record = read_record(tmp_path / "out.csv.run.json")
    assert record is not None
    assert not record.complete
    counts, outputs = run(named(tmp_path, *ALL), resume=True)
    assert counts == TOTAL
    assert outputs.done == max(stop - 1, 0)
    assert outputs.notes[0].endswith("out.csv; classifying the rest")
    assert {name: (tmp_path / name).read_bytes() for name in STREAMED} == STREAMED
    assert (tmp_path / "out.html").read_text() == repr(ITEMS + ITEMS)


def test_wherever_each_file_was_cut_the_bytes_are_those_of_an_uninterrupted_run(tmp_path: Path) -> None:
    whole, torn = tmp_path / "whole", tmp_path / "torn"
    whole.mkdir()
    torn.mkdir()
    run(named(whole, "out.csv", "out.jsonl", "out.parquet"))
    with pytest.raises(KeyboardInterrupt):
        run(named(torn, "out.csv", "out.jsonl", "out.parquet"), stop_after=len(ITEMS))
    files = named(torn, "out.csv", "out.jsonl", "out.csv.run.jsonl")
    everything = {path: path.read_bytes() for path in files}
    record = (torn / "out.csv.run.json").read_bytes()
    choose = random.Random(5)
    for _ in range(60):
        for path, data in everything.items():
            path.write_bytes(data[: choose.choice([choose.randrange(len(data) + 1), len(data)])])
        (torn / "out.csv.run.json").write_bytes(record)
        (torn / "out.parquet").unlink(missing_ok=True)
        counts, _ = run(named(torn, "out.csv", "out.jsonl", "out.parquet"), resume=True)
        assert counts == TOTAL
        assert contents(torn) == contents(whole)


@pytest.mark.parametrize("lost", ["out.csv", "out.tsv", "out.csv.run.jsonl"])
def test_with_a_file_missing_all_begin_anew(tmp_path: Path, lost: str) -> None:
    with pytest.raises(KeyboardInterrupt):
        run(named(tmp_path, "out.csv", "out.tsv", "out.html"), stop_after=5)
    (tmp_path / lost).unlink()
    _, outputs = run(named(tmp_path, "out.csv", "out.tsv", "out.html"), resume=True)
    assert outputs.notes == (f"--resume: {tmp_path / lost} is missing, so all images are classified again",)
    assert outputs.done == 0
    assert (tmp_path / "out.csv").read_bytes() == STREAMED["out.csv"]
    assert (tmp_path / "out.tsv").read_bytes() == STREAMED["out.tsv"]


def test_resume_of_nothing_begins(tmp_path: Path) -> None:
    assert run(named(tmp_path, "out.csv"), resume=True)[1].notes == ()
    assert contents(tmp_path) == {"out.csv": STREAMED["out.csv"]}


def test_resume_begins_where_the_outputs_were_removed_whatever_the_settings_were(tmp_path: Path) -> None:
    run(named(tmp_path, "out.csv"), settings={"top_k": 1})
    (tmp_path / "out.csv").unlink()
    assert run(named(tmp_path, "out.csv"), resume=True)[1].done == 0


def test_a_run_killed_before_its_record_was_written_begins_again(tmp_path: Path) -> None:
    for path in named(tmp_path, "out.csv", "out.tsv"):
        path.touch()
    run(named(tmp_path, "out.csv", "out.tsv"), resume=True)
    assert (tmp_path / "out.tsv").read_bytes() == STREAMED["out.tsv"]


def test_resume_of_a_finished_run_changes_nothing_and_says_so(tmp_path: Path) -> None:
    paths = named(tmp_path, *ALL)
    run(paths)
    before = contents(tmp_path), (tmp_path / "out.csv.run.json").read_bytes()
    times = [path.stat().st_mtime_ns for path in paths]
    counts, outputs = run(paths, resume=True)
    assert counts == TOTAL
    assert outputs.complete
    assert outputs.sinks == []
    assert outputs.notes == (f"--resume: {paths[0]} is finished, with 11 images; nothing to do",)
    assert (contents(tmp_path), (tmp_path / "out.csv.run.json").read_bytes()) == before
    assert [path.stat().st_mtime_ns for path in paths] == times


def test_a_table_that_people_changed_since_is_finished_and_stays(tmp_path: Path) -> None:
    (path,) = named(tmp_path, "out.csv")
    run([path])
    path.write_bytes(changed := STREAMED["out.csv"].replace(b",", b";"))  # as a spreadsheet may save it
    counts, outputs = run([path], resume=True)
    assert counts == TOTAL
    assert outputs.tally.images == 0
    assert outputs.notes == (f"--resume: {path} is finished, with 11 images; nothing to do",)
    assert path.read_bytes() == changed


@pytest.mark.parametrize("number", [10, 12])
def test_a_finished_run_over_another_number_of_images_is_refused(tmp_path: Path, number: int) -> None:
    run(named(tmp_path, "out.csv"))
    with pytest.raises(UsageError, match=f"finished, with 11 images, but there are {number} now; --overwrite"):
        run(named(tmp_path, "out.csv"), items=[result(index) for index in range(number)], resume=True)
    assert contents(tmp_path) == {"out.csv": STREAMED["out.csv"]}


def fail(path: Path, results: Results) -> None:
    raise UsageError("no report today")


def test_reports_that_failed_are_made_by_resume_and_no_image_is_classified_again(tmp_path: Path) -> None:
    paths = named(tmp_path, "out.csv", "out.html", "out.parquet")
    with pytest.raises(UsageError, match="no report today"):
        run(paths, html=fail, manifest=tmp_path / "sorted" / "manifest.csv")
    assert (tmp_path / "out.csv.run.jsonl").exists()
    counts, outputs = run(
        paths, items=[], manifest=tmp_path / "sorted" / "manifest.csv", resume=True
    )  # the images may have moved
    assert counts == TOTAL
    assert outputs.complete
    assert "out.html" in outputs.notes[0]
    assert (tmp_path / "out.html").read_text() == repr(ITEMS + ITEMS)
    assert (tmp_path / "sorted" / "manifest.csv").read_text() == repr(PATHS)
    assert not (tmp_path / "out.csv.run.jsonl").exists()


def test_sorting_that_was_interrupted_goes_on_though_its_folder_is_there(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no report today"):
        run([], sort=fail, manifest=tmp_path / "sorted" / "manifest.csv")
    assert sorted(path.name for path in (tmp_path / "sorted").iterdir()) == [
        "manifest.csv.run.json",
        "manifest.csv.run.jsonl",
    ]
    run([], items=[], manifest=tmp_path / "sorted" / "manifest.csv", resume=True)
    assert contents(tmp_path) == {"sorted/manifest.csv": repr(PATHS).encode()}


def test_a_report_removed_after_the_run_begins_anew_for_its_journal_is_gone(tmp_path: Path) -> None:
    run(named(tmp_path, "out.csv", "out.html"))
    (tmp_path / "out.html").unlink()
    _, outputs = run(named(tmp_path, "out.csv", "out.html"), resume=True)
    assert outputs.notes == (f"--resume: {tmp_path / 'out.html'} is missing, so all images are classified again",)
    assert (tmp_path / "out.html").exists()


def test_overwrite_replaces_files_record_and_journal(tmp_path: Path) -> None:
    paths = named(tmp_path, "out.csv", "out.html")
    with pytest.raises(KeyboardInterrupt):
        run(paths, settings={"top_k": 1}, stop_after=5)
    (tmp_path / "out.html").write_text("of an older run")
    with pytest.raises(KeyboardInterrupt):
        run(paths, overwrite=True, stop_after=2)
    assert (tmp_path / "out.csv").read_bytes() == header_of(Format.CSV) + rendered(ITEMS[:2], Format.CSV)
    run(paths, resume=True)
    assert (tmp_path / "out.html").read_text() == repr(ITEMS + ITEMS)


def test_the_record_of_the_old_files_is_never_beside_the_new_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(named(tmp_path, "out.csv"))

    def killed(path: Path, record: RunRecord) -> None:
        assert (tmp_path / "out.csv").read_bytes() == b""
        raise KeyboardInterrupt

    monkeypatch.setattr("zeroshot_cli.results.outputs.write_record", killed)
    with pytest.raises(KeyboardInterrupt):
        run(named(tmp_path, "out.csv"), overwrite=True)
    assert read_record(tmp_path / "out.csv.run.json") is None


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {**SETTINGS, "top_k": 3},
            r"--resume: top_k was 2 in the run that wrote .*out\.csv and is 3 now; give the same",
        ),
        ({**SETTINGS, "labels": ["cat"], "model": "big"}, "model was tiny in .* and is big now; .*, or --overwrite"),
        ({"model": "tiny", "labels": ["cat", "dog"]}, r"top_k was 2 in .* and is not set now"),
    ],
)
@pytest.mark.parametrize("stop", [4, None])
def test_other_settings_are_refused(tmp_path: Path, settings: dict[str, Any], message: str, stop: int | None) -> None:
    with suppress(KeyboardInterrupt):
        run(named(tmp_path, "out.csv"), stop_after=stop)
    before = contents(tmp_path)
    with pytest.raises(UsageError, match=message):
        run(named(tmp_path, "out.csv"), settings=settings, resume=True)
    assert contents(tmp_path) == before


def test_other_outputs_are_refused(tmp_path: Path) -> None:
    run(named(tmp_path, "out.csv", "b.csv"))
    with pytest.raises(UsageError, match=r"outputs was .*out\.csv"):
        run(named(tmp_path, "out.csv"), resume=True)
    with pytest.raises(UsageError, match=r"b\.csv exists without the record of its run, .*b\.csv\.run\.json; name the"):
        run(named(tmp_path, "b.csv", "out.csv"), resume=True)


def test_other_inputs_are_refused_and_nothing_changes(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        run(named(tmp_path, "out.csv"), stop_after=5)
    before = contents(tmp_path)
    with pytest.raises(UsageError, match=r"image 1 in .*out\.csv is '0\.png', but the inputs now give 'new\.png'"):
        run(named(tmp_path, "out.csv"), items=[SkippedImage("new.png", "why"), *ITEMS], resume=True)
    assert contents(tmp_path) == before


def test_what_an_earlier_run_resolved_is_there_to_take_over(tmp_path: Path) -> None:
    targets = Targets((tmp_path / "out.csv",))
    assert earlier_run(targets) is None
    with open_outputs(targets, RunRecord(resolved={"batch_size": 8}, versions={"torch": "2"})):
        pass
    earlier = earlier_run(targets)
    assert earlier is not None
    assert (earlier.resolved, earlier.versions) == ({"batch_size": 8}, {"torch": "2"})


@pytest.mark.parametrize("number", [0, 1])
def test_a_start_that_fails_leaves_nothing_behind(tmp_path: Path, number: int) -> None:
    paths = named(tmp_path, "out.csv", "out.tsv", "out.html")
    paths[number] = tmp_path / "missing" / paths[number].name
    with (
        pytest.raises(UsageError, match="No such file or directory"),
        open_outputs(Targets(tuple(paths), tmp_path / "sorted" / "manifest.csv"), RunRecord()),
    ):
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_start_that_fails_keeps_what_was_there_before(tmp_path: Path) -> None:
    paths = named(tmp_path, "out.csv", "missing/out.tsv")
    run(paths[:1])
    before = contents(tmp_path)
    with pytest.raises(UsageError), open_outputs(Targets(tuple(paths)), RunRecord(), overwrite=True):
        pass
    assert contents(tmp_path) == before
    assert (tmp_path / "out.csv.run.json").exists()


@pytest.mark.parametrize("limit", [300, 700, 1100])
def test_a_full_disk_is_one_sentence_and_resume_goes_on(
    tmp_path: Path, limit: int, file_size_limit: Callable[[int], AbstractContextManager[None]]
) -> None:
    paths = named(tmp_path, "out.csv", "out.jsonl", "out.html")
    with file_size_limit(limit), pytest.raises(UsageError, match=r"File too large; what was written is valid, and"):
        run(paths)
    streamed = (tmp_path / "out.jsonl").read_bytes() if (tmp_path / "out.jsonl").exists() else b""
    assert streamed in [rendered(ITEMS[:number], Format.JSONL) for number in (0, 3, 6, 9)]
    run(paths, resume=True)
    assert (tmp_path / "out.jsonl").read_bytes() == STREAMED["out.jsonl"]
    assert (tmp_path / "out.csv").read_bytes() == STREAMED["out.csv"]


def test_a_folder_that_vanishes_ends_the_run(tmp_path: Path) -> None:
    folder = tmp_path / "results"
    folder.mkdir()
    with open_outputs(Targets((folder / "out.csv",)), RunRecord()) as outputs:
        deliver(blocks(ITEMS[:3]), outputs.sinks)
        shutil.rmtree(folder)
        with pytest.raises(UsageError, match=r"results/out\.csv is gone: it or its folder was removed or replaced"):
            deliver(blocks(ITEMS[3:]), outputs.sinks)
    assert not folder.exists()


def test_a_pipe_takes_results_and_has_no_record(tmp_path: Path) -> None:
    path = tmp_path / "out.csv"
    os.mkfifo(path)
    with subprocess.Popen(["cat", str(path)], stdout=subprocess.PIPE) as reader:
        run([path], overwrite=True)
        assert reader.communicate()[0] == STREAMED["out.csv"]
    assert [path.name for path in tmp_path.iterdir()] == ["out.csv"]


def test_no_outputs_are_no_files() -> None:
    counts, outputs = run([])
    assert (counts, outputs.sinks) == (TOTAL, [])


HOLD = """
import sys
from pathlib import Path
from zeroshot_cli.results.outputs import open_outputs
from zeroshot_cli.results.run_record import RunRecord
from zeroshot_cli.results.targets import Targets
with open_outputs(Targets((Path(sys.argv[1]),)), RunRecord()):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.mark.parametrize("switches", [{"resume": True}, {"overwrite": True}])
def test_two_runs_do_not_write_one_file(tmp_path: Path, switches: dict[str, bool]) -> None:
    path = tmp_path / "out.csv"
    command = [sys.executable, "-c", HOLD, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        before = contents(tmp_path)
        with pytest.raises(UsageError, match=r"another run is writing .*out\.csv"):
            run([path, tmp_path / "b.csv"], **switches)
        assert contents(tmp_path) == before
        holder.kill()


@pytest.mark.parametrize(
    ("names", "switches", "message"),
    [
        (["out.xls"], {}, r"'\.xls'; expected one of \.csv"),
        (["missing/out.csv"], {}, "there is no folder .*missing; create it first"),
        (["folder.csv"], {"overwrite": True}, "it is a folder; name a file in it"),
        (["x" * 300 + ".csv"], {}, "File name too long"),
        (["old.csv"], {}, r"old\.csv already exists; add --overwrite"),
        (
            ["new.csv", "old.csv"],
            {"resume": True},
            r"old\.csv exists without the record of its run, .*new\.csv\.run\.json",
        ),
        (["new.csv", "old.html"], {"resume": True}, r"old\.html exists without the record of its run"),
        (
            ["new.csv"],
            {"resume": True, "overwrite": True},
            "`--overwrite` starts over and `--resume` continues; give one of them",
        ),
        ([], {"resume": True}, "`--resume` needs `--output FILE`"),
        (["pipe.csv"], {"resume": True}, r"pipe\.csv is a pipe or a device, which cannot be read again; omit"),
        (["pipe.html"], {"overwrite": True}, r"pipe\.html: it is a pipe or a device; name a file"),
        (["new.csv", "folder.csv/../new.csv"], {}, "given twice"),
        (["new.csv", "new.html", "new.csv.run.jsonl"], {}, r"run\.jsonl is a file that the run needs itself"),
        (["damaged.csv"], {"resume": True}, r"damaged\.csv\.run\.json is not the record of a run"),
    ],
)
def test_what_can_be_refused_before_the_work(
    tmp_path: Path, names: list[str], switches: dict[str, bool], message: str
) -> None:
    (tmp_path / "folder.csv").mkdir()
    for name in ("old.csv", "old.html", "damaged.csv", "damaged.csv.run.json"):
        (tmp_path / name).write_text("precious")
    for name in ("pipe.csv", "pipe.html"):
        os.mkfifo(tmp_path / name)
    with pytest.raises(UsageError, match=message):
        check_outputs(Targets(tuple(named(tmp_path, *names))), **{"overwrite": False, **switches})
    assert (tmp_path / "old.csv").read_text() == "precious"


@pytest.mark.parametrize(
    ("output", "folder", "message"),
    [
        ("a.csv", "file", "cannot sort into .*file: it is not a folder"),
        ("a.csv", "missing/sorted", "there is no folder .*missing; create it first"),
        ("sorted/manifest.csv", "sorted", r"manifest\.csv is a file that the run needs itself"),
        ("new.csv", "new.csv", "is a file that the run needs itself"),
    ],
)
def test_folders_that_cannot_be_sorted_into(tmp_path: Path, output: str, folder: str, message: str) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "sorted").mkdir()
    with pytest.raises(UsageError, match=message):
        check_outputs(Targets((tmp_path / output,), tmp_path / folder / "manifest.csv"), overwrite=False)


def test_parquet_without_its_package_is_refused_before_the_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("zeroshot_cli.results.parquet.find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"pip install 'zeroshot-cli\[parquet\]'"):
        check_outputs(Targets((tmp_path / "out.parquet",)), overwrite=False)
