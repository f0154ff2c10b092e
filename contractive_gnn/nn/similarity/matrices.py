"""Features and adjacency as SciPy's sparse matrices, and what features say."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor


def one_hot(x: Tensor) -> bool:
    """Whether every node has one feature, and no two the same."""
    n = x.shape[0]
    if n == 0 or x.shape[1] < n:
        return False
    columns = x.col_indices() if x.layout == torch.sparse_csr else torch.nonzero(x.detach())[:, 1]
    return columns.numel() == n and torch.unique(columns).numel() == n and bool(occupied(x).all())


def occupied(x: Tensor) -> Tensor:
    """1 where a node has a feature, else 0; ``[n]``."""
    if x.layout == torch.sparse_csr:
        return (x.crow_indices().diff() > 0).to(x.dtype)
    return (x.detach() != 0).any(dim=1).to(x.dtype)


def csr(x: Tensor) -> sp.csr_matrix:
    """Dense or ``sparse_csr`` features ``[n, d]`` in float64."""
    x = x.detach().cpu()
    if x.layout == torch.sparse_csr:
        parts = (x.values().numpy(), x.col_indices().numpy(), x.crow_indices().numpy())
        return sp.csr_matrix(parts, shape=tuple(x.shape)).astype(np.float64)
    return sp.csr_matrix(x.numpy().astype(np.float64))


def adjacency_matrix(edge_index: Tensor, edge_weight: Tensor, n: int) -> sp.csr_matrix:
    """A of n nodes in float64, with ones on its diagonal and without what is 0."""
    ends, values = edge_index.cpu().numpy(), edge_weight.detach().cpu().numpy().astype(np.float64)
    adjacency = sp.csr_matrix((values, (ends[1], ends[0])), shape=(n, n))
    adjacency.setdiag(1.0)
    adjacency.eliminate_zeros()
    return adjacency
