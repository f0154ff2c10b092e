r"""Fields that conserve something by the way they are built.

======================== ========================== ==================== =============================
field                    equation                   the flow keeps       what keeps it to rounding
======================== ========================== ==================== =============================
``MassField``            ``S(x)1``, S skew          mass                 every Runge–Kutta scheme
``CenteredField``        ``(I − 11ᵀ/d)G(x)``        mass                 every Runge–Kutta scheme
``SkewField``            ``(B(x) − B(x)ᵀ)x``        norm                 sphere projection, (midpoint)
``CouplingField``        ``(f(v) | g(u))``          volume               splittings
``ShearField``           ``Aσ(Kx + b)``, ``KA = 0`` volume               Euler; of a sum: splittings
``SeparableHamiltonian`` ``(∇T(p) | −∇V(q))``       energy, form, volume form, volume: splittings
``HamiltonianField``     ``J∇H``                    energy, form, volume form, volume: (midpoint)
======================== ========================== ==================== =============================

In brackets: to the tolerance that the implicit equation is solved to. The form is ``dq ∧ dp``. No
scheme keeps an energy to rounding.
"""

from contractive_gnn.dynamics.conservative.coupling import CouplingField
from contractive_gnn.dynamics.conservative.divergence_free import ShearField
from contractive_gnn.dynamics.conservative.hamiltonian import HamiltonianField, SeparableHamiltonian
from contractive_gnn.dynamics.conservative.mass import CenteredField, MassField
from contractive_gnn.dynamics.conservative.matrix import ConstantMatrix, PerceptronMatrix, StateMatrix
from contractive_gnn.dynamics.conservative.shear import EnergyGradient, HalfShear
from contractive_gnn.dynamics.conservative.skew import SkewField
from contractive_gnn.dynamics.conservative.triangular import TriangularMatrix

__all__ = [
    "CenteredField",
    "ConstantMatrix",
    "CouplingField",
    "EnergyGradient",
    "HalfShear",
    "HamiltonianField",
    "MassField",
    "PerceptronMatrix",
    "SeparableHamiltonian",
    "ShearField",
    "SkewField",
    "StateMatrix",
    "TriangularMatrix",
]
