"""What a user reads of a run, with reports made by hand."""

import io
from pathlib import Path

from rich.console import Console

from zeroshot_cli.records import SkippedImage
from zeroshot_cli.report.training import TrainingView
from zeroshot_cli.train.metrics import RunInfo, StepReport, TrainResult
from zeroshot_cli.train.pairs import Pairs
from zeroshot_cli.train.validate import Validation

INFO = RunInfo(
    pairs=Pairs(("a.png",) * 1200, ("a",) * 1200, empty_captions=3, missing_files=0),
    steps=20,
    steps_per_epoch=10,
    first_step=0,
    parameters=3_456_789,
    device="cpu",
    precision="fp32",
    lr=5e-4,
)


def report(step: int, validation: Validation | None = None) -> StepReport:
    return StepReport(step, (step - 1) // 10 + 1, 1.23456, 1e-4, 14.3, 321.4, 0, validation)


def shown(*reports: StepReport, terminal: bool = False, quiet: bool = False, info: RunInfo = INFO) -> str:
    stream = io.StringIO()
    console = Console(file=stream, force_terminal=terminal, width=200, quiet=quiet, color_system=None)
    with TrainingView(quiet=quiet, console=console) as view:
        view.started(info)
        for item in reports:
            view.stepped(item)
    view.finished(TrainResult(Path("run/model"), None, (SkippedImage("x\n.png", "the file is empty"),) * 2))
    return stream.getvalue()


def test_every_line_of_a_run_off_a_terminal() -> None:
    text = shown(report(9), report(10), report(19), report(20, Validation(loss=2.5, recall_at_1=0.125)))
    assert text.splitlines() == [
        "1,200 pairs; left out: 3 with an empty caption",
        "3.5 million parameters on cpu in fp32, 20 steps (10 an epoch), learning rate 0.0005",
        "epoch 1: loss 1.235, 321 images/s",
        "epoch 2: loss 1.235, 321 images/s, validation loss 2.500, recall@1 12.5%",
        "2 images could not be read, first x\\n.png: the file is empty; see skipped.csv of the run",
        "the model is in run/model",
    ]


def test_a_terminal_has_a_bar() -> None:
    text = shown(report(7), terminal=True)
    assert "7/20" in text
    assert "loss 1.235" in text
    assert "321 images/s" in text


def test_quiet_says_nothing() -> None:
    assert shown(report(10), quiet=True, terminal=True) == ""
