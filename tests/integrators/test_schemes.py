"""Every scheme: its order on problems with a known solution, what a step keeps and does not keep, what it needs."""

import itertools
import math
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from scipy.special import ellipj, ellipk
from torch import Tensor

from contractive_gnn import integrators
from contractive_gnn.dynamics import SumField
from contractive_gnn.dynamics.field import VectorField
from contractive_gnn.dynamics.pdes import FiniteDifferences, advection, untrained_network
from contractive_gnn.integrators import (
    SCHEMES,
    Invariant,
    LieTrotter,
    LinearProjection,
    MassProjection,
    RungeKutta,
    Scheme,
    Solve,
    SphereProjection,
    Strang,
    Time,
    fixed_point,
    integrate,
    integrate_continuous,
    num_substeps,
    register_scheme,
    solver,
    trajectory,
)
from contractive_gnn.norms import jacobian
from contractive_gnn.registry import transaction


def double(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


class Function(VectorField):
    """A field given by a function, with the structure that a test says it has."""

    def __init__(
        self,
        function: Callable[[Tensor, Time], Tensor],
        *parts: "Function",
        conserves: set[Invariant] = frozenset(),  # type: ignore[assignment]
        shear: bool = False,
    ) -> None:
        super().__init__()
        self.function, self.summands = function, parts
        self.conserves, self.shear = frozenset(conserves), shear

    def forward(self, x: Tensor, t: Time = 0.0) -> Tensor:
        return self.function(x, t)

    def parts(self) -> tuple[VectorField, ...]:
        return self.summands or (self,)


def total(*parts: Function, conserves: set[Invariant] = frozenset()) -> Function:  # type: ignore[assignment]
    """The sum of its parts."""
    return Function(lambda x, t: sum(part(x, t) for part in parts), *parts, conserves=conserves)


def linear(*matrices: list[list[float]], conserves: set[Invariant] = frozenset()) -> Function:  # type: ignore[assignment]
    """``ẋ = Σ A_i x``."""

    def part(matrix: Tensor) -> Function:
        return Function(lambda x, t: (matrix.to(x) @ x.unsqueeze(-1)).squeeze(-1), conserves=conserves)

    return total(*(part(torch.tensor(a, dtype=torch.float64)) for a in matrices), conserves=conserves)


def mechanical(velocity: Callable[[Tensor], Tensor], force: Callable[[Tensor, Time], Tensor]) -> Function:
    """``q̇ = v(p)``, ``ṗ = f(q, t)``: two shears, symplectic where both are gradients."""
    kept: set[Invariant] = {"volume", "symplectic"}

    def moves_q(x: Tensor, t: Time) -> Tensor:
        q, p = x.chunk(2, dim=-1)
        return torch.cat([velocity(p), torch.zeros_like(q)], dim=-1)

    def moves_p(x: Tensor, t: Time) -> Tensor:
        q, p = x.chunk(2, dim=-1)
        return torch.cat([torch.zeros_like(p), force(q, t)], dim=-1)

    halves = (Function(part, conserves=kept, shear=True) for part in (moves_q, moves_p))
    return total(*halves, conserves={*kept, "energy"})


# ------------------------------------------------------------------------------------------------------- order

OSCILLATOR = mechanical(lambda p: p, lambda q, t: -q)
ROTATION = linear([[0.0, 2.0], [-2.0, 0.0]], [[0.0, -1.0], [1.0, 0.0]], conserves={"norm", "volume", "symplectic"})
PENDULUM = mechanical(lambda p: p, lambda q, t: -torch.sin(q))
FORCED = mechanical(lambda p: p, lambda q, t: -q + torch.sin(torch.as_tensor(2 * t, dtype=q.dtype)))
DAMPED = linear([[-0.5, 0.0], [0.0, -1.0]], [[0.0, 2.0], [-2.0, 0.0]])
EXCHANGE = linear(
    [[-1.0, 0.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 0.0]],
    [[0.0, 0.0, 0.5], [0.0, -2.0, 0.0], [0.0, 2.0, -0.5]],
    conserves={"mass"},
)


def pendulum(t: float, amplitude: float = 2.0) -> Tensor:
    """From rest at an amplitude, by Jacobi's elliptic functions."""
    m = math.sin(amplitude / 2) ** 2
    sn, cn, dn, _ = ellipj(t, m)
    cd = cn / dn
    assert t < ellipk(m)
    speed = -2 * math.sqrt(m) * (1 - m) * sn / dn**2 / math.sqrt(1 - m * cd**2)
    return double(2 * math.asin(math.sqrt(m) * cd), speed)


def forced(t: float) -> Tensor:
    """``q̈ = −q + sin 2t`` from (1, 0)."""
    return double(
        math.cos(t) + 2 / 3 * math.sin(t) - math.sin(2 * t) / 3,
        -math.sin(t) + 2 / 3 * math.cos(t) - 2 / 3 * math.cos(2 * t),
    )


def exponential(field: Function, x: Tensor) -> Callable[[float], Tensor]:
    matrix = jacobian(lambda y: field(y, 0.0), torch.zeros_like(x))
    return lambda t: torch.linalg.matrix_exp(t * matrix) @ x


PROBLEMS: dict[str, tuple[Function, Callable[[float], Tensor], float]] = {
    "oscillator": (OSCILLATOR, exponential(OSCILLATOR, double(1.0, 0.5)), 0.0),
    "rotation": (ROTATION, exponential(ROTATION, double(1.0, 0.5)), 0.0),
    "pendulum": (PENDULUM, pendulum, 0.0),
    "forced": (FORCED, forced, 0.25),
    "damped": (DAMPED, exponential(DAMPED, double(1.0, 0.5)), 0.0),
    "exchange": (EXCHANGE, exponential(EXCHANGE, double(0.6, 0.3, 0.1)), 0.0),
}


def solves(scheme: Scheme, field: Function) -> bool:
    """Whether the scheme takes the field and has its order on it: a projection, where the field keeps the invariant."""
    projected = isinstance(scheme, integrators.Projection)
    return not scheme.lacks(field) and (not projected or scheme.preserves <= field.conserves)


PAIRS = [(name, problem) for name in SCHEMES for problem in PROBLEMS if solves(solver(name), PROBLEMS[problem][0])]


@pytest.mark.parametrize(("name", "problem"), PAIRS)
def test_halving_the_step_divides_the_error_by_two_to_the_order(name: str, problem: str) -> None:
    field, exact, start = PROBLEMS[problem]
    errors = []
    for n in (40, 80):
        end = integrate(field, exact(start), step=1.0 / n, num_steps=n, scheme=name, t0=start, tolerance=1e-14)
        errors.append(float((end - exact(start + 1.0)).norm()))
    assert math.log2(errors[0] / errors[1]) == pytest.approx(solver(name).order, abs=0.15)


def test_every_scheme_meets_a_problem() -> None:
    assert {name for name, _ in PAIRS} == set(SCHEMES)
    assert {name for name, problem in PAIRS if problem == "forced"} >= {"strang", "stormer-verlet", "implicit-midpoint"}


# -------------------------------------------------------------------------------------------------- invariants


def epidemic(x: Tensor, t: Time) -> Tensor:
    infections = 3 * x[..., 0] * x[..., 1]
    return torch.stack([-infections, infections, 0 * infections], dim=-1)


def recovery(x: Tensor, t: Time) -> Tensor:
    recovered = x[..., 1].sin()
    return torch.stack([0 * recovered, -recovered, recovered], dim=-1)


SIR = total(Function(epidemic, conserves={"mass"}), Function(recovery, conserves={"mass"}), conserves={"mass"})


def turn(axis: int, inertia: float) -> Function:
    """A rotation about an axis, with the speed ``x_axis/inertia``."""
    unit = torch.eye(3, dtype=torch.float64)[axis]
    return Function(
        lambda x, t: torch.linalg.cross(x, unit.to(x).expand_as(x)) * (x[..., axis : axis + 1] / inertia),
        conserves={"norm", "volume"},
    )


RIGID = total(turn(0, 1.0), turn(1, 2.0), turn(2, 3.0), conserves={"norm", "volume"})


def along(axis: int, speed: Callable[[Tensor, Tensor], Tensor]) -> Function:
    """A speed along one axis that depends on the two others: a shear."""

    def shear(x: Tensor, t: Time) -> Tensor:
        out = torch.zeros_like(x)
        out[..., axis] = speed(x[..., (axis + 1) % 3], x[..., (axis + 2) % 3])
        return out

    return Function(shear, conserves={"volume"}, shear=True)


ABC = total(
    along(0, lambda y, z: 0.9 * torch.sin(z) + 0.7 * torch.cos(y)),
    along(1, lambda z, x: 0.8 * torch.sin(x) + 0.9 * torch.cos(z)),
    along(2, lambda x, y: 0.7 * torch.sin(y) + 0.8 * torch.cos(x)),
    conserves={"volume"},
)


def henon_heiles_force(q: Tensor, t: Time) -> Tensor:
    x, y = q[..., 0], q[..., 1]
    return torch.stack([-x - 2 * x * y, -y - x**2 + y**2], dim=-1)


HENON = mechanical(lambda p: p, henon_heiles_force)
COUPLED = Function(  # H = (1 + q²)(1 + p²)/2: no sum of a function of q and one of p
    lambda x, t: torch.stack([x[..., 1] * (1 + x[..., 0] ** 2), -x[..., 0] * (1 + x[..., 1] ** 2)], dim=-1),
    conserves={"volume", "symplectic", "energy"},
)


def drift_of_mass(step: Callable[[Tensor], Tensor], x: Tensor) -> float:
    return float((step(x).sum() - x.sum()).abs())


def drift_of_norm(step: Callable[[Tensor], Tensor], x: Tensor) -> float:
    return float((step(x).norm() - x.norm()).abs())


def change_of_volume(step: Callable[[Tensor], Tensor], x: Tensor) -> float:
    return abs(float(torch.linalg.det(jacobian(step, x))) - 1)


def change_of_form(step: Callable[[Tensor], Tensor], x: Tensor) -> float:
    """``‖MᵀJM − J‖``, the largest entry."""
    half = x.numel() // 2
    eye, zero = torch.eye(half, dtype=x.dtype), torch.zeros(half, half, dtype=x.dtype)
    form = torch.cat([torch.cat([zero, eye], dim=1), torch.cat([-eye, zero], dim=1)])
    m = jacobian(step, x)
    return float((m.T @ form @ m - form).abs().max())


STARTS: dict[str, tuple[Function, Tensor]] = {
    "sir": (SIR, double(0.7, 0.2, 0.1)),
    "rigid": (RIGID, double(1.2, -1.0, 1.4)),
    "abc": (ABC, double(0.3, 1.1, -0.4)),
    "henon": (HENON, double(0.3, -0.2, 0.1, 0.25)),
    "coupled": (COUPLED, double(0.7, -0.4)),
}
MEASURES: dict[Invariant, tuple[Callable[[Callable[[Tensor], Tensor], Tensor], float], list[str]]] = {
    "mass": (drift_of_mass, ["sir"]),
    "norm": (drift_of_norm, ["rigid"]),
    "volume": (change_of_volume, ["abc", "henon", "coupled"]),
    "symplectic": (change_of_form, ["henon", "coupled"]),
}
WITHIN: list[Scheme] = [
    *(solver(name) for name in SCHEMES),
    LieTrotter(name="rotations", inner="implicit-midpoint"),
    Strang(name="half-rotations", inner="implicit-midpoint"),
]
KEPT = [
    (scheme, invariant, where)
    for scheme in WITHIN
    for invariant, (_, fields) in MEASURES.items()
    for where in fields
    if not scheme.lacks(STARTS[where][0])
]


@pytest.mark.parametrize(("scheme", "invariant", "where"), KEPT, ids=lambda value: getattr(value, "name", value))
def test_a_step_keeps_what_it_says_and_nothing_else(scheme: Scheme, invariant: Invariant, where: str) -> None:
    field, x = STARTS[where]

    def step(y: Tensor) -> Tensor:
        return integrate(field, y, step=0.2, num_steps=1, scheme=scheme, tolerance=1e-15)

    measure, _ = MEASURES[invariant]
    worst = 0.0
    for _ in range(5):
        worst = max(worst, measure(step, x))
        x = step(x)
    if invariant in scheme.keeps(field):
        assert worst <= 1e-12
    else:
        assert worst > 1e-7


def test_each_invariant_is_kept_by_one_scheme_and_lost_by_another() -> None:
    for invariant in MEASURES:
        answers = {invariant in scheme.keeps(STARTS[where][0]) for scheme, kind, where in KEPT if kind == invariant}
        assert answers == {True, False}
    assert all("energy" not in scheme.preserves for scheme in WITHIN)


def test_a_long_orbit_keeps_norm_and_mass() -> None:
    for scheme, field, x, measure in (
        ("sphere-projection", RIGID, STARTS["rigid"][1], torch.linalg.vector_norm),
        ("implicit-midpoint", RIGID, STARTS["rigid"][1], torch.linalg.vector_norm),
        ("euler", SIR, STARTS["sir"][1], torch.sum),
    ):
        end = integrate(field, x, step=0.05, num_steps=2_000, scheme=scheme)
        assert abs(float(measure(end) - measure(x))) <= 1e-12


def test_the_energy_of_a_symplectic_orbit_stays_in_a_band_and_that_of_others_leaves_it() -> None:
    def errors(scheme: str) -> Tensor:
        states = torch.stack(list(trajectory(PENDULUM, double(1.5, 0.0), step=0.2, num_steps=4_000, scheme=scheme)))
        energy = states[:, 1] ** 2 / 2 - torch.cos(states[:, 0])
        return (energy - energy[0]).abs()

    for scheme in ("symplectic-euler", "stormer-verlet", "lie-trotter", "strang"):
        early, late = errors(scheme).chunk(2)
        assert float(late.max()) <= 1.05 * float(early.max())
    for scheme in ("euler", "heun", "rk4", "implicit-euler"):
        early, late = errors(scheme).chunk(2)
        assert float(late.max()) > 1.5 * float(early.max()) or float(early.max()) > 0.5


# ---------------------------------------------------------------------------------------------------- gradients


@pytest.mark.parametrize("name", [name for name in SCHEMES if not isinstance(solver(name), RungeKutta)])
def test_gradients_with_respect_to_the_state_the_field_the_step_and_the_time(name: str) -> None:
    def end(x: Tensor, w: Tensor, h: Tensor, t0: Tensor) -> Tensor:
        field = mechanical(lambda p: torch.tanh(p @ w), lambda q, t: -torch.sin(q @ w) * torch.cos(torch.as_tensor(t)))
        return integrate(field, x, step=h, num_steps=2, scheme=name, t0=t0)

    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, 4, dtype=torch.float64, generator=generator).requires_grad_()
    w = torch.randn(2, 2, dtype=torch.float64, generator=generator).requires_grad_()
    h, t0 = double(0.1)[0].requires_grad_(), double(0.3)[0].requires_grad_()
    assert torch.autograd.gradcheck(end, (x, w, h, t0))


@pytest.mark.parametrize("name", SCHEMES)
def test_dtype_shape_batch_and_empty_states(name: str) -> None:
    for dtype in (torch.float32, torch.float64):
        x = torch.linspace(-1, 1, 24, dtype=dtype).view(3, 2, 4)
        y = integrate(HENON, x, step=0.1, num_steps=3, scheme=name)
        assert y.shape == x.shape
        assert y.dtype == dtype
        alone = torch.stack([integrate(HENON, row, step=0.1, num_steps=3, scheme=name) for row in x[0]])
        torch.testing.assert_close(y[0], alone)
    assert integrate(HENON, torch.ones(0, 4), step=0.1, num_steps=3, scheme=name).shape == (0, 4)


# ---------------------------------------------------------------------------------------------------- structure


@pytest.mark.parametrize("name", ["lie-trotter", "strang"])
def test_a_splitting_refuses_a_field_without_parts(name: str) -> None:
    with pytest.raises(
        ValueError, match=r"two or more summands, got a plain function, which is not split; .*do: euler"
    ):
        integrate(lambda x, t: -x, double(1.0), step=0.1, num_steps=1, scheme=name)
    with pytest.raises(ValueError, match=f"{name} needs a VectorField whose parts.*got Function, which is not split"):
        trajectory(COUPLED, double(1.0, 0.0), step=0.1, num_steps=1, scheme=name)


@pytest.mark.parametrize("name", ["symplectic-euler", "stormer-verlet"])
def test_a_partitioned_scheme_refuses_a_field_without_two_shears(name: str) -> None:
    wanted = rf"{name} needs a VectorField with parts\(\) == \(the shear that moves q, the shear that moves p\)"
    for field, reason in (
        (lambda x, t: -x, "got a plain function, which has no parts"),
        (COUPLED, "got Function, which has 1 part"),
        (ABC, "got Function, which has 3 parts"),
        (DAMPED, "got Function, of which Function is no shear"),
    ):
        with pytest.raises(ValueError, match=f"{wanted}, {reason}; schemes that would do: euler"):
            integrate(field, double(1.0, 0.0, 0.0), step=0.1, num_steps=1, scheme=name)  # type: ignore[arg-type]


def test_the_schemes_named_in_a_refusal_do() -> None:
    with pytest.raises(ValueError, match="schemes that would do") as refusal:
        integrate(ABC, STARTS["abc"][1], step=0.1, num_steps=1, scheme="stormer-verlet")
    names = str(refusal.value).split("would do: ")[1].split(", ")
    assert {"strang", "lie-trotter", "rk4"} <= set(names)
    for name in names:
        integrate(ABC, STARTS["abc"][1], step=0.1, num_steps=1, scheme=name)


# ----------------------------------------------------------------------------------------------------- registry


@pytest.fixture
def _forget() -> Iterator[None]:
    class Undo(Exception):
        pass

    try:
        with transaction():
            yield
            raise Undo
    except Undo:
        pass


class ExplicitMidpoint(Scheme):
    """A scheme of a user's own."""

    name = "user-midpoint"
    order = 2

    def advance(self, field: integrators.Field, x: Tensor, t: Time, h: Time, solve: Solve) -> Tensor:
        return x + h * field(x + h / 2 * field(x, t), t + h / 2)


@pytest.mark.usefixtures("_forget")
def test_a_scheme_of_ones_own_has_a_name_and_runs() -> None:
    register_scheme(ExplicitMidpoint())
    exact = PROBLEMS["pendulum"][1]
    errors = [
        float((integrate(PENDULUM, exact(0.0), step=1 / n, num_steps=n, scheme="user-midpoint") - exact(1.0)).norm())
        for n in (40, 80)
    ]
    assert math.log2(errors[0] / errors[1]) == pytest.approx(2, abs=0.15)
    with pytest.raises(ValueError, match="user-midpoint has contractivity radius 0 in l2"):
        num_substeps(1.0, 0.1, scheme="user-midpoint", norm="l2")


@pytest.mark.usefixtures("_forget")
def test_a_taken_name_is_an_error_and_the_same_scheme_may_come_again() -> None:
    assert register_scheme(Strang()) == solver("strang")
    with pytest.raises(ValueError, match="'euler' is registered already"):
        register_scheme(RungeKutta("euler", 2, ((0.0, 0.0), (0.5, 0.0)), (0.0, 1.0), 0.0, 0.0))
    with pytest.raises(ValueError, match="is registered already"):
        SCHEMES.register("euler")(Strang())
    with pytest.raises(TypeError, match=r"expected an integrators\.Scheme"):
        register_scheme("euler")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="lower-case words joined by hyphens"):
        register_scheme(Strang(name="Mine!"))


def test_an_unknown_name_gets_the_closest_one() -> None:
    for wrong, right in (("strangs", "strang"), ("RK4", "rk4"), ("stormer_verlet", "stormer-verlet")):
        with pytest.raises(ValueError, match=f"no scheme is called '{wrong}'. Did you mean '{right}'"):
            solver(wrong)


def test_the_old_names_warn_and_work() -> None:
    with pytest.warns(DeprecationWarning, match="SCHEMES"):
        old = integrators.SOLVERS
    assert {"euler", "rk4", "implicit-euler"} <= set(old) <= set(SCHEMES)
    assert old["rk4"] is solver("rk4")
    assert "strang" not in old
    assert len(old) == len(list(old))
    with pytest.raises(KeyError):
        old["strang"]
    with pytest.raises(AttributeError, match="no attribute 'SOLVER'"):
        integrators.SOLVER  # noqa: B018
    with pytest.warns(DeprecationWarning, match="RungeKutta"):
        scheme = Scheme("midpoint", 2, ((0.0, 0.0), (0.5, 0.0)), (0.0, 1.0), 0.0, 0.0)
    assert isinstance(scheme, RungeKutta)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        RungeKutta("midpoint", 2, ((0.0, 0.0), (0.5, 0.0)), (0.0, 1.0), 0.0, 0.0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((1, ((0.0,),), (0.5,), 0.0, 0.0), "must sum to 1, got 0.5"),
        ((1, ((0.0, 0.0),), (0.5, 0.5), 0.0, 0.0), "a must be 2 rows of 2 numbers"),
        ((4, ((0.25, 0.0), (0.5, 0.25)), (0.5, 0.5), 0.0, 0.0), "an implicit scheme has one stage here, got 2"),
        ((4, ((0.0,),), (1.0,), 0.0, 0.0), "its table has order 1 by the conditions up to 4, got 4"),
        ((3, ((0.0, 0.0), (0.5, 0.0)), (0.0, 1.0), 0.0, 0.0), "its table has order 2"),
        ((0, ((0.0,),), (1.0,), 0.0, 0.0), "its table has order 1 by the conditions up to 4, got 0"),
        ((1, ((0.0,),), (math.nan,), 0.0, 0.0), "must be finite numbers"),
        ((1, ((0.0,),), (1.0,), 1.01, 1.0), "not contractive in l2 with radius 1.01"),
        ((1, ((0.0,),), (1.0,), 1.0, 1.01), "not contractive in every norm with radius 1.01"),
        ((2, ((0.5,),), (1.0,), math.inf, math.inf), "not contractive in every norm with radius inf"),
    ],
)
def test_a_table_that_does_not_hold_what_it_declares_is_refused(
    arguments: tuple[int, tuple[tuple[float, ...], ...], tuple[float, ...], float, float], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        RungeKutta("mine", *arguments)


def test_a_sub_scheme_of_a_lower_order_is_refused() -> None:
    with pytest.raises(ValueError, match="strang has order 2 and needs a sub-scheme of it, got 'euler'"):
        Strang(inner="euler")
    with pytest.raises(ValueError, match="no scheme is called 'leap'"):
        LieTrotter(inner="leap")


def test_subschemes_and_axes_make_schemes_of_their_own() -> None:
    images = torch.randn(2, 3, 4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    whole, rows = SphereProjection("rk4", dim=(-3, -2, -1)), SphereProjection("rk4")
    assert whole.order == rows.order == 4
    ends = [integrate(lambda x, t: x.roll(1, -1) + 0.1, images, step=0.1, num_steps=2, scheme=s) for s in (whole, rows)]
    sample = [torch.linalg.vector_norm(end, dim=(1, 2, 3)) for end in (*ends, images)]
    torch.testing.assert_close(sample[0], sample[2], rtol=1e-13, atol=0)
    torch.testing.assert_close(ends[1].norm(dim=-1), images.norm(dim=-1), rtol=1e-13, atol=0)
    assert not torch.allclose(ends[0].norm(dim=-1), images.norm(dim=-1))


def test_a_projection_sums_over_the_axes_that_the_field_names() -> None:
    i = torch.arange(16, dtype=torch.float64) / 16
    start = (2 + torch.sin(2 * math.pi * i)[:, None] + torch.cos(2 * math.pi * i)[None, :])[None]
    moved = FiniteDifferences(advection((16, 16), speed=(1.0, 0.5), spacing=1 / 16, order=4), dtype=torch.float64)
    exact = integrate(moved, start, step=1e-3, num_steps=200, scheme="rk4")
    errors = []
    for steps in (20, 40):
        end = integrate(moved, start, step=0.2 / steps, num_steps=steps, scheme="sphere-projection")
        assert abs(float(end.norm() / start.norm()) - 1) < 1e-14
        errors.append(float((end - exact).norm()))
    assert errors[0] / errors[1] == pytest.approx(4, rel=0.05)  # Heun's order
    for scheme in (SphereProjection(dim=(-1,)), MassProjection(dim=(-2, -1))):
        with pytest.raises(ValueError, match="would follow another equation"):
            integrate(moved, start, step=0.01, num_steps=1, scheme=scheme)
    learned = untrained_network((16, 16)).double()
    with pytest.raises(ValueError, match=r"the axes of one invariant.*dim=\(-3, -2, -1\) for images"):
        integrate(learned, start, step=0.01, num_steps=1, scheme="sphere-projection")
    end = integrate(learned, start, step=0.01, num_steps=1, scheme=SphereProjection(dim=(-3, -2, -1)))
    assert abs(float(end.norm() / start.norm()) - 1) < 1e-14


def test_a_linear_invariant_is_kept_and_the_step_is_the_nearest_one() -> None:
    scheme = LinearProjection("rk4", weights=(2.0, 1.0, -1.0))
    w = double(*scheme.weights)
    x = torch.randn(5, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    free = integrate(ABC, x, step=0.2, num_steps=1, scheme="rk4")
    kept = integrate(ABC, x, step=0.2, num_steps=1, scheme=scheme)
    assert float(((kept - x) @ w).abs().max()) <= 1e-14
    assert float(((free - x) @ w).abs().max()) > 1e-3
    along = torch.linalg.cross((kept - free), w.expand_as(free))
    assert float(along.abs().max()) <= 1e-14  # moved along w alone
    same = integrate(SIR, x, step=0.2, num_steps=1, scheme=LinearProjection(weights=(1.0, 1.0, 1.0)))
    torch.testing.assert_close(same, integrate(SIR, x, step=0.2, num_steps=1, scheme="mass-projection"))
    with pytest.raises(ValueError, match=r"3 weights need states of shape \[..., 3\], got \[2\]"):
        integrate(PENDULUM, double(1.0, 0.0), step=0.2, num_steps=1, scheme=scheme)
    with pytest.raises(ValueError, match="not all of them 0"):
        LinearProjection()
    with pytest.raises(ValueError, match="along the last axis"):
        LinearProjection(dim=(-2,), weights=(1.0,))


def test_names_and_orders() -> None:
    assert all(name == solver(name).name for name in SCHEMES)
    assert [solver(name).order for name in ("lie-trotter", "strang", "symplectic-euler", "stormer-verlet")] == [
        1, 2, 1, 2,
    ]  # fmt: skip
    assert solver("blanes-moan").order == 4
    pairs = itertools.combinations(("lie-trotter", "strang", "symplectic-euler", "stormer-verlet", "blanes-moan"), 2)
    ends = {name: integrate(PENDULUM, double(1.0, 0.3), step=0.3, num_steps=1, scheme=name) for name in SCHEMES}
    assert all(not torch.allclose(ends[one], ends[other]) for one, other in pairs)
    assert np.isfinite([float(end.norm()) for end in ends.values()]).all()


def test_a_projection_from_the_origin_is_refused_and_the_origin_stays() -> None:
    with pytest.raises(integrators.ConvergenceError, match="no point of the sphere is nearest: take a shorter step"):
        integrate(lambda x, t: -x, double(1.0, 2.0), step=1.0, num_steps=1, scheme=SphereProjection("euler"))
    zero = torch.zeros(2, dtype=torch.float64, requires_grad=True)
    end = integrate(RIGID, torch.cat([zero, zero[:1]]), step=0.1, num_steps=2, scheme="sphere-projection")
    assert torch.equal(end, torch.zeros_like(end))
    (gradient,) = torch.autograd.grad(end.sum(), zero)
    assert bool(gradient.isfinite().all())


@pytest.mark.parametrize(
    ("changed", "error", "message"),
    [
        ({"step": "0.1"}, TypeError, "step must be a number or a scalar tensor, got '0.1'"),
        ({"step": 0.0}, ValueError, "step must be positive and finite"),
        ({"step": torch.ones(2)}, ValueError, r"a scalar tensor, got shape \[2\]"),
        ({"num_steps": 2.5}, TypeError, "num_steps must be a whole number"),
        ({"num_steps": -1}, ValueError, "num_steps must be at least 0"),
        ({"x": torch.ones(2, dtype=torch.long)}, TypeError, "floating point tensor, got torch.int64"),
        ({"x": [1.0, 2.0]}, TypeError, "floating point tensor, got list"),
    ],
)
def test_what_cannot_be_integrated_is_refused(changed: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        integrate(lambda x, t: -x, **{"x": torch.ones(2), "step": 0.1, "num_steps": 2, **changed})


def broadcasting(value: Callable[[Tensor], Any]) -> Function:
    """Two shears whose value is not of the shape of the state, and their sum."""
    halves = (Function(lambda x, t: value(x), shear=True) for _ in range(2))
    return Function(lambda x, t: value(x), *halves)


@pytest.mark.parametrize("name", SCHEMES)
@pytest.mark.parametrize(
    ("value", "shape", "given"),
    [
        (lambda x: -x.squeeze(-1), (4, 1), r"\[4\]"),  # the sum is [4, 4]
        (lambda x: -x.sum(dim=-1), (4, 4), r"\[4\]"),  # the sum has the shape of the state, and is wrong
        (lambda x: -x.sum(), (4, 1), r"\[\]"),
        (lambda x: -x.unsqueeze(0), (4, 1), r"\[1, 4, 1\]"),
    ],
)
def test_a_value_that_only_broadcasts_to_the_state_is_refused(
    name: str, value: Callable[[Tensor], Tensor], shape: tuple[int, ...], given: str
) -> None:
    x = torch.rand(shape, dtype=torch.float64)
    expected = rf"of the shape of its state, {list(shape)}".replace("[", r"\[").replace("]", r"\]")
    with pytest.raises(ValueError, match=f"{expected}, got {given}"):
        integrate(broadcasting(value), x, step=0.1, num_steps=1, scheme=name)


def test_a_value_that_is_no_tensor_is_refused() -> None:
    with pytest.raises(TypeError, match=r"a tensor of the shape of its state, \[2\], got 1\.0"):
        integrate(lambda x, t: 1.0, double(1.0, 2.0), step=0.1, num_steps=1)  # type: ignore[arg-type, return-value]


def test_a_broadcasting_value_is_refused_in_a_sum_a_map_and_continuous_time() -> None:
    field = broadcasting(lambda x: -x.sum(dim=-1))
    x = torch.rand(3, 3, dtype=torch.float64)
    with pytest.raises(ValueError, match="shape of its state"):
        SumField(Function(lambda x, t: -x), field)(x)
    with pytest.raises(ValueError, match=r"the shape of the start, \[3, 3\], got \[3\]"):
        fixed_point(lambda y: 0.1 * y.sum(dim=-1), x)
    pytest.importorskip("torchdiffeq")
    with pytest.raises(ValueError, match="shape of its state"):
        integrate_continuous(field, x, total_time=1.0)


def test_the_shape_is_compared_where_a_step_is_traced_and_mapped() -> None:
    def step(x: Tensor) -> Tensor:
        return integrate(lambda y, t: -y, x, step=0.5, num_steps=2, scheme="rk4")

    x = torch.rand(5, 3, dtype=torch.float64)
    torch._dynamo.reset()
    compiled = torch.compile(step, backend="aot_eager", fullgraph=True, dynamic=True)
    torch.testing.assert_close(compiled(x), step(x))
    torch.testing.assert_close(torch.func.vmap(step)(x), step(x))

    class Layer(torch.nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return step(x)

    exported = torch.export.export(Layer(), (x,), dynamic_shapes=({0: torch.export.Dim("n")},)).module()
    torch.testing.assert_close(exported(x[:2]), step(x[:2]))
