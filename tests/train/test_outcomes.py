"""What a run comes to: the best model kept, an early end, more epochs, one writer, and warnings at the end."""

import json
import math
import os
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from torch.nn.functional import normalize

from zeroshot_cli.errors import DataError, UsageError
from zeroshot_cli.models.load import load as load_model
from zeroshot_cli.pages.training import best_row, read_rows
from zeroshot_cli.records import Loss
from zeroshot_cli.train import learner, loop, validate
from zeroshot_cli.train.config import TrainConfig
from zeroshot_cli.train.data import Batch
from zeroshot_cli.train.files import checkpoint
from zeroshot_cli.train.files.folder import Finished, RunFolder, Stepped
from zeroshot_cli.train.preflight import PreflightWarning
from zeroshot_cli.train.schedule import Course, verdict
from zeroshot_cli.train.step import guessing, pair_ids, same_pairs

Draw = Callable[..., Path]
ModelYaml = Callable[[str], str]
pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.filterwarnings("ignore:.* pairs of --val have an image that --data has"),
]


@pytest.fixture
def config(draw_pairs: Draw, model_yaml: ModelYaml) -> TrainConfig:
    """A ViT on ten pairs in batches of four: two steps an epoch, eight in all."""
    return TrainConfig(
        data=(str(draw_pairs(10)),), model=model_yaml("vit"), epochs=4, batch_size=4, lr=1e-3, device="cpu", log_every=1
    )


def train(config: TrainConfig, output: Path, *, resume: bool = False) -> tuple[Finished, int]:
    """Return what a run ended with, and its last step."""
    finished, step = None, 0
    for event in loop.train(config, output, resume=resume):
        if isinstance(event, Stepped):
            step = event.step
        elif isinstance(event, Finished):
            finished = event
    assert finished is not None
    return finished, step


@pytest.fixture
def losses(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """`losses(0.5, 0.4)` are the validation losses of a run, the first from before its first step."""

    def become(*values: float) -> None:
        real, coming = validate.validate, iter(values)
        monkeypatch.setattr(learner, "validate", lambda *a: replace(real(*a), loss=next(coming)))

    return become


def projection(folder: Path) -> torch.Tensor:
    name = "model.safetensors" if (folder / "model.safetensors").exists() else "open_clip_model.safetensors"
    return load_file(folder / name)["visual.proj"]


# the best model


@pytest.mark.slow
@pytest.mark.parametrize("save_every", [0, 3, 8])
def test_best_is_the_model_of_the_step_that_the_report_names(
    tmp_path: Path, config: TrainConfig, losses: Callable[..., None], save_every: int
) -> None:
    """A run of 8 steps, far under the 100 between two checkpoints; its second epoch is the best."""
    losses(0.9, 0.8, *([0.3] if save_every == 3 else []), 0.2, *[0.5] * 9)
    train(replace(config, val=config.data, save_every=save_every), tmp_path / "run")
    named = best_row(read_rows(tmp_path / "run/metrics.jsonl"))
    assert named is not None
    assert named[1]["step"] == 4
    kept = checkpoint.best_checkpoint(tmp_path / "run/checkpoints")
    assert kept is not None
    assert kept.name == "step-00000004"
    assert torch.equal(projection(tmp_path / "run/model"), projection(kept))
    assert not torch.equal(projection(tmp_path / "run/model"), projection(tmp_path / "run/last"))
    assert torch.equal(projection(tmp_path / "run/last"), projection(tmp_path / "run/checkpoints/step-00000008"))


def test_best_is_by_zero_shot_accuracy_without_val(
    tmp_path: Path, config: TrainConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("red", "green"):
        (tmp_path / "labelled" / name).mkdir(parents=True)
        Image.new("RGB", (20, 20), name).save(tmp_path / "labelled" / name / "1.png")
    found = iter([0.1, 0.2, 0.9, 0.9, 0.3])
    real = validate.LabelledSet.accuracy
    monkeypatch.setattr(validate.LabelledSet, "accuracy", lambda *a, **k: replace(real(*a, **k), top1=next(found)))
    (tmp_path / "prompts.txt").write_text("{}")
    zero_shot, prompts = str(tmp_path / "labelled"), str(tmp_path / "prompts.txt")
    train(replace(config, zero_shot=zero_shot, prompts=prompts), tmp_path / "run")
    named = best_row(read_rows(tmp_path / "run/metrics.jsonl"))
    kept = checkpoint.best_checkpoint(tmp_path / "run/checkpoints")
    assert named is not None
    assert kept is not None
    assert (named[1]["step"], kept.name) == (4, "step-00000004")
    assert torch.equal(projection(tmp_path / "run/model"), projection(kept))


@pytest.mark.slow
def test_row_0_is_the_model_before_training(tmp_path: Path, config: TrainConfig) -> None:
    """A second run with a learning rate of nothing starts where the first one ended, and stays there."""
    first, _ = train(replace(config, val=config.data), tmp_path / "one")
    still = replace(config, model=str(tmp_path / "one"), val=config.data, lr=1e-12, epochs=1)
    train(still, tmp_path / "two")
    rows = [json.loads(line) for line in (tmp_path / "two/metrics.jsonl").read_text().splitlines()]
    assert first.last is not None
    assert first.last.validation is not None
    assert rows[0]["step"] == 0
    assert rows[0]["val_loss"] == pytest.approx(first.last.validation.loss, abs=1e-5)
    assert rows[0]["val_loss"] == pytest.approx(rows[-1]["val_loss"], abs=1e-5)
    assert "lr" not in rows[0]


@pytest.mark.slow
@pytest.mark.parametrize("train_batch_norm", [False, True])
def test_without_a_learning_rate_a_model_with_batch_norm_answers_as_before(
    tmp_path: Path, config: TrainConfig, model_yaml: ModelYaml, train_batch_norm: bool
) -> None:
    """Statistics of a few images of one kind would move its embeddings, although no weight has moved."""
    train(replace(config, model=model_yaml("resnet")), tmp_path / "one")
    still = replace(config, model=str(tmp_path / "one"), lr=1e-9, train_batch_norm=train_batch_norm)
    train(still, tmp_path / "two")
    images = torch.rand(5, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        before, after = (
            normalize(
                load_model(str(tmp_path / name), device="cpu", precision="fp32").bundled()[0].encode_image(images)
            )
            for name in ("one", "two")
        )
    moved = float((before - after).abs().max())
    assert moved > 1e-2 if train_batch_norm else moved < 1e-5


# the end


@pytest.mark.slow
def test_patience_ends_a_run_and_a_resumed_one(
    tmp_path: Path, config: TrainConfig, losses: Callable[..., None]
) -> None:
    losses(0.9, 0.5, 0.6, 0.7, 0.1)
    result, step = train(replace(config, val=config.data, patience=2), tmp_path / "run")
    assert step == 6
    assert result.notes[0].startswith("stopped early after step 6: no validation since step 2 found a better model")
    assert torch.equal(projection(tmp_path / "run/model"), projection(tmp_path / "run/checkpoints/step-00000002"))
    assert torch.equal(projection(tmp_path / "run/last"), projection(tmp_path / "run/checkpoints/step-00000006"))
    for name in ("model", "last"):
        shutil.rmtree(tmp_path / "run" / name)
    again, step = train(replace(config, val=config.data, patience=2), tmp_path / "run", resume=True)
    assert (step, again.notes) == (0, result.notes)
    assert torch.equal(projection(tmp_path / "run/model"), projection(tmp_path / "run/checkpoints/step-00000002"))
    assert torch.equal(projection(tmp_path / "run/last"), projection(tmp_path / "run/checkpoints/step-00000006"))
    _, step = train(replace(config, val=config.data, patience=5), tmp_path / "run", resume=True)
    assert step == 8


def test_patience_needs_something_to_wait_for(tmp_path: Path, config: TrainConfig) -> None:
    with pytest.raises(UsageError, match="--patience needs --val FILE or --zero-shot DIR"):
        train(replace(config, patience=2), tmp_path / "run")


def test_a_complete_run_is_extended_by_more_epochs(tmp_path: Path, config: TrainConfig) -> None:
    train(config, tmp_path / "run")
    done, step = train(config, tmp_path / "run", resume=True)
    assert step == 0
    assert "--resume --epochs N extends the run, and --model" in done.notes[0]
    _, step = train(replace(config, epochs=6), tmp_path / "run", resume=True)
    rows = [json.loads(line) for line in (tmp_path / "run/metrics.jsonl").read_text().splitlines()]
    assert step == 12
    assert [row["step"] for row in rows] == list(range(1, 13))
    expected = [1e-3 * (1 + math.cos(math.pi * (step - 1) / 11)) / 2 for step in range(8, 12)]
    assert [row["lr"] for row in rows[8:]] == pytest.approx(expected)


def test_a_run_that_is_not_complete_is_not_extended(tmp_path: Path, config: TrainConfig) -> None:
    events = loop.train(replace(config, save_every=1), tmp_path / "run")
    for event in events:
        if isinstance(event, Stepped) and event.step == 3:
            break
    events.close()
    with pytest.raises(UsageError, match="has not done all of its 4 epochs; resume it without --epochs first"):
        train(replace(config, epochs=6), tmp_path / "run", resume=True)


@pytest.mark.slow
def test_a_run_that_an_earlier_version_began_goes_on_as_it_began(
    tmp_path: Path, config: TrainConfig, model_yaml: ModelYaml
) -> None:
    """Its checkpoints have the learning rate that it chose, no mixture, and no word of batch norm, which moved."""
    train(replace(config, model=model_yaml("resnet")), tmp_path / "one")
    model = str(tmp_path / "one")
    earlier = replace(config, model=model, lr=2e-5, train_batch_norm=True, wise_ft=1, save_every=3)
    train(earlier, tmp_path / "whole")
    events = loop.train(earlier, tmp_path / "run")
    for event in events:
        if isinstance(event, Stepped) and event.step == 4:
            break
    events.close()
    (saved,) = checkpoint.list_checkpoints(tmp_path / "run/checkpoints")
    state = json.loads((saved / "state.json").read_text())
    for name in ("train_batch_norm", "lora", "label_column"):
        del state["config"][name]
    (saved / "state.json").write_text(json.dumps(state))
    left_open = replace(earlier, lr=None, train_batch_norm=False, wise_ft=None)
    _, step = train(left_open, tmp_path / "run", resume=True)
    assert step == 8
    whole, resumed = (load_file(tmp_path / name / "model/open_clip_model.safetensors") for name in ("whole", "run"))
    assert all(torch.equal(resumed[name], whole[name]) for name in whole)
    with pytest.raises(UsageError, match=r"was started with lr 2e-05, not 0\.001"):
        train(replace(earlier, lr=1e-3), tmp_path / "run", resume=True)


# one writer


@pytest.mark.slow
def test_two_runs_into_one_folder(tmp_path: Path, config: TrainConfig) -> None:
    events = loop.train(config, tmp_path / "run")
    for event in events:
        if isinstance(event, Stepped):
            break
    before = (tmp_path / "run/config.yaml").read_bytes()
    with pytest.raises(UsageError, match=r"another run is writing .*run; wait until it ends"):
        train(replace(config, seed=0), tmp_path / "run", resume=True)
    assert (tmp_path / "run/config.yaml").read_bytes() == before
    events.close()
    _, step = train(config, tmp_path / "run", resume=True)
    assert step == 8
    assert not [path for path in (tmp_path / "run").iterdir() if "lock" in path.name]


def test_a_killed_run_leaves_no_lock_although_its_workers_live(tmp_path: Path) -> None:
    """The child stands for a process that reads images: it is forked after the lock is taken, and outlives it."""
    program = """
        import os, sys, time
        from pathlib import Path
        from zeroshot_cli.train.files.folder import RunFolder
        folder = RunFolder(Path(sys.argv[1]))
        folder.begin({}, step=0, resume=False)
        child = os.fork()
        if not child:
            print(os.getpid(), flush=True)
        time.sleep(30)
    """
    arguments = [sys.executable, "-c", textwrap.dedent(program), str(tmp_path / "run")]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True) as run:
        assert run.stdout is not None
        child = int(run.stdout.readline())
        with pytest.raises(UsageError, match="another run is writing"):
            RunFolder(tmp_path / "run").begin({}, step=0, resume=True)
        run.kill()
        run.wait()
        folder = RunFolder(tmp_path / "run")
        folder.begin({}, step=0, resume=True)
        folder.end()
        os.kill(child, 9)


# the verdict


def row(step: int, loss: float, top1: float | None = None) -> dict[str, Any]:
    return {"step": step, "val_loss": loss} | ({} if top1 is None else {"zero_shot_top1": top1})


PLAIN = TrainConfig(data=("x",), lock_text=True)


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([row(0, 2.0), row(2, 1.0), row(4, 1.5)], []),
        ([row(0, 1.0), row(2, 2.0), row(4, 1.5)], ["was 1.000 before training and is 1.500 now; use a lower --lr"]),
        ([row(0, 1.0), row(2, 0.5), row(4, 1.5)], []),
        ([row(0, 1.0, 0.9), row(2, 0.5, 0.8)], ["zero-shot accuracy was 90.0% before training and is 80.0% now; use"]),
        ([row(0, 1.0, 0.9), row(2, 0.5, 0.9), row(4, 1.5, 0.1)], []),
        ([row(0, 1.0, 0.9), row(2, 1.5, 0.8)], ["the validation loss was", "fewer --epochs or --wise-ft 0.5"]),
        ([row(2, 0.5, 0.8)], []),
    ],
)
def test_a_model_that_is_worse_than_before(rows: list[dict[str, Any]], words: list[str]) -> None:
    found = verdict(Course(list(rows)), [], PLAIN, lr=1e-5)
    assert len(found) == len(words)
    for text, part in zip(found, words, strict=True):
        assert part in text


@pytest.mark.parametrize(("loss", "is_stuck"), [(1.39, True), (2.0, True), (1.2, False)])
def test_a_loss_that_is_that_of_guessing(loss: float, is_stuck: bool) -> None:
    found = verdict(Course(), [(loss, math.log(4))] * 5, PLAIN, lr=1e-5)
    assert [("nothing was learned" in text, "a locked tower" in text) for text in found] == [(True, True)] * is_stuck
    assert not verdict(Course(), [(loss, math.log(4))] * 4, PLAIN, lr=1e-5)  # too few to say


def test_shuffled_pairs_end_with_a_warning(tmp_path: Path, config: TrainConfig) -> None:
    """Twenty steps at a learning rate of nothing and a temperature of 1 learn nothing."""
    path = Path(config.model)
    path.write_text(path.read_text() + "init_logit_scale: 0.0\n")
    result, _ = train(replace(config, lr=1e-9, epochs=10), tmp_path / "run")
    assert any(note.startswith("warning: the loss is 1.") and "belong to other images" in note for note in result.notes)


@pytest.mark.parametrize("captions", ["abcd", "aabc", "aaaa"])
def test_the_loss_of_guessing_is_that_of_equal_embeddings(captions: str) -> None:
    """Brute force: the losses themselves, of embeddings that are all alike; for sigmoid at the best bias of many."""
    from zeroshot_cli.clip.loss import clip_loss, sigmoid_loss

    batch = Batch(pixels=None, captions=tuple(captions), images=tuple("wxyz"))  # type: ignore[arg-type]
    ids, alike = pair_ids(batch), torch.ones(4, 1)
    same = same_pairs(ids, ids)
    negatives = (~same).sum(dim=1)
    scale = torch.tensor(1.0)
    assert guessing(Loss.CLIP, negatives) == pytest.approx(float(clip_loss(alike, alike, scale, same=same)), abs=1e-6)
    if captions == "abcd":
        biases = torch.linspace(-6, 6, 12001) - 1
        best = min(float(sigmoid_loss(alike, alike, scale, bias, same=same)) for bias in biases[::40])
        assert guessing(Loss.SIGMOID, negatives) == pytest.approx(best, abs=1e-3)


# what is learned from


def test_validating_on_what_is_trained_on_is_a_warning(tmp_path: Path, config: TrainConfig) -> None:
    with pytest.warns(PreflightWarning, match="10 of the 10 pairs of --val have an image that --data has too"):
        train(replace(config, val=config.data, epochs=1), tmp_path / "run")


def test_val_twice_uses_both(tmp_path: Path, config: TrainConfig) -> None:
    lines = Path(config.data[0]).read_text().splitlines()
    files = []
    for number in range(2):
        files.append(tmp_path / f"val{number}.csv")
        files[-1].write_text("\n".join([lines[0], *lines[1 + 4 * number : 4 + 4 * number]]))
    seen: list[int] = []
    real = loop.validate_pairs
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "validate_pairs", lambda *a: (seen.append(len(a[2])), real(*a))[1])
        train(replace(config, val=tuple(map(str, files)), epochs=1), tmp_path / "run")
    assert set(seen) == {6}


def test_class_folders_train_with_templates_that_change_by_epoch(
    tmp_path: Path, config: TrainConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("red", "green", "blue"):
        (tmp_path / "set" / name).mkdir(parents=True)
        for number in range(3):
            Image.new("RGB", (20, 20), name).save(tmp_path / "set" / name / f"{number}.png")
    captions: list[tuple[str, ...]] = []
    real = loop.Learner.step
    monkeypatch.setattr(loop.Learner, "step", lambda s, b, **k: (captions.append(b.captions), real(s, b, **k))[1])
    config = replace(config, data=(str(tmp_path / "set"),), batch_size=9, epochs=6)
    train(config, tmp_path / "one")
    first = [*captions]
    captions.clear()
    train(config, tmp_path / "two")
    assert captions == first
    texts = {text for each in first for text in each}
    assert len(texts) > 6
    assert all(any(name in text for name in ("red", "green", "blue")) for text in texts)
    weights = [load_file(tmp_path / name / "model/open_clip_model.safetensors") for name in ("one", "two")]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


def test_texts_of_one_class_are_no_negatives() -> None:
    batch = Batch(pixels=None, captions=("a cat", "the cat"), images=("1", "2"), meanings=("cat", "cat"))  # type: ignore[arg-type]
    ids = pair_ids(batch)
    assert guessing(Loss.CLIP, (~same_pairs(ids, ids)).sum(dim=1)) == 0


def test_markup_and_several_captions_are_counted(tmp_path: Path, config: TrainConfig) -> None:
    file = Path(config.data[0])
    lines = file.read_text().splitlines()
    name = lines[1].split(",")[0]
    file.write_text("\n".join([*lines, f"{name},<b>bold</b> words", f"{name},a < b"]))
    started = next(event for event in loop.train(config, tmp_path / "run", dry_run=True) if hasattr(event, "preflight"))
    found = started.preflight
    assert (found.markup, found.first_markup, found.several) == (1, "<b>bold</b> words", 1)


def test_data_that_is_not_named(tmp_path: Path, config: TrainConfig) -> None:
    with pytest.raises(UsageError, match="--data is missing"):
        train(replace(config, data=()), tmp_path / "run")
    (tmp_path / "x.csv").write_text("image,label\npictures/0.png,3\npictures/1.png,7\n")
    with pytest.raises(DataError, match=r"all 2 labels are numbers, such as 3, .*--labels FILE"):
        train(replace(config, data=(str(tmp_path / "x.csv"),)), tmp_path / "run")
