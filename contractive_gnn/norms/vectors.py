"""Norms and weak pairings of states."""

from __future__ import annotations

from torch import Tensor

from contractive_gnn.norms.given import as_norm
from contractive_gnn.norms.norm import Norm


def vector_norm(x: Tensor, norm: str | Norm, *, weight: Tensor | None = None) -> Tensor:
    """``‖x‖`` over all entries of ``x``, a scalar tensor.

    Args:
        x: of any shape.
        norm: a name of the package's table, or an object.
        weight: w > 0, of the shape of ``x`` or ``[x.size(0)]``: one weight for each row; or of two axes or more that
            broadcast to ``x``, ``[n, 1]`` for states ``[..., n, c]``.

    Raises:
        ValueError: for an unknown name, or weights that are missing, not positive or of another shape.
    """
    return as_norm(norm, weight)(x)


def weak_pairing(u: Tensor, v: Tensor, norm: str | Norm, *, weight: Tensor | None = None) -> Tensor:
    r"""``⟦u, v⟧ = ‖v‖ · lim_{h→0+} (‖v + hu‖ − ‖v‖)/h``, a scalar tensor.

    ℓ2: the inner product; ℓ1: ``‖v‖ (Σ w_i sign(v_i) u_i + Σ_{v_i = 0} w_i |u_i|)``; ℓ∞: the largest ``w_i² u_i v_i``
    where ``w_i |v_i| = ‖v‖`` (Bullo, *Contraction Theory*, chapter 2, in its maximal form). A field X has the one-sided
    Lipschitz constant ``sup ⟦X(x) − X(y), x − y⟧ / ‖x − y‖²``.

    Args:
        u: of any shape.
        v: of the same shape.
        norm: a name of the package's table, or an object.
        weight: as in :func:`vector_norm`.

    Raises:
        ValueError: as :func:`vector_norm`, and if the shapes differ.
    """
    return as_norm(norm, weight).pairing(u, v)
