"""Nothing from a file, a folder or the network reaches a terminal as it is; pipes get every byte."""

import csv
import io
import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from zeroshot_cli.cli.app import run
from zeroshot_cli.console.terminal import ProgressBar
from zeroshot_cli.display import shown, shown_lines
from zeroshot_cli.records import LabelScore, Prediction, SkippedImage
from zeroshot_cli.results.formats import Format, stream_writer

LINK = "\x1b]8;;http://example.com\x1b\\click\x1b]8;;\x1b\\"
DIRECTIONS = (*range(0x202A, 0x202F), *range(0x2066, 0x206A), 0x200E, 0x200F, 0x61C)
INVISIBLE = (0x200B, 0x200C, 0x200D, 0x2060, 0xFEFF, 0xAD, 0xE0041)
HOSTILE = {
    "an escape": "\x1b[2J",
    "a hyperlink": LINK,
    "a C1 control": "\x9b2J",
    "a bell": "\a",
    "a backspace": "\b",
    "a carriage return": "good\rbad",
    "DEL": "\x7f",
    **{
        f"direction U+{code:04X}": chr(code) for code in (*range(0x202A, 0x202F), *range(0x2066, 0x206A), 0x200E, 0x61C)
    },
    **{f"invisible U+{code:04X}": f"a{chr(code)}" for code in (0x200B, 0x200C, 0x200D, 0x2060, 0xFEFF, 0xAD, 0xE0041)},
    **{f"a line break U+{code:04X}": chr(code) for code in (0x2028, 0x2029, 0x85)},
}
texts = pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)


class Terminal(io.BytesIO):
    def isatty(self) -> bool:
        return True


def written(stream: io.BytesIO, form: Format, text: str) -> bytes:
    writer = stream_writer(stream, form)
    writer.write([Prediction(text, (LabelScore(text, 0.25, 0.5),), 0.1), SkippedImage(text, f"no {text}")])
    return stream.getvalue()


@texts
@pytest.mark.parametrize("form", [Format.CSV, Format.TSV, Format.JSONL])
def test_rows_on_a_terminal_are_printable_and_in_a_pipe_as_they_are(text: str, form: Format) -> None:
    on_terminal = written(Terminal(), form, text).decode()
    assert on_terminal.replace("\n", "").replace("\t", "").isprintable()
    in_pipe = written(io.BytesIO(), form, text).decode()
    if form is Format.JSONL:
        assert [json.loads(line) for line in on_terminal.split("\n")[:2]] == [
            json.loads(line) for line in in_pipe.split("\n")[:2]
        ]
    else:
        delimiter = "," if form is Format.CSV else "\t"
        rows = list(csv.reader(io.StringIO(in_pipe, newline=""), delimiter=delimiter))
        assert (rows[1][0], rows[1][2], rows[2][5]) == (text, text, f"no {text}")


def test_what_can_be_read_stays() -> None:
    for text in ("Grüße", "日本語", "می\u200cخواهم", "👩\u200d🔬", "क्\u200dष", "naïve – “quoted”"):
        assert shown(text) == shown_lines(text) == text
    assert shown_lines("a\tb\n\x1bc\n") == "a\tb\n\\x1bc\n"


@texts
def test_the_name_beside_a_progress_bar(text: str) -> None:
    from rich.progress import Progress

    progress = Progress(disable=True)
    list(ProgressBar(progress).track([1, 2], 2, f"drawing {text}.html"))
    assert progress.tasks[0].description.isprintable()


def test_a_traceback_of_debug(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def load(*_: object, **__: object) -> None:
        raise ValueError(f"no such {LINK}\u202e\u2028\x9b")

    monkeypatch.setattr("zeroshot_cli.cli.options.RuntimeOptions.load", load)
    assert run(["classify", __file__, "--label", "a", "--label", "b", "--debug"]) == 1
    err = capsys.readouterr().err
    assert "Traceback" in err
    assert err.replace("\n", "").isprintable()
    assert "\\x1b]8;;http" in err


@pytest.mark.slow
def test_a_file_name_of_a_stranger_on_a_real_terminal(tmp_path: Path) -> None:
    Image.new("RGB", (8, 8), "red").save(tmp_path / "a.png")
    (tmp_path / "a.png").rename(tmp_path / "\x1b]0;owned\a\u202egnp.png")
    command = [sys.executable, "-m", "zeroshot_cli", "classify", str(tmp_path), "--model", "tiny", "--format", "csv"]
    command += ["--label", "cat\x9b2J", "--label", "dog", "--no-cache", "--workers", "1"]
    master, terminal = pty.openpty()
    process = subprocess.Popen(command, stdout=terminal, stderr=terminal)
    os.close(terminal)
    said = b""
    while True:
        try:
            said += os.read(master, 65536)
        except OSError:  # the other end is closed
            break
    assert process.wait() == 0
    os.close(master)
    assert b"\\x1b]0;owned\\x07\\u202egnp.png" in said
    assert b"\x1b]0;" not in said
    assert "\u202e".encode() not in said
