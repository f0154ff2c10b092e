from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from contractive_gnn.training.rollout import rollout


def test_a_rollout_is_the_model_again_and_again() -> None:
    double_it = nn.Linear(2, 2, bias=False)
    nn.init.eye_(double_it.weight).data.mul_(2)
    states = rollout(double_it, torch.ones(3, 2), 3)
    assert states.shape == (3, 4, 2)
    assert states[0, :, 0].tolist() == [1, 2, 4, 8]
    states.sum().backward()
    assert double_it.weight.grad is not None
    assert rollout(double_it, torch.ones(3, 2), 0).shape == (3, 1, 2)


@pytest.mark.parametrize("model", [lambda u: u[:1], lambda u: u[:, :1]])
def test_a_step_keeps_the_shape(model: Callable[[Tensor], Tensor]) -> None:
    with pytest.raises(ValueError, match="a step keeps the shape"):
        rollout(model, torch.ones(3, 2), 1)  # type: ignore[arg-type]


def test_a_number_of_steps_is_whole() -> None:
    with pytest.raises((TypeError, ValueError), match="num_steps"):
        rollout(nn.Identity(), torch.ones(3, 2), -1)
