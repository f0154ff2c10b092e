r"""A piecewise linear activation and its gradient, one pass each.

.. math:: σ_τ(u) = τ a_j + p_j u, \qquad j = \text{the piece of } u/τ

with a table of intercepts a and slopes p for each channel. Tensor operations find the piece, look both up, and add up
the gradient by the tables with a dozen passes over u; a loop compiled by numba needs one, and keeps nothing but u. It
is registered as ``torch.ops.contractive_gnn.linear_spline``, with its gradient by u, a, p and τ.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from contractive_gnn.compiled import kernels
from contractive_gnn.compiled.plain_gradients import plain_gradients
from contractive_gnn.graph import transformed


def available(u: Tensor, *others: Tensor | None) -> bool:
    """Whether the compiled loop serves these arguments; it only knows reverse-mode differentiation."""
    tensors = [u, *(other for other in others if other is not None)]
    return (
        not torch.compiler.is_compiling()
        and u.dtype in (torch.float32, torch.float64)
        and all(tensor.dtype == u.dtype and tensor.device.type == "cpu" for tensor in tensors)
        and kernels.enabled()
        and not any(transformed(tensor) for tensor in tensors)
    )


def linear_spline(u: Tensor, intercept: Tensor, slope: Tensor, scale: Tensor | None, width: float) -> Tensor:
    """``τ a_j + p_j u`` with ``j = ⌊u/(τΔ) + K/2⌋`` in ``0 … K − 1``, by the compiled loop.

    Args:
        u: ``[n, c, m]``.
        intercept: a, ``[c, K]``, or ``[1, K]`` for all channels.
        slope: p, of the same shape.
        scale: τ > 0, ``[n, c or 1, m or 1]``; None for 1.
        width: Δ.

    Returns:
        ``[n, c, m]``. Differentiable any number of times: higher derivatives go through plain tensor operations.
    """
    if scale is not None:
        if scale.size(2) != 1:  # each entry is a row of its own: those of a channel share a table
            rows = u.transpose(1, 2).reshape(-1, u.size(1), 1)
            factor = scale.expand_as(u).transpose(1, 2).reshape(-1, u.size(1), 1)
            out = linear_spline(rows, intercept, slope, factor, width)
            return out.reshape(u.size(0), u.size(2), u.size(1)).transpose(1, 2).contiguous()
        scale = scale.expand(u.size(0), u.size(1), 1).squeeze(2)
    found: Tensor = torch.ops.contractive_gnn.linear_spline(u, intercept, slope, scale, float(width))
    return found


def plain_linear_spline(u: Tensor, intercept: Tensor, slope: Tensor, scale: Tensor | None, width: float) -> Tensor:
    """:func:`linear_spline` with tensor operations: the reference, and the way on other devices and of a trace."""
    place = piece(u, slope.size(1), width, scale)
    level = look_up(intercept, place)
    return (level if scale is None else level * scale) + look_up(slope, place) * u


def piece(u: Tensor, num_pieces: int, width: float, scale: Tensor | None) -> Tensor:
    """The number of the piece of ``u/τ``, of the shape of u; NaN belongs to the first."""
    with torch.no_grad():
        step = 1.0 / width if scale is None else 1.0 / (scale * width)
        place = torch.nan_to_num(u * step + num_pieces // 2, nan=0.0)
        return place.clamp(0, num_pieces - 1).long()  # at least 0, so that towards 0 is down


def look_up(table: Tensor, place: Tensor) -> Tensor:
    """``table[c, place[n, c, m]]``, ``[n, c, m]``; a table of one row serves every channel."""
    if table.size(0) == 1:
        return table[0][place]
    channel = torch.arange(table.size(0), device=table.device).view(1, -1, 1)
    return table[channel, place]


def _loops() -> Any:
    from contractive_gnn.compiled import spline_loops  # numba is imported where it is needed

    return spline_loops


def _array(tensor: Tensor) -> Any:
    return tensor.detach().contiguous().numpy()


# written out, since older releases of PyTorch read no annotation that is a string
_FORWARD = "(Tensor u, Tensor intercept, Tensor slope, Tensor? scale, float width) -> Tensor"
_BACKWARD = (
    "(Tensor g, Tensor u, Tensor intercept, Tensor slope, Tensor? scale, float width, bool by_table) "
    "-> (Tensor, Tensor, Tensor, Tensor)"
)


@torch.library.custom_op("contractive_gnn::linear_spline", mutates_args=(), schema=_FORWARD)
def _linear_spline(u: Tensor, intercept: Tensor, slope: Tensor, scale: Tensor | None, width: float) -> Tensor:
    out = _loops().forward(_array(u), _array(intercept), _array(slope), None if scale is None else _array(scale), width)
    return torch.from_numpy(out)


@torch.library.custom_op("contractive_gnn::linear_spline_backward", mutates_args=(), schema=_BACKWARD)
def _linear_spline_backward(
    g: Tensor, u: Tensor, intercept: Tensor, slope: Tensor, scale: Tensor | None, width: float, by_table: bool
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The gradients by u, a, p and τ; of size 0 where there is none."""
    by_u, by_intercept, by_slope, by_scale = map(
        torch.from_numpy,
        _loops().backward(
            _array(g),
            _array(u),
            _array(intercept),
            _array(slope),
            None if scale is None else _array(scale),
            width,
            by_table=by_table,
        ),
    )
    return by_u, by_intercept, by_slope, by_scale


@_linear_spline.register_fake
def _(u: Tensor, intercept: Tensor, slope: Tensor, scale: Tensor | None, width: float) -> Tensor:
    return u.new_empty(u.shape)


@_linear_spline_backward.register_fake
def _(
    g: Tensor, u: Tensor, intercept: Tensor, slope: Tensor, scale: Tensor | None, width: float, by_table: bool
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    table = intercept.shape if by_table else (0, intercept.size(1))
    by_scale = u.new_empty((0, u.size(1)) if scale is None else scale.shape)
    return u.new_empty(u.shape), u.new_empty(table), u.new_empty(table), by_scale


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    *tensors, ctx.width = inputs
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(*tensors)


def _gradient(ctx: Any, g: Tensor | None) -> tuple[Any, ...]:
    tensors, needed = ctx.saved_tensors, ctx.needs_input_grad[:4]
    if g is None:
        return None, None, None, None, None

    def plain(u: Tensor, intercept: Tensor, slope: Tensor, scale: Tensor | None) -> Tensor:
        return plain_linear_spline(u, intercept, slope, None if scale is None else scale.unsqueeze(2), ctx.width)

    if (found := plain_gradients(plain, tensors, needed, g)) is not None:
        return *found, None
    by_table = needed[1] or needed[2]
    grads = torch.ops.contractive_gnn.linear_spline_backward(g, *tensors, ctx.width, by_table)
    return *(grad if need else None for grad, need in zip(grads, needed, strict=True)), None


_linear_spline.register_autograd(_gradient, setup_context=_setup_context)
