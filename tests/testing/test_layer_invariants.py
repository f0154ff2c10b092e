"""What the steps of a layer keep: little is lost of it, and much by another scheme, another field or a mutation."""

import pytest
import torch
from torch import Tensor

from contractive_gnn.dynamics import Diffusion, Dynamics, HamiltonianFlow, MassDiffusion, VolumeCoupling
from contractive_gnn.dynamics.hamiltonian import Kick
from contractive_gnn.graph import Graph
from contractive_gnn.nn import ConservativeConv, FlowConv
from contractive_gnn.testing import layer_violations
from contractive_gnn.testing.claims import randomised
from contractive_gnn.testing.graphs import random_weighted

GRAPH = random_weighted(8, scale=3.0, seed=3)
FIELDS = {"mass": MassDiffusion, "symplectic": HamiltonianFlow, "volume": VolumeCoupling}


def layer(kept: str) -> ConservativeConv:
    torch.manual_seed(0)
    return ConservativeConv(randomised(FIELDS[kept](4), seed=0), num_steps=64, share=0.3)


def found(kept: str, of: str | None = None, **options: object) -> float:
    x = torch.randn(8, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    name = of or kept
    return layer_violations(layer(kept), x, GRAPH.edge_index, GRAPH.edge_weight, of=[name], **options)[name]  # type: ignore[arg-type, index, list-item]


@pytest.mark.parametrize("kept", FIELDS)
def test_what_is_declared_is_kept(kept: str) -> None:
    assert found(kept) < 1e-12


@pytest.mark.parametrize("kept", ["symplectic", "volume"])
def test_eulers_method_loses_it(kept: str) -> None:
    assert found(kept, scheme="euler", num_steps=4) > 1e-3


@pytest.mark.parametrize(("kept", "of"), [("mass", "volume"), ("volume", "mass"), ("volume", "symplectic")])
def test_what_is_not_declared_is_lost(kept: str, of: str) -> None:
    assert found(kept, of, num_steps=4) > 1e-3


def test_a_channel_without_mass_is_measured_by_the_others() -> None:
    x = torch.randn(8, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).abs()
    x[:, 2] = 0.0
    kept = layer_violations(layer("mass"), x, GRAPH.edge_index, GRAPH.edge_weight, of=["mass"])
    assert kept["mass"] < 1e-12
    nothing = layer_violations(layer("mass"), 0 * x, GRAPH.edge_index, GRAPH.edge_weight, of=["mass"])
    assert nothing["mass"] < 1e-12


def test_a_random_walk_loses_the_mass() -> None:
    walk = FlowConv(Diffusion(activation="identity", mu=0.0), num_steps=2)
    x = torch.randn(8, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    assert layer_violations(walk, x, GRAPH.edge_index, GRAPH.edge_weight, of=["mass"])["mass"] > 1e-3


def asymmetric(self: Kick, x: Tensor, graph: Graph, **_: object) -> Tensor:
    """The force from the neighbours listed before a node alone."""
    q, _p = x.chunk(2, dim=1)
    weight = torch.where(graph.source < graph.target, graph.edge_weight, 0.0)
    one_way = Graph(graph.edge_index, weight, graph.num_nodes)
    return torch.cat([torch.zeros_like(q), self.descent.field(q, one_way)], dim=1)


def swapped_sign(self: MassDiffusion, graph: Graph) -> Tensor:
    sign = torch.where(graph.source < graph.target, 1.0, -1.0)
    return sign * graph.edge_weight / (self.epsilon + graph.row_sum(graph.edge_weight).max())


def moves_itself(self: Dynamics, x: Tensor, graph: Graph, **_: object) -> Tensor:
    return self.velocity(x[:, :2], graph).repeat(1, 2)  # type: ignore[operator]


@pytest.mark.parametrize(
    ("kept", "owner", "attribute", "wrong"),
    [
        ("symplectic", Kick, "field", asymmetric),
        ("mass", MassDiffusion, "conductance", swapped_sign),
        ("volume", type(VolumeCoupling(2).first), "field", moves_itself),
    ],
)
def test_a_mutation_is_caught(
    kept: str, owner: type, attribute: str, wrong: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(owner, attribute, wrong)
    assert found(kept, num_steps=4) > 1e-3


def test_what_it_refuses() -> None:
    with pytest.raises(ValueError, match="energy"):
        found("mass", "energy")
    with pytest.raises(ValueError, match="take a subgraph"):
        layer_violations(layer("volume"), torch.zeros(501, 4), GRAPH.edge_index, of=["volume"])
    with pytest.raises(ValueError, match="num_steps"):
        found("mass", num_steps=0)
