"""Digests change with what matters, and with nothing else."""

from __future__ import annotations

import pytest
import torch
from torch_geometric.data import Data

import contractive_gnn as cg
from contractive_gnn.inputs import InputError
from contractive_gnn.pretrained import graph_digest, prediction_digest, split_digest


@pytest.fixture
def data() -> Data:
    return cg.contextual_sbm(60, seed=0)


def test_the_order_of_edges_makes_no_difference(data: Data) -> None:
    other = data.clone()
    order = torch.randperm(data.num_edges)
    other.edge_index = data.edge_index[:, order]
    assert graph_digest(other) == graph_digest(data)


def test_the_layout_and_the_precision_of_features_make_no_difference(data: Data) -> None:
    data.x = (data.x > 0).float()
    other = data.clone()
    other.x = data.x.to_sparse_csr()
    assert graph_digest(other) == graph_digest(data)
    other.x = data.x.double()
    assert graph_digest(other) == graph_digest(data)


def test_a_feature_an_edge_and_a_label_make_one(data: Data) -> None:
    digests = {graph_digest(data)}
    for change in ("x", "edge_index", "y"):
        other = data.clone()
        if change == "x":
            other.x[7, 3] += 1
        elif change == "y":
            other.y[5] = (data.y[5] + 1) % (data.y.max() + 1)
        else:
            first = data.edge_index[:, :1]
            either = [(edges == first).all(dim=0) for edges in (data.edge_index, data.edge_index.flip(0))]
            keep = ~(either[0] | either[1])
            other.edge_index = data.edge_index[:, keep]
            assert other.num_edges == data.num_edges - 2
        digests.add(graph_digest(other))
    assert len(digests) == 4


def test_weights_are_refused(data: Data) -> None:
    data.edge_weight = torch.full((data.num_edges,), 0.5)
    with pytest.raises(InputError, match="weight"):
        graph_digest(data)


def test_a_split_has_all_three_masks(data: Data) -> None:
    found = split_digest(data)
    assert found == split_digest(data.clone())
    other = data.clone()
    other.test_mask = ~data.test_mask
    assert split_digest(other) != found
    del other.test_mask
    assert split_digest(other) is None


def test_predictions_are_the_largest_scores() -> None:
    scores = torch.tensor([[0.0, 1.0], [3.0, 2.0]])
    assert prediction_digest(scores) == prediction_digest(scores.softmax(dim=1))
    assert prediction_digest(scores) != prediction_digest(-scores)
