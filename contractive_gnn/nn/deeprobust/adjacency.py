"""The normalised adjacency, and scores whose gradient cannot be differentiated."""

from __future__ import annotations

import torch
from torch import Tensor


def normalised_adjacency(
    edge_index: Tensor,
    edge_weight: Tensor | None,
    n: int,
    *,
    dtype: torch.dtype = torch.float32,
    power: float = -1 / 2,
) -> Tensor:
    """Dᵖ (A + I) Dᵖ with D the row sums of A + I, sparse ``[n, n]`` and differentiable in ``edge_weight``."""
    loops = torch.arange(n, device=edge_index.device)
    weight = (
        torch.ones(edge_index.size(1), dtype=dtype, device=edge_index.device) if edge_weight is None else edge_weight
    )
    values = torch.cat([weight, weight.new_ones(n)])
    row, column = torch.cat([edge_index, loops.expand(2, n)], dim=1)
    scale = values.new_zeros(n).index_add(0, row, values).pow(power)
    values = scale[row] * values * scale[column]
    return torch.sparse_coo_tensor(torch.stack([row, column]), values, (n, n)).coalesce()


def once_differentiable(scores: Tensor) -> Tensor:
    """The scores, whose gradient cannot be differentiated: torch's product with a sparse matrix gets that wrong."""

    def refuse(g: Tensor) -> None:
        if torch.is_grad_enabled():
            raise NotImplementedError(
                "create_graph=True asks for second derivatives, which DeepRobust's models do not have: torch's product "
                "with a sparse adjacency gets them wrong; take first ones, and differences of those"
            )

    if scores.requires_grad:
        scores.register_hook(refuse)  # type: ignore[no-untyped-call]
    return scores


def dense(x: Tensor) -> Tensor:
    """The same matrix in the dense layout."""
    return x if x.layout == torch.strided else x.to_dense()
