"""One verdict over an ensemble of attacks, and its doubts."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch_geometric.data import Data
from torch_geometric.nn import GCNConv

import contractive_gnn as cg
from contractive_gnn.attacks import AttackError
from contractive_gnn.attacks.auto import Member, Verdict, auto, ensemble
from contractive_gnn.attacks.perturbation_file import load_perturbations
from contractive_gnn.training import evaluate, fit

QUICK = (
    Member("random", "random"),
    Member("from-gcn", "whitebox-pgd", {"epochs": 5, "fine_epochs": 2, "swaps": 5}, surrogate="gcn"),
    Member("eva", "eva", {"population": 8, "generations": 4}),
    Member("pgd", "whitebox-pgd", {"epochs": 5, "fine_epochs": 2, "swaps": 5}, adaptive=True),
)


@pytest.fixture(scope="module")
def data() -> Data:
    return cg.contextual_sbm(120, classes=3, seed=0)


class Net(nn.Module):
    """Two convolutions."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.first, self.second = (GCNConv(size, out) for size, out in ((features, 16), (16, 3)))

    def forward(self, x: Tensor, edge_index: Tensor, edge_weight: Tensor | None = None) -> Tensor:
        return self.second(self.first(x, edge_index, edge_weight).relu(), edge_index, edge_weight)


class Masked(Net):
    """Edge weights squared, of which a missing edge has a gradient of 0."""

    def forward(self, x: Tensor, edge_index: Tensor, edge_weight: Tensor | None = None) -> Tensor:
        return super().forward(x, edge_index, None if edge_weight is None else edge_weight**2)


class Noisy(Net):
    """An answer drawn at random."""

    def forward(self, x: Tensor, edge_index: Tensor, edge_weight: Tensor | None = None) -> Tensor:
        return super().forward(x + torch.randn_like(x), edge_index, edge_weight)


class Keeping(Net):
    """The first graph that it saw, for ever."""

    seen: Tensor | None = None

    def forward(self, x: Tensor, edge_index: Tensor, edge_weight: Tensor | None = None) -> Tensor:
        if self.seen is None:
            self.seen = edge_index
        return super().forward(x, self.seen)


class Counting(Net):
    """A buffer that each answer replaces by another one."""

    def __init__(self, features: int) -> None:
        super().__init__(features)
        self.register_buffer("asked", torch.zeros(()))

    def forward(self, x: Tensor, edge_index: Tensor, edge_weight: Tensor | None = None) -> Tensor:
        self.asked = self.asked + 1
        return super().forward(x, edge_index, edge_weight)


class Perceptron(nn.Module):
    """Reads no edges."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.layer = nn.Linear(features, 3)

    def forward(self, x: Tensor, edge_index: Tensor, edge_weight: Tensor | None = None) -> Tensor:
        return self.layer(x)


def fitted(model: nn.Module, data: Data) -> nn.Module:
    fit(model, data, seed=0, epochs=30)
    return model.eval()


def verdict_of(model: nn.Module, data: Data) -> Verdict:
    return auto(fitted(model, data), data, fraction=0.1, members=QUICK, progress=False)


def keys(verdict: Verdict) -> set[str]:
    return {reason.partition(":")[0] for reason in verdict.unreliable}


def test_the_worst_is_that_of_the_graphs_that_were_found(data: Data, tmp_path: Path) -> None:
    model = fitted(Net(data.num_features), data)
    verdict = auto(model, data, fraction=0.1, members=QUICK, progress=False)
    assert keys(verdict) <= {"weak_search"}
    assert verdict.clean == pytest.approx(evaluate(model, data, data.test_mask))
    right = model(data.x, data.edge_index).argmax(1) == data.y
    for name, result in verdict.results.items():
        assert verdict.accuracies[name] == pytest.approx(evaluate(model, result.data, data.test_mask))
        assert result.edge_flips.shape[1] <= int(0.1 * data.num_edges / 2)
        right &= model(data.x, result.data.edge_index).argmax(1) == data.y
    assert verdict.worst_per_node == pytest.approx(100 * float(right[data.test_mask].double().mean()))
    assert verdict.worst_per_node <= verdict.worst == min(verdict.accuracies.values()) < verdict.clean
    assert "per node" in str(verdict)
    verdict.save(tmp_path / "found.npz", model="net", dataset="sbm")
    graph = load_perturbations(tmp_path / "found.npz")["sbm"]
    assert {key.model for key in graph.flips} == {f"net-{member.name}" for member in QUICK}
    for key in graph.flips:
        name = key.model.removeprefix("net-")
        assert evaluate(model, graph.attacked(key), data.test_mask) == pytest.approx(verdict.accuracies[name])


@pytest.mark.parametrize(
    ("model", "key"),
    [
        (Masked, "masked_gradient"),
        (Noisy, "repeats"),
        (Keeping, "keeps_graph"),
        (Counting, "changes_itself"),
        (Perceptron, "reads_edges"),
    ],
)
def test_a_model_that_hides_something_is_named(model: type[nn.Module], key: str, data: Data) -> None:
    assert key in keys(verdict_of(model(data.num_features), data))


def test_the_ensemble_is_one_attack_of_the_benchmark(data: Data) -> None:
    model = fitted(Net(data.num_features), data)
    result = cg.attack(model, data, "auto", fraction=0.1, population=4, generations=1)
    told = result.provenance["params"]["diagnosis"]
    assert evaluate(model, result.data, data.test_mask) == pytest.approx(min(told["accuracies"].values()))
    assert set(told["accuracies"]) == {member.name for member in ensemble()}
    assert told["worst_per_node"] <= min(told["accuracies"].values())


RANDOM = (Member("random", "random"),)


def test_what_makes_no_sense_is_refused(data: Data) -> None:
    model = Net(data.num_features).eval()
    with pytest.raises(ValueError, match="no attack at all"):
        auto(model, data, members=())
    with pytest.raises(TypeError, match="progress"):
        auto(model, data, progress=1)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"flips=5, fraction=0\.1"):
        auto(model, data, flips=5, fraction=0.1, members=RANDOM, progress=False)
    with pytest.raises(TypeError, match="given NoneType"):
        auto(None, data, members=RANDOM, progress=False)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("members", "error", "match"),
    [
        (["random"], TypeError, "given 'random'"),
        ([Member("a", "whitebox-pgd-features")], ValueError, "global one on features"),
        ([Member("a", "joint-pgd")], ValueError, "global one on both"),
        ([Member("a", "tdgia")], ValueError, "global one on injection"),
        ([Member("a", "local-pgd")], ValueError, "targeted one on structure"),
        ([Member("a", "random"), Member("a", "lrbcd")], ValueError, "two members are called 'a'"),
    ],
)
def test_a_member_that_no_verdict_can_count_is_refused(
    members: list[Any], error: type[Exception], match: str, data: Data
) -> None:
    with pytest.raises(error, match=match):
        auto(Net(data.num_features).eval(), data, members=members, progress=False)


@pytest.mark.parametrize(
    ("targets", "error", "match"),
    [
        ([1, 2], TypeError, "given list"),
        (torch.tensor([1, 1]), ValueError, "distinct"),
        (torch.tensor([500]), ValueError, "must lie in"),
    ],
)
def test_targets_are_checked_whoever_the_members_are(
    targets: Any, error: type[Exception], match: str, data: Data
) -> None:
    with pytest.raises(error, match=match):
        auto(Net(data.num_features).eval(), data, targets=targets, members=RANDOM, progress=False)


class Returns(nn.Module):
    """A model that answers what it was built with."""

    def __init__(self, answer: Callable[[int], Tensor]) -> None:
        super().__init__()
        self.answer = answer

    def forward(self, x: Tensor, edge_index: Tensor, edge_weight: Tensor | None = None) -> Tensor:
        return self.answer(len(x))


@pytest.mark.parametrize(
    ("model", "match"),
    [
        (Returns(lambda n: torch.full((n, 3), math.nan)), "not finite"),
        (Returns(lambda n: torch.zeros(5, 3)), r"\[5, 3\]"),
        (Returns(lambda n: torch.zeros(n)), "shape"),
        (GCNConv(32, 3, cached=True), "cached=True"),
    ],
)
def test_a_model_without_usable_scores_is_refused_before_any_attack(model: nn.Module, match: str, data: Data) -> None:
    with pytest.raises(AttackError, match=match):
        auto(model, data, members=RANDOM, progress=False)


def test_a_graph_is_read_as_the_attacks_read_it(data: Data) -> None:
    model = fitted(Net(data.num_features), data)
    other = copy.copy(data)
    other.y, other.test_mask = data.y[:, None], data.test_mask.nonzero().flatten()
    verdict = auto(model, other, members=RANDOM, progress=False)
    assert verdict.clean == pytest.approx(evaluate(model, data, data.test_mask))
    other.test_mask = torch.zeros(120, dtype=torch.bool)
    with pytest.raises(ValueError, match="selects no node"):
        auto(model, other, members=RANDOM, progress=False)


def test_no_flip_changes_nothing(data: Data) -> None:
    model = Net(data.num_features).eval()
    verdict = auto(
        model, data, flips=0, members=[*RANDOM, Member("pgd", "whitebox-pgd", adaptive=True)], progress=False
    )
    assert verdict.clean == verdict.worst == verdict.worst_per_node
    assert verdict.unreliable == ()


class Writes(Net):
    """Scales the features where they lie."""

    def forward(self, x: Tensor, edge_index: Tensor, edge_weight: Tensor | None = None) -> Tensor:
        return super().forward(x.mul_(0.5), edge_index, edge_weight)


def test_the_callers_features_stay_as_they_are(data: Data) -> None:
    before = data.x.clone()
    auto(Writes(data.num_features), data, members=RANDOM, progress=False)
    assert torch.equal(data.x, before)


def test_it_works_in_inference_mode(data: Data) -> None:
    model = Net(data.num_features).eval()
    members = [Member("pgd", "whitebox-pgd", {"epochs": 2, "fine_epochs": 0, "swaps": 1}, adaptive=True)]
    expected = auto(model, data, flips=5, members=members, progress=False)
    with torch.inference_mode():
        found = auto(model, data, flips=5, members=members, progress=False)
    assert found.accuracies == expected.accuracies
    assert torch.equal(found.results["pgd"].edge_flips, expected.results["pgd"].edge_flips)
