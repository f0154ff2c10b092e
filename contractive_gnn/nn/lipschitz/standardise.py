"""Raw pixel values to standardised ones."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from contractive_gnn.checks import check_real
from contractive_gnn.nn.lipschitz.base import LipschitzModule
from contractive_gnn.nn.lipschitz.channels import check_channels
from contractive_gnn.nn.lipschitz.rounding import rounded


class Standardise(LipschitzModule):
    r"""``(x − mean)/std``, channel by channel, with fixed numbers: ``max 1/std``-Lipschitz.

    It belongs into the model: an attack's budget and a certificate's radius are then in raw pixel units.

    Args:
        mean: one number for each channel.
        std: one positive number for each channel.

    Shapes:
        ``[n, c, …]`` to the same.

    Raises:
        TypeError: for what is no number.
        ValueError: for lists of different lengths, numbers that are not finite, a std that is not positive in single
            precision; (called) for another number of channels.

    Example:
        >>> Standardise(mean=[0.5], std=[0.25]).lipschitz()
        4.0
    """

    mean: Tensor
    std: Tensor

    def __init__(self, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        if len(mean) != len(std) or len(mean) == 0:
            raise ValueError(f"expected a mean and a std for each channel, got {len(mean)} means and {len(std)} stds")
        for index, (centre, spread) in enumerate(zip(mean, std, strict=True)):
            check_real(f"mean[{index}]", centre)
            check_real(f"std[{index}]", spread, least=torch.finfo(torch.float32).tiny)
        self.register_buffer("mean", torch.tensor([float(value) for value in mean], dtype=torch.float32))
        self.register_buffer("std", torch.tensor([float(value) for value in std], dtype=torch.float32))

    def forward(self, x: Tensor) -> Tensor:
        """Standardise."""
        check_channels(x, self.mean.numel())
        shape = (-1, *[1] * (x.dim() - 2))
        return (x - self.mean.to(x.dtype).view(shape)) / self.std.to(x.dtype).view(shape)

    def lipschitz(self) -> float:
        """``max 1/|std|``, of the numbers as they are kept; ``inf`` where one of them is 0 or NaN."""
        least = float(self.std.double().abs().min())
        if not least > 0.0:  # loaded, or rounded to zero; NaN too
            return math.inf
        quotient = 1.0 / least
        return quotient if quotient * least == 1.0 else quotient * (1.0 + 2.0**-52)

    def rounded_lipschitz(self, dtype: torch.dtype) -> float:
        """Three roundings: of std, of the quotient and of its gradient."""
        return rounded(self.lipschitz(), self.lipschitz(), dtype, roundings=3)

    def extra_repr(self) -> str:
        """Show the numbers."""
        return f"mean={[round(v, 4) for v in self.mean.tolist()]}, std={[round(v, 4) for v in self.std.tolist()]}"
