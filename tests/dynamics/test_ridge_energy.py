"""Ridge functions: the gradient, the point where a slope is 0, and the bounds of the Hessian."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from contractive_gnn.activations import Activation
from contractive_gnn.dynamics import PerceptronEnergy, RidgeEnergy, SeparableHamiltonian
from contractive_gnn.seeding import seeded
from contractive_gnn.testing import FieldSuite, sample_jacobians


def ridges(dim: int = 3, width: int = 5, activation: str = "tanh") -> RidgeEnergy:
    with seeded(1):
        return RidgeEnergy(dim, width, activation).double()


def draw(*shape: int) -> Tensor:
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("dim", [1, 3])
@pytest.mark.parametrize("activation", ["tanh", "leaky-relu", "identity"])
def test_the_closed_gradient_is_that_of_the_value(dim: int, activation: str) -> None:
    energy, x = ridges(dim, activation=activation), draw(4, 2, dim).requires_grad_()
    (slope,) = torch.autograd.grad(energy(x).sum(), x, create_graph=True)
    torch.testing.assert_close(energy.gradient(x), slope)
    energy(torch.zeros(dim, dtype=torch.float64)).backward()  # type: ignore[no-untyped-call]
    assert float(energy(torch.zeros(dim, dtype=torch.float64)).detach()) == 0.0


def test_it_is_a_perceptron_of_other_weights() -> None:
    energy, x = ridges(), draw(6, 3)
    same = PerceptronEnergy(3, 5).double()
    with torch.no_grad():
        same.operator.weight.copy_(energy.slope[:, None] * energy.operator.weight)
        same.alpha.copy_(energy.height / energy.slope)
        same.bias.copy_(energy.bias)
    torch.testing.assert_close(energy.gradient(x), same.gradient(x))
    torch.testing.assert_close(energy(x) - energy(x[:1]), same(x) - same(x[:1]))


def test_a_slope_of_nought_is_an_ordinary_point() -> None:
    """Value, gradient and the gradient by the slope pass through it."""
    energy, x = ridges(), draw(6, 3)
    values = []
    for slope in (-1e-6, 0.0, 1e-6):
        with torch.no_grad():
            energy.slope[2] = slope
        energy.zero_grad()
        energy.gradient(x).square().sum().backward()
        assert energy.slope.grad is not None
        values.append((energy(x).detach(), energy.gradient(x).detach(), energy.slope.grad[2].clone()))
    for below, at, above in zip(*values, strict=True):
        torch.testing.assert_close(at, (below + above) / 2, rtol=1e-8, atol=1e-8)
    assert float(values[1][2].abs()) > 1e-3


@pytest.mark.parametrize("activation", ["tanh", "leaky-relu"])
def test_the_hessian_is_within_its_bounds_and_near_them_for_one_ridge(activation: str) -> None:
    energy = ridges(activation=activation)
    low, high = energy.curvature()
    assert energy.certified
    values = torch.linalg.eigvalsh(sample_jacobians(energy.gradient, draw(200, 3)))
    assert float(low) - 1e-12 <= float(values.min())
    assert float(values.max()) <= float(high) + 1e-12
    single = ridges(width=1)
    low, high = single.curvature()
    with torch.no_grad():
        single.bias.zero_()
    at_0 = torch.linalg.eigvalsh(sample_jacobians(single.gradient, torch.zeros(1, 3, dtype=torch.float64)))
    attained = max(abs(float(at_0.min())), abs(float(at_0.max())))
    assert attained == pytest.approx(max(abs(float(low)), abs(float(high))), rel=1e-6)
    with torch.no_grad():
        single.slope.mul_(2)  # the bound is that of the weights as they are
    steeper = torch.linalg.eigvalsh(sample_jacobians(single.gradient, torch.zeros(1, 3, dtype=torch.float64)))
    assert max(abs(float(steeper.min())), abs(float(steeper.max()))) > 1.5 * max(abs(float(low)), abs(float(high)))


def test_one_dimension_has_no_direction_to_learn() -> None:
    assert {name for name, _ in ridges(1).named_parameters()} == {"height", "slope", "bias"}
    assert sum(parameter.numel() for parameter in ridges(1, 5).parameters()) == 15
    assert sum(parameter.numel() for parameter in ridges(3, 5).parameters()) == 30
    with seeded(2):
        energy = ridges(1)
        before = energy.gradient(draw(4, 1)).detach()
        energy.reset_parameters()
    assert not torch.allclose(before, energy.gradient(draw(4, 1)))
    assert torch.equal(energy.operator.weight, torch.ones(5, 1, dtype=torch.float64))


class NoPotential(Activation):
    slopes = (0.0, 1.0)

    def forward(self, x: Tensor) -> Tensor:
        return x


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: RidgeEnergy(0, 3), ValueError, "dim must be at least 1"),
        (lambda: RidgeEnergy(2, 3.0), TypeError, "width must be a whole number"),  # type: ignore[arg-type]
        (lambda: RidgeEnergy(2, 3, "group-mcp"), ValueError, "elementwise activation"),
        (lambda: RidgeEnergy(2, 3, NoPotential()), ValueError, r"must define potential\(\)"),
        (lambda: ridges()(draw(4, 2)), ValueError, r"state of shape \[\.\.\., 3\], got \[4, 2\]"),
        (lambda: ridges().gradient(torch.tensor(1.0)), ValueError, r"got \[\]"),
    ],
)
def test_what_is_no_energy_is_refused(make: object, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        make()  # type: ignore[operator]


class TestHamiltonianOfRidges(FieldSuite):
    def make(self) -> SeparableHamiltonian:
        with seeded(0):
            return SeparableHamiltonian(RidgeEnergy(2, 5), RidgeEnergy(2, 5))
