"""A graph as DeepRobust takes it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse as sp
from torch_geometric.data import Data


@dataclass(frozen=True, kw_only=True)
class Arrays:
    """A graph as DeepRobust takes it.

    Args:
        adjacency: scipy csr_matrix float32 ``[n, n]``, symmetric, 0 and 1.
        features: scipy csr_matrix float32 ``[n, d]``.
        labels: int64 ``[n]``.
        train, val, test: int64 node indices.
    """

    adjacency: Any
    features: Any
    labels: np.ndarray[Any, np.dtype[np.int64]]
    train: np.ndarray[Any, np.dtype[np.int64]]
    val: np.ndarray[Any, np.dtype[np.int64]]
    test: np.ndarray[Any, np.dtype[np.int64]]

    @property
    def n_classes(self) -> int:
        """One more than the largest label."""
        return int(self.labels.max()) + 1


def to_arrays(data: Data) -> Arrays:
    """Convert ``data`` (undirected, unweighted, dense x) for DeepRobust."""
    n = data.x.shape[0]
    row, column = data.edge_index.numpy(force=True)
    # csr_matrix, not csr_array: DeepRobust multiplies with * and reads .A1
    adjacency = sp.csr_matrix((np.ones(row.size, dtype=np.float32), (row, column)), shape=(n, n))
    adjacency.sort_indices()
    return Arrays(
        adjacency=adjacency,
        features=sp.csr_matrix(data.x.numpy(force=True).astype(np.float32)),
        labels=data.y.numpy(force=True).astype(np.int64),
        train=data.train_mask.nonzero().flatten().numpy(force=True),
        val=data.val_mask.nonzero().flatten().numpy(force=True),
        test=data.test_mask.nonzero().flatten().numpy(force=True),
    )
