from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch_geometric.data import Data
from torch_geometric.nn import GCNConv

from contractive_gnn.attacks.base import AttackError, AttackResult, Budget, flip_edges, undirected_edges
from contractive_gnn.attacks.whitebox import (
    EdgeFlips,
    FeatureFlips,
    WhiteboxPGD,
    WhiteboxPGDFeatures,
    margin,
)
from contractive_gnn.nn import build
from contractive_gnn.training import fit

QUICK: dict[str, Any] = {"epochs": 15, "fine_epochs": 5, "samples": 5, "swaps": 15}


class TinyGCN(nn.Module):
    """Two layers whose weights are class means: predicts the blocks well without training."""

    def __init__(self, graph: Data, scale: float = 8.0) -> None:
        super().__init__()
        torch.manual_seed(0)
        classes, columns = int(graph.y.max()) + 1, graph.x.shape[1]
        self.first, self.second = GCNConv(columns, classes), GCNConv(classes, classes)
        means = torch.stack([graph.x[graph.y == k].mean(dim=0) for k in range(classes)])
        with torch.no_grad():
            self.first.lin.weight.copy_(means - means.mean(dim=0))
            self.second.lin.weight.copy_(scale * torch.eye(classes))

    def forward(self, x: Tensor, edge_index: Tensor, edge_weight: Tensor | None = None) -> Tensor:
        return self.second(self.first(x, edge_index, edge_weight), edge_index, edge_weight)  # type: ignore[no-any-return]


def errors(victim: nn.Module, result: AttackResult) -> int:
    data = result.data
    wrong = victim(data.x, data.edge_index).argmax(dim=1) != data.y
    return int(wrong[data.test_mask].sum())


def diagnosis(result: AttackResult) -> dict[str, Any]:
    return result.provenance["params"]["diagnosis"]  # type: ignore[no-any-return]


class TestEdgeFlips:
    @pytest.mark.parametrize("candidates", [None, 200, 4000])
    def test_flips_done_are_the_graph_of_the_base_class(self, graph: Data, candidates: int | None) -> None:
        flips = EdgeFlips(TinyGCN(graph), graph.x, undirected_edges(graph.edge_index), candidates=candidates)
        torch.manual_seed(0)
        chosen = flips.draw(30)
        assert int(chosen.sum()) == 30
        assert int((chosen & flips.present).sum()) == 15
        assert torch.allclose(flips.done(chosen), flips.relaxed(chosen.float()), atol=1e-5)
        pairs = flips.perturbation(chosen).edge_flips
        flipped = flip_edges(graph.edge_index, pairs, num_nodes=90)
        assert torch.allclose(flips.done(chosen), flips.victim(graph.x, flipped), atol=1e-5)
        assert bool((pairs[0] < pairs[1]).all())
        assert int(torch.unique(flips.pairs, dim=1).shape[1]) == flips.size
        assert bool(flips.among(pairs).equal(chosen))

    def test_a_renewed_block_keeps_what_has_weight(self, graph: Data) -> None:
        flips = EdgeFlips(TinyGCN(graph), graph.x, undirected_edges(graph.edge_index), candidates=200)
        torch.manual_seed(0)
        p = flips.draw(40).float() * 0.7
        before = {tuple(pair): float(w) for pair, w in zip(flips.pairs.t().tolist(), p, strict=True)}
        renewed, q = flips.renew(p)
        assert renewed.size == flips.size
        assert renewed.pairs.unique(dim=1).shape[1] == renewed.size
        after = {tuple(pair): float(w) for pair, w in zip(renewed.pairs.t().tolist(), q, strict=True)}
        assert {k: w for k, w in after.items() if w > 0} == {k: w for k, w in before.items() if w > 0}
        assert len(before.keys() - after.keys()) > 100

    def test_a_block_of_all_pairs_stays(self, graph: Data) -> None:
        flips = EdgeFlips(TinyGCN(graph), graph.x, undirected_edges(graph.edge_index))
        assert flips.size == 90 * 89 // 2
        assert flips.renew(flips.none())[0] is flips


class LinearVotes(nn.Module):
    """Two-class logits ±Σ over edges of a fixed value: the best flips are known."""

    def __init__(self, values: Tensor, bias: float) -> None:
        super().__init__()
        self.values, self.bias = values, bias

    def forward(self, x: Tensor, edge_index: Tensor, edge_weight: Tensor | None = None) -> Tensor:
        weight = x.new_ones(edge_index.shape[1]) if edge_weight is None else edge_weight
        vote = self.bias + x.new_zeros(x.shape[0]).index_add(
            0, edge_index[1], weight * self.values[edge_index[0], edge_index[1]]
        )
        return torch.stack([vote, -vote], dim=1)


def linear_problem(seed: int, *, bias: float) -> tuple[Data, LinearVotes, EdgeFlips]:
    """Six nodes on a path with one chord; labels that the clean graph mostly gets right."""
    n = 6
    values = torch.randn(n, n, generator=torch.Generator().manual_seed(seed))
    edges = torch.tensor([[0, 0, 1, 2, 3], [1, 2, 3, 4, 5]])
    every = torch.ones(n, dtype=torch.bool)
    data = Data(
        x=torch.ones(n, 1),
        edge_index=torch.cat([edges, edges.flip(0)], dim=1),
        y=torch.zeros(n, dtype=torch.long),
        train_mask=every,
        val_mask=every,
        test_mask=every,
    )
    victim = LinearVotes(values + values.t(), bias)
    return data, victim, EdgeFlips(victim, data.x, edges)


def every_choice(flips: EdgeFlips, budget: int) -> Iterator[Tensor]:
    for places in itertools.combinations(range(flips.size), budget):
        chosen = torch.zeros(flips.size, dtype=torch.bool)
        chosen[list(places)] = True
        yield chosen


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("loss", ["tanh-margin", "prob-margin"])
def test_on_a_linear_model_it_causes_as_many_errors_as_any_flips_do(seed: int, loss: str) -> None:
    data, victim, flips = linear_problem(seed, bias=2.0)
    most = max(int((flips.done(chosen).argmax(dim=1) != data.y).sum()) for chosen in every_choice(flips, 3))
    result = WhiteboxPGD(loss=loss).run(data, Budget(flips=3), victim=victim)
    assert result.n_flips <= 3
    assert errors(victim, result) == most


@pytest.mark.parametrize("budget", [1, 3])
@pytest.mark.parametrize("seed", range(3))
def test_where_the_loss_is_linear_it_takes_the_very_flips_that_enumeration_does(seed: int, budget: int) -> None:
    # nobody can be fooled, so that the Carlini–Wagner loss is the mean margin, which is linear in p
    data, victim, flips = linear_problem(seed, bias=100.0)
    best = max(every_choice(flips, budget), key=lambda chosen: float(margin(flips.done(chosen), data.y).mean()))
    result = WhiteboxPGD(loss="cw", epochs=30, fine_epochs=10).run(data, Budget(flips=budget), victim=victim)
    assert {tuple(pair) for pair in result.edge_flips.t().tolist()} == {
        tuple(pair) for pair in flips.perturbation(best).edge_flips.t().tolist()
    }


class TestWhiteboxPGD:
    @pytest.mark.parametrize("candidates", [None, 400])
    def test_it_beats_random_flips_within_the_budget(self, graph: Data, candidates: int | None) -> None:
        victim = TinyGCN(graph)
        result = WhiteboxPGD(candidates=candidates, **QUICK).run(graph, Budget(fraction=0.1), victim=victim)
        assert 0 < result.n_flips <= result.provenance["allowed_flips"]
        report = diagnosis(result)
        assert report["errors"]["found"] == errors(victim, result)
        assert report["errors"]["found"] > report["errors"]["random"] + 5
        assert report["gradient"] == "ok"
        assert report["unreliable"] == []
        json.dumps(result.provenance)

    def test_the_same_seed_gives_the_same_flips_and_another_may_not(self, graph: Data) -> None:
        def flips(seed: int) -> Tensor:
            attack = WhiteboxPGD(candidates=200, seed=seed, **QUICK)
            return attack.run(graph, Budget(flips=12), victim=TinyGCN(graph)).edge_flips

        assert torch.equal(flips(1), flips(1))
        assert not torch.equal(flips(1), flips(2))

    def test_the_scale_of_the_logits_hides_nothing(self, graph: Data) -> None:
        # a power of two: the very same floating-point numbers
        runs = [
            WhiteboxPGD(**QUICK).run(graph, Budget(flips=12), victim=TinyGCN(graph, scale=scale))
            for scale in (8.0, 8.0 * 2**20)
        ]
        assert torch.equal(runs[0].edge_flips, runs[1].edge_flips)

    def test_targets_are_the_nodes_that_count(self, graph: Data) -> None:
        victim = TinyGCN(graph)
        targets = graph.test_mask.nonzero().flatten()[:4]
        result = WhiteboxPGD(**QUICK).run(graph, Budget(flips=6), victim=victim, targets=targets)
        assert diagnosis(result)["nodes"] == 4
        predicted = victim(result.data.x, result.data.edge_index).argmax(dim=1)
        assert int((predicted != graph.y)[targets].sum()) == diagnosis(result)["errors"]["found"] >= 2

    def test_float64_graphs_work(self, graph: Data) -> None:
        graph.x = graph.x.double()
        result = WhiteboxPGD(**QUICK).run(graph, Budget(flips=4), victim=TinyGCN(graph).double())
        assert 0 < result.n_flips <= 4

    @pytest.mark.parametrize(
        ("options", "error", "text"),
        [
            ({"loss": "hinge"}, ValueError, "loss is one of 'tanh-margin'"),
            ({"epochs": 0}, ValueError, "epochs must be at least 1"),
            ({"step": 0.0}, ValueError, "step must be positive"),
            ({"candidates": 1.5}, TypeError, "candidates is a whole number"),
            ({"swaps": -1}, ValueError, "swaps must be at least 0"),
        ],
    )
    def test_bad_options_are_refused(self, options: dict[str, Any], error: type[Exception], text: str) -> None:
        with pytest.raises(error, match=text):
            WhiteboxPGD(**options)

    def test_a_graph_without_test_nodes_is_refused(self, graph: Data) -> None:
        graph.test_mask = torch.zeros_like(graph.test_mask)
        with pytest.raises(ValueError, match="selects no node"):
            WhiteboxPGD().run(graph, Budget(flips=1), victim=TinyGCN(graph))

    @pytest.mark.parametrize(
        ("logits", "text"),
        [
            (torch.full((90, 3), torch.nan), "are not finite"),
            (torch.zeros(90, 1), "shape \\[90, 1\\]"),
            (torch.zeros(3), "shape \\[3\\]"),
        ],
    )
    def test_a_victim_that_is_no_classifier_is_refused(self, graph: Data, logits: Tensor, text: str) -> None:
        with pytest.raises(AttackError, match=text):
            WhiteboxPGD().run(graph, Budget(flips=1), victim=Constant(logits))


class Constant(nn.Module):
    def __init__(self, logits: Tensor) -> None:
        super().__init__()
        self.logits = logits

    def forward(self, x: Tensor, edge_index: Tensor, edge_weight: Tensor | None = None) -> Tensor:
        return self.logits


class WithoutEdges(TinyGCN):
    """Sees features only."""

    def forward(self, x: Tensor, edge_index: Tensor, edge_weight: Tensor | None = None) -> Tensor:
        return super().forward(x, edge_index[:, :0])


class Unweighted(TinyGCN):
    """Uses the edges and ignores their weights."""

    def forward(self, x: Tensor, edge_index: Tensor, edge_weight: Tensor | None = None) -> Tensor:
        return super().forward(x, edge_index)


class Thresholded(TinyGCN):
    """Rounds the weights: zero gradient at every edge."""

    def forward(self, x: Tensor, edge_index: Tensor, edge_weight: Tensor | None = None) -> Tensor:
        return super().forward(x, edge_index, None if edge_weight is None else edge_weight.round())


class SquaredWeights(TinyGCN):
    """The weight enters squared: the gradient vanishes at every non-edge."""

    def forward(self, x: Tensor, edge_index: Tensor, edge_weight: Tensor | None = None) -> Tensor:
        return super().forward(x, edge_index, None if edge_weight is None else edge_weight**2)


class RootOfWeights(TinyGCN):
    """The square root of the weight has an infinite slope at every non-edge."""

    def forward(self, x: Tensor, edge_index: Tensor, edge_weight: Tensor | None = None) -> Tensor:
        return super().forward(x, edge_index, None if edge_weight is None else edge_weight.sqrt())


class Adverse(TinyGCN):
    """The gradient has the wrong sign everywhere."""

    def forward(self, x: Tensor, edge_index: Tensor, edge_weight: Tensor | None = None) -> Tensor:
        return super().forward(x, edge_index, None if edge_weight is None else 2 * edge_weight.detach() - edge_weight)


MASKS: list[tuple[type[TinyGCN], str, str]] = [
    (WithoutEdges, "zero", ""),
    (Unweighted, "zero", "zero everywhere, yet flips change the logits"),
    (Thresholded, "zero", "zero everywhere, yet flips change the logits"),
    (SquaredWeights, "ok", "gradient is exactly 0 .* change the logits: masked gradient"),
    (RootOfWeights, "non-finite", "entries of the gradient are not finite"),
    (Adverse, "ok", "random flips cause"),
]


@pytest.mark.parametrize(("victim", "gradient", "reason"), MASKS)
def test_gradient_masking_is_told(graph: Data, victim: type[TinyGCN], gradient: str, reason: str) -> None:
    result = WhiteboxPGD(epochs=3, fine_epochs=0, swaps=0).run(graph, Budget(flips=40), victim=victim(graph))
    report = diagnosis(result)
    assert report["gradient"] == gradient
    if reason:
        assert any(re.search(reason, told) for told in report["unreliable"]), report
    else:
        assert report["unreliable"] == []
    assert report["errors"]["found"] >= report["errors"]["random"]


class Exchange(nn.Module):
    """Scores that flow along the edges: what one end of an edge gains the other loses."""

    def forward(self, x: Tensor, edge_index: Tensor, edge_weight: Tensor | None = None) -> Tensor:
        j, i = edge_index
        weight = x.new_ones(j.numel()) if edge_weight is None else edge_weight
        return x.index_add(0, i, 0.1 * weight[:, None] * (x[j] - x[i]))


def test_what_two_nodes_exchange_is_no_masked_gradient() -> None:
    # every flip moves the margins of its ends by opposite amounts: the gradient of their mean is 0 at all of them
    x = torch.stack([torch.arange(1.0, 9.0), torch.zeros(8)], dim=1)
    pairs = torch.tensor([[0, 2, 4, 6], [1, 3, 5, 7]])
    every = torch.ones(8, dtype=torch.bool)
    data = Data(
        x=x,
        edge_index=torch.cat([pairs, pairs.flip(0)], dim=1),
        y=torch.zeros(8, dtype=torch.long),
        train_mask=every,
        val_mask=every,
        test_mask=every,
    )
    report = diagnosis(WhiteboxPGD(**QUICK).run(data, Budget(flips=2), victim=Exchange()))
    assert (report["gradient"], report["zero_gradient_fraction"]) == ("ok", 0.0)
    assert report["unreliable"] == []


@pytest.mark.parametrize(("name", "options"), [("rung", {}), ("elastic-gnn", {"lambda1": 0.3}), ("gnnguard", {})])
def test_the_robust_baselines_hide_no_gradient(graph: Data, name: str, options: dict[str, float]) -> None:
    model = build(name, graph.num_features, 3, **options)
    fit(model, graph, epochs=30)
    report = diagnosis(WhiteboxPGD(**QUICK).run(graph, Budget(flips=40), victim=model.eval()))
    assert report["gradient"] == "ok"
    assert report["unreliable"] == []
    assert report["errors"]["found"] > report["errors"]["random"]


class TestWhiteboxPGDFeatures:
    def test_it_beats_random_entries_within_the_budget(self, graph: Data) -> None:
        victim = TinyGCN(graph)
        result = WhiteboxPGDFeatures(**QUICK).run(graph, Budget(fraction=0.1), victim=victim)
        assert 0 < result.n_flips <= result.provenance["allowed_flips"]
        assert result.edge_flips.shape[1] == 0
        assert diagnosis(result)["errors"]["found"] == errors(victim, result)
        assert diagnosis(result)["errors"]["found"] > diagnosis(result)["errors"]["random"] + 5

    def test_flips_done_change_exactly_these_entries(self, graph: Data) -> None:
        flips = FeatureFlips(TinyGCN(graph), graph.x, graph.edge_index)
        torch.manual_seed(0)
        chosen = flips.draw(31)
        rows, columns = flips.perturbation(chosen).feature_flips
        assert rows.numel() == 31
        assert int(graph.x[rows, columns].sum()) == 15
        flipped = graph.x.clone()
        flipped[rows, columns] = 1 - flipped[rows, columns]
        assert torch.equal(flips.done(chosen), flips.victim(flipped, graph.edge_index))

    def test_on_a_linear_classifier_it_takes_the_steepest_entries(self) -> None:
        # one node, two classes, logits ±w·x: the best two flips are those with the largest loss of margin
        weight = torch.tensor([3.0, -1.0, 2.0, -4.0, 0.5])
        x = torch.tensor([[1.0, 1.0, 1.0, 0.0, 0.0]])
        every = torch.ones(1, dtype=torch.bool)
        data = Data(
            x=x,
            edge_index=torch.empty(2, 0, dtype=torch.long),
            y=torch.tensor([0]),
            train_mask=every,
            val_mask=every,
            test_mask=every,
        )

        class Linear(nn.Module):
            def forward(self, x: Tensor, edge_index: Tensor, edge_weight: Tensor | None = None) -> Tensor:
                vote = x @ weight
                return torch.stack([vote, -vote], dim=1)

        result = WhiteboxPGDFeatures().run(data, Budget(flips=2), victim=Linear())
        assert sorted(result.feature_flips[1].tolist()) == [0, 3]
