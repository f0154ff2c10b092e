r"""Symplectic schemes for a partition (q, p).

The field is ``q̇ = f(p)``, ``ṗ = g(q)``: with ``H = T(p) + V(q)``, ``f = ∇T`` and ``g = −∇V``. Each half is a shear with
an exact flow, and a step composes such flows: of a Hamiltonian field it keeps the symplectic form, hence the volume,
and the energy up to a bounded oscillation, over times exponential in 1/h where H is analytic (Hairer, Lubich, Wanner,
*Geometric Numerical Integration*, 2006, sections I.1, VI.3 and IX.8).
"""

from __future__ import annotations

from dataclasses import dataclass

from contractive_gnn.integrators.scheme import Field, StructuredField, register_scheme, title
from contractive_gnn.integrators.splitting import Splitting


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


register_scheme(SymplecticEuler())
register_scheme(StormerVerlet())
