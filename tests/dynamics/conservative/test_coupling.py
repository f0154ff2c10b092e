"""Couplings and their shears: constants attained, parts of any size, and what is refused."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from contractive_gnn.dynamics import CouplingField, Diffusion, GradientFlow
from contractive_gnn.dynamics.conservative import HalfShear
from contractive_gnn.dynamics.layer import Layer
from contractive_gnn.graph import Graph
from contractive_gnn.integrators import SCHEMES, integrate
from contractive_gnn.norms import jacobian, lipschitz_at, log_norm_at, number
from contractive_gnn.operators import Dense, GraphGradient
from contractive_gnn.testing import violations


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def of(*rows: list[float]) -> Dense:
    return Dense(torch.tensor(rows, dtype=torch.float64))


def test_its_constants_are_attained() -> None:
    """In the plane, where both functions have their steepest slope at once."""
    field = CouplingField(Layer(of([3.0]), "tanh"), Layer(of([0.5]), "tanh"))
    x = torch.zeros(2, dtype=torch.float64)
    assert field.certified
    assert number(field.field_lipschitz()) == pytest.approx(lipschitz_at(field, x, norm="l2")) == pytest.approx(3.0)
    assert -number(field.rate()) == pytest.approx(log_norm_at(field, x, norm="l2")) == pytest.approx(1.75)
    for h in (0.1, 1.0, 10.0):
        claimed = number(field.lipschitz(h))
        assert claimed == pytest.approx(lipschitz_at(lambda y, h=h: y + h * field(y), x, norm="l2"))
    for part, size in zip(field.parts(), (3.0, 0.5), strict=True):
        assert -number(part.rate()) == pytest.approx(size / 2) == pytest.approx(log_norm_at(part, x, norm="l2"))
        for h in (0.1, 10.0):
            claimed = number(part.lipschitz(h))
            assert claimed == pytest.approx(lipschitz_at(lambda y, h=h, part=part: y + h * part(y), x, norm="l2"))


def test_a_network_of_ones_own_moves_a_part_of_any_length() -> None:
    torch.manual_seed(0)
    first = nn.Sequential(nn.Linear(3, 8), nn.SiLU(), nn.Linear(8, 2)).double()
    field = CouplingField(first, Layer(Dense(draw(3, 2)), "tanh"), split=2)
    x = draw(6, 5)
    assert field.field_lipschitz() == field.lipschitz(0.1) == math.inf
    assert field.rate() == -math.inf
    kept = [name for name in SCHEMES if "volume" in SCHEMES.get(name).keeps(field)]
    assert set(kept) >= {"lie-trotter", "strang", "symplectic-euler", "stormer-verlet"}
    for name in kept:
        found = violations(field, x, of=["volume"], step=0.3, num_steps=20, scheme=name)
        assert found["volume"] < 1e-12
    found = violations(field, x, of=["volume"], step=0.3, num_steps=20, scheme="rk4")
    assert found["volume"] > 1e-7  # of fourth order in h
    found = violations(field, x, of=["volume"], step=0.3, num_steps=20, scheme="euler")
    assert found["volume"] > 1e-3


def test_a_shear_moves_back_by_a_step_back() -> None:
    field = CouplingField(Layer(Dense(draw(2, 2)), "tanh"), Layer(Dense(draw(2, 2, seed=1)), "tanh"))
    x = draw(6, 4)
    for part in field.parts():
        moved = integrate(part, x, step=5.0, num_steps=1)
        torch.testing.assert_close(moved - 5.0 * part(moved), x)


def test_a_function_with_time_and_anchor_gets_them() -> None:
    class Clock(GradientFlow):
        def forward(self, x: Tensor, t: Tensor | float = 0.0) -> Tensor:
            return super().forward(x, t) + t

    flows = [Clock(Dense(draw(2, 2, seed=seed)), "tanh", mu=0.5) for seed in range(2)]
    field, x, anchor = CouplingField(*flows), draw(3, 4), draw(3, 4, seed=5)
    bound = field.anchored(anchor)
    u, v = x[:, :2], x[:, 2:]
    pull, push = flows[0].anchored(anchor[:, 2:]), flows[1].anchored(anchor[:, :2])
    torch.testing.assert_close(bound(x, 2.0), torch.cat([pull(v) + 2, push(u) + 2], dim=1))
    torch.testing.assert_close(sum(part(x, 2.0) for part in bound.parts()), bound(x, 2.0))
    assert field.anchor_lipschitz == 0.5
    plain = CouplingField(Layer(Dense(draw(2, 2)), "tanh"), Layer(Dense(draw(2, 2)), "tanh"))
    assert plain.anchored(anchor) is plain


def test_constants_in_another_norm_are_none_here() -> None:
    """A function with its constants in ℓ∞: a coupling has its own in ℓ2."""
    x = draw(3, 4)
    graph = Graph.of(x, torch.tensor([[0, 1, 1, 2], [1, 0, 2, 1]]))
    field = CouplingField(Diffusion(mu=0.5).on(graph, x[:, :2]), Layer(Dense(draw(2, 2)), "tanh"))
    assert number(field.parts()[0].force.field_lipschitz()) < math.inf
    assert field.field_lipschitz() == field.anchor_lipschitz == field.lipschitz(0.1) == math.inf
    assert violations_of_all(field, x) < 1e-12
    degrees = GraphGradient(graph, "degree")
    assert HalfShear(Layer(degrees, "tanh"), moves="first").field_lipschitz() == math.inf


def violations_of_all(field: CouplingField, x: Tensor) -> float:
    """``|det M − 1|`` of a step of all nodes, which are no samples of their own."""
    step = integrate_once(field)
    return float((torch.linalg.det(jacobian(step, x)) - 1).abs())


def integrate_once(field: CouplingField) -> Callable[[Tensor], Tensor]:
    return lambda y: integrate(field, y, step=0.3, num_steps=1, scheme="strang")


def test_what_does_not_fit_is_refused() -> None:
    square, wide = Layer(Dense(draw(2, 2)), "tanh"), Layer(Dense(draw(3, 2)), "tanh")
    field = CouplingField(square, square)
    with pytest.raises(ValueError, match=r"two halves has an even last axis, got shape \[4, 3\]"):
        field(draw(4, 3))
    with pytest.raises(ValueError, match=r"the first of length 4, is longer: got shape \[5, 4\]"):
        CouplingField(square, square, split=4)(draw(5, 4))
    with pytest.raises(ValueError, match=r"the part that it moves, \[4, 2\]: Layer takes \[4, 2\] to \[4, 3\]"):
        CouplingField(wide, square)(draw(4, 4))
    with pytest.raises(TypeError, match="force must be a module that takes one part of the state, got function"):
        CouplingField(lambda v: v, square)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="split must be at least 1"):
        CouplingField(square, square, split=0)
    with pytest.raises(ValueError, match="moves must be 'first' or 'second', got 'q'"):
        HalfShear(square, moves="q")  # type: ignore[arg-type]
    with pytest.raises(NotImplementedError, match=r"CouplingField must define state\(\)"):
        CouplingField(nn.Linear(2, 2), square).state()
