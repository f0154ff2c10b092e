"""Deleting a node takes its edges, and nothing else."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch_geometric.data import Data
from torch_geometric.nn import GCNConv
from torch_geometric.utils import degree

from contractive_gnn.attacks import AttackError, Budget, Perturbation, get
from contractive_gnn.attacks.deletion import Deletion
from contractive_gnn.training import evaluate

NAMES = ("random-deletion", "degree-deletion", "gradient-deletion")


class Sums(nn.Module):
    """Class scores are the class means of two hops."""

    def __init__(self, graph: Data) -> None:
        super().__init__()
        classes = int(graph.y.max()) + 1
        self.conv = GCNConv(graph.x.shape[1], classes)
        means = torch.stack([graph.x[graph.y == k].mean(dim=0) for k in range(classes)])
        with torch.no_grad():
            self.conv.lin.weight.copy_(means - means.mean(dim=0))

    def forward(self, x: Tensor, edge_index: Tensor, edge_weight: Tensor | None = None) -> Tensor:
        return self.conv(x, edge_index, edge_weight)  # type: ignore[no-any-return]


class Given(Deletion):
    name = "given"
    knowledge = "random"

    def __init__(self, proposal: Any) -> None:
        super().__init__()
        self.proposal = proposal

    def _perturb(self, data: Data, n_flips: int, *, victim: nn.Module | None, targets: Tensor | None) -> Perturbation:
        return self.proposal  # type: ignore[no-any-return]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("budget", [Budget(nodes=9), Budget(fraction=0.1)])
def test_so_many_nodes_lose_all_their_edges(graph: Data, name: str, budget: Budget) -> None:
    result = get(name).run(graph, budget, victim=Sums(graph))
    alone = degree(result.data.edge_index[0], num_nodes=90) == 0
    assert int(alone.sum()) == 9
    kept = graph.edge_index[:, ~alone[graph.edge_index].any(dim=0)]
    assert torch.equal(result.data.edge_index, kept)
    assert torch.equal(result.data.x, graph.x)
    assert torch.equal(result.data.test_mask, graph.test_mask)
    assert result.n_flips == (graph.num_edges - kept.shape[1]) // 2


def test_those_with_the_most_neighbours_go_first(graph: Data) -> None:
    degrees = degree(graph.edge_index[0], num_nodes=90)
    after = get("degree-deletion").run(graph, Budget(nodes=4)).data
    gone = degree(after.edge_index[0], num_nodes=90) == 0
    assert float(degrees[gone].min()) >= float(degrees[~gone].max())


@pytest.mark.parametrize("name", NAMES)
def test_nodes_that_count_can_be_spared(graph: Data, name: str) -> None:
    after = get(name, candidates="others").run(graph, Budget(nodes=20), victim=Sums(graph)).data
    gone = degree(after.edge_index[0], num_nodes=90) == 0
    assert int(gone.sum()) == 20
    assert not bool((gone & graph.test_mask).any())
    with pytest.raises(ValueError, match="cannot delete 80 nodes: 45 with an edge may be deleted"):
        get(name, candidates="others").run(graph, Budget(nodes=80), victim=Sums(graph))


def test_the_gradient_finds_more_than_chance_and_degrees(graph: Data) -> None:
    victim = Sums(graph)
    left = {
        name: evaluate(victim, get(name).run(graph, Budget(nodes=12), victim=victim).data, graph.test_mask)
        for name in NAMES
    }
    assert left["gradient-deletion"] < min(left["random-deletion"], left["degree-deletion"]) - 5


def test_one_deletion_is_nearly_the_best_of_all(graph: Data) -> None:
    victim = Sums(graph)

    def errors(nodes: list[int]) -> int:
        kept = ~torch.isin(graph.edge_index, torch.tensor(nodes)).any(dim=0)
        wrong = victim(graph.x, graph.edge_index[:, kept]).argmax(dim=1) != graph.y
        return int(wrong[graph.test_mask].sum())

    most = max(errors([node]) for node in range(90))
    result = get("gradient-deletion").run(graph, Budget(nodes=1), victim=victim)
    assert most - 1 <= result.provenance["params"]["diagnosis"]["errors"]["found"] <= most


@pytest.mark.parametrize(
    ("proposal", "says"),
    [
        (Perturbation(), "no int64 tensor"),
        (Perturbation(deleted=torch.tensor([0.0])), "no int64 tensor"),
        (Perturbation(deleted=torch.tensor([1, 1])), "a node twice"),
        (Perturbation(deleted=torch.tensor([90])), "outside of 0…89"),
        (Perturbation(deleted=torch.tensor([1, 2, 3])), "deleted 3 nodes where 2 are allowed"),
        (Perturbation(deleted=torch.tensor([1]), edge_flips=torch.tensor([[0], [1]])), "flipped edges"),
        (Perturbation(deleted=torch.tensor([1]), new_x=torch.zeros(1, 40)), "added some"),
    ],
)
def test_what_a_deletion_breaks_is_named(graph: Data, proposal: Perturbation, says: str) -> None:
    with pytest.raises(AttackError, match=says):
        Given(proposal).run(graph, Budget(nodes=2))


@pytest.mark.parametrize("budget", [Budget(flips=3), Budget(nodes=3, edges=2)])
def test_a_budget_of_another_form_is_refused(graph: Data, budget: Budget) -> None:
    with pytest.raises(ValueError, match=r"Budget\(nodes=60\)"):
        get("random-deletion").run(graph, budget)
