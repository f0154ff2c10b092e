"""Injections through the victim do better than random ones, within the limits."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch_geometric.data import Data
from torch_geometric.nn import GCNConv

from contractive_gnn.attacks import ATTACKS, AttackResult, Budget, get
from contractive_gnn.attacks.injection import Goal, GrownGraph, check_injection
from contractive_gnn.attacks.whitebox import Objective
from contractive_gnn.nn import MLPClassifier
from contractive_gnn.training import evaluate

BUDGET = Budget(nodes=4, edges=6)
QUICK: dict[str, dict[str, Any]] = {
    "pgd-injection": {"epochs": 20, "feature_epochs": 10},
    "tdgia": {"feature_epochs": 15},
    "agia": {"edge_epochs": 8, "feature_epochs": 10},
}


class MeansGCN(nn.Module):
    """Two layers whose weights are class means: predicts the blocks well without training."""

    def __init__(self, graph: Data) -> None:
        super().__init__()
        columns = graph.x.shape[1]
        self.first, self.second = GCNConv(columns, 3), GCNConv(3, 3)
        means = torch.stack([graph.x[graph.y == k].mean(dim=0) for k in range(3)])
        with torch.no_grad():
            self.first.lin.weight.copy_(means - means.mean(dim=0))
            self.second.lin.weight.copy_(8 * torch.eye(3))

    def forward(self, x: Tensor, edge_index: Tensor, edge_weight: Tensor | None = None) -> Tensor:
        return self.second(self.first(x, edge_index, edge_weight), edge_index, edge_weight)  # type: ignore[no-any-return]


def run(name: str, graph: Data, **options: Any) -> AttackResult:
    return get(name, **QUICK.get(name, {}), **options).run(graph, BUDGET, victim=MeansGCN(graph).eval())


def accuracy(graph: Data, result: AttackResult) -> float:
    return evaluate(MeansGCN(graph), result.data, result.data.test_mask)


def diagnosis(result: AttackResult) -> dict[str, Any]:
    return result.provenance["params"]["diagnosis"]  # type: ignore[no-any-return]


@pytest.mark.parametrize("name", QUICK)
@pytest.mark.parametrize("features", ["range", "words"])
def test_a_search_hurts_more_than_random_nodes(graph: Data, name: str, features: str) -> None:
    before = copy.deepcopy(graph)
    result = run(name, graph, features=features)
    check_injection(graph, result.data, nodes=4, edges=6, features=features)
    clean = evaluate(MeansGCN(graph), graph, graph.test_mask)
    random = accuracy(graph, get("random-injection").run(graph, BUDGET))
    assert accuracy(graph, result) < min(clean, random) - 10
    told = diagnosis(result)
    assert (told["gradient"], told["unreliable"], told["found_by"]) == ("ok", [], name)
    assert told["errors"]["found"] == round((1 - accuracy(graph, result) / 100) * int(graph.test_mask.sum()))
    assert torch.equal(graph.x, before.x)
    assert torch.equal(graph.edge_index, before.edge_index)


@pytest.mark.parametrize("name", QUICK)
def test_one_seed_gives_one_injection(graph: Data, name: str) -> None:
    first, again, other = (run(name, graph, seed=seed) for seed in (3, 3, 4))
    assert torch.equal(first.data.x, again.data.x)
    assert torch.equal(first.data.edge_index, again.data.edge_index)
    assert not torch.equal(first.data.x, other.data.x)


@pytest.mark.parametrize("name", QUICK)
def test_the_harmonious_objective_makes_new_nodes_fit_in(graph: Data, name: str) -> None:
    plain, harmonious = (diagnosis(run(name, graph, hao=hao))["homophily"] for hao in (0.0, 3.0))
    assert harmonious > plain + 0.05


@pytest.mark.parametrize("name", QUICK)
def test_only_targets_count_where_there_are_some(graph: Data, name: str) -> None:
    targets = graph.test_mask.nonzero().flatten()[:5]
    attack = get(name, **QUICK[name])
    result = attack.run(graph, Budget(nodes=2, edges=5), victim=MeansGCN(graph).eval(), targets=targets)
    assert diagnosis(result)["nodes"] == 5
    assert diagnosis(result)["errors"]["found"] > diagnosis(result)["errors"]["clean"]


@pytest.mark.parametrize("name", QUICK)
def test_a_model_without_edges_is_not_fooled_and_nothing_is_claimed(graph: Data, name: str) -> None:
    with pytest.warns(UserWarning, match="reads no edges"):
        result = get(name, **QUICK[name]).run(graph, BUDGET, victim=MLPClassifier(40, 3).eval())
    told = diagnosis(result)
    assert told["errors"]["clean"] == told["errors"]["random"] == told["errors"]["found"]
    assert (told["gradient"], told["unreliable"]) == ("zero", [])


class Masked(MeansGCN):
    """Passes no gradient on to the edges or the features."""

    def forward(self, x: Tensor, edge_index: Tensor, edge_weight: Tensor | None = None) -> Tensor:
        weight = None if edge_weight is None else edge_weight.detach()
        return super().forward(x.detach(), edge_index, weight)


@pytest.mark.parametrize("name", QUICK)
def test_a_masked_gradient_is_told(graph: Data, name: str) -> None:
    result = get(name, **QUICK[name]).run(graph, BUDGET, victim=Masked(graph).eval())
    assert any("masked gradient" in reason for reason in diagnosis(result)["unreliable"])


def test_real_features_stay_between_those_of_their_column(graph: Data) -> None:
    graph.x = graph.x * torch.linspace(-2, 3, 40)
    result = run("pgd-injection", graph)
    low, high = graph.x.aminmax(dim=0)
    assert bool((result.data.x[90:] >= low).all())
    assert bool((result.data.x[90:] <= high).all())


class TestGoal:
    def test_whole_weights_give_the_discrete_graph(self, graph: Data) -> None:
        victim = MeansGCN(graph).eval()
        grown = GrownGraph(victim, graph)
        x, edges = graph.x[:2], torch.tensor([[0, 0, 1], [3, 7, 7]])
        relaxed = grown.relaxed(x, edges, torch.ones(3))
        assert torch.allclose(relaxed, grown.discrete(x, edges), atol=1e-5)
        unweighted = grown.relaxed(x, edges, torch.tensor([1.0, 0.0, 1.0]))
        assert torch.allclose(unweighted, grown.discrete(x, edges[:, [0, 2]]), atol=1e-5)

    def test_homophily_is_that_of_the_paper(self, graph: Data) -> None:
        grown = GrownGraph(MeansGCN(graph), graph)
        x, edges = graph.x[[1, 2]], torch.tensor([[0, 0, 1], [3, 7, 7]])
        degrees = grown.degrees.clone()
        degrees[3] += 1
        degrees[7] += 2
        pull = [graph.x[3] / degrees[3].sqrt() + graph.x[7] / degrees[7].sqrt(), graph.x[7]]
        expected = [torch.cosine_similarity(row, near, dim=0) for row, near in zip(x, pull, strict=True)]
        assert float(grown.homophily(x, edges, torch.ones(3))) == pytest.approx(float(sum(expected)) / 2, abs=1e-6)

    def test_the_slope_by_features_and_weights_is_exact(self, graph: Data) -> None:
        graph.x = graph.x.double()
        victim = MeansGCN(graph).double().eval()
        objective = Objective.of(graph, victim(graph.x, graph.edge_index).detach(), None, "tanh-margin")
        goal = Goal(GrownGraph(victim, graph), objective, 0.7)
        edges = torch.tensor([[0, 0, 1], [3, 7, 7]])
        x = graph.x[:2].clone().requires_grad_()
        weight = torch.tensor([0.3, 0.6, 0.9], dtype=torch.float64, requires_grad=True)
        assert torch.autograd.gradcheck(lambda x, w: goal.relaxed(x, edges, w), (x, weight))


def test_injections_are_found_by_their_names() -> None:
    names = {name for name, attack in ATTACKS.items() if attack.kind == "injection"}
    assert names >= {"random-injection", *QUICK}
