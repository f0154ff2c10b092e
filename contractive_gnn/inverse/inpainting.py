"""Pixels that are seen, or not."""

from __future__ import annotations

import torch
from torch import Tensor

from contractive_gnn.dynamics.layer import check_broadcast
from contractive_gnn.inverse.physics import LinearPhysics, Solution
from contractive_gnn.operators.base import require_finite


class Inpainting(LinearPhysics):
    """``Ax = m · x``, pixel by pixel: ``‖A‖ = max|m|``, and the proximal step is a division.

    Args:
        mask: m, bool or floating, of a shape that broadcasts to an image ``[c, H, W]``; True or 1 for a pixel that is
            seen. Weights are allowed.

    Raises:
        ValueError: for an empty mask or entries that are not finite; (applied) for images of another shape.

    Example:
        >>> Inpainting(torch.tensor([[True, False]])).squared_norm()
        1.0
    """

    mask: Tensor

    def __init__(self, mask: Tensor) -> None:
        super().__init__()
        if not isinstance(mask, Tensor) or mask.is_complex() or mask.numel() == 0:
            raise ValueError(f"mask must be a real tensor with entries, got {mask!r}")
        mask = mask if mask.is_floating_point() else mask.to(torch.get_default_dtype())
        require_finite(mask)
        self.register_buffer("mask", mask)

    def forward(self, x: Tensor) -> Tensor:
        """``m · x``."""
        self._check(x)
        return self.mask * x

    def adjoint(self, y: Tensor) -> Tensor:
        """``m · y``."""
        self._check(y)
        return self.mask * y

    def squared_norm(self) -> float:
        """``max m²``."""
        return float(self.mask.double().square().max())

    def curvature(self) -> float:
        """``min m²``."""
        return float(self.mask.double().square().min())

    def prox(self, v: Tensor, y: Tensor, step: float) -> Solution:
        """``(v + γmy)/(1 + γm²)``."""
        image = (v + step * self.mask * y) / (1.0 + step * self.mask.square())
        return Solution(image, image.new_zeros(len(image)))

    def _check(self, x: Tensor) -> None:
        check_broadcast("mask", self.mask, x, of="the images")
