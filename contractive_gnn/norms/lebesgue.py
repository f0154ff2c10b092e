"""ℓ1, ℓ2 and ℓ∞ by name, with weights on entries or rows."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor

#: the three families of norms
Family = Literal["l1", "l2", "linf"]

#: every name of a norm, and its family
NORMS: dict[str, Family] = {
    "l1": "l1",
    "vec-l1": "l1",
    "l2": "l2",
    "l2-degree": "l2",
    "linf": "linf",
    "vec-linf": "linf",
}


def family_of(name: str) -> Family:
    """Which of ℓ1, ℓ2 and ℓ∞ a norm's name stands for.

    Raises:
        ValueError: if the name is unknown.
    """
    if name not in NORMS:
        raise ValueError(f"unknown norm {name!r}; expected one of {', '.join(NORMS)}")
    return NORMS[name]


def lebesgue_norm(x: Tensor, name: str, weight: Tensor | None) -> Tensor:
    """See :func:`contractive_gnn.norms.vector_norm`."""
    kind, w = family_of(name), entry_weights(x, name, weight)
    if x.numel() == 0:
        return x.new_zeros(())
    if kind == "l2":
        euclidean: Tensor = torch.linalg.vector_norm(x if w is None else x * w.sqrt())
        return euclidean
    size = x.abs() if w is None else w * x.abs()
    return size.sum() if kind == "l1" else size.max()


def lebesgue_pairing(u: Tensor, v: Tensor, name: str, weight: Tensor | None) -> Tensor:
    """See :func:`contractive_gnn.norms.weak_pairing`."""
    if u.shape != v.shape:
        raise ValueError(f"u and v must have the same shape, got {list(u.shape)} and {list(v.shape)}")
    kind, w = family_of(name), entry_weights(v, name, weight)
    if v.numel() == 0:
        return v.new_zeros(())
    if kind == "l2":
        return (u * v if w is None else w * u * v).sum()
    if w is not None:
        u, v = w * u, w * v
    if kind == "l1":
        return v.abs().sum() * torch.where(v == 0, u.abs(), v.sign() * u).sum()
    size = v.abs()
    return torch.where(size == size.max(), u * v, -math.inf).max()


def lebesgue_dual(gradient: Tensor, name: str, weight: Tensor | None) -> Tensor:
    """A maximiser of ``⟨gradient, d⟩`` over a ball of the norm, of any length."""
    kind, w = NORMS[name], entry_weights(gradient, name, weight)
    if kind == "l2":
        return gradient if w is None else gradient / w
    if kind == "linf":
        return gradient.sign() if w is None else gradient.sign() / w
    gain = (gradient if w is None else gradient / w).flatten()
    index = int(gain.abs().argmax())
    unit = torch.zeros_like(gain)
    unit[index] = gain[index].sign()
    return unit.view_as(gradient)


def positive(weight: Tensor, *, what: str) -> Tensor:
    """The weights, if they are positive and finite; else raise ValueError."""
    if not bool((weight > 0).all()) or not bool(torch.isfinite(weight).all()):
        raise ValueError(f"{what} must be positive and finite, got values from {weight.min():g} to {weight.max():g}")
    return weight


def require_weight(name: str, weight: Tensor | None) -> None:
    """Raise ValueError where a name cannot do without weights."""
    if name == "l2-degree" and weight is None:
        raise ValueError("the norm 'l2-degree' weights every node by its degree: pass weight")


def entry_weights(x: Tensor, name: str, weight: Tensor | None) -> Tensor | None:
    """The weights in a shape that broadcasts to ``x``."""
    require_weight(name, weight)
    if weight is None:
        return None
    w = weight.to(x)
    if weight.shape != x.shape and weight.shape != x.shape[:1]:
        if x.dim() == 1 and weight.shape == (*x.shape, 1):  # the row of a signal alone is its entry
            return positive(w.squeeze(1), what="weight")
        # [n, 1] and the like: for the last axes of x, those before them are a batch
        pairs = zip(reversed(weight.shape), reversed(x.shape), strict=False)
        if not (1 < weight.dim() <= x.dim() and all(a in (1, b) for a, b in pairs)):
            raise ValueError(
                f"weight must have the shape of x, {list(x.shape)}, or one entry for each row, got {list(weight.shape)}"
            )
        return positive(w, what="weight")
    return positive(w if w.shape == x.shape else w.view(-1, *[1] * (x.dim() - 1)), what="weight")


def flat_weights(x: Tensor, name: str, weight: Tensor | None) -> Tensor | None:
    """One weight for each entry of the flattened ``x``."""
    w = entry_weights(x, name, weight)
    return None if w is None else w.expand_as(x).reshape(-1)
