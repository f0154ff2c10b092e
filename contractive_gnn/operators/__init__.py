r"""Linear operators as modules, with their adjoint and certified bounds.

An :class:`Operator` is a linear map A. It has ``A(x)``, ``A.adjoint(y)``, an upper bound of its norm in ℓ1, ℓ2 and ℓ∞,
and a lower bound of ``‖Ax‖/‖x‖`` in ℓ2 (0 where none is known). All bounds are proved, not estimated: power iteration
and Lanczos' method (:func:`contractive_gnn.norms.estimate_norm`) approach a norm from below, and a step size or a
rescaled weight that trusts them leaves its condition. Where a bound is computed by a singular value decomposition it is
moved by :func:`rounding`. Every bound is differentiable with respect to the tensors that it is made of.

======================== ================================= =======================================================
class                    acts on                           bounds
======================== ================================= =======================================================
:class:`Dense`           ``[..., in]``                     ℓ2 by the singular values; ℓ1 and ℓ∞ exact
:class:`Conv2d`          ``[..., in, H, W]``               ℓ2 by the symbol, attained for circular padding; ℓ1, ℓ∞ exact
:class:`GraphGradient`   ``[..., n, c]``                   ℓ2 by the degrees; ℓ1 and ℓ∞ exact
:class:`Stencil`         ``[..., N₁, …, N_d]``             ℓ2 by the symbol, exact as its text says; ℓ1 and ℓ∞ exact
:class:`Composition`     as the last factor                products
:class:`Sum`             as the summands                   sums
======================== ================================= =======================================================

A tensor given as a weight is fixed: it is a buffer. An ``nn.Parameter`` is learned. Leading axes beyond those of the
table are a batch. To write one of your own, derive from :class:`Operator` and test it with
:class:`contractive_gnn.testing.OperatorSuite`.

>>> import torch
>>> fixed = Dense(torch.eye(3))
>>> learned = Dense(torch.nn.Parameter(torch.eye(3)))
>>> [len(list(operator.parameters())) for operator in (fixed, learned)]
[0, 1]
"""

from contractive_gnn.operators.base import Operator
from contractive_gnn.operators.composition import Composition
from contractive_gnn.operators.convolution import Conv2d
from contractive_gnn.operators.dense import Dense
from contractive_gnn.operators.dirichlet import dirichlet_energy
from contractive_gnn.operators.graph_gradient import GraphGradient
from contractive_gnn.operators.known import KnownNorm
from contractive_gnn.operators.singular import rounding
from contractive_gnn.operators.stencil import Stencil
from contractive_gnn.operators.sums import Sum

__all__ = [
    "Composition",
    "Conv2d",
    "Dense",
    "GraphGradient",
    "KnownNorm",
    "Operator",
    "Stencil",
    "Sum",
    "dirichlet_energy",
    "rounding",
]
