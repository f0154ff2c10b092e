"""GCN-Jaccard: edges between nodes that share no feature are dropped."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor
from torch_geometric.data import Data

from contractive_gnn.checks import check_real
from contractive_gnn.deeprobust import Arrays
from contractive_gnn.deprecated import renamed
from contractive_gnn.nn.deeprobust.adapter import EdgeWeightGradient
from contractive_gnn.nn.deeprobust.adjacency import normalised_adjacency
from contractive_gnn.nn.deeprobust.preprocessed import PreprocessedGCN


@renamed(hidden="hidden_channels")
class GCNJaccard(PreprocessedGCN):
    """GCN without the edges whose ends have a similarity below ``threshold``.

    Wu et al., *Adversarial Examples for Graph Data: Deep Insights into Attack and Defense* (IJCAI 2019). On features
    that no two nodes share (Polblogs) it drops every edge. The output is differentiable in the weights of the edges
    that stay, and does not depend on the others; which ones stay is not differentiable in x.

    Args:
        in_channels: number of features.
        out_channels: number of classes.
        threshold: least similarity of an edge's ends.
        similarity: "jaccard", of the non-zero entries, or "cosine".
        hidden_channels: width.
        dropout: probability.
        lr: of Adam.
        weight_decay: of Adam.
        epochs: of training.
    """

    edge_weight_gradient: ClassVar[EdgeWeightGradient] = "exact"
    deeprobust_class: ClassVar[str] = "GCNJaccard"

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        threshold: float = 0.01,
        similarity: str = "jaccard",
        hidden_channels: int = 16,
        dropout: float = 0.5,
        lr: float = 0.01,
        weight_decay: float = 5e-4,
        epochs: int = 200,
    ) -> None:
        if similarity not in ("jaccard", "cosine"):
            raise ValueError(f"similarity is 'jaccard' or 'cosine', given {similarity!r}")
        check_real("threshold", threshold, least=0)
        super().__init__(
            in_channels,
            out_channels,
            hidden_channels=hidden_channels,
            dropout=dropout,
            lr=lr,
            weight_decay=weight_decay,
            epochs=epochs,
        )
        self.threshold = threshold
        self.similarity = similarity
        self.inner.binary_feature = similarity == "jaccard"

    def _fit(self, data: Data, arrays: Arrays) -> None:
        self._fit_inner(arrays, threshold=self.threshold)

    def _clean(self, x: Tensor, edge_index: Tensor, edge_weight: Tensor | None) -> Tensor:
        with torch.no_grad():
            kept = self._similarities(x, edge_index) >= self.threshold
        weight = None if edge_weight is None else edge_weight[kept]
        return normalised_adjacency(edge_index[:, kept], weight, x.size(0), dtype=x.dtype)

    def _similarities(self, x: Tensor, edge_index: Tensor) -> Tensor:
        """Jaccard or cosine similarity of the ends of each edge, ``[E]``, in double precision, as DeepRobust has it."""
        features = x.numpy(force=True).astype(np.float64)
        rows = (
            sp.csr_matrix(features != 0, dtype=np.float64) if self.similarity == "jaccard" else sp.csr_matrix(features)
        )
        u, v = edge_index.numpy(force=True)
        products = np.asarray(rows[u].multiply(rows[v]).sum(axis=1)).ravel()
        sizes = np.asarray(rows.multiply(rows).sum(axis=1)).ravel()
        if self.similarity == "jaccard":
            with np.errstate(invalid="ignore"):
                # 0/0 between two nodes without features: not below the threshold, as in DeepRobust
                similarity = np.nan_to_num(products / (sizes[u] + sizes[v] - products), nan=np.inf)
        else:
            similarity = products / (np.sqrt(sizes[u] * sizes[v]) + 1e-8)
        return torch.from_numpy(similarity).to(edge_index.device)
