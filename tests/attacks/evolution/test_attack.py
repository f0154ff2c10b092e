from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch_geometric.data import Data

from contractive_gnn.attacks import AttackError, AttackResult, Budget
from contractive_gnn.attacks.base import flip_edges, undirected_edges
from contractive_gnn.attacks.evolution import CertifiedErrors, EvA
from contractive_gnn.certificates import FlipBudget, certify
from contractive_gnn.nn import GCNClassifier, build
from contractive_gnn.training import evaluate, fit
from tests.attacks.conftest import block_graph

QUICK: dict[str, Any] = {"population": 16, "generations": 12}


@pytest.fixture(scope="module")
def victim() -> nn.Module:
    torch.manual_seed(0)
    model = GCNClassifier(40, 3)
    fit(model, block_graph(), epochs=60)
    return model.eval()


def told(result: AttackResult) -> dict[str, Any]:
    return result.provenance["params"]["diagnosis"]  # type: ignore[no-any-return]


def test_it_beats_random_flips_within_the_budget(graph: Data, victim: nn.Module) -> None:
    start = EvA(population=16, generations=0).run(graph, Budget(fraction=0.1), victim=victim)  # the best of 16
    result = EvA(**QUICK).run(graph, Budget(fraction=0.1), victim=victim)
    assert result.n_flips <= result.provenance["allowed_flips"]
    after = evaluate(victim, result.data, graph.test_mask)
    assert told(result)["errors"]["found"] == round(45 * (1 - after / 100))
    assert told(result)["errors"]["found"] > told(start)["errors"]["found"] > told(start)["errors"]["clean"]
    json.dumps(result.provenance)


class Counted(nn.Module):
    """Counts how often it is asked; has no gradient."""

    calls = 0

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
        Counted.calls += 1
        return self.model(x, edge_index).argmax(dim=1).eq(torch.arange(3)[:, None]).t().float()  # type: ignore[no-any-return]


def test_it_asks_for_no_gradient_and_counts_its_calls(graph: Data, victim: nn.Module) -> None:
    Counted.calls = 0
    result = EvA(**QUICK).run(graph, Budget(flips=10), victim=Counted(victim))
    assert told(result)["calls"] == 2 + 16 + 12 * 17
    # beside those of the search: some to look at the victim, and two for the notes
    assert 2 < Counted.calls - told(result)["calls"] < 10
    assert told(result)["errors"]["found"] > told(result)["errors"]["clean"]


@pytest.mark.parametrize("budget", [1, 2])
def test_a_small_problem_is_solved_as_by_enumeration(make_graph: Any, budget: int) -> None:
    graph = make_graph(n=9)
    graph.test_mask = torch.ones_like(graph.test_mask)
    torch.manual_seed(0)
    model = GCNClassifier(40, 3).eval()
    graph.y = model(graph.x, graph.edge_index).argmax(dim=1)
    pairs = torch.triu_indices(9, 9, 1)
    most = 0
    for places in itertools.combinations(range(pairs.shape[1]), budget):
        edge_index = flip_edges(graph.edge_index, pairs[:, list(places)], num_nodes=9)
        most = max(most, int((model(graph.x, edge_index).argmax(dim=1) != graph.y).sum()))
    result = EvA(population=30, generations=12, mutation=0.3).run(graph, Budget(flips=budget), victim=model)
    assert told(result)["errors"] == {"clean": 0, "found": most}
    assert result.n_flips <= budget


def test_the_same_seed_gives_the_same_flips_and_another_does_not(graph: Data, victim: nn.Module) -> None:
    def flips(seed: int) -> Tensor:
        return EvA(population=6, generations=4, seed=seed).run(graph, Budget(flips=9), victim=victim).edge_flips

    assert torch.equal(flips(1), flips(1))
    assert not torch.equal(flips(1), flips(2))


class TestCheckpoint:
    def run(self, graph: Data, victim: nn.Module, generations: int, path: Path | None, **options: Any) -> AttackResult:
        attack = EvA(population=8, generations=generations, checkpoint=path, **options)
        return attack.run(graph, Budget(flips=9), victim=victim)

    def test_a_stopped_search_ends_as_one_that_was_not(self, graph: Data, victim: nn.Module, tmp_path: Path) -> None:
        path = tmp_path / "folder" / "eva.npz"
        self.run(graph, victim, 3, path)
        went_on = self.run(graph, victim, 7, path)
        whole = self.run(graph, victim, 7, None)
        assert torch.equal(went_on.edge_flips, whole.edge_flips)
        assert told(went_on) == told(whole)
        assert went_on.provenance["params"] == whole.provenance["params"]
        assert [file.name for file in path.parent.iterdir()] == ["eva.npz"]

    def test_that_of_another_search_is_refused(self, graph: Data, victim: nn.Module, tmp_path: Path) -> None:
        path = tmp_path / "eva.npz"
        self.run(graph, victim, 3, path)
        with pytest.raises(AttackError, match="checkpoint of another search"):
            self.run(graph, victim, 3, path, seed=1)
        with pytest.raises(AttackError, match="checkpoint of another search"):
            self.run(graph, victim, 3, path, mutation=0.5)
        with pytest.raises(AttackError, match="checkpoint of another search"):
            self.run(graph, Colder(victim), 3, path)
        with pytest.raises(AttackError, match="has done 3 generations, and 2 are asked for"):
            self.run(graph, victim, 2, path)
        path.unlink()
        self.run(graph, victim, 3, path, objective=lambda model, data: float(data.num_edges))
        with pytest.raises(AttackError, match=r"the objective .*lambda.* gives"):
            self.run(graph, victim, 3, path, objective=lambda model, data: -float(data.num_edges))
        path.write_text("no checkpoint")
        with pytest.raises(AttackError, match="is no checkpoint"):
            self.run(graph, victim, 3, path)


class Colder(nn.Module):
    """Another model, with the same predictions on every graph."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
        return 2 * self.model(x, edge_index)  # type: ignore[no-any-return]


class TestObjectives:
    def test_a_loss_finds_what_to_do_about_one_node(self, graph: Data, victim: nn.Module) -> None:
        scores = victim(graph.x, graph.edge_index)
        right = graph.test_mask & (scores.argmax(dim=1) == graph.y)
        target = right.nonzero().flatten()[:1]
        attack = EvA(objective="tanh-margin", population=24, generations=40, mutation=0.2)
        result = attack.run(graph, Budget(flips=12), victim=victim, targets=target)
        assert told(result)["errors"] == {"clean": 0, "found": 1}
        assert told(result)["objective"]["found"] > 0 > told(result)["objective"]["clean"]

    def test_one_of_ones_own_is_raised(self, graph: Data, victim: nn.Module) -> None:
        def joined(model: nn.Module, data: Data) -> float:
            return float((data.edge_index[0] == 5).sum())

        result = EvA(objective=joined, **QUICK).run(graph, Budget(flips=6), victim=victim)
        assert (
            told(result)["objective"]["found"]
            > told(result)["objective"]["clean"]
            == int((graph.edge_index[0] == 5).sum())
        )
        assert "joined" in result.provenance["params"]["objective"]

    def test_it_sees_the_nodes_that_count(self, graph: Data, victim: nn.Module) -> None:
        seen = []

        def look(model: nn.Module, data: Data) -> Tensor:
            seen.append(data.test_mask.nonzero().flatten())
            return torch.tensor(0.0)

        targets = torch.tensor([3, 8])
        EvA(objective=look, population=2, generations=1).run(graph, Budget(flips=2), victim=victim, targets=targets)
        assert all(torch.equal(nodes, targets) for nodes in seen)

    def test_it_may_be_the_certified_share(self, graph: Data) -> None:
        model = build("linf-diffusion", 40, 3)
        fit(model, graph, epochs=20)
        attack = EvA(objective=CertifiedErrors(flips=3), population=4, generations=2)
        result = attack.run(graph, Budget(flips=40), victim=model.eval())
        proved = certify(model, graph.x, result.data.edge_index, flips=FlipBudget.uniform(3, 90))
        assert told(result)["objective"]["found"] == 100 - proved.accuracy(graph.y, graph.test_mask)
        assert told(result)["objective"]["found"] > told(result)["objective"]["clean"]
        named = EvA(objective="certified", population=2, generations=0).run(graph, Budget(flips=1), victim=model)
        alone = CertifiedErrors(flips=1)(model, graph)
        assert told(named)["objective"]["clean"] == alone

    def test_a_model_without_a_certificate_is_told(self, graph: Data, victim: nn.Module) -> None:
        with pytest.raises(AttackError, match="nothing is proved about GCNClassifier"):
            EvA(objective="certified", **QUICK).run(graph, Budget(flips=2), victim=victim)
        with pytest.raises(ValueError, match="flips must be at least 1"):
            CertifiedErrors(0)

    @pytest.mark.parametrize("answer", [None, float("nan"), "much", torch.zeros(2)])
    def test_what_is_no_number_is_refused(self, graph: Data, victim: nn.Module, answer: Any) -> None:
        with pytest.raises(AttackError, match="expected one finite number"):
            EvA(objective=lambda model, data: answer, **QUICK).run(graph, Budget(flips=2), victim=victim)


def test_flips_that_help_nobody_are_left_out(graph: Data, victim: nn.Module) -> None:
    def fewest(model: nn.Module, data: Data) -> float:
        return -float(len(undirected_edges(data.edge_index)[0]) != 0) * abs(data.edge_index.shape[1] - edges)

    edges = graph.edge_index.shape[1]
    result = EvA(objective=fewest, population=4, generations=1).run(graph, Budget(flips=9), victim=victim)
    assert (result.n_flips, told(result)["objective"]["found"]) == (0, 0.0)


@pytest.mark.parametrize(
    ("options", "error", "says"),
    [
        ({"objective": "accuracy"}, ValueError, "objective is one of 'errors', 'certified'"),
        ({"objective": 3}, TypeError, "or a callable"),
        ({"population": 1}, ValueError, "population must be at least 2"),
        ({"generations": -1}, ValueError, "generations must be at least 0"),
        ({"mutation": 1.5}, ValueError, "mutation must be"),
        ({"points": 0}, ValueError, "points must be at least 1"),
        ({"progress": 1}, TypeError, "progress must be True or False"),
    ],
)
def test_other_options_are_refused(options: dict[str, Any], error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says):
        EvA(**options)
