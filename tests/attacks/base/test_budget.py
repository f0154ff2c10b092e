from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch_geometric.data import Data

from contractive_gnn.attacks import Budget
from contractive_gnn.attacks.base import undirected_edges


def flips(*pairs: tuple[int, int]) -> Tensor:
    return torch.tensor(pairs, dtype=torch.int64).reshape(-1, 2).t()


@pytest.mark.parametrize(
    ("arguments", "error", "says"),
    [
        ({}, ValueError, "exactly one"),
        ({"flips": 1, "fraction": 0.5}, ValueError, "exactly one"),
        ({"flips": 1.0}, TypeError, "whole number"),
        ({"flips": True}, TypeError, "whole number"),
        ({"flips": "3"}, TypeError, "whole number"),
        ({"flips": -1}, ValueError, "at least 0"),
        ({"fraction": 1}, TypeError, "fraction=1.0"),
        ({"fraction": "0.5"}, TypeError, "is a float"),
        ({"fraction": -0.1}, ValueError, "at least 0"),
        ({"fraction": float("nan")}, ValueError, "finite"),
        ({"fraction": float("inf")}, ValueError, "finite"),
        ({"degree": 1}, TypeError, "degree=1.0"),
        ({"degree": -0.5}, ValueError, "at least 0"),
        ({"degree": 0.5, "per_target": [1]}, ValueError, r"exactly one.*degree=0.5, per_target=\[1\]"),
        ({"per_target": 3}, TypeError, "a whole number for each target"),
        ({"per_target": "33"}, TypeError, "a whole number for each target"),
        ({"per_target": [1, 0.5]}, TypeError, "whole number of flips"),
        ({"per_target": [1, -1]}, ValueError, "at least 0"),
        ({"per_target": torch.ones(2)}, TypeError, "whole numbers, one for each target"),
        ({"per_target": torch.ones(2, 2).long()}, TypeError, "whole numbers, one for each target"),
        ({"flips": 1, "nodes": 2}, ValueError, "exactly one"),
        ({"edges": 2}, ValueError, "exactly one"),
        ({"flips": 1, "edges": 2}, ValueError, r"given flips=1, edges=2"),
        ({"nodes": 2.0}, TypeError, "whole number"),
        ({"nodes": -1}, ValueError, "at least 0"),
        ({"nodes": 2, "edges": 0}, ValueError, "at least 1"),
    ],
)
def test_budget_refuses(arguments: dict[str, Any], error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says):
        Budget(**arguments)


def test_budget_resolves_to_a_whole_number(graph: Data) -> None:
    graph.edge_index = torch.cat(
        [flips(*((0, v) for v in range(1, 90))), flips(*((v, 0) for v in range(1, 90)))], dim=1
    )
    extra = flips(*((1, v) for v in range(2, 13)))
    graph.edge_index = torch.cat([graph.edge_index, extra, extra.flip(0)], dim=1)
    assert undirected_edges(graph.edge_index).shape[1] == 100
    assert Budget(flips=np.int64(3)).resolve(graph, "structure") == 3
    assert Budget(fraction=0.29).resolve(graph, "structure") == 29  # int(0.29 * 100) is 28
    assert Budget(fraction=0.299).resolve(graph, "structure") == 29
    assert Budget(fraction=1.0).resolve(graph, "structure") == 100
    assert Budget(fraction=0.5).resolve(graph, "features") == int(graph.x.sum()) // 2
    with pytest.raises(ValueError, match="no meaning"):
        Budget(fraction=0.5).resolve(graph, "both")


def test_a_budget_for_each_target(graph: Data) -> None:
    targets = torch.tensor([4, 0, 7])
    degrees = graph.edge_index[0].bincount(minlength=90)[targets]
    for share in (0.5, 1.0, 2.0):
        expected = tuple((share * degrees).floor().int().tolist())
        assert Budget(degree=share).of_targets(graph, "structure", targets) == expected
    assert Budget(degree=0.29).of_targets(
        Data(edge_index=flips(*((0, v) for v in range(1, 101))), num_nodes=101),
        "structure",
        torch.tensor([0]),
    ) == (29,)
    assert Budget(per_target=torch.tensor([2, 0, 1])).of_targets(graph, "features", targets) == (2, 0, 1)
    assert Budget(flips=4).of_targets(graph, "both", targets) == (4, 4, 4)
    assert Budget(per_target=[2]) == Budget(per_target=(np.int64(2),))
    for budget, kind, says in (
        (Budget(fraction=0.5), "structure", "a budget for a whole graph"),
        (Budget(degree=0.5), "features", "share of a node's edges"),
        (Budget(per_target=[1, 2]), "structure", "holds 2 budgets for 3 targets"),
    ):
        with pytest.raises(ValueError, match=says):
            budget.of_targets(graph, kind, targets)  # type: ignore[arg-type]
    for budget in (Budget(degree=0.5), Budget(per_target=[1])):
        with pytest.raises(ValueError, match="is for each target of a targeted attack"):
            budget.resolve(graph, "structure")


def test_nodes_are_for_attacks_that_add_or_delete_them(graph: Data) -> None:
    assert Budget(nodes=6, edges=4).resolve(graph, "injection") == 24
    assert Budget(nodes=6).resolve(graph, "deletion") == 6
    assert Budget(fraction=0.29).resolve(graph, "deletion") == 26  # of 90 nodes
    assert repr(Budget(nodes=6, edges=4)) == "Budget(nodes=6, edges=4)"
    for budget, kind, says in (
        (Budget(flips=3), "injection", "how many edges each"),
        (Budget(nodes=3), "injection", "how many edges each"),
        (Budget(flips=3), "deletion", "deletes nodes"),
        (Budget(nodes=3, edges=2), "deletion", "deletes nodes"),
        (Budget(nodes=3), "structure", "this one flips"),
        (Budget(nodes=3), "features", "this one flips"),
    ):
        with pytest.raises(ValueError, match=says):
            budget.resolve(graph, kind)  # type: ignore[arg-type]
