r"""The nonlinear edge sum ``y_i = Σ_j a_ij σ(s_ij (z_i − z_j))`` in one pass over the edges.

Gathering, applying σ and scattering with tensor operations writes several ``[E, c]`` intermediates; a fused loop writes
none, forward or backward. It is compiled by numba for the CPU and registered as ``torch.ops.contractive_gnn.edge_sum``
with its gradient with respect to z and a. Where numba is not installed, on other devices, for other activations (tanh:
numba has no vectorised one), under ``torch.compile`` and under an explainer, the layers use PyG's message passing
instead (see :func:`available`).
"""

from __future__ import annotations

import importlib.util
import math
from functools import cache
from typing import Any

import torch
from torch import Tensor

from contractive_gnn.activations import Activation, GroupHuber, GroupMCP, Huber, Identity, LeakyReLU

LINEAR, CLIP, GROUP_CLIP, GROUP_MCP = range(4)


def code(sigma: Activation) -> tuple[int, float] | None:
    """The kernel's name of an activation and its parameter, None where it has none; only the odd part of σ counts.

    An activation that learns its threshold has none: the kernel gives no gradient with respect to it.
    """
    if getattr(sigma, "learnable", False):
        return None
    if type(sigma) is Identity:
        return LINEAR, 1.0
    if type(sigma) is LeakyReLU:
        return LINEAR, (1.0 + sigma.negative_slope) / 2
    for kind, name in ((CLIP, Huber), (GROUP_CLIP, GroupHuber), (GROUP_MCP, GroupMCP)):
        if type(sigma) is name:
            return kind, sigma.threshold
    return None


@cache
def _installed() -> bool:
    return importlib.util.find_spec("numba") is not None


def available(z: Tensor, a: Tensor, sigma: Activation) -> bool:
    """Whether the compiled kernel serves these arguments."""
    return (
        z.device.type == "cpu"
        and z.dtype in (torch.float32, torch.float64)
        and a.dtype == z.dtype
        and code(sigma) is not None
        and not torch.compiler.is_compiling()
        and not _transformed(z)
        and not _transformed(a)
        and _installed()
    )


def _transformed(tensor: Tensor) -> bool:
    """Whether torch.func or forward-mode differentiation is at work: the kernel only knows reverse mode."""
    wrapped: bool = torch._C._functorch.is_functorch_wrapped_tensor(tensor)
    return wrapped or torch.autograd.forward_ad.unpack_dual(tensor).tangent is not None  # type: ignore[no-untyped-call]


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
    return torch.ops.contractive_gnn.edge_sum(z, a, edge_index, named[0], named[1], inside)  # type: ignore[no-any-return]


@cache
def _compiled(kind: int) -> tuple[Any, Any]:
    """Compile the forward and the backward loop of one activation; ``kind`` is a constant in them.

    numba keeps the machine code on disk, next to this file or in its cache folder.
    """
    import numba

    group = kind >= GROUP_CLIP
    # The sums over channels may be reordered, or they would run one entry at a time.
    reorder = {"reassoc", "contract", "nsz"}

    @numba.njit(cache=True, inline="always")
    def profile(parameter, d):  # type: ignore[no-untyped-def]
        """σ(d) and σ'(d) of an elementwise activation."""
        if kind == LINEAR:
            return parameter * d, parameter
        clipped = parameter if d > parameter else (-parameter if d < -parameter else d)  # NaN stays NaN
        return clipped, type(d)(clipped == d)

    @numba.njit(cache=True, inline="always")
    def radial(parameter, r):  # type: ignore[no-untyped-def]
        """w(r) and w'(r)/r of a group activation σ(d) = w(‖d‖) d."""
        if kind == GROUP_CLIP:
            if r <= parameter:
                return 1.0, 0.0
            return parameter / r, -parameter / (r * r * r)
        if r >= parameter or r == 0:
            return (0.0 if r > 0 else 1.0), 0.0
        return 1.0 - r / parameter, -1.0 / (parameter * r)

    @numba.njit(cache=True, fastmath=reorder)
    def forward(z, a, edges, parameter, inside, out):  # type: ignore[no-untyped-def]
        channels = z.shape[1]
        for e in range(edges.shape[1]):
            j, i = edges[0, e], edges[1, e]
            if i == j:
                continue
            weight = a[e]
            scale = weight if inside else z.dtype.type(1.0)
            if not group:
                for c in range(channels):
                    value, _ = profile(parameter, scale * (z[i, c] - z[j, c]))
                    out[i, c] += weight * value
            else:
                square = z.dtype.type(0.0)
                for c in range(channels):
                    square += (scale * (z[i, c] - z[j, c])) ** 2
                shrink, _ = radial(parameter, math.sqrt(square))
                factor = z.dtype.type(weight * shrink * scale)
                for c in range(channels):
                    out[i, c] += factor * (z[i, c] - z[j, c])

    @numba.njit(cache=True, fastmath=reorder)
    def backward(g, z, a, edges, parameter, inside, grad_z, grad_a):  # type: ignore[no-untyped-def]
        channels = z.shape[1]
        for e in range(edges.shape[1]):
            j, i = edges[0, e], edges[1, e]
            if i == j:
                continue
            weight = a[e]
            scale = weight if inside else z.dtype.type(1.0)
            total = z.dtype.type(0.0)
            if not group:
                for c in range(channels):
                    d = z[i, c] - z[j, c]
                    value, slope = profile(parameter, scale * d)
                    push = weight * scale * slope * g[i, c]
                    grad_z[i, c] += push
                    grad_z[j, c] -= push
                    if inside:
                        value += weight * d * slope
                    total += g[i, c] * value
            else:
                square, along = z.dtype.type(0.0), z.dtype.type(0.0)
                for c in range(channels):
                    d = scale * (z[i, c] - z[j, c])
                    square += d * d
                    along += d * g[i, c]
                shrink, bend = radial(parameter, math.sqrt(square))
                straight = z.dtype.type(weight * scale * shrink)
                across = z.dtype.type(weight * scale * scale * bend * along)
                for c in range(channels):  # weight · scale · Jσ(d) g
                    push = straight * g[i, c] + across * (z[i, c] - z[j, c])
                    grad_z[i, c] += push
                    grad_z[j, c] -= push
                total += shrink * along
                if inside:
                    total += shrink * along + bend * along * square
            grad_a[e] += total

    return forward, backward


@torch.library.custom_op("contractive_gnn::edge_sum", mutates_args=())
def _edge_sum(z: Tensor, a: Tensor, edge_index: Tensor, kind: int, parameter: float, inside: bool) -> Tensor:
    if edge_index.numel() and (int(edge_index.min()) < 0 or int(edge_index.max()) >= z.size(0)):
        raise IndexError(
            f"edge_index must hold node indices from 0 to {z.size(0) - 1}, got {int(edge_index.min())} to "
            f"{int(edge_index.max())}"
        )
    out = torch.zeros_like(z, memory_format=torch.contiguous_format)
    arrays = tuple(_array(t) for t in (z, a, edge_index))
    _compiled(kind)[0](*arrays, arrays[0].dtype.type(parameter), inside, out.numpy())
    return out


@torch.library.custom_op("contractive_gnn::edge_sum_backward", mutates_args=())
def _edge_sum_backward(
    g: Tensor, z: Tensor, a: Tensor, edge_index: Tensor, kind: int, parameter: float, inside: bool
) -> tuple[Tensor, Tensor]:
    grad_z, grad_a = torch.zeros_like(z, memory_format=torch.contiguous_format), torch.zeros_like(a)
    arrays = tuple(_array(t) for t in (g, z, a, edge_index))
    _compiled(kind)[1](*arrays, arrays[0].dtype.type(parameter), inside, grad_z.numpy(), grad_a.numpy())
    return grad_z, grad_a


def _array(tensor: Tensor) -> Any:
    return tensor.detach().contiguous().numpy()


@_edge_sum.register_fake
def _(z: Tensor, a: Tensor, edge_index: Tensor, kind: int, parameter: float, inside: bool) -> Tensor:
    return torch.empty_like(z)


@_edge_sum_backward.register_fake
def _(
    g: Tensor, z: Tensor, a: Tensor, edge_index: Tensor, kind: int, parameter: float, inside: bool
) -> tuple[Tensor, Tensor]:
    return torch.empty_like(z), torch.empty_like(a)


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    z, a, edge_index, ctx.kind, ctx.parameter, ctx.inside = inputs
    ctx.save_for_backward(z, a, edge_index)


def _gradient(ctx: Any, g: Tensor) -> tuple[Tensor | None, Tensor | None, None, None, None, None]:
    z, a, edge_index = ctx.saved_tensors
    if torch.is_grad_enabled():  # someone asks for the gradient's own graph: differentiate the plain formula
        out = plain_edge_sum(z, a, edge_index, ctx.kind, ctx.parameter, ctx.inside)
        wanted = [tensor for tensor, needed in zip((z, a), ctx.needs_input_grad, strict=False) if needed]
        grads = iter(torch.autograd.grad(out, wanted, g, create_graph=True, materialize_grads=True))
        grad_z, grad_a = (next(grads) if needed else None for needed in ctx.needs_input_grad[:2])
    else:
        arguments = (z, a, edge_index, ctx.kind, ctx.parameter, ctx.inside)
        grad_z, grad_a = torch.ops.contractive_gnn.edge_sum_backward(g, *arguments)
    return grad_z, grad_a, None, None, None, None


_edge_sum.register_autograd(_gradient, setup_context=_setup_context)


def plain_edge_sum(z: Tensor, a: Tensor, edge_index: Tensor, kind: int, parameter: float, inside: bool) -> Tensor:
    """The same sum with tensor operations: the reference, and what a second derivative goes through."""
    j, i = edge_index
    weight = a.unsqueeze(-1)
    d = z[i] - z[j]
    d = weight * d if inside else d
    if kind == LINEAR:
        value = parameter * d
    elif kind == CLIP:
        value = d.clamp(-parameter, parameter)
    else:
        value = (GroupHuber if kind == GROUP_CLIP else GroupMCP)(parameter)(d)
    return torch.zeros_like(z).index_add(0, i, weight * value)
