"""Integration: the states that a scheme visits, and the last one."""

from __future__ import annotations

import math
import numbers
from collections.abc import Iterator

import torch
from torch import Tensor

from contractive_gnn.checks import check_whole
from contractive_gnn.integrators.scheme import Field, Scheme, Solve, StructuredField, Time, solver
from contractive_gnn.norms import number


def trajectory(
    field: Field,
    x: Tensor,
    *,
    step: Time,
    num_steps: int,
    scheme: str | Scheme = "euler",
    t0: Time = 0.0,
    max_euler_step: float | None = None,
    tolerance: float | None = None,
    max_iterations: int = 1000,
) -> Iterator[Tensor]:
    r"""Yield ``x⁽⁰⁾, x⁽¹⁾, …, x⁽ᴷ⁾``.

    Implicit Euler solves ``y = x + hX(y, t + h)`` by the relaxed fixed-point iteration

    .. math::
        y \leftarrow (1-\theta)\,y + \theta\,(x + hX(y)), \qquad \theta = \frac{h_E}{h + h_E},

    which equals ``(1 − θ)(y + h_E X(y)) + θx``: an Euler step of length h_E, so it converges by ``h/(h + h_E)`` per
    iteration in the norm in which that step is non-expansive, for every h. It stops at a residual
    ``max |y − x − hX(y)| ≤ tolerance · max(1, max |x|)``; for a field with one-sided Lipschitz constant ≤ 0 in a norm
    the error of the step in that norm is at most the residual's, so a step is non-expansive up to twice the tolerance
    (in ℓ∞; times √d in ℓ2 and d in ℓ1, for d entries). Gradients go through the iterations, so their memory grows with
    ``h/h_E``: no cheaper than as many explicit steps, but one step of the model. Implicit midpoint solves the same
    equation with h/2, at its middle.

    Args:
        field: X: a function of x and t, or a :class:`~contractive_gnn.dynamics.field.VectorField`, whose parts a
            splitting needs.
        x: the start, of any shape.
        step: h, a number or a scalar tensor (differentiable).
        num_steps: K ≥ 0.
        scheme: a name of :data:`SCHEMES`, or a :class:`Scheme`.
        t0: time of the start.
        max_euler_step: h_E, read by implicit schemes only; None for that of a VectorField, and for a function the plain
            iteration, θ = 1, which converges where ``h·Lip(X) < 1``.
        tolerance: of implicit schemes, relative; None for ``100 (1 + h/h_E)`` times the precision of ``x``'s dtype:
            what rounding leaves of θ times the residual.
        max_iterations: of implicit schemes, for each step.

    Raises:
        TypeError: for numbers that are none, and a start that is no floating point tensor, real or complex; (stepped)
            for a value of the field that is no tensor.
        ValueError: for an unknown scheme, a negative ``num_steps``, a step that is not positive and finite (of a tensor
            the value is not looked at), or a field without the structure that the scheme needs; (stepped) for a value
            of the field of another shape than the state.
        ConvergenceError: where the implicit equation is not solved within ``max_iterations``.
    """
    method = solver(scheme)
    if not isinstance(x, Tensor) or not (x.is_floating_point() or x.is_complex()):
        kind = str(x.dtype) if isinstance(x, Tensor) else type(x).__name__
        raise TypeError(f"the start must be a floating point tensor, got {kind}")
    check_whole("num_steps", num_steps, least=0)
    given: object = step
    if not isinstance(given, Tensor | numbers.Real):
        raise TypeError(f"step must be a number or a scalar tensor, got {step!r}")
    if isinstance(step, Tensor) and step.numel() != 1:
        raise ValueError(f"step must be a number or a scalar tensor, got shape {list(step.shape)}")
    if not isinstance(step, Tensor) and not (step > 0 and math.isfinite(step)):
        raise ValueError(f"step must be positive and finite, got {step!r}")
    if max_euler_step is not None and not max_euler_step > 0:
        raise ValueError(f"max_euler_step must be positive, got {max_euler_step!r}")
    method.check(field)
    if max_euler_step is None and not method.explicit and isinstance(field, StructuredField):
        largest = number(field.max_step())
        max_euler_step = largest if 0 < largest < math.inf else None
    if tolerance is None:
        relaxation = 0.0 if max_euler_step is None else number(step) / max_euler_step
        tolerance = 100 * (1 + relaxation) * torch.finfo(x.dtype).eps
    solve = Solve(max_euler_step, tolerance, max_iterations)

    def states() -> Iterator[Tensor]:
        y = x
        yield y
        for k in range(num_steps):
            y = method.advance(field, y, t0 + k * step, step, solve)
            yield y

    return states()


def integrate(
    field: Field,
    x: Tensor,
    *,
    step: Time,
    num_steps: int,
    scheme: str | Scheme = "euler",
    t0: Time = 0.0,
    max_euler_step: float | None = None,
    tolerance: float | None = None,
    max_iterations: int = 1000,
) -> Tensor:
    """The state after ``num_steps`` steps; arguments and errors are those of :func:`trajectory`."""
    states = trajectory(
        field,
        x,
        step=step,
        num_steps=num_steps,
        scheme=scheme,
        t0=t0,
        max_euler_step=max_euler_step,
        tolerance=tolerance,
        max_iterations=max_iterations,
    )
    for state in states:
        x = state
    return x
