"""Samples of the Fourier transform: magnetic resonance imaging with one coil, of a real image."""

from __future__ import annotations

import torch
from torch import Tensor

from contractive_gnn.inverse.physics import LinearPhysics, Solution
from contractive_gnn.operators.base import require_finite


class Fourier(LinearPhysics):
    r"""``Ax = m · Fx`` with the unitary discrete Fourier transform F of a real image.

    F is an isometry, so ``‖A‖ ≤ max|m|``. For real images ``AᵀA`` is the circular convolution with the symbol
    ``s(ω) = (m(ω)² + m(−ω)²)/2``: the real part of what m² makes of the spectrum. Norm, curvature and proximal step
    follow from s exactly.

    Args:
        mask: m, ``[H, W]``, bool or floating: which frequencies are measured. The frequency 0 stands at ``[0, 0]``, as
            in ``torch.fft.fft2``.

    Shapes:
        images ``[n, c, H, W]``, real; measurements ``[n, c, H, W]``, complex.

    Raises:
        ValueError: for a mask that is no real matrix, or entries that are not finite; (applied) for another size.

    Example:
        >>> physics = Fourier(torch.ones(4, 4))
        >>> physics.squared_norm(), physics.curvature()
        (1.0, 1.0)
    """

    mask: Tensor

    def __init__(self, mask: Tensor) -> None:
        super().__init__()
        if not isinstance(mask, Tensor) or mask.is_complex() or mask.dim() != 2 or mask.numel() == 0:
            raise ValueError(f"mask must be a real matrix [H, W], got {mask!r}")
        mask = mask if mask.is_floating_point() else mask.to(torch.get_default_dtype())
        require_finite(mask)
        self.register_buffer("mask", mask)

    def forward(self, x: Tensor) -> Tensor:
        """``m · Fx``, complex."""
        self._check(x)
        spectrum: Tensor = torch.fft.fft2(x, norm="ortho")
        return self.mask * spectrum

    def adjoint(self, y: Tensor) -> Tensor:
        """The real part of ``F*(m · y)``."""
        self._check(y)
        image: Tensor = torch.fft.ifft2(self.mask * y, norm="ortho")
        return image.real

    def symbol(self) -> Tensor:
        """s, ``[H, W]`` in float64."""
        square = self.mask.double().square()
        opposite = square.flip(0, 1).roll((1, 1), (0, 1))
        return 0.5 * (square + opposite)

    def squared_norm(self) -> float:
        """``max s``."""
        return float(self.symbol().max())

    def curvature(self) -> float:
        """``min s``."""
        return float(self.symbol().min())

    def prox(self, v: Tensor, y: Tensor, step: float) -> Solution:
        """The real part of ``F*((Fv + γ m · y)/(1 + γs))``: s is even, so it may be taken at the end.

        Nothing is multiplied by γ that is not divided by ``1 + γs`` before it is transformed.
        """
        self._check(v)
        self._check(y)
        spectrum = torch.fft.fft2(v, norm="ortho") + step * (self.mask * y)
        image = torch.fft.ifft2(spectrum / (1.0 + step * self.symbol().to(v.dtype)), norm="ortho").real
        return Solution(image, image.new_zeros(len(image)))

    def _check(self, x: Tensor) -> None:
        if x.dim() != 4 or x.shape[-2:] != self.mask.shape:
            raise ValueError(f"expected a tensor [n, c, {', '.join(map(str, self.mask.shape))}], got {list(x.shape)}")
