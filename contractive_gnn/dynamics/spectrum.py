r"""Where the eigenvalues of ``−DX`` lie for a gradient field, and what follows for its Euler steps.

One proof for vectors, images and graphs. Let ``s ∈ {1, −1}`` and

.. math::
    X(x) = -s\,A^*\sigma(Ax + b) - \mu (x - x^0)

with ``A*`` the adjoint of A in the inner product of the norm, ``l² ≤ A*A ≤ L`` and the slopes of σ in
``[s_min, s_max]``. For two states x, y there is a self-adjoint S, with eigenvalues in ``[s_min, s_max]``, such that
``σ(Ax + b) − σ(Ay + b) = S A(x − y)``: the secants of an elementwise σ, the mean of ``Dσ`` along the segment for any σ
that is the gradient of a potential. Hence ``X(x) − X(y) = −M(x − y)`` with ``M = s A*SA + μ`` self-adjoint, and for
unit v

.. math::
    \langle v, A^*SA v\rangle \in [\min(s_{min} l^2, s_{min} L),\ s_{max} L].

So for ``s = 1`` the eigenvalues of M lie in ``[κ, ν + μ]``, with ``κ = μ + min(s_min l², s_min L)`` and
``ν = max(|s_min|, |s_max|) L``, and for ``s = −1`` in ``[μ − ν, μ − min(s_min l², s_min L)]``. An Euler step is
``I − hM``: it is ``max(1 − h least, h most − 1)``-Lipschitz for every h, and contracts by ``1 − h least`` for
``h ≤ 2/(least + most)`` (Celledoni et al., SISC 2023, Thm 2.3; Sherry et al. 2023, Prop. 3, for ``s = 1``).
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from contractive_gnn.activations import Activation


class Spectrum(NamedTuple):
    """The eigenvalues of ``−DX`` lie in ``[least, most]``; ``−DX`` is self-adjoint in the norm's inner product.

    Attributes:
        least: the contraction rate κ.
        most: the largest eigenvalue, or an upper bound of it.
    """

    least: Tensor | float
    most: Tensor

    def max_step(self) -> Tensor:
        """``2/(least + most)``; 0 where ``least`` is negative: no step contracts.

        Where both are 0 every step will do; a large one is returned.
        """
        step = 2.0 / (self.most + self.least).clamp(min=torch.finfo(self.most.dtype).eps)
        if isinstance(self.least, Tensor):  # chosen by its value without a branch, which no export can take
            return torch.where(self.least < 0, torch.zeros_like(step), step)
        return step if self.least >= 0 else torch.zeros_like(step)

    def lipschitz(self, step: Tensor | float) -> Tensor:
        """``max(1 − h least, h most − 1)``, the Lipschitz constant of a step, for every h > 0."""
        beyond = step * self.most - 1.0
        return torch.maximum(torch.as_tensor(1.0 - step * self.least, dtype=beyond.dtype, device=beyond.device), beyond)

    def longest_step(self, share: Tensor) -> Tensor:
        """The longest step with a constant of at most ``share ≥ 1``: ``1 − h least`` and ``h most − 1`` are affine.

        Where no eigenvalue bounds it every step will do; a large one is returned.
        """
        most = self.most.to(share)
        least = torch.as_tensor(self.least, dtype=share.dtype, device=share.device)
        ascent = (share - 1.0) / torch.where(least < 0, -least, torch.ones_like(least))
        ascent = torch.where(least < 0, ascent, torch.full_like(ascent, math.inf))
        epsilon = torch.finfo(share.dtype).eps
        return torch.minimum(ascent, (share + 1.0) / most.clamp(min=epsilon)).clamp(max=1.0 / epsilon)

    def field_lipschitz(self) -> Tensor:
        """``max(|least|, |most|)``, a Lipschitz constant of X."""
        least = torch.as_tensor(self.least, dtype=self.most.dtype, device=self.most.device)
        return torch.maximum(least.abs(), self.most.abs())


def smoothness(sigma: Activation, *squares: Tensor | float) -> Tensor | float:
    """``ν = max(|s_min|, |s_max|) L``, with L the product of ``squares``.

    Args:
        sigma: σ.
        squares: factors of an upper bound of ``‖A‖²``, multiplied from left to right.
    """
    return _product(max(abs(slope) for slope in sigma.slopes), squares)


def lowest(sigma: Activation, *squares: Tensor | float, least: Tensor | float = 0.0) -> Tensor | float:
    """``min(s_min l², s_min L)``, a lower bound of the eigenvalues of ``A*SA``; ``squares`` as for :func:`smoothness`.

    Args:
        sigma: σ.
        squares: factors of L.
        least: ``l²``.
    """
    slope = sigma.slopes[0]
    if slope < 0:
        return _product(slope, squares)
    return slope * least


def _product(first: float, factors: tuple[Tensor | float, ...]) -> Tensor | float:
    product: Tensor | float = first
    for factor in factors:
        product = product * factor
    return product
