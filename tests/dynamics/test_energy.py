"""Energies: their gradients and the bounds of their Hessians, attained and broken."""

from __future__ import annotations

import copy
import math
import pickle

import pytest
import torch
from torch import Tensor, nn

from contractive_gnn.activations import ACTIVATIONS, Activation
from contractive_gnn.dynamics import Energy, PerceptronEnergy, QuadraticEnergy, SumEnergy
from contractive_gnn.norms import number
from contractive_gnn.testing import sample_jacobians


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


class Network(Energy):
    """A perceptron whose gradient is taken by torch."""

    dim = 3

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.net = nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 1)).double()

    def forward(self, x: Tensor) -> Tensor:
        value: Tensor = self.net(x)
        return value.squeeze(-1)


def by_hand(energy: Network, x: Tensor) -> Tensor:
    first, _, last = energy.net
    return (1 - torch.tanh(first(x)).square()) * last.weight @ first.weight


def test_a_gradient_by_torch_and_its_own_derivatives() -> None:
    energy, x = Network(), draw(4, 2, 3)
    torch.testing.assert_close(energy.gradient(x), by_hand(energy, x))
    assert torch.autograd.gradcheck(energy.gradient, x.clone().requires_grad_())
    energy.gradient(x).square().sum().backward()
    found = [parameter.grad for parameter in energy.parameters()]
    energy.zero_grad()
    by_hand(energy, x).square().sum().backward()
    for gradient, parameter in zip(found[:-1], energy.parameters(), strict=False):
        torch.testing.assert_close(gradient, parameter.grad)


def test_a_gradient_by_torch_in_every_mode() -> None:
    energy, x = Network(), draw(4, 3)
    expected = by_hand(energy, x).detach()
    with torch.no_grad():
        found = energy.gradient(x)
    assert not found.requires_grad
    torch.testing.assert_close(found, expected)
    with torch.inference_mode():
        torch.testing.assert_close(energy.gradient(x), expected)
    torch.testing.assert_close(torch.func.vmap(energy.gradient)(x), expected)
    hessians = torch.func.vmap(torch.func.jacrev(energy.gradient))(x)
    torch.testing.assert_close(hessians, sample_jacobians(energy.gradient, x))
    compiled = torch.compile(lambda y: energy.gradient(y), backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(compiled(x), expected)
    assert x.grad is None


def test_the_state_keeps_its_own_graph() -> None:
    energy, x = Network(), draw(4, 3).requires_grad_()
    (2 * energy.gradient(3 * x)).sum().backward()
    hessian = sample_jacobians(energy.gradient, 3 * x)
    torch.testing.assert_close(x.grad, 6 * hessian.sum(dim=-2))


@pytest.mark.parametrize("name", [name for name in ACTIVATIONS if not ACTIVATIONS.get(name)().group])
def test_the_closed_gradient_is_that_of_the_energy(name: str) -> None:
    energy = PerceptronEnergy(3, 6, name).double()
    x = draw(20, 3)
    torch.testing.assert_close(energy.gradient(x), Energy.gradient(energy, x))
    for twin in (copy.deepcopy(energy), pickle.loads(pickle.dumps(energy))):
        torch.testing.assert_close(twin.gradient(x), energy.gradient(x), rtol=0, atol=0)
    low, high = map(number, energy.curvature())
    values = torch.linalg.eigvalsh(sample_jacobians(energy.gradient, x))
    assert low <= float(values.min())
    assert float(values.max()) <= high


def test_the_bounds_of_the_hessian_are_attained_and_no_less_will_do() -> None:
    energy = PerceptronEnergy(2, 2).double()
    with torch.no_grad():
        energy.operator.weight.copy_(torch.tensor([[3.0, 0.0], [0.0, 3.0]]))
        energy.bias.zero_()
        energy.alpha.copy_(torch.tensor([2.0, -0.5]))
    low, high = map(number, energy.curvature())
    values = torch.linalg.eigvalsh(sample_jacobians(energy.gradient, torch.zeros(1, 2, dtype=torch.float64)))
    assert (low, high) == pytest.approx((-4.5, 18.0))
    assert (float(values.min()), float(values.max())) == pytest.approx((low, high))
    with torch.no_grad():  # weights of one sign: convex
        energy.alpha.abs_()
    assert number(energy.curvature()[0]) == 0


def test_a_quadratic_energy() -> None:
    matrix = torch.tensor([[2.0, 1.0], [0.0, -1.0]], dtype=torch.float64)
    energy, x = QuadraticEnergy(matrix), draw(5, 2)
    torch.testing.assert_close(energy(x), torch.einsum("ni,ij,nj->n", x, matrix, x) / 2)
    torch.testing.assert_close(energy.gradient(x), Energy.gradient(energy, x))
    low, high = map(number, energy.curvature())
    values = torch.linalg.eigvalsh((matrix + matrix.T) / 2)
    assert low <= float(values[0]) <= low + 1e-12
    assert high - 1e-12 <= float(values[1]) <= high
    assert not list(energy.parameters())
    assert len(list(QuadraticEnergy(nn.Parameter(matrix)).parameters())) == 1


def test_a_sum_of_energies() -> None:
    first, second = QuadraticEnergy(torch.eye(3, dtype=torch.float64)), PerceptronEnergy(3, 4).double()
    energy, x = SumEnergy(first, second, Network()), draw(5, 3)
    torch.testing.assert_close(energy.gradient(x), Energy.gradient(energy, x))
    assert tuple(map(number, energy.curvature())) == (-math.inf, math.inf)  # of the network nothing is known
    low, high = SumEnergy(first, second).curvature()
    values = torch.linalg.eigvalsh(sample_jacobians(SumEnergy(first, second).gradient, x))
    assert number(low) <= float(values.min())
    assert float(values.max()) <= number(high)
    assert energy.dim == 3


def test_parameters_are_drawn_anew_the_same_from_a_seed() -> None:
    torch.manual_seed(3)
    energy = SumEnergy(PerceptronEnergy(2, 3), PerceptronEnergy(2, 5))
    before = copy.deepcopy(energy.state_dict())
    energy.reset_parameters()
    assert any(not torch.equal(before[name], value) for name, value in energy.state_dict().items())
    torch.manual_seed(3)
    energy.reset_parameters()
    for name, value in energy.state_dict().items():
        torch.testing.assert_close(before[name], value, rtol=0, atol=0)


class Ours(Activation):
    slopes = (0.0, 1.0)

    def forward(self, d: Tensor) -> Tensor:
        return d.atan()

    def potential(self, d: Tensor) -> Tensor:
        return d * d.atan() - torch.log1p(d.square()) / 2


class NoPotential(Activation):
    slopes = (0.0, 1.0)

    def forward(self, d: Tensor) -> Tensor:
        return d.atan()


class Flat(Energy):
    def forward(self, x: Tensor) -> Tensor:
        return x


class Nowhere(Energy):
    def forward(self, x: Tensor) -> Tensor:
        return torch.zeros(x.shape[:-1], dtype=x.dtype)


def test_what_is_not_proved_is_not_certified() -> None:
    assert PerceptronEnergy(2, 3).certified
    assert not PerceptronEnergy(2, 3, Ours()).certified
    assert not SumEnergy(PerceptronEnergy(2, 3), PerceptronEnergy(2, 3, Ours())).certified


def test_what_is_no_energy_is_refused() -> None:
    with pytest.raises(ValueError, match=r"one value a sample: Flat takes \[4, 2\] to \[4\], got \[4, 2\]"):
        Flat().gradient(draw(4, 2))
    with pytest.raises(ValueError, match="the value of Nowhere does not depend on the state"):
        Nowhere().gradient(draw(4, 2))
    with pytest.raises(ValueError, match=r"NoPotential must define potential\(\)"):
        PerceptronEnergy(2, 3, NoPotential())
    with pytest.raises(ValueError, match="an elementwise activation"):
        PerceptronEnergy(2, 3, "group-huber")
    with pytest.raises(ValueError, match="must be square, got \\[2, 3\\]"):
        QuadraticEnergy(torch.zeros(2, 3))
    with pytest.raises(ValueError, match=r"expected a (state|tensor) of shape \[..., 2\], got \[4, 3\]"):
        QuadraticEnergy(torch.eye(2, dtype=torch.float64))(draw(4, 3))
    with pytest.raises(ValueError, match=r"expected a tensor of shape \[..., 2\], got \[4, 3\]"):
        PerceptronEnergy(2, 3).double()(draw(4, 3))
    with pytest.raises(ValueError, match="different lengths: 2, 3"):
        SumEnergy(PerceptronEnergy(2, 3), PerceptronEnergy(3, 3))
    with pytest.raises(ValueError, match="at least one energy"):
        SumEnergy()
    with pytest.raises(TypeError, match="a summand must be an energy"):
        SumEnergy(nn.Linear(2, 1))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="width must be at least 1"):
        PerceptronEnergy(2, 0)
    with pytest.raises(TypeError, match="dim must be a whole number"):
        PerceptronEnergy(2.0, 3)  # type: ignore[arg-type]
