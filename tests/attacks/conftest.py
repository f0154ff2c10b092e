"""Small graphs for the tests of attacks."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch_geometric.data import Data
from torch_geometric.utils import to_undirected


def block_graph(*, n: int = 90, classes: int = 3, columns: int = 40, seed: int = 0) -> Data:
    """Stochastic blocks joined by a ring within each class (no isolated node), with class-dependent binary features."""
    generator = torch.Generator().manual_seed(seed)
    y = torch.arange(n) % classes
    likely = torch.where(y[:, None] == y, 0.15, 0.02)
    adjacency = torch.triu(torch.rand(n, n, generator=generator) < likely, diagonal=1)
    ring = torch.stack([torch.arange(n), (torch.arange(n) + classes) % n])
    edge_index = to_undirected(torch.cat([adjacency.nonzero().t(), ring], dim=1), num_nodes=n)
    typical = torch.rand(classes, columns, generator=generator) < 0.3
    x = ((torch.rand(n, columns, generator=generator) < 0.5) & typical[y]) | (
        torch.rand(n, columns, generator=generator) < 0.05
    )
    order = torch.randperm(n, generator=generator)
    masks = [torch.zeros(n, dtype=torch.bool) for _ in range(3)]
    for mask, part in zip(masks, order.tensor_split((n // 4, n // 2)), strict=True):
        mask[part] = True
    return Data(
        x=x.float(),
        edge_index=edge_index,
        y=y,
        train_mask=masks[0],
        val_mask=masks[1],
        test_mask=masks[2],
        name="blocks",
    )


@pytest.fixture
def graph() -> Data:
    """90 nodes, 3 classes, 40 binary features, no isolated node."""
    return block_graph()


@pytest.fixture
def make_graph() -> Callable[..., Data]:
    """Others like it; the arguments are those of :func:`block_graph`."""
    return block_graph
