"""The projection onto what a budget allows."""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor

_FEW: Final = 4096


def project_onto_budget(values: Tensor, budget: float) -> Tensor:
    """The point of {p : 0 ≤ p ≤ 1, Σ p ≤ budget} nearest to ``values`` in ‖·‖₂.

    It is clip(values − μ, 0, 1) with the least μ ≥ 0 for which the sum is within the budget. The sum is piecewise
    linear in μ, with breakpoints at values and values − 1: μ is computed exactly, between the two that enclose it.

    Args:
        values: float ``[k]``, finite.
        budget: at least 0.

    Raises:
        ValueError: a negative budget.
    """
    if budget < 0:
        raise ValueError(f"budget must be at least 0, given {budget}")
    clipped = values.clamp(0, 1)
    if float(clipped.sum(dtype=torch.float64)) <= budget:
        return clipped
    # entries at or below a lower bound of μ end at 0: drop them while halving the interval, and sort what is left
    positive = values[values > 0].double()
    low, high = 0.0, float(positive.max())
    while positive.numel() > _FEW and high - low > 1e-12 * high:
        middle = (low + high) / 2
        if float((positive - middle).clamp(0, 1).sum()) >= budget:
            low, positive = middle, positive[positive > middle]
        else:
            high = middle
    breakpoints, order = torch.cat([positive - 1, positive]).sort()
    # between breakpoints the sum falls at the rate of the entries strictly between 0 and 1
    slopes = torch.cat([positive.new_full(positive.shape, -1.0), positive.new_ones(positive.shape)])[order].cumsum(0)
    falls = torch.zeros_like(breakpoints)
    falls[1:] = (slopes[:-1] * breakpoints.diff()).cumsum(0)
    sums = positive.numel() + falls
    # the last breakpoint whose sum is still at least the budget; the largest one has the sum 0
    at = int((sums >= budget).sum()) - 1
    slope = float(slopes[at])
    shift = float(breakpoints[at]) + ((float(sums[at]) - budget) / -slope if slope < 0 else 0.0)
    return (values.double() - shift).clamp(0, 1).to(values.dtype)
