"""Log norms and norms of matrices."""

from __future__ import annotations

import torch
from torch import Tensor

from contractive_gnn.norms.given import name_and_weight
from contractive_gnn.norms.lebesgue import NORMS, family_of, positive, require_weight
from contractive_gnn.norms.norm import Norm


def log_norm(a: Tensor, norm: str | Norm, *, weight: Tensor | None = None) -> Tensor:
    """``μ(A)``, as in the package's table; differentiable.

    Args:
        a: ``[..., d, d]``.
        norm: a name of the package's table, or an object; the weights of an object are ``[d]``.
        weight: ``[d]``, positive, or for ℓ2 a symmetric positive definite ``[d, d]``: P in ``‖x‖² = xᵀPx``.

    Returns:
        ``[...]``.

    Raises:
        ValueError: for an unknown name, a matrix that is not square, or weights that do not fit.
    """
    name, weight = name_and_weight(norm, weight)
    kind, a = family_of(name), _unweighted(a, name, weight)
    if kind == "l2":
        eigenvalues: Tensor = torch.linalg.eigvalsh((a + a.mT) / 2)
        return eigenvalues[..., -1]
    own = a.diagonal(dim1=-2, dim2=-1)
    others = (a - torch.diag_embed(own)).abs().sum(dim=-2 if kind == "l1" else -1)
    return (own + others).amax(dim=-1)


def operator_norm(a: Tensor, norm: str | Norm, *, weight: Tensor | None = None) -> Tensor:
    """``‖A‖ = max ‖Ax‖/‖x‖``: largest column sum (ℓ1), largest singular value (ℓ2), largest row sum (ℓ∞).

    Arguments, result and errors are those of :func:`log_norm`; without weights ``a`` may be ``[..., m, d]``.
    """
    name, weight = name_and_weight(norm, weight)
    kind, a = family_of(name), _unweighted(a, name, weight, square=False)
    if kind == "l2":
        largest: Tensor = torch.linalg.matrix_norm(a, 2)
        return largest
    return a.abs().sum(dim=-2 if kind == "l1" else -1).amax(dim=-1)


def _unweighted(a: Tensor, name: str, weight: Tensor | None, *, square: bool = True) -> Tensor:
    """The matrix whose unweighted (log) norm is the weighted one of ``a``."""
    require_weight(name, weight)
    if a.dim() < 2 or ((square or weight is not None) and a.size(-1) != a.size(-2)):
        raise ValueError(f"expected a square matrix [..., d, d], got shape {list(a.shape)}")
    if weight is None:
        return a
    d, weight = a.size(-1), weight.to(a)
    if weight.shape == (d,):
        w = positive(weight, what="weight")
        w = w.sqrt() if NORMS[name] == "l2" else w
        return w.unsqueeze(1) * a / w
    if NORMS[name] == "l2" and weight.shape == (d, d):
        lower, failed = torch.linalg.cholesky_ex(weight)
        if bool(failed) or not torch.allclose(weight, weight.mT):
            raise ValueError("a matrix weight must be symmetric positive definite")
        # xᵀPx = ‖Lᵀx‖², so A becomes Lᵀ A L⁻ᵀ.
        solved: Tensor = torch.linalg.solve_triangular(lower, (lower.mT @ a).mT, upper=False)
        return solved.mT
    raise ValueError(
        f"weight must have shape [{d}] (or [{d}, {d}] in l2) to match the matrix, got {list(weight.shape)}"
    )
