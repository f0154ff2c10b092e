from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from torch_geometric.data import Data
from torch_geometric.utils import degree

from contractive_gnn import datasets
from contractive_gnn.attacks.metattack import train_surrogate
from contractive_gnn.bench.targets import TargetError, TargetRule, choose_targets
from contractive_gnn.seeding import seeded


@pytest.fixture(scope="module")
def graph() -> Data:
    return datasets.contextual_sbm(200, average_degree=12.0, seed=0)


def test_targets_are_test_nodes_of_high_degree_and_depend_on_the_seed_alone(graph: Data) -> None:
    targets = choose_targets(graph, TargetRule(20), seed=3).nodes
    assert torch.equal(targets, choose_targets(graph.clone(), TargetRule(20), seed=3).nodes)
    assert not torch.equal(targets, choose_targets(graph, TargetRule(20), seed=4).nodes)
    assert targets.unique().numel() == 20
    assert bool(graph.test_mask[targets].all())
    assert int(degree(graph.edge_index[0], num_nodes=200)[targets].min()) > 10


def test_targets_are_those_of_highest_degree_where_degrees_are_low() -> None:
    sparse = datasets.contextual_sbm(200, average_degree=3.0, seed=0)
    targets = choose_targets(sparse, TargetRule(20), seed=0).nodes
    degrees = degree(sparse.edge_index[0], num_nodes=200)
    rest = sparse.test_mask.clone()
    rest[targets] = False
    assert int(degrees[targets].min()) >= int(degrees[rest].max())


@pytest.mark.parametrize("count", [0, -1, 10_000])
def test_an_impossible_number_of_targets_is_an_error(graph: Data, count: int) -> None:
    with pytest.raises(TargetError, match=rf"expected 1 to \d+ targets .* got {count}"):
        choose_targets(graph, TargetRule(count), seed=0)


@pytest.mark.parametrize("by", ["degree", "margin", "balanced"])
def test_each_target_is_a_test_node_in_one_bin(graph: Data, by: str) -> None:
    targets = choose_targets(graph, TargetRule(22, by), seed=1)
    assert torch.equal(targets.nodes, torch.cat([*targets.bins.values()]).sort().values)
    assert targets.nodes.unique().numel() == 22
    assert bool(graph.test_mask[targets.nodes].all())
    assert torch.equal(targets.nodes, choose_targets(graph, TargetRule(22, by), seed=1).nodes)
    assert not torch.equal(targets.nodes, choose_targets(graph, TargetRule(22, by), seed=2).nodes)


def test_a_quarter_comes_from_each_quarter_of_the_degrees(graph: Data) -> None:
    bins = choose_targets(graph, TargetRule(22, "degree"), seed=0).bins
    assert {name: nodes.numel() for name, nodes in bins.items()} == {
        "degree quarter 1": 6, "degree quarter 2": 6, "degree quarter 3": 5, "degree quarter 4": 5,
    }  # fmt: skip
    degrees = degree(graph.edge_index[0], num_nodes=200)
    ordered = [degrees[nodes] for nodes in bins.values()]
    assert all(float(low.max()) <= float(high.min()) for low, high in pairwise(ordered))
    test = degrees[graph.test_mask].sort().values
    assert float(ordered[0].max()) <= float(test[test.numel() // 4])
    assert float(ordered[3].min()) >= float(test[3 * test.numel() // 4 - 1])


def test_margins_are_those_of_a_linear_surrogate_that_is_right(graph: Data) -> None:
    bins = choose_targets(graph, TargetRule(20, "margin"), seed=0).bins
    assert {name: nodes.numel() for name, nodes in bins.items()} == {
        "largest margin": 5, "smallest margin": 5, "random": 10,
    }  # fmt: skip
    with seeded(0):
        scores = train_surrogate(graph).output
    own = scores.gather(1, graph.y[:, None])
    margin = (own - scores.scatter(1, graph.y[:, None], -torch.inf).amax(dim=1, keepdim=True)).flatten()
    right = graph.test_mask & (margin > 0)
    assert bool(right[torch.cat([*bins.values()])].all())
    ordered = margin[right].sort().values
    assert torch.equal(margin[bins["smallest margin"]].sort().values, ordered[:5])
    assert torch.equal(margin[bins["largest margin"]].sort().values, ordered[-5:])


def test_classes_have_as_many_targets_as_can_be(graph: Data) -> None:
    bins = choose_targets(graph, TargetRule(10, "balanced"), seed=0).bins
    assert {name: nodes.numel() for name, nodes in bins.items()} == {
        "class 0": 3, "class 1": 3, "class 2": 2, "class 3": 2,
    }  # fmt: skip
    assert all(bool((graph.y[nodes] == label).all()) for label, nodes in enumerate(bins.values()))


def test_too_few_nodes_for_a_bin_are_told(graph: Data) -> None:
    scarce = graph.clone()
    scarce.test_mask = graph.test_mask & ((graph.y > 0) | (torch.arange(200) < 20))
    with pytest.raises(TargetError, match=r"10 targets are wanted of class 0 of csbm, which has \d test nodes"):
        choose_targets(scarce, TargetRule(40, "balanced"), seed=0)
    with pytest.raises(TargetError, match="expected at least 4 targets, one of each class, got 3"):
        choose_targets(graph, TargetRule(3, "balanced"), seed=0)
    noise = graph.clone()
    noise.y = graph.y[torch.randperm(200, generator=torch.Generator().manual_seed(0))]
    with pytest.raises(TargetError, match=r"a linear surrogate classifies \d+ test nodes of csbm correctly, and 150"):
        choose_targets(noise, TargetRule(150, "margin"), seed=0)


@pytest.mark.parametrize("given", [20, "20", "degree:40", "margin:8", "balanced:3"])
def test_rules_are_read_and_written(given: int | str) -> None:
    assert TargetRule.parse(TargetRule.parse(given).written) == TargetRule.parse(given)
    assert str(TargetRule.parse(given).written) == str(given)


@pytest.mark.parametrize(
    ("given", "complaint"),
    [
        ("degrees:40", r"no rule is called 'degrees'\. Did you mean 'degree'"),
        ("many", "expected a number, like 20, or RULE:NUMBER, like degree:40"),
        ("degree", "expected a number"),
        ("-3", "expected a number"),
        (True, "expected a number"),
        ("0", "targets: expected at least 1, got 0"),
    ],
)
def test_other_rules_are_errors(given: int | str, complaint: str) -> None:
    with pytest.raises(TargetError, match=complaint):
        TargetRule.parse(given)
