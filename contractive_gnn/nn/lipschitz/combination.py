"""A layer beside the identity."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from contractive_gnn.checks import check_flag, check_real
from contractive_gnn.nn.lipschitz.base import LipschitzModule, certified, lipschitz, rounded_lipschitz
from contractive_gnn.nn.lipschitz.rounding import rounded
from contractive_gnn.norms import number


class ConvexCombination(LipschitzModule):
    r"""``(1 − t) x + t f(x)`` with ``0 < t < 1``: ``(1 − t) + t L``-Lipschitz where f is L-Lipschitz.

    A residual connection ``x + f(x)`` of a 1-Lipschitz f may double lengths; this one never lengthens them. For a
    1-Lipschitz f and ``t < 1`` it is t-averaged: applied again and again it converges where f has a fixed point.

    Args:
        module: f, which keeps shapes.
        weight: t, or where it starts.
        learned: learn t, as the sigmoid of a parameter.

    Raises:
        TypeError: for what is no module or no number.
        ValueError: for t outside of (0, 1); (called) where f changes the shape.

    Example:
        >>> ConvexCombination(nn.ReLU(), 0.5).lipschitz()
        1.0
    """

    def __init__(self, module: nn.Module, weight: float = 0.5, *, learned: bool = False) -> None:
        super().__init__()
        if not isinstance(module, nn.Module):
            raise TypeError(f"expected a module, got {type(module).__name__}")
        check_real("weight", weight, above=0, below=1)
        check_flag("learned", learned)
        self.module = module
        self.learned = learned
        self._start = float(weight)
        if learned:
            self.logit = nn.Parameter(torch.tensor(math.log(weight / (1.0 - weight))))

    @property
    def weight(self) -> Tensor | float:
        """The share t, with a gradient where it is learned."""
        return self.logit.sigmoid() if self.learned else self._start

    def forward(self, x: Tensor) -> Tensor:
        """Combine."""
        weight = self.weight
        kept = (1.0 - weight) * x  # first: f may work in place, as nn.ReLU(inplace=True) does
        shape = x.shape
        image = self.module(x)
        if image.shape != shape:
            raise ValueError(
                f"the module must keep the shape of its input, got {list(shape)} to {list(image.shape)}: a convex "
                "combination adds the two"
            )
        return kept + weight * image  # type: ignore[no-any-return]

    def lipschitz(self) -> float:
        """``(1 − t) + tL``."""
        return self._combined(lipschitz(self.module))

    def rounded_lipschitz(self, dtype: torch.dtype) -> float:
        """Four roundings after those of f: of t, of either product and of the sum."""
        constant = self._combined(rounded_lipschitz(self.module, dtype))
        return rounded(constant, constant, dtype, roundings=4)

    @property
    def certified(self) -> bool:  # type: ignore[override]  # that of f
        """Whether the constant of f is proved."""
        return certified(self.module)

    def _combined(self, constant: float) -> float:
        if self.learned:
            # the two weights are rounded to the parameter's precision, and may sum to a little more than 1
            share = self.logit.detach().sigmoid()
            t, rest = float(share), float(1.0 - share)
        else:
            t, rest = self._start, 1.0 - self._start
        total = rest + t * constant
        if not math.isfinite(total):  # t = 0 next to a constant that is not known, or t is NaN
            return math.inf
        return total if total == 1.0 and constant == 1.0 else total * (1.0 + 2.0**-51)

    def extra_repr(self) -> str:
        """Show the weight."""
        return f"weight={number(self.weight):.6g}, learned={self.learned}"
