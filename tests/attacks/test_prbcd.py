from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch_geometric.contrib.nn import GRBCDAttack, PRBCDAttack
from torch_geometric.data import Data
from torch_geometric.nn import GCNConv

from contractive_gnn.attacks.base import AttackError, AttackResult, Budget
from contractive_gnn.attacks.prbcd import GRBCD, PRBCD

ATTACKS = [PRBCD, GRBCD]
QUICK: dict[str, Any] = {"epochs": 40, "block_size": 1000}


class TinyGCN(nn.Module):
    def __init__(self, graph: Data) -> None:
        super().__init__()
        classes, columns = int(graph.y.max()) + 1, graph.x.shape[1]
        self.first, self.second = GCNConv(columns, classes), GCNConv(classes, classes)
        means = torch.stack([graph.x[graph.y == k].mean(dim=0) for k in range(classes)])
        with torch.no_grad():
            self.first.lin.weight.copy_(means - means.mean(dim=0))
            self.second.lin.weight.copy_(8 * torch.eye(classes))

    def forward(self, x: Tensor, edge_index: Tensor, edge_weight: Tensor | None = None) -> Tensor:
        return self.second(self.first(x, edge_index, edge_weight), edge_index, edge_weight)  # type: ignore[no-any-return]


class Unweighted(TinyGCN):
    def forward(self, x: Tensor, edge_index: Tensor, edge_weight: Tensor | None = None) -> Tensor:
        return super().forward(x, edge_index)


class RootOfWeights(TinyGCN):
    def forward(self, x: Tensor, edge_index: Tensor, edge_weight: Tensor | None = None) -> Tensor:
        return super().forward(x, edge_index, None if edge_weight is None else (edge_weight - 1e-7).abs().sqrt())


def diagnosis(result: AttackResult) -> dict[str, Any]:
    return result.provenance["params"]["diagnosis"]  # type: ignore[no-any-return]


MARGINS = ["tanh-margin", "prob-margin", "margin"]


# the masked cross-entropy is made for the greedy attack: its steps are too small for the other
@pytest.mark.parametrize(
    ("attack", "loss"), [*itertools.product(ATTACKS, MARGINS), (GRBCD, "masked-cross-entropy")], ids=str
)
def test_it_beats_random_flips_within_the_budget(graph: Data, attack: Any, loss: str) -> None:
    victim = TinyGCN(graph)
    result = attack(loss=loss, **QUICK).run(graph, Budget(fraction=0.1), victim=victim)
    assert 0 < result.n_flips <= result.provenance["allowed_flips"]
    wrong = victim(result.data.x, result.data.edge_index).argmax(dim=1) != graph.y
    told = diagnosis(result)
    assert told["errors"]["found"] == int(wrong[graph.test_mask].sum())
    assert told["errors"]["found"] > told["errors"]["random"]
    assert told["unreliable"] == []
    assert told["found_by"] == attack.name


@pytest.mark.parametrize("attack", ATTACKS)
def test_the_same_seed_gives_the_same_flips(graph: Data, attack: Any) -> None:
    runs = [attack(seed=3, **QUICK).run(graph, Budget(flips=15), victim=TinyGCN(graph)) for _ in range(2)]
    assert torch.equal(runs[0].edge_flips, runs[1].edge_flips)


@pytest.mark.parametrize("attack", ATTACKS)
def test_targets_are_the_nodes_that_count(graph: Data, attack: Any) -> None:
    targets = graph.test_mask.nonzero().flatten()[:3]
    result = attack(**QUICK).run(graph, Budget(flips=9), victim=TinyGCN(graph), targets=targets)
    assert diagnosis(result)["nodes"] == 3
    assert diagnosis(result)["errors"]["found"] >= 2


@pytest.mark.parametrize("attack", ATTACKS)
def test_more_flips_than_a_small_block_are_possible(graph: Data, attack: Any) -> None:
    result = attack(block_size=10, epochs=5).run(graph, Budget(flips=50), victim=TinyGCN(graph))
    assert 0 < result.n_flips <= 50


@pytest.mark.parametrize("attack", ATTACKS)
@pytest.mark.parametrize(
    ("victim", "gradient"),
    [(Unweighted, "zero"), (RootOfWeights, "ok")],
    ids=["no gradient", "steep at a block's edges"],
)
def test_a_difficult_gradient_stops_nothing(graph: Data, attack: Any, victim: Any, gradient: str) -> None:
    result = attack(**QUICK).run(graph, Budget(flips=15), victim=victim(graph))
    assert result.n_flips <= 15
    assert diagnosis(result)["gradient"] == gradient
    assert bool(diagnosis(result)["unreliable"]) == (gradient == "zero")


def test_too_small_a_graph_is_refused_with_the_way_out(graph: Data) -> None:
    small = graph.subgraph(torch.arange(12))
    small.test_mask[:] = True
    with pytest.raises(AttackError, match=r"too few pairs of nodes for 66 flips.*whitebox-pgd"):
        PRBCD(**QUICK).run(small, Budget(flips=66), victim=TinyGCN(graph))


def test_nothing_of_a_run_stays_in_pyg(graph: Data) -> None:
    before = dict(PRBCDAttack.coeffs), dict(GRBCDAttack.coeffs)
    for attack in ATTACKS:
        attack(**QUICK).run(graph, Budget(flips=5), victim=TinyGCN(graph))
    assert (PRBCDAttack.coeffs, GRBCDAttack.coeffs) == before


@pytest.mark.parametrize(
    ("attack", "options", "error", "text"),
    [
        (PRBCD, {"loss": "hinge"}, ValueError, "loss is one of 'tanh-margin'"),
        (PRBCD, {"lr": -1.0}, ValueError, "lr must be positive"),
        (PRBCD, {"block_size": 0}, ValueError, "block_size must be at least 1"),
        (GRBCD, {"epochs": 2.5}, TypeError, "epochs is a whole number"),
    ],
)
def test_bad_options_are_refused(attack: Any, options: dict[str, Any], error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        attack(**options)


@pytest.mark.parametrize("attack", ATTACKS)
def test_the_bar_is_pygs_and_decides_nothing(attack: Any, graph: Data, capsys: pytest.CaptureFixture[str]) -> None:
    victim, found = TinyGCN(graph), []
    for progress in (False, True):
        given = attack(epochs=4, block_size=1000, progress=progress)
        assert "progress" not in given.params
        found.append(given.run(graph, Budget(flips=5), victim=victim))
        assert ("4/4" in capsys.readouterr().err) == progress
    assert torch.equal(found[0].edge_flips, found[1].edge_flips)
