"""Flips of edges: those that two graphs differ in, and those that make one of another."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor


def undirected_edges(edge_index: Tensor) -> Tensor:
    """Each undirected edge once, int64 ``[2, m]`` with u < v, in lexicographic order."""
    edges = edge_index[:, edge_index[0] < edge_index[1]]
    return edges[:, np.lexsort((edges[1].numpy(force=True), edges[0].numpy(force=True)))]


def flip_edges(edge_index: Tensor, flips: Tensor, *, num_nodes: int) -> Tensor:
    """Add the edges in ``flips`` that are absent, and remove those that are present.

    Args:
        edge_index: int64 ``[2, 2m]``, both directions, no self-loops.
        flips: int64 ``[2, k]``, undirected, each edge once.
        num_nodes: n.

    Returns:
        int64 ``[2, 2m']``, both directions, sorted.
    """
    before = _codes(undirected_edges(edge_index), num_nodes)
    after = np.setxor1d(before, _codes(torch.stack([flips.amin(dim=0), flips.amax(dim=0)]), num_nodes))
    u, v = np.divmod(after, num_nodes)
    row, column = np.concatenate([u, v]), np.concatenate([v, u])
    order = np.lexsort((column, row))
    return torch.from_numpy(np.stack([row[order], column[order]])).to(edge_index.device)


def edge_difference(before: Tensor, after: Tensor) -> Tensor:
    """The undirected edges that exactly one of two edge indices has: int64 ``[2, k]`` with u < v, sorted."""
    n = 1 + max((int(index.max()) for index in (before, after) if index.numel()), default=0)
    codes = np.setxor1d(_codes(undirected_edges(before), n), _codes(undirected_edges(after), n))
    return torch.from_numpy(np.stack(np.divmod(codes, n)))


def feature_difference(before: Tensor, after: Tensor) -> Tensor:
    """The entries that differ, int64 ``[2, k]`` on the CPU; of one and the same tensor without a look at it.

    Rows that ``after`` has beyond those of ``before`` are features of new nodes, and no difference.
    """
    if before is after:
        return torch.empty(2, 0, dtype=torch.int64)
    return (before != after[: len(before)]).nonzero().t().cpu().contiguous()


def is_binary(x: Tensor) -> bool:
    """Whether every entry of ``x`` is 0 or 1."""
    return bool(((x == 0) | (x == 1)).all())


def _codes(edges: Tensor, num_nodes: int) -> np.ndarray[Any, np.dtype[np.int64]]:
    u, v = edges.numpy(force=True).astype(np.int64)
    codes: np.ndarray[Any, np.dtype[np.int64]] = u * num_nodes + v
    return codes
