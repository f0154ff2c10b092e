from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch_geometric.data import Data

import contractive_gnn as cg
from contractive_gnn.attacks import AttackResult, Budget, get
from contractive_gnn.attacks.whitebox import EdgeFlips, LocalPGD
from contractive_gnn.nn import GCNClassifier
from contractive_gnn.training import fit
from tests.attacks.conftest import block_graph

QUICK: dict[str, Any] = {"epochs": 10, "fine_epochs": 3, "samples": 3, "swaps": 6, "candidates": 100}


@pytest.fixture(scope="module")
def victim() -> nn.Module:
    torch.manual_seed(0)
    model = GCNClassifier(40, 3)
    fit(model, block_graph(), epochs=60)
    return model.eval()


@pytest.fixture
def targets(graph: Data, victim: nn.Module) -> Tensor:
    right = victim(graph.x, graph.edge_index).argmax(dim=1) == graph.y
    return (graph.test_mask & right).nonzero().flatten()[[5, 2, 8, 11]]


def wrong(victim: nn.Module, result: AttackResult, nodes: Tensor) -> int:
    predicted = victim(result.data.x, result.data.edge_index).argmax(dim=1)
    return int((predicted != result.data.y)[nodes].sum())


def test_each_target_has_a_share_of_its_degree(graph: Data, victim: nn.Module, targets: Tensor) -> None:
    degrees = graph.edge_index[0].bincount(minlength=90)[targets]
    result = LocalPGD(**QUICK).run(graph, Budget(degree=0.5), victim=victim, targets=targets)
    assert result.provenance["allowed_flips"] == (degrees // 2).tolist()
    assert result.n_flips <= int((degrees // 2).sum())
    told = result.provenance["params"]["diagnosis"]
    assert told["nodes"] == len(told["found_by"]) == 4
    assert told["errors"]["clean"] == 0


def test_it_does_more_than_nettack_with_the_same_budget(graph: Data, victim: nn.Module, targets: Tensor) -> None:
    found = {}
    for name, options in (("local-pgd", QUICK), ("nettack", {})):
        attack = get(name, **options)
        alone = [attack.run(graph, Budget(degree=1.5), victim=victim, targets=one) for one in targets.split(1)]
        found[name] = sum(wrong(victim, result, one) for result, one in zip(alone, targets.split(1), strict=True))
    assert found["local-pgd"] >= found["nettack"]
    assert found["local-pgd"] == 4


def test_a_number_for_each_target(graph: Data, victim: nn.Module, targets: Tensor, tmp_path: Path) -> None:
    budgets = torch.tensor([0, 3, 1, 0])
    result = cg.attack(victim, graph, "local-pgd", per_target=budgets, targets=targets, **QUICK)
    assert result.provenance["allowed_flips"] == [0, 3, 1, 0]
    assert result.n_flips <= 4
    result.save(tmp_path / "attacked.npz")
    assert AttackResult.load(tmp_path / "attacked.npz").budget == Budget(per_target=[0, 3, 1, 0])
    nothing = cg.attack(victim, graph, "local-pgd", per_target=[0] * 4, targets=targets, **QUICK)
    assert nothing.n_flips == 0


def test_pairs_with_the_target_stay_when_others_are_drawn_anew(graph: Data, victim: nn.Module) -> None:
    flips = LocalPGD(candidates=50)._flips(graph, victim, 2, torch.tensor([7]))
    assert isinstance(flips, EdgeFlips)
    m = graph.num_edges // 2
    degree = int((graph.edge_index[0] == 7).sum())
    assert flips.size == m + (89 - degree) + 50
    renewed, p = flips.renew(flips.none())
    assert isinstance(renewed, EdgeFlips)
    assert torch.equal(renewed.pairs[:, :-50], flips.pairs[:, :-50])
    assert not torch.equal(renewed.pairs, flips.pairs)
    assert renewed.pairs.unique(dim=1).shape[1] == flips.size == p.numel()
    assert int((renewed.pairs == 7).any(dim=0).sum()) == 89
    assert int(renewed.present.sum()) == m


@pytest.mark.parametrize(
    ("budget", "says"),
    [
        (Budget(fraction=0.1), "is targeted: its budget is a number of flips per target"),
        (Budget(per_target=[1, 2]), "holds 2 budgets for 4 targets"),
        (Budget(per_target=[1, 1, 1, 5000]), "is more than the 4005"),
    ],
)
def test_other_budgets_are_refused(graph: Data, victim: nn.Module, targets: Tensor, budget: Budget, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        LocalPGD(**QUICK).run(graph, budget, victim=victim, targets=targets)


def test_a_global_attack_has_no_budget_for_each_target(graph: Data, victim: nn.Module, targets: Tensor) -> None:
    for budget in (Budget(degree=0.5), Budget(per_target=[1, 1, 1, 1])):
        with pytest.raises(ValueError, match="is global and Budget"):
            get("whitebox-pgd").run(graph, budget, victim=victim, targets=targets)


class Masked(nn.Module):
    """Weights squared: a missing edge has a gradient of exactly 0."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor, edge_index: Tensor, edge_weight: Tensor | None = None) -> Tensor:
        return self.model(x, edge_index, None if edge_weight is None else edge_weight**2)  # type: ignore[no-any-return]


def test_a_masked_gradient_is_seen_with_a_budget_of_one_flip() -> None:
    data = cg.contextual_sbm(300, classes=3, seed=0)  # of whose pairs one at random is far from a target
    victim = cg.build("gcn", data.num_features, 3).eval()
    nodes = data.test_mask.nonzero().flatten()
    for seed in range(6):
        attack = LocalPGD(epochs=1, fine_epochs=0, samples=0, swaps=0, seed=seed)
        for model, masked in ((victim, False), (Masked(victim), True)):
            result = attack.run(data, Budget(flips=1), victim=model, targets=nodes[20 * seed :][:1])
            reasons = result.provenance["params"]["diagnosis"]["unreliable"]
            assert any("masked gradient" in reason for reason in reasons) is masked
