"""GCN-SVD: an adjacency of low rank."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor
from torch_geometric.data import Data

from contractive_gnn.checks import check_whole
from contractive_gnn.deeprobust import Arrays, import_deeprobust, replaced
from contractive_gnn.deprecated import renamed
from contractive_gnn.nn.deeprobust.adapter import EdgeWeightGradient
from contractive_gnn.nn.deeprobust.preprocessed import PreprocessedGCN


@renamed(hidden="hidden_channels")
class GCNSVD(PreprocessedGCN):
    """GCN on the best approximation of the adjacency by a matrix of rank k.

    Entezari et al., *All You Need Is Low (Rank): Defending Against Adversarial Attacks on Graphs* (WSDM 2020). Dense:
    n² memory. Every forward computes k eigenpairs of the (weighted) adjacency. The gradient in the edge weights is that
    of the projection on the tangent space of the matrices of rank k, dA ↦ P dA + dA P − P dA P with P = UUᵀ: exact
    where A has rank k, an approximation elsewhere.

    Args:
        in_channels: number of features.
        out_channels: number of classes.
        rank: k.
        hidden_channels: width.
        dropout: probability.
        lr: of Adam.
        weight_decay: of Adam.
        epochs: of training.
    """

    edge_weight_gradient: ClassVar[EdgeWeightGradient] = "approximate"
    reads_whole_graph: ClassVar[bool] = True
    deeprobust_class: ClassVar[str] = "GCNSVD"

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        rank: int = 50,
        hidden_channels: int = 16,
        dropout: float = 0.5,
        lr: float = 0.01,
        weight_decay: float = 5e-4,
        epochs: int = 200,
    ) -> None:
        check_whole("rank", rank, least=1)
        super().__init__(
            in_channels,
            out_channels,
            hidden_channels=hidden_channels,
            dropout=dropout,
            lr=lr,
            weight_decay=weight_decay,
            epochs=epochs,
        )
        self.rank = rank

    def _fit(self, data: Data, arrays: Arrays) -> None:
        self._check_rank(arrays.labels.size)
        with (
            # SciPy's svds starts at a point that no seed decides
            replaced(self.inner, truncatedSVD=lambda matrix, k: _multiply(*_eigenpairs(matrix, k))),
            replaced(import_deeprobust("graph.utils"), normalize_adj_tensor=_normalised_dense),
        ):
            self._fit_inner(arrays, k=self.rank)

    def _clean(self, x: Tensor, edge_index: Tensor, edge_weight: Tensor | None) -> Tensor:
        n = x.size(0)
        self._check_rank(n)
        weight = x.new_ones(edge_index.size(1)) if edge_weight is None else edge_weight
        row, column = edge_index.numpy(force=True)
        matrix = sp.csr_matrix((weight.numpy(force=True).astype(np.float64), (row, column)), shape=(n, n))
        vectors, values = _eigenpairs(matrix, self.rank)
        u = torch.from_numpy(vectors).to(x)
        adjacency = torch.from_numpy(_multiply(vectors, values)).to(x)
        if weight.requires_grad:
            tangent = _onto_tangent_space(x.new_zeros(n, n).index_put((edge_index[0], edge_index[1]), weight), u)
            adjacency = adjacency + tangent - tangent.detach()
        return _normalised_dense(adjacency)

    def _check_rank(self, n: int) -> None:
        if self.rank >= n:
            raise ValueError(f"gcn-svd: rank {self.rank} is not below the {n} nodes of the graph; give a smaller rank")


_Array = np.ndarray[Any, np.dtype[np.float64]]


def _eigenpairs(adjacency: Any, k: int) -> tuple[_Array, _Array]:
    """The k eigenvectors ``[n, k]`` and eigenvalues of largest modulus: of a symmetric matrix, its singular vectors."""
    start = np.ones(adjacency.shape[0])
    values, vectors = sp.linalg.eigsh(adjacency.astype(np.float64), k=k, which="LM", v0=start)
    return np.ascontiguousarray(vectors), values


def _multiply(vectors: _Array, values: _Array) -> _Array:
    product: _Array = (vectors * values) @ vectors.T
    return product


def _normalised_dense(adjacency: Tensor) -> Tensor:
    """D^-½ (A + I) D^-½, with 0 for the rows of A + I whose sum is not positive.

    An approximation of an adjacency can have such rows (Cora's of rank 200 does), and DeepRobust NaN there.
    """
    looped = adjacency + torch.eye(adjacency.size(0), dtype=adjacency.dtype, device=adjacency.device)
    degree = looped.sum(dim=1)
    positive = degree > 0
    scale = torch.where(positive, torch.where(positive, degree, 1.0).rsqrt(), 0.0)
    return scale[:, None] * looped * scale


def _onto_tangent_space(adjacency: Tensor, u: Tensor) -> Tensor:
    left = u.t() @ adjacency
    return u @ left + (adjacency @ u) @ u.t() - u @ (left @ u) @ u.t()
