"""How far the likeness of its ends makes an edge one within a class: a logistic curve fitted to class probabilities."""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numpy as np
import torch
from torch import Tensor

_RIDGE: Final = 1.0
"""As much as one edge's weight, on both coefficients: they stay finite where the scores leave nothing in doubt."""


class Calibration(NamedTuple):
    """``σ(α + β s)``, the probability that an edge of score s joins two nodes of one class.

    Attributes:
        intercept: α.
        slope: β.
    """

    intercept: float
    slope: float

    @classmethod
    def fit(cls, score: Tensor, agreement: Tensor, weight: Tensor) -> Calibration:
        r"""The α and β of the least cross-entropy to probabilities.

        .. math::
            \min_{\alpha, \beta}\; \tfrac12 (\alpha^2 + \beta^2) - \sum_e w_e \big( t_e \log \sigma(\alpha + \beta s_e)
            + (1 - t_e) \log(1 - \sigma(\alpha + \beta s_e)) \big)

        Platt, *Probabilistic outputs for support vector machines* (1999), with probabilities in the place of labels.

        Args:
            score: s, ``[E]``.
            agreement: t in [0, 1], ``[E]``: how probable it is that the ends of the edge are of one class.
            weight: w ≥ 0, ``[E]``.
        """
        # half a second of import time that only a fit needs
        from scipy.optimize import minimize
        from scipy.special import expit

        s, t, w = (tensor.detach().cpu().double().numpy() for tensor in (score, agreement, weight))

        def loss(curve: Any) -> tuple[float, Any]:
            logit = curve[0] + curve[1] * s
            gap = w * (expit(logit) - t)
            value = w @ (np.logaddexp(0.0, logit) - t * logit) + 0.5 * _RIDGE * curve @ curve
            return value / size, (np.array([gap.sum(), gap @ s]) + _RIDGE * curve) / size

        size = _RIDGE + w.sum()
        found = minimize(loss, np.zeros(2), jac=True, method="BFGS", options={"gtol": 1e-9})
        return cls(*found.x.tolist())

    def __call__(self, score: Tensor) -> Tensor:
        """``σ(α + β s)``, in the shape of ``score``."""
        return torch.sigmoid(self.intercept + self.slope * score)
