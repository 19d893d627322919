"""Runs of `zeroshot train` that are killed, run by two processes, or learn until they know everything by heart."""

import csv
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import yaml
from PIL import Image, ImageDraw
from safetensors.torch import load_file

pytestmark = pytest.mark.slow

VIT = {"image_size": 16, "patch_size": 8, "width": 32, "layers": 2, "head_width": 16}
RESNET = {"image_size": 32, "layers": [1, 1, 1, 1], "width": 8, "head_width": 32}
TRANSFORMER = {"width": 32, "heads": 2, "layers": 2, "context_length": 16, "vocab_size": 600}
CBOW = {"encoder": "cbow", "width": 32, "context_length": 16, "vocab_size": 600}
COLOURS = ("red", "green", "blue", "yellow", "purple", "orange", "black", "white")


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    """Sixty-four pictures that differ, with captions that a bag of words can tell apart."""
    rows = [("image", "caption")]
    for outer in COLOURS:
        for inner in COLOURS:
            picture = Image.new("RGB", (32, 32), outer)
            ImageDraw.Draw(picture).ellipse((6, 6, 25, 25), fill=inner, outline="gray", width=2)
            picture.save(tmp_path / f"{inner}-{outer}.png")
            rows.append((f"{inner}-{outer}.png", f"{inner} on {COLOURS.index(outer)}"))
    path = tmp_path / "pairs.csv"
    with path.open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    return path


def _command(pairs: Path, model: Path, output: Path, *more: str) -> list[str]:
    run = ["train", "--data", str(pairs), "--model", str(model), "--output", str(output), "--device", "cpu"]
    return [*run, "--workers", "1", "--log-every", "1", "--quiet", *more]


def _model(folder: Path, vision: dict[str, object], text: dict[str, object]) -> Path:
    path = folder / "model.yaml"
    path.write_text(yaml.safe_dump({"embed_dim": 32, "vision_cfg": vision, "text_cfg": text}))
    return path


def _zeroshot(arguments: list[str], *, processes: int = 1) -> "subprocess.Popen[str]":
    torchrun = ["-m", "torch.distributed.run", "--nproc-per-node", str(processes), "--standalone"]
    launcher = [sys.executable, *(torchrun if processes > 1 else ()), "-m", "zeroshot_cli"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.Popen([*launcher, *arguments], env=environment, stderr=subprocess.PIPE, text=True)


def _finish(arguments: list[str], *, processes: int = 1) -> None:
    run = _zeroshot(arguments, processes=processes)
    _, said = run.communicate(timeout=1200)  # beside other work
    assert run.returncode == 0, said


def _rows(output: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (output / "metrics.jsonl").read_text().splitlines()]


def _weights(output: Path) -> dict[str, torch.Tensor]:
    return load_file(output / "model" / "open_clip_model.safetensors")


def _steps(output: Path) -> int:
    metrics = output / "metrics.jsonl"
    return metrics.read_text().count("\n") if metrics.exists() else 0


def test_killed_at_random_steps_it_ends_as_if_nothing_had_been(tmp_path: Path, pairs: Path) -> None:
    """Six times kill -9, among them while a checkpoint is written; then to the bit what one run gives."""
    model = _model(tmp_path, VIT, TRANSFORMER)
    more = ["--epochs", "30", "--batch-size", "16", "--save-every", "4", "--ema", "0.9", "--val", str(pairs)]
    arguments = _command(pairs, model, tmp_path / "run", *more)
    draw = random.Random(0)
    kills = 0
    while kills < 6:
        resume = ["--resume"] if (tmp_path / "run" / "config.yaml").exists() else []
        run = _zeroshot([*arguments, *resume])
        goal = _steps(tmp_path / "run") + draw.randint(1, 20)
        end = time.monotonic() + 120
        while _steps(tmp_path / "run") < goal and run.poll() is None and time.monotonic() < end:
            time.sleep(0.005)
        time.sleep(draw.random() * 0.05)
        if run.poll() is not None:
            break
        os.kill(run.pid, signal.SIGKILL)
        run.communicate()
        kills += 1
    assert kills >= 4
    _finish([*arguments, "--resume"])
    _finish(_command(pairs, model, tmp_path / "whole", *more))
    ours, expected = _weights(tmp_path / "run"), _weights(tmp_path / "whole")
    assert [name for name in expected if not torch.equal(ours[name], expected[name])] == []
    of_speed = {"images_per_second", "data_wait"}
    ours_rows, rows = (
        [{name: value for name, value in row.items() if name not in of_speed} for row in _rows(tmp_path / name)]
        for name in ("run", "whole")
    )
    assert ours_rows == rows


def test_two_processes_learn_what_one_does(tmp_path: Path, pairs: Path) -> None:
    """The losses of the first steps agree; one process writes; a run of one goes on with two."""
    model = _model(tmp_path, VIT, TRANSFORMER)
    more = ["--epochs", "2", "--batch-size", "16", "--val", str(pairs), "--save-every", "3"]
    _finish(_command(pairs, model, tmp_path / "one", *more))
    two = _command(pairs, model, tmp_path / "two", *more)
    _finish(two, processes=2)
    ours, expected = _rows(tmp_path / "two"), _rows(tmp_path / "one")
    assert [row["step"] for row in ours] == [row["step"] for row in expected]
    assert ours.pop(0)["val_loss"] == pytest.approx(expected.pop(0)["val_loss"], abs=1e-5)  # before the first step
    for row, other in zip(ours, expected, strict=True):
        assert row["loss"] == pytest.approx(other["loss"], abs=1e-2)
    assert ours[0]["loss"] == pytest.approx(expected[0]["loss"], abs=1e-5)
    assert ours[0]["grad_norm"] == pytest.approx(expected[0]["grad_norm"], rel=1e-4)
    assert ours[3]["val_loss"] == pytest.approx(expected[3]["val_loss"], abs=1e-2)
    _finish([*two, "--resume"], processes=2)


def test_a_model_in_shares_is_saved_whole_and_goes_on(tmp_path: Path, pairs: Path) -> None:
    model = _model(tmp_path, VIT, TRANSFORMER)
    more = ["--epochs", "2", "--batch-size", "16", "--save-every", "3", "--keep", "5"]
    _finish(_command(pairs, model, tmp_path / "whole", *more))
    arguments = _command(pairs, model, tmp_path / "shares", *more, "--fsdp")
    _finish(arguments, processes=2)
    expected = _weights(tmp_path / "whole")
    ours = _weights(tmp_path / "shares")
    assert {name: tensor.shape for name, tensor in ours.items()} == {name: t.shape for name, t in expected.items()}
    # Eight steps of AdamW at 5e-4. A bias of keys adds the same to all scores of a query, so its gradient is zero but
    # for rounding, which AdamW makes a whole step: it changes no answer, and is left out.
    for name, tensor in expected.items():
        apart = (ours[name] - tensor).abs()
        if name.endswith("in_proj_bias"):
            query, _, value = apart.chunk(3)
            apart = torch.cat([query, value])
        assert apart.max() < 1e-3, name
    newest = tmp_path / "shares" / "checkpoints" / "step-00000008"
    for file in newest.iterdir():
        file.unlink()
    newest.rmdir()
    _finish([*arguments, "--resume"], processes=2)  # from step 6
    again = _weights(tmp_path / "shares")
    assert max(float((again[name] - ours[name]).abs().max()) for name in ours) < 1e-5


def test_a_model_in_shares_is_mixed_with_what_it_came_from(tmp_path: Path, pairs: Path) -> None:
    """With nothing of the result left in the mixture, it is the start."""
    more = ["--epochs", "1", "--batch-size", "16"]
    _finish(_command(pairs, _model(tmp_path, VIT, TRANSFORMER), tmp_path / "first", *more))
    mixed = [*more, "--lr", "1e-2", "--wise-ft", "0", "--fsdp", "--val", str(pairs)]
    _finish(_command(pairs, tmp_path / "first", tmp_path / "second", *mixed), processes=2)
    first, second = _weights(tmp_path / "first"), _weights(tmp_path / "second")
    assert [name for name in first if not torch.equal(first[name], second[name])] == []


@pytest.mark.parametrize(
    ("vision", "text"), [(VIT, TRANSFORMER), (RESNET, TRANSFORMER), (VIT, CBOW), (RESNET, CBOW)], ids=str
)
def test_sixty_four_pairs_are_learned_by_heart(
    tmp_path: Path, pairs: Path, vision: dict[str, object], text: dict[str, object]
) -> None:
    model = _model(tmp_path, vision, text)
    more = ["--epochs", "120", "--batch-size", "16", "--lr", "3e-3", "--min-scale", "1", "--save-every", "480"]
    _finish(_command(pairs, model, tmp_path / "run", *more))
    judged = tmp_path / "judged.json"
    _finish(["eval", str(pairs), "--task", "retrieval", "--model", str(tmp_path / "run"), "--output", str(judged)])
    metrics = json.loads(judged.read_text())["metrics"]
    assert (metrics["image_to_text_recall@1"], metrics["text_to_image_recall@1"]) == (1, 1)
