r"""What the exact flow of a field keeps, as identities of X that can be tried at any state.

=============  ==========================  =================================================
declared       identity at every x         why
=============  ==========================  =================================================
``mass``       ``⟨X(x), 1⟩ = 0``           the derivative of ``Σx``
``norm``       ``⟨X(x), x⟩ = 0``           that of ``‖x‖²/2``
``volume``     ``trace DX(x) = 0``         Liouville; ``symplectic`` implies it
``shear``      ``DX(x) X(x) = 0``          X is constant along its own flow
=============  ==========================  =================================================

Each residual is relative to the sum of the sizes of its terms, so that rounding leaves about 1e-16.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from contractive_gnn.dynamics.field import VectorField
from contractive_gnn.norms import jacobian

Residual = Callable[[VectorField, Tensor, float], float]
"""``(field, x, t) ↦`` how far the identity is from holding, between 0 and 1."""


def identities(field: VectorField) -> Iterator[tuple[str, Residual]]:
    """The identities that follow from what ``field`` declares, in words, with their residuals."""
    kept = field.conserves
    if "mass" in kept:
        yield "keeps the mass: ⟨X, 1⟩ = 0", mass
    if "norm" in kept:
        yield "keeps the norm: ⟨X, x⟩ = 0", norm
    if kept & {"volume", "symplectic"}:
        yield "keeps the volume: trace DX = 0", volume
    if field.shear:
        yield "a shear: DX·X = 0", shear


def mass(field: VectorField, x: Tensor, t: float) -> float:
    """``|⟨X, 1⟩| / Σ|X_i|``."""
    return _relative(field(x, t).flatten())


def norm(field: VectorField, x: Tensor, t: float) -> float:
    """``|⟨X, x⟩| / Σ|X_i x_i|``."""
    return _relative((field(x, t) * x).flatten())


def volume(field: VectorField, x: Tensor, t: float) -> float:
    """``|trace DX| / ‖DX‖_F``: the diagonal alone may be rounding."""
    matrix = jacobian(lambda y: field(y, t), x)
    size = float(torch.linalg.matrix_norm(matrix))
    return _share(abs(float(matrix.trace())), size)


def shear(field: VectorField, x: Tensor, t: float) -> float:
    """``‖DX·X‖ / (‖DX‖_F ‖X‖)``."""
    matrix, value = jacobian(lambda y: field(y, t), x), field(x, t).flatten()
    size = float(torch.linalg.matrix_norm(matrix)) * float(torch.linalg.vector_norm(value))
    return _share(float(torch.linalg.vector_norm(matrix @ value)), size)


def _relative(terms: Tensor) -> float:
    return _share(abs(float(terms.sum())), float(terms.abs().sum()))


def _share(part: float, whole: float) -> float:
    """``part/whole``, 0 of nothing; a NaN keeps no promise."""
    if math.isnan(part) or math.isnan(whole):
        return math.inf
    return part / whole if whole > 0 else 0.0
