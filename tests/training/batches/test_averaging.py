"""The moving average: its recursion, buffers, and constraints."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn.utils.parametrizations import orthogonal

from contractive_gnn.training.images import moving_average


def test_the_recursion() -> None:
    model = nn.Linear(1, 1, bias=False)
    average = moving_average(model, 0.5)
    expected = None
    for step in range(30):
        with torch.no_grad():
            model.weight.fill_(float(step**2 % 7))
        average.update_parameters(model)
        if expected is None:
            expected = float(model.weight.detach())  # the first weights are taken as they are
            continue
        beta = min(0.5, (1 + step) / (10 + step))
        expected = beta * expected + (1 - beta) * float(model.weight.detach())
        assert float(average.module.weight.detach()) == pytest.approx(expected, rel=1e-6)


def test_buffers_are_the_models() -> None:
    model = nn.BatchNorm1d(2)
    average = moving_average(model, 0.9)
    for _ in range(3):
        model(torch.randn(8, 2) + 5)
        average.update_parameters(model)
    assert torch.equal(average.module.running_mean, model.running_mean)
    assert average.module.running_mean is not model.running_mean


def test_what_a_parametrisation_imposes_holds_for_the_average() -> None:
    model = orthogonal(nn.Linear(4, 4), orthogonal_map="cayley")
    average = moving_average(model, 0.9)
    for _ in range(5):
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(torch.randn_like(parameter))
        average.update_parameters(model)
    weight = average.module.weight
    assert torch.allclose(weight @ weight.T, torch.eye(4), atol=1e-5)
    assert not torch.allclose(weight, model.weight, atol=1e-2)


@pytest.mark.parametrize("decay", [1.0, -0.1])
def test_a_decay_out_of_range_is_refused(decay: float) -> None:
    with pytest.raises(ValueError, match="decay must be at least 0 and below 1"):
        moving_average(nn.Linear(1, 1), decay)
