from __future__ import annotations

import pytest
from torch_geometric.data import Data

from contractive_gnn import datasets
from contractive_gnn.certificates import FlipBudget
from contractive_gnn.certificates.training import CertifiedFit, fit_certified
from contractive_gnn.nn import FlowGNN, linf_diffusion


@pytest.fixture(scope="session")
def data() -> Data:
    return datasets.contextual_sbm(120, classes=3, features=8, average_degree=6, feature_signal=3.0, seed=0)


@pytest.fixture(scope="session")
def trained(data: Data) -> tuple[FlowGNN, CertifiedFit]:
    """A model trained for one flip at every node, and what its training says."""
    model = linf_diffusion(8, 3, hidden_channels=16, num_layers=5, mu=0.3, threshold=0.4)
    budget = FlipBudget.uniform(1, 120)
    return model, fit_certified(model, data, flips=budget, epochs=60, every=5, weight=0.3, warmup=10)
