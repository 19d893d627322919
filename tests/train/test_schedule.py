"""The learning rate, against torch's own schedulers and by hand."""

import math

import pytest
import torch
from torch.optim.lr_scheduler import CosineAnnealingLR, LinearLR

from zeroshot_cli.train.schedule import learning_rate, warmup_steps


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
