"""What `zeroshot classify` ends with: counts, the files written, workbooks, and CSV for Excel.

Images and labels are angles, so the nearest label is known.
"""

import csv
import io
import json
import os
import pty
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import openpyxl
import pytest

from zeroshot_cli.cli import app
from zeroshot_cli.datasets.labelled import read_dataset
from zeroshot_cli.errors import DataError
from zeroshot_cli.results import xlsx
from zeroshot_cli.review.run import read_run

NEAREST = {"a/005": "0", "a/040": "60", "b/080": "60", "b/125": "120", "b/065": "60"}
SETTING = ["--label", "0", "--label", "60", "--label", "120", "--prompts", "plain", "--batch-size", "1", "--no-cache"]
ROWS = ["60,b,labelled,2", "60,a,labelled,1", "0,a,labelled,1", "120,b,labelled,1", ",b,unreadable,1"]
MARK = b"\xef\xbb\xbf"


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, draw_angle: Callable[[Path, int], Path]) -> None:
    monkeypatch.chdir(tmp_path)
    for name in NEAREST:
        draw_angle(Path(f"{name}.png"), int(name[2:]))
    Path("b/bad.png").write_text("no image at all\n")
    Path("b/notes.txt").touch()


def lines(name: str) -> list[str]:
    return Path(name).read_text(encoding="utf-8").splitlines()


@pytest.mark.usefixtures("angles")
class TestSummary:
    def test_a_row_for_each_label_in_each_folder(self, classify: Callable[..., Any]) -> None:
        ended = classify("a", "b", *SETTING, "--summary", "s.csv", "--summary", "s.csv")
        assert ended.code == 4
        assert lines("s.csv") == ["label,folder,outcome,count", *ROWS]
        assert ended.err.splitlines()[-2:] == [
            "wrote s.csv",
            "5 images classified, 1 could not be read, model small.",
        ]
        assert "1 file left out: .txt 1" in ended.err
        assert sorted(path.name for path in Path().iterdir()) == ["a", "b", "s.csv", "s.csv.run.json"]

    def test_the_best_label_counts_and_with_multi_label_each(self, classify: Callable[..., Any]) -> None:
        assert classify("a", "b", *SETTING, "--top-k", 2, "--summary", "s.csv").code == 4
        assert lines("s.csv")[1:] == ROWS
        Path("behind.csv").write_text("label,prompt\n240,240\n")
        every = ("--multi-label", "--background", "behind.csv", "--min-probability", 0, "--summary", "m.jsonl")
        assert classify("a", *SETTING, *every).code == 0
        assert [[*json.loads(line).values()] for line in lines("m.jsonl")] == [
            [label, "a", "labelled", 2] for label in ("0", "120", "60")
        ]

    def test_it_is_not_overwritten(self, classify: Callable[..., Any]) -> None:
        Path("s.csv").write_text("mine\n")
        refused = classify("a", *SETTING, "--summary", "s.csv", "-o", "out.csv")
        assert (refused.code, "s.csv already exists; add --overwrite" in refused.err) == (2, True)
        assert lines("s.csv") == ["mine"]
        assert not Path("out.csv").exists()
        assert classify("a", *SETTING, "--summary", "s.csv", "--overwrite").code == 0
        assert lines("s.csv")[1:] == ["0,a,labelled,1", "60,a,labelled,1"]

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            (("--summary", "s.parquet"), "unknown extension '.parquet'; expected one of .csv, .tsv, .jsonl"),
            (("--summary", "none/s.csv"), "there is no folder none; create it first"),
            (("--summary", "out.csv", "-o", "out.csv"), "--summary out.csv is an --output; name another"),
            (("--summary", "out.html.run.jsonl", "-o", "out.html"), "is a file that the run needs itself"),
            (("--summary", "sorted/manifest.csv", "--sort-into", "sorted"), "there is no folder sorted"),
            (("--thumbnails", "-o", "out.csv"), "--thumbnails shows the images in an .xlsx file; add --output"),
            (("--output-encoding", "utf-8-sig", "-o", "out.jsonl"), "is for .csv and .tsv files; name one of these"),
            (("--output-encoding", "utf-16", "-o", "out.csv"), "utf-8-sig"),
            (("-o", "out.xls"), "unknown extension '.xls'"),
        ],
    )
    def test_what_is_refused(self, classify: Callable[..., Any], options: tuple[str, ...], message: str) -> None:
        refused = classify("a", *SETTING, *options)
        assert (refused.code, message in " ".join(refused.err.split())) == (2, True)
        assert sorted(path.name for path in Path().iterdir()) == ["a", "b"]

    @pytest.mark.slow
    @pytest.mark.parametrize("after", [0, 1, 3, 5])
    @pytest.mark.parametrize("output", [(), ("-o", "out.csv"), ("-o", "out.jsonl"), ("-o", "out.xlsx")])
    def test_a_resumed_run_counts_all(
        self,
        classify: Callable[..., Any],
        monkeypatch: pytest.MonkeyPatch,
        angle_model: Any,
        output: tuple[str, ...],
        after: int,
    ) -> None:
        command = ("a", "b", *SETTING, *output, "--summary", "s.csv")
        encode, left = type(angle_model).encode_pixels, [after]

        def encode_pixels(model: Any, batch: Any) -> Any:
            left[0] -= 1
            if left[0] < 0:
                raise KeyboardInterrupt
            return encode(model, batch)

        with monkeypatch.context() as patch:
            patch.setattr(type(angle_model), "encode_pixels", encode_pixels)
            assert classify(*command).code == (130 if after < 5 else 4)
        assert Path("s.csv").exists() == (after == 5)
        assert classify(*command, "--resume").code == 4
        assert lines("s.csv")[1:] == ROWS
        Path("s.csv").unlink()
        assert classify(*command, "--resume").code == 4
        assert lines("s.csv")[1:] == ROWS
        changed = classify(*command[:-1], "t.csv", "--resume")
        assert changed.code == 2 or not output  # without an output, the summary is the run's own name

    def test_sorted_images_are_counted_where_they_were(self, classify: Callable[..., Any]) -> None:
        sort = ("--sort-into", "sorted", "--sort-mode", "move")
        assert classify("a", "b", *SETTING, *sort, "--summary", "s.csv").code == 4
        assert lines("s.csv")[1:] == ROWS


@pytest.mark.slow
@pytest.mark.usefixtures("angles")
def test_a_csv_that_excel_reads_is_read_again(
    classify: Callable[..., Any], draw_angle: Callable[[Path, int], Path]
) -> None:
    draw_angle(Path("a/grün.png"), 20)
    command = ("a", *SETTING, "-o", "out.csv", "-o", "out.tsv", "-o", "out.jsonl", "--summary", "s.csv")
    marked = ("--output-encoding", "utf-8-sig")
    ended = classify(*command, *marked)
    assert ended.code == 0
    assert not ended.out.startswith(MARK)
    for name, is_marked in {"out.csv": True, "out.tsv": True, "s.csv": True, "out.jsonl": False}.items():
        assert Path(name).read_bytes().startswith(MARK) == is_marked
        assert Path(name).read_bytes().count(MARK) == is_marked
    assert Path("out.csv").read_bytes() == MARK + ended.out
    assert [row["path"] for row in csv.DictReader(io.StringIO(Path("out.csv").read_text("utf-8-sig")))] == [
        "a/005.png",
        "a/040.png",
        "a/grün.png",
    ]
    with pytest.raises(DataError, match=r"out\.csv is what zeroshot classify wrote"):
        read_dataset(Path("out.csv"))
    assert [image.path for image in read_run("out.csv").images] == ["a/005.png", "a/040.png", "a/grün.png"]
    whole = Path("out.csv").read_bytes()
    for size in range(0, len(whole), 7):  # wherever a killed run ends
        Path("out.csv").write_bytes(whole[:size])
        record = json.loads(Path("out.csv.run.json").read_text())
        Path("out.csv.run.json").write_text(json.dumps(record | {"complete": False}))
        Path("out.csv.run.jsonl").write_bytes(b"")
        assert classify(*command, *marked, "--resume").code == 0
        assert Path("out.csv").read_bytes() == whole
    refused = classify(*command, "--resume")
    assert (refused.code, "output_encoding was utf-8-sig" in refused.err) == (2, True)


@pytest.mark.usefixtures("angles")
class TestWorkbook:
    def test_the_rows_of_the_csv(self, classify: Callable[..., Any]) -> None:
        ended = classify("a", "b", *SETTING, "--top-k", 2, "-o", "out.xlsx", "-o", "out.csv", "--thumbnails")
        assert ended.code == 4
        assert "wrote out.csv, out.xlsx\n" in ended.err
        sheet = openpyxl.load_workbook("out.xlsx").active
        header, *rows = (row[1:] for row in sheet.iter_rows(values_only=True))
        assert list(header) == ended.out.decode().split("\n")[0].split(",")
        assert len(rows) == len(ended.rows) == 11
        for found, row in zip(rows, ended.rows, strict=True):
            assert ["" if each is None else each for each in (found[0], found[2], found[5])] == [
                row["path"],
                row["label"],
                row["error"],
            ]
            assert found[4] == (pytest.approx(float(row["probability"]), abs=1e-6) if row["rank"] else None)
        assert len(sheet._images) == 5  # the first row of each image that could be read

    def test_the_extra_that_is_missing_is_said_before_the_work(
        self, classify: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, angles: list[Any]
    ) -> None:
        monkeypatch.setattr(xlsx, "find_spec", lambda name: None)
        refused = classify("a", *SETTING, "-o", "out.xlsx")
        assert (refused.code, "pip install 'zeroshot-cli[xlsx]'" in refused.err) == (2, True)
        assert angles == []

    @pytest.mark.parametrize("command", [["eval"], ["tune", "-o", "x.classifier"], ["review"], ["train", "--data"]])
    def test_other_commands_say_what_to_read_in_its_place(
        self, capsys: pytest.CaptureFixture[str], command: list[str]
    ) -> None:
        assert app.run(["classify", "a", *SETTING, "-o", "out.xlsx"]) == 0
        capsys.readouterr()
        rest = ["--output", "run"] if command[0] == "train" else []
        assert app.run([*command, "out.xlsx", *rest]) in (2, 3)
        err = capsys.readouterr().err
        assert "save it as CSV" in err or ".csv" in err
        assert "Traceback" not in err


@pytest.mark.slow
@pytest.mark.parametrize("columns", [80, 120])
@pytest.mark.parametrize("form", [None, "table"])
def test_a_real_terminal(draw_angle: Callable[[Path, int], Path], columns: int, form: str | None) -> None:
    for number in range(60):
        draw_angle(
            Path(f"a rather long name of a folder/with another in it/of {number % 2}/{number:03}.png"), number * 6
        )
    command = [sys.executable, "-m", "zeroshot_cli", "classify", "a rather long name of a folder", "--model", "tiny"]
    command += ["--label", "cat", "--label", "dog", "--no-cache", "--workers", "1"]
    command += ["--format", form] if form else []
    master, terminal = pty.openpty()
    environment = os.environ | {"COLUMNS": str(columns), "LINES": "24", "TERM": "dumb"}
    process = subprocess.Popen(command, stdout=terminal, stderr=terminal, env=environment)
    os.close(terminal)
    said = b""
    while True:
        try:
            said += os.read(master, 65536)
        except OSError:  # the other end is closed
            break
    assert process.wait() == 0
    os.close(master)
    shown = said.decode().replace("\r", "").split("\n")
    assert max(map(len, shown)) <= columns
    assert sum(".png " in line for line in shown) == (60 if form else 50)
    assert ("… 10 more images; --format table shows all" in shown) == (form is None)
    start = next(number for number, line in enumerate(shown) if line.startswith("folder "))
    assert [line.split("  ")[0].rsplit("/")[-1] for line in shown[start + 2 : start + 4]] == ["of 0", "of 1"]
