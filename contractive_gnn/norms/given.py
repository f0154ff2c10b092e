"""A norm as someone gave it: by name, with weights beside it, or as an object."""

from __future__ import annotations

from torch import Tensor

from contractive_gnn.norms.lebesgue import family_of
from contractive_gnn.norms.norm import Norm, Plain, Scaled
from contractive_gnn.norms.weighted import Weighted


def as_norm(norm: str | Norm, weight: Tensor | None = None) -> Norm:
    """A norm given by name, or as an object.

    Args:
        norm: a name of the package's table, or an object, which is returned.
        weight: for a name, or for L1, L2 and LInf.

    Raises:
        ValueError: for an unknown name, weights that are missing, or weights beside an object that has its own.
    """
    if isinstance(norm, str):
        return Plain(norm) if weight is None else Weighted(Plain(family_of(norm)), weight, norm)
    if not isinstance(norm, Norm):
        raise TypeError(f"norm must be a name or a Norm, got {type(norm).__name__}")
    if weight is None:
        return norm
    if not isinstance(norm, Plain):
        raise ValueError(f"the norm {norm} has its own weights: pass weight=None")
    return Weighted(norm, weight)


def name_and_weight(norm: str | Norm, weight: Tensor | None = None) -> tuple[str, Tensor | None]:
    """A norm as the formulas for ℓ1, ℓ2 and ℓ∞ take it; for a multiple of one, that one.

    Raises:
        ValueError: as :func:`as_norm`, and for an object that is none of the three.
    """
    if isinstance(norm, str):
        return norm, weight
    norm = as_norm(norm, weight)
    while isinstance(norm, Scaled):
        norm = norm.base
    if isinstance(norm, Weighted):
        return norm.base.name, norm.weight
    if not isinstance(norm, Plain):
        raise ValueError(f"this is known in l1, l2 and linf, weighted or not, got the norm {norm}")
    return norm.name, None
