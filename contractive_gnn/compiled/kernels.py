r"""Euler steps of the nonlinear edge sum, one pass over the edges each:

.. math::
    x_i \leftarrow k\,x_i + m\,x^0_i - \sum_j p_{ij}\,\sigma(b_{ij} (x_i - x_j))

Gathering, applying σ, scattering and adding up with tensor operations writes several ``[E, c]`` and ``[n, c]``
intermediates; a fused loop writes the new state and nothing else, and its reverse one gradient. It goes through every
node's neighbours (:mod:`.edge_order`), in as many threads as torch uses. It is compiled by numba for the
CPU and registered as ``torch.ops.contractive_gnn.flow``, K steps in one node of the autograd graph, with its gradient
with respect to x, x⁰, p and b. Where numba is not installed, on other devices, for other activations (tanh: numba has
no vectorised one), under ``torch.compile`` and under an explainer, the layers use PyG's message passing instead (see
:func:`available`).
"""

from __future__ import annotations

import contextlib
import importlib.util
from collections.abc import Iterator
from contextvars import ContextVar
from functools import cache
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.nn.modules import module as _globals

from contractive_gnn.activations import Activation, GroupFirm, GroupHuber, GroupMCP, Huber, Identity, LeakyReLU
from contractive_gnn.compiled.edge_order import EdgeOrder
from contractive_gnn.compiled.plain_gradients import plain_gradients
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


def enabled() -> bool:
    """Whether compiled loops may run here at all: numba is installed, and nobody has them :func:`disabled`."""
    return _enabled.get() and _installed()


def available(sigma: Activation, x: Tensor, *others: Tensor | None) -> bool:
    """Whether the compiled kernel serves these arguments; it only knows reverse-mode differentiation.

    Of the weights :meth:`Graph.serves <contractive_gnn.graph.Graph.serves>` says the same.
    """
    tensors = [x, *(other for other in others if other is not None)]
    return (
        not torch.compiler.is_compiling()
        and x.device.type == "cpu"
        and x.dtype in (torch.float32, torch.float64)
        and all(tensor.dtype == x.dtype for tensor in tensors)
        and code(sigma) is not None
        and enabled()
        and not any(transformed(tensor) for tensor in tensors)
    )


def flow(
    x: Tensor,
    edge_weight: Tensor,
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
        edge_weight: p, ``[E]``.
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
    given = [tensor for tensor in (x, edge_weight, scale, anchor) if tensor is not None]
    if any(transformed(tensor) for tensor in given):
        raise TypeError(
            "the compiled flow knows reverse mode alone, and was asked for under torch.func or forward mode; "
            "call the layer, which takes another way there, or plain_edge_sum"
        )
    order = EdgeOrder.of(edge_index, x.size(0))
    learns = torch.is_grad_enabled() and any(tensor.requires_grad for tensor in given)
    every = kept_every(num_steps, x.numel() * x.element_size()) if learns else num_steps
    state: Tensor
    state, _ = torch.ops.contractive_gnn.flow(
        x, edge_weight, scale, anchor, list(order.arrays), *named, float(keep), pull, num_steps, every
    )
    return state


def kept_every(num_steps: int, size: int) -> int:
    """Every so many-th state is kept for the gradient, which finds those between again; 1 where all take little memory.

    Otherwise what is kept and what is found again at a time are together as few as possible, about 2√K.

    Args:
        num_steps: K.
        size: of a state, in bytes.

    Example:
        >>> kept_every(10, 1 << 20), kept_every(10, 1 << 28)
        (1, 2)
    """
    if (num_steps - 1) * size <= _KEPT:
        return 1
    return min(range(1, num_steps + 1), key=lambda every: -(-num_steps // every) + every)


_KEPT: Final = 1 << 30
"""So many bytes of states are kept without a thought."""


def fixed(step: Tensor | float, mu: float) -> bool:
    """Whether :func:`euler` takes this step: it has no gradient for one that multiplies a fidelity."""
    return not (mu and isinstance(step, Tensor) and (step.requires_grad or transformed(step)))


def euler(
    x: Tensor,
    edge_weight: Tensor,
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
        x,
        step * edge_weight,
        edge_index,
        sigma,
        scale=scale,
        anchor=anchor,
        keep=1.0 - pull,
        pull=pull,
        num_steps=num_steps,
    )


def _loops() -> Any:
    from contractive_gnn.compiled import edge_loops  # numba is imported where it is needed

    return edge_loops


def _array(tensor: Tensor) -> Any:
    return tensor.detach().contiguous().numpy()


# written out, since older releases of PyTorch read no annotation that is a string or a list[Tensor]
_FLOW = (
    "(Tensor x, Tensor edge_weight, Tensor? scale, Tensor? anchor, Tensor[] order, SymInt kind, float parameter, "
    "float fall, float keep, float pull, SymInt num_steps, SymInt every) -> (Tensor, Tensor)"
)
_FLOW_BACKWARD = (
    "(Tensor g, Tensor x, Tensor between, Tensor edge_weight, Tensor? scale, Tensor? anchor, Tensor[] order, "
    "SymInt kind, float parameter, float fall, float keep, float pull, SymInt num_steps, SymInt every, "
    "bool by_weights) "
    "-> (Tensor, Tensor, Tensor, Tensor)"
)


@torch.library.custom_op("contractive_gnn::flow", mutates_args=(), schema=_FLOW)
def _flow(
    x: Tensor,
    edge_weight: Tensor,
    scale: Tensor | None,
    anchor: Tensor | None,
    order: list[Tensor],
    kind: int,
    parameter: float,
    fall: float,
    keep: float,
    pull: float,
    num_steps: int,
    every: int,
) -> tuple[Tensor, Tensor]:
    """The last state and of those before it every so many-th; no anchor stands for x."""
    end, between = _loops().flow(
        _array(x),
        _array(edge_weight),
        None if scale is None else _array(scale),
        None if anchor is None else _array(anchor),
        tuple(_array(t) for t in order),
        (kind, parameter, fall, keep, pull),
        num_steps=num_steps,
        every=every,
    )
    return torch.from_numpy(end), torch.from_numpy(between)


@torch.library.custom_op("contractive_gnn::flow_backward", mutates_args=(), schema=_FLOW_BACKWARD)
def _flow_backward(
    g: Tensor,
    x: Tensor,
    between: Tensor,
    edge_weight: Tensor,
    scale: Tensor | None,
    anchor: Tensor | None,
    order: list[Tensor],
    kind: int,
    parameter: float,
    fall: float,
    keep: float,
    pull: float,
    num_steps: int,
    every: int,
    by_weights: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The gradients by x, x⁰, p and b; of size 0 where there is none. That by x holds that by x⁰ if it is x."""
    grads = _loops().flow_backward(
        _array(g),
        _array(x),
        between.numpy(),
        _array(edge_weight),
        None if scale is None else _array(scale),
        None if anchor is None else _array(anchor),
        tuple(_array(t) for t in order),
        (kind, parameter, fall, keep, pull),
        num_steps=num_steps,
        every=every,
        by_weights=by_weights,
    )
    by_x, by_anchor, by_weight, by_scale = map(torch.from_numpy, grads)
    return by_x, by_anchor, by_weight, by_scale


@_flow.register_fake
def _(
    x: Tensor,
    edge_weight: Tensor,
    scale: Tensor | None,
    anchor: Tensor | None,
    order: list[Tensor],
    kind: int,
    parameter: float,
    fall: float,
    keep: float,
    pull: float,
    num_steps: int,
    every: int,
) -> tuple[Tensor, Tensor]:
    return x.new_empty(x.shape), x.new_empty((-(-num_steps // every) - 1, *x.shape))


@_flow_backward.register_fake
def _(
    g: Tensor,
    x: Tensor,
    between: Tensor,
    edge_weight: Tensor,
    scale: Tensor | None,
    anchor: Tensor | None,
    order: list[Tensor],
    kind: int,
    parameter: float,
    fall: float,
    keep: float,
    pull: float,
    num_steps: int,
    every: int,
    by_weights: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    separate = pull != 0 and anchor is not None
    return (
        x.new_empty(x.shape),
        x.new_empty(x.shape if separate else (0, x.size(1))),
        edge_weight.new_empty(edge_weight.numel() if by_weights else 0),
        edge_weight.new_empty(edge_weight.numel() if by_weights and scale is not None else 0),
    )


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    x, edge_weight, scale, anchor, order, *ctx.constants, ctx.num_steps, ctx.every = inputs
    ctx.mark_non_differentiable(output[1])
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(x, edge_weight, scale, anchor, output[1], *order)


def _gradient(ctx: Any, g: Tensor | None, _: Tensor | None) -> tuple[Any, ...]:
    x, edge_weight, scale, anchor, between, *order = ctx.saved_tensors
    needed = ctx.needs_input_grad[:4]
    rest = [None] * len(order), *(None for _ in ctx.constants), None, None
    if g is None:
        return None, None, None, None, *rest

    def plain(x: Tensor, edge_weight: Tensor, scale: Tensor | None, anchor: Tensor | None) -> Tensor:
        return _again(x, edge_weight, scale, anchor, order, *(*ctx.constants, ctx.num_steps))

    if (found := plain_gradients(plain, (x, edge_weight, scale, anchor), needed, g)) is not None:
        return *found, *rest
    steps, by_weights = (ctx.num_steps, ctx.every), needed[1] or needed[2]
    grads = torch.ops.contractive_gnn.flow_backward(
        g, x, between, edge_weight, scale, anchor, order, *ctx.constants, *steps, by_weights
    )
    by_x, by_anchor, by_weight, by_scale = grads
    named = by_x, by_weight, by_scale, by_anchor if by_anchor.numel() else None
    return *(grad if need else None for grad, need in zip(named, needed, strict=True)), *rest


_flow.register_autograd(_gradient, setup_context=_setup_context)


def _again(
    x: Tensor,
    edge_weight: Tensor,
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
    weights = edge_weight[edge], None if scale is None else scale[edge]
    for _ in range(num_steps):
        x = keep * x + pull * start - plain_edge_sum(x, *weights, edges, kind, parameter, fall)
    return x


def plain_edge_sum(
    x: Tensor, edge_weight: Tensor, scale: Tensor | None, edge_index: Tensor, kind: int, parameter: float, fall: float
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
    return torch.zeros_like(x).index_add(0, i, edge_weight.unsqueeze(-1) * value)
