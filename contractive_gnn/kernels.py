r"""Euler steps of the nonlinear edge sum, one pass over the edges each:

.. math::
    x_i \leftarrow k\,x_i + m\,x^0_i - \sum_j p_{ij}\,\sigma(b_{ij} (x_i - x_j))

Gathering, applying σ, scattering and adding up with tensor operations writes several ``[E, c]`` and ``[n, c]``
intermediates; a fused loop writes the new state and nothing else, and its reverse one gradient. It goes through every
node's neighbours (:mod:`contractive_gnn.edge_order`), in as many threads as torch uses. It is compiled by numba for the
CPU and registered as ``torch.ops.contractive_gnn.flow``, K steps in one node of the autograd graph, with its gradient
with respect to x, x⁰, p and b. Where numba is not installed, on other devices, for other activations (tanh: numba has
no vectorised one), under ``torch.compile`` and under an explainer, the layers use PyG's message passing instead (see
:func:`available`).
"""

from __future__ import annotations

import contextlib
import importlib.util
import itertools
import math
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar
from functools import cache
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules import module as _globals

from contractive_gnn.activations import Activation, GroupFirm, GroupHuber, GroupMCP, Huber, Identity, LeakyReLU
from contractive_gnn.edge_order import EdgeOrder
from contractive_gnn.graph import transformed

LINEAR, CLIP, GROUP_FIRM, GROUP_MCP = range(4)  # as in edge_loops


def code(sigma: Activation) -> tuple[int, float, float] | None:
    """The kernel's name of an activation, its threshold and the slope of its fall beyond it; None where it has none.

    Only the odd part of σ counts. In the place of a threshold the linear ones have their slope.

    An activation that learns its threshold has none: the kernel gives no gradient with respect to it. Nor has one
    whose methods were replaced on the object, or that has hooks.
    """
    if getattr(sigma, "learnable", False) or hooked(sigma):
        return None
    if not vars(sigma).keys().isdisjoint(("forward", "antisymmetric", "weight")):
        return None
    if type(sigma) is Identity:
        return LINEAR, 1.0, 0.0
    if type(sigma) is LeakyReLU:
        return LINEAR, (1.0 + sigma.negative_slope) / 2, 0.0
    for kind, name in ((CLIP, Huber), (GROUP_FIRM, GroupHuber), (GROUP_FIRM, GroupFirm), (GROUP_MCP, GroupMCP)):
        if type(sigma) is name:
            return kind, sigma.threshold, getattr(sigma, "kappa", 0.0)
    return None


def hooked(module: nn.Module) -> bool:
    """Whether something else is to happen where the module is called, forward or backward."""
    own = any(kept for key, kept in vars(module).items() if key.endswith("_hooks") and key.startswith(_CALLED))
    return own or any(getattr(_globals, f"_global{key}") for key in _CALLED_ALL)


_CALLED: Final = ("_forward_", "_backward_")
_CALLED_ALL: Final = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")


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


def available(sigma: Activation, x: Tensor, *others: Tensor | None) -> bool:
    """Whether the compiled kernel serves these arguments; it only knows reverse-mode differentiation."""
    tensors = [x, *(other for other in others if other is not None)]
    return (
        not torch.compiler.is_compiling()
        and x.device.type == "cpu"
        and x.dtype in (torch.float32, torch.float64)
        and all(tensor.dtype == x.dtype for tensor in tensors)
        and code(sigma) is not None
        and _enabled.get()
        and not any(transformed(tensor) for tensor in tensors)
        and _installed()
    )


def flow(
    x: Tensor,
    p: Tensor,
    edge_index: Tensor,
    sigma: Activation,
    *,
    scale: Tensor | None = None,
    anchor: Tensor | None = None,
    keep: float = 0.0,
    pull: float = 0.0,
    num_steps: int = 1,
) -> Tensor:
    """The state after K steps of the module's equation; by default, minus the edge sum itself.

    Args:
        x: ``[n, c]``.
        p: ``[E]`` edge weights.
        edge_index: ``[2, E]``, row 0 the j, row 1 the i; self-loops do not count.
        sigma: an activation with a :func:`code`; its odd part is taken.
        scale: b, ``[E]``; None for ones.
        anchor: x⁰, ``[n, c]``, which may be ``x`` itself; None for the origin.
        keep: k.
        pull: m.
        num_steps: K ≥ 1.

    Returns:
        ``[n, c]``. Differentiable any number of times: higher derivatives go through plain tensor operations.

    Raises:
        ValueError: where σ has no kernel.
        TypeError: under torch.func or forward-mode differentiation (see :func:`available`).
        IndexError: for an index outside 0 … n − 1.
    """
    named = code(sigma)
    if named is None:
        raise ValueError(f"{sigma} has no compiled kernel; use the message-passing path")
    pull = 0.0 if anchor is None else float(pull)
    anchor = None if anchor is x else anchor
    given = [tensor for tensor in (x, p, scale, anchor) if tensor is not None]
    if any(transformed(tensor) for tensor in given):
        raise TypeError(
            "the compiled flow knows reverse mode alone, and was asked for under torch.func or forward mode; "
            "call the layer, which takes another way there, or plain_edge_sum"
        )
    order = EdgeOrder.of(edge_index, x.size(0))
    remember = torch.is_grad_enabled() and any(tensor.requires_grad for tensor in given)
    state: Tensor
    state, _ = torch.ops.contractive_gnn.flow(
        x, p, scale, anchor, list(order.arrays), *named, float(keep), pull, num_steps, remember
    )
    return state


def fixed(step: Tensor | float, mu: float) -> bool:
    """Whether :func:`euler` takes this step: it has no gradient for one that multiplies a fidelity."""
    return not (mu and isinstance(step, Tensor) and (step.requires_grad or transformed(step)))


def euler(
    x: Tensor,
    p: Tensor,
    edge_index: Tensor,
    sigma: Activation,
    *,
    step: Tensor | float,
    mu: float,
    num_steps: int,
    anchor: Tensor | None = None,
    scale: Tensor | None = None,
) -> Tensor:
    """K Euler steps of length h of ``ẋ_i = −Σ_j p_ij σ(b_ij (x_i − x_j)) − μ (x_i − x⁰_i)``; see :func:`flow`."""
    pull = float(step) * mu if mu else 0.0
    return flow(
        x, step * p, edge_index, sigma, scale=scale, anchor=anchor, keep=1.0 - pull, pull=pull, num_steps=num_steps
    )


def _loops() -> Any:
    from contractive_gnn import edge_loops  # numba is imported where it is needed

    return edge_loops


_SHARE: Final = 1 << 18
"""A thread is worth its start for this many products of edge and channel."""


def by_rows(loop: Any, arrays: tuple[Any, ...], pointer: Any, *results: Any) -> None:
    """Run ``loop`` on all rows, in as many threads as torch uses, each on rows of about as many edges."""
    channels = results[0].shape[1]
    rows, edges = pointer.size - 1, int(pointer[-1])
    threads = min(torch.get_num_threads(), edges * channels // _SHARE)
    cuts = [0, rows]
    if threads > 1:
        shares = np.linspace(0, edges + rows, threads + 1)[1:-1]
        cuts[1:1] = np.searchsorted(pointer + np.arange(rows + 1), shares).tolist()
    in_threads(loop, arrays, cuts, *results)


def in_threads(loop: Any, arrays: tuple[Any, ...], cuts: Sequence[int], *results: Any) -> None:
    """Run ``loop`` from each of the cuts to the next, in a thread of its own where there is more than one such part.

    Plain threads around a loop that holds no lock: numba's own would not survive a fork, nor two callers at once.
    """
    if len(cuts) == 2:
        loop(*arrays, *cuts, *results)
        return
    with ThreadPoolExecutor(len(cuts) - 1) as pool:
        parts = [pool.submit(loop, *arrays, *ends, *results) for ends in itertools.pairwise(cuts)]
        for part in parts:
            part.result()


def _empty(shape: tuple[int, ...], dtype: Any) -> Any:
    """An array that begins with a line of the cache: rows that begin within one are spread over one more.

    NumPy asks for large pages, which torch does not: a state of 50 MB then costs 25 page faults and not 12,500.
    """
    size = math.prod(shape) * dtype.itemsize
    line = _loops().LINE
    memory = np.empty(size + line, np.uint8)
    start = -memory.ctypes.data % line
    return memory[start : start + size].view(dtype).reshape(shape)


def _array(tensor: Tensor) -> Any:
    return tensor.detach().contiguous().numpy()


def _weighted(p: Tensor, scale: Tensor | None, order: tuple[Any, ...], *places: Any, every: bool) -> tuple[Any, ...]:
    """Weights p and b by neighbour, once for each of ``places``, and the pointer and the neighbours they belong to.

    Entries at which no edge pulls, p = 0, are left out unless ``every`` one is asked for: no row is fetched for them.
    """
    pointer, neighbour = order[:2]
    arranged = [
        None if weights is None else _loops().arrange(_array(weights), pointer, neighbour, place)
        for weights in (p, scale)
        for place in places
    ]
    if not every:
        entries, pointer = _loops().present(arranged[0], arranged[len(places) - 1], pointer, neighbour)
        *arranged, neighbour = (None if array is None else array[entries] for array in (*arranged, neighbour))
    return *arranged, pointer, neighbour


@torch.library.custom_op("contractive_gnn::flow", mutates_args=())
def _flow(
    x: Tensor,
    p: Tensor,
    scale: Tensor | None,
    anchor: Tensor | None,
    order: list[Tensor],
    kind: int,
    parameter: float,
    fall: float,
    keep: float,
    pull: float,
    num_steps: int,
    remember: bool,
) -> tuple[Tensor, Tensor]:
    """The last state and, to remember, those before it, ``[K − 1, n, c]``. No anchor stands for x."""
    lists = tuple(_array(t) for t in order)
    state = _array(x)
    number = state.dtype.type
    anchored = None if pull == 0 else state if anchor is None else _array(anchor)
    arrays = _weighted(p, scale, lists, lists[2], every=False)
    pointer = arrays[-2]
    constants = number(parameter), number(fall), number(keep), number(pull)
    forward, _ = _loops().steps(kind)
    between = _empty((num_steps - 1 if remember else 0, *state.shape), state.dtype)
    pages = between if remember else [_empty(state.shape, state.dtype) for _ in range(min(2, num_steps - 1))]
    end = _empty(state.shape, state.dtype)
    for step in range(num_steps):
        new = end if step == num_steps - 1 else pages[step % len(pages)]
        by_rows(forward, (state, anchored, *arrays, *constants), pointer, new)
        state = new
    return torch.from_numpy(end), torch.from_numpy(between)


@torch.library.custom_op("contractive_gnn::flow_backward", mutates_args=())
def _flow_backward(
    g: Tensor,
    x: Tensor,
    p: Tensor,
    scale: Tensor | None,
    between: Tensor,
    order: list[Tensor],
    kind: int,
    parameter: float,
    fall: float,
    keep: float,
    pull: float,
    own_anchor: bool,
    by_weights: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The gradients by x, x⁰, p and b; of size 0 where there is none. That by x holds that by x⁰ if it is x."""
    _, _, edge, back = lists = tuple(_array(t) for t in order)
    states, gradient = [_array(x), *between.numpy()], _array(g)
    number = gradient.dtype.type
    arrays = _weighted(p, scale, lists, edge, back, every=by_weights)
    pointer = arrays[-2]
    constants = number(parameter), number(fall)
    _, backward = _loops().steps(kind)
    summed = pull != 0 and (len(states) > 1 or not own_anchor)
    by_anchor = _empty(gradient.shape, gradient.dtype) if summed else None
    if by_anchor is not None:
        by_anchor.fill(0)
    by_p = np.zeros(edge.size, number) if by_weights else None
    by_scale = np.zeros(edge.size, number) if by_weights and scale is not None else None
    pages = [_empty(gradient.shape, gradient.dtype) for _ in range(min(2, len(states)))]
    for turn, state in enumerate(reversed(states)):
        rates, sums = (keep, pull), by_anchor
        if own_anchor and turn == len(states) - 1:
            rates, sums = (keep + pull, 0.0), None
        new = pages[turn % 2]
        inputs = (gradient, state, *arrays, *constants, *map(number, rates))
        by_rows(backward, inputs, pointer, new, sums, by_p, by_scale)
        gradient = new
    if own_anchor and by_anchor is not None:
        gradient += by_anchor
        by_anchor = None
    weights = []
    for sums in (by_p, by_scale):
        weights.append(np.zeros(0 if sums is None else p.numel(), number))
        if sums is not None:
            _loops().scatter(sums, edge, weights[-1])
    at_anchor = np.zeros((0, gradient.shape[1]), number) if by_anchor is None else by_anchor
    at_p, at_scale = map(torch.from_numpy, weights)
    return torch.from_numpy(gradient), torch.from_numpy(at_anchor), at_p, at_scale


@_flow.register_fake
def _(
    x: Tensor,
    p: Tensor,
    scale: Tensor | None,
    anchor: Tensor | None,
    order: list[Tensor],
    kind: int,
    parameter: float,
    fall: float,
    keep: float,
    pull: float,
    num_steps: int,
    remember: bool,
) -> tuple[Tensor, Tensor]:
    return x.new_empty(x.shape), x.new_empty((num_steps - 1 if remember else 0, *x.shape))


@_flow_backward.register_fake
def _(
    g: Tensor,
    x: Tensor,
    p: Tensor,
    scale: Tensor | None,
    between: Tensor,
    order: list[Tensor],
    kind: int,
    parameter: float,
    fall: float,
    keep: float,
    pull: float,
    own_anchor: bool,
    by_weights: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    separate = pull != 0 and not own_anchor
    return (
        x.new_empty(x.shape),
        x.new_empty(x.shape if separate else (0, x.size(1))),
        p.new_empty(p.numel() if by_weights else 0),
        p.new_empty(p.numel() if by_weights and scale is not None else 0),
    )


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    x, p, scale, anchor, order, *ctx.constants, ctx.num_steps, _ = inputs
    ctx.mark_non_differentiable(output[1])
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(x, p, scale, anchor, output[1], *order)


def _gradient(ctx: Any, g: Tensor | None, _: Tensor | None) -> tuple[Any, ...]:
    x, p, scale, anchor, between, *order = ctx.saved_tensors
    needed = ctx.needs_input_grad[:4]
    rest = [None] * len(order), *(None for _ in ctx.constants), None, None
    if g is None:
        return None, None, None, None, *rest
    again = torch.is_grad_enabled()  # someone asks for the gradient's own graph: differentiate the plain formula
    if again or transformed(g):
        with torch.enable_grad():
            # by each argument alone: the ways from one to another (p may depend on x) are others' part of the chain
            alone: list[Any] = [None if t is None else t.view_as(t) for t in (x, p, scale, anchor)]
            x, p, scale, anchor = alone
            out = _again(x, p, scale, anchor, order, *(*ctx.constants, ctx.num_steps))
        wanted = [tensor for tensor, need in zip(alone, needed, strict=True) if need]
        found = iter(torch.autograd.grad(out, wanted, g, create_graph=again, materialize_grads=True))
        return *(next(found) if need else None for need in needed), *rest
    own, by_weights = anchor is None, needed[1] or needed[2]
    grads = torch.ops.contractive_gnn.flow_backward(g, x, p, scale, between, order, *ctx.constants, own, by_weights)
    by_x, by_anchor, by_p, by_scale = grads
    named = by_x, by_p, by_scale, by_anchor if by_anchor.numel() else None
    return *(grad if need else None for grad, need in zip(named, needed, strict=True)), *rest


_flow.register_autograd(_gradient, setup_context=_setup_context)


def _again(
    x: Tensor,
    p: Tensor,
    scale: Tensor | None,
    anchor: Tensor | None,
    order: list[Tensor],
    kind: int,
    parameter: float,
    fall: float,
    keep: float,
    pull: float,
    num_steps: int,
) -> Tensor:
    """The flow with tensor operations, from the order of the edges."""
    pointer, neighbour, edge, _ = order
    target = torch.repeat_interleave(torch.arange(len(x)), pointer.diff())
    present = edge >= 0
    edge = edge[present].long()
    edges = torch.stack([neighbour[present].long(), target[present]])
    start = x if anchor is None else anchor
    weights = p[edge], None if scale is None else scale[edge]
    for _ in range(num_steps):
        x = keep * x + pull * start - plain_edge_sum(x, *weights, edges, kind, parameter, fall)
    return x


def plain_edge_sum(
    x: Tensor, p: Tensor, scale: Tensor | None, edge_index: Tensor, kind: int, parameter: float, fall: float
) -> Tensor:
    """``Σ_j p_ij σ(b_ij (x_i − x_j))`` with tensor operations: the reference, and a second derivative's way."""
    j, i = edge_index
    d = x[i] - x[j]
    d = d if scale is None else scale.unsqueeze(-1) * d
    if kind == LINEAR:
        value = parameter * d
    elif kind == CLIP:
        value = d.clamp(-parameter, parameter)
    elif kind == GROUP_MCP:
        value = GroupMCP(parameter)(d)
    else:
        value = GroupFirm(parameter, kappa=fall)(d) if fall else GroupHuber(parameter)(d)
    return torch.zeros_like(x).index_add(0, i, p.unsqueeze(-1) * value)
