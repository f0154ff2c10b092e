"""Partial differential equations on a grid: finite differences, and the networks that equal them or learn them.

An equation is a :class:`StencilPolynomial`. :class:`FiniteDifferences` evaluates it, :func:`exact_network` writes it as
two convolutions with a power of the ReLU between them, and :func:`untrained_network` has the same form with random
kernels. All of them are vector fields: follow them with :class:`contractive_gnn.nn.Flow`.
"""

from contractive_gnn.dynamics.pdes.equations import advection, burgers, fisher, gray_scott, heat
from contractive_gnn.dynamics.pdes.finite_differences import FiniteDifferences
from contractive_gnn.dynamics.pdes.network import exact_network, untrained_network
from contractive_gnn.dynamics.pdes.polynomial import AffineForm, Product, StencilPolynomial, of_stencil, point

__all__ = [
    "AffineForm",
    "FiniteDifferences",
    "Product",
    "StencilPolynomial",
    "advection",
    "burgers",
    "exact_network",
    "fisher",
    "gray_scott",
    "heat",
    "of_stencil",
    "point",
    "untrained_network",
]
