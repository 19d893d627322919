"""Whole runs of models so small that they take a second: what they leave, and that they go on where they stopped."""

import json
import math
import os
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from PIL import Image
from safetensors.torch import load_file, save_file

from zeroshot_cli.clip.model import CLIP
from zeroshot_cli.errors import DataError, UsageError
from zeroshot_cli.models.load import load, new_model
from zeroshot_cli.records import Augmentation, Loss, TextEncoder
from zeroshot_cli.train import learner, loop, validate
from zeroshot_cli.train.config import TrainConfig
from zeroshot_cli.train.distributed import check_processes
from zeroshot_cli.train.files import checkpoint
from zeroshot_cli.train.files.folder import Finished, Started, Stepped, cut_metrics
from zeroshot_cli.train.schedule import epochs_of_at_least

pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.filterwarnings("ignore:.* pairs of --val have an image that --data has"),
]

Draw = Callable[..., Path]
ModelYaml = Callable[[str], str]


@pytest.fixture
def config(draw_pairs: Draw, model_yaml: ModelYaml) -> TrainConfig:
    """A ViT on ten pairs in batches of four: two steps an epoch, eight in all."""
    return TrainConfig(
        data=(str(draw_pairs(10)),), model=model_yaml("vit"), epochs=4, batch_size=4, lr=1e-3, device="cpu", log_every=1
    )


def train(
    config: TrainConfig,
    output: Path,
    *,
    resume: bool = False,
    dry_run: bool = False,
    on_start: Callable[[Started], None] = lambda event: None,
    on_step: Callable[[Stepped], None] = lambda event: None,
) -> Finished | None:
    """Listen to a run to its end."""
    finished = None
    for event in loop.train(config, output, resume=resume, dry_run=dry_run):
        if isinstance(event, Started):
            on_start(event)
        elif isinstance(event, Stepped):
            on_step(event)
        elif isinstance(event, Finished):
            finished = event
    return finished


def rows_of(output: Path) -> list[dict[str, Any]]:
    rows = [json.loads(line) for line in (output / "metrics.jsonl").read_text().splitlines()]
    for row in rows[rows[0]["step"] == 0 :]:
        assert row.pop("images_per_second") > 0
        assert 0 <= row.pop("data_wait") <= 1
    return rows


def weights_of(output: Path) -> dict[str, torch.Tensor]:
    return load_file(output / "model" / "open_clip_model.safetensors")


def stop_after(step: int, number: signal.Signals = signal.SIGINT) -> Callable[[Stepped], None]:
    def on_step(report: Stepped) -> None:
        if report.step == step:
            os.kill(os.getpid(), number)

    return on_step


def assert_equal_weights(ours: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    assert ours.keys() == expected.keys()
    different = [name for name in expected if not torch.equal(ours[name], expected[name])]
    assert not different


# What a run leaves ------------------------------------------------------------------------------------------


def test_a_run_leaves_its_settings_metrics_checkpoints_and_model(tmp_path: Path, config: TrainConfig) -> None:
    config = replace(config, val=config.data, save_every=3)
    infos: list[Started] = []
    reports: list[Stepped] = []
    result = train(config, tmp_path / "run", on_start=infos.append, on_step=reports.append)
    assert (infos[0].steps, infos[0].steps_per_epoch, infos[0].first_step) == (8, 2, 0)
    assert [(report.step, report.epoch) for report in reports] == [(i, (i + 1) // 2) for i in range(1, 9)]
    rows = rows_of(tmp_path / "run")
    assert [row["step"] for row in rows] == list(range(9))
    assert [row["step"] for row in rows if "val_loss" in row] == [0, 2, 3, 4, 6, 8]
    assert all(0 <= row["val_recall@1"] <= 1 for row in rows if "val_loss" in row)
    assert yaml.safe_load((tmp_path / "run/config.yaml").read_text())["batch_size"] == 4
    assert [path.name for path in checkpoint.list_checkpoints(tmp_path / "run/checkpoints")] == [
        "step-00000006",
        "step-00000008",
    ]
    assert result.model == tmp_path / "run/model"
    assert result.last == reports[-1]
    loaded = load(str(tmp_path / "run"), device="cpu", precision="fp32")
    assert loaded.encode_texts(["red on blue"]).norm() == pytest.approx(1)
    assert not list((tmp_path / "run").rglob("*.partial"))


def test_metrics_are_thinned_but_for_the_ends_of_epochs(tmp_path: Path, config: TrainConfig) -> None:
    train(replace(config, batch_size=2, epochs=2, log_every=3), tmp_path / "run")
    assert [row["step"] for row in rows_of(tmp_path / "run")] == [3, 5, 6, 9, 10]


def test_the_learning_rate_follows_the_schedule(tmp_path: Path, config: TrainConfig) -> None:
    train(replace(config, warmup=0.5), tmp_path / "run")
    cosine = [1e-3 * (1 + math.cos(math.pi * i / 4)) / 2 for i in range(4)]
    expected = [0.25e-3, 0.5e-3, 0.75e-3, 1e-3, *cosine]
    assert [row["lr"] for row in rows_of(tmp_path / "run")] == pytest.approx(expected)


def test_the_first_loss_is_that_of_guessing(tmp_path: Path, config: TrainConfig) -> None:
    """With all temperatures at 1 and features of unit length, logits lie in ±1: the loss is near ln 4."""
    path = Path(config.model)
    path.write_text(path.read_text() + "init_logit_scale: 0.0\n")
    train(config, tmp_path / "run")
    assert rows_of(tmp_path / "run")[0]["loss"] == pytest.approx(math.log(4), abs=0.3)


def test_the_temperature_stays_at_or_under_100(tmp_path: Path, config: TrainConfig) -> None:
    path = Path(config.model)
    path.write_text(path.read_text() + "init_logit_scale: 5.0\n")  # 148
    train(config, tmp_path / "run")
    assert rows_of(tmp_path / "run")[0]["logit_scale"] == pytest.approx(100, abs=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("vit", {}),
        ("vit", {"text_encoder": TextEncoder.CBOW}),
        ("resnet", {}),
        ("vit", {"loss": Loss.SIGMOID}),
        ("vit", {"ema": 0.9}),
        ("vit", {"precision": "bf16"}),
    ],
)
def test_the_loss_falls_and_pictures_find_their_captions(
    tmp_path: Path, config: TrainConfig, model_yaml: ModelYaml, draw_pairs: Draw, kind: str, options: dict[str, Any]
) -> None:
    data = str(draw_pairs(8))
    config = replace(
        config,
        data=(data,),
        val=(data,),
        model=model_yaml(kind),
        epochs=80,
        batch_size=8,
        lr=5e-3,
        min_scale=1.0,
        **options,
    )
    result = train(config, tmp_path / "run")
    rows = rows_of(tmp_path / "run")
    assert rows[-1]["loss"] < 0.3 * rows[1]["loss"]
    assert rows[-1]["val_loss"] < 0.5 * rows[0]["val_loss"]
    assert result.last is not None
    assert result.last.validation is not None
    assert result.last.validation.retrieval.image_to_text[1] == 1.0


def test_gradients_are_clipped(tmp_path: Path, config: TrainConfig) -> None:
    """Gradients far under Adam's epsilon (1e-6) move nothing."""
    config = replace(config, weight_decay=0.0)
    moved = []
    for name, max_norm in (("free", 1.0), ("clipped", 1e-12)):
        train(replace(config, epochs=1, max_norm=max_norm), tmp_path / name)
        start = new_model(config.model, seed=0)[0].state_dict()["visual.proj"]
        moved.append(float((weights_of(tmp_path / name)["visual.proj"] - start).abs().max()))
    assert moved[0] > 1e-4
    assert moved[1] < 1e-7


def test_the_sigmoid_loss_brings_its_bias_and_temperature(tmp_path: Path, config: TrainConfig) -> None:
    train(replace(config, loss=Loss.SIGMOID, lr=1e-9), tmp_path / "run")
    weights = weights_of(tmp_path / "run")
    assert float(weights["logit_bias"]) == pytest.approx(-10, abs=1e-4)
    assert float(weights["logit_scale"]) == pytest.approx(math.log(10), abs=1e-4)
    assert load(str(tmp_path / "run"), device="cpu").model.logit_bias is not None


def test_the_average_is_what_is_saved(tmp_path: Path, config: TrainConfig) -> None:
    train(replace(config, ema=0.999, lr=1e-2), tmp_path / "run")
    newest = checkpoint.list_checkpoints(tmp_path / "run/checkpoints")[-1]
    raw, average = load_file(newest / "model.safetensors"), load_file(newest / "average.safetensors")
    saved = weights_of(tmp_path / "run")
    assert torch.equal(saved["visual.conv1.weight"], average["visual.conv1.weight"])
    assert not torch.equal(saved["visual.conv1.weight"], raw["visual.conv1.weight"])


def test_bad_pictures_are_skipped_and_counted(tmp_path: Path, config: TrainConfig) -> None:
    bad = tmp_path / "pictures/3.png"
    bad.write_bytes(bad.read_bytes()[:60])
    result = train(replace(config, epochs=10, val=config.data), tmp_path / "run")
    assert [item.path for item in result.skipped] == [str(bad)]
    last = rows_of(tmp_path / "run")[-1]
    assert (last["skipped"], last["val_skipped"]) == (1, 1)
    assert (tmp_path / "run/skipped.csv").read_text() == f"path,error\n{bad},the file is truncated\n"
    assert train(replace(config, epochs=10), tmp_path / "run", resume=True).skipped == result.skipped


def test_a_validation_set_without_a_readable_image_is_refused(tmp_path: Path, config: TrainConfig) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "bad.png")
    (tmp_path / "bad.png").write_bytes(b"no image")
    (tmp_path / "val.csv").write_text("image,caption\nbad.png,red\n")
    with pytest.raises(
        DataError, match=r"none of the 1 images to validate on .*bad\.png: too short for an image.*--val"
    ):
        train(replace(config, val=(str(tmp_path / "val.csv"),)), tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("kind", ["vit", "resnet"])
def test_a_step_that_comes_to_nothing_changes_nothing(
    tmp_path: Path, config: TrainConfig, model_yaml: ModelYaml, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """All steps but the first have an infinite gradient, never three in a row: weights and statistics stay."""
    norms = iter([1.0, math.inf, math.nan])
    real = learner.clip_gradients
    monkeypatch.setattr(learner, "clip_gradients", lambda *a: real(*a) * next(norms))
    config = replace(config, model=model_yaml(kind), epochs=3, data=(str(_first(config, 4)),), save_every=1, keep=3)
    train(config, tmp_path / "run")
    saved = checkpoint.list_checkpoints(tmp_path / "run/checkpoints")
    seen = [load_file(path / "model.safetensors") for path in saved]
    assert len(seen) == 3
    assert_equal_weights(seen[1], seen[0])
    assert_equal_weights(seen[2], seen[0])
    assert [row["grad_norm"] is None for row in rows_of(tmp_path / "run")] == [False, True, True]


def _first(config: TrainConfig, rows: int) -> Path:
    path = Path(config.data[0])
    path.write_text("\n".join(path.read_text().splitlines()[: rows + 1]))
    return path


def test_three_gradients_that_are_no_numbers_end_the_run(
    tmp_path: Path, config: TrainConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(learner, "clip_gradients", lambda *_: math.inf)
    with pytest.raises(UsageError, match="the norm of the gradient is inf, in 3 steps up to 3; use a lower --lr"):
        train(config, tmp_path / "run")


def test_augmented_transparent_pictures_train(tmp_path: Path, config: TrainConfig) -> None:
    for path in (tmp_path / "pictures").iterdir():
        with Image.open(path) as image:
            clear = image.convert("RGBA")
        clear.putalpha(Image.linear_gradient("L").resize(clear.size))
        clear.save(path)
    train(replace(config, augment=tuple(Augmentation), min_scale=0.5), tmp_path / "run")
    assert all(math.isfinite(row["loss"]) for row in rows_of(tmp_path / "run"))


# Options --------------------------------------------------------------------------------------------------


def test_a_dry_run_says_what_would_be_done_and_writes_nothing(tmp_path: Path, config: TrainConfig) -> None:
    infos: list[Started] = []
    assert train(config, tmp_path / "run", dry_run=True, on_start=infos.append) is None
    assert (infos[0].steps, infos[0].preflight.pairs) == (8, 10)
    assert not (tmp_path / "run").exists()
    with pytest.raises(KeyboardInterrupt):
        train(config, tmp_path / "run", on_step=stop_after(3))
    metrics = tmp_path / "run/metrics.jsonl"
    metrics.write_text(metrics.read_text() + '{"step": 4}\n')
    before = metrics.read_bytes()
    assert train(config, tmp_path / "run", resume=True, dry_run=True, on_start=infos.append) is None
    assert infos[1].first_step == 3
    assert metrics.read_bytes() == before


@pytest.mark.parametrize("kind", ["vit", "resnet"])
def test_in_chunks_of_the_whole_batch_nothing_changes(
    tmp_path: Path, config: TrainConfig, model_yaml: ModelYaml, kind: str
) -> None:
    config = replace(config, model=model_yaml(kind))
    train(config, tmp_path / "whole")
    train(replace(config, chunk_size=4), tmp_path / "chunk")
    assert_equal_weights(weights_of(tmp_path / "chunk"), weights_of(tmp_path / "whole"))


def test_chunks_learn_what_the_whole_batch_does(tmp_path: Path, config: TrainConfig) -> None:
    config = replace(config, precision="fp32")
    train(config, tmp_path / "whole")
    train(replace(config, chunk_size=1, grad_checkpointing=True), tmp_path / "chunks")
    losses = [[row["loss"] for row in rows_of(tmp_path / name)] for name in ("chunks", "whole")]
    assert losses[0] == pytest.approx(losses[1], abs=0.05)  # AdamW makes much of gradients near zero
    assert losses[0][0] == pytest.approx(losses[1][0], abs=1e-6)


@pytest.mark.parametrize("option", ["lock_image", "lock_text"])
def test_a_locked_tower_stays_as_it_was(
    tmp_path: Path, config: TrainConfig, model_yaml: ModelYaml, option: str
) -> None:
    """A ResNet's running averages too."""
    config = replace(config, model=model_yaml("resnet"))
    train(config, tmp_path / "first")
    options: dict[str, Any] = {option: True, "train_batch_norm": True}
    train(replace(config, model=str(tmp_path / "first"), lr=1e-2, **options), tmp_path / "second")
    before, after = weights_of(tmp_path / "first"), weights_of(tmp_path / "second")
    same = {name for name in before if torch.equal(before[name], after[name])}
    image = {name for name in before if name.startswith("visual.")}
    text = set(before) - image - {"logit_scale"}
    locked, free = (image, text) if option == "lock_image" else (text, image)
    assert locked <= same
    assert not free & same


def test_wise_ft_lies_between_the_weights_and_the_result(tmp_path: Path, config: TrainConfig) -> None:
    train(config, tmp_path / "first")
    tuned = replace(config, model=str(tmp_path / "first"), lr=1e-2)
    train(replace(tuned, wise_ft=1), tmp_path / "tuned")
    train(replace(tuned, wise_ft=0.25), tmp_path / "mixed")
    first, last, mixed = (weights_of(tmp_path / name)["visual.proj"] for name in ("first", "tuned", "mixed"))
    torch.testing.assert_close(mixed, 0.75 * first + 0.25 * last)


def test_the_best_by_validation_is_kept(tmp_path: Path, config: TrainConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    """The third of four validations is made the best, after one before the first step."""
    losses = iter([0.05, 0.9, 0.8, 0.1, 0.5])
    real = validate.validate
    monkeypatch.setattr(learner, "validate", lambda *a: replace(real(*a), loss=next(losses)))
    train(replace(config, val=config.data, save_every=2, keep=1), tmp_path / "run")
    kept = checkpoint.list_checkpoints(tmp_path / "run/checkpoints")
    assert [path.name for path in kept] == ["step-00000006", "step-00000008"]
    for folder, kept_one in zip(("model", "last"), kept, strict=True):
        saved = load_file(tmp_path / "run" / folder / "open_clip_model.safetensors")
        assert torch.equal(saved["visual.proj"], load_file(kept_one / "model.safetensors")["visual.proj"])


def test_every_checkpoint_is_validated(tmp_path: Path, config: TrainConfig) -> None:
    """Two steps an epoch, a checkpoint every third."""
    train(replace(config, val=config.data, save_every=3, keep=9), tmp_path / "run")
    assert [row["step"] for row in rows_of(tmp_path / "run") if "val_loss" in row] == [0, 2, 3, 4, 6, 8]
    states = [checkpoint.read_state(path) for path in checkpoint.list_checkpoints(tmp_path / "run/checkpoints")]
    rows = {row["step"]: row for row in rows_of(tmp_path / "run")}
    assert [(state.step, state.val_loss) for state in states] == [(s.step, rows[s.step]["val_loss"]) for s in states]
    assert {3, 6, 8} <= {state.step for state in states}


def test_validation_does_not_hang_on_the_order_of_the_file(tmp_path: Path, config: TrainConfig) -> None:
    """Sorted by caption, each batch would hold one caption, and no negatives: a loss of 0."""
    rows = Path(config.data[0]).read_text().splitlines()
    captions = ["red"] * 4 + ["green"] * 4
    lines = [f"{row.split(',')[0]},{caption}" for row, caption in zip(rows[1:9], captions, strict=True)]
    (tmp_path / "val.csv").write_text("\n".join([rows[0], *lines]))
    train(replace(config, val=(str(tmp_path / "val.csv"),), epochs=1), tmp_path / "run")
    assert rows_of(tmp_path / "run")[-1]["val_loss"] > 0.1


def test_a_judgement_that_fails_loses_no_step(
    tmp_path: Path, config: TrainConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, calls = validate.validate, iter([True, False])

    def fail(*arguments: Any) -> Any:
        if next(calls):
            return real(*arguments)
        raise MemoryError

    monkeypatch.setattr(learner, "validate", fail)
    with pytest.raises(MemoryError):
        train(replace(config, val=config.data), tmp_path / "run")
    assert checkpoint.list_checkpoints(tmp_path / "run/checkpoints")[-1].name == "step-00000002"


def test_pictures_that_vanish_lose_no_step(tmp_path: Path, config: TrainConfig) -> None:
    def remove(report: Stepped) -> None:
        for path in (tmp_path / "pictures").iterdir():
            path.unlink()

    with pytest.raises(DataError, match="100 images in a row cannot be read"):
        train(config, tmp_path / "run", on_step=remove)
    assert checkpoint.list_checkpoints(tmp_path / "run/checkpoints")[-1].name == "step-00000001"


def test_zero_shot_accuracy_is_measured_and_changes_nothing(tmp_path: Path, config: TrainConfig) -> None:
    for name in ("red", "green"):
        (tmp_path / "labelled" / name).mkdir(parents=True)
        Image.new("RGB", (20, 20), name).save(tmp_path / "labelled" / name / "1.png")
    train(config, tmp_path / "without")
    (tmp_path / "prompts.txt").write_text("{}")
    labelled, prompts = str(tmp_path / "labelled"), str(tmp_path / "prompts.txt")
    train(replace(config, zero_shot=labelled, prompts=prompts), tmp_path / "with")
    rows = rows_of(tmp_path / "with")
    assert [row["zero_shot_top1"] in (0, 0.5, 1) for row in rows if "zero_shot_top1" in row] == [True] * 5
    with_it = load_file(tmp_path / "with/last/open_clip_model.safetensors")
    assert_equal_weights(with_it, weights_of(tmp_path / "without"))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"lock_image": True}, "--lock-image keeps a tower as it is, and a new model's is random"),
        ({"wise_ft": 0.5}, "--wise-ft mixes the result with the weights that it came from, and a new model has none"),
        (
            {"labels": "x.txt"},
            "--labels, --prompts and --template need class folders or a column of labels",
        ),
        ({"rehearse_share": 0.5}, "--rehearse-share needs --rehearse; add it or omit --rehearse-share"),
        ({"distil_weight": 1.0}, "--distil-weight needs --distil-text; add it or omit --distil-weight"),
        ({"fsdp": True}, "--fsdp shares a model among processes, and there is one"),
        ({"zero_shot": "nowhere"}, "nowhere"),
    ],
)
def test_options_that_do_not_go_together(
    tmp_path: Path, config: TrainConfig, options: dict[str, Any], words: str
) -> None:
    with pytest.raises(UsageError, match=words):
        train(replace(config, **options), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_batch_that_processes_cannot_share_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")
    monkeypatch.setenv("WORLD_SIZE", "3")
    with pytest.raises(UsageError, match="--batch-size 4 cannot be shared by 3 processes; use 3 or another multiple"):
        check_processes(batch_size=4, fsdp=False, ema=False)


# From weights -----------------------------------------------------------------------------------------------


def test_fine_tuning_starts_from_the_weights_and_with_a_small_rate(tmp_path: Path, config: TrainConfig) -> None:
    train(config, tmp_path / "first")
    infos: list[Started] = []
    second = replace(config, model=str(tmp_path / "first"), lr=None, epochs=1)
    train(second, tmp_path / "second", on_start=infos.append)
    assert infos[0].lr == 5e-4  # so few parameters can move as those of a new model do
    assert infos[0].chosen == {"lr": 5e-4, "wise_ft": 0.5}
    before, after = weights_of(tmp_path / "first"), weights_of(tmp_path / "second")
    moved = max(float((after[name] - before[name]).abs().max()) for name in before)
    assert 0 < moved < 3e-3  # in three steps of Adam, each about the rate


def test_a_new_model_has_the_rate_of_a_new_model(tmp_path: Path, config: TrainConfig) -> None:
    infos: list[Started] = []
    train(replace(config, lr=None, epochs=1), tmp_path / "run", on_start=infos.append)
    assert infos[0].lr == 5e-4


def test_weights_keep_their_text_encoder(tmp_path: Path, config: TrainConfig) -> None:
    train(config, tmp_path / "first")
    with pytest.raises(UsageError, match="--text-encoder is for a new model; these weights have transformer"):
        train(replace(config, model=str(tmp_path / "first"), text_encoder=TextEncoder.CBOW), tmp_path / "second")


# Going on ---------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("step", [3, 4])  # in the middle of an epoch, and at its end
@pytest.mark.parametrize(("kind", "ema"), [("vit", None), ("resnet", 0.9)])
def test_a_run_that_goes_on_is_the_run_that_never_stopped(
    tmp_path: Path, config: TrainConfig, model_yaml: ModelYaml, kind: str, ema: float | None, step: int
) -> None:
    config = replace(config, model=model_yaml(kind), ema=ema, val=config.data, augment=(Augmentation.COLOUR,))
    train(config, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        train(config, tmp_path / "run", on_step=stop_after(step))
    assert [row["step"] for row in rows_of(tmp_path / "run")] == list(range(step + 1))
    infos: list[Started] = []
    train(replace(config, workers=1), tmp_path / "run", resume=True, on_start=infos.append)
    assert infos[0].first_step == step
    assert_equal_weights(weights_of(tmp_path / "run"), weights_of(tmp_path / "whole"))
    assert rows_of(tmp_path / "run") == rows_of(tmp_path / "whole")
    newest = [checkpoint.list_checkpoints(tmp_path / name / "checkpoints")[-1] for name in ("run", "whole")]
    ours, expected = (load_file(path / "optimizer.safetensors") for path in newest)
    assert_equal_weights(ours, expected)


def test_a_polite_kill_saves_too(tmp_path: Path, config: TrainConfig) -> None:
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt):
        train(config, tmp_path / "run", on_step=stop_after(3, signal.SIGTERM))
    assert signal.getsignal(signal.SIGTERM) == before
    assert checkpoint.list_checkpoints(tmp_path / "run/checkpoints")[-1].name == "step-00000003"
    assert load(str(tmp_path / "run"), device="cpu").model


def test_a_second_interrupt_does_not_wait(tmp_path: Path, config: TrainConfig) -> None:
    def twice(report: Stepped) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        train(config, tmp_path / "run", on_step=twice)
    assert checkpoint.list_checkpoints(tmp_path / "run/checkpoints") == []


def test_a_run_killed_before_its_first_checkpoint_begins_again(tmp_path: Path, config: TrainConfig) -> None:
    def die(report: Stepped) -> None:
        raise RuntimeError("killed")

    (tmp_path / "pictures/3.png").write_bytes(b"")
    train(config, tmp_path / "whole")
    with pytest.raises(RuntimeError):
        train(config, tmp_path / "run", on_step=die)
    train(config, tmp_path / "run", resume=True)
    assert rows_of(tmp_path / "run") == rows_of(tmp_path / "whole")
    assert (tmp_path / "run/skipped.csv").read_text() == (tmp_path / "whole/skipped.csv").read_text()


def test_a_complete_run_has_nothing_left_to_do(tmp_path: Path, config: TrainConfig) -> None:
    train(config, tmp_path / "run")
    before = weights_of(tmp_path / "run")
    (tmp_path / "run/model/open_clip_model.safetensors").unlink()
    assert train(config, tmp_path / "run", resume=True).last is None
    assert_equal_weights(weights_of(tmp_path / "run"), before)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"lr": 2e-3}, "lr 0.001, not 0.002"),
        ({"batch_size": 5}, "batch_size 4, not 5"),
        ({"epochs": 3}, "epochs 4, not 3"),
        ({"augment": (Augmentation.FLIP,)}, r'augment \[\], not \["flip"\]'),
        ({"loss": Loss.SIGMOID}, 'loss "clip", not "sigmoid"'),
        ({"seed": 1}, "seed 0, not 1"),
    ],
)
def test_a_changed_setting_is_refused_by_name(
    tmp_path: Path, config: TrainConfig, change: dict[str, Any], words: str
) -> None:
    train(replace(config, epochs=4), tmp_path / "run")
    before = weights_of(tmp_path / "run")
    with pytest.raises(UsageError, match=f"run was started with {words}; resume with the same settings"):
        train(replace(config, **change), tmp_path / "run", resume=True)
    assert_equal_weights(weights_of(tmp_path / "run"), before)


def test_more_epochs_with_another_batch_size_are_refused_by_its_name(tmp_path: Path, config: TrainConfig) -> None:
    train(config, tmp_path / "run")
    change = {"epochs": config.epochs + 1, "batch_size": config.batch_size - 1}
    with pytest.raises(UsageError, match=f"started with batch_size {config.batch_size}, not {config.batch_size - 1}"):
        train(replace(config, **change), tmp_path / "run", resume=True)


def test_changed_pairs_and_a_changed_architecture_are_refused(tmp_path: Path, config: TrainConfig) -> None:
    train(config, tmp_path / "run")
    path = Path(config.model)
    path.write_text(path.read_text().replace("layers: 1, head_width", "layers: 2, head_width"))
    with pytest.raises(UsageError, match="started with architecture"):
        train(config, tmp_path / "run", resume=True)
    data = Path(config.data[0])
    data.write_text(data.read_text().replace("green on red", "green on crimson"))
    with pytest.raises(UsageError, match="started with pairs"):
        train(config, tmp_path / "run", resume=True)


# Errors -----------------------------------------------------------------------------------------------------


def test_a_folder_with_a_run_is_not_trained_over(tmp_path: Path, config: TrainConfig) -> None:
    train(config, tmp_path / "run")
    with pytest.raises(UsageError, match=r"run already holds a run; add --resume"):
        train(config, tmp_path / "run")


@pytest.mark.parametrize("there", [None, "run", "run/checkpoints/.step-00000002.77", "run/config.yaml.partial"])
def test_resuming_begins_where_there_is_nothing(tmp_path: Path, config: TrainConfig, there: str | None) -> None:
    """A launcher gives the same options when it starts a run again, which may have been killed before it wrote."""
    if there is not None and there.endswith(".partial"):
        (tmp_path / "run").mkdir()
        (tmp_path / there).write_text("data: [")
    elif there is not None:
        (tmp_path / there).mkdir(parents=True)
    train(config, tmp_path / "run", resume=True)
    train(config, tmp_path / "new")
    ours, expected = (
        load_file(path / "model/open_clip_model.safetensors") for path in (tmp_path / "run", tmp_path / "new")
    )
    assert all(torch.equal(ours[name], expected[name]) for name in expected)
    assert not list((tmp_path / "run").rglob("*.partial"))
    assert not list((tmp_path / "run").rglob(".step-*"))


def test_resuming_does_not_begin_over_a_file(tmp_path: Path, config: TrainConfig) -> None:
    (tmp_path / "run").write_text("a file")
    with pytest.raises(UsageError, match="run is a file; --output names the folder"):
        train(config, tmp_path / "run", resume=True)
    assert (tmp_path / "run").read_text() == "a file"


def test_the_output_must_not_be_a_file(tmp_path: Path, config: TrainConfig) -> None:
    with pytest.raises(UsageError, match=r"pairs\.csv is a file; --output names the folder"):
        train(config, Path(config.data[0]))


def test_a_batch_that_the_pairs_do_not_fill_is_refused(tmp_path: Path, config: TrainConfig) -> None:
    with pytest.raises(DataError, match=r"10 usable pairs, fewer than a batch of 11; use --batch-size 10"):
        train(replace(config, batch_size=11), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_loss_that_is_no_number_ends_the_run_with_advice(tmp_path: Path, config: TrainConfig) -> None:
    with pytest.raises(UsageError, match=r"the loss is (nan|inf), in 3 steps up to \d; use a lower --lr than 1e\+30"):
        train(replace(config, lr=1e30, warmup=0.0), tmp_path / "run")


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path, config: TrainConfig) -> None:
    with pytest.raises(UsageError, match=r"pairs\.csv/run cannot be written: Not a directory"):
        train(config, Path(config.data[0]) / "run")


def test_a_full_disk_is_named_and_the_former_checkpoint_stays(
    tmp_path: Path, config: TrainConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = replace(config, save_every=2)
    calls: list[Path] = []

    def full(tensors: dict[str, torch.Tensor], path: Path) -> None:
        calls.append(path)
        if len(calls) > 5:
            raise OSError(28, "No space left on device")
        save_file(tensors, path)

    monkeypatch.setattr(checkpoint, "save_file", full)
    with pytest.raises(UsageError, match="run cannot be written: No space left on device; make room"):
        train(config, tmp_path / "run")
    names = {path.name for path in (tmp_path / "run/checkpoints").iterdir()}
    assert names == {"step-00000002", "step-00000004"}


@pytest.mark.parametrize(("steps_per_epoch", "expected"), [(1, 100), (30, 120), (100, 100), (700, 700)])
def test_short_epochs_share_a_checkpoint(steps_per_epoch: int, expected: int) -> None:
    assert epochs_of_at_least(100, steps_per_epoch) == expected


def test_metrics_of_steps_that_are_made_again_are_cut(tmp_path: Path) -> None:
    file = tmp_path / "metrics.jsonl"
    file.write_text('{"step": 1}\n{"step": 2}\n{"step": 3}\n{"st')
    cut_metrics(file, 2)
    assert file.read_text() == '{"step": 1}\n{"step": 2}\n'


# With the full vocabulary -----------------------------------------------------------------------------------


@pytest.mark.slow
def test_what_we_train_loads_in_open_clip(tmp_path: Path, config: TrainConfig) -> None:
    import open_clip

    path = Path(config.model)
    path.write_text(
        path.read_text().replace("context_length: 12, vocab_size: 600", "context_length: 77, vocab_size: 49408")
    )
    train(replace(config, lr=1e-2), tmp_path / "run")
    ours = load(str(tmp_path / "run"), device="cpu", precision="fp32")
    theirs, preprocess = open_clip.create_model_from_pretrained(f"local-dir:{tmp_path / 'run/model'}")
    texts = ["red on blue", "a photo of a cat", "ein längerer Text, mit Umlauten"]
    with Image.open(tmp_path / "pictures/1.png") as image, torch.no_grad():
        pixels = preprocess(image)[None]
        expected_image = theirs.eval().encode_image(pixels, normalize=True)
        expected_texts = theirs.encode_text(open_clip.tokenize(texts), normalize=True)
        picture = ours.preprocess(image.convert("RGB"))[None]
    torch.testing.assert_close(ours.encode_images(picture), expected_image, atol=1e-5, rtol=0)
    torch.testing.assert_close(ours.encode_texts(texts), expected_texts, atol=1e-5, rtol=0)
    assert isinstance(ours.model, CLIP)
