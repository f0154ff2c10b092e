"""The two halves of a field: exact for polynomials, unique, and wrong where a hypothesis is missing."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from contractive_gnn.dynamics import GradientField, PerceptronEnergy, SkewField, TriangularMatrix, presnov_halves


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def polynomial(x: Tensor) -> Tensor:
    """Of degree 3, with no symmetry."""
    a, b, c = x.unbind(dim=-1)
    return torch.stack([1 + a * b**2 - c, 2 * a + b * c, a**3 - 2 * b + 0.5], dim=-1)


def test_the_halves_of_a_polynomial_are_exact() -> None:
    x = draw(20, 3)
    halves = presnov_halves(polynomial, x, nodes=2)  # exact up to degree 3
    torch.testing.assert_close(halves.gradient + halves.tangent, polynomial(x), rtol=0, atol=1e-13)
    assert float((halves.tangent * x).sum(dim=-1).abs().max()) < 1e-12
    assert halves.residual < 1e-12
    assert torch.equal(halves.skew, -halves.skew.mT)
    for point, slope in zip(x, halves.gradient, strict=True):  # the gradient is one: of the potential, by differences
        shifts = 1e-5 * torch.eye(3, dtype=torch.float64)
        up, down = (presnov_halves(polynomial, point + sign * shifts).potential for sign in (1, -1))
        torch.testing.assert_close((up - down) / 2e-5, slope, rtol=1e-6, atol=1e-7)
    assert presnov_halves(polynomial, x, nodes=1).residual > 1e-2  # too few


def test_each_half_alone_is_found_again() -> None:
    """It is unique: of a gradient nothing is left over, and of a turning field everything."""
    torch.manual_seed(0)
    gradient = GradientField(PerceptronEnergy(3, 6)).double()
    turning = SkewField(TriangularMatrix(3, 6)).double()
    x = 0.5 * draw(4, 5, 3)
    of_gradient, of_turning = presnov_halves(gradient, x, nodes=40), presnov_halves(turning, x, nodes=40)
    assert float(of_gradient.tangent.abs().max()) < 1e-8
    assert float(of_turning.gradient.abs().max()) < 1e-8
    both = presnov_halves(lambda y: gradient(y) + turning(y), x, nodes=40)
    torch.testing.assert_close(both.gradient, gradient(x).detach(), rtol=0, atol=1e-8)
    torch.testing.assert_close(both.tangent, turning(x).detach(), rtol=0, atol=1e-8)
    energy = gradient.potential(x) - gradient.potential(torch.zeros_like(x))
    torch.testing.assert_close(both.potential, energy.detach(), rtol=0, atol=1e-8)


def test_more_nodes_are_nearer() -> None:
    def waves(x: Tensor) -> Tensor:
        return (3 * x.flip(-1)).sin()

    x = draw(10, 2)
    errors = [presnov_halves(waves, x, nodes=nodes).residual for nodes in (2, 4, 8, 16)]
    assert errors[0] > 10 * errors[1] > 100 * errors[2]
    assert errors[3] < 1e-10


def test_a_field_that_is_not_smooth_on_the_rays_is_not_split() -> None:
    """A jump at ‖x‖ = 1/2: the quadrature does not see where it is, and says so."""

    def jump(x: Tensor) -> Tensor:
        return torch.where(x.norm(dim=-1, keepdim=True) > 0.5, x.flip(-1) * x.new_tensor([-1.0, 1.0]), 0 * x)

    x = torch.tensor([[1.0, 0.0]], dtype=torch.float64)
    assert presnov_halves(jump, x).residual > 1e-2


def test_the_halves_carry_no_graph_and_leave_none() -> None:
    x = draw(3, 3).requires_grad_()
    with torch.no_grad():
        halves = presnov_halves(polynomial, x)
    assert not any(part.requires_grad for part in (halves.potential, halves.gradient, halves.tangent, halves.skew))
    assert x.grad is None
    assert presnov_halves(polynomial, draw(0, 3)).residual == 0.0
    constant = presnov_halves(lambda y: torch.ones_like(y), draw(2, 3))
    torch.testing.assert_close(constant.gradient, torch.ones(2, 3, dtype=torch.float64))


def test_errors_say_what_was_expected() -> None:
    with pytest.raises(TypeError, match="the points must be a floating point tensor"):
        presnov_halves(polynomial, torch.ones(2, 3, dtype=torch.long))
    with pytest.raises(ValueError, match=r"the points must have shape \[\.\.\., d\]"):
        presnov_halves(polynomial, torch.tensor(1.0))
    with pytest.raises(ValueError, match="nodes must be at least 1"):
        presnov_halves(polynomial, draw(3), nodes=0)
    with pytest.raises(ValueError, match=r"a field has the shape of its points, \[3\], and this one \[2\]"):
        presnov_halves(lambda x: x[..., :2], draw(3))
