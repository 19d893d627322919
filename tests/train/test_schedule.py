"""The learning rate, against torch's own schedulers and by hand."""

import math

import pytest
import torch
from torch.optim.lr_scheduler import CosineAnnealingLR, LinearLR

from zeroshot_cli.train.config import TrainConfig
from zeroshot_cli.train.schedule import fine_tuning_lr, learning_rate, settled, warmup_steps


def rates_of(scheduler: object, optimizer: torch.optim.Optimizer, steps: int) -> list[float]:
    rates = []
    for _ in range(steps):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()  # type: ignore[attr-defined]
    return rates


def optimizer(lr: float) -> torch.optim.Optimizer:
    return torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=lr)


def test_warm_up_is_torchs_linear_schedule() -> None:
    sgd = optimizer(3e-4)
    expected = rates_of(LinearLR(sgd, start_factor=1 / 10, total_iters=9), sgd, 10)
    assert [learning_rate(s, total=100, warmup=10, peak=3e-4) for s in range(10)] == pytest.approx(expected)


def test_the_rest_is_torchs_cosine_schedule() -> None:
    sgd = optimizer(3e-4)
    expected = rates_of(CosineAnnealingLR(sgd, T_max=90), sgd, 90)
    ours = [learning_rate(s, total=100, warmup=10, peak=3e-4) for s in range(10, 100)]
    assert ours == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(
    ("step", "expected"),
    [
        (0, 0.25),  # a quarter of the way up, and not 0
        (3, 1.0),
        (4, 1.0),  # cosine of 0
        (6, 0.5),  # half of the four steps that are left: cosine of 90 degrees
        (7, (1 - math.sqrt(0.5)) / 2),  # cosine of 135 degrees
        (8, 0.0),
        (9, 0.0),
    ],
)
def test_by_hand(step: int, expected: float) -> None:
    assert learning_rate(step, total=8, warmup=4, peak=1.0) == pytest.approx(expected)


def test_without_warm_up_the_first_step_has_the_peak() -> None:
    assert learning_rate(0, total=5, warmup=0, peak=0.1) == 0.1


def test_all_steps_may_be_warm_up() -> None:
    assert [learning_rate(s, total=2, warmup=2, peak=1.0) for s in range(3)] == [0.5, 1.0, 0.0]


@pytest.mark.parametrize(("total", "fraction", "steps"), [(1000, 0.05, 50), (10, 0.05, 1), (10, 0.0, 0), (3, 1.0, 3)])
def test_warm_up_is_a_share_of_the_steps(total: int, fraction: float, steps: int) -> None:
    assert warmup_steps(total, fraction) == steps


@pytest.mark.parametrize(
    ("pairs", "processes", "batch"),
    [(2, 1, 2), (39, 1, 4), (100, 1, 16), (512, 1, 64), (5000, 1, 256), (10**6, 1, 256), (512, 3, 63), (8, 4, 4)],
)
def test_what_is_left_open_suits_the_number_of_pairs(pairs: int, processes: int, batch: int) -> None:
    found = settled(TrainConfig(data=("x",)), pairs=pairs, trained=True, processes=processes)
    assert found.batch_size == batch
    assert found.epochs == (10 if pairs <= 5000 else 32)
    assert settled(TrainConfig(data=("x",)), pairs=pairs, trained=False).epochs == 32
    assert found.wise_ft == (0.5 if pairs < 300 else None)
    assert settled(TrainConfig(data=("x",)), pairs=pairs, trained=False).wise_ft is None
    given = settled(TrainConfig(batch_size=7, epochs=3, wise_ft=1.0), pairs=pairs, trained=True)
    assert (given.batch_size, given.epochs, given.wise_ft) == (7, 3, None)


@pytest.mark.parametrize(
    ("parameters", "batch", "rate"),
    [
        (151_277_313, 256, 9.9e-6),  # ViT-B-32
        (4_641_967, 64, 3.2e-4),  # tiny
        (4_641_967, 16, 1.6e-4),  # half of it: the square root of a quarter
        (1000, 256, 5e-4),  # no higher than for a new model
    ],
)
def test_the_rate_for_weights_falls_with_their_number_and_with_small_batches(
    parameters: int, batch: int, rate: float
) -> None:
    assert fine_tuning_lr(parameters, batch) == rate
