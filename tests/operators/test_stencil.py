"""Finite differences: known eigenvalues, symbols against the transform, both boundaries in every dimension."""

import math

import pytest
import torch
from torch import Tensor

from contractive_gnn.dynamics import GradientFlow
from contractive_gnn.norms import jacobian, operator_norm
from contractive_gnn.operators import Stencil
from contractive_gnn.testing.operators import OperatorSuite

BOTH = pytest.mark.parametrize("boundary", ["periodic", "zero"])
ALL = pytest.mark.parametrize("boundary", ["periodic", "zero", "dirichlet", "neumann"])
WALLS = pytest.mark.parametrize("boundary", ["dirichlet", "neumann"])
SIZES = pytest.mark.parametrize("size", [(7,), (5, 4), (3, 4, 5)])


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def matrix(operator: Stencil) -> Tensor:
    shape = (*operator._components[0], *operator.size)
    units = torch.eye(math.prod(shape), dtype=torch.float64).view(-1, *shape)
    return operator(units).flatten(1).t()


class TestPeriodicLaplacian(OperatorSuite):
    shape = (5, 6)
    l1_factor = l2_factor = linf_factor = lower_factor = 1.0

    def make(self) -> Stencil:
        return Stencil.laplacian((5, 6), spacing=(0.5, 0.25))


class TestDirichletLaplacian(OperatorSuite):
    """Here the lower bound is not 0: Poincaré's inequality."""

    shape = (5, 4)
    l1_factor = l2_factor = linf_factor = lower_factor = 1.0

    def make(self) -> Stencil:
        return Stencil.laplacian((5, 4), spacing=0.1, boundary="zero")


class TestGradient(OperatorSuite):
    shape = (4, 5)
    l1_factor = l2_factor = linf_factor = lower_factor = 1.0

    def make(self) -> Stencil:
        return Stencil.gradient((4, 5), spacing=0.5)


class TestGradientInSpaceWithWalls(OperatorSuite):
    shape = (3, 2, 4)
    l1_factor = linf_factor = 1.0
    l2_factor = 1.5

    def make(self) -> Stencil:
        return Stencil.gradient((3, 2, 4), boundary="zero")


class TestUpwind(OperatorSuite):
    """A kernel without symmetry, on a ring; invertible."""

    shape = (9,)
    l1_factor = l2_factor = linf_factor = lower_factor = 1.0

    def make(self) -> Stencil:
        return Stencil(torch.tensor([-2.0, 0.25, 0.5, 0.25]), size=(9,), origin=(2,))


class TestLearned(OperatorSuite):
    """A kernel may be learned too; of two components here."""

    shape = (4, 4)
    l1_factor = l2_factor = linf_factor = lower_factor = 1.0

    def make(self) -> Stencil:
        return Stencil(torch.nn.Parameter(draw(2, 3, 2)), size=(4, 4))


class TestNeumannLaplacian(OperatorSuite):
    """Of order 4, in the middle of cells."""

    shape = (6, 5)
    l1_factor = l2_factor = linf_factor = lower_factor = 1.0

    def make(self) -> Stencil:
        return Stencil.laplacian((6, 5), spacing=(0.5, 0.25), boundary="neumann", order=4)


class TestDirichletLaplacianOfOrderSix(OperatorSuite):
    shape = (8,)
    l1_factor = l2_factor = linf_factor = lower_factor = 1.0

    def make(self) -> Stencil:
        return Stencil.laplacian((8,), spacing=0.1, boundary="dirichlet", order=6)


class TestGradientBehindWalls(OperatorSuite):
    """Forward differences are neither even nor odd; their squared norm is at most 4d/h²."""

    shape = (4, 5)
    l1_factor = linf_factor = 1.0
    l2_factor = 1.1

    def make(self) -> Stencil:
        return Stencil.gradient((4, 5), spacing=0.5, boundary="neumann")


class TestComponents(OperatorSuite):
    """Two components to three, learned."""

    shape = (2, 4, 4)
    l1_factor = l2_factor = linf_factor = lower_factor = 1.0

    def make(self) -> Stencil:
        return Stencil(torch.nn.Parameter(draw(3, 2, 3, 2)), size=(4, 4))


class TestComponentsBehindWalls(OperatorSuite):
    """A learned kernel without symmetry next to walls: the bound in l2 is one of two that always hold."""

    shape = (2, 5)
    l1_factor = linf_factor = 1.0
    l2_factor = 2.0

    def make(self) -> Stencil:
        return Stencil(torch.nn.Parameter(draw(1, 2, 3)), size=(5,), boundary="dirichlet", origin=(2,))


@SIZES
def test_the_periodic_laplacian_has_its_known_norm(size: tuple[int, ...]) -> None:
    h = 0.5
    operator = Stencil.laplacian(size, spacing=h, dtype=torch.float64)
    expected = sum(4 / h**2 * max(math.sin(math.pi * j / n) ** 2 for j in range(n)) for n in size)
    assert float(operator.norm_bound()) == pytest.approx(expected, rel=1e-12)
    assert float(operator.lower_bound()) == 0.0  # constants are mapped to 0
    dense = matrix(operator)
    assert torch.equal(dense, dense.t())
    assert float(torch.linalg.eigvalsh(dense)[-1]) < 1e-12


@SIZES
def test_the_laplacian_with_walls_has_its_known_spectrum(size: tuple[int, ...]) -> None:
    h = 0.25
    operator = Stencil.laplacian(size, spacing=h, boundary="zero", dtype=torch.float64)
    least = sum(4 / h**2 * math.sin(math.pi / (2 * (n + 1))) ** 2 for n in size)
    largest = sum(4 / h**2 * math.sin(math.pi * n / (2 * (n + 1))) ** 2 for n in size)
    assert float(operator.norm_bound()) == pytest.approx(largest, rel=1e-12)
    assert float(operator.lower_bound()) == pytest.approx(least, rel=1e-10)
    values = torch.linalg.svdvals(matrix(operator))
    assert [float(values[0]), float(values[-1])] == pytest.approx([largest, least], rel=1e-10)


@SIZES
def test_on_a_periodic_grid_the_gradient_is_a_root_of_the_laplacian(size: tuple[int, ...]) -> None:
    spacing = [0.5, 0.25, 2.0][: len(size)]
    gradient = Stencil.gradient(size, spacing=spacing, dtype=torch.float64)
    laplacian = Stencil.laplacian(size, spacing=spacing, dtype=torch.float64)
    u = draw(2, *size)
    assert gradient(u).shape == (2, len(size), *size)
    torch.testing.assert_close(gradient.adjoint(gradient(u)), -laplacian(u))
    assert float(gradient.norm_bound() ** 2) == pytest.approx(float(laplacian.norm_bound()), rel=1e-10)


@BOTH
def test_the_central_difference_is_skew_and_exact_on_lines(boundary: str) -> None:
    operator = Stencil.central_difference((6, 5), axis=1, spacing=0.5, boundary=boundary, dtype=torch.float64)  # type: ignore[arg-type]
    dense = matrix(operator)
    assert torch.equal(dense, -dense.t())
    line = 3.0 * 0.5 * torch.arange(5, dtype=torch.float64).expand(6, 5)
    torch.testing.assert_close(operator(line)[:, 1:-1], torch.full((6, 3), 3.0, dtype=torch.float64))
    assert not bool(Stencil.central_difference((6, 5), axis=0, dtype=torch.float64)(line).any())


@pytest.mark.parametrize("components", [None, 2])
@SIZES
def test_the_symbol_is_that_of_the_discrete_transform(size: tuple[int, ...], components: int | None) -> None:
    kernel = draw(*([] if components is None else [components]), *[3, 2, 2][: len(size)])
    operator = Stencil(kernel, size=size)
    u, axes = draw(*size, seed=1), list(range(-len(size), 0))
    transformed = torch.fft.fftn(operator(u), dim=axes)
    torch.testing.assert_close(operator.symbol() * torch.fft.fftn(u, dim=axes), transformed)


@SIZES
@ALL
def test_any_kernel_at_any_origin_stays_inside_its_bounds(size: tuple[int, ...], boundary: str) -> None:
    for seed in range(6):
        generator = torch.Generator().manual_seed(seed)
        taps = [int(torch.randint(1, n + 1, (), generator=generator)) for n in size]  # up to the whole grid
        origin = [int(torch.randint(k, (), generator=generator)) for k in taps]
        kernel = draw(*([], [3], [3, 2])[seed % 3], *taps, seed=seed)
        operator = Stencil(kernel, size=size, boundary=boundary, origin=origin)  # type: ignore[arg-type]
        dense = matrix(operator)
        values = torch.linalg.svdvals(dense)
        assert float(values[0]) <= float(operator.norm_bound()) * (1 + 1e-12)
        assert float(operator.lower_bound()) <= float(values[-1]) * (1 + 1e-12)
        if boundary == "periodic":
            assert float(operator.norm_bound()) == pytest.approx(float(values[0]), rel=1e-10)
            assert float(operator.lower_bound()) == pytest.approx(float(values[-1]), rel=1e-8)
        y = draw(*operator(draw(*operator._components[0], *size)).shape, seed=seed)
        torch.testing.assert_close(operator.adjoint(y).flatten(), dense.t() @ y.flatten())
        for norm in ("l1", "linf"):
            assert float(operator.norm_bound(norm)) == pytest.approx(float(operator_norm(dense, norm)), rel=1e-12)


@pytest.mark.parametrize("size", [(6,), (5, 4), (1, 4), (3, 4, 5)])
def test_with_walls_any_three_even_taps_have_exact_bounds(size: tuple[int, ...]) -> None:
    """Also with taps on the diagonals, as the Laplacian of nine points has them, and on a grid of one point."""
    for seed in range(5):
        kernel = draw(*[1 if n == 1 or seed == axis else 3 for axis, n in enumerate(size)], seed=seed)
        for axis in range(kernel.dim()):
            kernel = kernel + kernel.flip(axis)
        operator = Stencil(kernel, size=size, boundary="zero")
        values = torch.linalg.svdvals(matrix(operator))
        assert float(operator.norm_bound()) == pytest.approx(float(values[0]), rel=1e-10)
        assert float(operator.lower_bound()) == pytest.approx(float(values[-1]), rel=1e-8, abs=1e-12)
        assert float(operator.lower_bound()) <= float(values[-1]) * (1 + 1e-12)


def test_beyond_three_even_taps_sines_are_no_eigenvectors() -> None:
    """Where the exact case with walls ends: with five even taps the sines' values leave the spectrum."""
    kernel = torch.tensor([1.0, 0.0, -2.0, 0.0, 1.0], dtype=torch.float64)
    operator = Stencil(kernel, size=(5,), boundary="zero")
    omega = math.pi * torch.arange(1, 6, dtype=torch.float64) / 6
    symbol = (2 * torch.cos(2 * omega) - 2).abs()
    values = torch.linalg.svdvals(matrix(operator))
    assert float(symbol.min()) > 1.5 * float(values[-1])  # it would be a lower bound that is too large
    assert float(operator.lower_bound()) == 0.0
    assert float(values[0]) <= float(operator.norm_bound())
    lopsided = Stencil(torch.tensor([1.0, -2.0, 1.5], dtype=torch.float64), size=(5,), boundary="zero")
    assert float(lopsided.lower_bound()) == 0.0


@SIZES
@WALLS
def test_kernels_with_a_parity_have_exact_bounds_behind_walls(size: tuple[int, ...], boundary: str) -> None:
    """Even along some axes and odd along others; of components the same for all inputs of an output."""
    for seed in range(8):
        taps = [3 if n < 5 else 5 for n in size]
        kernel = draw(*([], [2], [2, 2])[seed % 3], *taps, seed=seed)
        odd = [seed >> axis & 1 for axis in range(len(size))]
        for axis, sign in enumerate(odd, start=-len(size)):
            kernel = kernel - kernel.flip(axis) if sign else kernel + kernel.flip(axis)
        operator = Stencil(kernel, size=size, boundary=boundary)  # type: ignore[arg-type]
        values = torch.linalg.svdvals(matrix(operator))
        assert float(values[0]) <= float(operator.norm_bound()) * (1 + 1e-12)
        if boundary == "neumann" or not any(odd):
            assert float(operator.norm_bound()) == pytest.approx(float(values[0]), rel=1e-10)
            assert float(operator.lower_bound()) == pytest.approx(float(values[-1]), rel=1e-8, abs=1e-10)
            assert float(operator.lower_bound()) <= float(values[-1]) + 1e-12
        else:
            assert float(operator.lower_bound()) == 0.0


@WALLS
def test_without_a_parity_the_symbol_at_the_waves_is_no_bound(boundary: str) -> None:
    """Where the exact case ends: next to the wall a kernel that reads one neighbour twice stretches more."""
    kernel = torch.tensor([1.0, 0.0, 0.0], dtype=torch.float64)  # u_{i−1}: its symbol has size 1 everywhere
    operator = Stencil(kernel, size=(5,), boundary=boundary)  # type: ignore[arg-type]
    values = torch.linalg.svdvals(matrix(operator))
    assert float(operator.lower_bound()) == 0.0
    assert float(values[0]) <= float(operator.norm_bound())
    if boundary == "neumann":
        assert float(values[0]) == pytest.approx(math.sqrt(2.0))  # not 1
    assert float(values[-1]) < 1e-12  # not 1


@pytest.mark.parametrize("order", [2, 4, 6])
@ALL
def test_the_differences_have_their_order(order: int, boundary: str) -> None:
    """On a wave that each boundary leaves smooth; with zeros behind the wall beyond order 2 nothing is offered."""
    if boundary == "zero" and order > 2:
        for make in (Stencil.laplacian, Stencil.central_difference):
            with pytest.raises(ValueError, match="take 'dirichlet'"):
                make((9,), boundary="zero", order=order)
        return
    errors = []
    for n in (24, 48):
        if boundary == "neumann":  # in the middle of cells
            h = 1 / n
            x = (torch.arange(n, dtype=torch.float64) + 0.5) * h
        elif boundary == "periodic":
            h = 1 / n
            x = torch.arange(n, dtype=torch.float64) * h
        else:
            h = 1 / (n + 1)
            x = torch.arange(1, n + 1, dtype=torch.float64) * h
        omega = 2 * math.pi
        wave, slope = (torch.cos, -omega * torch.sin(omega * x)) if boundary == "neumann" else (
            torch.sin, omega * torch.cos(omega * x)
        )  # fmt: skip
        given = {"spacing": h, "boundary": boundary, "order": order, "dtype": torch.float64}
        u = wave(omega * x).expand(7, n)
        laplacian = Stencil.laplacian((n,), **given)  # type: ignore[arg-type]
        derivative = Stencil.central_difference((7, n), axis=1, **given)  # type: ignore[arg-type]
        errors.append(
            [
                float((laplacian(u[0]) + omega**2 * u[0]).abs().max()),
                float((derivative(u) - slope).abs().max()),
            ]
        )
    ratio = (48 / 24) if boundary != "zero" and boundary != "dirichlet" else 49 / 25
    for coarse, fine in zip(*errors, strict=True):
        assert math.log(coarse / fine) / math.log(ratio) == pytest.approx(order, abs=0.06)


def test_walls_that_reflect_keep_the_mass_or_the_value() -> None:
    """Neumann's Laplacian of any order has columns of sum 0; Dirichlet's with three taps is that of zeros."""
    for order in (2, 4, 6):
        dense = matrix(Stencil.laplacian((8,), boundary="neumann", order=order, dtype=torch.float64))
        assert float(dense.sum(dim=0).abs().max()) < 1e-14
        torch.testing.assert_close(dense, dense.t(), rtol=0, atol=0)
    pair = [Stencil.laplacian((4, 5), boundary=wall, dtype=torch.float64) for wall in ("zero", "dirichlet")]  # type: ignore[arg-type]
    assert torch.equal(matrix(pair[0]), matrix(pair[1]))
    assert float(pair[0].norm_bound()) == pytest.approx(float(pair[1].norm_bound()))
    gradient = Stencil.gradient((4, 5), boundary="neumann", dtype=torch.float64)
    u = draw(4, 5)
    laplacian = Stencil.laplacian((4, 5), boundary="neumann", dtype=torch.float64)
    torch.testing.assert_close(gradient.adjoint(gradient(u)), -laplacian(u))


@BOTH
def test_the_gradient_flow_of_the_gradient_is_the_heat_equation(boundary: str) -> None:
    """Its largest step is the known one, h²/(2d): at it nothing grows, and 1.01 times it a wave does."""
    spacing = 0.5
    gradient = Stencil.gradient((6, 4), spacing=spacing, boundary=boundary, dtype=torch.float64)  # type: ignore[arg-type]
    heat = GradientFlow(gradient, "identity")
    u = heat.state(generator=torch.Generator().manual_seed(0))
    if boundary == "periodic":
        torch.testing.assert_close(heat(u), Stencil.laplacian((6, 4), spacing=spacing, dtype=torch.float64)(u))
    assert heat.certified
    assert float(heat.rate()) == 0.0
    step, known = float(heat.max_step()), spacing**2 / 4
    assert step == pytest.approx(known, rel=1e-9) if boundary == "periodic" else step >= known * (1 - 1e-9)
    if boundary == "periodic":
        wave = torch.tensor([1.0, -1.0], dtype=torch.float64).repeat(3).unsqueeze(1)
        wave = wave * torch.tensor([1.0, -1.0], dtype=torch.float64).repeat(2)
        assert float((wave + step * heat(wave)).norm()) <= float(wave.norm()) * (1 + 1e-9)
        assert float((wave + 1.01 * step * heat(wave)).norm()) > 1.01 * float(wave.norm())


def test_a_lower_bound_of_the_stencil_is_a_rate_of_its_flow() -> None:
    """−Δ²u with walls contracts at λ_min², and no faster."""
    flow = GradientFlow(Stencil.laplacian((4, 3), boundary="zero", dtype=torch.float64), "identity")
    values = torch.linalg.eigvalsh(-jacobian(flow, torch.zeros(4, 3, dtype=torch.float64)))
    assert float(flow.rate()) == pytest.approx(float(values[0]), rel=1e-9)
    assert float(flow.rate()) <= float(values[0])
    assert float(flow.max_step()) == pytest.approx(2 / float(values[0] + values[-1]), rel=1e-9)


def test_arguments_are_checked() -> None:
    with pytest.raises(ValueError, match="size must be one, two or three numbers"):
        Stencil(torch.ones(1, 1, 1, 1), size=(2, 2, 2, 2))
    with pytest.raises(ValueError, match=r"a grid of 2 dimensions takes a kernel .* got shape \[3\]"):
        Stencil(torch.ones(3), size=(4, 4))
    with pytest.raises(ValueError, match=r"the kernel \[3\] is larger than the grid \[2\]"):
        Stencil.laplacian((2,))
    with pytest.raises(ValueError, match=r"boundary must be 'periodic', 'zero', 'dirichlet' or 'neumann', got 'robin'"):
        Stencil(torch.ones(3), size=(4,), boundary="robin")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="origin must be an index into each axis"):
        Stencil(torch.ones(3), size=(4,), origin=(3,))
    with pytest.raises(ValueError, match="spacing must be positive"):
        Stencil.laplacian((4,), spacing=0.0)
    with pytest.raises(ValueError, match="one for each of 2 axes"):
        Stencil.laplacian((4, 4), spacing=(1.0, 1.0, 1.0))
    with pytest.raises(ValueError, match="axis must be below 1"):
        Stencil.central_difference((4,), axis=1)
    with pytest.raises(ValueError, match=r"expected a tensor of shape \[..., 4, 4\], got \[4, 5\]"):
        Stencil.laplacian((4, 4))(torch.ones(4, 5))
    with pytest.raises(ValueError, match=r"expected a tensor of shape \[..., 2, 4, 4\], got \[4, 4\]"):
        Stencil.gradient((4, 4)).adjoint(torch.ones(4, 4))
    with pytest.raises(ValueError, match="order must be one of 2, 4, 6, got 3"):
        Stencil.laplacian((9,), order=3)
    with pytest.raises(ValueError, match=r"expected a tensor of shape \[..., 2, 4\], got \[3, 4\]"):
        Stencil(torch.ones(1, 2, 3), size=(4,))(torch.ones(3, 4))
    with pytest.raises(TypeError, match="real floating tensor"):
        Stencil(torch.ones(3, dtype=torch.long), size=(4,))


def test_an_origin_that_is_no_index_is_refused() -> None:
    kernel = torch.ones(3)
    for wrong in (1, (0, 1), (3,)):
        with pytest.raises(ValueError, match="origin must be an index into each axis"):
            Stencil(kernel, size=(5,), origin=wrong)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="origin must be a whole number"):
        Stencil(kernel, size=(5,), origin=(1.7,))  # type: ignore[arg-type]
