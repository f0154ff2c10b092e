r"""Linear measurements ``y = Ax + noise`` with a proved norm, and the two steps of the data term ``½‖Ax − y‖²``."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from contractive_gnn.checks import check_real, check_whole


@dataclass(frozen=True)
class Solution:
    """A proximal step.

    Attributes:
        image: u, of the shape of an image.
        error: an upper bound of ``‖u − u*‖₂`` for each image, ``[n]``, in exact arithmetic; 0 for a closed form.
    """

    image: Tensor
    error: Tensor


class LinearPhysics(nn.Module, ABC):
    """A linear map A from images to measurements.

    A subclass defines :meth:`forward`, :meth:`adjoint` and :meth:`squared_norm`, and overrides :meth:`curvature` and
    :meth:`prox` where it knows more.

    Attributes:
        certified: whether the bounds and the adjoint are proved.
        reason: why not; empty where they are.

    Shapes:
        images ``[n, c, H, W]``; measurements with the same first axis.
    """

    certified: bool = True
    reason: str = ""

    @abstractmethod
    def forward(self, x: Tensor) -> Tensor:
        """``Ax``."""

    @abstractmethod
    def adjoint(self, y: Tensor) -> Tensor:
        """``Aᵀy``, with ``⟨Ax, y⟩ = ⟨x, Aᵀy⟩`` in the plain inner products of all entries."""

    @abstractmethod
    def squared_norm(self) -> float:
        """An upper bound of ``‖A‖²`` in ℓ2; ``inf`` where none is known."""

    def curvature(self) -> float:
        """A lower bound of the least eigenvalue of AᵀA; 0 where none is known."""
        return 0.0

    def gradient(self, x: Tensor, y: Tensor) -> Tensor:
        """``Aᵀ(Ax − y)``, the gradient of ``½‖Ax − y‖²``."""
        return self.adjoint(self(x) - y)

    def prox(self, v: Tensor, y: Tensor, step: float) -> Solution:
        """``argmin_u γ/2 ‖Au − y‖² + ½‖u − v‖²``: here by conjugate gradients, with a bound of the error.

        Args:
            v: ``[n, c, H, W]``.
            y: the measurements.
            step: γ > 0.
        """
        # (I + γAᵀA)(u − v) = γAᵀ(y − Av): the correction is smaller than u, and so is its rounding
        right = step * self.adjoint(y - self(v))
        correction = conjugate_gradient(lambda u: self.adjoint(self(u)), right, step=step)
        return Solution(v + correction.image, correction.error)


def conjugate_gradient(
    normal: Callable[[Tensor], Tensor],
    right: Tensor,
    *,
    step: float,
    tolerance: float | None = None,
    most: int = 500,
) -> Solution:
    r"""Solve ``(I + γM)u = b`` for a symmetric ``M ⪰ 0``, each image by itself.

    No eigenvalue of ``I + γM`` is below 1, so the error is at most the residual: ``‖u − u*‖ ≤ ‖b − (I + γM)u‖``, which
    is computed anew at the end, not taken from the recursion.

    Args:
        normal: ``x ↦ Mx``.
        right: b, ``[n, …]``.
        step: γ > 0.
        tolerance: of the residual relative to ``‖b‖``; None for 16 times the spacing of the numbers.
        most: the most steps.

    Returns:
        u and the bound of its error; where the tolerance is not met after ``most`` steps the bound says so.
    """
    check_real("step", step, above=0)
    check_whole("most", most, least=1)

    def shifted(u: Tensor) -> Tensor:
        return u + step * normal(u)

    def dot(a: Tensor, b: Tensor) -> Tensor:
        return (a * b).flatten(1).sum(1).view(-1, *[1] * (a.dim() - 1))

    small = 16 * torch.finfo(right.dtype).eps if tolerance is None else tolerance
    wanted = (small * dot(right, right).sqrt()).square()
    u, residual = torch.zeros_like(right), right
    direction, square = residual.clone(), dot(residual, residual)
    for _ in range(most):
        if bool((square <= wanted).all()):
            break
        image = shifted(direction)
        length = square / dot(direction, image).clamp(min=torch.finfo(right.dtype).tiny)
        u = u + length * direction
        residual = residual - length * image
        renewed = dot(residual, residual)
        direction = residual + renewed / square.clamp(min=torch.finfo(right.dtype).tiny) * direction
        square = renewed
    return Solution(u, (right - shifted(u)).flatten(1).norm(dim=1))


def perron_bound(physics: nn.Module, ones: Tensor, *, rounds: int = 60) -> float:
    r"""An upper bound of ``‖A‖²`` for a linear map whose matrix has no negative entry.

    ``M = AᵀA`` has none either, so for every ``p > 0`` its spectral radius is at most ``max_i (Mp)_i/p_i`` (Collatz
    1942, Wielandt 1950; it is Schur's test for M). Any p gives a bound, and the power iterates of M give a close one.
    Sums of terms of one sign err by at most their number times eps, relative to themselves: that is added.

    Args:
        physics: A, in float64, with ``adjoint``. That its entries are not negative is the caller's to know.
        ones: ``[1, c, H, W]`` of ones in float64.
        rounds: how many iterates.

    Raises:
        ValueError: where an image without negative entries has one with negative entries, or that is not finite.
    """
    p = ones
    best = math.inf
    for _ in range(rounds):
        y = physics(p)
        image = physics.adjoint(y)  # type: ignore[operator]
        if not bool((y >= 0).all() and (image >= 0).all() and torch.isfinite(image).all()):
            raise ValueError("the matrix has negative entries, or infinite ones: this bound is for those without")
        slack = 4.0 * (y.numel() + p.numel()) * torch.finfo(p.dtype).eps
        best = min(best, float((image / p).max()) * (1.0 + slack))
        # a pixel that no measurement sees would become 0
        p = (image / image.max().clamp(min=1e-300)).clamp(min=1e-6)
    return best


def adjoint_defect(physics: LinearPhysics, x: Tensor, y: Tensor) -> float:
    """``|⟨Ax, y⟩ − ⟨x, Aᵀy⟩|`` relative to ``‖Ax‖‖y‖ + ‖x‖‖Aᵀy‖``: of the size of rounding for an adjoint.

    Args:
        physics: A.
        x: an image.
        y: of the shape of a measurement of it.
    """
    image, back = physics(x), physics.adjoint(y)
    if image.shape != y.shape or back.shape != x.shape:
        raise ValueError(
            f"x has shape {list(x.shape)} and Ax {list(image.shape)}, y has {list(y.shape)} and Aᵀy {list(back.shape)}"
        )
    if image.is_complex():  # a complex number is two real ones
        image, y = torch.view_as_real(image), torch.view_as_real(y)
    left, right = (image * y).sum(), (x * back).sum()
    scale = image.norm() * y.norm() + x.norm() * back.norm()
    return float((left - right).abs() / scale.clamp(min=torch.finfo(x.dtype).tiny))
