"""What attacks ask of their victims and targets, and that a run leaves the attack as it was."""

from __future__ import annotations

import copy
import warnings
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch_geometric.data import Data
from torch_geometric.nn import APPNP, GCNConv, SGConv

from contractive_gnn.attacks import ATTACKS, AttackError, AttackResult, Budget, get
from contractive_gnn.inputs import InputError
from contractive_gnn.nn import GCNClassifier, MLPClassifier
from contractive_gnn.training import predict

ADAPTIVE = sorted(name for name, attack in ATTACKS.items() if attack.knowledge == "adaptive")
STRUCTURE = [name for name in ADAPTIVE if ATTACKS[name].kind == "structure"]
BLACK_BOX = ("eva",)
NEED_EDGES = ("nettack-deeprobust", "nettack-features", "sga")
TARGETED = sorted(name for name, attack in ATTACKS.items() if attack.scope == "targeted")
QUICK: dict[str, dict[str, Any]] = {
    "whitebox-pgd": {"epochs": 2, "fine_epochs": 0, "swaps": 0, "samples": 0},
    "whitebox-pgd-features": {"epochs": 2, "fine_epochs": 0, "swaps": 0, "samples": 0},
    "prbcd": {"epochs": 5},
    "grbcd": {"epochs": 3},
    "lrbcd": {"epochs": 2, "fine_epochs": 0, "swaps": 0, "samples": 0, "local": 3.0},
    "local-pgd": {"epochs": 2, "fine_epochs": 0, "swaps": 0, "samples": 0},
    "auto": {"population": 4, "generations": 1},
    "eva": {"population": 4, "generations": 2},
    "pgd-injection": {"epochs": 3, "feature_epochs": 2},
    "tdgia": {"feature_epochs": 2},
    "agia": {"edge_epochs": 2, "feature_epochs": 2},
    "gradient-deletion": {"epochs": 2, "fine_epochs": 0, "swaps": 0, "samples": 0},
    "linf-features": {"epochs": 2},
    "joint-pgd": {"epochs": 2, "fine_epochs": 0, "swaps": 0, "samples": 0},
}
BUDGETS = {"injection": Budget(nodes=2, edges=3), "deletion": Budget(nodes=3)}


def attack(name: str, data: Data, victim: nn.Module) -> AttackResult:
    targets = data.test_mask.nonzero().flatten()[:2] if name in TARGETED else None
    with torch.random.fork_rng():
        return get(name, **QUICK.get(name, {})).run(
            data, BUDGETS.get(ATTACKS[name].kind, Budget(flips=3)), victim=victim, targets=targets
        )


class Net(nn.Module):
    """One layer of PyG."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor, edge_index: Tensor, edge_weight: Tensor | None = None) -> Any:
        return self.layer(x, edge_index, edge_weight)


@pytest.mark.parametrize("name", ADAPTIVE)
@pytest.mark.parametrize(
    "layer",
    [
        lambda: GCNConv(40, 3, cached=True),
        lambda: SGConv(40, 3, cached=True),
        lambda: APPNP(3, 0.1, cached=True),
    ],
)
def test_a_victim_that_keeps_its_graph_is_refused(graph: Data, name: str, layer: Any) -> None:
    with pytest.raises(AttackError, match=r"1 layers with cached=True \(the first is 'layer'\).*cached=False"):
        attack(name, graph, Net(layer()))


class ByItself(Net):
    """Keeps the graph in a way that nobody can tell from outside."""

    kept: Tensor | None = None

    def forward(self, x: Tensor, edge_index: Tensor, edge_weight: Tensor | None = None) -> Tensor:
        if self.kept is None:
            self.kept = super().forward(x, edge_index).detach()
        return self.kept


@pytest.mark.parametrize("name", STRUCTURE)
def test_a_victim_that_reads_no_edges_is_told(graph: Data, name: str) -> None:
    for victim, says in (
        (MLPClassifier(40, 3), "reads no edges"),
        (ByItself(GCNConv(40, 3)), "keeps those that it saw"),
    ):
        with pytest.warns(UserWarning, match=f"are the same on another graph. It {says}"):
            result = attack(name, graph, victim)
        assert result.provenance["params"]["diagnosis"]["reads_edges"] is False


@pytest.mark.parametrize("name", STRUCTURE)
def test_a_victim_that_reads_its_graph_gives_no_warning(graph: Data, name: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        warnings.filterwarnings("ignore", message="'torch_geometric.contrib'")
        told = attack(name, graph, GCNClassifier(40, 3)).provenance["params"]["diagnosis"]
    assert (told["reads_edges"], told.get("reads_edge_weight", name in BLACK_BOX)) == (True, True)


class Unweighted(Net):
    def forward(self, x: Tensor, edge_index: Tensor, edge_weight: Tensor | None = None) -> Any:
        return self.layer(x, edge_index)


def test_a_victim_that_reads_no_weights_is_told(graph: Data) -> None:
    told = attack("whitebox-pgd", graph, Unweighted(GCNConv(40, 3))).provenance["params"]["diagnosis"]
    assert (told["reads_edges"], told["reads_edge_weight"]) == (True, False)
    assert told["unreliable"]


class Noisy(Net):
    def forward(self, x: Tensor, edge_index: Tensor, edge_weight: Tensor | None = None) -> Any:
        return self.layer(nn.functional.dropout(x, 0.5, training=True), edge_index, edge_weight)


@pytest.mark.parametrize("name", ADAPTIVE)
def test_a_victim_that_answers_at_random_is_told(graph: Data, name: str) -> None:
    told = attack(name, graph, Noisy(GCNConv(40, 3))).provenance["params"]["diagnosis"]
    assert told["repeats"] is False
    assert any("answers at random in evaluation mode" in reason for reason in told["unreliable"])


class Pair(Net):
    def forward(self, x: Tensor, edge_index: Tensor, edge_weight: Tensor | None = None) -> Any:
        return super().forward(x, edge_index, edge_weight), None


class TwoArguments(Net):
    def forward(self, x: Tensor, edge_index: Tensor) -> Any:  # type: ignore[override]
        return self.layer(x, edge_index)


class OneArgument(Net):
    def forward(self, data: Data) -> Any:  # type: ignore[override]
        return self.layer(data.x, data.edge_index)


class DenseAdjacency(Net):
    def forward(self, x: Tensor, adjacency: Tensor, edge_weight: Tensor | None = None) -> Any:
        return adjacency @ x[:, :3]


@pytest.mark.parametrize("name", ADAPTIVE)
@pytest.mark.parametrize("victim", [Pair, TwoArguments, OneArgument, DenseAdjacency])
def test_victims_of_another_form_are_told_the_one_expected(graph: Data, name: str, victim: type[Net]) -> None:
    if victim is TwoArguments and (ATTACKS[name].kind == "features" or name in BLACK_BOX):
        attack(name, graph, victim(GCNConv(40, 3)))  # it has no need of weights
        return
    with pytest.raises(AttackError, match=r"forward\(x \[n, d\], edge_index \[2, 2m\], edge_weight \[2m\] or None\)"):
        attack(name, graph, victim(GCNConv(40, 3)))


class ThreeArguments(Net):
    def forward(self, x: Tensor, edge_index: Tensor, edge_attr: Tensor) -> Any:  # type: ignore[override]
        return self.layer(x, edge_index)


@pytest.mark.parametrize("model", [OneArgument, ThreeArguments, Pair])
def test_predictions_want_the_same_form(graph: Data, model: type[Net]) -> None:
    with pytest.raises(InputError, match=r"forward\(x, edge_index, edge_weight=None\)"):
        predict(model(GCNConv(40, 3)), graph)


@pytest.mark.parametrize("name", ADAPTIVE)
def test_a_run_leaves_the_attack_as_it_was(graph: Data, name: str) -> None:
    own = get(name, **QUICK[name])
    before, params = copy.deepcopy(vars(own)), own.params
    targets = graph.test_mask.nonzero().flatten()[:2] if name in TARGETED else None
    budget = BUDGETS.get(own.kind, Budget(flips=3))
    result = own.run(graph, budget, victim=GCNClassifier(40, 3), targets=targets)
    assert (vars(own), own.params) == (before, params)
    nodes = int(graph.test_mask.sum()) if targets is None else 2
    assert result.provenance["params"]["diagnosis"]["nodes"] == nodes
    assert "diagnosis" not in own.params


@pytest.mark.parametrize("name", TARGETED)
def test_a_target_without_a_label_is_named(graph: Data, name: str) -> None:
    graph.y[[4, 9]] = -1
    for mask in (graph.train_mask, graph.val_mask, graph.test_mask):
        mask &= graph.y >= 0
    with pytest.raises(ValueError, match=r"targets \[9, 4\] have no label"):
        get(name).run(graph, Budget(flips=1), targets=torch.tensor([9, 2, 4]), victim=GCNClassifier(40, 3))


@pytest.mark.parametrize("name", ["metattack", "pgd", "nettack"])
def test_a_surrogate_is_not_taught_unknown_labels(graph: Data, name: str) -> None:
    graph.y[graph.train_mask.nonzero()[0]] = -1
    targets = graph.test_mask.nonzero().flatten()[:1]
    with pytest.raises(ValueError, match=r"data.train_mask selects 1 nodes without a label"):
        get(name).run(graph, Budget(flips=1), targets=targets)


def test_unlabelled_test_nodes_cannot_be_fooled(graph: Data) -> None:
    graph.y[graph.test_mask.nonzero()[0]] = -1
    with pytest.raises(ValueError, match=r"data.test_mask selects 1 nodes without a label"):
        attack("whitebox-pgd", graph, GCNClassifier(40, 3))


@pytest.mark.parametrize("name", ["dice", "sga"])
def test_an_attack_that_reads_every_label_wants_them_all(graph: Data, name: str) -> None:
    pytest.importorskip("deeprobust")
    other = (~(graph.train_mask | graph.val_mask)).nonzero().flatten()
    graph.y[other[0]] = -1
    graph.test_mask[other[0]] = False
    with pytest.raises(AttackError, match="reads the labels of all nodes, but 1 have none"):
        get(name).run(graph, Budget(flips=1), targets=other[1:2])


@pytest.mark.parametrize("name", TARGETED)
def test_a_target_without_edges_is_attacked_or_refused(graph: Data, name: str) -> None:
    pytest.importorskip("deeprobust")
    target = int(graph.test_mask.nonzero()[0])
    graph.edge_index = graph.edge_index[:, (graph.edge_index != target).all(dim=0)]
    attack = get(name)
    if name in NEED_EDGES:
        with pytest.raises(AttackError, match=rf"1 have no edge \(node {target}, …\)|node {target} has none"):
            attack.run(graph, Budget(flips=2), targets=torch.tensor([target]))
    else:
        victim = GCNClassifier(40, 3)
        assert attack.run(graph, Budget(flips=2), targets=torch.tensor([target]), victim=victim).n_flips <= 2
