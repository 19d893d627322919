"""Checkpoints: to the bit, and never half of one."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from zeroshot_cli.errors import CheckpointError, UsageError
from zeroshot_cli.train.files import checkpoint
from zeroshot_cli.train.files.checkpoint import (
    TrainState,
    best_checkpoint,
    check_same,
    list_checkpoints,
    load_checkpoint,
    read_state,
    save_checkpoint,
    tensors_of,
)

CONFIG = {"lr": 0.1, "augment": ["flip"], "ema": None}


def trained(
    seed: int, steps: int = 3, *, layout: torch.memory_format = torch.channels_last
) -> tuple[nn.Sequential, torch.optim.AdamW]:
    """A small model after some steps, its parameters in channels_last as a ResNet's are."""
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(144, 2))
    model.register_parameter("scale", nn.Parameter(torch.tensor(1.0)))
    model.to(memory_format=layout)
    matrices, others = ([p for p in model.parameters() if (p.ndim >= 2) is wanted] for wanted in (True, False))
    groups: list[dict[str, Any]] = [{"params": matrices}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=0.1, fused=True)
    for _ in range(steps):
        step(model, optimizer)
    return model, optimizer


def step(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    images = torch.arange(2 * 3 * 8 * 8).reshape(2, 3, 8, 8) / 384
    optimizer.zero_grad()
    (model(images) * model.scale).square().sum().backward()
    optimizer.step()


def state(step: int, val_loss: float | None = None) -> TrainState:
    return TrainState(step, step // 2, CONFIG, val_loss)


def save(directory: Path, state: TrainState, *modules: Any, keep: int = 2) -> Path:
    return save_checkpoint(directory, state, tensors_of(*modules), keep=keep)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_training_goes_on_to_the_bit(tmp_path: Path, layout: torch.memory_format) -> None:
    model, optimizer = trained(0, layout=layout)
    saved = save(tmp_path, state(3), model, optimizer)
    other, its_optimizer = trained(1, steps=0, layout=layout)
    load_checkpoint(saved, other, its_optimizer)
    for _ in range(3):
        step(model, optimizer)
        step(other, its_optimizer)
    for (name, expected), (_, ours) in zip(model.state_dict().items(), other.state_dict().items(), strict=True):
        assert torch.equal(expected, ours), name
        assert expected.stride() == ours.stride(), name


def test_the_files_are_tensors_under_the_names_of_parameters(tmp_path: Path) -> None:
    model, optimizer = trained(0)
    saved = save(tmp_path, state(3), model, optimizer, model)
    assert sorted(file.name for file in saved.iterdir()) == [
        "average.safetensors",
        "model.safetensors",
        "optimizer.safetensors",
        "state.json",
    ]
    moments = load_file(saved / "optimizer.safetensors")
    assert set(moments) == {
        f"{name}.{key}" for name, _ in model.named_parameters() for key in ("exp_avg", "exp_avg_sq", "step")
    }
    assert moments["scale.step"].item() == 3
    assert torch.equal(moments["0.weight.exp_avg"], optimizer.state[model.get_parameter("0.weight")]["exp_avg"])


def test_the_average_comes_back(tmp_path: Path) -> None:
    model, optimizer = trained(0)
    average, other = trained(5)[0], trained(6)[0]
    saved = save(tmp_path, state(3), model, optimizer, average)
    load_checkpoint(saved, model, optimizer, other)
    assert torch.equal(other.get_parameter("0.weight"), average.get_parameter("0.weight"))


def test_the_newest_two_are_kept(tmp_path: Path) -> None:
    model, optimizer = trained(0)
    for number in (5, 900, 1000, 12):
        save(tmp_path, state(number), model, optimizer)
    assert [path.name for path in list_checkpoints(tmp_path)] == ["step-00000900", "step-00001000"]
    assert read_state(list_checkpoints(tmp_path)[-1]) == TrainState(1000, 500, CONFIG)


def test_the_best_stays_besides_the_newest(tmp_path: Path) -> None:
    model, optimizer = trained(0)
    for number, loss in ((1, 0.5), (2, 0.3), (3, 0.3), (4, None), (5, 0.4), (6, None)):
        save(tmp_path, state(number, loss), model, optimizer, keep=3)
    assert [path.name for path in list_checkpoints(tmp_path)] == [f"step-0000000{number}" for number in (2, 4, 5, 6)]
    assert best_checkpoint(tmp_path) == tmp_path / "step-00000002"
    assert read_state(tmp_path / "step-00000002").val_loss == 0.3
    (tmp_path / "step-00000002" / "state.json").write_text("{")
    assert best_checkpoint(tmp_path) == tmp_path / "step-00000005"
    assert best_checkpoint(tmp_path / "none") is None


def test_saving_a_step_again_replaces_it(tmp_path: Path) -> None:
    save(tmp_path, state(4), *trained(0))
    saved = save(tmp_path, state(4), *trained(1))
    assert torch.equal(load_file(saved / "model.safetensors")["scale"], trained(1)[0].get_parameter("scale"))


def test_a_full_disk_leaves_the_former_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save(tmp_path, state(4), *trained(0))
    calls: list[Path] = []

    def full(tensors: dict[str, torch.Tensor], path: Path) -> None:
        calls.append(path)
        if len(calls) == 2:
            raise OSError(28, "No space left on device")
        save_file(tensors, path)

    monkeypatch.setattr(checkpoint, "save_file", full)
    with pytest.raises(OSError, match="No space"):
        save(tmp_path, state(5), *trained(1))
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000004"]


def test_what_a_kill_left_is_no_checkpoint(tmp_path: Path) -> None:
    saved = save(tmp_path, state(4), *trained(0))
    (tmp_path / ".step-00000005.77").mkdir()
    (tmp_path / "step-00000006").mkdir()  # half removed: its state.json is gone
    assert list_checkpoints(tmp_path) == [saved]
    assert list_checkpoints(tmp_path / "none") == []
    save(tmp_path, state(8), *trained(0))
    assert not (tmp_path / ".step-00000005.77").exists()


def test_a_wrong_checkpoint_is_named(tmp_path: Path) -> None:
    saved = save(tmp_path, state(4), *trained(0))
    linear = nn.Linear(2, 2)
    with pytest.raises(CheckpointError, match=r"model\.safetensors does not fit this model"):
        load_checkpoint(saved, linear, torch.optim.AdamW(linear.parameters()))
    (saved / "model.safetensors").write_bytes(b"no tensors")
    with pytest.raises(CheckpointError, match=r"model\.safetensors cannot be read"):
        load_checkpoint(saved, *trained(0))
    (saved / "state.json").write_text('{"step": 3}')
    with pytest.raises(CheckpointError, match=r"state\.json cannot be read .*'config'"):
        read_state(saved)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"lr": 0.2}, "lr 0.1, not 0.2"),
        ({"augment": []}, r'augment \["flip"\], not \[\]'),
        ({"ema": 0.9}, "ema null, not 0.9"),
        ({"new": 1}, "new null, not 1"),
    ],
)
def test_a_changed_setting_is_named(change: dict[str, object], words: str) -> None:
    check_same(CONFIG, dict(CONFIG), where=Path("run"))
    with pytest.raises(UsageError, match=f"run was started with {words}"):
        check_same(CONFIG, CONFIG | change, where=Path("run"))


def test_a_setting_that_an_older_run_lacks_had_its_default() -> None:
    newer = {"lock_trunk": False, "rehearse_share": 0.3, "views": None}
    check_same(CONFIG, CONFIG | newer, where=Path("run"))
    for change, words in [({"lock_trunk": True}, "lock_trunk null, not true"), ({"views": 2}, "views null, not 2")]:
        with pytest.raises(UsageError, match=f"run was started with {words}"):
            check_same(CONFIG, CONFIG | newer | change, where=Path("run"))
    with pytest.raises(UsageError, match="lock_trunk true, not false"):  # it had one, and not the default
        check_same(CONFIG | {"lock_trunk": True}, CONFIG | newer, where=Path("run"))


@pytest.mark.parametrize(
    "text",
    [
        "[1]",
        "3",
        "{}",
        "\x00",
        "[" * 10_000,
        '{"step": "x", "epoch": 1, "config": {}}',
        '{"step": 1e999, "epoch": 1, "config": {}}',
        '{"step": 1, "epoch": 1, "config": [1]}',
        '{"step": 1, "epoch": 1, "config": {}, "val_loss": []}',
    ],
)
def test_a_state_of_another_kind_is_one_sentence(tmp_path: Path, text: str) -> None:
    saved = save(tmp_path, state(4), *trained(0))
    (saved / "state.json").write_text(text)
    with pytest.raises(CheckpointError, match=r"state\.json cannot be read \(.{1,220}\); remove its folder") as caught:
        read_state(saved)
    assert "\n" not in str(caught.value)
    assert best_checkpoint(tmp_path) is None


def _one_less(tensors: dict[str, torch.Tensor]) -> None:
    del tensors[sorted(tensors)[0]]


def _another_shape(tensors: dict[str, torch.Tensor]) -> None:
    name = next(name for name in tensors if name.endswith("exp_avg"))
    tensors[name] = torch.zeros(7, 5)


def _another_type(tensors: dict[str, torch.Tensor]) -> None:
    name = next(name for name in tensors if name.endswith("exp_avg_sq"))
    tensors[name] = tensors[name].long()


def _another_key(tensors: dict[str, torch.Tensor]) -> None:
    name = next(name for name in tensors if name.endswith("exp_avg"))
    tensors[f"{name}_more"] = tensors[name].clone()


def _steps_in_a_row(tensors: dict[str, torch.Tensor]) -> None:
    tensors[next(name for name in tensors if name.endswith("step"))] = torch.zeros(3)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (_one_less, r"it has no .*exp_avg"),
        (_another_shape, r"is torch\.float32 of shape \[7, 5\], expected"),
        (_another_type, r"is torch\.int64 of shape"),
        (_another_key, "has a state for '.*exp_avg_more'"),
        (_steps_in_a_row, r"of shape \[3\], expected floating-point numbers of shape \[\]"),
    ],
)
def test_an_optimizer_of_another_model_is_one_sentence(
    tmp_path: Path, change: Callable[[dict[str, torch.Tensor]], None], words: str
) -> None:
    saved = save(tmp_path, state(4), *trained(0))
    tensors = load_file(saved / "optimizer.safetensors")
    change(tensors)
    save_file(tensors, saved / "optimizer.safetensors")
    with pytest.raises(CheckpointError, match=words):
        load_checkpoint(saved, *trained(0))
