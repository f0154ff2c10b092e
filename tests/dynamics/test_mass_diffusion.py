"""The diffusion that keeps the mass: the limit of its Laplacian, and every channel's sum over many steps."""

import pytest
import torch
from torch import Tensor

from contractive_gnn.dynamics import Diffusion, Dynamics, MassDiffusion
from contractive_gnn.graph import Graph
from contractive_gnn.integrators import integrate, solver
from contractive_gnn.norms import number
from contractive_gnn.operators import GraphGradient
from contractive_gnn.testing import DynamicsSuite, verify_one
from contractive_gnn.testing.graphs import battery, complete_bipartite, random_weighted

GRAPH = random_weighted(7, scale=3.0, seed=3)


class TestMassDiffusion(DynamicsSuite):
    def make(self, channels: int) -> Dynamics:
        return MassDiffusion(channels)


class TestLinear(DynamicsSuite):
    sharp = True

    def make(self, channels: int) -> Dynamics:
        return MassDiffusion(channels, activation="identity", learn_weight=False)


def state(seed: int = 0) -> Tensor:
    return torch.randn(7, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def norm_of_the_laplacian(graph: Graph) -> float:
    """The largest eigenvalue of the Laplacian with the weights c."""
    gradient = GraphGradient(MassDiffusion(1).conducting(graph))
    matrix = gradient(torch.eye(graph.num_nodes, dtype=torch.float64))
    return float(torch.linalg.matrix_norm(matrix, 2)) ** 2


def test_the_laplacian_stays_below_1_and_complete_bipartite_graphs_come_near() -> None:
    graphs = [*battery().values(), *(random_weighted(9, scale=10.0**k, seed=k) for k in range(-2, 4))]
    assert all(norm_of_the_laplacian(graph) < 1 for graph in graphs)
    for sides in ((1, 1), (3, 3), (2, 7), (1, 8)):
        graph = complete_bipartite(*sides)
        heavy = Graph(graph.edge_index, 1e4 * graph.edge_weight.double(), graph.num_nodes)
        assert norm_of_the_laplacian(heavy) == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize("activation", ["tanh", "identity"])
def test_every_channel_keeps_its_mass_over_ten_thousand_steps(activation: str) -> None:
    torch.manual_seed(0)
    field = MassDiffusion(4, activation=activation).double()
    x = state()
    step = number(field.max_step(GRAPH)) / 2
    with torch.no_grad():
        moved = field.on(GRAPH).euler(x, step=step, num_steps=10_000)
    drift = (moved - x).sum(dim=0).abs() / x.abs().sum(dim=0)
    assert float(drift.max()) < 1e-12
    assert float((moved - x).abs().max()) > 0.1  # it has moved


def test_a_random_walk_diffusion_loses_the_mass() -> None:
    x = state()
    with torch.no_grad():
        moved = Diffusion(mu=0.0).on(GRAPH).euler(x, step=0.5, num_steps=50)
    assert float(((moved - x).sum(dim=0).abs() / x.abs().sum(dim=0)).max()) > 1e-3


def test_each_component_keeps_its_own_mass_and_forgets_the_rest() -> None:
    pair = complete_bipartite(2, 2)
    graph = Graph(torch.cat([pair.edge_index, pair.edge_index + 4], dim=1), torch.ones(16, dtype=torch.float64), 8)
    x = torch.randn(8, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    field = MassDiffusion(3, activation="identity", learn_weight=False)
    moved = field.on(graph).euler(x, step=1.0, num_steps=300)
    mean = x.reshape(2, 4, 3).mean(dim=1, keepdim=True).expand(2, 4, 3).reshape(8, 3)
    torch.testing.assert_close(moved, mean, rtol=0, atol=1e-12)


def test_a_step_of_any_runge_kutta_scheme_keeps_it() -> None:
    field = MassDiffusion(4).double().on(GRAPH)
    for scheme in ("heun", "rk4", "implicit-midpoint"):
        assert "mass" in solver(scheme).keeps(field)
        with torch.no_grad():
            moved = integrate(field, state(), step=0.5, num_steps=20, scheme=scheme)
        assert float((moved - state()).sum(dim=0).abs().max()) < 1e-12


def without_the_other_end(self: MassDiffusion, graph: Graph) -> Tensor:
    return graph.edge_weight / (self.epsilon + 2 * graph.row_sum(graph.edge_weight)[graph.target])


def without_a_sign(self: MassDiffusion, x: Tensor, graph: Graph, **_: object) -> Tensor:
    force = self.conductance(graph).unsqueeze(1) * (x[graph.target] - x[graph.source]).abs()
    return -torch.zeros_like(x).index_add(0, graph.target, force)


@pytest.mark.parametrize(("attribute", "wrong"), [("conductance", without_the_other_end), ("field", without_a_sign)])
def test_a_flux_that_does_not_arrive_is_found(attribute: str, wrong: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(MassDiffusion, attribute, wrong)
    verdict = verify_one("mass", lambda: MassDiffusion(2), tries=600)
    assert any(claim.kind == "conserved" for claim, _ in verdict.broken)


def test_what_it_refuses() -> None:
    with pytest.raises(ValueError, match="epsilon"):
        MassDiffusion(4, epsilon=0.0)
    with pytest.raises(ValueError, match=r"\[7, 4\]"):
        MassDiffusion(4).field(torch.zeros(7, 3), GRAPH)


def test_redescending_slopes_leave_no_contractive_step() -> None:
    field = MassDiffusion(4, activation="group-mcp")
    assert number(field.rate(GRAPH)) < 0
    assert number(field.max_step(GRAPH)) == 0
