"""Polynomial energies: the terms, the gradient, and what they represent exactly."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from contractive_gnn.datasets.systems import HenonHeilesPotential
from contractive_gnn.dynamics import PolynomialEnergy, SeparableHamiltonian
from contractive_gnn.seeding import seeded
from contractive_gnn.testing import FieldSuite


def polynomial(dim: int = 2, degree: int = 4, scale: float = 1.5) -> PolynomialEnergy:
    with seeded(1):
        return PolynomialEnergy(dim, degree, scale=scale).double()


def draw(*shape: int) -> Tensor:
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(("dim", "degree"), [(1, 1), (1, 7), (2, 4), (3, 3)])
def test_the_closed_gradient_is_that_of_the_value(dim: int, degree: int) -> None:
    energy, x = polynomial(dim, degree), draw(4, 2, dim).requires_grad_()
    assert len(energy.coefficients) == math.comb(dim + degree, dim) - 1
    (slope,) = torch.autograd.grad(energy(x).sum(), x, create_graph=True)
    torch.testing.assert_close(energy.gradient(x), slope)
    origin = torch.zeros(dim, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(energy.gradient, origin)  # powers of 0 have derivatives
    assert float(energy(origin).detach()) == 0.0


def test_one_term_at_a_time() -> None:
    energy, x = polynomial(scale=2.0), torch.tensor([[3.0, -5.0]], dtype=torch.float64)
    found = []
    for term, (i, j) in enumerate(energy.exponents.tolist()):
        with torch.no_grad():
            energy.coefficients.zero_()
            energy.coefficients[term] = 1.0
        assert float(energy(x).detach()) == pytest.approx(1.5**i * (-2.5) ** j)
        found.append((i, j))
    assert sorted(found) == sorted((i, j) for i in range(5) for j in range(5 - i) if i + j)


def test_a_cubic_potential_is_one() -> None:
    energy, truth, x = polynomial(degree=3, scale=1.0), HenonHeilesPotential(), draw(30, 2)
    with torch.no_grad():
        columns = torch.stack([powers[0] ** i * powers[1] ** j for i, j in energy.exponents for powers in [x.T]], dim=1)
        energy.coefficients.copy_(torch.linalg.lstsq(columns, truth(x)).solution)
    torch.testing.assert_close(energy(x), truth(x), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(energy.gradient(x), truth.gradient(x), rtol=1e-12, atol=1e-12)


def test_nothing_of_its_hessian_is_claimed() -> None:
    assert polynomial().curvature() == (-math.inf, math.inf)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: PolynomialEnergy(0, 3), ValueError, "dim must be at least 1"),
        (lambda: PolynomialEnergy(2, 0), ValueError, "degree must be at least 1"),
        (lambda: PolynomialEnergy(2, 2.0), TypeError, "degree must be a whole number"),  # type: ignore[arg-type]
        (lambda: PolynomialEnergy(2, 2, scale=0.0), ValueError, "scale must be positive"),
        (lambda: polynomial()(draw(4, 3)), ValueError, r"state of shape \[\.\.\., 2\], got \[4, 3\]"),
        (lambda: polynomial().gradient(torch.tensor(1.0)), ValueError, r"got \[\]"),
    ],
)
def test_what_is_no_polynomial_is_refused(make: object, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        make()  # type: ignore[operator]


class TestHamiltonianOfPolynomials(FieldSuite):
    def make(self) -> SeparableHamiltonian:
        with seeded(0):
            return SeparableHamiltonian(PolynomialEnergy(2, 3), PolynomialEnergy(2, 3))
