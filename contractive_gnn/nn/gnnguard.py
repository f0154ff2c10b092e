"""A GCN that weighs its edges by the similarity of their ends."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch_geometric.nn import GCNConv

from contractive_gnn.checks import check_real, check_widths
from contractive_gnn.deprecated import renamed
from contractive_gnn.graph import Graph
from contractive_gnn.nn.arguments import check_features, edge_list, widened
from contractive_gnn.nn.sparse import Linear, dropout, unit_rows
from contractive_gnn.seeding import drawing

_BLOCK = 256  # features whose products over all edges are in memory at once


@renamed(hidden="hidden_channels")
class GNNGuard(nn.Module):
    r"""Two layers of GCN, each on the graph reweighted by the cosines ``s_uv`` of the features that enter it.

    A cosine below the threshold counts as 0: the edge is pruned. With N_u edges left at u,

    .. math:: α_{uv} = \frac{N_u}{N_u + 1}\, \frac{w_{uv} s_{uv}}{\sum_k w_{uk} s_{uk}}, \qquad
              α_{uu} = \frac{1}{N_u + 1},

    and the second layer remembers the first: ``ω⁽²⁾ = βω⁽¹⁾ + (1 − β)α⁽²⁾`` from ``ω⁽¹⁾ = α⁽¹⁾``, with a learned
    β in (0, 1). The rows of ω sum to 1, so the layers do not normalise further.

    Zhang and Zitnik, *GNNGuard: Defending Graph Neural Networks against Adversarial Attacks* (NeurIPS 2020), equations
    there for ``w = 1``; with weights, N_u is the weight left. The threshold on the cosine is that of their code, which
    leaves out the second pruning of the paper (of ``(α_uv, α_vu)`` by a linear score, which no gradient reaches) and
    exponentiates α. Their code does not differentiate the cosines; here the gradient is that of the model. An edge
    that both layers prune moves nothing, and has none.

    Args:
        in_channels: number of features.
        out_channels: number of classes.
        hidden_channels: width.
        threshold: the least cosine of an edge that is kept, in (0, 1].
        dropout: probability of dropping a hidden unit.

    Shapes:
        ``x`` ``[n, in_channels]`` dense or ``sparse_csr``, ``edge_index`` ``[2, E]`` (both orientations) or a sparse
        ``[n, n]`` matrix, ``edge_weight`` ``[E]`` (differentiable), output ``[n, out_channels]``.

    Raises:
        ValueError: for a threshold out of its range.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        hidden_channels: int = 16,
        threshold: float = 0.1,
        dropout: float = 0.5,
    ) -> None:
        super().__init__()
        check_widths(in_channels, out_channels=out_channels, hidden_channels=hidden_channels)
        check_real("threshold", threshold, above=0, most=1)
        check_real("dropout", dropout, least=0, most=1)
        with drawing():
            self.conv1 = GCNConv(in_channels, hidden_channels, normalize=False)
            self.conv1.lin = Linear(in_channels, hidden_channels, bias=False, weight_initializer="glorot")
            self.conv2 = GCNConv(hidden_channels, out_channels, normalize=False)
        self.memory = nn.Parameter(torch.zeros(()))  # the logit of β
        self.threshold = threshold
        self.dropout = dropout

    def reset_parameters(self) -> None:
        """Draw all parameters anew."""
        with drawing():
            self.conv1.reset_parameters()
            self.conv2.reset_parameters()
        nn.init.zeros_(self.memory)

    def forward(self, x: Tensor, edge_index: Tensor, edge_weight: Tensor | None = None) -> Tensor:
        """Class scores."""
        check_features(x, self)
        graph = Graph.of(x, *edge_list(x, edge_index, edge_weight))
        nodes = torch.arange(graph.num_nodes, device=x.device).expand(2, -1)
        edges = torch.cat([graph.edge_index, nodes], dim=1)
        dtype, weight = x.dtype, self.importance(widened(x), graph)
        x = self.conv1(x, edges, weight).relu().to(dtype)
        kept = self.memory.sigmoid()
        weight = kept * weight + (1 - kept) * self.importance(widened(x), graph)
        x = self.conv2(dropout(x, self.dropout, training=self.training), edges, weight)
        return x.to(dtype)

    def importance(self, x: Tensor, graph: Graph) -> Tensor:
        """α of the edges, and of the nodes themselves after them, ``[E + n]``."""
        similarity = _cosine(x, graph)
        pruned = (similarity < self.threshold) | (graph.source == graph.target)
        similarity = similarity.masked_fill(pruned, 0.0)
        left = graph.row_sum(graph.edge_weight.masked_fill(pruned, 0.0))
        # too little to be seen beside an edge; where all edges are absent, it gives them the mean that one would meet
        weight = graph.edge_weight + torch.finfo(similarity.dtype).eps ** 2
        count = graph.row_sum(weight.masked_fill(pruned, 0.0))
        mean = graph.row_sum(weight * similarity) / count.masked_fill(count == 0, 1.0)
        mean = mean.masked_fill(count == 0, 1.0)
        alpha = graph.edge_weight * similarity / ((left + 1) * mean)[graph.target]
        return torch.cat([alpha, 1 / (left + 1)])


def _cosine(x: Tensor, graph: Graph) -> Tensor:
    x = unit_rows(x if x.layout == torch.strided else x.to_dense())
    blocks = torch.split(x, _BLOCK, dim=1)
    return torch.stack([(z[graph.target] * z[graph.source]).sum(dim=1) for z in blocks]).sum(dim=0)
