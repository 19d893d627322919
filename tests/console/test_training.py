"""What a user reads of a run, with reports made by hand, and what is left on the terminal."""

import io
import math
import os
import re
import sys
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from zeroshot_cli.console.preflight import lines as preflight_lines
from zeroshot_cli.console.training import TrainingView, sparkline
from zeroshot_cli.console.training_state import POINTS, Course, Smooth
from zeroshot_cli.evaluation.retrieval import Retrieval
from zeroshot_cli.pairs.read import Source
from zeroshot_cli.records import SkippedImage
from zeroshot_cli.train.features import Encoded
from zeroshot_cli.train.files.folder import Finished, Started, Stepped
from zeroshot_cli.train.preflight import Checked, Preflight
from zeroshot_cli.train.validate import Accuracy, Validation

PREFLIGHT = Preflight(
    pairs=1200,
    sources=(Source("pairs.csv", 1200),),
    images=1200,
    captions=1200,
    empty_captions=3,
    missing_files=0,
    first_missing=None,
    checked=256,
    unreadable=(),
    context_length=77,
    median_tokens=9,
    longest_tokens=20,
    long_captions=0,
    first_long=None,
    repeated_pairs=0,
    largest_caption="a cat",
    largest_count=1,
    shared=0.0,
    batch_size=120,
    image_size=(224, 224),
    epochs=2,
    steps_per_epoch=10,
    steps=20,
)
INFO = Started(
    preflight=PREFLIGHT,
    origin="from tiny",
    steps=20,
    steps_per_epoch=10,
    first_step=0,
    parameters=3_456_789,
    trained=3_456_789,
    device="cpu",
    precision="fp32",
    lr=5e-4,
)
SKIPPED = (SkippedImage("x\n.png", "the file is empty"), SkippedImage("<img onerror>[b]\udcff.png", "none"))
VALIDATION = Validation(2.5, Retrieval({1: 0.125, 5: 0.3, 10: 0.5}, {1: 0.11, 5: 0.29, 10: 0.4}, images=8, texts=8))
ACCURACY = Accuracy(top1=0.312, top5=0.6, images=10)


class Clock:
    """Seconds that go by when they are told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def report(step: int, *, loss: float = 1.23456, steps_per_epoch: int = 10, **more: object) -> Stepped:
    base = Stepped(
        step=step,
        epoch=(step - 1) // steps_per_epoch + 1,
        loss=loss,
        lr=4.9e-4,
        logit_scale=14.3,
        grad_norm=1.0,
        images_per_second=1321.4,
        data_wait=0.03,
        skipped=0,
    )
    return replace(base, **more)  # type: ignore[arg-type]


def shown(
    reports: Iterable[Stepped], *, terminal: bool = False, quiet: bool = False, info: Started = INFO
) -> list[str]:
    """The lines of a whole run."""
    stream = io.StringIO()
    console = Console(file=stream, force_terminal=terminal, width=200, quiet=quiet, color_system=None)
    with TrainingView(quiet=quiet, console=console) as view:
        view.started(info)
        for item in reports:
            view.stepped(item)
    view.finished(Finished(Path("run/model"), None, SKIPPED))
    return stream.getvalue().splitlines()


def epochs_of(lines: Iterable[str]) -> list[str]:
    return [line for line in lines if line.startswith("epoch ")]


def test_every_line_of_a_run_off_a_terminal() -> None:
    reports = [report(9, loss=1.0), report(10, loss=2.0), report(19), report(20, validation=VALIDATION)]
    assert shown(reports) == [
        *preflight_lines(PREFLIGHT),
        "from tiny: 3.5 million parameters on cpu in fp32, learning rate 0.0005",
        "epoch 1 of 2: loss 1.500, 1,321 images/s",
        "epoch 2 of 2: loss 1.235, 1,321 images/s, validation loss 2.500, "
        "recall@1 12.5% image to text, 11.0% text to image",
        "2 images could not be read, first x\\n.png: the file is empty; see the run's skipped.csv",
        "the model is in run/model",
    ]


def test_zero_shot_accuracy_and_a_slow_disk_have_a_word() -> None:
    line = epochs_of(shown([report(10, data_wait=0.623, zero_shot=ACCURACY)]))
    assert line == ["epoch 1 of 2: loss 1.235, 1,321 images/s, waiting for data 62% of the time, zero-shot 31.2%"]


def test_how_far_the_teacher_is_stands_with_the_loss() -> None:
    assert epochs_of(shown([report(10, distil=0.12345)])) == ["epoch 1 of 2: loss 1.235, distil 0.123, 1,321 images/s"]
    assert "distil" in "".join(shown([report(9, distil=0.12345)], terminal=True))


def test_a_run_that_goes_on_and_has_processes() -> None:
    lines = shown([], info=replace(INFO, first_step=1234, processes=4, parameters=151_277_313, trained=12_544))
    trained = "151.3 million parameters, 12,544 of them trained,"
    assert f"from tiny: {trained} on cpu in fp32, by 4 processes, learning rate 0.0005" in lines
    assert "resuming after step 1,234" in lines


def test_a_loss_that_is_no_number_is_left_out_of_the_mean() -> None:
    lines = epochs_of(shown([report(8, loss=1.0), report(9, loss=math.nan), report(10, loss=math.inf)]))
    assert lines == ["epoch 1 of 2: loss 1.000, 1,321 images/s"]
    assert epochs_of(shown([report(10, loss=math.nan)])) == ["epoch 1 of 2: loss nan, 1,321 images/s"]


def test_of_very_many_epochs_some_have_a_line() -> None:
    """1,000 epochs of two steps: every tenth, those that were validated, and the last."""
    info = replace(INFO, steps=1998, steps_per_epoch=2)
    judged = {2 * 7: VALIDATION}
    reports = [report(step, steps_per_epoch=2, validation=judged.get(step)) for step in range(1, 1999)]
    numbers = [int(line.split()[1]) for line in epochs_of(shown(reports, info=info))]
    assert numbers == [7, *range(10, 991, 10), 999]


def test_long_epochs_have_a_line_for_each_tenth() -> None:
    clock, stream = Clock(), io.StringIO()
    with TrainingView(console=Console(file=stream, width=200), clock=clock) as view:
        view.started(replace(INFO, steps=2000, steps_per_epoch=1000))
        for step in range(1, 1101):
            clock.now += 0.5 if step < 700 else 0.7  # seconds: a tenth takes 50, then 70
            view.stepped(report(step, steps_per_epoch=1000))
    shares = [line.split(":")[0] for line in epochs_of(stream.getvalue().splitlines())]
    assert shares == [
        *(f"epoch 1 of 2, {share}%" for share in (20, 40, 60, 80, 90)),
        "epoch 1 of 2",
        "epoch 2 of 2, 10%",
    ]


@pytest.mark.parametrize("steps_per_epoch", [1, 3, 7])
def test_an_epoch_of_few_steps_ends_once(steps_per_epoch: int) -> None:
    info = replace(INFO, steps=2 * steps_per_epoch, steps_per_epoch=steps_per_epoch)
    reports = [report(step, steps_per_epoch=steps_per_epoch) for step in range(1, 2 * steps_per_epoch + 1)]
    assert [line.split(":")[0] for line in epochs_of(shown(reports, info=info))] == ["epoch 1 of 2", "epoch 2 of 2"]


def test_quiet_says_nothing() -> None:
    assert shown([report(10)], quiet=True, terminal=True) == []


def test_ctrl_c_says_where_it_stopped() -> None:
    stream = io.StringIO()
    with pytest.raises(KeyboardInterrupt), TrainingView(console=Console(file=stream, width=200)) as view:  # noqa: PT012
        view.started(INFO)
        view.stepped(report(7))
        raise KeyboardInterrupt
    assert stream.getvalue().splitlines()[-1] == "stopped after step 7 of 20; add --resume to continue"


def test_another_error_is_not_spoken_of() -> None:
    stream = io.StringIO()
    with pytest.raises(ValueError, match="x"), TrainingView(console=Console(file=stream, width=200)) as view:  # noqa: PT012
        view.started(INFO)
        view.stepped(report(7))
        raise ValueError("x")
    assert "stopped" not in stream.getvalue()


def test_the_report_is_named_where_there_is_one(tmp_path: Path) -> None:
    stream = io.StringIO()
    view = TrainingView(console=Console(file=stream, width=200))
    (tmp_path / "report.html").touch()
    view.finished(Finished(tmp_path / "model", None, ()))
    assert stream.getvalue() == f"the model is in {tmp_path}/model, its curves in {tmp_path}/report.html\n"


class Screen:
    """What a terminal of this width shows after what was written: cursor up, lines cleared, long lines folded."""

    def __init__(self, width: int) -> None:
        self.width, self.rows, self.row, self.column = width, [""], 0, 0
        self.has_cursor = True

    def write(self, text: str) -> None:
        for part in re.findall(r"\x1b\[[?\d;]*[A-Za-z]|.|\n", text.replace("\r\n", "\n"), flags=re.DOTALL):
            self._put(part)

    def _put(self, part: str) -> None:
        if part == "\n":
            self.row, self.column = self.row + 1, 0
        elif part == "\r":
            self.column = 0
        elif part == "\x1b[2K":
            self.rows[self.row] = ""
        elif part == "\x1b[1A":
            self.row -= 1
            assert self.row >= 0
        elif part.startswith("\x1b[?25"):
            self.has_cursor = part.endswith("h")
        elif not part.endswith("m") or len(part) == 1:
            self._print(part)
        self.rows += [""] * (self.row + 1 - len(self.rows))

    def _print(self, character: str) -> None:
        assert character.isprintable(), f"{character!r} is not known to this terminal"
        if self.column == self.width:
            self.row, self.column = self.row + 1, 0
            self.rows += [""] * (self.row + 1 - len(self.rows))
        row = self.rows[self.row].ljust(self.column)
        self.rows[self.row] = row[: self.column] + character + row[self.column + 1 :]
        self.column += 1

    def lines(self) -> list[str]:
        """Without the empty ones at the end."""
        return "\n".join(row.rstrip() for row in self.rows).rstrip("\n").split("\n")


class Terminal:
    """A view on a terminal whose refreshes are made by hand."""

    def __init__(self, width: int, clock: Clock | None = None, **more: object) -> None:
        self.stream = io.StringIO()
        self.console = Console(file=self.stream, force_terminal=True, width=width, height=24, **more)  # type: ignore[arg-type]
        self.view = TrainingView(console=self.console, clock=clock or Clock())
        self.width = width

    def refresh(self) -> None:
        live = self.view._view._live
        assert live is not None
        live.refresh()

    def screen(self) -> Screen:
        screen = Screen(self.width)
        screen.write(self.stream.getvalue())
        return screen

    def shown(self) -> list[str]:
        """The lines since the run's own."""
        lines = self.screen().lines()
        start = next(number for number, line in enumerate(lines) if line.endswith("0.0005"))
        return lines[start + 1 :]


INFO_60 = replace(INFO, steps=12_000, steps_per_epoch=1000)


def test_every_line_of_the_view_on_sixty_columns() -> None:
    clock = Clock()
    terminal = Terminal(60, clock)
    with terminal.view as view:
        view.started(INFO_60)
        clock.now += 100  # for the first step, which says nothing of the others
        view.stepped(report(999, loss=3.0, steps_per_epoch=1000))
        clock.now += 2
        view.stepped(report(1000, loss=1.0, steps_per_epoch=1000, validation=VALIDATION, zero_shot=ACCURACY))
        clock.now += 2
        view.stepped(report(1001, loss=2.0, steps_per_epoch=1000, data_wait=0.5, skipped=2))
        terminal.refresh()
        lines = terminal.shown()
    assert lines[:4] == [
        "epoch 1 of 12: loss 2.000, 1,321 images/s, validation loss 2",
        ".500, recall@1 12.5% image to text, 11.0% text to image, zer",
        "o-shot 31.2%",
        "epoch 2 of 12, step 1,001 of 12,000 ━━╺━━━━━━━━━━━━━━━━━━━━━",
    ]
    # 0.95² · 3 + 0.95 · 1 + 2, divided by 0.95² + 0.95 + 1; 10,999 steps at 2 seconds each
    assert lines[4:] == [
        "loss          1.983, last 2.000  █▁▅",
        "logit scale   14.30, temperature 0.0699",
        "learning rate 4.90e-04",
        "images/s      1,321, waiting for data 50% of the time",
        "time left     6:06:38, elapsed 0:01:44",
        "skipped       2 unreadable images",
        "validation    loss 2.500 after epoch 1",
        "recall@1/5/10 text 12.5 30.0 50.0 %, image 11.0 29.0 40.0 %",
        "zero-shot     top-1 31.2%, top-5 60.0% after epoch 1",
    ]


def test_what_is_left_on_the_terminal_are_the_lines_alone() -> None:
    terminal = Terminal(60)
    with terminal.view as view:
        view.started(INFO)
        for step in range(1, 21):
            validated = step % 10 == 0
            view.stepped(report(step, skipped=step // 4, validation=VALIDATION if validated else None))
            terminal.refresh()
    view.finished(Finished(Path("run/model"), None, ()))
    line = "loss 1.235, 1,321 images/s, validation loss 2.500, recall@1 12.5% image to text, 11.0% text to image"
    epochs = [f"epoch {number} of 2: {line}" for number in (1, 2)]
    folded = [text[start : start + 60].rstrip() for text in epochs for start in range(0, len(text), 60)]
    assert terminal.shown() == [*folded, "the model is in run/model"]
    assert terminal.screen().has_cursor


@pytest.mark.parametrize("width", [20, 40, 60, 200])
def test_no_line_of_the_view_is_folded(width: int) -> None:
    terminal = Terminal(width)
    with terminal.view as view:
        view.started(replace(INFO, steps=9_999_999, steps_per_epoch=333_333))
        for step in range(1, 200):
            view.stepped(
                report(step, loss=5 / step, steps_per_epoch=333_333, validation=VALIDATION, zero_shot=ACCURACY)
            )
        terminal.refresh()
        rendered = terminal.console.render_lines(view._view._live.renderable)  # type: ignore[union-attr]
        assert {sum(segment.cell_length for segment in line) for line in rendered} == {width}
        assert len(rendered) == 9
    assert "logit scale" not in "".join(terminal.screen().lines())


def test_a_terminal_without_utf_8_has_a_view_in_ascii() -> None:
    class Ascii(io.StringIO):
        encoding = "ascii"  # type: ignore[assignment]

    terminal = Terminal(60)
    terminal.console.file = terminal.stream = Ascii()
    with terminal.view as view:
        view.started(INFO)
        for step in range(1, 9):
            view.stepped(report(step, loss=1 / step, validation=VALIDATION))
        terminal.refresh()
        run = terminal.stream.getvalue().partition("million parameters")[2]
    assert "last 0.125" in run
    assert run.isascii()


def test_a_dumb_terminal_has_lines_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "dumb")
    stream = io.StringIO()
    console = Console(file=stream, force_terminal=True, width=80)
    with TrainingView(console=console) as view:
        view.checked(Checked(1, 2))
        view.started(INFO)
        view.stepped(report(9))
        view.stepped(report(10))
    assert "\x1b" not in stream.getvalue().partition("million parameters")[2]
    assert len(epochs_of(stream.getvalue().splitlines())) == 1


def test_looking_at_images_has_a_bar_after_a_second() -> None:
    clock = Clock()
    terminal = Terminal(60, clock)
    with terminal.view as view:
        view.checked(Checked(1, 30_000))
        assert view._view._live is None
        clock.now += 1.5
        view.checked(Checked(1500, 30_000))
        terminal.refresh()
        view.checked(Checked(3000, 30_000))
        terminal.refresh()
        assert terminal.screen().lines()[0].startswith("checking images: 3,000 of 30,000 ━")
        view.started(INFO)
    assert "looking" not in "".join(terminal.screen().lines())
    assert shown([])[0].startswith("pairs")


def test_encoding_images_has_a_bar_and_off_a_terminal_a_line_a_minute() -> None:
    clock = Clock()
    terminal = Terminal(60, clock)
    with terminal.view as view:
        view.started(INFO)
        view.encoded(Encoded(32, 2000))
        terminal.refresh()
        assert terminal.screen().lines()[-1].startswith("encoding images: 32 of 2,000 ━")
    stream = io.StringIO()
    with suppress(KeyboardInterrupt), TrainingView(console=Console(file=stream), clock=clock) as view:
        view.started(INFO)
        for done in (32, 64, 96, 128):
            clock.now += 40
            view.encoded(Encoded(done, 2000))
        raise KeyboardInterrupt
    assert stream.getvalue().splitlines()[-3:] == [
        "encoding images: 64 of 2,000",
        "encoding images: 128 of 2,000",
        "stopped while images were encoded; add --resume to continue",
    ]


def test_looking_at_images_says_nothing_off_a_terminal() -> None:
    clock, stream = Clock(), io.StringIO()
    with TrainingView(console=Console(file=stream), clock=clock) as view:
        clock.now += 5
        view.checked(Checked(1, 2))
    assert stream.getvalue() == ""


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")  # of later Pythons: the view has a thread
def test_standard_error_goes_above_the_view(monkeypatch: pytest.MonkeyPatch) -> None:
    """A warning of this process does; that of a forked worker goes straight out, whatever locks the view holds."""
    stream = Stderr()
    monkeypatch.setattr(sys, "stderr", stream)
    view = TrainingView(console=Console(stderr=True, force_terminal=True, width=60, highlight=False), clock=Clock())
    with view:
        view.started(INFO)
        view.stepped(report(1))
        assert sys.stderr is not stream
        print("warning: [b]a file\nis large", file=sys.stderr)
        if (child := os.fork()) == 0:
            print("from a worker", file=sys.stderr)
            os._exit(0 if stream.getvalue().endswith("from a worker\n") else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        print("no end of line", end="", file=sys.stderr)
    assert sys.stderr is stream
    screen = Screen(60)
    screen.write(stream.getvalue())
    assert screen.lines()[-3:] == ["warning: [b]a file", "is large", "no end of line"]


class Stderr(io.StringIO):
    """A standard error that is a terminal."""

    encoding = "utf-8"  # type: ignore[assignment]

    def isatty(self) -> bool:
        return True


def test_a_running_average_is_exact_from_the_first_number_on() -> None:
    smooth = Smooth(0.5)
    assert math.isnan(smooth.value)
    values = []
    for number in (4.0, 1.0, 1.0):
        smooth.add(number)
        values.append(smooth.value)
    assert values == pytest.approx([4, (0.5 * 4 + 1) / 1.5, (0.25 * 4 + 0.5 + 1) / 1.75])


def test_a_course_keeps_means_of_equal_numbers_of_steps() -> None:
    course = Course()
    assert course.at_most(5) == []
    for number in range(1000):
        course.add(number)
    # 128 means of one step became 64 of two, at step 256 64 of four, at 512 64 of eight; 61 are whole at 1000
    assert len(course.means) < POINTS
    assert course.means == [8 * i + 3.5 for i in range(125)]
    assert course.at_most(5) == [8 * (25 * i + 12) + 3.5 for i in range(5)]
    assert course.at_most(0) == []
    assert list(course.at_most(500)) == course.means


@pytest.mark.parametrize(
    ("numbers", "line"),
    [([], ""), ([2.0], "▁"), ([1.0, 1.0], "▁▁"), ([7, 6, 5, 4, 3, 2, 1, 0], "█▇▆▅▄▃▂▁"), ([0, -1, 1], "▅▁█")],
)
def test_sparklines(numbers: list[float], line: str) -> None:
    assert sparkline(numbers) == line
