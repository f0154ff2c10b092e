"""Robust GCN: hidden Gaussians."""

from __future__ import annotations

import copy
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch_geometric.data import Data

from contractive_gnn.deeprobust import Arrays, import_deeprobust, replaced
from contractive_gnn.deprecated import renamed
from contractive_gnn.nn.deeprobust.adapter import DeepRobustModel, EdgeWeightGradient, check_numbers
from contractive_gnn.nn.deeprobust.adjacency import dense, normalised_adjacency, once_differentiable


@renamed(hidden="hidden_channels")
class RGCN(DeepRobustModel):
    """Robust GCN: hidden Gaussians, with neighbours of large variance attended to less.

    Zhu et al., *Robust Graph Convolutional Networks Against Adversarial Attacks* (KDD 2019). Two mends: DeepRobust
    remembers the output of its best epoch but not the weights, which are kept here; and it predicts from a sample of
    the last Gaussian, where this returns its mean, so that the prediction is a function of the graph.

    Args:
        in_channels: number of features.
        out_channels: number of classes.
        hidden_channels: width.
        gamma: how much variance counts in the attention.
        beta1: weight of the Kullback–Leibler term.
        beta2: weight of the first layer's squared norm.
        lr: of Adam.
        dropout: probability.
        epochs: of training.
    """

    edge_weight_gradient: ClassVar[EdgeWeightGradient] = "exact"
    _left_behind: ClassVar[tuple[str, ...]] = ("features", "labels", "adj_norm1", "adj_norm2")

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        hidden_channels: int = 32,
        gamma: float = 1.0,
        beta1: float = 5e-4,
        beta2: float = 5e-4,
        lr: float = 0.01,
        dropout: float = 0.6,
        epochs: int = 200,
    ) -> None:
        super().__init__(epochs=epochs)
        check_numbers(in_channels, out_channels, hidden_channels, dropout, lr, gamma=gamma, beta1=beta1, beta2=beta2)
        self.inner = import_deeprobust("graph.defense").RGCN(
            nnodes=1,
            nfeat=in_channels,
            nhid=hidden_channels,
            nclass=out_channels,
            gamma=gamma,
            beta1=beta1,
            beta2=beta2,
            lr=lr,
            dropout=dropout,
        )
        self.out_channels = out_channels

    def reset_parameters(self) -> None:
        """Draw all parameters anew."""
        self.inner._initialize()

    def _fit(self, data: Data, arrays: Arrays) -> None:
        n = arrays.labels.size
        self.inner.gaussian = torch.distributions.Normal(
            torch.zeros(n, self.out_channels), torch.ones(n, self.out_channels)
        )
        best: dict[str, Tensor] = {}

        def keep(model: nn.Module, _: Tensor) -> None:
            best.update(copy.deepcopy(model.state_dict()))

        edge_index = data.edge_index

        def normalise(_: Tensor, power: float = -1 / 2) -> Tensor:
            return normalised_adjacency(edge_index, None, n, power=power)

        with replaced(type(self.inner), output=property(fset=keep)), replaced(self.inner, _normalize_adj=normalise):
            self._fit_inner(arrays)
        self.inner.load_state_dict(best)
        self._forget()

    def forward(self, x: Tensor, edge_index: Tensor, edge_weight: Tensor | None = None) -> Tensor:
        """Class scores: the mean of the last Gaussian."""
        by_mean = normalised_adjacency(edge_index, edge_weight, x.size(0), dtype=x.dtype)
        by_variance = normalised_adjacency(edge_index, edge_weight, x.size(0), dtype=x.dtype, power=-1.0)
        mean, variance = self.inner.gc1(dense(x), by_mean, by_variance, self.inner.gamma)
        mean, _ = self.inner.gc2(mean, variance, by_mean, by_variance, self.inner.gamma)
        self._forget()
        return once_differentiable(mean)

    def _forget(self) -> None:
        # the first layer keeps its last activations for the training loss: tensors of an autograd graph
        self.inner.gc1.miu = self.inner.gc1.sigma = None
