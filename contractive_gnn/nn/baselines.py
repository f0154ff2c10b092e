"""The undefended models that everything is compared with, from PyG's own layers.

They are node classifiers with settings of their own, and not ``torch_geometric.nn.GCN`` and the like, which are stacks
of layers.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch_geometric.nn import APPNP as APPNPConv
from torch_geometric.nn import GATConv, GCNConv
from torch_geometric.utils import scatter, softmax

from contractive_gnn.checks import check_real, check_whole, check_widths
from contractive_gnn.deprecated import aliases, renamed
from contractive_gnn.nn.arguments import check_features, edge_list, widened
from contractive_gnn.nn.sparse import Linear, dropout, normalize_rows
from contractive_gnn.seeding import drawing


@renamed(hidden="hidden_channels")
class MLPClassifier(nn.Module):
    """Linear, ReLU, linear: features only, so no edge flip can touch it.

    Args:
        in_channels: number of features.
        out_channels: number of classes.
        hidden_channels: width.
        dropout: probability of dropping a feature, and a hidden unit.
        row_norm: the length > 0 to which every node's features are brought; None takes them as they are.

    Shapes:
        ``x`` ``[n, in_channels]`` dense or ``sparse_csr``, output ``[n, out_channels]``.

    Raises:
        ValueError: for a ``row_norm`` that is not positive.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        hidden_channels: int = 64,
        dropout: float = 0.5,
        row_norm: float | None = None,
    ) -> None:
        super().__init__()
        check_widths(in_channels, out_channels=out_channels, hidden_channels=hidden_channels)
        check_real("dropout", dropout, least=0, most=1)
        if row_norm is not None:
            check_real("row_norm", row_norm, above=0)
        self.row_norm = row_norm
        self.encoder = Linear(in_channels, hidden_channels)
        self.decoder = Linear(hidden_channels, out_channels)
        self.dropout = dropout

    def reset_parameters(self) -> None:
        """Draw all parameters anew."""
        self.encoder.reset_parameters()
        self.decoder.reset_parameters()

    def forward(self, x: Tensor, edge_index: Tensor, edge_weight: Tensor | None = None) -> Tensor:
        """Class scores; the graph is not looked at."""
        check_features(x, self)
        if self.row_norm is not None:
            x = (self.row_norm * normalize_rows(widened(x))).to(x.dtype)
        x = self.encoder(dropout(x, self.dropout, training=self.training)).relu()
        return self.decoder(dropout(x, self.dropout, training=self.training))  # type: ignore[no-any-return]


@renamed(hidden="hidden_channels", num_steps="num_layers")
class APPNPClassifier(MLPClassifier):
    """MLP, then K steps of personalised PageRank with teleport ``alpha`` (Gasteiger et al., ICLR 2019)."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        hidden_channels: int = 64,
        num_layers: int = 10,
        alpha: float = 0.1,
        dropout: float = 0.5,
    ) -> None:
        super().__init__(in_channels, out_channels, hidden_channels=hidden_channels, dropout=dropout)
        check_whole("num_layers", num_layers, least=1)
        check_real("alpha", alpha, least=0, most=1)
        self.conv = APPNPConv(num_layers, alpha)

    def forward(self, x: Tensor, edge_index: Tensor, edge_weight: Tensor | None = None) -> Tensor:
        """Class scores."""
        check_features(x, self)
        edge_index, edge_weight = edge_list(x, edge_index, edge_weight)
        scores = widened(super().forward(x, edge_index))
        return self.conv(scores, edge_index, edge_weight).to(x.dtype)  # type: ignore[no-any-return]


@renamed(hidden="hidden_channels")
class GCNClassifier(nn.Module):
    """Two ``GCNConv`` layers with a ReLU between them (Kipf and Welling, ICLR 2017).

    The defaults, 16 hidden units and dropout on them alone, are those of DeepRobust and of Pro-GNN's tables.

    Args:
        in_channels: number of features.
        out_channels: number of classes.
        hidden_channels: width.
        dropout: probability of dropping a hidden unit.

    Shapes:
        ``x`` ``[n, in_channels]`` dense or ``sparse_csr``, output ``[n, out_channels]``.
    """

    def __init__(self, in_channels: int, out_channels: int, *, hidden_channels: int = 16, dropout: float = 0.5) -> None:
        super().__init__()
        check_widths(in_channels, out_channels=out_channels, hidden_channels=hidden_channels)
        check_real("dropout", dropout, least=0, most=1)
        with drawing():
            self.conv1 = GCNConv(in_channels, hidden_channels)
            self.conv1.lin = Linear(in_channels, hidden_channels, bias=False, weight_initializer="glorot")
            self.conv2 = GCNConv(hidden_channels, out_channels)
        self.dropout = dropout

    def reset_parameters(self) -> None:
        """Draw all parameters anew."""
        with drawing():
            self.conv1.reset_parameters()
            self.conv2.reset_parameters()

    def forward(self, x: Tensor, edge_index: Tensor, edge_weight: Tensor | None = None) -> Tensor:
        """Class scores."""
        check_features(x, self)
        edge_index, edge_weight = edge_list(x, edge_index, edge_weight)
        dtype = x.dtype
        x = self.conv1(x, edge_index, edge_weight).relu().to(dtype)
        x = self.conv2(dropout(x, self.dropout, training=self.training), edge_index, edge_weight)
        return x.to(dtype)


class WeightedGATConv(GATConv):  # type: ignore[misc]
    r"""PyG's ``GATConv`` with a weight per edge in its softmax, ``α_ij = w_ij exp(e_ij) / Σ_k w_ik exp(e_ik)``.

    A weight of 0 is an absent edge, ones give ``GATConv`` itself, and the weights are differentiable, so an attacker
    can take gradients through them. The self-loop has weight 1.
    """

    def __init__(self, in_channels: int, out_channels: int, *, heads: int, dropout: float, concat: bool = True) -> None:
        super().__init__(in_channels, out_channels, heads=heads, dropout=dropout, concat=concat, fill_value=1.0)

    def forward(self, x: Tensor, edge_index: Tensor, edge_attr: Tensor | None = None, **options: Any) -> Any:
        """As ``GATConv``; of a sparse adjacency, whose values that one does not read, they are the weights."""
        if edge_index.layout != torch.strided:
            edge_index, edge_attr = edge_list(x, edge_index, edge_attr)
        return super().forward(x, edge_index, edge_attr, **options)

    def edge_update(
        self,
        alpha_j: Tensor,
        alpha_i: Tensor,
        edge_attr: Tensor | None,
        index: Tensor,
        ptr: Tensor | None,
        dim_size: int | None,
    ) -> Tensor:
        """Attention per edge and head, ``[E, heads]``; ``edge_attr`` ``[E]`` holds the weights."""
        alpha = softmax(nn.functional.leaky_relu(alpha_i + alpha_j, self.negative_slope), index, ptr, dim_size)
        if edge_attr is not None:
            alpha = alpha * edge_attr.view(-1, 1)
            total = scatter(alpha, index, dim=0, dim_size=dim_size, reduce="sum")
            # The self-loop of weight 1 keeps the sum positive, but its share may have been rounded to zero.
            alpha = alpha / total.clamp(min=torch.finfo(alpha.dtype).tiny)[index]
        return nn.functional.dropout(alpha, p=self.dropout, training=self.training)


@renamed(hidden="hidden_channels")
class GATClassifier(nn.Module):
    """Two ``GATConv`` layers with an ELU between them (Veličković et al., ICLR 2018), see :class:`WeightedGATConv`.

    Args:
        in_channels: number of features.
        out_channels: number of classes.
        hidden_channels: units per head.
        heads: heads of the first layer (the second has one).
        dropout: probability of dropping a feature, a hidden unit and an attention coefficient.

    Shapes:
        ``x`` ``[n, in_channels]`` dense or ``sparse_csr``, output ``[n, out_channels]``.
    """

    def __init__(
        self, in_channels: int, out_channels: int, *, hidden_channels: int = 8, heads: int = 8, dropout: float = 0.6
    ) -> None:
        super().__init__()
        check_widths(in_channels, out_channels=out_channels, hidden_channels=hidden_channels, heads=heads)
        check_real("dropout", dropout, least=0, most=1)
        with drawing():
            self.conv1 = WeightedGATConv(in_channels, hidden_channels, heads=heads, dropout=dropout)
            self.conv1.lin = Linear(in_channels, heads * hidden_channels, bias=False, weight_initializer="glorot")
            self.conv2 = WeightedGATConv(heads * hidden_channels, out_channels, heads=1, concat=False, dropout=dropout)
        self.dropout = dropout

    def reset_parameters(self) -> None:
        """Draw all parameters anew."""
        with drawing():
            self.conv1.reset_parameters()
            self.conv2.reset_parameters()

    def forward(self, x: Tensor, edge_index: Tensor, edge_weight: Tensor | None = None) -> Tensor:
        """Class scores."""
        check_features(x, self)
        edge_index, edge_weight = edge_list(x, edge_index, edge_weight)
        dtype = x.dtype
        x = self.conv1(dropout(x, self.dropout, training=self.training), edge_index, edge_weight).to(dtype)
        x = nn.functional.elu(x)
        x = self.conv2(dropout(x, self.dropout, training=self.training), edge_index, edge_weight)
        return x.to(dtype)


__getattr__ = aliases(__name__, {old: f"{__name__}:{old}Classifier" for old in ("APPNP", "GAT", "GCN", "MLP")})
