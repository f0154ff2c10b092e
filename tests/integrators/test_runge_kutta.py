"""Runge–Kutta: order on problems with known answers, contractivity at the declared radius and expansion beyond it."""

import math
import sys
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from contractive_gnn.dynamics import Diffusion, GraphGradientFlow
from contractive_gnn.graph import Graph
from contractive_gnn.integrators import (
    SCHEMES,
    ConvergenceError,
    Field,
    RungeKutta,
    Time,
    contraction_factor,
    integrate,
    integrate_continuous,
    num_substeps,
    solver,
    trajectory,
)
from contractive_gnn.norms import lipschitz_adversarial, lipschitz_sampled, vector_norm

SOLVERS = {name: scheme for name in SCHEMES if isinstance(scheme := solver(name), RungeKutta)}
EXPLICIT = [name for name, scheme in SOLVERS.items() if scheme.explicit]
SSP = [name for name in EXPLICIT if SOLVERS[name].monotonicity_radius > 0]


def double(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


# ------------------------------------------------------------------------------------------------- the table


def circle_radius(scheme: RungeKutta) -> float:
    """The largest r with ``BA + AᵀB − bbᵀ + B/r ⪰ 0`` (Dahlquist and Jeltsch 1979)."""
    a, b = np.array(scheme.a), np.array(scheme.b)
    root = np.diag(b**-0.5)
    m = np.diag(b) @ a + a.T @ np.diag(b) - np.outer(b, b)
    lowest = np.linalg.eigvalsh(root @ m @ root)[0]
    return math.inf if lowest >= -1e-12 else -1.0 / lowest


def absolutely_monotonic(scheme: RungeKutta, r: float) -> bool:
    """Kraaijevanger's condition: ``A(I + rA)⁻¹ ≥ 0`` and ``r A(I + rA)⁻¹ 1 ≤ 1``, with ``bᵀ`` as a last row."""
    s = len(scheme.b)
    k = np.zeros((s + 1, s + 1))
    k[:s, :s], k[s, :s] = scheme.a, scheme.b
    inverse = np.linalg.inv(np.eye(s + 1) + r * k)
    return bool((k @ inverse >= -1e-12).all() and (r * k @ inverse @ np.ones(s + 1) <= 1 + 1e-12).all())


@pytest.mark.parametrize("scheme", SOLVERS.values(), ids=SOLVERS)
def test_the_declared_radii_are_those_of_the_tableau(scheme: RungeKutta) -> None:
    assert circle_radius(scheme) == pytest.approx(scheme.circle_radius)
    r = scheme.monotonicity_radius
    if math.isinf(r):
        assert all(absolutely_monotonic(scheme, value) for value in (1.0, 1e3, 1e6))
    else:
        assert r == 0 or absolutely_monotonic(scheme, r)
        assert not absolutely_monotonic(scheme, r + 1e-3)
    assert scheme.radius("l2-degree") == scheme.circle_radius
    assert scheme.radius("vec-l1") == scheme.radius("linf") == r


@pytest.mark.parametrize("scheme", SOLVERS.values(), ids=SOLVERS)
def test_the_order_conditions_hold(scheme: RungeKutta) -> None:
    a, b, c = np.array(scheme.a), np.array(scheme.b), np.array(scheme.c)
    conditions = [
        [(b.sum(), 1)],
        [(b @ c, 1 / 2)],
        [(b @ c**2, 1 / 3), (b @ a @ c, 1 / 6)],
        [(b @ c**3, 1 / 4), (b * c @ a @ c, 1 / 8), (b @ a @ c**2, 1 / 12), (b @ a @ a @ c, 1 / 24)],
    ]
    holds = [all(math.isclose(left, right) for left, right in group) for group in conditions]
    assert holds == [True] * scheme.order + [False] * (4 - scheme.order)


# ------------------------------------------------------------------------------------------------ convergence


def decay(x: Tensor, t: Time) -> Tensor:
    """``ẋ = −2t x²``: nonlinear, depends on time; ``x = 1/(1 + t²)`` from ``x(0) = 1``."""
    return -2 * t * x**2


def spiral(x: Tensor, t: Time) -> Tensor:
    """A damped oscillator; its flow is a matrix exponential."""
    return torch.tensor([[-0.5, 2.0], [-2.0, -0.5]], dtype=x.dtype) @ x


PROBLEMS: dict[str, tuple[Field, Tensor, float, Tensor]] = {
    "decay": (decay, double(0.8), 0.5, double(1 / (1 + 1.5**2))),
    "spiral": (
        spiral,
        double(1.0, 0.0),
        0.0,
        math.exp(-0.5) * double(math.cos(2.0), -math.sin(2.0)),
    ),
}


@pytest.mark.parametrize("problem", PROBLEMS)
@pytest.mark.parametrize("scheme", SOLVERS)
def test_the_order_of_convergence(problem: str, scheme: str) -> None:
    field, x, start, exact = PROBLEMS[problem]
    errors = [
        float((integrate(field, x, step=1.0 / n, num_steps=n, scheme=scheme, t0=start) - exact).abs().max())
        for n in (40, 80)
    ]
    assert math.log2(errors[0] / errors[1]) == pytest.approx(SOLVERS[scheme].order, abs=0.15)


@pytest.mark.parametrize("problem", PROBLEMS)
def test_the_continuous_model_reaches_the_known_answer(problem: str) -> None:
    pytest.importorskip("torchdiffeq", reason="the continuous-time model needs torchdiffeq")
    field, x, start, exact = PROBLEMS[problem]
    torch.testing.assert_close(integrate_continuous(field, x, total_time=1.0, t0=start), exact, rtol=1e-5, atol=1e-6)


def test_without_torchdiffeq_the_error_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torchdiffeq", None)
    with pytest.raises(ImportError, match=r"needs torchdiffeq, .* pip install 'contractive-gnn\[ode\]'"):
        integrate_continuous(spiral, double(1.0, 0.0), total_time=1.0)


@pytest.mark.parametrize("scheme", SOLVERS)
def test_gradients_with_respect_to_the_state_the_field_the_step_and_the_time(scheme: str) -> None:
    def end(x: Tensor, w: Tensor, h: Tensor, t0: Tensor) -> Tensor:
        return integrate(
            lambda y, t: -torch.tanh(y @ w) - torch.sin(t * y) * torch.as_tensor(t),
            x,
            step=h,
            num_steps=2,
            scheme=scheme,
            t0=t0,
            tolerance=1e-14,
        )

    generator = torch.Generator().manual_seed(0)
    x, w = (torch.randn(2, 2, dtype=torch.float64, generator=generator).requires_grad_() for _ in range(2))
    h, t0 = double(0.1)[0].requires_grad_(), double(0.3)[0].requires_grad_()
    assert torch.autograd.gradcheck(end, (x, w, h, t0))


def test_the_trajectory_ends_where_the_integral_does() -> None:
    states = list(trajectory(spiral, double(1.0, 0.0), step=0.1, num_steps=5, scheme="ssprk3"))
    assert len(states) == 6
    torch.testing.assert_close(states[0], double(1.0, 0.0))
    torch.testing.assert_close(states[-1], integrate(spiral, states[0], step=0.1, num_steps=5, scheme="ssprk3"))
    assert integrate(spiral, states[0], step=0.1, num_steps=0) is states[0]


@pytest.mark.parametrize("scheme", SOLVERS)
def test_dtype_shape_and_empty_states(scheme: str) -> None:
    for x in (torch.ones(3, 2), torch.ones(3, 2, dtype=torch.float64), torch.ones(0, 2)):
        y = integrate(lambda x, t: -x, x, step=0.5, num_steps=3, scheme=scheme)
        assert y.shape == x.shape
        assert y.dtype == x.dtype
        torch.testing.assert_close(y, x * SOLVERS[scheme].stability(-0.5) ** 3, rtol=1e-4, atol=1e-5)


# --------------------------------------------------------------------------------------- contractivity: it holds


def random_graph(n: int, generator: torch.Generator) -> Graph:
    upper = torch.triu(torch.rand(n, n, generator=generator) < 0.5, diagonal=1).nonzero().T
    weight = torch.rand(upper.size(1), dtype=torch.float64, generator=generator) * 3
    return Graph(torch.cat([upper, upper.flip(0)], dim=1), torch.cat([weight, weight]), n)


def one_step(field: Field, scheme: str, h: float, limit: float) -> Callable[[Tensor], Tensor]:
    return lambda x: integrate(field, x, step=h, num_steps=1, scheme=scheme, max_euler_step=limit, tolerance=1e-9)


def assert_contracts(step: Callable[[Tensor], Tensor], norm: str, bound: float, scheme: str, seed: int) -> None:
    x = torch.zeros(6, 2, dtype=torch.float64)
    # The shortest pairs are 0.01 apart, so an implicit step's tolerance may show up a hundredfold.
    bound += 1e-9 if SOLVERS[scheme].explicit else 2e-6
    assert lipschitz_sampled(step, x, norm=norm, samples=20, seed=seed).value <= bound
    assert lipschitz_adversarial(step, x, norm=norm, restarts=1, steps=10, seed=seed).value <= bound


@pytest.mark.parametrize("scheme", [*SSP, "implicit-euler", "implicit-midpoint"])
@settings(deadline=None, max_examples=8)
@given(seed=st.integers(0, 2**31), mu=st.sampled_from([0.0, 0.5]))
def test_the_diffusion_contracts_in_the_max_norm_at_the_radius(scheme: str, seed: int, mu: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    graph, flow = random_graph(6, generator), Diffusion(activation="huber", mu=mu, threshold=0.5)
    limit = flow.max_step(graph)
    h = min(SOLVERS[scheme].radius("linf"), 2.0) * limit
    bound = contraction_factor(h, flow.rate(graph), max_euler_step=limit, scheme=scheme, norm="linf")
    assert_contracts(one_step(lambda x, t: flow.field(x, graph), scheme, h, limit), "linf", bound, scheme, seed)


@pytest.mark.parametrize("scheme", SOLVERS)
@settings(deadline=None, max_examples=8)
@given(seed=st.integers(0, 2**31), mu=st.sampled_from([0.0, 0.5]))
def test_the_gradient_flow_contracts_in_l2_at_the_radius(scheme: str, seed: int, mu: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    graph = random_graph(6, generator)
    flow = GraphGradientFlow(2, activation="tanh", mu=mu, normalization="none").double()
    limit = float(flow.max_step(graph).detach())
    h = min(SOLVERS[scheme].radius("l2"), 2.0) * limit
    bound = contraction_factor(h, mu, max_euler_step=limit, scheme=scheme, norm="l2")
    assert_contracts(one_step(lambda x, t: flow.field(x, graph), scheme, h, limit), "l2", bound, scheme, seed)


@pytest.mark.parametrize("scheme", EXPLICIT)
def test_linear_fields_in_the_disc_contract_at_the_radius(scheme: str) -> None:
    """``ẋ = λx`` with ``|1 + λ| = 1``: Euler is an isometry at step 1."""
    for theta in torch.linspace(0, 2 * math.pi, 49, dtype=torch.float64):
        turn = torch.polar(double(1.0)[0], theta) - 1
        x = torch.ones((), dtype=torch.complex128)
        moved = integrate(lambda x, t, turn=turn: turn * x, x, step=1.0, num_steps=1, scheme=scheme)
        assert float(moved.abs()) <= 1 + 1e-12


# ------------------------------------------------------------------------------------- contractivity: it breaks


@pytest.mark.parametrize("scheme", SSP)
def test_the_upwind_chain_expands_in_the_max_norm_beyond_the_radius(scheme: str) -> None:
    """``ẋ_i = x_{i−1} − x_i``: Euler is non-expansive up to step 1, and no scheme here is at 1.05."""
    chain = torch.diag(torch.ones(8, dtype=torch.float64), -1) - torch.eye(9, dtype=torch.float64)
    x = torch.zeros(9, dtype=torch.float64)
    for h, low, high in ((1.0, 0.0, 1.0), (1.05, 1.001, 2.0)):
        step = one_step(lambda x, t: chain @ x, scheme, h, 1.0)
        for norm in ("linf", "l1"):
            assert low <= lipschitz_adversarial(step, x, norm=norm).value <= high + 1e-9


def switching_field(scheme: RungeKutta, h: float) -> tuple[Field, Tensor]:
    """A nonlinear field on R³ that turns (u, v) one way at some stages and the other way at the others.

    ``s' = −s/2`` is a clock that every stage reads a different value from; ``w = u + iv`` follows ``w' = Λ(s) w`` with
    ``|1 + Λ| < 1``. Where ``|w|`` is small enough against the margin, Euler is non-expansive at step 1. The angles are
    those of the eigenvector of ``B^-½ M B^-½`` with the lowest eigenvalue, the direction in which Dahlquist and
    Jeltsch's condition is tight.
    """
    a, b = np.array(scheme.a), np.array(scheme.b)
    root = np.diag(b**-0.5)
    m = np.diag(b) @ a + a.T @ np.diag(b) - np.outer(b, b)
    turn = root @ np.linalg.eigh(root @ m @ root)[1][:, 0]
    clock: list[float] = []
    for row in a:
        clock.append(1.0 + h * sum(w * -s / 2 for w, s in zip(row, clock, strict=False)))
    order = np.argsort(clock)
    angle = 0.3 * turn / np.abs(turn).max()

    def field(x: Tensor, t: Time) -> Tensor:
        theta = float(np.interp(float(x[0]), np.array(clock)[order], angle[order]))
        rotation = 0.999 * (complex(math.cos(theta), math.sin(theta)) - 1) - 5e-4
        w = rotation * complex(float(x[1]), float(x[2]))
        return double(float(-x[0] / 2), w.real, w.imag)

    return field, double(1.0, 0.0, 0.0)


@pytest.mark.parametrize("scheme", [name for name in EXPLICIT if name != "ssprk2"])
def test_a_nonlinear_field_expands_in_l2_beyond_the_circle_radius(scheme: str) -> None:
    h = 1.3
    field, x = switching_field(SOLVERS[scheme], h)
    generator = torch.Generator().manual_seed(0)
    for _ in range(300):  # Euler at its step, over the cylinder |w| ≤ 1e-4
        y, z = torch.rand(2, 3, dtype=torch.float64, generator=generator) * double(1.0, 7e-5, 7e-5)
        moved = y + field(y, 0.0) - z - field(z, 0.0)
        assert float(moved.norm()) <= float((y - z).norm())
    step = one_step(field, scheme, h, 1.0)
    near = x + double(0.0, 1e-5, 0.0)
    assert float((step(near) - step(x)).norm()) > (1 + 1e-3) * float((near - x).norm())


def ramp(z: Tensor, centre: float, half: float) -> Tensor:
    """A monotone function with slope 1 within ``half`` of ``centre`` and slope 0 elsewhere; 0 on the left."""
    return (z - centre).clamp(-half, half) + half


def pulling_field(h: float) -> tuple[Field, Tensor, Tensor]:
    """Four nodes l, i, j, m with monotone edges that are active at one stage of RK4 each: j → i, m → i, i → l.

    ``x_i' = σ₁(x_j − x_i) + σ₂(x_m − x_i)``, ``x_l' = σ₃(x_i − x_l)``, slopes in [0, 1]: a diffusion as
    contractive_gnn.dynamics.Diffusion is, non-expansive in ℓ∞ under Euler up to step 1/2. With σ₁ active at stage 1
    alone, σ₂ at stage 2 and σ₃ at stage 3, x_l's dependence on x_j is ``(h/3)(h²/4)·(−1)``: negative.
    """
    wide, narrow = h / 8, h * h / 32
    second = h / 2  # x_i starts at 0 and moves with speed 1
    third = second * (1 - wide - wide)
    x_j, x_m = 10.0, 20.0

    def field(x: Tensor, t: Time) -> Tensor:
        x_l, i, j, m = x
        # x_j − x_i falls from 10 and is beyond the ramp at stage 2, x_m − x_i comes into its ramp there.
        pull = ramp(j - i, x_j, wide) + ramp(m - i, x_m - second, wide) + (1 - 3 * wide)
        reach = ramp(i - x_l, third - h * narrow, narrow)  # x_l has moved by h/2 · 2·narrow
        return torch.stack([reach, pull, 0 * j, 0 * m])

    return field, double(0.0, 0.0, x_j, x_m), double(1.0, 1.0, -1.0, 1.0) * h * h / 400


def flowing_field(h: float) -> tuple[Field, Tensor, Tensor]:
    """Four compartments: j flows into i, i into m and l, at monotone rates; non-expansive in ℓ1 up to step 1/2."""
    wide, narrow = h / 8, h * h / 32
    second = h / 2
    third = second * (1 - 2 * wide - 2 * narrow)

    def field(x: Tensor, t: Time) -> Tensor:
        _, i, j, _ = x
        into = ramp(j, 0.0, wide) + (1 - wide)
        onward, out = ramp(i, second, wide), ramp(i, third, narrow)
        return torch.stack([out, into - onward - out, -into, onward])

    return field, double(0.0, 0.0, 0.0, 0.0), double(0.0, 0.0, 1.0, 0.0) * h * h / 400


@pytest.mark.parametrize("h", [0.5, 0.2, 0.05])
@pytest.mark.parametrize(("build", "norm"), [(pulling_field, "linf"), (flowing_field, "l1")])
def test_rk4_expands_in_linf_and_l1_with_every_step(
    build: Callable[[float], tuple[Field, Tensor, Tensor]], norm: str, h: float
) -> None:
    """Radius 0: a field, non-expansive under Euler up to 1/2, that one RK4 step of any h expands by ``1 + h³/6``."""
    field, x, change = build(h)
    euler = one_step(field, "euler", 0.5, 0.5)
    assert lipschitz_sampled(euler, x, norm=norm, spread=h, samples=200).value <= 1 + 1e-9
    assert lipschitz_adversarial(euler, x, norm=norm, spread=h, restarts=2, steps=30).value <= 1 + 1e-9
    for scheme in EXPLICIT:
        step = one_step(field, scheme, h, 0.5)
        moved = vector_norm(step(x + change) - step(x), norm) / vector_norm(change, norm)
        if scheme == "rk4":
            assert float(moved) == pytest.approx(1 + h**3 / 6, rel=1e-8)
        else:
            assert float(moved) <= 1 + 1e-9


def test_implicit_euler_contracts_with_any_step_where_explicit_schemes_explode() -> None:
    def stiff(x: Tensor, t: Time) -> Tensor:
        return double(-1.0, -100.0) * x

    x, limit = double(1.0, 1.0), 2 / 100
    y = integrate(
        stiff, x, step=10.0, num_steps=1, scheme="implicit-euler", max_euler_step=limit, max_iterations=20_000
    )
    torch.testing.assert_close(y, double(1 / 11, 1 / 1001), rtol=1e-9, atol=1e-9)
    assert float(integrate(stiff, x, step=10.0, num_steps=1, scheme="rk4").abs().max()) > 1e3
    assert contraction_factor(10.0, 1.0, max_euler_step=limit, scheme="implicit-euler", norm="l1") == 1 / 11


def test_an_unsolved_implicit_step_is_an_error() -> None:
    with pytest.raises(ConvergenceError, match="pass max_euler_step"):
        integrate(lambda x, t: -3 * x, double(1.0), step=1.0, num_steps=1, scheme="implicit-euler")
    with pytest.raises(ConvergenceError, match="more than 1e-12; raise max_iterations or tolerance"):
        integrate(
            lambda x, t: -3 * x, double(1.0), step=100.0, num_steps=1, scheme="implicit-euler", max_euler_step=0.3,
            tolerance=1e-12, max_iterations=5,
        )  # fmt: skip


# --------------------------------------------------------------------------------------------- steps and factors


@settings(deadline=None)
@given(total=st.floats(1e-3, 1e3), limit=st.floats(1e-2, 1e2), scheme=st.sampled_from(EXPLICIT))
def test_substeps_are_short_enough_and_no_more_than_needed(total: float, limit: float, scheme: str) -> None:
    n = num_substeps(total, limit, scheme=scheme, norm="l2")
    assert total / n <= limit
    assert n == 1 or total / (n - 1) > limit * (1 - 1e-12)


def test_substeps_of_a_field() -> None:
    graph = random_graph(5, torch.Generator().manual_seed(0))
    flow = GraphGradientFlow(2, mu=0.1)
    n = num_substeps(3.0, flow.max_step(graph), scheme="rk4", norm=flow.norm)
    assert 3.0 / n <= float(flow.max_step(graph).detach()) < 3.0 / (n - 1)
    assert num_substeps(1e6, 1e-3, scheme="implicit-euler", norm="linf") == 1
    assert num_substeps(0.3, 0.1, scheme="euler", norm="l2") in (3, 4)


def test_contraction_factors() -> None:
    for scheme, expected in {"euler": 0.8, "ssprk2": 0.82, "heun": 0.82, "ssprk3": 1 - 0.2 + 0.02 - 0.008 / 6}.items():
        for norm in ("l1", "l2", "linf"):
            assert contraction_factor(0.5, 0.4, max_euler_step=0.5, scheme=scheme, norm=norm) == pytest.approx(expected)
    assert contraction_factor(0.5, 0.4, max_euler_step=0.5, scheme="rk4", norm="l2") == 1.0
    assert contraction_factor(2.0, -0.4, max_euler_step=0.1, scheme="implicit-euler", norm="l2") == pytest.approx(5.0)


def test_errors_say_what_was_expected() -> None:
    x = double(1.0)
    with pytest.raises(ValueError, match="no scheme is called 'leapfrog'"):
        integrate(spiral, x, step=0.1, num_steps=1, scheme="leapfrog")
    with pytest.raises(ValueError, match="num_steps must be at least 0, got -1"):
        integrate(spiral, x, step=0.1, num_steps=-1)
    with pytest.raises(ValueError, match="step must be positive and finite, got 0"):
        integrate(spiral, x, step=0.0, num_steps=1)
    with pytest.raises(ValueError, match=r"a scalar tensor, got shape \[2\]"):
        integrate(spiral, x, step=torch.ones(2), num_steps=1)
    with pytest.raises(ValueError, match="max_euler_step must be positive"):
        integrate(spiral, x, step=0.1, num_steps=1, max_euler_step=0.0)
    with pytest.raises(ValueError, match="total_time must be a positive finite number"):
        integrate_continuous(spiral, x, total_time=-1.0)
    with pytest.raises(
        ValueError, match=r"rk4 has contractivity radius 0 in linf.*use one of euler, heun, ssprk2, ssprk3"
    ):
        num_substeps(1.0, 0.1, scheme="rk4", norm="linf")
    with pytest.raises(ValueError, match="the field has no contractive Euler step"):
        num_substeps(1.0, torch.tensor(0.0), scheme="euler", norm="l2")
    with pytest.raises(ValueError, match="total_time must be a positive finite number"):
        num_substeps(0.0, 0.1, scheme="euler", norm="l2")
    factors: list[tuple[str, dict[str, float | str]]] = [
        ("nothing is proved for rk4 in l1", {"step": 0.1, "rate": 0.0, "scheme": "rk4", "norm": "l1"}),
        ("nothing is proved for euler in l2", {"step": 0.6, "rate": 0.0, "scheme": "euler", "norm": "l2"}),
        ("rate must be at least 0", {"step": 0.1, "rate": -1.0, "scheme": "euler", "norm": "l2"}),
        ("max_euler_step·rate must be at most 1", {"step": 0.1, "rate": 3.0, "scheme": "euler", "norm": "l2"}),
        ("step must be positive", {"step": 0.0, "rate": 0.0, "scheme": "euler", "norm": "l2"}),
        ("needs 1 \\+ step·rate > 0", {"step": 1.0, "rate": -2.0, "scheme": "implicit-euler", "norm": "l2"}),
    ]
    for message, arguments in factors:
        with pytest.raises(ValueError, match=message):
            contraction_factor(**arguments, max_euler_step=0.5)  # type: ignore[arg-type]


def test_every_scheme_agrees_with_its_shu_osher_form() -> None:
    """SSPRK2 and SSPRK3 as convex combinations of Euler steps, the form that the proof in every norm is about."""
    h, x = 0.3, double(1.0, -2.0)

    def euler(x: Tensor, t: float) -> Tensor:
        return x + h * (torch.sin(3 * x) * (1 + t))

    def field(x: Tensor, t: Time) -> Tensor:
        return torch.sin(3 * x) * (1 + t)

    one = euler(x, 0.0)
    two = x / 2 + euler(one, h) / 2
    inner = 3 * x / 4 + euler(one, h) / 4
    three = x / 3 + 2 * euler(inner, h / 2) / 3
    for scheme, expected in {"euler": one, "ssprk2": two, "heun": two, "ssprk3": three}.items():
        torch.testing.assert_close(integrate(field, x, step=h, num_steps=1, scheme=scheme), expected)


def test_the_table_names_its_rows() -> None:
    assert all(name == scheme.name for name, scheme in SOLVERS.items())
    assert all(len(row) == len(s.b) == len(s.a) for s in SOLVERS.values() for row in s.a)
