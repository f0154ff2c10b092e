"""Models of other forms: what they are given, how it is told, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch_geometric.data import Data
from torch_geometric.nn import GCNConv
from torch_geometric.nn.conv.gcn_conv import gcn_norm
from torch_geometric.utils import to_dense_adj

from contractive_gnn.bench.adapter import Adapted, AdapterError, adapted, check_scores, takes_edge_weight
from contractive_gnn.datasets import contextual_sbm


@pytest.fixture(scope="module")
def graph() -> Data:
    return contextual_sbm(80, seed=2)


class Plain(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = GCNConv(32, 4)

    def reset_parameters(self) -> None:
        self.conv.reset_parameters()

    def forward(self, x: Tensor, edge_index: Tensor, edge_weight: Tensor | None = None) -> Tensor:
        return self.conv(x, edge_index, edge_weight)


class Dense(nn.Module):
    """The sum over neighbours, in matrices."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(32, 4)

    def forward(self, x: Tensor, adj: Tensor) -> Tensor:
        return adj @ self.linear(x)


class Reversed(Dense):
    def forward(self, adj: Tensor, x: Tensor) -> Tensor:  # type: ignore[override]
        return super().forward(x, adj)


class Declared(Dense):
    adapter = "dense-normalized"

    def forward(self, h: Tensor, m: Tensor) -> Tensor:  # type: ignore[override]
        return super().forward(h, m)


class OfData(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = GCNConv(32, 4)

    def forward(self, data: Data) -> Tensor:
        return self.conv(data.x, data.edge_index, data.edge_weight)


class NoWeights(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = GCNConv(32, 4)

    def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
        return self.conv(x, edge_index)


class Keyword(Plain):
    """Its third argument is another one: a weight that is given by position would be taken for it."""

    def forward(self, x: Tensor, edge_index: Tensor, batch: Any = None, edge_weight: Any = None) -> Tensor:  # type: ignore[override]
        assert batch is None
        return super().forward(x, edge_index, edge_weight)


class Pair(Plain):
    scores = 1

    def forward(self, x: Tensor, edge_index: Tensor, edge_weight: Tensor | None = None) -> Any:
        answer = super().forward(x, edge_index, edge_weight)
        return -answer, answer


class Named(Pair):
    scores = "logits"  # type: ignore[assignment]

    def forward(self, x: Tensor, edge_index: Tensor, edge_weight: Tensor | None = None) -> Any:
        first, second = super().forward(x, edge_index, edge_weight)
        return {"embedding": first, "logits": second}


def wrapped(kind: Callable[[], nn.Module]) -> nn.Module:
    torch.manual_seed(0)
    return adapted(kind(), kind)


def test_a_model_of_the_usual_form_is_left_alone() -> None:
    assert type(wrapped(Plain)) is Plain


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("kind", [Dense, Reversed, Declared, OfData, Keyword, Pair, Named])
def test_every_form_sees_the_graph_and_its_weights(kind: type[nn.Module], weighted: bool, graph: Data) -> None:
    model = wrapped(kind)
    assert isinstance(model, Adapted)
    weight = torch.rand(graph.edge_index.shape[1]) if weighted else None
    answer = model(graph.x, graph.edge_index, weight)
    inner = model.model
    if isinstance(inner, Dense):
        edges, values = graph.edge_index, weight
        if kind is Declared:
            edges, values = gcn_norm(graph.edge_index, weight, graph.num_nodes)
        expected = to_dense_adj(edges, edge_attr=values, max_num_nodes=80)[0].t() @ inner.linear(graph.x)
    else:
        expected = inner.conv(graph.x, graph.edge_index, weight)  # type: ignore[operator]
    torch.testing.assert_close(answer, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", [Dense, Declared, OfData, Keyword, Pair])
def test_gradients_reach_the_weights_of_the_edges(kind: type[nn.Module], graph: Data) -> None:
    model = wrapped(kind)
    assert takes_edge_weight(model)
    weight = torch.ones(graph.edge_index.shape[1], requires_grad=True)
    model(graph.x, graph.edge_index, weight).square().sum().backward()
    assert weight.grad is not None
    assert bool((weight.grad != 0).any())


def test_a_sparse_matrix_is_its_edges(graph: Data) -> None:
    model = wrapped(Dense)
    ones = torch.ones(graph.edge_index.shape[1])
    matrix = torch.sparse_coo_tensor(graph.edge_index, ones, (80, 80)).coalesce()
    assert torch.equal(model(graph.x, matrix), model(graph.x, graph.edge_index))


def test_a_model_without_weights_says_what_that_means(graph: Data) -> None:
    model = wrapped(NoWeights)
    assert not takes_edge_weight(model)
    assert model(graph.x, graph.edge_index).shape == (80, 4)
    with pytest.raises(AdapterError, match=r"NoWeights takes no edge_weight, and a white-box attack .* transfer"):
        model(graph.x, graph.edge_index, torch.ones(graph.edge_index.shape[1]))


def test_what_was_read_from_names_is_said_and_what_was_declared_is_not() -> None:
    told = wrapped(Dense)
    assert isinstance(told, Adapted)
    assert "adjacency matrix [n, n] as adj, without self-loops and not normalised" in told.reason
    declared = wrapped(Declared)
    assert isinstance(declared, Adapted)
    assert declared.reason == ""


def test_parameters_are_drawn_anew_without_a_method_for_it(graph: Data) -> None:
    model = wrapped(Dense)
    assert isinstance(model, Adapted)
    first = model.model.linear.weight.clone()  # type: ignore[union-attr]
    torch.manual_seed(1)
    model.reset_parameters()
    second = model.model.linear.weight.clone()  # type: ignore[union-attr]
    torch.manual_seed(1)
    model.reset_parameters()
    assert not torch.equal(first, second)
    assert torch.equal(second, model.model.linear.weight)  # type: ignore[union-attr, arg-type]


class Unknown(Plain):
    def forward(self, nodes: Tensor, neighbours: Tensor) -> Tensor:  # type: ignore[override]
        return nodes + neighbours


class Wanting(Plain):
    def forward(self, x: Tensor, edge_index: Tensor, time: Tensor) -> Tensor:
        return x + time


class WrongAdapter(Plain):
    adapter = "matrix"


class WrongScores(Plain):
    scores = 1.5


class NoSuchPart(Pair):
    scores = 2


class Undeclared(Pair):
    scores = None  # type: ignore[assignment]


class TooNarrow(Plain):
    def forward(self, x: Tensor, edge_index: Tensor, edge_weight: Tensor | None = None) -> Tensor:
        return super().forward(x, edge_index, edge_weight)[:, :3]


@pytest.mark.parametrize(
    ("kind", "complaint"),
    [
        (
            Unknown,
            "is of no form that is known; expected forward.* or a class attribute adapter that is one of",
        ),
        (Wanting, "also needs time; the adapter 'edges' calls it with 2: give the others defaults"),
        (WrongAdapter, "WrongAdapter.adapter is 'matrix'; expected one of edges, dense, dense-normalized, data"),
        (WrongScores, "WrongScores.scores is 1.5; expected the place of the class scores"),
        (
            NoSuchPart,
            r"returned a tuple of a tensor \[80, 4\], a tensor \[80, 4\], and NoSuchPart.scores = 2 is no",
        ),
        (Undeclared, r"returned a tuple of .*; expected class scores \[80, 4\]; say which part .*, like scores = 0"),
        (TooNarrow, r"returned a tensor \[80, 3\]; .* built for 4 classes: hand out_channels on to the last layer"),
    ],
)
def test_what_cannot_be_told_is_refused(kind: type[nn.Module], complaint: str, graph: Data) -> None:
    def ask() -> None:
        check_scores(wrapped(kind), graph, 4)

    with pytest.raises(AdapterError, match=complaint):
        ask()
