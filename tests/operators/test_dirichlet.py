"""The Dirichlet energy: its sum over the edges, what has none, and the step of a diffusion."""

import pytest
import torch

from contractive_gnn.graph import Graph
from contractive_gnn.operators import dirichlet_energy
from contractive_gnn.testing.graphs import random_weighted

GRAPH = random_weighted(7, seed=3)


@pytest.mark.parametrize("normalization", ["none", "sym"])
def test_it_is_half_the_sum_over_ordered_pairs(normalization: str) -> None:
    x = torch.randn(7, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    degree = GRAPH.row_sum(GRAPH.edge_weight)
    z = x / (degree + 0.5).sqrt().unsqueeze(1) if normalization == "sym" else x
    terms = GRAPH.edge_weight * (z[GRAPH.target] - z[GRAPH.source]).square().sum(dim=1)
    energy = dirichlet_energy(x, GRAPH, normalization=normalization, epsilon=0.5)  # type: ignore[arg-type]
    torch.testing.assert_close(energy, terms.sum() / 2)


def test_constants_have_none() -> None:
    assert float(dirichlet_energy(torch.ones(7, 2).double(), GRAPH, normalization="none")) == 0


def test_a_wrong_shape_is_refused() -> None:
    with pytest.raises(ValueError, match="one row for each node"):
        dirichlet_energy(torch.ones(6, 2).double(), GRAPH)
    with pytest.raises(TypeError, match="Graph"):
        dirichlet_energy(torch.ones(6, 2), "graph")  # type: ignore[arg-type]


def test_a_graph_without_edges_has_none() -> None:
    graph = Graph(torch.zeros(2, 0, dtype=torch.long), torch.zeros(0), 3)
    assert float(dirichlet_energy(torch.randn(3, 2), graph)) == 0
