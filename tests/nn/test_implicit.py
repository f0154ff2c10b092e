"""The equilibrium layer: it solves its equation, its gradient is exact, and its constant holds."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from contractive_gnn.dynamics import Diffusion, GraphGradientFlow, ImplicitFlow, VectorField
from contractive_gnn.integrators import ConvergenceError, fixed_point
from contractive_gnn.nn import Equilibrium, EquilibriumConv
from contractive_gnn.norms import lipschitz_adversarial
from contractive_gnn.testing.claims import randomised
from contractive_gnn.testing.graphs import random_weighted

GRAPH = random_weighted(7, seed=3)


def flow(gamma: float = 0.5, seed: int = 0) -> ImplicitFlow:
    torch.manual_seed(seed)
    made = randomised(ImplicitFlow(3, gamma=gamma, activation="tanh"), seed=seed)
    assert isinstance(made, ImplicitFlow)
    return made


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("gamma", [-1.0, 0.0, 0.9])
def test_it_solves_the_equation_of_the_implicit_network(gamma: float) -> None:
    dynamics, u = flow(gamma), draw(7, 3)
    x = EquilibriumConv(dynamics, max_iterations=5000)(u, GRAPH.edge_index, GRAPH.edge_weight)
    own, neighbours = dynamics.matrices()
    assert float(dynamics.measure_bound().detach()) <= gamma + 1e-9
    p = torch.zeros(7, 7, dtype=torch.float64)
    p[GRAPH.target, GRAPH.source] = GRAPH.edge_weight / (1 + GRAPH.row_sum(GRAPH.edge_weight))[GRAPH.target]
    torch.testing.assert_close(x, torch.tanh(x @ own.T + p @ x @ neighbours.T + u), rtol=1e-9, atol=1e-9)


def test_its_gradient_is_that_of_the_implicit_function() -> None:
    dynamics = flow()
    conv = EquilibriumConv(dynamics, max_iterations=5000)
    u = draw(7, 3).requires_grad_()
    weight = GRAPH.edge_weight.clone().requires_grad_()
    assert torch.autograd.gradcheck(
        lambda a, w: conv(a, GRAPH.edge_index, w), (u, weight), atol=1e-6, check_undefined_grad=False
    )
    conv(u, GRAPH.edge_index).square().sum().backward()
    assert all(p.grad is not None and bool(p.grad.abs().sum() > 0) for p in conv.parameters())


@settings(max_examples=3)
@given(seed=st.integers(0, 2**31))
def test_its_constant_holds_in_the_max_norm(seed: int) -> None:
    conv = EquilibriumConv(flow(0.8, seed), max_iterations=5000)
    found = lipschitz_adversarial(
        lambda u: conv(u, GRAPH.edge_index, GRAPH.edge_weight),
        draw(7, 3, seed=seed),
        norm="linf",
        restarts=3,
        steps=15,
    )
    assert 0 < found.value <= conv.lipschitz(GRAPH) * (1 + 1e-6)


def test_its_constant_is_attained() -> None:
    """A = γI and no messages: x = u/(1 − γ)."""
    dynamics = ImplicitFlow(3, gamma=0.8, activation="identity").double()
    torch.nn.init.zeros_(dynamics.own_weight)
    torch.nn.init.zeros_(dynamics.neighbour_weight)
    conv = EquilibriumConv(dynamics, max_iterations=5000)
    assert conv.lipschitz(GRAPH) == pytest.approx(5.0)
    torch.testing.assert_close(conv(draw(7, 3), GRAPH.edge_index), 5.0 * draw(7, 3))


def test_with_a_gradient_flow_it_is_the_proximal_point() -> None:
    field = GraphGradientFlow(3, activation="huber", mu=0.5, learn_weight=False).double()
    u = draw(7, 3)
    x = EquilibriumConv(field, max_iterations=5000)(u, GRAPH.edge_index, GRAPH.edge_weight)
    assert float(field.field(x, GRAPH, anchor=u).abs().max()) < 1e-10


def test_a_field_that_does_not_contract_is_refused() -> None:
    with pytest.raises(ValueError, match="no unique equilibrium that is proved"):
        EquilibriumConv(Diffusion(mu=0.0))(draw(7, 3), GRAPH.edge_index)
    with pytest.raises(ValueError, match="gamma must be below 1"):
        ImplicitFlow(3, gamma=1.0)


def test_an_expansion_has_no_fixed_point_to_find() -> None:
    with pytest.raises(ConvergenceError, match="the fixed point was not reached"):
        fixed_point(lambda x: 2 * x + 1, torch.ones(3))
    assert float(fixed_point(lambda x: 0.5 * x + 1, torch.zeros(()))) == pytest.approx(2.0)


def test_its_gradient_can_be_differentiated_again_and_again() -> None:
    conv = EquilibriumConv(GraphGradientFlow(2, mu=0.9).double(), max_iterations=5000)
    u, weight = draw(7, 2).requires_grad_(), GRAPH.edge_weight.clone().requires_grad_()
    point = (u, weight, *conv.parameters())
    directions = [draw(*t.shape, seed=1) for t in point]

    def derivative(order: int) -> torch.Tensor:
        value = conv(u, GRAPH.edge_index, weight).sin().sum()
        for _ in range(order):
            gradient = torch.autograd.grad(value, point, create_graph=True)
            value = torch.stack([(g * v).sum() for g, v in zip(gradient, directions, strict=True)]).sum()
        return value.detach()

    def move(distance: float) -> None:
        with torch.no_grad():
            for t, v in zip(point, directions, strict=True):
                t.add_(distance * v)

    for order in (1, 2, 3):
        found, ends = derivative(order), []
        for distance in (1e-5, -2e-5):
            move(distance)
            ends.append(derivative(order - 1))
        move(1e-5)
        torch.testing.assert_close(found, (ends[0] - ends[1]) / 2e-5, rtol=1e-6, atol=1e-6)


def test_a_fixed_point_is_differentiated_by_its_inputs_alone() -> None:
    a = torch.full((3,), 0.5, requires_grad=True)
    with pytest.raises(ValueError, match="not one of its arguments"):
        fixed_point(lambda x: 0.5 * x + a, torch.zeros(3))
    solved = fixed_point(lambda x, a: 0.5 * x + a, torch.zeros(3), a)
    torch.testing.assert_close(torch.autograd.grad(solved.sum(), a)[0], torch.full((3,), 2.0))
    with torch.no_grad():
        torch.testing.assert_close(fixed_point(lambda x: 0.5 * x + a, torch.zeros(3)), torch.ones(3))


def test_other_modes_than_reverse_are_refused() -> None:
    conv, u = EquilibriumConv(flow()), draw(7, 3)

    def f(u: torch.Tensor) -> torch.Tensor:
        return conv(u, GRAPH.edge_index)

    attempts = (
        lambda: torch.func.grad(lambda u: f(u).sum())(u),
        lambda: torch.func.jvp(f, (u,), (u,)),
        lambda: torch.func.vmap(f)(u[None]),
        lambda: torch.autograd.functional.jacobian(f, u, vectorize=True),  # type: ignore[no-untyped-call]
    )
    for attempt in attempts:
        with pytest.raises(NotImplementedError, match="a fixed point is differentiated in reverse mode"):
            attempt()
    expected = torch.autograd.functional.jacobian(f, u)  # type: ignore[no-untyped-call]
    tangent = torch.autograd.functional.jvp(f, u, u)[1]  # type: ignore[no-untyped-call]
    torch.testing.assert_close(tangent, torch.tensordot(expected, u))


def test_on_one_graph_it_is_the_layer_of_any_domain() -> None:
    dynamics, u = flow(), draw(7, 3).requires_grad_()
    field = Equilibrium(dynamics.on(GRAPH), max_iterations=5000)
    conv = EquilibriumConv(dynamics, max_iterations=5000)
    x, y = field(u), conv(u, GRAPH.edge_index, GRAPH.edge_weight)
    assert torch.equal(x, y)
    assert field.lipschitz() == conv.lipschitz(GRAPH)
    both = (u, *dynamics.parameters())
    for left, right in zip(
        torch.autograd.grad(x.square().sum(), both), torch.autograd.grad(y.square().sum(), both), strict=True
    ):
        assert torch.equal(left, right)


class Average(VectorField):
    """``−x + a (shifted x) + (u − x)``: the equilibrium solves ``2x − a Sx = u`` along the last axis."""

    def __init__(self, a: float, anchor: torch.Tensor | None = None, *, buffer: bool = True) -> None:
        super().__init__()
        self.a, self.buffer = torch.nn.Parameter(torch.tensor(a, dtype=torch.float64)), buffer
        if buffer:
            self.register_buffer("anchor", anchor, persistent=False)
        else:
            self.anchor = anchor

    def forward(self, x: torch.Tensor, t: torch.Tensor | float = 0.0) -> torch.Tensor:
        pull = x if self.anchor is None else x - self.anchor
        return self.a * x.roll(1, dims=-1) - x - pull

    def rate(self) -> torch.Tensor:
        return 2 - self.a.abs()

    def max_step(self) -> float:
        return 0.5

    def anchored(self, anchor: torch.Tensor) -> "Average":
        made = Average(0.0, anchor, buffer=self.buffer)
        made.a = self.a
        return made

    @property
    def anchor_lipschitz(self) -> float:
        return 1.0


@pytest.mark.parametrize("shape", [(5,), (2, 3, 5)])
def test_in_any_domain_it_solves_its_equation_and_has_its_gradient(shape: tuple[int, ...]) -> None:
    layer, u = Equilibrium(Average(0.8), max_iterations=5000), draw(*shape).requires_grad_()
    x = layer(u)
    torch.testing.assert_close(2 * x - 0.8 * x.roll(1, dims=-1), u)
    assert torch.autograd.gradcheck(layer, (u,), atol=1e-6, check_undefined_grad=False)
    (by_a,) = torch.autograd.grad(x.sum(), layer.field.a)
    # all entries of x sum to Σu/(2 − a)
    torch.testing.assert_close(by_a, (u.sum() / (2 - 0.8) ** 2).detach())
    assert layer.lipschitz() == pytest.approx(1 / 1.2)


def test_an_anchor_that_is_in_no_buffer_is_not_taken_for_a_constant() -> None:
    with pytest.raises(ValueError, match="not one of its arguments"):
        Equilibrium(Average(0.8, buffer=False))(draw(5).requires_grad_())
    with pytest.raises(ValueError, match="no unique equilibrium that is proved: its rate is -1"):
        Equilibrium(Average(3.0))(draw(5))
    with pytest.raises(TypeError, match="Equilibrium takes a VectorField, got ImplicitFlow"):
        Equilibrium(flow())  # type: ignore[arg-type]
