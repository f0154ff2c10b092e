"""The graph of the tests of training."""

import pytest
from torch_geometric.data import Data

from contractive_gnn import datasets


@pytest.fixture(scope="module")
def data() -> Data:
    return datasets.contextual_sbm(150, classes=3, features=8, average_degree=6, seed=0, split_seed=0)
