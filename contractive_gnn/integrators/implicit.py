"""The equation of one implicit stage, and its solution."""

from __future__ import annotations

import math

from torch import Tensor

from contractive_gnn.integrators.errors import ConvergenceError
from contractive_gnn.integrators.scheme import Field, Solve, Time, velocity
from contractive_gnn.norms import number


def implicit_stage(field: Field, x: Tensor, t: Time, h: Time, solve: Solve, *, what: str) -> Tensor:
    r"""The y with ``y = x + hX(y, t)``, by a relaxed fixed-point iteration; see :func:`.trajectory`.

    Args:
        field: X.
        x: of any shape.
        t: time of the stage.
        h: length of the stage.
        solve: largest non-expansive Euler step, tolerance and iterations.
        what: the scheme, for the message.

    Raises:
        TypeError: for a value of the field that is no tensor.
        ValueError: for one of another shape than x.
        ConvergenceError: where the residual stays above the tolerance.
    """
    largest = solve.max_euler_step
    theta = 1.0 if largest is None else largest / (h + largest)
    goal = solve.tolerance * max(1.0, float(x.detach().abs().max())) if x.numel() else 0.0
    y, residual = x, math.inf
    for _ in range(solve.max_iterations):
        gap = x + h * velocity(field, y, t) - y
        residual = float(gap.detach().abs().max()) if x.numel() else 0.0
        y = y + theta * gap
        if residual <= goal:
            return y
        if not math.isfinite(residual):
            break
    advice = (
        "pass max_euler_step, the field's largest non-expansive Euler step: the relaxed iteration then always "
        "converges; or, for a field that does not contract, take steps below 1/Lip(X)"
        if largest is None
        else "raise max_iterations or tolerance, or check max_euler_step: the field may not be contractive with it"
    )
    raise ConvergenceError(
        f"{what} with step {number(h):g} left a residual of {residual:.3g} after {solve.max_iterations} iterations, "
        f"more than {goal:.3g}; {advice}"
    )
