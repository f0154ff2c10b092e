"""The edges of a graph after some flips."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from contractive_gnn.attacks.evolution.population import Codes
from contractive_gnn.distinct import distinct


class CleanEdges:
    """The edges of the clean graph, sorted, so that a few flips need no sorting of all.

    Args:
        edge_index: int64 ``[2, 2m]``, both directions.
        num_nodes: n.
    """

    def __init__(self, edge_index: Tensor, num_nodes: int) -> None:
        self.num_nodes = num_nodes
        self._device = edge_index.device
        u, v = edge_index.numpy(force=True).astype(np.int64)
        self._codes = np.sort(u * num_nodes + v)

    def flipped(self, codes: Codes) -> Tensor:
        """Both directions of all edges, int64 ``[2, 2m']``, sorted as :func:`.flip_edges` sorts them.

        Args:
            codes: int64 ``[k]``, u n + v with u < v; one that stands there twice counts once.
        """
        n = self.num_nodes
        u, v = np.divmod(codes, n)
        both = distinct(np.concatenate([codes, v * n + u]))
        places = np.searchsorted(self._codes, both)
        there = self._codes.take(places, mode="clip") == both if self._codes.size else np.zeros(both.size, dtype=bool)
        left = np.delete(self._codes, places[there])
        added = both[~there]
        after = np.insert(left, np.searchsorted(left, added), added)
        row = after // n
        return torch.from_numpy(np.stack([row, after - row * n])).to(self._device)
