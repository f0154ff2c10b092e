from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch_geometric.data import Data
from torch_geometric.nn import GCNConv

from contractive_gnn.attacks import AttackError, Budget, Perturbation
from contractive_gnn.attacks.whitebox import LRBCD, WhiteboxPGD
from contractive_gnn.training import fit
from tests.attacks.conftest import block_graph

QUICK: dict[str, Any] = {"epochs": 15, "fine_epochs": 5, "samples": 5, "swaps": 15}


class Votes(nn.Module):
    """Two-class scores ±(bias + Σ of a fixed value over the node's edges)."""

    def __init__(self, values: Tensor, bias: float) -> None:
        super().__init__()
        self.values, self.bias = values, bias

    def forward(self, x: Tensor, edge_index: Tensor, edge_weight: Tensor | None = None) -> Tensor:
        weight = x.new_ones(edge_index.shape[1]) if edge_weight is None else edge_weight
        own = weight * self.values[edge_index[0], edge_index[1]]
        vote = self.bias + x.new_zeros(x.shape[0]).index_add(0, edge_index[1], own)
        return torch.stack([vote, -vote], dim=1)


def problem(seed: int) -> tuple[Data, Votes]:
    n = 6
    values = torch.randn(n, n, generator=torch.Generator().manual_seed(seed))
    edges = torch.tensor([[0, 0, 0, 1, 2, 2, 3, 4], [1, 2, 3, 2, 3, 4, 5, 5]])
    every = torch.ones(n, dtype=torch.bool)
    data = Data(x=torch.ones(n, 1), edge_index=torch.cat([edges, edges.flip(0)], dim=1), y=torch.zeros(n).long())
    data.train_mask, data.val_mask, data.test_mask = every, every, every
    return data, Votes(values + values.t(), 2.0)


@pytest.mark.parametrize("local", [0.5, 1.0])
@pytest.mark.parametrize("seed", range(4))
def test_on_a_linear_model_it_causes_as_many_errors_as_any_flips_within_the_budgets(seed: int, local: float) -> None:
    data, victim = problem(seed)
    pairs = torch.triu_indices(6, 6, 1)
    limit = (local * data.edge_index[0].bincount()).floor()
    adjacency = torch.zeros(6, 6)
    adjacency[data.edge_index[0], data.edge_index[1]] = 1

    def wrong(adjacency: Tensor) -> int:
        return int((victim(data.x, adjacency.nonzero().t()).argmax(dim=1) != 0).sum())

    most = 0
    for size in range(4):
        for places in itertools.combinations(range(pairs.shape[1]), size):
            u, v = pairs[:, list(places)]
            if size and bool((torch.cat([u, v]).bincount(minlength=6) > limit).any()):
                continue
            flipped = adjacency.clone()
            flipped[u, v] = 1 - flipped[u, v]
            flipped[v, u] = flipped[u, v]
            most = max(most, wrong(flipped))
    result = LRBCD(local=local).run(data, Budget(flips=3), victim=victim)
    assert bool((result.edge_flips.flatten().bincount(minlength=6) <= limit).all())
    after = int((victim(data.x, result.data.edge_index).argmax(dim=1) != 0).sum())
    assert after == most


class Net(nn.Module):
    def __init__(self, columns: int, classes: int) -> None:
        super().__init__()
        self.conv = GCNConv(columns, classes)

    def forward(self, x: Tensor, edge_index: Tensor, edge_weight: Tensor | None = None) -> Tensor:
        return self.conv(x, edge_index, edge_weight)  # type: ignore[no-any-return]


@pytest.fixture(scope="module")
def victim() -> nn.Module:
    torch.manual_seed(0)
    model = Net(40, 3)
    fit(model, block_graph(), epochs=40)
    return model.eval()


def test_it_keeps_both_budgets_and_beats_random_flips(graph: Data, victim: nn.Module) -> None:
    degrees = graph.edge_index[0].bincount()
    for local in (0.25, 0.5):
        result = LRBCD(local=local, candidates=1000, **QUICK).run(graph, Budget(fraction=0.2), victim=victim)
        assert 0 < result.n_flips <= result.provenance["allowed_flips"]
        assert bool((result.edge_flips.flatten().bincount(minlength=90) <= (local * degrees).floor()).all())
        told = result.provenance["params"]["diagnosis"]["errors"]
        assert told["found"] > told["random"]
        assert result.provenance["params"]["local"] == local


def test_a_wide_local_budget_is_none(graph: Data, victim: nn.Module) -> None:
    both = [
        attack.run(graph, Budget(flips=12), victim=victim).provenance["params"]["diagnosis"]["errors"]["found"]
        for attack in (LRBCD(local=100.0, **QUICK), WhiteboxPGD(**QUICK))
    ]
    assert both[0] == both[1]


def test_a_broken_local_budget_is_told(graph: Data, victim: nn.Module) -> None:
    class Broken(LRBCD):
        def _perturb(self, data: Data, n_flips: int, *, victim: Any, targets: Any) -> Perturbation:
            return Perturbation(edge_flips=torch.tensor([[7] * 20, list(range(8, 28))]))

    with pytest.raises(AttackError, match="flipped 20 edges at node 7, where"):
        Broken().run(graph, Budget(flips=20), victim=victim)


@pytest.mark.parametrize(("local", "error"), [(0.0, ValueError), (-1.0, ValueError), ("half", TypeError)])
def test_other_shares_are_refused(local: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match="local must be"):
        LRBCD(local=local)
