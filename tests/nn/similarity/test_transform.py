from __future__ import annotations

import pytest
import torch
from torch_geometric.data import Data

from contractive_gnn import datasets
from contractive_gnn.nn.similarity import Similarity, SimilarityWeights


@pytest.fixture(scope="module")
def data() -> Data:
    data = datasets.contextual_sbm(60, classes=3, features=12, average_degree=6, seed=2)
    data.x = (data.x > 0.4).double()  # a bag of words, with an empty row
    data.x[7] = 0
    return data


def test_the_transform_writes_the_weights(data: Data) -> None:
    out = SimilarityWeights(rank=5)(data)
    torch.testing.assert_close(out.edge_weight, Similarity(rank=5)(data.x, data.edge_index))
    assert "rank=5" in repr(SimilarityWeights(rank=5))
