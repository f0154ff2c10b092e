r"""Energies that are polynomials."""

from __future__ import annotations

import itertools
import math

import torch
from torch import Tensor, nn

from contractive_gnn.checks import check_real, check_whole
from contractive_gnn.dynamics.energy import Energy, check_length
from contractive_gnn.seeding import drawing


class PolynomialEnergy(Energy):
    r"""A polynomial of all coordinates, of a total degree.

    .. math::
        E(x) = \sum_{1 \le |\alpha| \le m} c_\alpha \prod_i \Bigl(\frac{x_i}{s}\Bigr)^{\alpha_i}

    It is linear in what is learned, so that a least-squares method finds it in a few steps, and it approximates a
    smooth energy of few coordinates faster than any network of as many weights. There are ``C(d + m, d) − 1``
    coefficients: 16 for one coordinate and m = 16, 65 for two and m = 10. Outside of the data it grows like ``|x|ᵐ``,
    and nothing of its Hessian is bounded.

    Args:
        dim: d.
        degree: m ≥ 1.
        scale: s > 0, the size of the states: powers of much larger ones overflow, those of much smaller ones vanish.

    Shapes:
        ``[..., d]`` to ``[...]``.

    Raises:
        TypeError: for sizes that are no whole numbers.
        ValueError: for numbers out of their range; (called) for states of another length.

    Example:
        >>> import torch
        >>> energy = PolynomialEnergy(2, 3)
        >>> energy.coefficients.shape
        torch.Size([9])
        >>> energy.gradient(torch.randn(5, 2)).shape
        torch.Size([5, 2])
    """

    dim: int
    exponents: Tensor

    def __init__(self, dim: int, degree: int, *, scale: float = 1.0) -> None:
        super().__init__()
        check_whole("dim", dim, least=1)
        check_whole("degree", degree, least=1)
        check_real("scale", scale, above=0)
        self.dim, self.degree, self.scale = dim, degree, float(scale)
        every = itertools.product(range(degree + 1), repeat=dim)
        exponents = torch.tensor([powers for powers in every if 1 <= sum(powers) <= degree])
        self.register_buffer("exponents", exponents, persistent=False)
        self.coefficients = nn.Parameter(torch.zeros(len(exponents)))
        self.reset_parameters()

    def forward(self, x: Tensor) -> Tensor:
        """The value."""
        return self._monomials(self._powers(x), self.exponents) @ self.coefficients

    def gradient(self, x: Tensor) -> Tensor:
        """``∂_i E = Σ c_α α_i/s (x/s)^(α − e_i)``."""
        powers, parts = self._powers(x), []
        for i in range(self.dim):
            lower = self.exponents.clone()
            lower[:, i] = (lower[:, i] - 1).clamp(min=0)
            factors = self.coefficients * self.exponents[:, i].to(x.dtype) / self.scale
            parts.append(self._monomials(powers, lower) @ factors)
        return torch.stack(parts, dim=-1)

    def _powers(self, x: Tensor) -> Tensor:
        """``(x_i/s)^k``, ``[..., m + 1, d]``."""
        check_length(x, self.dim)
        scaled = x / self.scale
        powers = [torch.ones_like(scaled)]
        for _ in range(self.degree):
            powers.append(powers[-1] * scaled)
        return torch.stack(powers, dim=-2)

    def _monomials(self, powers: Tensor, exponents: Tensor) -> Tensor:
        """The products that the exponents say, ``[..., terms]``."""
        product = powers[..., exponents[:, 0], 0]
        for i in range(1, self.dim):
            product = product * powers[..., exponents[:, i], i]
        return product

    def reset_parameters(self) -> None:
        """Draw the coefficients anew, smaller for higher powers."""
        with drawing(), torch.no_grad():
            total = self.exponents.sum(dim=1)
            spread = torch.tensor([0.5 / math.factorial(int(power)) for power in total])
            self.coefficients.copy_(torch.randn(len(total)) * spread)

    def extra_repr(self) -> str:
        """Show the sizes."""
        return f"{self.dim}, {self.degree}, scale={self.scale:g}"
