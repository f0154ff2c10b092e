"""SimP-GCN: neighbours by the features beside those of the graph."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor
from torch_geometric.data import Data

from contractive_gnn.checks import check_real
from contractive_gnn.deeprobust import Arrays, import_deeprobust
from contractive_gnn.deprecated import renamed
from contractive_gnn.nn.deeprobust.adapter import DeepRobustModel, EdgeWeightGradient, check_numbers
from contractive_gnn.nn.deeprobust.adjacency import dense, normalised_adjacency, once_differentiable
from contractive_gnn.nn.deeprobust.similarities import cosine_similarities, extreme_pairs, nearest_neighbours


@renamed(hidden="hidden_channels")
class SimPGCN(DeepRobustModel):
    """GCN that mixes the graph with the graph of the 20 most similar nodes, and learns to tell similar nodes.

    Jin et al., *Node Similarity Preserving Graph Convolutional Networks* (WSDM 2021), with the settings of its authors'
    script for attacked Cora. DeepRobust keeps the similar nodes in files named after the *shape* of the features, in
    the working directory, so that a second graph of the same shape is trained on those of the first; here they are
    computed anew for other features and no file is written. They are not differentiable in x. Dense: n² memory while
    they are computed.

    Args:
        in_channels: number of features.
        out_channels: number of classes.
        hidden_channels: width.
        lambda_: weight of the self-supervised loss.
        gamma: weight of the learned self-loops.
        bias_init: first value of the bias of the mixing score.
        dropout: probability.
        lr: of Adam.
        weight_decay: of Adam.
        epochs: of training.
    """

    reads_whole_graph: ClassVar[bool] = True
    edge_weight_gradient: ClassVar[EdgeWeightGradient] = "exact"
    _left_behind: ClassVar[tuple[str, ...]] = (
        "output",
        "features",
        "labels",
        "adj_norm",
        "pseudo_labels",
        "node_pairs",
        "ss",
    )

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        hidden_channels: int = 128,
        lambda_: float = 0.1,
        gamma: float = 0.01,
        bias_init: float = 0.0,
        dropout: float = 0.5,
        lr: float = 0.01,
        weight_decay: float = 5e-4,
        epochs: int = 200,
    ) -> None:
        super().__init__(epochs=epochs)
        reals = {"lambda_": lambda_, "gamma": gamma, "weight_decay": weight_decay}
        check_numbers(in_channels, out_channels, hidden_channels, dropout, lr, **reals)
        check_real("bias_init", bias_init)
        self.inner = import_deeprobust("graph.defense").SimPGCN(
            nnodes=1,
            nfeat=in_channels,
            nhid=hidden_channels,
            nclass=out_channels,
            lambda_=lambda_,
            gamma=gamma,
            bias_init=bias_init,
            dropout=dropout,
            lr=lr,
            weight_decay=weight_decay,
            device="cpu",
        )
        # the features that inner.adj_knn belongs to
        self._similar_for: Tensor | None = None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw all parameters anew."""
        super().reset_parameters()
        self.inner.linear.reset_parameters()

    def _fit(self, data: Data, arrays: Arrays) -> None:
        self._find_similar(data.x)
        similarities = cosine_similarities(data.x)
        pairs = extreme_pairs(similarities)
        self.inner.node_pairs = tuple(pairs)
        self.inner.pseudo_labels = torch.from_numpy(similarities[tuple(pairs)])[:, None]
        self._fit_inner(arrays)

    def forward(self, x: Tensor, edge_index: Tensor, edge_weight: Tensor | None = None) -> Tensor:
        """Class scores (log-probabilities)."""
        x = dense(x)
        known = self._similar_for
        if known is None or known.dtype != x.dtype or not torch.equal(known, x):
            self._find_similar(x)
        logits = self.inner(x, normalised_adjacency(edge_index, edge_weight, x.size(0), dtype=x.dtype))
        # the scores of the last forward: a tensor of an autograd graph
        self.inner.ss = None
        return once_differentiable(logits)

    def _find_similar(self, x: Tensor) -> None:
        normalise = import_deeprobust("graph.defense.simpgcn").preprocess_adj_noloop
        self.inner.adj_knn = normalise(nearest_neighbours(cosine_similarities(x)), x.device).to(x.dtype)
        self.inner.identity = torch.eye(x.size(0), dtype=x.dtype, device=x.device).to_sparse()
        self._similar_for = x.detach().clone()
