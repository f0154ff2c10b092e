"""Equations on a grid: what they keep, their order, and another library's right-hand side."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from contractive_gnn.dynamics import FIELDS, VectorField
from contractive_gnn.dynamics.pdes import (
    AffineForm,
    FiniteDifferences,
    Product,
    StencilPolynomial,
    advection,
    burgers,
    fisher,
    gray_scott,
    heat,
    of_stencil,
    point,
)
from contractive_gnn.integrators import integrate
from contractive_gnn.norms import jacobian, number
from contractive_gnn.operators import Stencil
from contractive_gnn.testing import FieldSuite, verify_field

DOUBLE = torch.float64


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, dtype=DOUBLE, generator=torch.Generator().manual_seed(seed))


class TestHeat(FieldSuite):
    sharp = True
    tries = 400

    def make(self) -> VectorField:
        return FIELDS.get("heat")()


class TestHeatBetweenWalls(FieldSuite):
    tries = 400

    def make(self) -> VectorField:
        return FIELDS.get("heat-between-walls")()


class TestAdvection(FieldSuite):
    tries = 400

    def make(self) -> VectorField:
        return FIELDS.get("advection")()


class TestBurgers(FieldSuite):
    tries = 400

    def make(self) -> VectorField:
        return FIELDS.get("burgers")()


def waves(n: int, dimensions: int) -> tuple[Tensor, list[Tensor]]:
    """``Π (1 + sin(2πx_a)/3)`` on a periodic grid, and the factor of each axis."""
    x = torch.arange(n, dtype=DOUBLE) / n
    factors = []
    for axis in range(dimensions):
        shape = [1] * dimensions
        shape[axis] = n
        factors.append(x.view(shape))
    u = torch.ones([n] * dimensions, dtype=DOUBLE)
    for factor in factors:
        u = u * (1 + torch.sin(2 * math.pi * factor) / 3)
    return u, factors


def by_fourier(u: Tensor, axis: int, power: int) -> Tensor:
    """The derivative of a trigonometric polynomial, exact up to rounding."""
    n = u.size(axis)
    k = torch.fft.fftfreq(n, 1 / n, dtype=DOUBLE) * 2 * math.pi
    shape = [1] * u.dim()
    shape[axis] = n
    return torch.fft.ifft(torch.fft.fft(u, dim=axis) * (1j * k.view(shape)) ** power, dim=axis).real


@pytest.mark.parametrize("order", [2, 4, 6])
@pytest.mark.parametrize("dimensions", [1, 2])
def test_the_right_hand_sides_are_those_of_the_equations(dimensions: int, order: int) -> None:
    speed = [1.0, -2.0][:dimensions]
    errors = []
    for n in (16, 32):
        u, _ = waves(n, dimensions)
        v = u.roll(3, 0)
        first = [by_fourier(u, axis, 1) for axis in range(dimensions)]
        laplacian, other = (sum(by_fourier(w, axis, 2) for axis in range(dimensions)) for w in (u, v))
        given = {"spacing": 1 / n, "order": order}
        cases: list[tuple[StencilPolynomial, Tensor]] = [
            (heat(u.shape, alpha=0.3, **given), 0.3 * laplacian[None]),  # type: ignore[arg-type]
            (advection(u.shape, speed=speed, **given), -sum(c * d for c, d in zip(speed, first, strict=True))[None]),  # type: ignore[arg-type,index]
            (fisher(u.shape, alpha=0.3, **given), (0.3 * laplacian + u * (1 - u))[None]),  # type: ignore[arg-type]
            (burgers(u.shape, viscosity=0.3, **given), (0.3 * laplacian - u * sum(first))[None]),  # type: ignore[arg-type]
            (
                gray_scott(u.shape, diffusion=(0.3, 0.1), feed=0.04, kill=0.06, **given),  # type: ignore[arg-type]
                torch.stack(
                    [0.3 * laplacian - u * v**2 + 0.04 * (1 - u), 0.1 * other + u * v**2 - 0.1 * v]  # type: ignore[operator]
                ),
            ),
        ]
        row = []
        for equation, expected in cases:
            state = torch.stack([u, v][: equation.fields])
            row.append(float((FiniteDifferences(equation, dtype=DOUBLE)(state) - expected).abs().max()))
        errors.append(row)
    for coarse, fine in zip(*errors, strict=True):
        assert math.log2(coarse / fine) == pytest.approx(order, abs=0.35)


EQUATIONS: dict[str, Callable[[tuple[int, ...]], StencilPolynomial]] = {
    "heat": lambda size: heat(size, alpha=0.5, order=4),
    "heat behind walls": lambda size: heat(size, alpha=0.5, boundary="neumann", order=6),
    "advection": lambda size: advection(size, speed=[1.0, 0.5, 2.0][: len(size)], order=6),
    "burgers": lambda size: burgers(size, viscosity=0.0, order=4),
    "burgers with viscosity": lambda size: burgers(size, viscosity=0.1),
}


@pytest.mark.parametrize("name", EQUATIONS)
@pytest.mark.parametrize("size", [(9,), (7, 8)])
def test_they_keep_what_they_say_and_a_false_word_is_found(name: str, size: tuple[int, ...]) -> None:
    field = FiniteDifferences(EQUATIONS[name](size), dtype=DOUBLE)
    x = draw(*field.state().shape)
    value = field(x)
    scale = float(value.abs().sum())
    kept = field.conserves
    for word, defect in (("mass", value.sum()), ("norm", (value * x).sum())):
        holds = abs(float(defect)) < 1e-12 * scale
        assert holds == (word in kept), f"{name} {'keeps' if holds else 'loses'} the {word}"


MASS: dict[str, Callable[[int], StencilPolynomial]] = {
    "heat": lambda order: heat((8,), alpha=0.3, order=order),
    "heat behind walls": lambda order: heat((7, 8), alpha=0.3, spacing=(0.1, 0.07), boundary="neumann", order=order),
    "advection": lambda order: advection((7, 8), speed=[0.3, 0.7], spacing=0.07, order=order),
    "burgers": lambda order: burgers((7, 8), viscosity=0.3, spacing=0.07, order=order),
}


@pytest.mark.parametrize("name", MASS)
@pytest.mark.parametrize("order", [2, 4, 6])
def test_they_keep_what_they_say_built_in_single_precision(name: str, order: int) -> None:
    verdict = verify_field(name, lambda: FiniteDifferences(MASS[name](order), dtype=torch.float32), tries=50)
    assert verdict.word != "BROKEN"
    assert not verdict.broken


@pytest.mark.parametrize("order", [4, 6])
def test_the_mass_stays_over_ten_thousand_steps(order: int) -> None:
    """Kernels that are rounded tap by tap lose 1e-4 of it."""
    field = FiniteDifferences(heat((16,), alpha=0.3, order=order), dtype=torch.float32)
    assert field.whole is not None
    for kernel in (field.whole.kernel, field.forms.kernel):
        assert float(kernel.sum()) == 0.0
    x = 1 + torch.rand(1, 16, dtype=DOUBLE, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        single = integrate(field, x.float(), step=1.0, num_steps=10_000)
        double = integrate(field.double(), x, step=1.0, num_steps=10_000)
    assert abs(float(single.double().sum() / x.sum()) - 1) < 1e-5
    assert abs(float(double.sum() / x.sum()) - 1) < 1e-12


@pytest.mark.parametrize("order", [4, 6])
def test_in_double_precision_it_is_what_was_built_there(order: int) -> None:
    for equation in (
        heat((9,), alpha=0.3, order=order),
        fisher((9,), alpha=0.3, spacing=0.1, order=order),
        burgers((9,), viscosity=0.3, order=order),
        gray_scott((9,), order=order),
    ):
        field = FiniteDifferences(equation, dtype=torch.float32).double()
        u = field.state(generator=torch.Generator().manual_seed(0))
        assert torch.equal(field(u), FiniteDifferences(equation, dtype=DOUBLE)(u))


def test_beyond_their_hypotheses_mass_and_norm_are_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    """Dirichlet's walls let heat out, walls of either kind reflect what is carried, and so nothing is declared."""
    for equation in (
        heat((9,), alpha=1.0, boundary="dirichlet"),
        advection((9,), speed=(1.0,), boundary="neumann"),
        advection((9,), speed=(1.0,), boundary="dirichlet", order=4),
    ):
        assert equation.conserves == frozenset()
        field = FiniteDifferences(equation, dtype=DOUBLE)
        x = field.state(generator=torch.Generator().manual_seed(0))
        assert abs(float(field(x).sum())) > 1e-3
    lying = StencilPolynomial("lying", (9,), "dirichlet", 1, heat((9,), alpha=1.0).products, frozenset({"mass"}))
    with pytest.raises(ValueError, match="lying says that it conserves the mass"):
        FiniteDifferences(lying)
    monkeypatch.setattr(FiniteDifferences, "_check_conserved", lambda self: None)
    assert verify_field("lying", lambda: FiniteDifferences(lying), tries=50).word == "BROKEN"


def test_implicit_midpoint_keeps_the_norm_of_advection_and_eulers_steps_do_not() -> None:
    field = FiniteDifferences(advection((8, 8), speed=(1.0, 1.0)), dtype=DOUBLE)
    x = field.state(generator=torch.Generator().manual_seed(1))
    ends = {
        scheme: integrate(field, x, step=0.2, num_steps=50, scheme=scheme) for scheme in ("implicit-midpoint", "euler")
    }
    assert float(ends["implicit-midpoint"].norm()) == pytest.approx(float(x.norm()), rel=1e-12)
    assert float(ends["euler"].norm()) > 1.1 * float(x.norm())
    for end in ends.values():
        assert float(end.sum()) == pytest.approx(float(x.sum()), abs=1e-9)


@pytest.mark.parametrize("boundary", ["periodic", "dirichlet", "neumann", "zero"])
def test_heat_contracts_at_its_rate_and_a_longer_step_expands(boundary: str) -> None:
    field = FiniteDifferences(heat((6, 5), alpha=0.7, spacing=0.5, boundary=boundary), dtype=DOUBLE)  # type: ignore[arg-type]
    values = torch.linalg.eigvalsh(-jacobian(field, field.state()))
    assert number(field.rate()) == pytest.approx(float(values[0]), abs=1e-9)
    h = number(field.max_step())
    assert h == pytest.approx(2 / float(values[0] + values[-1]), rel=1e-9)
    for step, factor in ((h, 1.0), (1.1 * h, 1.05)):
        matrix = torch.eye(30, dtype=DOUBLE) + step * jacobian(field, field.state())
        largest = float(torch.linalg.matrix_norm(matrix, 2))
        assert largest == pytest.approx(number(field.lipschitz(step)), rel=1e-9)
        assert (largest <= 1 + 1e-9) == (factor == 1.0)


def test_the_heat_equation_of_another_library() -> None:
    pde = pytest.importorskip("pde")
    n, alpha = 12, 0.3
    u = draw(n, n + 2)
    for periodic, boundary in ((True, "periodic"), (False, "neumann")):
        grid = pde.CartesianGrid([[0, 3.0], [0, 3.5]], [n, n + 2], periodic=periodic)
        state = pde.ScalarField(grid, u.numpy())
        theirs = pde.DiffusionPDE(diffusivity=alpha).evolution_rate(state).data
        ours = FiniteDifferences(heat(u.shape, alpha=alpha, spacing=0.25, boundary=boundary), dtype=DOUBLE)(u[None])[0]  # type: ignore[arg-type]
        torch.testing.assert_close(ours, torch.as_tensor(theirs), rtol=1e-12, atol=1e-12)


def test_arguments_are_checked() -> None:
    with pytest.raises(ValueError, match="speed must be a number for each of 2 axes"):
        advection((4, 4), speed=(1.0,))
    with pytest.raises(ValueError, match="spacing must be one number, or one for each of 2 axes"):
        burgers((4, 4), viscosity=0.0, spacing=(1.0, 1.0, 1.0))
    with pytest.raises(ValueError, match="alpha must be positive"):
        heat((4,), alpha=0.0)
    with pytest.raises(ValueError, match="diffusion must be positive"):
        gray_scott((4,), diffusion=(0.0, 1.0))
    with pytest.raises(ValueError, match="odd number of taps"):
        AffineForm(torch.ones(1, 2))
    with pytest.raises(TypeError, match="real floating tensor"):
        AffineForm(torch.ones(1, 3, dtype=torch.long))
    with pytest.raises(ValueError, match="at least one factor"):
        Product(0, 1.0, ())
    with pytest.raises(ValueError, match="at least one product"):
        StencilPolynomial("none", (4,), "periodic", 1, ())
    with pytest.raises(ValueError, match="goes into field 1"):
        StencilPolynomial("far", (4,), "periodic", 1, (Product(1, 1.0, (point((4,)),)),))
    with pytest.raises(ValueError, match=r"needs kernels \[2, k₁, …\]"):
        StencilPolynomial("few", (4,), "periodic", 2, (Product(1, 1.0, (point((4,)),)),))
    with pytest.raises(ValueError, match="origin in the middle"):
        of_stencil(Stencil.gradient((4,)))
    with pytest.raises(ValueError, match=r"expected a tensor of shape \[..., 1, 4\]"):
        FiniteDifferences(heat((4,), alpha=1.0))(torch.ones(4))


@pytest.mark.parametrize(
    ("equation", "kept"),
    [
        (replace(advection((8,), speed=(1.0,)), boundary="neumann"), "norm"),
        (replace(advection((40, 40), speed=(1.0, 0.5)), boundary="neumann"), "mass"),
        (replace(heat((8,), alpha=0.5), conserves=frozenset({"norm"})), "norm"),
        (replace(heat((8,), alpha=0.5, boundary="dirichlet"), conserves=frozenset({"mass"})), "mass"),
        (replace(burgers((8,), viscosity=0.1), conserves=frozenset({"norm"})), "norm"),
    ],
)
def test_what_an_equation_does_not_keep_is_refused(equation: StencilPolynomial, kept: str) -> None:
    with pytest.raises(ValueError, match=f"says that it conserves the {kept}, which changes at the rate"):
        FiniteDifferences(replace(equation, conserves=frozenset({kept})))
    assert FiniteDifferences(replace(equation, conserves=frozenset())).certified


def test_a_field_without_values_is_built() -> None:
    with torch.device("meta"):
        assert FiniteDifferences(replace(heat((8,), alpha=0.5), conserves=frozenset({"norm"}))).constants.is_meta


def test_a_volume_is_certified_where_it_follows_from_the_norm() -> None:
    moved = advection((8,), speed=(1.0,))
    assert FiniteDifferences(moved).certified
    assert "volume" in moved.conserves
    assert not FiniteDifferences(replace(moved, conserves=frozenset({"volume"}))).certified
    with pytest.raises(ValueError, match="may conserve mass, norm, volume, symplectic, energy, got volumne"):
        replace(moved, conserves=frozenset({"volumne"}))
