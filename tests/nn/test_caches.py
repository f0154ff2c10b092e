"""Layers that keep a graph, in training and prediction."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch_geometric.data import Data
from torch_geometric.nn import APPNP, GCNConv, SGConv

from contractive_gnn import datasets
from contractive_gnn.attacks import AttackError, Budget, get
from contractive_gnn.nn.caches import cached_layers
from contractive_gnn.training import evaluate, fit, predict


class Net(nn.Module):
    """Three layers, each of which keeps something else."""

    def __init__(self, data: Data, *, cached: bool) -> None:
        super().__init__()
        self.first = SGConv(data.num_features, 8, K=2, cached=cached)
        self.second = GCNConv(8, 4, cached=cached)
        self.last = APPNP(3, 0.1, cached=cached)

    def reset_parameters(self) -> None:
        self.first.reset_parameters()
        self.second.reset_parameters()
        self.last._cached_edge_index = None

    def forward(self, x: Tensor, edge_index: Tensor, edge_weight: Tensor | None = None) -> Tensor:
        x = self.second(self.first(x, edge_index, edge_weight).relu(), edge_index, edge_weight)
        return self.last(x, edge_index, edge_weight)  # type: ignore[no-any-return]


def fitted(data: Data, *, cached: bool) -> Net:
    model = Net(data, cached=cached)
    fit(model, data, epochs=10)
    return model


def test_a_prediction_reads_the_graph_that_it_is_given() -> None:
    data = datasets.contextual_sbm(80, seed=0)
    other = datasets.contextual_sbm(80, seed=5)
    other.x = data.x
    keeping, plain = fitted(data, cached=True), fitted(data, cached=False)
    for graph in (data, other, data):
        torch.testing.assert_close(predict(keeping, graph), predict(plain, graph))
        assert evaluate(keeping, graph, graph.test_mask) == evaluate(plain, graph, graph.test_mask)
    assert len(cached_layers(keeping)) == 3
    assert not cached_layers(plain)


def test_what_is_kept_is_there_after_a_prediction() -> None:
    data, larger = datasets.contextual_sbm(80, seed=0), datasets.contextual_sbm(100, seed=1)
    model = fitted(data, cached=True)
    kept = model.second._cached_edge_index
    predict(model, larger)
    assert kept is not None
    assert model.second._cached_edge_index is kept
    assert model.second.cached


def test_a_second_fit_forgets_the_first_graph() -> None:
    data, larger = datasets.contextual_sbm(80, seed=0), datasets.contextual_sbm(100, seed=1)
    again = fitted(data, cached=True)
    fit(again, larger, epochs=10)
    torch.testing.assert_close(predict(again, larger), predict(fitted(larger, cached=False), larger))


def test_a_layer_that_says_it_keeps_nothing_may_hold_a_graph() -> None:
    data, other = datasets.contextual_sbm(80, seed=0), datasets.contextual_sbm(80, seed=5)
    other.x = data.x
    model, plain = fitted(data, cached=True), fitted(data, cached=False)
    for layer in (model.first, model.second, model.last):
        layer.cached = False
    assert len(cached_layers(model)) == 3
    torch.testing.assert_close(predict(model, other), predict(plain, other))
    assert not model.second.cached
    with pytest.raises(AttackError, match="keep the graph that they saw first"):
        get("prbcd", seed=0).run(data, Budget(flips=2), victim=model)
