"""Runs with a teacher of the text tower and with similar texts masked: what they learn, and that they resume alike."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from zeroshot_cli.errors import DataError, UsageError
from zeroshot_cli.records import Loss
from zeroshot_cli.train import loop
from zeroshot_cli.train.config import TrainConfig
from zeroshot_cli.train.distributed import World
from zeroshot_cli.train.files.folder import Saved, Stepped
from zeroshot_cli.train.step import Objective, Teacher

pytestmark = pytest.mark.usefixtures("one_thread")

Draw = Callable[..., Path]


def teacher_file(path: Path, *, texts: int = 6, width: int = 32, seed: int = 0) -> str:
    draw = np.random.default_rng(seed)
    embeddings = draw.normal(size=(texts, width)).astype(np.float32)
    np.savez(path, texts=np.array([f"sentence {number}" for number in range(texts)]), embeddings=embeddings)
    return str(path)


@pytest.fixture
def config(draw_pairs: Draw, model_yaml: Callable[[str], str], tmp_path: Path) -> TrainConfig:
    """Ten pairs in batches of four, eight steps, six texts of a teacher."""
    return TrainConfig(
        data=(str(draw_pairs(10)),),
        model=model_yaml("vit"),
        epochs=4,
        batch_size=4,
        lr=1e-2,
        device="cpu",
        log_every=1,
        save_every=3,
        distil_text=teacher_file(tmp_path / "teacher.npz"),
    )


def steps_of(config: TrainConfig, output: Path, *, resume: bool = False, stop_at: int | None = None) -> list[Stepped]:
    """The steps of a run; `stop_at` leaves it when that one is saved, as a kill does."""
    steps: list[Stepped] = []
    events = loop.train(config, output, resume=resume)
    for event in events:
        if isinstance(event, Stepped):
            steps.append(event)
        if isinstance(event, Saved) and steps and steps[-1].step == stop_at:
            break
    events.close()  # type: ignore[attr-defined]
    return steps


def weights_of(output: Path) -> bytes:
    return (output / "model" / "open_clip_model.safetensors").read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize("change", [{}, {"chunk_size": 3}, {"distil_text": None, "mask_similar": 0.9}])
def test_a_run_that_is_resumed_ends_with_the_same_weights(
    tmp_path: Path, config: TrainConfig, change: dict[str, object]
) -> None:
    config = replace(config, **change)  # type: ignore[arg-type]
    whole = steps_of(config, tmp_path / "whole")
    steps_of(config, tmp_path / "cut", stop_at=3)
    rest = steps_of(replace(config, workers=1), tmp_path / "cut", resume=True)
    assert [step.step for step in rest] == [4, 5, 6, 7, 8]
    assert [(step.loss, step.distil) for step in rest] == [(step.loss, step.distil) for step in whole[3:]]
    assert weights_of(tmp_path / "cut") == weights_of(tmp_path / "whole")
    assert all((step.distil is None) == (config.distil_text is None) for step in whole)
    assert weights_of(tmp_path / "whole") != _plain(config, tmp_path / "plain")


def _plain(config: TrainConfig, output: Path) -> bytes:
    steps_of(replace(config, distil_text=None, mask_similar=None), output)
    return weights_of(output)


@pytest.mark.slow
def test_the_text_tower_learns_what_the_teacher_says(tmp_path: Path, config: TrainConfig) -> None:
    distil = [step.distil or 0.0 for step in steps_of(replace(config, epochs=20), tmp_path / "run")]
    assert sum(distil[-4:]) < 0.5 * sum(distil[:4])
    assert all("distil" in step.row() for step in steps_of(replace(config, epochs=1), tmp_path / "other"))


@pytest.mark.slow
def test_a_run_goes_on_with_the_same_teacher_wherever_it_is(tmp_path: Path, config: TrainConfig) -> None:
    steps_of(config, tmp_path / "run", stop_at=3)
    other = replace(config, distil_text=teacher_file(tmp_path / "other.npz", seed=1))
    with pytest.raises(UsageError, match="was started with distil_text "):
        steps_of(other, tmp_path / "run", resume=True)
    with pytest.raises(UsageError, match=r"was started with distil_weight 3\.0, not 2\.0"):
        steps_of(replace(config, distil_weight=2.0), tmp_path / "run", resume=True)
    with pytest.raises(UsageError, match="was started with distil_text "):
        steps_of(replace(config, distil_text=None), tmp_path / "run", resume=True)
    moved = Path(config.distil_text or "").rename(tmp_path / "moved.npz")
    assert len(steps_of(replace(config, distil_text=str(moved)), tmp_path / "run", resume=True)) == 5


def test_a_teacher_of_another_size_is_refused(tmp_path: Path, config: TrainConfig) -> None:
    other = replace(config, distil_text=teacher_file(tmp_path / "wide.npz", width=48))
    with pytest.raises(UsageError, match=r"wide\.npz holds embeddings of 48 numbers, and those of the model have 32"):
        steps_of(other, tmp_path / "run")


def test_a_locked_text_tower_learns_nothing(tmp_path: Path, config: TrainConfig) -> None:
    with pytest.raises(UsageError, match="--lock-text keeps the text tower as it is, and --distil-text trains it"):
        steps_of(replace(config, model="tiny", lock_text=True), tmp_path / "run")


def test_bad_files_end_before_the_first_step(tmp_path: Path, config: TrainConfig) -> None:
    with pytest.raises(UsageError, match=r"cannot read missing\.npz: No such file"):
        steps_of(replace(config, distil_text="missing.npz"), tmp_path / "run")
    (tmp_path / "bad.npz").write_bytes(b"no")
    with pytest.raises(DataError, match=r"bad\.npz holds no embeddings of texts"):
        steps_of(replace(config, distil_text=str(tmp_path / "bad.npz")), tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("name", ["distil_weight", "mask_similar"])
@pytest.mark.parametrize("value", [0.0, -1.0, float("inf"), float("nan")])
def test_numbers_out_of_range(name: str, value: float) -> None:
    with pytest.raises(UsageError, match=f"--{name.replace('_', '-')} is {value}; it must be"):
        TrainConfig(**{name: value})
    if name == "mask_similar":
        with pytest.raises(UsageError, match=r"--mask-similar is 1\.5"):
            TrainConfig(mask_similar=1.5)


# what is drawn


def test_a_lesson_depends_on_seed_and_step_and_is_shared_by_the_processes(tmp_path: Path) -> None:
    teacher = Teacher.read(Path(teacher_file(tmp_path / "a.npz", texts=20)), width=32)
    torch.testing.assert_close(teacher.embeddings.norm(dim=1), torch.ones(20))
    texts, targets = teacher.lesson(8, seed=3, step=5, world=World())
    assert len(set(texts)) == 8
    for text, target in zip(texts, targets, strict=True):
        assert torch.equal(target, teacher.embeddings[int(text.split()[1])])
    shares = [teacher.lesson(8, seed=3, step=5, world=World(rank, 2)) for rank in range(2)]
    assert shares[0][0] + shares[1][0] == texts
    assert torch.equal(torch.cat([share[1] for share in shares]), targets)
    assert teacher.lesson(8, seed=3, step=6, world=World())[0] != texts
    assert teacher.lesson(8, seed=4, step=5, world=World())[0] != texts
    assert len(teacher.lesson(50, seed=3, step=5, world=World())[0]) == 50


# texts that are alike


@pytest.mark.parametrize("loss", list(Loss))
def test_similar_texts_are_masked_by_hand(loss: Loss) -> None:
    """Angles of 0, 20 and 90 degrees: the first two are alike over a cosine of 0.9, and are not over 0.95."""
    angles = torch.deg2rad(torch.tensor([0.0, 20.0, 90.0]))
    texts = torch.stack([angles.cos(), angles.sin()], dim=1)
    images = F.normalize(torch.tensor([[1.0, 0.5], [0.2, 1.0], [0.3, -1.0]]), dim=1)
    ids = torch.tensor([[1, 1], [2, 2], [3, 3]])
    outputs = images, texts, torch.tensor(2.0), torch.tensor(-1.0)
    logits = (2 * images @ texts.T).double().numpy()
    for threshold, masked in ((None, ()), (0.95, ()), (0.9, ((0, 1), (1, 0)))):
        objective = Objective(loss, mask_similar=threshold)
        found = float(objective.value(outputs, objective.same(texts, ids)))
        kept = np.ones((3, 3), dtype=bool)
        for pair in masked:
            kept[pair] = False
        if loss is Loss.CLIP:
            terms = [
                np.log(np.exp(matrix[row][kept[row]]).sum()) - matrix[row, row]
                for matrix in (logits, logits.T)
                for row in range(3)
            ]
            assert found == pytest.approx(sum(terms) / 6, abs=1e-6)
        else:
            signs = 2 * np.eye(3) - 1
            assert found == pytest.approx(np.log1p(np.exp(-signs * (logits - 1)))[kept].sum() / 3, abs=1e-6)
