"""Small graphs on which bounds are tight, or go wrong."""

from __future__ import annotations

import torch
from torch import Tensor

from contractive_gnn.graph import Graph


def undirected(pairs: Tensor, num_nodes: int, weight: Tensor | None = None) -> Graph:
    """The graph of undirected edges, each given once.

    Args:
        pairs: ``[2, m]``.
        num_nodes: n.
        weight: ``[m]``; None for ones, in float64.
    """
    if weight is None:
        weight = torch.ones(pairs.size(1), dtype=torch.float64)
    return Graph(torch.cat([pairs, pairs.flip(0)], dim=1), torch.cat([weight, weight]), num_nodes)


def complete_bipartite(left: int, right: int) -> Graph:
    """``K_{left,right}``: the largest Laplacian eigenvalue is the number of nodes, twice the degree if regular."""
    i, j = torch.meshgrid(torch.arange(left), torch.arange(left, left + right), indexing="ij")
    return undirected(torch.stack([i.flatten(), j.flatten()]), left + right)


def cycle(n: int) -> Graph:
    """A ring of n nodes."""
    nodes = torch.arange(n)
    return undirected(torch.stack([nodes, (nodes + 1) % n]), n)


def random_weighted(n: int, *, density: float = 0.4, scale: float = 2.0, seed: int = 0) -> Graph:
    """Each pair with probability ``density``, with a weight that is uniform in ``[0, scale]``."""
    generator = torch.Generator().manual_seed(seed)
    pairs = torch.triu(torch.rand(n, n, generator=generator) < density, diagonal=1).nonzero().T
    weight = scale * torch.rand(pairs.size(1), dtype=torch.float64, generator=generator)
    return undirected(pairs, n, weight)


def battery(seed: int = 0) -> dict[str, Graph]:
    """The graphs that every claim is tried on: regular, a hub, isolated nodes, weights of all sizes."""
    return {
        "one edge": complete_bipartite(1, 1),
        "K3,3": complete_bipartite(3, 3),
        "star of 6": complete_bipartite(1, 6),
        "cycle of 5, one node apart": undirected(cycle(5).edge_index[:, :5], 6),
        "random weights": random_weighted(7, seed=seed),
        "heavy weights": random_weighted(6, density=0.7, scale=50.0, seed=seed),
    }
