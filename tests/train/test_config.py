"""Settings that make no sense are refused by name; those of a continued run are known."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from zeroshot_cli.errors import UsageError
from zeroshot_cli.records import Augmentation, Loss
from zeroshot_cli.train.config import TrainConfig


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("epochs", 0),
        ("batch_size", 1),
        ("workers", -1),
        ("log_every", 0),
        ("save_every", -5),
        ("warmup", 1.5),
        ("weight_decay", -0.1),
        ("min_scale", 0.0),
        ("min_scale", 1.1),
        ("ema", 1.0),
        ("ema", 0.0),
        ("lr", 0.0),
        ("lr", float("nan")),
        ("precision", "fp16"),
    ],
)
def test_values_without_sense_are_refused(option: str, value: Any) -> None:
    with pytest.raises(UsageError, match=rf"^--{option.replace('_', '-')} is {value}; it must be "):
        TrainConfig(data=("a.csv",), model="RN50", **{option: value})


def test_the_file_of_a_run_holds_plain_values(tmp_path: Path) -> None:
    config = TrainConfig(data=("a.csv", "b.csv"), model="RN50", augment=(Augmentation.FLIP,), loss=Loss.SIGMOID)
    values = yaml.safe_load(yaml.safe_dump(config.to_dict()))
    assert (values["data"], values["augment"], values["loss"]) == (["a.csv", "b.csv"], ["flip"], "sigmoid")
    assert values["text_encoder"] is None


def test_what_may_change_is_not_compared() -> None:
    one = TrainConfig(data=("a.csv",), model="RN50", workers=0, log_every=5, save_every=9, device="cpu", val=("v.csv",))
    assert TrainConfig(data=("x/a.csv",), model="RN50").identity() == one.identity()
    assert TrainConfig(data=("a.csv",), model="RN50", lr=1e-3).identity() != one.identity()
