"""The running average, and the mixture with the start weights, by hand."""

import pytest
import torch
from torch import nn

from zeroshot_cli.train.learner import average_of, mix, update_average


def test_average_by_hand() -> None:
    model = nn.Sequential(nn.Linear(1, 1, bias=False), nn.BatchNorm1d(1))
    weight, mean = model.get_parameter("0.weight"), model.get_buffer("1.running_mean")
    nn.init.constant_(weight, 1.0)
    average = average_of(model, 0.9)
    nn.init.constant_(weight, 2.0)
    mean.fill_(7.0)
    model.get_buffer("1.num_batches_tracked").fill_(3)
    update_average(average, model, step=1)  # early: the decay is 2/11
    assert float(average.module.get_parameter("0.weight")) == pytest.approx(2 / 11 * 1 + 9 / 11 * 2)
    assert float(average.module.get_buffer("1.running_mean")) == pytest.approx(9 / 11 * 7)  # from 0
    assert int(average.module.get_buffer("1.num_batches_tracked")) == 3
    nn.init.constant_(average.module.get_parameter("0.weight"), 1.0)
    update_average(average, model, step=1000)
    assert float(average.module.get_parameter("0.weight")) == pytest.approx(1.1)


def test_the_average_is_a_copy_that_is_not_trained() -> None:
    model = nn.Linear(2, 2)
    average = average_of(model, 0.9).module
    with torch.no_grad():
        model.weight.zero_()
    assert average.weight.any()
    assert not average.training
    assert not any(parameter.requires_grad for parameter in average.parameters())


def test_a_mixture_by_hand() -> None:
    tuned = {"weight": torch.tensor([4.0, -8.0]), "running_var": torch.tensor(3.0), "count": torch.tensor(11)}
    start = {"weight": torch.tensor([0.0, 4.0]), "running_var": torch.tensor(1.0), "count": torch.tensor(5)}
    mixed = mix(tuned, start, 0.25)
    assert mixed["weight"].tolist() == [1.0, 1.0]  # 0.75 x 0 + 0.25 x 4, 0.75 x 4 - 0.25 x 8
    assert float(mixed["running_var"]) == 1.5
    assert mixed["count"].dtype == torch.int64
    assert int(mixed["count"]) == 11


def test_the_ends_of_a_mixture_are_the_two_models_to_the_bit() -> None:
    generator = torch.Generator().manual_seed(0)
    tuned, start = ({"w": torch.randn(1000, generator=generator)} for _ in range(2))
    assert torch.equal(mix(tuned, start, 1.0)["w"], tuned["w"])
    assert torch.equal(mix(tuned, start, 0.0)["w"], start["w"])


def test_a_mixture_is_computed_in_float32_and_touches_neither() -> None:
    """Half way between 1 and 1 + 1/64 (neighbours in bfloat16 are 1/128 apart) is 1 + 1/128."""
    tuned = {"w": torch.tensor([1 + 1 / 64], dtype=torch.bfloat16)}
    start = {"w": torch.tensor([1.0])}
    mixed = mix(tuned, start, 0.5)["w"]
    assert mixed.dtype == torch.bfloat16
    assert float(mixed) == 1 + 1 / 128
    mixed.zero_()
    assert float(tuned["w"]) == 1 + 1 / 64
    assert float(start["w"]) == 1.0
