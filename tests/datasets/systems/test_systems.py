"""The equations, and their solutions: what is known of them holds along what the solver gives."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from contractive_gnn.datasets import InvalidTrajectoriesError
from contractive_gnn.datasets.systems import (
    SIR,
    SYSTEMS,
    System,
    henon_heiles,
    log_lotka_volterra,
    lotka_volterra,
    pendulum,
    rigid_body,
    simulate,
    sir,
    solve,
)
from contractive_gnn.dynamics import VectorField
from contractive_gnn.integrators import integrate

NAMES = ("henon-heiles", "log-lotka-volterra", "lotka-volterra", "pendulum", "rigid-body", "sir")


def double(*numbers: float) -> Tensor:
    return torch.tensor(numbers, dtype=torch.float64)


@pytest.fixture(params=NAMES)
def system(request: pytest.FixtureRequest) -> System:
    return SYSTEMS[request.param]()


def test_all_are_registered() -> None:
    assert sorted(SYSTEMS) == list(NAMES)
    assert all(SYSTEMS[name]().name == name for name in SYSTEMS)


def test_invariants_are_constant_along_solutions_and_not_between_them(system: System) -> None:
    data = simulate(system, count=4, step=0.5, num_steps=10)
    assert data.states.shape == (4, 11, system.dim)
    assert float((data.states[:, 0] - data.states[:, 1]).norm(dim=1).min()) > 1e-3  # something moves
    assert system.invariants
    for name, invariant in system.invariants.items():
        values = invariant(data.states)
        assert float((values - values[:, :1]).abs().max()) < 1e-11, name
        elsewhere = invariant(1.1 * data.states)
        assert float((elsewhere - values).abs().max()) > 1e-4, name


def test_the_solver_agrees_with_small_steps_of_the_same_field(system: System) -> None:
    starts = torch.from_numpy(system.draw(np.random.default_rng(3), 2))
    end = solve(system.field, starts, step=0.4, num_steps=1)[:, 1]
    torch.testing.assert_close(
        integrate(system.field, starts, step=0.01, num_steps=40, scheme="rk4"), end, rtol=1e-8, atol=1e-8
    )


def test_what_a_field_is_said_to_conserve_is_among_the_invariants(system: System) -> None:
    told = {"mass": "mass", "norm": "norm", "energy": "energy"}
    assert {told[kept] for kept in system.field.conserves if kept in told} <= system.invariants.keys()
    if system.canonical:
        x = torch.from_numpy(system.draw(np.random.default_rng(0), 3)).requires_grad_()
        (slope,) = torch.autograd.grad(system.invariants["energy"](x).sum(), x)
        by_q, by_p = slope.chunk(2, dim=-1)
        torch.testing.assert_close(system.field(x), torch.cat([by_p, -by_q], dim=-1))


def test_starts_are_where_they_are_said_to_be() -> None:
    generator = np.random.default_rng(0)
    for made, low, high in ((pendulum(largest_energy=0.5), 0.01, 0.5), (henon_heiles(largest_energy=0.1), 0.01, 0.1)):
        starts = torch.from_numpy(made.draw(generator, 300))
        level = made.invariants["energy"](starts)
        assert low <= float(level.min()) < 1.5 * low + 0.02
        assert 0.97 * high < float(level.max()) <= high
    assert float(henon_heiles().draw(generator, 300)[:, 1].min()) > -0.5
    susceptible, infected, recovered = sir().draw(generator, 300).T
    assert min(susceptible.min(), infected.min()) > 0
    assert recovered.min() >= 0
    np.testing.assert_allclose(np.linalg.norm(rigid_body().draw(generator, 5), axis=1), 1.0)
    assert pendulum().draw(generator, 0).shape == (0, 2)


def test_the_pendulum_has_its_period() -> None:
    amplitude = 1.0
    mean, other = 1.0, math.cos(amplitude / 2)
    for _ in range(10):  # the arithmetic-geometric mean
        mean, other = (mean + other) / 2, math.sqrt(mean * other)
    states = solve(pendulum().field, double(amplitude, 0.0)[None], step=2 * math.pi / mean, num_steps=1)
    torch.testing.assert_close(states[0, 1], double(amplitude, 0.0), rtol=0, atol=1e-11)


def test_logarithms_of_lotka_volterra_are_its_logarithms() -> None:
    rates = {"growth": 1.1, "predation": 0.7, "death": 0.9, "gain": 0.5}
    logarithms, numbers = log_lotka_volterra(**rates), lotka_volterra(**rates)
    starts = torch.from_numpy(numbers.draw(np.random.default_rng(0), 3))
    one = solve(logarithms.field, starts.log(), step=0.7, num_steps=5).exp()
    torch.testing.assert_close(one, solve(numbers.field, starts, step=0.7, num_steps=5), rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(logarithms.field(double(math.log(0.9 / 0.5), math.log(1.1 / 0.7))), double(0.0, 0.0))


def test_solutions_do_not_depend_on_those_beside_them() -> None:
    starts = torch.from_numpy(pendulum().draw(np.random.default_rng(0), 6))
    together = solve(pendulum().field, starts, step=0.5, num_steps=20)
    alone = torch.cat([solve(pendulum().field, start[None], step=0.5, num_steps=20) for start in starts])
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-10)


def test_the_same_seed_gives_the_same_and_noise_is_added_to_the_solution() -> None:
    settings = {"count": 40, "step": 0.2, "num_steps": 25, "seed": 4}
    clean, again = simulate(pendulum(), **settings), simulate(pendulum(), **settings)
    assert torch.equal(clean.states, again.states)
    assert not torch.equal(clean.states, simulate(pendulum(), **{**settings, "seed": 5}).states)
    noisy = simulate(pendulum(), noise=0.01, **settings)
    added = noisy.states - clean.states
    assert float(added.std()) == pytest.approx(0.01, rel=0.05)
    assert noisy.noise == 0.01
    assert "noise 0.01" in noisy.name
    assert torch.equal(noisy.states, simulate(pendulum(), noise=0.01, **settings).states)


def test_a_solution_that_escapes_is_refused() -> None:
    with pytest.raises(InvalidTrajectoriesError, match="start elsewhere, or ask for a shorter time"):
        solve(henon_heiles().field, double(0.0, 3.0, 0.0, 0.0)[None], step=10.0, num_steps=3)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: pendulum(largest_energy=2.0), ValueError, "largest_energy must be above 0 and below 2"),
        (lambda: henon_heiles(largest_energy=1 / 6), ValueError, "largest_energy must be above 0 and below"),
        (lambda: sir(infection=0.0), ValueError, "infection must be positive"),
        (lambda: log_lotka_volterra(gain=-1.0), ValueError, "gain must be positive"),
        (lambda: lotka_volterra(reach=0.0), ValueError, "reach must be positive"),
        (lambda: rigid_body(moments=(1.0, 2.0)), TypeError, "moments must be three numbers"),  # type: ignore[arg-type]
        (lambda: rigid_body(moments=(1.0, 2.0, -1.0)), ValueError, "moments must be positive"),
        (lambda: SYSTEMS.get("pendulums"), ValueError, "Did you mean 'pendulum'"),
        (lambda: solve(SIR(1.0, 1.0), torch.ones(3), step=1.0, num_steps=1), ValueError, r"float64 \[n, d\]"),
        (lambda: solve(SIR(1.0, 1.0), double(1, 0, 0)[None], step=0.0, num_steps=1), ValueError, "step must be pos"),
        (lambda: simulate(sir(), count=0, step=1.0, num_steps=1), ValueError, "count must be at least 1"),
        (lambda: simulate(sir(), count=1, step=1.0, num_steps=1, noise=-0.1), ValueError, "noise must be at least 0"),
    ],
)
def test_what_cannot_be_made_is_refused(make: object, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        make()  # type: ignore[operator]


def test_a_field_without_a_time_is_autonomous(system: System) -> None:
    assert isinstance(system.field, VectorField)
    x = torch.from_numpy(system.draw(np.random.default_rng(0), 2))
    assert torch.equal(system.field(x, 0.0), system.field(x, 7.0))
    assert system.field(x).dtype == torch.float64
    assert system.field(x[0]).shape == x[0].shape
    assert system.field.state().shape[-1] == system.dim
