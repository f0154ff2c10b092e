"""What a model or a layer is called with: checks of types, shapes and dtypes, which a trace can pass.

Of the values only the signs of the weights are looked at in each call, in one pass that costs next to nothing. Whether
the edges are symmetric and the features finite is checked at the entrances of the library
(:mod:`contractive_gnn.inputs`).
"""

from __future__ import annotations

from typing import Any, Final

import torch
from torch import Tensor, nn

from contractive_gnn.dynamics.base import Dynamics
from contractive_gnn.dynamics.field import VectorField
from contractive_gnn.inputs import InputError, check_signs, matrix_edges
from contractive_gnn.norms import Norm

HALF: Final = (torch.float16, torch.bfloat16)


def check_features(x: Any, module: nn.Module) -> None:
    """Refuse what is no feature matrix, or not of the dtype of the module's parameters.

    Args:
        x: floating point ``[n, d]``, dense or ``sparse_csr``.
        module: whose parameters are meant.

    Raises:
        InputError: for anything else.
    """
    name = type(module).__name__
    if not isinstance(x, Tensor):
        raise InputError(f"{name} got x of type {type(x).__name__}; expected a floating point tensor [n, d]")
    if x.dim() != 2:
        raise InputError(
            f"{name} got x of shape {list(x.shape)}; expected [n, d], one row for each node: join a batch of graphs "
            "into one with torch_geometric.data.Batch"
        )
    if x.layout not in (torch.strided, torch.sparse_csr):
        raise InputError(f"{name} got x of layout {x.layout}; expected a dense or torch.sparse_csr tensor")
    if x.dtype not in (torch.float32, torch.float64, *HALF):
        raise InputError(f"{name} got x of {x.dtype}; expected floating point: convert it with x.float()")
    for path, parameter in module.named_parameters():
        if parameter.dtype != x.dtype:
            raise InputError(
                f"{name} got x in {x.dtype}, but its parameter {path} is in {parameter.dtype}; bring both to one "
                f"dtype, with x.to(dtype) or model.to(dtype)"
            )


def check_field(field: Any, name: str) -> VectorField:
    """The field itself, if it is one that a layer of any domain takes.

    Args:
        field: what the layer was given.
        name: of the layer.

    Raises:
        TypeError: for anything else.
    """
    if isinstance(field, VectorField):
        if not isinstance(field.norm, Norm):
            raise TypeError(
                f"the norm of {type(field).__name__} must be an object, L1, L2 or LInf of contractive_gnn.norms say, "
                f"got {field.norm!r}"
            )
        return field
    bind = "; bind a dynamics to its graph, dynamics.on(graph)" if callable(getattr(field, "on", None)) else ""
    raise TypeError(f"{name} takes a VectorField, got {type(field).__name__}{bind}")


def check_dynamics(dynamics: Any, name: str) -> Dynamics:
    """The dynamics itself, if it is one: what a layer that gets its graph with each call takes.

    Args:
        dynamics: what the layer was given.
        name: of the layer.

    Raises:
        TypeError: for anything else.
    """
    if isinstance(dynamics, Dynamics):
        return dynamics
    bound = f"; a field that lives on its own domain is for {name.removesuffix('Conv')}"
    raise TypeError(
        f"{name} takes a Dynamics, got {type(dynamics).__name__}{bound if isinstance(dynamics, VectorField) else ''}"
    )


def check_floating(x: Any, name: str) -> None:
    """Refuse a state that is no floating point tensor.

    Args:
        x: what the layer was called with.
        name: of the layer.

    Raises:
        InputError: for anything else.
    """
    if not isinstance(x, Tensor) or not x.is_floating_point():
        given = str(x.dtype) if isinstance(x, Tensor) else f"type {type(x).__name__}"
        raise InputError(
            f"{name} got x of {given}; expected a floating point tensor, of the shape of the field's state"
        )


def widened(x: Tensor) -> Tensor:
    """``x``, in float32 where it is in half precision.

    A sum over neighbours stops growing at 256 ones in bfloat16 and at 2048 in float16: whatever is summed over edges is
    in float32 at least, and only the result is rounded.
    """
    return x.float() if x.dtype in HALF else x


def edge_list(x: Tensor, edge_index: Any, edge_weight: Any = None) -> tuple[Tensor, Tensor | None]:
    """The edges, int64 ``[2, E]``, and their weights ``[E]`` in the dtype of ``x``; None where none were given.

    For half precision the weights are :func:`widened`, and ones where none were given.

    Args:
        x: ``[n, d]``.
        edge_index: integers ``[2, E]``, or a ``torch.sparse`` matrix ``[n, n]``, whose values are the weights.
        edge_weight: floating point ``[E]``, finite and at least 0, or None. In compiled code, and under torch.func, the
            values are not looked at.

    Raises:
        InputError: for anything else.
    """
    n = x.size(0)
    if not isinstance(edge_index, Tensor):
        raise InputError(
            f"edge_index is of type {type(edge_index).__name__}; expected an int64 tensor [2, E] with both "
            f"orientations of every edge, or a torch.sparse matrix [{n}, {n}]"
        )
    if edge_index.layout != torch.strided:
        edge_index, edge_weight = matrix_edges(edge_index, edge_weight, n)
    elif edge_index.dim() != 2 or edge_index.size(0) != 2:
        raise InputError(
            f"edge_index must have shape [2, E] or be a sparse [n, n] matrix, got shape {tuple(edge_index.shape)}"
        )
    if edge_index.dtype == torch.bool or edge_index.is_floating_point() or edge_index.is_complex():
        raise InputError(f"edge_index must hold the nodes' numbers, int64 [2, E], got {edge_index.dtype}")
    if edge_weight is None:
        ones = torch.ones(edge_index.size(1), device=x.device) if x.dtype in HALF else None
        return edge_index.long(), ones
    if not isinstance(edge_weight, Tensor) or not edge_weight.is_floating_point():
        given = edge_weight.dtype if isinstance(edge_weight, Tensor) else type(edge_weight).__name__
        raise InputError(f"edge_weight must be a floating point tensor [E], got {given}")
    if edge_weight.shape != edge_index.shape[1:]:
        raise InputError(
            f"edge_weight must have shape {list(edge_index.shape[1:])} to match edge_index, "
            f"got {list(edge_weight.shape)}"
        )
    check_signs(edge_weight, edge_index)
    return edge_index.long(), edge_weight.to(torch.float32 if x.dtype in HALF else x.dtype)


def refuse_export(module: nn.Module, reason: str) -> None:
    """Raise under ``torch.export``, for a module whose computation depends on values.

    Raises:
        NotImplementedError: with the reason.
    """
    # older versions of torch do not tell an export from a compilation, and refuse in their own words
    if getattr(torch.compiler, "is_exporting", bool)():
        raise NotImplementedError(
            f"{type(module).__name__} cannot be exported: {reason}; use torch.compile, which may leave the graph"
        )
