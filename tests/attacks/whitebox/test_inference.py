"""What speaks against an attack besides its gradient: victims that learn, change or remember."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch_geometric.data import Data
from torch_geometric.nn import GCNConv

from contractive_gnn.attacks import Budget, get
from contractive_gnn.attacks.whitebox.inference import conduct
from contractive_gnn.nn import GCNClassifier, MLPClassifier, build

QUICK = {"epochs": 2, "fine_epochs": 0, "swaps": 0, "samples": 0}


class Layer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = GCNConv(40, 3)

    def forward(self, x: Tensor, edge_index: Tensor, edge_weight: Tensor | None = None) -> Tensor:
        return self.layer(x, edge_index, edge_weight)  # type: ignore[no-any-return]


class Counts(Layer):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("calls", torch.zeros(1))

    def forward(self, x: Tensor, edge_index: Tensor, edge_weight: Tensor | None = None) -> Tensor:
        self.calls += 1
        return super().forward(x, edge_index, edge_weight)


class Purifies(Layer):
    """Moves the features down a gradient before it answers."""

    def forward(self, x: Tensor, edge_index: Tensor, edge_weight: Tensor | None = None) -> Tensor:
        with torch.enable_grad():
            own = x.detach().clone().requires_grad_()
            loss = super().forward(own, edge_index, edge_weight).square().sum()
            (slope,) = torch.autograd.grad(loss, own)
        return super().forward(x - 0.01 * slope, edge_index, edge_weight)


class Remembers(Layer):
    """Keeps the first graph that it saw, by a cache of its own."""

    kept: Tensor | None = None

    def forward(self, x: Tensor, edge_index: Tensor, edge_weight: Tensor | None = None) -> Tensor:
        self.kept = edge_index if self.kept is None else self.kept
        return super().forward(x, self.kept)


@pytest.mark.parametrize(
    ("make", "changes", "computes"), [(Layer, False, False), (Counts, True, False), (Purifies, False, True)]
)
def test_conduct(graph: Data, make: type[Layer], changes: bool, computes: bool) -> None:
    victim = make().eval().requires_grad_(False)
    told = conduct(victim, lambda: victim(graph.x, graph.edge_index))
    assert told == {"changes_itself": changes, "computes_gradients": computes}


@pytest.mark.parametrize("name", ["gcn", "robust", "csgnn", "rung", "gat"])
def test_models_do_nothing_but_answer(graph: Data, name: str) -> None:
    victim = build(name, 40, 3).eval().requires_grad_(False)
    told = conduct(victim, lambda: victim(graph.x, graph.edge_index))
    assert told["changes_itself"] is False


def reasons(graph: Data, victim: nn.Module) -> tuple[dict[str, Any], str]:
    told = get("whitebox-pgd", **QUICK).run(graph, Budget(flips=3), victim=victim).provenance["params"]["diagnosis"]
    return told, " ".join(told["unreliable"])


def test_a_victim_that_changes_is_unreliable(graph: Data) -> None:
    assert "writes its parameters or buffers" in reasons(graph, Counts())[1]
    assert reasons(graph, GCNClassifier(40, 3))[1] == ""


def test_a_victim_that_keeps_a_graph_is_told_from_one_that_reads_none(graph: Data) -> None:
    with pytest.warns(UserWarning, match="keeps those that it saw"):
        told, text = reasons(graph, Remembers())
    assert told["keeps_graph"] is True
    assert "keeps a graph that it saw" in text
    with pytest.warns(UserWarning, match="reads no edges, as a perceptron"):
        told, text = reasons(graph, MLPClassifier(40, 3))
    assert told["keeps_graph"] is False
    assert "keeps a graph" not in text


class WithoutNumbers(Layer):
    """Divides by the number of neighbours, of which node 0 has none."""

    def forward(self, x: Tensor, edge_index: Tensor, edge_weight: Tensor | None = None) -> Tensor:
        count = edge_index[1].bincount(minlength=len(x)).clamp(max=1)
        return super().forward(x, edge_index, edge_weight) / count[:, None] * count[:, None]


def test_a_score_that_is_no_number_is_not_taken_for_a_random_one(graph: Data) -> None:
    graph.edge_index = graph.edge_index[:, (graph.edge_index != 0).all(dim=0)]
    assert not bool(graph.test_mask[0])
    result = get("whitebox-pgd", **QUICK).run(graph, Budget(flips=2), victim=WithoutNumbers().eval())
    assert result.provenance["params"]["diagnosis"]["repeats"] is True
