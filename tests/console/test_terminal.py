"""Tables for people, and the progress bar that makes way for them."""

import io
import os

import pytest
from rich.console import Console
from rich.progress import Progress, TextColumn

from zeroshot_cli.console.results_table import TableWriter
from zeroshot_cli.console.terminal import ProgressBar, console_for, progress_bar
from zeroshot_cli.display import shown
from zeroshot_cli.records import LabelScore, Prediction, Result, SkippedImage

CAT = Prediction("a.png", (LabelScore("cat", 0.25, 0.9), LabelScore("dog, wet", 0.1234567, 1e-9)), 0.1265433)
BAD = SkippedImage("c.png", 'not "an" image')


def drawn(*items: Result, ranks: bool = False) -> list[str]:
    stream = io.StringIO()
    writer = TableWriter(console_for(stream), ranks=ranks)
    writer.write(items)
    writer.close()
    return [line.rstrip() for line in stream.getvalue().splitlines()]


def test_the_table_has_a_line_a_label_and_the_path_once() -> None:
    header, _, *lines = drawn(CAT, BAD, ranks=True)
    assert header.split() == ["path", "rank", "label", "score", "probability"]
    assert [line.split() for line in lines] == [
        ["a.png", "1", "cat", "0.2500", "0.9000"],
        ["2", "dog,", "wet", "0.1235", "0.0000"],
        ["c.png", "not", '"an"', "image"],
    ]


def test_the_table_reads_no_markup_and_prints_no_control_character() -> None:
    path = os.fsdecode(b"[red]x\n\x1b[2J\xff[/red].png")
    lines = drawn(Prediction(path, (LabelScore("[bold]b\r", 0.5, 0.5),)))
    assert lines[-1].startswith("[red]x\\n\\x1b[2J\\xff[/red].png")
    assert "[bold]b\\r" in lines[-1]
    assert len(lines) == 3


def test_a_rejected_image_is_one_line() -> None:
    lines = drawn(Prediction("a.png", CAT.predictions, 0.1, rejected=True), ranks=True)
    assert [line.split() for line in lines[2:]] == [["a.png", "1", "unknown", "0.2500", "0.9000"]]


@pytest.mark.parametrize("block", [1, 33, 200, 401])
def test_a_long_table_is_drawn_as_it_comes_with_the_same_widths(block: int) -> None:
    stream = io.StringIO()
    writer = TableWriter(console_for(stream), ranks=False)
    items = [Prediction(f"{number:04}.png", (LabelScore("cat", 0.5, 0.5),)) for number in range(401)]
    for start in range(0, 401, block):
        writer.write(items[start : start + block])
        written = min(start + block, 401)
        assert stream.getvalue().count(".png") == written - written % 200
    writer.close()
    lines = stream.getvalue().splitlines()
    assert [line.split()[0] for line in lines[2:]] == [f"{number:04}.png" for number in range(401)]
    assert len({line.index("0.5000") for line in lines[2:]}) == 1


@pytest.mark.parametrize(
    ("text", "escaped"),
    [("plain 猫", "plain 猫"), ("a\tb", "a\\tb"), ("\udcff", "\\xff"), ("\u202e", "\\u202e"), ("\x00", "\\x00")],
)
def test_shown(text: str, escaped: str) -> None:
    assert shown(text) == escaped


def terminal_progress() -> tuple[Progress, io.StringIO]:
    stream = io.StringIO()
    console = Console(file=stream, force_terminal=True, width=60)
    return Progress(TextColumn("{task.description} {task.fields[rate]}"), console=console, transient=True), stream


def test_the_bar_makes_way_and_comes_back_but_not_once_it_is_over() -> None:
    progress, _ = terminal_progress()
    bar = ProgressBar(progress)
    with progress:
        with bar.paused():
            assert not progress.live.is_started
        assert progress.live.is_started
    with bar.paused():
        assert not progress.live.is_started
    assert not progress.live.is_started


def test_the_bar_passes_everything_on_and_counts_it() -> None:
    progress, stream = terminal_progress()
    with progress:
        assert list(ProgressBar(progress).track(iter("abc"), 3, "[red]images")) == ["a", "b", "c"]
        assert progress.tasks[0].completed == 3
    assert "images/s" in stream.getvalue()


def test_no_bar_where_nobody_looks(capsys: pytest.CaptureFixture[str]) -> None:
    with progress_bar() as bar:
        assert list(bar.track([1, 2], 2, "images")) == [1, 2]
        with bar.paused():
            pass
    assert capsys.readouterr().err == ""
