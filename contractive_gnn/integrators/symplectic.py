r"""Symplectic schemes for a partition (q, p).

The field is ``q̇ = f(p)``, ``ṗ = g(q)``: with ``H = T(p) + V(q)``, ``f = ∇T`` and ``g = −∇V``. Each half is a shear with
an exact flow, and a step composes such flows: of a Hamiltonian field it keeps the symplectic form, hence the volume,
and the energy up to a bounded oscillation, over times exponential in 1/h where H is analytic (Hairer, Lubich, Wanner,
*Geometric Numerical Integration*, 2006, sections I.1, VI.3 and IX.8).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor

from contractive_gnn.integrators.scheme import (
    Field,
    Solve,
    StructuredField,
    Time,
    register_scheme,
    solver,
    title,
    velocity,
)
from contractive_gnn.integrators.splitting import Splitting
from contractive_gnn.norms import number

#: shares of h of the flows that move p and of those that move q, up to the middle of a step
_MOVES_P = (0.0792036964311957, 0.353172906049774, -0.0420650803577195)
_MOVES_Q = (0.209515106613362, -0.143851773179818)


@dataclass(frozen=True)
class Partitioned(Splitting):
    """A splitting for ``parts() == (the one that moves q, the one that moves p)``, both shears."""

    def lacks(self, field: Field) -> str:
        """Two shears."""
        parts = field.parts() if isinstance(field, StructuredField) else ()
        wanted = "a VectorField with parts() == (the shear that moves q, the shear that moves p)"
        if len(parts) != 2:
            return f"{wanted}, got {title(field)}, which has {len(parts) or 'no'} part{'s' * (len(parts) != 1)}"
        bent = [title(part) for part in parts if not part.shear]
        return f"{wanted}, got {title(field)}, of which {bent[0]} is no shear" if bent else ""


@dataclass(frozen=True)
class SymplecticEuler(Partitioned):
    """``p⁺ = p + h g(q)``, ``q⁺ = q + h f(p⁺)``; order 1. ``"lie-trotter"`` on the same field moves q first."""

    name: str = "symplectic-euler"
    order: int = 1
    inner: str = "euler"

    def flows(self, count: int) -> list[tuple[int, float]]:
        """p, then q."""
        return [(1, 1.0), (0, 1.0)]


@dataclass(frozen=True)
class StormerVerlet(Partitioned):
    """Half a step of p, one of q, half a step of p (velocity Verlet); order 2, symmetric in time.

    ``"strang"`` on the same field is position Verlet: q, p, q.
    """

    name: str = "stormer-verlet"
    order: int = 2
    inner: str = "heun"

    def flows(self, count: int) -> list[tuple[int, float]]:
        """p, q, p."""
        return [(1, 0.5), (0, 1.0), (1, 0.5)]


@dataclass(frozen=True)
class BlanesMoan(Partitioned):
    """Six flows that move q between seven that move p; order 4, symmetric in time.

    Method S6 of Blanes and Moan (*Practical symplectic partitioned Runge–Kutta and Runge–Kutta–Nyström methods*, J.
    Comput. Appl. Math. 142, 2002). A step costs as much as six of ``"stormer-verlet"``. At equal cost its error on a
    pendulum of frequency 1 is 50 times smaller with steps of 1, and 600 times with steps of 1/4.

    Some flows go back in time, as in every splitting of an order above 2 (Sheng 1989; Suzuki 1991): a step contracts
    nothing. Where a part depends on time, its time is that which the flows of the other part have spent: with a clock
    for each part the equation is autonomous, and its parts are still shears.
    """

    name: str = "blanes-moan"
    order: int = 4
    inner: str = "rk4"

    def flows(self, count: int) -> list[tuple[int, float]]:
        """p, q, p, …, q, p; the shares read the same from both ends."""
        p = [*_MOVES_P, 1 - 2 * sum(_MOVES_P), *reversed(_MOVES_P)]
        q = [*_MOVES_Q, 0.5 - sum(_MOVES_Q)]
        q = [*q, *reversed(q)]
        there = [flow for pair in zip(p, q, strict=False) for flow in ((1, pair[0]), (0, pair[1]))]
        return [*there, (1, p[-1])]

    def advance(self, field: Field, x: Tensor, t: Time, h: Time, solve: Solve) -> Tensor:
        """One step; the field has passed :meth:`check`."""
        assert isinstance(field, StructuredField)
        parts, spent = field.parts(), [0.0, 0.0]
        for index, share in self.flows(len(parts)):
            x = x + share * h * velocity(parts[index], x, t + spent[1 - index] * h)
            spent[index] += share
        return x

    def lipschitz(self, field: StructuredField, step: float) -> float:
        """The product of ``1 + |h_i| L_i`` over the flows, L_i a Lipschitz constant of the part."""
        parts, constant = field.parts(), 1.0
        for index, share in self.flows(len(parts)):
            part = parts[index]
            if part.norm != field.norm:
                return math.inf
            forward = solver("euler").lipschitz(part, share * step) if share > 0 else math.inf
            constant *= min(forward, 1.0 + abs(share) * step * number(part.field_lipschitz()))
        return constant


register_scheme(SymplecticEuler())
register_scheme(StormerVerlet())
register_scheme(BlanesMoan())
