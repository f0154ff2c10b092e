"""How many steps a contractive field takes, and by how much each one contracts."""

from __future__ import annotations

import math

from torch import Tensor

from contractive_gnn.integrators.runge_kutta import RungeKutta
from contractive_gnn.integrators.scheme import SCHEMES, Scheme, solver
from contractive_gnn.norms import Norm, number


def num_substeps(total_time: float, max_euler_step: Tensor | float, *, scheme: str | Scheme, norm: str | Norm) -> int:
    """The smallest number of equal steps, each at most ``radius(norm) · max_euler_step`` long.

    Args:
        total_time: T > 0.
        max_euler_step: the field's largest non-expansive Euler step, as ``VectorField.max_step`` returns it.
        scheme: a name of :data:`SCHEMES`, or a :class:`Scheme`.
        norm: the norm of the claim.

    Raises:
        ValueError: where the scheme has radius 0 in this norm, the field has no contractive step, or T is not positive.
    """
    method, limit = solver(scheme), number(max_euler_step)
    if not (total_time > 0 and math.isfinite(total_time)):
        raise ValueError(f"total_time must be a positive finite number, got {total_time!r}")
    if not limit > 0:
        raise ValueError(f"max_euler_step must be positive, got {limit!r}: the field has no contractive Euler step")
    radius = method.radius(norm)
    if radius == 0:
        others = [name for name in SCHEMES if SCHEMES.get(name).radius(norm) > 0]
        raise ValueError(
            f"{method.name} has contractivity radius 0 in {norm}: no step is provably contractive; "
            f"use one of {', '.join(others)}"
        )
    longest = radius * limit
    count = max(1, math.ceil(total_time / longest))
    return count if total_time / count <= longest else count + 1  # the quotient may have been rounded down


def contraction_factor(
    step: float, rate: float, *, max_euler_step: float, scheme: str | Scheme = "euler", norm: str | Norm
) -> float:
    r"""A proved Lipschitz constant of one step in ``norm``.

    The field is one whose Euler step is ``(1 − hκ)``-Lipschitz at ``h = h_E``; being affine in h, it is so at every
    shorter step too. Explicit schemes with positive monotonicity radius, in any norm: ``R(−hκ)`` for ``h ≤ r h_E``,
    because the scheme is a composition of convex combinations of Euler steps and every one of those contracts by
    ``1 − h'κ``. RK4 in ℓ2: 1 for ``h ≤ r h_E`` (its circle condition gives no rate). Implicit Euler, any norm and any
    h: ``1/(1 + hκ)`` for the exact solution of its equation, which needs ``μ(DX) ≤ −κ`` alone, since then
    ``‖Δy − hΔX‖ ≥ (1 + hκ)‖Δy‖``. Implicit midpoint, ``R(z) = (1 + z/2)/(1 − z/2)``: in any norm ``R(−hκ)`` for
    ``h ≤ 2h_E``, as half a step of implicit Euler and half a step of Euler's. In ℓ2 and for any h, it is B-stable
    (Butcher, BIT 15, 1975; Burrage and Butcher, SIAM J. Numer. Anal. 16, 1979): 1 for κ ≥ 0, and more exactly
    ``max(|R(−hκ)|, |R(−h(2/h_E − κ))|)``, because with ``ΔX = zΔy`` in the plane of the two vectors z lies in the disc
    with the ends ``−κ`` and ``κ − 2/h_E``, and R takes discs to discs; for κ < 0 ``R(−hκ)``, with ``h|κ| < 2``.

    Args:
        step: h > 0.
        rate: κ; not negative for an explicit scheme.
        max_euler_step: h_E; 0 where none is known, for an implicit scheme.
        scheme: a name of :data:`SCHEMES`, or a :class:`Scheme`.
        norm: the norm of the claim.

    Raises:
        ValueError: where nothing is proved: the step is beyond ``r h_E``, κ < 0 for an explicit scheme, ``1 + hκ ≤ 0``
            for implicit Euler (``1 + hκ/2`` for implicit midpoint), or a scheme that is no Runge–Kutta scheme.
    """
    method = solver(scheme)
    if not isinstance(method, RungeKutta):
        raise ValueError(
            f"no contraction factor is proved for {method.name} from the rate of the whole field; "
            f"{method.name}.lipschitz(field, step) may find one from its parts"
        )
    return method.factor(step, rate, max_euler_step, norm)
