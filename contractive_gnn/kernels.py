r"""The nonlinear edge sum ``y_i = Σ_j a_ij σ(s_ij (z_i − z_j))`` in one pass over the edges.

Gathering, applying σ and scattering with tensor operations writes several ``[E, c]`` intermediates; a fused loop writes
none, forward or backward: it goes through the rows of the sorted edge list (:mod:`contractive_gnn.edge_order`), in as
many threads as torch uses. It is compiled by numba for the CPU and registered as ``torch.ops.contractive_gnn.edge_sum``
with its gradient with respect to z and a. Where numba is not installed, on other devices, for other activations (tanh:
numba has no vectorised one), under ``torch.compile`` and under an explainer, the layers use PyG's message passing
instead (see :func:`available`).
"""

from __future__ import annotations

import contextlib
import importlib.util
import itertools
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar
from functools import cache
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor

from contractive_gnn.activations import Activation, GroupFirm, GroupHuber, GroupMCP, Huber, Identity, LeakyReLU
from contractive_gnn.edge_order import EdgeOrder
from contractive_gnn.graph import transformed

LINEAR, CLIP, GROUP_FIRM, GROUP_MCP = range(4)  # as in edge_loops


def code(sigma: Activation) -> tuple[int, float, float] | None:
    """The kernel's name of an activation, its threshold and the slope of its fall beyond it; None where it has none.

    Only the odd part of σ counts. In the place of a threshold the linear ones have their slope.

    An activation that learns its threshold has none: the kernel gives no gradient with respect to it.
    """
    if getattr(sigma, "learnable", False):
        return None
    if type(sigma) is Identity:
        return LINEAR, 1.0, 0.0
    if type(sigma) is LeakyReLU:
        return LINEAR, (1.0 + sigma.negative_slope) / 2, 0.0
    for kind, name in ((CLIP, Huber), (GROUP_FIRM, GroupHuber), (GROUP_FIRM, GroupFirm), (GROUP_MCP, GroupMCP)):
        if type(sigma) is name:
            return kind, sigma.threshold, getattr(sigma, "kappa", 0.0)
    return None


@cache
def _installed() -> bool:
    return importlib.util.find_spec("numba") is not None


_enabled: ContextVar[bool] = ContextVar("_enabled", default=True)


@contextlib.contextmanager
def disabled() -> Iterator[None]:
    """Inside the block no kernel is :func:`available`: the layers pass messages, in this thread alone."""
    token = _enabled.set(False)
    try:
        yield
    finally:
        _enabled.reset(token)


def available(z: Tensor, a: Tensor, sigma: Activation) -> bool:
    """Whether the compiled kernel serves these arguments; it only knows reverse-mode differentiation."""
    return (
        z.device.type == "cpu"
        and z.dtype in (torch.float32, torch.float64)
        and a.dtype == z.dtype
        and code(sigma) is not None
        and not torch.compiler.is_compiling()
        and _enabled.get()
        and not transformed(z)
        and not transformed(a)
        and _installed()
    )


def edge_sum(z: Tensor, a: Tensor, edge_index: Tensor, sigma: Activation, *, inside: bool) -> Tensor:
    """``y_i = Σ a σ(z_i − z_j)`` over the edges j → i, or ``Σ a σ(a (z_i − z_j))`` where ``inside``.

    Args:
        z: ``[n, c]`` node values.
        a: ``[E]`` edge weights.
        edge_index: ``[2, E]``, row 0 the j, row 1 the i.
        sigma: an activation with a :func:`code`; its odd part is taken.
        inside: whether the weight also multiplies the difference.

    Returns:
        ``[n, c]``. Differentiable twice: the second derivative goes through plain tensor operations.
    """
    named = code(sigma)
    if named is None:
        raise ValueError(f"{sigma} has no compiled kernel; use the message-passing path")
    order = EdgeOrder.of(edge_index, z.size(0))
    lists = [*order.incoming, *order.outgoing]
    return torch.ops.contractive_gnn.edge_sum(z, a, lists, *named, inside)  # type: ignore[no-any-return]


def _loops() -> Any:
    from contractive_gnn import edge_loops  # numba is imported where it is needed

    return edge_loops


_SHARE: Final = 1 << 18
"""A thread is worth its start for this many products of edge and channel."""


def _by_rows(loop: Any, arrays: tuple[Any, ...], order: tuple[Any, ...], *results: Any) -> None:
    """Run ``loop`` on all rows, in as many threads as torch uses, each on rows of about as many edges.

    Plain threads around a loop that holds no lock: numba's own would not survive a fork, nor two callers at once.
    """
    pointer, channels = order[0], results[0].shape[1]
    rows, edges = pointer.size - 1, int(pointer[-1])
    threads = max(1, min(torch.get_num_threads(), edges * channels // _SHARE))
    if threads == 1:
        loop(*arrays, 0, rows, *results)
        return
    cuts = np.searchsorted(pointer + np.arange(rows + 1), np.linspace(0, edges + rows, threads + 1))
    cuts[0], cuts[-1] = 0, rows
    with ThreadPoolExecutor(threads) as pool:
        parts = [pool.submit(loop, *arrays, *ends, *results) for ends in itertools.pairwise(cuts)]
        for part in parts:
            part.result()


@torch.library.custom_op("contractive_gnn::edge_sum", mutates_args=())
def _edge_sum(
    z: Tensor, a: Tensor, order: list[Tensor], kind: int, parameter: float, fall: float, inside: bool
) -> Tensor:
    out = torch.empty_like(z, memory_format=torch.contiguous_format)
    values, weights, incoming = _array(z), _array(a), tuple(_array(t) for t in order[:3])
    arguments = (values, weights, *incoming, kind, values.dtype.type(parameter), values.dtype.type(fall), inside)
    _by_rows(_loops().forward, arguments, incoming, out.numpy())
    return out


@torch.library.custom_op("contractive_gnn::edge_sum_backward", mutates_args=())
def _edge_sum_backward(
    g: Tensor,
    z: Tensor,
    a: Tensor,
    order: list[Tensor],
    kind: int,
    parameter: float,
    fall: float,
    inside: bool,
    weighted: bool,
) -> tuple[Tensor, Tensor]:
    grad_z = torch.empty_like(z, memory_format=torch.contiguous_format)
    grad_a = torch.zeros_like(a) if weighted else a.new_empty(0)
    values, lists = _array(z), tuple(_array(t) for t in order)
    arguments = (
        _array(g),
        values,
        _array(a),
        *lists,
        kind,
        values.dtype.type(parameter),
        values.dtype.type(fall),
        inside,
        weighted,
    )
    _by_rows(_loops().backward, arguments, lists, grad_z.numpy(), grad_a.numpy())
    return grad_z, grad_a


def _array(tensor: Tensor) -> Any:
    return tensor.detach().contiguous().numpy()


@_edge_sum.register_fake
def _(z: Tensor, a: Tensor, order: list[Tensor], kind: int, parameter: float, fall: float, inside: bool) -> Tensor:
    return torch.empty_like(z, memory_format=torch.contiguous_format)


@_edge_sum_backward.register_fake
def _(
    g: Tensor,
    z: Tensor,
    a: Tensor,
    order: list[Tensor],
    kind: int,
    parameter: float,
    fall: float,
    inside: bool,
    weighted: bool,
) -> tuple[Tensor, Tensor]:
    return (
        torch.empty_like(z, memory_format=torch.contiguous_format),
        torch.empty_like(a) if weighted else a.new_empty(0),
    )


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    z, a, order, ctx.kind, ctx.parameter, ctx.fall, ctx.inside = inputs
    ctx.save_for_backward(z, a, *order)


def _gradient(ctx: Any, g: Tensor) -> tuple[Any, ...]:
    z, a, *order = ctx.saved_tensors
    wants_z, wants_a = ctx.needs_input_grad[:2]
    grad_z: Tensor | None
    grad_a: Tensor | None
    if torch.is_grad_enabled():  # someone asks for the gradient's own graph: differentiate the plain formula
        target = torch.repeat_interleave(torch.arange(len(z)), order[0].diff())
        sorted_edges = torch.stack([order[1].long(), target])
        out = plain_edge_sum(z, a[order[2].long()], sorted_edges, ctx.kind, ctx.parameter, ctx.fall, ctx.inside)
        wanted = [tensor for tensor, needed in ((z, wants_z), (a, wants_a)) if needed]
        grads = iter(torch.autograd.grad(out, wanted, g, create_graph=True, materialize_grads=True))
        grad_z, grad_a = (next(grads) if needed else None for needed in (wants_z, wants_a))
    else:
        grad_z, grad_a = torch.ops.contractive_gnn.edge_sum_backward(
            g, z, a, order, ctx.kind, ctx.parameter, ctx.fall, ctx.inside, wants_a
        )
    return grad_z, grad_a if wants_a else None, [None] * len(order), None, None, None, None


_edge_sum.register_autograd(_gradient, setup_context=_setup_context)


def plain_edge_sum(
    z: Tensor, a: Tensor, edge_index: Tensor, kind: int, parameter: float, fall: float, inside: bool
) -> Tensor:
    """The same sum with tensor operations: the reference, and what a second derivative goes through."""
    j, i = edge_index
    weight = a.unsqueeze(-1)
    d = z[i] - z[j]
    d = weight * d if inside else d
    if kind == LINEAR:
        value = parameter * d
    elif kind == CLIP:
        value = d.clamp(-parameter, parameter)
    elif kind == GROUP_MCP:
        value = GroupMCP(parameter)(d)
    else:
        value = GroupFirm(parameter, kappa=fall)(d) if fall else GroupHuber(parameter)(d)
    return torch.zeros_like(z).index_add(0, i, weight * value)
