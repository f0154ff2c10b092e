"""Gradients of a compiled function by the same function in tensor operations, where the compiled ones do not serve."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from contractive_gnn.graph import transformed


def plain_gradients(
    plain: Callable[..., Tensor], tensors: Sequence[Tensor | None], needed: Sequence[bool], g: Tensor
) -> tuple[Tensor | None, ...] | None:
    """The gradients by these tensors; None where the compiled ones serve: nobody differentiates them again.

    Args:
        plain: the function of all ``tensors`` with tensor operations.
        tensors: what the compiled function was called with.
        needed: whose gradients are wanted.
        g: the gradient by the result.

    Returns:
        one for each of ``tensors``, None where none is wanted.
    """
    again = torch.is_grad_enabled()  # someone asks for the gradient's own graph
    if not (again or transformed(g)):
        return None
    with torch.enable_grad():
        # by each argument alone: the ways from one to another (weights may depend on x) are others' part of it
        alone = [None if tensor is None else tensor.view_as(tensor) for tensor in tensors]
        out = plain(*alone)
    wanted = [tensor for tensor, need in zip(alone, needed, strict=True) if need and tensor is not None]
    found = iter(torch.autograd.grad(out, wanted, g, create_graph=again, materialize_grads=True))
    return tuple(next(found) if need else None for need in needed)
