"""The volume-preserving coupling: two shears on a graph, and the determinant of every step."""

import pytest
import torch
from torch import Tensor

from contractive_gnn.dynamics import Dynamics, VolumeCoupling
from contractive_gnn.graph import Graph
from contractive_gnn.integrators import integrate, solver
from contractive_gnn.norms import jacobian
from contractive_gnn.testing import DynamicsSuite, verify_one
from contractive_gnn.testing.claims import randomised
from contractive_gnn.testing.graphs import complete_bipartite, random_weighted

GRAPH = random_weighted(6, scale=3.0, seed=3)


class TestVolumeCoupling(DynamicsSuite):
    def make(self, channels: int) -> Dynamics:
        return VolumeCoupling(channels)


def coupling(seed: int = 0, activation: str = "tanh") -> VolumeCoupling:
    torch.manual_seed(seed)
    return randomised(VolumeCoupling(4, activation=activation), seed=2 * seed)


def state(seed: int = 0) -> Tensor:
    return torch.randn(6, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def determinant(field: Dynamics, x: Tensor, *, scheme: str, step: float) -> float:
    bound = field.on(GRAPH)
    matrix = jacobian(lambda y: integrate(bound, y, step=step, num_steps=1, scheme=scheme), x)
    return float(torch.linalg.det(matrix))


@pytest.mark.parametrize("scheme", ["lie-trotter", "strang", "symplectic-euler", "stormer-verlet"])
def test_each_step_of_a_splitting_keeps_the_volume_and_eulers_does_not(scheme: str) -> None:
    field = coupling()
    assert "volume" in solver(scheme).keeps(field.on(GRAPH))
    assert "volume" not in solver("euler").keeps(field.on(GRAPH))
    x = state()
    for _ in range(5):
        assert abs(determinant(field, x, scheme=scheme, step=0.5) - 1) < 1e-12
        assert abs(determinant(field, x, scheme="euler", step=0.5) - 1) > 1e-3
        x = integrate(field.on(GRAPH), x, step=0.5, num_steps=1, scheme=scheme).detach()


@pytest.mark.parametrize("index", [0, 1])
def test_its_parts_are_shears_whose_claims_hold(index: int) -> None:
    def make() -> Dynamics:
        return VolumeCoupling(2).parts()[index]

    assert make().shear
    verdict = verify_one("part", make, tries=600)
    assert verdict.word == "holds", [(claim.what, finding.value) for claim, finding in verdict.broken]
    assert any(claim.what.startswith("a shear") for claim, _ in verdict.findings)


def test_its_constants_are_attained_by_heavy_edges() -> None:
    """Where A and B are the identity and all nodes agree, a half moves by (1 + ‖P‖) times the other."""
    field = VolumeCoupling(2, activation="identity").double()
    with torch.no_grad():
        for part in (field.first, field.second):
            part.own.fill_(1.0)
            part.neighbours.fill_(1.0)
    pair = complete_bipartite(3, 3)
    graph = Graph(pair.edge_index, 1e6 * pair.edge_weight.double(), 6)
    x = torch.ones(6, 2, dtype=torch.float64)
    moved = x + 0.5 * field.field(x, graph)
    assert float(moved.norm() / x.norm()) == pytest.approx(float(field.lipschitz(graph, 0.5)), rel=1e-5)


def test_a_self_loop_sends_nothing() -> None:
    loop = Graph(
        torch.cat([GRAPH.edge_index, torch.tensor([[2], [2]])], dim=1),
        torch.cat([GRAPH.edge_weight, torch.ones(1).double()]),
        6,
    )
    torch.testing.assert_close(coupling().field(state(), loop), coupling().field(state(), GRAPH))


def own_half(self: VolumeCoupling, x: Tensor, graph: Graph, **_: object) -> Tensor:
    u, v = x.chunk(2, dim=1)
    return torch.cat([self.first.velocity(u, graph), self.second.velocity(v, graph)], dim=1)


def test_a_half_that_moves_by_itself_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(VolumeCoupling, "field", own_half)
    verdict = verify_one("coupling", lambda: VolumeCoupling(2), tries=600)
    assert any(claim.kind == "conserved" for claim, _ in verdict.broken)


def test_what_it_refuses() -> None:
    with pytest.raises(ValueError, match="even"):
        VolumeCoupling(3)
    with pytest.raises(ValueError, match="elementwise"):
        VolumeCoupling(4, activation="group-huber")
    with pytest.raises(ValueError, match="epsilon"):
        VolumeCoupling(4, epsilon=0.0)
    with pytest.raises(ValueError, match=r"\[6, 4\]"):
        VolumeCoupling(4).field(torch.zeros(6, 2), GRAPH)
