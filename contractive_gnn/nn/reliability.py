"""How far the similarity of its ends makes an edge one within a class: a logistic curve, fitted to class probabilities."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

_STEPS = 25
_RIDGE = 1e-6
"""Keeps the curve finite where the scores tell the two kinds of edge apart without an error."""


class Reliability(NamedTuple):
    """``σ(α + β s)``, the probability that an edge of score s joins two nodes of one class.

    Attributes:
        intercept: α.
        slope: β.
    """

    intercept: float
    slope: float

    @classmethod
    def fit(cls, score: Tensor, agreement: Tensor, weight: Tensor) -> Reliability:
        r"""The α and β of the least cross-entropy, by Newton's method.

        .. math::
            \min_{\alpha, \beta}\; -\sum_e w_e \big( t_e \log \sigma(\alpha + \beta s_e)
            + (1 - t_e) \log(1 - \sigma(\alpha + \beta s_e)) \big)

        Platt, *Probabilistic outputs for support vector machines* (1999), with probabilities for targets.

        Args:
            score: s, ``[E]``.
            agreement: t in [0, 1], ``[E]``: how probable it is that the ends of the edge are of one class.
            weight: w ≥ 0, ``[E]``.
        """
        rows = torch.stack([torch.ones_like(score), score], dim=1).double()
        agreement, weight = agreement.double(), weight.double()
        curve = rows.new_zeros(2)
        ridge = _RIDGE * torch.eye(2, dtype=rows.dtype, device=rows.device)
        for _ in range(_STEPS):
            p = torch.sigmoid(rows @ curve)
            slope = rows.t() @ (weight * (p - agreement)) + _RIDGE * curve
            bend = rows.t() @ ((weight * p * (1 - p)).unsqueeze(1) * rows) + ridge
            curve = curve - torch.linalg.solve(bend, slope)
        return cls(*curve.tolist())

    def __call__(self, score: Tensor) -> Tensor:
        """``σ(α + β s)``, in the shape of ``score``."""
        return torch.sigmoid(self.intercept + self.slope * score)
