"""The projection onto a budget of its own for every row."""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor

_HALVINGS: Final = 40


def project_rows(values: Tensor, budget: int) -> Tensor:
    r"""The matrix P with ``0 ≤ P_ij ≤ 1`` and ``Σ_j P_ij ≤ b`` in every row i that is nearest to ``values`` in ‖·‖₂.

    Row i is clip(v_i − μ_i, 0, 1) with the least μ_i ≥ 0 for which its sum is within the budget. μ_i is found by
    bisection from above, so that no row exceeds the budget.

    Args:
        values: float ``[k, c]``, finite.
        budget: b ≥ 0.
    """
    low = values.new_zeros(len(values), 1)
    high = values.amax(dim=1, keepdim=True).clamp(min=0) if values.numel() else low
    within = values.clamp(0, 1).sum(dim=1, keepdim=True) <= budget
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        fits = (values - middle).clamp(0, 1).sum(dim=1, keepdim=True) <= budget
        low, high = torch.where(fits, low, middle), torch.where(fits, middle, high)
    return (values - torch.where(within, 0.0, high)).clamp(0, 1)


def steepest(slope: Tensor, at: Tensor, count: int) -> Tensor:
    """The slope ``[k, c]`` without what points out of [0, 1], each row with its ``count`` largest entries 1 on average.

    Args:
        slope: a gradient; entries that are not finite count as 0.
        at: where, ``[k, c]``.
        count: at least 1.
    """
    slope = slope.nan_to_num(0.0, 0.0, 0.0)
    slope = slope.masked_fill((at <= 0) & (slope < 0) | (at >= 1) & (slope > 0), 0.0)
    size = slope.abs().topk(min(count, slope.shape[1]), dim=1).values.mean(dim=1, keepdim=True)
    return slope / size.clamp(min=torch.finfo(slope.dtype).tiny)
