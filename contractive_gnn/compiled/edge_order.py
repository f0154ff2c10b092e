r"""The edges of a graph as a list of every node's neighbours, worked out once and kept while its ``edge_index`` lives.

A sum over the edges into a node runs along one row of the list, and so does its gradient with respect to the node
values, which also needs the edges out of the node. The list is made by counting sorts, O(E + n).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor
from torch.utils.weak import WeakIdKeyDictionary


@dataclass(frozen=True, eq=False)
class EdgeOrder:
    """Edges j → i, by node: node i has one entry for each pair of edges j → i and i → j, or for either alone.

    On an undirected graph there are as many entries as edges. A self-loop is its own way back.

    Attributes:
        pointer: ``[n + 1]``; the entries of node i stand at ``pointer[i] … pointer[i + 1] − 1``.
        neighbour: ``[P]``, the j of every entry, ascending for each node.
        edge: ``[P]``, where j → i stands in ``edge_index``; −1 where there is no such edge.
        back: ``[P]``, likewise for i → j.
    """

    pointer: Tensor
    neighbour: Tensor
    edge: Tensor
    back: Tensor

    @classmethod
    def of(cls, edge_index: Tensor, num_nodes: int) -> EdgeOrder:
        """The order of ``edge_index`` (``[2, E]`` int64 on the CPU, sources above targets).

        It is kept for as long as this tensor lives, and is compared with it on every call, so that a tensor which was
        changed in place, by whatever means, gets a new order. Needs numba.

        Raises:
            IndexError: for an index outside 0 … n − 1.
        """
        order: EdgeOrder | None = _KNOWN.get(edge_index)
        from contractive_gnn.compiled.edge_loops import agrees, sort  # numba is imported where it is needed

        edges = edge_index.detach().numpy()
        if order is None or order.num_nodes != num_nodes or not agrees(edges, *(t.numpy() for t in order.arrays[:3])):
            check_nodes(edges, num_nodes)
            narrow = max(num_nodes, 2 * edges.shape[1]) < np.iinfo(np.int32).max
            arrays = sort(edges, num_nodes, np.zeros(0, np.int32 if narrow else np.int64))
            with torch.inference_mode(False):  # it is kept, and a gradient may be asked for later
                order = cls(*map(torch.from_numpy, arrays))
            _KNOWN[edge_index] = order
        return order

    @property
    def num_nodes(self) -> int:
        """The number of nodes n."""
        return self.pointer.numel() - 1

    @property
    def arrays(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Pointer, neighbour, edge, back."""
        return self.pointer, self.neighbour, self.edge, self.back


def check_nodes(edges: Any, num_nodes: int) -> None:
    """Raise IndexError unless this array holds indices from 0 to n − 1: the loops would read beyond their arrays."""
    if edges.size and (edges.min() < 0 or edges.max() >= num_nodes):
        raise IndexError(
            f"edge_index must hold node indices from 0 to {num_nodes - 1}, got {edges.min()} to {edges.max()}"
        )


_KNOWN: Final[Any] = WeakIdKeyDictionary()  # from the edge_index itself: the entry goes when the tensor does
