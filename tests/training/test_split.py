"""Masks: missing, overlapping, as indices."""

import pytest
from torch_geometric.data import Data

from contractive_gnn import nn, training


def test_a_missing_mask_says_so(data: Data) -> None:
    bare = Data(x=data.x, edge_index=data.edge_index, y=data.y)
    with pytest.raises(ValueError, match=r"data\.train_mask must select at least one node"):
        training.fit(nn.build("gcn", data.num_features, 3), bare)


def test_nodes_that_are_trained_on_and_judged_by_are_not_passed_over_in_silence(data: Data) -> None:
    seen = data.clone()
    seen.test_mask = data.test_mask | data.train_mask
    with pytest.warns(
        UserWarning, match=rf"{int(data.train_mask.sum())} nodes of data\.test_mask are in data\.train_mask"
    ):
        training.fit(nn.build("gcn", data.num_features, 3), seen, epochs=1)


def test_a_split_of_indices_is_the_split_of_its_masks(data: Data) -> None:
    listed = data.clone()
    for mask in ("train_mask", "val_mask", "test_mask"):
        listed[mask] = data[mask].nonzero().flatten()
    listed.y = data.y.unsqueeze(1).int()
    found = []
    for graph in (data, listed):
        model = nn.build("gcn", data.num_features, 3)
        fitted = training.fit(model, graph, epochs=20)
        found.append((fitted.val_accuracy, training.evaluate(model, graph, graph.test_mask)))
    assert found[0] == found[1]
