r"""A vector field split into a gradient and a part that is tangent to the spheres around the origin.

Let F be smooth on a ball around 0, or on any set that is star-shaped about 0. There is exactly one U with U(0) = 0 and

.. math::
    F = \nabla U + X_S, \qquad x^T X_S(x) = 0

(Presnov, *Non-local decomposition of vector fields*, Chaos, Solitons and Fractals 14, 2002), and both halves are
integrals along the ray to x:

.. math::
    U(x) = \int_0^1 x^T F(sx)\,ds, \qquad X_S(x) = S(x)\,x, \qquad
    S(x) = \int_0^1 s\,\bigl(DF(sx) - DF(sx)^T\bigr)\,ds.

*Proof.* With r = sx along the ray, ``U(τx) = ∫₀^τ xᵀF(sx) ds``, so ``xᵀ∇U(x) = xᵀF(x)``. If ``xᵀ∇V = 0`` everywhere, V
is constant along rays, hence constant: U is unique. The one-form ω of X_S has ``ι_E ω = 0`` with E(x) = x, so
``L_E ω = ι_E dω``, and ``ω = ∫ d/ds(φ_s^*ω) ds = ι_E ∫ s dω(sx) ds`` with φ_s(x) = sx: that is S(x)x. As DF and DX_S
differ by a symmetric matrix, S may be taken of F. ∎

It is not Helmholtz' decomposition: X_S is not free of divergence, and ∇U is not the nearest gradient.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from contractive_gnn.checks import check_whole


@dataclass(frozen=True)
class PresnovHalves:
    """The two halves of F at given points.

    Attributes:
        potential: ``U(x)``, ``[...]``.
        gradient: ``∇U(x)``, ``[..., d]``.
        tangent: ``X_S(x) = F(x) − ∇U(x)``, ``[..., d]``, orthogonal to x.
        skew: ``S(x)``, ``[..., d, d]``, with ``Sᵀ = −S`` and ``S(x)x = X_S(x)``.
        residual: the largest ``‖S(x)x − X_S(x)‖``: the error of the quadrature, 0 for a polynomial of low degree.
    """

    potential: Tensor
    gradient: Tensor
    tangent: Tensor
    skew: Tensor
    residual: float


def presnov_halves(field: Callable[[Tensor], Tensor], x: Tensor, *, nodes: int = 16) -> PresnovHalves:
    """Split a field at the points x, by Gauss and Legendre's quadrature along the rays from 0 to them.

    The result carries no graph.

    Args:
        field: F, ``[..., d]`` to ``[..., d]``, each point by itself, differentiable by autograd, and smooth on the
            segments from 0 to the points.
        x: the points, ``[..., d]``, floating point.
        nodes: of the quadrature; n are exact for a polynomial field of degree up to 2n − 1.

    Raises:
        TypeError: for points that are no floating point tensor.
        ValueError: for points without an axis, a number of nodes below 1, and a field of another shape than x.

    Example:
        >>> import torch
        >>> def turn_and_pull(x):
        ...     return torch.stack([-x[..., 0] - x[..., 1], x[..., 0] - x[..., 1]], dim=-1)
        >>> halves = presnov_halves(turn_and_pull, torch.tensor([1.0, 2.0], dtype=torch.float64))
        >>> [round(value, 6) for value in halves.gradient.tolist()]
        [-1.0, -2.0]
        >>> [round(value, 6) for value in halves.tangent.tolist()]
        [-2.0, 1.0]
    """
    if not isinstance(x, Tensor) or not x.is_floating_point():
        raise TypeError(f"the points must be a floating point tensor, got {getattr(x, 'dtype', type(x).__name__)}")
    if x.dim() == 0:
        raise ValueError("the points must have shape [..., d], got a tensor without axes")
    check_whole("nodes", nodes, least=1)
    place, weight = np.polynomial.legendre.leggauss(nodes)
    points = x.detach().requires_grad_()
    potential = torch.zeros(x.shape[:-1], dtype=x.dtype, device=x.device)
    skew = x.new_zeros(*x.shape, x.size(-1))
    with torch.enable_grad():
        for s, w in zip((place + 1) / 2, weight / 2, strict=True):
            on_ray = float(s) * points
            value = _valued(field, on_ray)
            potential = potential + float(w) * (points * value).sum(dim=-1)
            jacobian = _jacobian(value, on_ray)
            skew = skew + float(w) * float(s) * (jacobian - jacobian.mT)
        gradient = _gradient(potential.sum(), points)
        value = _valued(field, points)
    gradient, tangent, skew = gradient.detach(), (value - gradient).detach(), skew.detach()
    turned = (skew @ x.detach().unsqueeze(-1)).squeeze(-1)
    residual = float((turned - tangent).norm(dim=-1).max()) if x.numel() else 0.0
    return PresnovHalves(potential.detach(), gradient, tangent, skew, residual)


def _valued(field: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    value = field(x)
    if value.shape != x.shape:
        raise ValueError(f"a field has the shape of its points, {list(x.shape)}, and this one {list(value.shape)}")
    return value


def _jacobian(value: Tensor, x: Tensor) -> Tensor:
    """``DF`` at each point, ``[..., d, d]``; its rows are the gradients of the entries of F."""
    return torch.stack([_gradient(entry.sum(), x) for entry in value.unbind(dim=-1)], dim=-2)


def _gradient(value: Tensor, x: Tensor) -> Tensor:
    if not value.requires_grad:
        return torch.zeros_like(x)
    (gradient,) = torch.autograd.grad(value, x, retain_graph=True, allow_unused=True)
    return torch.zeros_like(x) if gradient is None else gradient
