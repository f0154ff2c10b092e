r"""Norms, log norms and Lipschitz constants: exact, estimated from below with a stated error, and searched for.

Every function takes a norm as an object (:class:`Norm`: ``L1``, ``L2``, ``LInf``, ``Weighted(L2, degree)``,
``Sum(LInf, 0.5 * L1)``), or its name and, optionally, positive weights w:

================================ ============================= =======================================================
name                             ‖x‖, over all entries of x    log norm of a matrix A
================================ ============================= =======================================================
``"l1"``, ``"vec-l1"``           ``Σ w_i |x_i|``               ``max_j (a_jj + Σ_{i≠j} |a_ij| w_i / w_j)``
``"l2"``, ``"l2-degree"``        ``(Σ w_i x_i²)^½``            ``λ_max`` of the symmetric part of ``W^½ A W^-½``
``"linf"``, ``"vec-linf"``       ``max w_i |x_i|``             ``max_i (a_ii + Σ_{j≠i} |a_ij| w_i / w_j)``
================================ ============================= =======================================================

The names with ``vec-`` say that x is a matrix; ``"l2-degree"`` cannot do without weights, one for each node. In ℓ2 the
weights stand under the square, as in ``xᵀPx``, and a log norm or an operator norm also takes a positive definite matrix
P there. The log norm is ``μ(A) = lim_{h→0+} (‖I + hA‖ − 1)/h``; a field X contracts at rate κ iff ``μ(DX) ≤ −κ``
everywhere (Bullo, *Contraction Theory for Dynamical Systems*, chapters 2 and 3; Davydov, Jafarpour, Bullo,
*Non-Euclidean contraction theory for robust nonlinear stability*, 2022).
"""

from contractive_gnn.norms.estimates import NormEstimate, estimate_log_norm, estimate_norm
from contractive_gnn.norms.given import as_norm
from contractive_gnn.norms.jacobians import Map, jacobian, lipschitz_at, log_norm_at
from contractive_gnn.norms.lebesgue import NORMS, Family
from contractive_gnn.norms.matrices import log_norm, operator_norm
from contractive_gnn.norms.norm import L1, L2, LInf, Norm, Plain, Scaled, family
from contractive_gnn.norms.number import number
from contractive_gnn.norms.search import LipschitzBound, lipschitz_adversarial, lipschitz_sampled
from contractive_gnn.norms.sums import Sum, SumNorm
from contractive_gnn.norms.vectors import vector_norm, weak_pairing
from contractive_gnn.norms.weighted import Weighted

__all__ = [
    "L1",
    "L2",
    "NORMS",
    "Family",
    "LInf",
    "LipschitzBound",
    "Map",
    "Norm",
    "NormEstimate",
    "Plain",
    "Scaled",
    "Sum",
    "SumNorm",
    "Weighted",
    "as_norm",
    "estimate_log_norm",
    "estimate_norm",
    "family",
    "jacobian",
    "lipschitz_adversarial",
    "lipschitz_at",
    "lipschitz_sampled",
    "log_norm",
    "log_norm_at",
    "number",
    "operator_norm",
    "vector_norm",
    "weak_pairing",
]
