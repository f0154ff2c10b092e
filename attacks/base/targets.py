"""The nodes that an attack aims at."""

from __future__ import annotations

import torch
from torch import Tensor
from torch_geometric.data import Data


def checked_targets(data: Data, targets: Tensor) -> Tensor:
    """A copy of the targets, int64 ``[t]``: distinct nodes of the graph, each of which has a label.

    Raises:
        TypeError: something else than an int64 tensor ``[t]``.
        ValueError: none at all, one that is no node, one twice, or one without a label.
    """
    if not isinstance(targets, Tensor):
        raise TypeError(f"targets is an int64 tensor of node indices, given {type(targets).__name__}")
    if targets.dtype == torch.bool:
        raise TypeError("targets is an int64 tensor of node indices, given a bool mask; write mask.nonzero().flatten()")
    if targets.dtype != torch.int64 or targets.dim() != 1:
        raise TypeError(
            f"targets is an int64 tensor of shape [t], given {targets.dtype} of shape {list(targets.shape)}"
        )
    n = int(data.num_nodes)
    if targets.numel() == 0:
        raise ValueError("targets is empty: give at least one node index")
    if int(targets.min()) < 0 or int(targets.max()) >= n:
        raise ValueError(f"targets must lie in 0…{n - 1}, given {int(targets.min())}…{int(targets.max())}")
    if torch.unique(targets).numel() != targets.numel():
        raise ValueError("targets must be distinct: a node listed twice would get the budget twice")
    unknown = targets[(data.y < 0)[targets.to(data.y.device)].to(targets.device)].tolist()
    if unknown:
        raise ValueError(
            f"targets {unknown} have no label (−1), and an attack aims away from the right class; leave them out"
        )
    return targets.clone()
