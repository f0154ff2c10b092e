"""What a victim answers on a graph with new nodes, and the edges that these may get."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch_geometric.data import Data
from torch_geometric.utils import degree

from contractive_gnn.attacks.injection.attack import Injection
from contractive_gnn.nn.surrogate import gradient_surrogate


class GrownGraph:
    """A graph, new nodes after the old ones, and the victim's answers on both.

    Args:
        victim: ``forward(x, edge_index, edge_weight=None)``.
        data: the clean graph of n nodes.
    """

    def __init__(self, victim: nn.Module, data: Data) -> None:
        self.victim, self.guide = victim, gradient_surrogate(victim)
        self.x, self.edge_index = data.x, data.edge_index
        self.degrees = degree(data.edge_index[0], num_nodes=data.num_nodes)

    def relaxed(self, x: Tensor, edges: Tensor, weight: Tensor) -> Tensor:
        """Logits ``[n + k, classes]`` with edges of these weights, differentiable in features and weights.

        Args:
            x: features of the new nodes, ``[k, d]``.
            edges: int64 ``[2, m]``, (new node, old node).
            weight: ``[m]``, 0 for an edge that is not there.
        """
        added = self._ends(edges)
        ones = weight.new_ones(self.edge_index.shape[1])
        answer: Tensor = self.guide(
            torch.cat([self.x, x]),
            torch.cat([self.edge_index, added, added.flip(0)], dim=1),
            torch.cat([ones, weight, weight]),
        )
        return answer

    def discrete(self, x: Tensor, edges: Tensor) -> Tensor:
        """Logits ``[n + k, classes]`` with these edges, differentiable in the features."""
        added = self._ends(edges)
        both = torch.cat([self.edge_index, added, added.flip(0)], dim=1)
        n = len(self.x) + len(x)
        # sorted as the edge_index of the result is: the sums are the same to the last bit
        code = (both[0] * n + both[1]).sort().values
        row = code // n
        answer: Tensor = self.victim(torch.cat([self.x, x]), torch.stack([row, code - n * row]))
        return answer

    def answer(self, injection: Injection) -> Tensor:
        """Logits ``[n + k, classes]`` without a gradient."""
        with torch.no_grad():
            return self.discrete(injection.x, injection.edges)

    def homophily(self, x: Tensor, edges: Tensor, weight: Tensor) -> Tensor:
        r"""The mean homophily of the new nodes, a number in [−1, 1].

        .. math:: h_u = \cos(x_u, r_u), \qquad r_u = \sum_{v \sim u} w_{uv}\, x_v / \sqrt{d_u d_v}

        Chen et al. (ICLR 2022), equations of the node-centric homophily. Its gradient is taken by the features and by
        the weights; the degrees d_v of old nodes count with the weights too.
        """
        new, old = edges
        d_new = weight.new_zeros(len(x)).index_add(0, new, weight)
        d_old = (self.degrees.to(weight) + weight.new_zeros(len(self.x)).index_add(0, old, weight)).clamp(min=1e-6)
        # d_u scales r_u alone, and a cosine does not see it
        near = weight.new_zeros(len(x), len(self.x)).index_put((new, old), weight / d_old[old].sqrt(), accumulate=True)
        pull = near @ self.x
        there = (d_new > 0).to(weight)
        return (functional.cosine_similarity(x, pull, dim=1) * there).sum() / there.sum().clamp(min=1)

    def _ends(self, edges: Tensor) -> Tensor:
        return torch.stack([len(self.x) + edges[0], edges[1]])
