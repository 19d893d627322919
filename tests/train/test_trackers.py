"""Figures for TensorBoard, read back by its own reader, and for Weights & Biases, through a module in its place."""

import json
import math
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from zeroshot_cli.errors import UsageError
from zeroshot_cli.evaluation.retrieval import Retrieval
from zeroshot_cli.train.files.folder import Stepped
from zeroshot_cli.train.files.trackers import check_trackers, open_trackers
from zeroshot_cli.train.validate import Accuracy, Validation

SETTINGS = {"data": ["a|b.csv", "caf\udce9`.csv\nx"], "lr": 5e-4, "val": None, "log_every": 10}
REPORT = Stepped(
    step=10,
    epoch=2,
    loss=1.5,
    lr=4e-4,
    logit_scale=14.25,
    grad_norm=2.5,
    images_per_second=320.04,
    data_wait=0.125,
    skipped=3,
)
JUDGED = replace(
    REPORT,
    step=25,
    loss=math.nan,
    validation=Validation(
        2.25, Retrieval({1: 0.125, 5: 0.25, 10: 0.5}, {1: 0.0625, 5: 0.75, 10: 1.0}, images=16, texts=16)
    ),
    zero_shot=Accuracy(top1=0.375, top5=0.875, images=8),
)
TRAIN = {
    "train/epoch": 2,
    "train/loss": 1.5,
    "train/lr": 4e-4,
    "train/logit_scale": 14.25,
    "train/grad_norm": 2.5,
    "train/images_per_second": 320.0,
    "train/data_wait": 0.125,
    "train/skipped": 3,
}
OTHERS = {
    "val/loss": 2.25,
    "val/skipped": 0,
    "val/recall@1": 0.125,
    "val/recall@5": 0.25,
    "val/recall@10": 0.5,
    "val/text_recall@1": 0.0625,
    "val/text_recall@5": 0.75,
    "val/text_recall@10": 1.0,
    "zero_shot/top1": 0.375,
    "zero_shot/top5": 0.875,
}


def log(names: list[str], run: Path, *reports: Stepped, first_step: int = 0) -> None:
    with open_trackers(names, run, SETTINGS, first_step=first_step) as tracker:
        for report in reports:
            tracker.log(report)


def events(run: Path) -> Any:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    return EventAccumulator(str(run / "tensorboard")).Reload()


def scalars(run: Path) -> dict[str, dict[int, float]]:
    found = events(run)
    return {tag: {event.step: event.value for event in found.Scalars(tag)} for tag in found.Tags()["scalars"]}


def test_tensorboard_reads_every_figure_at_its_step(tmp_path: Path) -> None:
    log(["tensorboard"], tmp_path / "new" / "run", REPORT, JUDGED)
    found = scalars(tmp_path / "new" / "run")
    assert {tag: values[10] for tag, values in found.items() if 10 in values} == pytest.approx(TRAIN)
    later = {tag: value for tag, value in TRAIN.items() if tag != "train/loss"}  # which was no number
    assert {tag: values[25] for tag, values in found.items() if 25 in values} == pytest.approx(later | OTHERS)


def test_tensorboard_shows_the_settings(tmp_path: Path) -> None:
    log(["tensorboard"], tmp_path)
    found = events(tmp_path)
    (tag,) = found.Tags()["tensors"]
    (text,) = found.Tensors(tag)[0].tensor_proto.string_val
    assert text.decode().splitlines() == [
        "| setting | value |",
        "|---|---|",
        "| data | `['a¦b.csv', 'caf\\udce9'.csv\\nx']` |",
        "| lr | `0.0005` |",
        "| val | `None` |",
        "| log_every | `10` |",
    ]


def test_tensorboard_hides_what_a_run_that_goes_on_makes_again(tmp_path: Path) -> None:
    first = [replace(REPORT, step=step, loss=1.0) for step in (10, 20, 30)]
    log(["tensorboard"], tmp_path, *first)
    log(["tensorboard"], tmp_path, *[replace(REPORT, step=step, loss=2.0) for step in (20, 40)], first_step=10)
    assert scalars(tmp_path)["train/loss"] == {10: 1.0, 20: 2.0, 40: 2.0}


def test_steps_between_are_not_logged(tmp_path: Path) -> None:
    log(["tensorboard"], tmp_path, *[replace(REPORT, step=step) for step in range(1, 26)])
    assert sorted(scalars(tmp_path)["train/lr"]) == [10, 20]


def test_no_tracker_is_one_too(tmp_path: Path) -> None:
    check_trackers([])
    log([], tmp_path / "run", REPORT)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("name", ["mlflow", "TensorBoard", "", "wandb.errors", "torch"])
def test_a_name_that_is_none(name: str, tmp_path: Path) -> None:
    sentence = f"^--report-to is {name!r}; it must be tensorboard or wandb$"
    with pytest.raises(UsageError, match=sentence):
        check_trackers(["tensorboard", name])
    with pytest.raises(UsageError, match=sentence), open_trackers([name], tmp_path, SETTINGS):
        pass


MISSING = "^--report-to {0} needs the package {0}: pip install 'zeroshot-cli\\[{0}\\]'$"


@pytest.mark.parametrize("name", ["tensorboard", "wandb"])
def test_a_package_that_is_missing(name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("zeroshot_cli.train.files.trackers.find_spec", lambda name: None)
    with pytest.raises(UsageError, match=MISSING.format(name)):
        check_trackers([name])
    assert list(tmp_path.iterdir()) == []


def test_a_folder_called_wandb_is_no_package(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Weights & Biases leaves such a folder where it ran, and `python -m` looks for packages there."""
    (tmp_path / "wandb").mkdir()
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    with pytest.raises(UsageError, match=MISSING.format("wandb")):
        check_trackers(["wandb"])


def test_a_package_that_is_half_there(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard.summary", None)  # what a failed import leaves
    with pytest.raises(UsageError, match=MISSING.format("tensorboard")), open_trackers(["tensorboard"], tmp_path, {}):
        pass


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with (
        pytest.raises(UsageError, match=r"^--report-to tensorboard cannot begin: .*Not a directory.* omit"),
        open_trackers(["tensorboard"], tmp_path / "file" / "run", SETTINGS),
    ):
        pass


def test_a_full_disk_ends_the_tracker_and_not_the_run(
    tmp_path: Path, file_size_limit: Callable[[int], AbstractContextManager[None]]
) -> None:
    steps = [replace(REPORT, step=step) for step in range(10, 5000, 10)]
    with (
        file_size_limit(10_000),
        pytest.warns(UserWarning, match="^tensorboard failed and gets no more figures of this run: .*too large"),
    ):
        log(["tensorboard"], tmp_path, *steps)
    assert (tmp_path / "tensorboard").exists()


WANDB = """
import json, pathlib

class Run:
    def __init__(self, id, folder):
        self.id, self.folder = id or "new1d", pathlib.Path(folder)
        self.calls = []

    def _note(self, *call):
        with (self.folder / "calls.jsonl").open("a") as file:
            file.write(json.dumps(call) + "\\n")

    def define_metric(self, name, step_metric=None):
        self._note("define", name, step_metric)

    def log(self, row):
        if fails_at is not None and row["step"] >= fails_at:
            raise RuntimeError("the service\\nis gone")
        self._note("log", row)

    def finish(self):
        self._note("finish")

fails_at = None
login = True

def init(*, project, name, id, resume, dir, config, allow_val_change, settings):
    if not login:
        raise RuntimeError("api_key not configured (no-tty)")
    json.dumps(config).encode(), "".join(config["data"]).encode(), name.encode()
    run = Run(id, dir)
    run._note("init", dict(project=project, name=name, id=id, resume=resume, config=config, settings=settings))
    return run
"""


@pytest.fixture
def wandb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A module that stands in for wandb, and notes its calls in the run's folder."""
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "wandb.py").write_text(WANDB)
    monkeypatch.syspath_prepend(tmp_path / "site")
    monkeypatch.delenv("WANDB_PROJECT", raising=False)
    import wandb

    yield wandb
    del sys.modules["wandb"]


def calls(run: Path) -> list[Any]:
    return [json.loads(line) for line in (run / "calls.jsonl").read_text().splitlines()]


def test_wandb_gets_settings_and_figures(wandb: Any, tmp_path: Path) -> None:
    run = tmp_path / "my run\udcff"
    check_trackers(["wandb"])
    log(["wandb", "wandb"], run, REPORT, replace(REPORT, step=11), JUDGED)
    init, step, every, first, second, end = calls(run)
    assert init[1] == {
        "project": "zeroshot",
        "name": "my run\\udcff",
        "id": None,
        "resume": "allow",
        "config": {**SETTINGS, "data": ["a|b.csv", "caf\\udce9`.csv\nx"]},
        "settings": {"console": "off"},
    }
    assert (step, every, end) == (["define", "step", None], ["define", "*", "step"], ["finish"])
    assert first == ["log", {**TRAIN, "step": 10}]
    later = {tag: value for tag, value in TRAIN.items() if tag != "train/loss"}
    assert second == ["log", {**later, **OTHERS, "step": 25}]


def test_a_run_that_goes_on_is_the_same_at_wandb(wandb: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log(["wandb"], tmp_path, REPORT)
    monkeypatch.setenv("WANDB_PROJECT", "mine")
    log(["wandb"], tmp_path, replace(REPORT, step=20), first_step=15)
    began = [call[1] for call in calls(tmp_path) if call[0] == "init"]
    assert [each["id"] for each in began] == [None, "new1d"]
    assert [each["project"] for each in began] == ["zeroshot", "mine"]


def test_wandb_without_a_login_stops_before_the_first_step(wandb: Any, tmp_path: Path) -> None:
    wandb.login = False
    sentence = (
        r"^--report-to wandb cannot begin: api_key not configured \(no-tty\); "
        "run wandb login, set WANDB_MODE=offline or omit --report-to wandb$"
    )
    with pytest.raises(UsageError, match=sentence), open_trackers(["tensorboard", "wandb"], tmp_path, SETTINGS):
        pass
    assert events(tmp_path).Tags()["tensors"]  # the other one was closed


def test_a_tracker_that_fails_is_warned_of_once_and_the_others_go_on(wandb: Any, tmp_path: Path) -> None:
    wandb.fails_at = 20
    with pytest.warns(UserWarning, match="failed") as said:
        log(["wandb", "tensorboard"], tmp_path, *[replace(REPORT, step=step) for step in (10, 20, 30, 40)])
    assert [str(warning.message) for warning in said] == [
        "wandb failed and gets no more figures of this run: the service is gone; metrics.jsonl has them all"
    ]
    assert [call[1]["step"] for call in calls(tmp_path) if call[0] == "log"] == [10]
    assert sorted(scalars(tmp_path)["train/lr"]) == [10, 20, 30, 40]


def test_trackers_are_closed_when_the_run_fails(wandb: Any, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), open_trackers(["wandb", "tensorboard"], tmp_path, SETTINGS) as tracker:  # noqa: PT012
        tracker.log(REPORT)
        raise KeyboardInterrupt
    assert calls(tmp_path)[-1] == ["finish"]
    assert scalars(tmp_path)["train/loss"] == {10: 1.5}


def test_no_secret_of_an_address_is_shown_or_sent(wandb: Any, tmp_path: Path) -> None:
    settings = {**SETTINGS, "data": ["https://me:hunter2@a.org/pairs.csv?sig=hunter3"]}
    with open_trackers(["tensorboard", "wandb"], tmp_path, settings):
        pass
    (text,) = events(tmp_path).Tensors("settings/text_summary")[0].tensor_proto.string_val
    for sent in (text.decode(), (tmp_path / "calls.jsonl").read_text()):
        assert "https://***@a.org/pairs.csv?sig=***" in sent
        assert "hunter" not in sent
