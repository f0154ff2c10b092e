"""ℓ2 PGD: it stays in ball and box, finds what a linear model is known to be wrong about, and touches nothing else."""

import pytest
import torch
from torch import Tensor, nn

from contractive_gnn.attacks.l2 import l2_pgd


def linear(classes: int = 3) -> tuple[nn.Linear, Tensor, Tensor]:
    torch.manual_seed(0)
    model = nn.Linear(6, classes).double()
    x = torch.rand(40, 6, dtype=torch.float64)
    return model, x, model(x).argmax(dim=1)


def distances(model: nn.Linear, x: Tensor, y: Tensor) -> Tensor:
    """From each input to the nearest one of another class, without a box."""
    scores, weight = model(x).detach(), model.weight.detach()
    gap = scores.gather(1, y[:, None]) - scores
    away = (weight[y][:, None] - weight[None]).norm(dim=2)
    return torch.where(gap == 0, torch.inf, gap / away).amin(dim=1)


@pytest.mark.parametrize("epsilon", [0.05, 0.2])
def test_a_linear_model_is_beaten_exactly_where_it_can_be(epsilon: float) -> None:
    model, x, y = linear()
    moved = l2_pgd(model, x, y, epsilon=epsilon, low=-torch.inf, high=torch.inf)
    assert float((moved - x).norm(dim=1).max()) <= epsilon
    distance = distances(model, x, y)
    wrong = model(moved).argmax(dim=1) != y
    assert not wrong[distance > epsilon].any()
    assert wrong[distance < 0.99 * epsilon].all()
    assert wrong.any()
    assert not wrong.all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_ball_and_box_hold_and_nothing_else_is_touched(dtype: torch.dtype) -> None:
    torch.manual_seed(1)
    model = nn.Sequential(nn.Flatten(), nn.Linear(48, 16), nn.Tanh(), nn.Linear(16, 4)).to(dtype)
    x, y = torch.rand(20, 3, 4, 4, dtype=dtype), torch.randint(4, (20,))
    before, state = x.clone(), torch.random.get_rng_state()
    for epsilon in (0.01, 1.0, 50.0):
        moved = l2_pgd(model, x, y, epsilon=epsilon, num_steps=10, restarts=3)
        assert float((moved - x).double().flatten(1).norm(dim=1).max()) <= epsilon
        assert 0 <= float(moved.min()) <= float(moved.max()) <= 1
    assert torch.equal(x, before)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert all(parameter.grad is None for parameter in model.parameters())
    again = l2_pgd(model, x, y, epsilon=1.0, num_steps=10, restarts=3)
    assert torch.equal(again, l2_pgd(model, x, y, epsilon=1.0, num_steps=10, restarts=3))


def test_restarts_help_where_the_gradient_at_the_input_is_zero() -> None:
    def flat(x: Tensor) -> Tensor:
        """Right within 0.2 of the middle, and flat there."""
        away = (x - 0.5).norm(dim=1, keepdim=True)
        return torch.cat([1 - 5 * (away - 0.1).clamp(min=0), 0.5 + 0 * away], dim=1)

    x, y = torch.full((5, 2), 0.5), torch.zeros(5, dtype=torch.long)
    one = flat(l2_pgd(flat, x, y, epsilon=0.3, restarts=1)).argmax(dim=1)
    many = flat(l2_pgd(flat, x, y, epsilon=0.3, restarts=8)).argmax(dim=1)
    assert (one == 0).all()
    assert (many == 1).all()


def test_inputs_that_do_not_fit_are_refused() -> None:
    model, x, y = linear()
    with pytest.raises(ValueError, match=r"entries of x must lie in \[low, high\] = \[0, 1\]"):
        l2_pgd(model, 2 * x, y, epsilon=0.1)
    with pytest.raises(ValueError, match=r"one label for each, got torch.float64 \[40, 6\] and torch.int64 \[39\]"):
        l2_pgd(model, x, y[1:], epsilon=0.1)
    with pytest.raises(ValueError, match=r"one label for each, .* and torch.float64"):
        l2_pgd(model, x, y.double(), epsilon=0.1)
    with pytest.raises(ValueError, match=r"entries of x must lie in \[low, high\]"):
        l2_pgd(model, x * torch.nan, y, epsilon=0.1)
    with pytest.raises(ValueError, match=r"got scores \[40, 3\] and labels from 6 to 7"):
        l2_pgd(model, x, 5 + y, epsilon=0.1)
    with pytest.raises(ValueError, match=r"the model must give scores \[40, classes\]"):
        l2_pgd(lambda z: model(z)[:, 0], x, y, epsilon=0.1)
    assert torch.equal(l2_pgd(model, x, y.int(), epsilon=0.1), l2_pgd(model, x, y, epsilon=0.1))
    with pytest.raises(ValueError, match="epsilon"):
        l2_pgd(model, x, y, epsilon=0.0)
    with pytest.raises(ValueError, match="step_size"):
        l2_pgd(model, x, y, epsilon=0.1, step_size=-1.0)
    assert l2_pgd(model, x[:0], y[:0], epsilon=0.1).shape == (0, 6)
