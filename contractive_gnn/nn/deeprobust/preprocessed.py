"""A GCN on a graph that is cleaned before."""

from __future__ import annotations

from abc import abstractmethod
from typing import ClassVar

from torch import Tensor

from contractive_gnn.deeprobust import import_deeprobust
from contractive_gnn.nn.deeprobust.adapter import DeepRobustModel, check_numbers
from contractive_gnn.nn.deeprobust.adjacency import dense, once_differentiable


class PreprocessedGCN(DeepRobustModel):
    """DeepRobust's GCN on a graph that was cleaned before."""

    deeprobust_class: ClassVar[str]

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        hidden_channels: int,
        dropout: float,
        lr: float,
        weight_decay: float,
        epochs: int,
    ) -> None:
        super().__init__(epochs=epochs)
        check_numbers(in_channels, out_channels, hidden_channels, dropout, lr, weight_decay=weight_decay)
        self.inner = getattr(import_deeprobust("graph.defense"), self.deeprobust_class)(
            nfeat=in_channels,
            nhid=hidden_channels,
            nclass=out_channels,
            dropout=dropout,
            lr=lr,
            weight_decay=weight_decay,
            device="cpu",
        )

    def forward(self, x: Tensor, edge_index: Tensor, edge_weight: Tensor | None = None) -> Tensor:
        """Class scores (log-probabilities)."""
        x = dense(x)
        return once_differentiable(self.inner(x, self._clean(x, edge_index, edge_weight)))

    @abstractmethod
    def _clean(self, x: Tensor, edge_index: Tensor, edge_weight: Tensor | None) -> Tensor:
        """The cleaned adjacency, normalised, with self-loops."""
