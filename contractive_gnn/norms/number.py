"""A constant as a number."""

from __future__ import annotations

from torch import Tensor


def number(value: Tensor | float) -> float:
    """A constant that may be a scalar tensor, as a number without a gradient."""
    return float(value.detach()) if isinstance(value, Tensor) else float(value)
