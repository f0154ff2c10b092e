"""Shears in learned directions: exact flows, constants that are attained, and hypotheses at their edge."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from contractive_gnn.activations import Activation
from contractive_gnn.dynamics import CouplingField, ShearField, SumField
from contractive_gnn.dynamics.layer import Layer
from contractive_gnn.integrators import integrate
from contractive_gnn.norms import lipschitz_at, log_norm_at, number
from contractive_gnn.operators import Dense
from contractive_gnn.testing import violations


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def shear(dim: int = 4, rank: int = 2, seed: int = 0) -> ShearField:
    torch.manual_seed(seed)
    return ShearField(dim, rank).double()


def test_one_long_step_is_as_many_short_ones() -> None:
    field, x = shear(), draw(5, 4)
    once = integrate(field, x, step=3.0, num_steps=1)
    torch.testing.assert_close(integrate(field, x, step=0.03, num_steps=100), once)
    torch.testing.assert_close(once - 3.0 * field(once), x)


def test_directions_stay_across_where_they_almost_vanish() -> None:
    """The learned directions are almost in the span of K's rows: what is left is across to rounding all the same."""
    field = shear()
    with torch.no_grad():
        field.push.copy_(draw(2, 2) @ field.operator.weight + 1e-9 * draw(2, 4, seed=1))
    across = field.directions.detach()
    left = (across @ field.operator.weight.detach().T).norm() / (across.norm() * field.operator.weight.detach().norm())
    assert float(across.norm()) < 1e-7
    assert float(left) < 1e-14


def test_its_constants_are_attained() -> None:
    field = shear(2, 1)
    with torch.no_grad():
        field.operator.weight.copy_(torch.tensor([[0.0, 2.0]]))
        field.push.copy_(torch.tensor([[1.5, 7.0]]))  # of which 7 is along K
        field.bias.zero_()
    x = torch.zeros(2, dtype=torch.float64)
    assert number(field.field_lipschitz()) == pytest.approx(3.0) == pytest.approx(lipschitz_at(field, x, norm="l2"))
    assert -number(field.rate()) == pytest.approx(1.5) == pytest.approx(log_norm_at(field, x, norm="l2"))
    for h in (0.1, 5.0):
        claimed = number(field.lipschitz(h))
        assert claimed == pytest.approx(lipschitz_at(lambda y, h=h: y + h * field(y), x, norm="l2"))


def test_a_sum_of_them_keeps_the_volume_by_splitting_alone() -> None:
    field, x = SumField(*(shear(3, 1, seed) for seed in range(5))), draw(6, 3)
    assert field.conserves == {"volume"}
    for scheme in ("lie-trotter", "strang"):
        assert violations(field, x, of=["volume"], step=0.5, num_steps=20, scheme=scheme)["volume"] < 1e-12
    assert violations(field, x, of=["volume"], step=0.5, num_steps=20, scheme="heun")["volume"] > 1e-4


def test_a_coupling_is_a_sum_of_two() -> None:
    first, second = draw(2, 2), draw(2, 2, seed=1)
    coupling = CouplingField(Layer(Dense(first), "tanh"), Layer(Dense(second), "tanh"))
    nothing, one = torch.zeros(2, 2, dtype=torch.float64), torch.eye(2, dtype=torch.float64)
    parts = [shear(), shear()]
    with torch.no_grad():
        for part in parts:
            part.bias.zero_()
        parts[0].operator.weight.copy_(torch.cat([nothing, first], dim=1))
        parts[0].push.copy_(torch.cat([one, nothing], dim=1))
        parts[1].operator.weight.copy_(torch.cat([second, nothing], dim=1))
        parts[1].push.copy_(torch.cat([nothing, one], dim=1))
    x = draw(5, 4)
    torch.testing.assert_close(SumField(*parts)(x), coupling(x))


class Ours(Activation):
    slopes = (0.0, 1.0)

    def forward(self, d: Tensor) -> Tensor:
        return d.atan()


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="rank must be below 3"):
        ShearField(3, 3)  # no direction is left to move in
    with pytest.raises(ValueError, match="dim must be at least 2"):
        ShearField(1)
    with pytest.raises(ValueError, match=r"expected a state of shape \[..., 4\], got \[5, 3\]"):
        shear()(draw(5, 3))
    assert shear().certified
    assert not ShearField(3, 1, Ours()).certified
