r"""The edges of a graph sorted by their ends, worked out once and kept as long as the graph's ``edge_index`` lives.

A sum over the edges into a node runs along one row of a list sorted by target; its gradient with respect to the node
values also needs the edges out of the node, a list sorted by source. Both are counting sorts, O(E + n).
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
    """Edges j → i as two sorted lists.

    Attributes:
        pointer: ``[n + 1]``; the edges into i stand at ``pointer[i] … pointer[i + 1] − 1`` of the first list.
        source: ``[E]``, the j of the first list, ascending within a row.
        edge: ``[E]``, where they stand in ``edge_index``.
        out_pointer: ``[n + 1]``, likewise of the second list, by j.
        out_target: ``[E]``, the i of the second list, ascending within a row.
        out_edge: ``[E]``, where they stand in ``edge_index``.
    """

    pointer: Tensor
    source: Tensor
    edge: Tensor
    out_pointer: Tensor
    out_target: Tensor
    out_edge: Tensor

    @classmethod
    def of(cls, edge_index: Tensor, num_nodes: int) -> EdgeOrder:
        """The order of ``edge_index`` (``[2, E]`` int64 on the CPU, sources above targets).

        It is kept for as long as this tensor lives, and is compared with it on every call, so that a tensor which was
        changed in place, by whatever means, gets a new order. Needs numba.

        Raises:
            IndexError: for an index outside 0 … n − 1.
        """
        order: EdgeOrder | None = _KNOWN.get(edge_index)
        from contractive_gnn.edge_loops import agrees, sort  # numba is imported where it is needed

        edges = edge_index.detach().numpy()
        if order is None or order.num_nodes != num_nodes or not agrees(edges, *(t.numpy() for t in order.incoming)):
            if edges.size and (edges.min() < 0 or edges.max() >= num_nodes):
                raise IndexError(
                    f"edge_index must hold node indices from 0 to {num_nodes - 1}, got {edges.min()} to {edges.max()}"
                )
            narrow = max(num_nodes, edges.shape[1]) < np.iinfo(np.int32).max
            arrays = sort(edges, num_nodes, np.zeros(0, np.int32 if narrow else np.int64))
            order = cls(*map(torch.from_numpy, arrays))
            _KNOWN[edge_index] = order
        return order

    @property
    def num_nodes(self) -> int:
        """The number of nodes n."""
        return self.pointer.numel() - 1

    @property
    def incoming(self) -> tuple[Tensor, Tensor, Tensor]:
        """The list by target: pointer, source, edge."""
        return self.pointer, self.source, self.edge

    @property
    def outgoing(self) -> tuple[Tensor, Tensor, Tensor]:
        """The list by source: pointer, target, edge."""
        return self.out_pointer, self.out_target, self.out_edge


_KNOWN: Final[Any] = WeakIdKeyDictionary()  # from the edge_index itself: the entry goes when the tensor does
