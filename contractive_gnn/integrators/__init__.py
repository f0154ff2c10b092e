r"""Time-stepping schemes that declare how far a contractive field stays contractive under them, and what they preserve.

Let ``h_E`` be the largest step with which explicit Euler is non-expansive on a field in some norm. A scheme of
contractivity radius r is non-expansive in that norm for every step ``h ≤ r h_E``, whatever the field:

* in ℓ2, or any norm of an inner product, "Euler is non-expansive at h_E" says exactly that
  ``⟨X(x) − X(y), x − y⟩ ≤ −(h_E/2)‖X(x) − X(y)‖²``, and r is the *circle contractivity* radius: the largest r with
  ``BA + AᵀB − bbᵀ + B/r ⪰ 0``, ``B = diag(b) > 0`` (Dahlquist and Jeltsch, *Generalized disks of contractivity for
  explicit and implicit Runge–Kutta methods*, 1979; BIT 46, 2006). With ``M = BA + AᵀB − bbᵀ`` and the differences Δk_i
  of the stage slopes, ``‖Δx⁺‖² ≤ ‖Δx‖² − h² Σ (m_ij + δ_ij b_i h_E/h) ⟨Δk_i, Δk_j⟩``;
* in any norm, so in ℓ1 and ℓ∞, r is the radius of absolute monotonicity, or SSP coefficient: the scheme is then made of
  convex combinations of Euler steps of length at most h_E (Kraaijevanger, BIT 31, 1991; Shu and Osher 1988; Gottlieb,
  Ketcheson, Shu, *Strong Stability Preserving Runge–Kutta and Multistep Time Discretizations*, 2011).

========================== ===== ====== =============== ========= ======================================
scheme                     order stages r, ℓ2           r, ℓ1, ℓ∞ evaluations per unit of ``r h_E``, ℓ∞
========================== ===== ====== =============== ========= ======================================
``euler``                  1     1      1               1         1
``heun`` = ``ssprk2``      2     2      1               1         2
``ssprk3``                 3     3      1               1         3
``rk4``                    4     4      1               0         not provably contractive with any step
``implicit-euler``         1     1      ∞               ∞         iterations of a solver
``implicit-midpoint``      2     1      ∞               2         iterations of a solver
========================== ===== ====== =============== ========= ======================================

What a step keeps of a field that conserves it, and the structure that the scheme needs of the field:

========================== ===== ========================================== ============================================
scheme                     order preserves                                  needs
========================== ===== ========================================== ============================================
explicit, implicit Euler   1–4   mass
``implicit-midpoint``      2     mass, norm, symplectic form
``lie-trotter``            1     what every part's flow keeps, not energy   ``parts()`` of two or more
``strang``                 2     what every part's flow keeps, not energy   ``parts()`` of two or more
``symplectic-euler``       1     what both halves' flows keep, not energy   ``parts()`` of two shears, (q, p)
``stormer-verlet``         2     what both halves' flows keep, not energy   ``parts()`` of two shears, (q, p)
``blanes-moan``            4     what both halves' flows keep, not energy   ``parts()`` of two shears, (q, p)
``sphere-projection``      inner norm of each sample, of any field
``mass-projection``        inner mass of each sample, of any field
========================== ===== ========================================== ============================================

``Σx`` is the mass, ``‖x‖₂`` the norm. No scheme here keeps an energy to rounding; a symplectic one keeps it within a
band. A scheme of one's own gets its name by :func:`register_scheme`.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, MutableMapping

from contractive_gnn.integrators.continuous import integrate_continuous
from contractive_gnn.integrators.errors import ConvergenceError
from contractive_gnn.integrators.factors import contraction_factor, num_substeps
from contractive_gnn.integrators.fixed_points import fixed_point
from contractive_gnn.integrators.invariants import Invariant
from contractive_gnn.integrators.paths import integrate, trajectory
from contractive_gnn.integrators.projection import LinearProjection, MassProjection, Projection, SphereProjection
from contractive_gnn.integrators.runge_kutta import RungeKutta
from contractive_gnn.integrators.scheme import (
    SCHEMES,
    Field,
    Scheme,
    Solve,
    StructuredField,
    Time,
    register_scheme,
    solver,
)
from contractive_gnn.integrators.splitting import LieTrotter, Splitting, Strang
from contractive_gnn.integrators.symplectic import BlanesMoan, Partitioned, StormerVerlet, SymplecticEuler

__all__ = [
    "SCHEMES",
    "BlanesMoan",
    "ConvergenceError",
    "Field",
    "Invariant",
    "LieTrotter",
    "LinearProjection",
    "MassProjection",
    "Partitioned",
    "Projection",
    "RungeKutta",
    "Scheme",
    "Solve",
    "SphereProjection",
    "Splitting",
    "StormerVerlet",
    "Strang",
    "StructuredField",
    "SymplecticEuler",
    "Time",
    "contraction_factor",
    "fixed_point",
    "integrate",
    "integrate_continuous",
    "num_substeps",
    "register_scheme",
    "solver",
    "trajectory",
]


class _Solvers(MutableMapping[str, RungeKutta]):
    """The dict ``SOLVERS`` of releases before 0.2: the Runge–Kutta schemes of :data:`SCHEMES`."""

    def __getitem__(self, name: str) -> RungeKutta:
        if name in SCHEMES and isinstance(scheme := SCHEMES.get(name), RungeKutta):
            return scheme
        raise KeyError(name)

    def __setitem__(self, name: str, scheme: RungeKutta) -> None:
        SCHEMES.register(name)(scheme)

    def __delitem__(self, name: str) -> None:
        raise TypeError("a scheme keeps its name once it is registered")

    def __iter__(self) -> Iterator[str]:
        return (name for name in SCHEMES if isinstance(SCHEMES.get(name), RungeKutta))

    def __len__(self) -> int:
        return sum(1 for _ in self)


def __getattr__(name: str) -> object:
    if name == "SOLVERS":
        warnings.warn("integrators.SOLVERS is now integrators.SCHEMES, a Registry", DeprecationWarning, stacklevel=2)
        return _Solvers()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
