"""The record of a run, and the first setting that differs."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from zeroshot_cli.errors import UsageError
from zeroshot_cli.records import Counts
from zeroshot_cli.results.run_record import RunRecord, as_plain, first_difference, read_record, write_record


def test_a_record_comes_back_and_is_for_people_too(tmp_path: Path) -> None:
    path = tmp_path / "out.csv.run.json"
    settings = as_plain({"inputs": [Path(os.fsdecode(b"\xff"))], "labels": ("猫", "dog"), "thresholds": {"score": 0.1}})
    record = RunRecord("2025-01-01", settings, {"batch_size": 32}, {"torch": "2"}, True, Counts(1, 2, 1), ("a.html",))
    write_record(path, record)
    assert read_record(path) == record
    assert json.loads(path.read_text())["settings"] == {
        "inputs": ["\udcff"],
        "labels": ["猫", "dog"],
        "thresholds": {"score": 0.1},
    }
    assert '\n    "labels": [\n      "猫",\n' in path.read_text()
    write_record(path, RunRecord("2025-01-02", {}))
    assert read_record(path) == RunRecord("2025-01-02", {})
    assert [path.name for path in tmp_path.iterdir()] == ["out.csv.run.json"]


def test_no_record_is_none(tmp_path: Path) -> None:
    assert read_record(tmp_path / "out.csv.run.json") is None
    assert read_record(tmp_path / "missing" / "out.csv.run.json") is None


@pytest.mark.parametrize(
    "data", [b"", b"{", b"[]", b"1", b"{}", b'{"counts": 1, "to_make": []}', b'{"counts": null, "to_make": 1}', b"\xff"]
)
def test_what_is_no_record_is_refused(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "out.csv.run.json"
    path.write_bytes(data)
    with pytest.raises(
        UsageError, match=r"out\.csv\.run\.json is not the record of a run; rename it, and use --overwrite"
    ):
        read_record(path)


@pytest.mark.parametrize(
    ("before", "now", "phrase"),
    [
        ({"a": 1}, {"a": 1}, None),
        ({"a": None}, {}, None),
        ({"a": 1, "top_k": 1}, {"a": 1, "top_k": 3}, "top_k was 1 in the run that wrote out.csv and is 3 now"),
        ({"a": 1, "b": 1}, {"b": 2, "a": 2}, "b was 1 in the run that wrote out.csv and is 2 now"),
        ({"a": "x y"}, {}, "a was x y in the run that wrote out.csv and is not set now"),
        ({"a": ""}, {"a": False}, 'a was "" in the run that wrote out.csv and is false now'),
        ({"t": {}}, {"t": {"score": 0.1}}, "t.score was not set in the run that wrote out.csv and is 0.1 now"),
        ({"l": ["a"]}, {"l": ["b"]}, 'l was ["a"] in the run that wrote out.csv and is ["b"] now'),
        (
            {"labels": ["cat"] * 100},
            {"labels": ["cat"] * 50 + ["dog"] + ["cat"] * 49},
            "labels, entry 51, was cat in the run that wrote out.csv and is dog now",
        ),
        (
            {"labels": ["cat"] * 100},
            {"labels": ["cat"] * 101},
            "the number of labels was 100 in the run that wrote out.csv and is 101 now",
        ),
        (
            {"a": "x" * 61},
            {"a": 1},
            f"a was {'x' * 59}… in the run that wrote out.csv and is 1 now",
        ),
    ],
)
def test_the_first_setting_that_differs_is_named(before: dict[str, Any], now: dict[str, Any], phrase: str) -> None:
    assert first_difference(before, now, "out.csv") == phrase


def test_the_same_weights_under_another_name_are_no_difference() -> None:
    """Earlier versions recorded the model as it was typed, without the tag that a name alone stands for."""
    before = {"model": "ViT-B/32", "pretrained": None, "top_k": 1, "weights": "f" * 64}
    now = {"model": "ViT-B-32", "pretrained": "laion2b_s34b_b79k", "top_k": 1, "weights": "f" * 64}
    assert first_difference(before, now, "out.csv") is None
    said = first_difference(before, {**now, "top_k": 2}, "out.csv")
    assert said == "top_k was 1 in the run that wrote out.csv and is 2 now"
    said = first_difference(before, {**now, "weights": "0" * 64}, "out.csv")
    assert said == "model was ViT-B/32 in the run that wrote out.csv and is ViT-B-32 now"
    unknown = first_difference({"model": "a"}, {"model": "b"}, "out.csv")
    assert unknown == "model was a in the run that wrote out.csv and is b now"
