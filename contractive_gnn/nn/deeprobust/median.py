"""MedianGCN: the median of the neighbours."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor
from torch_geometric.data import Data

from contractive_gnn.deeprobust import Arrays, import_deeprobust
from contractive_gnn.deprecated import renamed
from contractive_gnn.nn.deeprobust.adapter import DeepRobustModel, EdgeWeightGradient, check_numbers
from contractive_gnn.nn.deeprobust.adjacency import dense


@renamed(hidden="hidden_channels")
class MedianGCN(DeepRobustModel):
    """GCN that takes the median of the neighbours (and the node itself), channel by channel, instead of a mean.

    Chen et al., *Understanding Structural Vulnerability in Graph Convolutional Networks* (IJCAI 2021). A median has no
    useful gradient in the weight of an edge, and DeepRobust's has no weights: here an edge counts where its weight
    exceeds 1/2, and the output is constant in ``edge_weight`` otherwise.

    Args:
        in_channels: number of features.
        out_channels: number of classes.
        hidden_channels: width.
        dropout: probability.
        lr: of Adam.
        weight_decay: of Adam.
        epochs: of training.
    """

    edge_weight_gradient: ClassVar[EdgeWeightGradient] = "none"
    _left_behind: ClassVar[tuple[str, ...]] = ("output", "data")

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        hidden_channels: int = 16,
        dropout: float = 0.5,
        lr: float = 0.01,
        weight_decay: float = 5e-4,
        epochs: int = 200,
    ) -> None:
        super().__init__(epochs=epochs)
        check_numbers(in_channels, out_channels, hidden_channels, dropout, lr, weight_decay=weight_decay)
        self.inner = import_deeprobust("graph.defense").MedianGCN(
            nfeat=in_channels,
            nhid=hidden_channels,
            nclass=out_channels,
            dropout=dropout,
            lr=lr,
            weight_decay=weight_decay,
            device="cpu",
        )

    def _fit(self, data: Data, arrays: Arrays) -> None:
        self.inner.fit([data.clone()], train_iters=self.epochs, verbose=False)

    def forward(self, x: Tensor, edge_index: Tensor, edge_weight: Tensor | None = None) -> Tensor:
        """Class scores (log-probabilities)."""
        if edge_weight is not None:
            edge_index = edge_index[:, edge_weight > 0.5]
        return self.inner(Data(x=dense(x), edge_index=edge_index))  # type: ignore[no-any-return]
