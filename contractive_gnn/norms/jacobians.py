"""Jacobians, and the constants of a map at one point."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from contractive_gnn.norms.given import name_and_weight
from contractive_gnn.norms.lebesgue import flat_weights
from contractive_gnn.norms.matrices import log_norm, operator_norm
from contractive_gnn.norms.norm import Norm

#: a map of tensors
Map = Callable[[Tensor], Tensor]


def jacobian(f: Map, x: Tensor) -> Tensor:
    """``Df(x)`` of a map that keeps shapes, as the matrix ``[d, d]`` of the flattened ``x`` (d entries).

    Row by row, with one backward pass each: it asks nothing of ``f`` but a gradient (``torch.func.jacrev`` would need
    a batching rule of every operator in it).
    """
    with torch.enable_grad():
        rows: Tensor = torch.autograd.functional.jacobian(f, x.detach())  # type: ignore[no-untyped-call]
    return rows.reshape(x.numel(), x.numel())


def lipschitz_at(f: Map, x: Tensor, *, norm: str | Norm, weight: Tensor | None = None) -> float:
    """``‖Df(x)‖``: exact at ``x`` where f is differentiable, hence a lower bound of its Lipschitz constant."""
    name, weight = name_and_weight(norm, weight)
    return float(operator_norm(jacobian(f, x), name, weight=flat_weights(x, name, weight)))


def log_norm_at(f: Map, x: Tensor, *, norm: str | Norm, weight: Tensor | None = None) -> float:
    """``μ(Df(x))``: exact at ``x``, hence a lower bound of the one-sided Lipschitz constant."""
    name, weight = name_and_weight(norm, weight)
    return float(log_norm(jacobian(f, x), name, weight=flat_weights(x, name, weight)))
