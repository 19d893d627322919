"""Runs with --lora: they leave plain models, and go on as all others do. Its numbers are in tests/clip/test_lora.py."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from zeroshot_cli.errors import UsageError
from zeroshot_cli.models.load import load
from zeroshot_cli.records import Loss
from zeroshot_cli.train import loop
from zeroshot_cli.train.config import TrainConfig
from zeroshot_cli.train.files import checkpoint
from zeroshot_cli.train.files.folder import Started, Stepped
from zeroshot_cli.train.schedule import fine_tuning_lr

Draw = Callable[..., Path]
ModelYaml = Callable[[str], str]
pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.filterwarnings("ignore:.* pairs of --val have an image that --data has"),
]
ATTENTION = {
    f"{tower}transformer.resblocks.0.attn.{weight}"
    for tower in ("visual.", "")
    for weight in ("in_proj_weight", "out_proj.weight")
}


@pytest.fixture
def config(tmp_path: Path, draw_pairs: Draw, model_yaml: ModelYaml) -> TrainConfig:
    """Two steps an epoch, eight in all, from weights that are in the folder `first`."""
    pairs = (str(draw_pairs(10)),)
    first = TrainConfig(data=pairs, model=model_yaml("vit"), epochs=1, batch_size=4, lr=1e-3, device="cpu", log_every=1)
    run(first, tmp_path / "first")
    return replace(first, model=str(tmp_path / "first"), epochs=4, lr=1e-2, lora=2, val=pairs)


def run(config: TrainConfig, output: Path, *, resume: bool = False, stop_after: int = 0) -> Started:
    for event in loop.train(config, output, resume=resume):
        if isinstance(event, Started):
            started = event
        elif isinstance(event, Stepped) and event.step == stop_after:
            os.kill(os.getpid(), signal.SIGINT)
    return started


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "open_clip_model.safetensors")


def difference(after: dict[str, torch.Tensor], before: dict[str, torch.Tensor]) -> dict[str, int]:
    """By the name of a weight that changed, its rank by numpy; of several that it stacks, the largest."""
    assert after.keys() == before.keys()
    ranks = {}
    for name in before:
        delta = (after[name] - before[name]).double().numpy()
        if delta.any():
            stacked = np.split(delta, 3) if name.endswith("in_proj_weight") else [np.atleast_2d(delta)]
            ranks[name] = max(int(np.linalg.matrix_rank(each, tol=1e-4 * np.abs(each).max())) for each in stacked)
    return ranks


def losses(output: Path) -> list[tuple[float | None, float | None]]:
    rows = [json.loads(line) for line in (output / "metrics.jsonl").read_text().splitlines()]
    return [(row.get("loss"), row.get("val_loss")) for row in rows]


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"ema": 0.9, "save_every": 3, "keep": 1},
        {"wise_ft": 0.5, "chunk_size": 2, "grad_checkpointing": True, "layer_decay": 0.8},
        {"precision": "bf16"},
        {"loss": Loss.SIGMOID},
    ],
    ids=str,
)
@pytest.mark.slow
def test_all_models_of_a_run_are_plain_and_differ_by_the_rank(
    tmp_path: Path, config: TrainConfig, options: dict[str, Any]
) -> None:
    config = replace(config, **options)
    started = run(config, tmp_path / "run")
    before = weights(tmp_path / "first/model")
    temperature = {"logit_scale"}
    if config.loss is Loss.SIGMOID:
        before["logit_bias"], temperature = torch.tensor(-10.0), {"logit_scale", "logit_bias"}
    for name in ("model", "last"):
        ranks = difference(weights(tmp_path / "run" / name), before)
        assert ranks.keys() == ATTENTION | temperature
        assert {ranks[weight] for weight in ATTENTION} == {2}
    assert started.trained == 2 * 4 * 2 * (32 + 32) + len(temperature)  # towers, matrices, and a rank of 2 on each side
    assert load(str(tmp_path / "run"), device="cpu").encode_texts(["red"]).norm() == pytest.approx(1)
    last = [loss for _, loss in losses(tmp_path / "run") if loss is not None][-1]
    if config.wise_ft is None:  # what was validated is what was saved
        run(replace(config, model=str(tmp_path / "run"), lora=None, lr=1e-12, epochs=1), tmp_path / "again")
        assert losses(tmp_path / "again")[0][1] == pytest.approx(last, abs=2e-2 if config.precision == "bf16" else 1e-5)


@pytest.mark.slow
def test_before_the_first_step_it_is_the_model_that_it_came_from(tmp_path: Path, config: TrainConfig) -> None:
    rows = []
    for name, lora in (("plain", None), ("adapted", 2)):
        run(replace(config, lora=lora, epochs=1), tmp_path / name)
        rows.append(losses(tmp_path / name))
    assert rows[0][0] == rows[1][0]
    assert rows[0][1][0] == rows[1][1][0]  # the loss of the first batch
    assert rows[0][-1] != rows[1][-1]


@pytest.mark.slow
@pytest.mark.parametrize("options", [{}, {"ema": 0.9}], ids=str)
def test_a_run_that_goes_on_is_the_run_that_never_stopped(
    tmp_path: Path, config: TrainConfig, options: dict[str, Any]
) -> None:
    config = replace(config, **options)
    run(config, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        run(config, tmp_path / "run", stop_after=3)
    kept = load_file(checkpoint.list_checkpoints(tmp_path / "run/checkpoints")[-1] / "model.safetensors")
    assert sum(name.endswith((".0.a", ".0.b")) for name in kept) == 8
    run(config, tmp_path / "run", resume=True)
    ours, expected = (weights(tmp_path / name / "model") for name in ("run", "whole"))
    assert all(torch.equal(ours[name], expected[name]) for name in expected)
    assert losses(tmp_path / "run") == losses(tmp_path / "whole")
    with pytest.raises(UsageError, match=r"run was started with lora 2, not 3; resume with the same settings"):
        run(replace(config, lora=3), tmp_path / "run", resume=True)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"lock_image": True}, {name for name in ATTENTION if not name.startswith("visual.")}),
        ({"lock_text": True}, {name for name in ATTENTION if name.startswith("visual.")}),
        ({"lock_trunk": True, "views": 2}, {name for name in ATTENTION if name[0] != "v"} | {"visual.proj"}),
    ],
    ids=["lock_image", "lock_text", "lock_trunk"],
)
@pytest.mark.slow
def test_what_is_locked_stays_as_it_was(
    tmp_path: Path, config: TrainConfig, options: dict[str, Any], expected: set[str]
) -> None:
    run(replace(config, **options), tmp_path / "run")
    ranks = difference(weights(tmp_path / "run/model"), weights(tmp_path / "first/model"))
    assert ranks.keys() == expected | {"logit_scale"}


@pytest.mark.slow
def test_batch_norm_keeps_its_statistics(tmp_path: Path, config: TrainConfig, model_yaml: ModelYaml) -> None:
    run(replace(config, model=model_yaml("resnet"), lora=None, epochs=1), tmp_path / "resnet")
    run(replace(config, model=str(tmp_path / "resnet")), tmp_path / "run")
    ranks = difference(weights(tmp_path / "run/model"), weights(tmp_path / "resnet/model"))
    expected = {f"visual.attnpool.{each}_proj.weight" for each in "qkvc"} | {"text_projection", "logit_scale"}
    assert ranks.keys() == expected
    assert all(rank <= 2 for rank in ranks.values())


@pytest.mark.parametrize("rank", [0, -1])
def test_a_rank_under_1_is_refused(rank: int) -> None:
    with pytest.raises(UsageError, match=rf"^--lora is {rank}; it must be at least 1$"):
        TrainConfig(lora=rank)


def test_a_rank_over_that_of_a_matrix_is_refused(tmp_path: Path, config: TrainConfig) -> None:
    words = r"^--lora 33 is too much for this model: a matrix of 32 × 32 has no rank of 33; use less$"
    with pytest.raises(UsageError, match=words):
        run(replace(config, lora=33), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_new_model_has_nothing_to_adapt(tmp_path: Path, config: TrainConfig, model_yaml: ModelYaml) -> None:
    with pytest.raises(UsageError, match="--lora adapts weights, and a new model's are random; start from weights"):
        run(replace(config, model=model_yaml("vit")), tmp_path / "run")


def test_the_learning_rate_has_a_default_of_its_own(tmp_path: Path, config: TrainConfig) -> None:
    """Twenty times the most that a run without gets."""
    assert run(replace(config, lr=None, epochs=1), tmp_path / "run").lr == pytest.approx(20 * 5e-4)
    assert fine_tuning_lr(151_277_313, lora=2) == fine_tuning_lr(151_277_313, lora=8) == pytest.approx(2e-4, rel=0.02)


def test_batch_norm_is_not_trained_with_it(tmp_path: Path, config: TrainConfig) -> None:
    with pytest.raises(UsageError, match="--lora keeps all weights as they are, and batch norm with them"):
        run(replace(config, train_batch_norm=True), tmp_path / "run")


@pytest.mark.slow
@pytest.mark.parametrize("option", [(), ("--fsdp",)], ids=str)
def test_two_processes_learn_what_one_does(tmp_path: Path, config: TrainConfig, option: tuple[str, ...]) -> None:
    """Its merged model is whole, and a run of two can be resumed."""
    run(replace(config, precision="fp32"), tmp_path / "one")
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--standalone"]
    arguments = [
        "--data",
        config.data[0],
        "--val",
        config.data[0],
        "--model",
        config.model,
        "--lora",
        "2",
        "--lr",
        "1e-2",
    ]
    arguments += ["--epochs", "4", "--batch-size", "4", "--device", "cpu", "--precision", "fp32", "--log-every", "1"]
    for more in ((), ("--resume",)):
        ended = subprocess.run(
            [*torchrun, "-m", "zeroshot_cli", "train", *arguments, "-o", str(tmp_path / "two"), *option, *more],
            env=os.environ | {"OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert ended.returncode == 0, ended.stderr
    before, one, two = (weights(tmp_path / name / "model") for name in ("first", "one", "two"))
    assert difference(two, before).keys() == difference(one, before).keys() == ATTENTION | {"logit_scale"}
    assert all(rank <= 2 for rank in difference(two, before).values())
    for (ours, our_val), (expected, val) in zip(losses(tmp_path / "two"), losses(tmp_path / "one"), strict=True):
        assert ours == (expected if expected is None else pytest.approx(expected, abs=2e-2))
        assert our_val == (val if val is None else pytest.approx(val, abs=2e-2))


@pytest.mark.slow
def test_a_merged_model_loads_in_open_clip(tmp_path: Path, config: TrainConfig, model_yaml: ModelYaml) -> None:
    import open_clip

    path = Path(model_yaml("vit"))
    text = path.read_text().replace("context_length: 12, vocab_size: 600", "context_length: 77, vocab_size: 49408")
    path.write_text(text)
    run(replace(config, model=str(path), lora=None, epochs=1), tmp_path / "large")
    run(replace(config, model=str(tmp_path / "large")), tmp_path / "run")
    ours = load(str(tmp_path / "run"), device="cpu", precision="fp32")
    theirs, preprocess = open_clip.create_model_from_pretrained(f"local-dir:{tmp_path / 'run/model'}")
    with Image.open(tmp_path / "pictures/1.png") as image, torch.no_grad():
        expected = theirs.eval().encode_image(preprocess(image)[None], normalize=True)
        expected_text = theirs.encode_text(open_clip.tokenize(["red on blue"]), normalize=True)
        picture = ours.preprocess(image.convert("RGB"))[None]
    torch.testing.assert_close(ours.encode_images(picture), expected, atol=1e-5, rtol=0)
    torch.testing.assert_close(ours.encode_texts(["red on blue"]), expected_text, atol=1e-5, rtol=0)
