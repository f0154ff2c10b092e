from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch_geometric.data import Data

from contractive_gnn.certificates import FeatureBudget, FlipBudget, certify
from contractive_gnn.certificates import bounds as module
from contractive_gnn.certificates.attack import Flips, aim_at, ascend, push_towards, random_flips, run
from contractive_gnn.certificates.training import CertifiedFit
from contractive_gnn.nn import FlowGNN

Trained = tuple[FlowGNN, CertifiedFit]


def check(flips: Flips, data: Data, budget: FlipBudget) -> None:
    """The graph differs from the clean one by what the budget allows, and is undirected."""
    n = data.num_nodes

    def dense(edge_index: Tensor) -> Tensor:
        return torch.zeros(n, n).index_put((edge_index[0], edge_index[1]), torch.tensor(1.0), accumulate=True)

    graph = dense(flips.graph())
    change = graph - dense(data.edge_index)
    assert torch.equal(graph, graph.t())
    assert float(graph.max()) == 1
    assert float(graph.diagonal().sum()) == 0
    assert bool((change.abs().sum(dim=1) <= budget.per_node).all())
    assert budget.additions or float(change.max()) == 0
    assert budget.deletions or float(change.min()) == 0
    assert budget.total is None or float(change.abs().sum()) / 2 <= budget.total
    assert len(flips.chosen) > 0


@pytest.mark.parametrize(
    "budget",
    [
        FlipBudget.uniform(1, 120),
        FlipBudget(torch.arange(120) % 4),
        FlipBudget.uniform(2, 120, additions=False),
        FlipBudget.uniform(2, 120, deletions=False),
        FlipBudget.uniform(2, 120, total=5),
    ],
)
def test_every_attack_stays_within_the_budget(data: Data, trained: Trained, budget: FlipBudget) -> None:
    model, generator = trained[0], torch.Generator().manual_seed(0)
    with torch.no_grad():
        scores = model(data.x, data.edge_index)
    check(random_flips(data.edge_index, budget, generator=generator), data, budget)
    if budget.additions:
        check(push_towards(scores, data.edge_index, budget, goal=1, nodes=range(120)), data, budget)
    check(aim_at(scores, data.edge_index, budget, target=3, own=0, goal=1, bound=0.4, reach=50), data, budget)
    found = ascend(
        model, data.x, data.edge_index, budget, nodes=torch.arange(120), labels=scores.argmax(1), generator=generator,
        epochs=3,
    )  # fmt: skip
    for flips in found:
        check(flips, data, budget)


@pytest.mark.parametrize("features", [None, FeatureBudget(linf=0.05)])
def test_no_certified_prediction_changes(data: Data, trained: Trained, features: FeatureBudget | None) -> None:
    model, budget = trained[0], FlipBudget.uniform(1, 120)
    certificate = certify(model, data.x, data.edge_index, flips=budget, features=features)
    assert 0.3 < float(certificate.certified.double().mean()) < 1
    attacked = run(
        model, data.x, data.edge_index, certificate, flips=budget, features=features, predictions=20_000, targets=60
    )
    assert attacked.predictions >= 20_000
    assert attacked.broken == 0
    assert attacked.least_margin >= 0
    assert set(attacked.by) == {"aimed", "push", "gradient", "random"}
    assert bool(attacked.changed.any())


@pytest.mark.parametrize("total", [1, 4])
def test_no_prediction_certified_within_a_total_changes(data: Data, trained: Trained, total: int) -> None:
    model, budget = trained[0], FlipBudget.uniform(1, 120, total=total)
    certificate = certify(model, data.x, data.edge_index, flips=budget)
    capped = certify(model, data.x, data.edge_index, flips=FlipBudget.uniform(1, 120))
    assert bool((certificate.margin >= capped.margin).all())
    assert total > 1 or bool((certificate.margin > capped.margin + 1e-3).any())
    attacked = run(model, data.x, data.edge_index, certificate, flips=budget, predictions=30_000)
    assert attacked.broken == 0
    assert attacked.least_margin >= 0


def test_the_attacks_break_a_bound_that_is_wrong(data: Data, trained: Trained, monkeypatch: pytest.MonkeyPatch) -> None:
    model, budget = trained[0], FlipBudget.uniform(1, 120)
    correct = module.largest_added
    monkeypatch.setattr(module._Compiled, "serves", lambda *given: False)  # the tensor operations
    monkeypatch.setattr(module, "largest_added", lambda *arguments: 0.5 * correct(*arguments))
    certificate = certify(model, data.x, data.edge_index, flips=budget)
    attacked = run(model, data.x, data.edge_index, certificate, flips=budget, predictions=30_000, targets=120)
    assert attacked.broken > 0
    assert attacked.least_margin < 0


def test_most_of_what_is_not_certified_can_be_changed(data: Data, trained: Trained) -> None:
    model, budget = trained[0], FlipBudget.uniform(1, 120)
    certificate = certify(model, data.x, data.edge_index, flips=budget)
    attacked = run(model, data.x, data.edge_index, certificate, flips=budget, predictions=240 * 120)
    assert int(attacked.changed.sum()) > 0.6 * int((~certificate.certified).sum())
