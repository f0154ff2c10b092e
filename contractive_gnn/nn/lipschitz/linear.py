"""What linear layers with a constrained matrix share."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from contractive_gnn.nn.lipschitz.base import LipschitzModule
from contractive_gnn.nn.lipschitz.rounding import rounded
from contractive_gnn.nn.lipschitz.weights import applied, exact
from contractive_gnn.operators import Dense


class ConstrainedLinear(LipschitzModule, nn.Linear):
    """``x ↦ xWᵀ + b``, where a parametrisation makes W; its constant is measured on the W that is applied."""

    def forward(self, x: Tensor) -> Tensor:
        """Apply it."""
        return functional.linear(x, applied(self), self.bias)

    def lipschitz(self) -> float:
        """The certified norm of the matrix as it is applied."""
        return float(Dense(exact(self)).norm_bound())

    def rounded_lipschitz(self, dtype: torch.dtype) -> float:
        """Two roundings: of the weight and of the result."""
        weight = exact(self)
        magnitude = float(Dense(weight.abs()).norm_bound())
        return rounded(self.lipschitz(), magnitude, dtype, roundings=2, terms=max(weight.shape))
