"""Pro-GNN, which learns the graph that it is trained on."""

from __future__ import annotations

import argparse
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch_geometric.data import Data

from contractive_gnn.checks import check_flag, check_whole
from contractive_gnn.deeprobust import Arrays, import_deeprobust
from contractive_gnn.deprecated import renamed
from contractive_gnn.nn.deeprobust.adapter import DeepRobustModel, EdgeWeightGradient, check_numbers
from contractive_gnn.nn.deeprobust.adjacency import dense


class TransductiveModelError(RuntimeError):
    """A model that learned one graph was asked to predict on another."""


@renamed(hidden="hidden_channels")
class ProGNN(DeepRobustModel):
    """GCN trained together with the graph it sees: sparse, of low rank, smooth in the features, near the given one.

    Jin et al., *Graph Structure Learning for Robust Graph Neural Networks* (KDD 2020), with the settings of its script
    for Cora. What it learns is one graph: it predicts on the graph that it was trained on, with other features if need
    be, and on no other. Every epoch takes the singular value decomposition of a dense n × n
    matrix.

    Args:
        in_channels: number of features.
        out_channels: number of classes.
        hidden_channels: width.
        dropout: probability.
        lr: of Adam.
        weight_decay: of Adam.
        epochs: of training.
        alpha: weight of ‖S‖₁.
        beta: weight of the nuclear norm.
        gamma: weight of the GCN's loss against ‖S − A‖_F.
        lambda_: weight of the feature smoothness.
        phi: weight of the asymmetry.
        lr_adj: learning rate of the graph.
        inner_steps: steps of the GCN per epoch.
        outer_steps: steps of the graph per epoch.
        symmetric: whether the graph is symmetrised.
    """

    reads_whole_graph: ClassVar[bool] = True
    edge_weight_gradient: ClassVar[EdgeWeightGradient] = "none"

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        hidden_channels: int = 16,
        dropout: float = 0.5,
        lr: float = 1e-3,
        weight_decay: float = 5e-4,
        epochs: int = 400,
        alpha: float = 5e-4,
        beta: float = 1.5,
        gamma: float = 1.0,
        lambda_: float = 1e-3,
        phi: float = 0.0,
        lr_adj: float = 0.01,
        inner_steps: int = 2,
        outer_steps: int = 1,
        symmetric: bool = False,
    ) -> None:
        super().__init__(epochs=epochs)
        reals = {"alpha": alpha, "beta": beta, "gamma": gamma, "lambda_": lambda_, "phi": phi, "lr_adj": lr_adj}
        check_numbers(in_channels, out_channels, hidden_channels, dropout, lr, weight_decay=weight_decay, **reals)
        check_whole("inner_steps", inner_steps, least=0)
        check_whole("outer_steps", outer_steps, least=0)
        check_flag("symmetric", symmetric)
        self.inner = import_deeprobust("graph.defense").GCN(
            nfeat=in_channels, nhid=hidden_channels, nclass=out_channels, dropout=dropout, device="cpu"
        )
        self.settings = argparse.Namespace(
            lr=lr,
            weight_decay=weight_decay,
            epochs=epochs,
            alpha=alpha,
            beta=beta,
            gamma=gamma,
            lambda_=lambda_,
            phi=phi,
            lr_adj=lr_adj,
            inner_steps=inner_steps,
            outer_steps=outer_steps,
            symmetric=symmetric,
            only_gcn=False,
            debug=False,
        )
        # the learned graph, normalised, and the edges of the given one as sorted codes u·n + v; empty before training
        self.register_buffer("learned", torch.empty(0, 0))
        self.register_buffer("given", torch.empty(0, dtype=torch.int64))
        self.learned: Tensor
        self.given: Tensor
        self.register_load_state_dict_pre_hook(_resize_buffers)  # type: ignore[no-untyped-call]

    def reset_parameters(self) -> None:
        """Draw all parameters anew and forget the graph."""
        super().reset_parameters()
        self.learned = self.learned.new_empty(0, 0)
        self.given = self.given.new_empty(0)

    def _fit(self, data: Data, arrays: Arrays) -> None:
        n = arrays.labels.size
        learner = import_deeprobust("graph.defense").ProGNN(self.inner, self.settings, data.x.device)
        adjacency = data.x.new_zeros(n, n)
        adjacency[data.edge_index[0], data.edge_index[1]] = 1.0
        learner.fit(data.x, adjacency, data.y, data.train_mask, data.val_mask)
        self.learned = learner.best_graph.detach().clone()
        self.given = _sorted_codes(data.edge_index, n)

    def forward(self, x: Tensor, edge_index: Tensor, edge_weight: Tensor | None = None) -> Tensor:
        """Class scores (log-probabilities) on the learned graph.

        Raises:
            TransductiveModelError: before training, or on another graph than that of the training.
        """
        n = x.size(0)
        if self.learned.numel() == 0:
            raise TransductiveModelError("pro-gnn has no graph before it was trained: call fit_data(data) first")
        if edge_weight is not None:
            if not bool(((edge_weight == 0) | (edge_weight == 1)).all()):
                raise TransductiveModelError(
                    "pro-gnn predicts on the graph that it learned and on no other: it takes no edge weights. Attack "
                    "it by poisoning (train it on the attacked graph) or through its features"
                )
            edge_index = edge_index[:, edge_weight == 1]
        if n != self.learned.size(0) or not torch.equal(_sorted_codes(edge_index, n), self.given):
            raise TransductiveModelError(
                "pro-gnn predicts on the graph that it learned and on no other: it was trained on "
                f"{self.learned.size(0)} nodes and {self.given.numel() // 2} edges, and given {n} nodes and "
                f"{edge_index.size(1) // 2} edges that are not the same. For evasion take another model; for poisoning "
                "train it on the attacked graph"
            )
        return self.inner(dense(x), self.learned)  # type: ignore[no-any-return]


def _resize_buffers(module: nn.Module, state: dict[str, Any], prefix: str, *_: Any) -> None:
    for name in ("learned", "given"):
        if prefix + name in state:
            setattr(module, name, torch.empty_like(state[prefix + name]))


def _sorted_codes(edge_index: Tensor, n: int) -> Tensor:
    return (edge_index[0] * n + edge_index[1]).sort().values
