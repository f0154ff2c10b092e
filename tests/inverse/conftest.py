"""Denoisers of a known constant for the tests of this folder."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from contractive_gnn.operators import Stencil


class Smoothed(nn.Module):
    """``x − Gᵀ clip_σ(Gx)/8`` with the differences G of a torus, ``‖G‖² ≤ 8``: a firmly non-expansive denoiser."""

    certified = True

    def __init__(self, size: tuple[int, int], alpha: float = 0.5) -> None:
        super().__init__()
        self.differences = Stencil.gradient(size, dtype=torch.float64)
        self.alpha = alpha

    def averagedness(self) -> float:
        return self.alpha

    def forward(self, x: Tensor, sigma: float) -> Tensor:
        differences = self.differences.to(x.dtype)
        return x - (2 * self.alpha) * differences.adjoint(differences(x).clamp(-sigma, sigma)) / 8


class Linear(nn.Module):
    """``x ↦ Mx + c`` on all entries of an image."""

    def __init__(self, matrix: Tensor, shift: Tensor | float = 0.0, *, alpha: float, certified: bool = True) -> None:
        super().__init__()
        self.matrix, self.shift, self.alpha, self.certified = matrix, shift, alpha, certified

    def averagedness(self) -> float:
        return self.alpha

    def forward(self, x: Tensor, sigma: float | None) -> Tensor:
        return (x.flatten(1) @ self.matrix.T).reshape(x.shape) + self.shift


class Silent(nn.Module):
    """A denoiser that declares nothing, and stretches by 3 around 1/2."""

    def forward(self, x: Tensor, sigma: float) -> Tensor:
        return 0.5 + 3.0 * (x - 0.5)


@pytest.fixture
def smoothed() -> type[Smoothed]:
    return Smoothed


@pytest.fixture
def linear() -> type[Linear]:
    return Linear


@pytest.fixture
def silent() -> type[Silent]:
    return Silent
